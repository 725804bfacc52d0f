//! Who this process is: a chain of certificates and the key to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::Leaf;
use super::pem::{self, Unusable};
use super::provider::provider;
use crate::model::identity::SpiffeId;

/// A certificate with its chain and its private key, which were checked to belong together.
///
/// Immutable and cheap to clone. `Debug` shows who it is and until when, never the key.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    certified: Arc<CertifiedKey>,
    id: Option<SpiffeId>,
    leaf: Leaf,
}

impl Identity {
    /// Reads a chain (leaf first) and its key from PEM.
    ///
    /// Pass the key in a buffer that is zeroized; nothing of it is kept but the provider's own form.
    ///
    /// # Errors
    /// If there is no certificate or no key, if either cannot be parsed, or if the key is not that
    /// of the first certificate, as after a torn write of two files.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Unusable> {
        let chain = pem::certificates("the certificate chain", chain)?;
        Self::new(chain, pem::private_key(key)?)
    }

    /// As [`from_pem`](Self::from_pem), for a chain in DER, leaf first, and a key in PKCS#8 DER.
    ///
    /// # Errors
    /// As there.
    pub fn from_der(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self, Unusable> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(key.into());
        Self::new(chain, key)
    }

    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        mut key: PrivateKeyDer<'static>,
    ) -> Result<Self, Unusable> {
        const CHAIN: &str = "the certificate chain";
        let first = chain
            .first()
            .ok_or_else(|| Unusable::new(CHAIN, "it is empty"))?;
        let leaf = Leaf::read(first).map_err(|error| Unusable::new(CHAIN, error.to_string()))?;
        let signer = provider().key_provider.load_private_key(key.clone_key());
        zeroize::Zeroize::zeroize(&mut key);
        let signer = signer.map_err(|_| {
            let why = "it is of no kind that can sign here (RSA, ECDSA on P-256, P-384 or P-521, Ed25519)";
            Unusable::new("the private key", why)
        })?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|_| {
            let why = "it does not belong to the first certificate of the chain; \
                       if both are files, one was perhaps written before the other";
            Unusable::new("the private key", why)
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                certified: Arc::new(certified),
                id: leaf.svid().ok(),
                leaf,
            }),
        })
    }

    /// The SPIFFE ID, if the leaf is an X509-SVID by all rules.
    #[must_use]
    pub fn id(&self) -> Option<&SpiffeId> {
        self.shared.id.as_ref()
    }

    /// When it expires, as time since 1970.
    #[must_use]
    pub fn not_after(&self) -> Duration {
        self.shared.leaf.not_after
    }

    /// From when on it is valid, as time since 1970.
    #[must_use]
    pub fn not_before(&self) -> Duration {
        self.shared.leaf.not_before
    }

    /// The serial number of the leaf, in hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.shared.leaf.serial
    }

    /// When the next one should be fetched, for one that was issued at `now` (both since 1970): at half
    /// of what it has left then, earlier or later by up to a twentieth of that as `draw` says.
    ///
    /// `draw` is a number between 0 and 1. Renewals are spread so that a thousand processes which were
    /// started together do not all ask at once. They count from `now` and not from the begin of the
    /// certificate, which authorities put back for clocks that are behind.
    #[must_use]
    pub fn renewal(&self, now: Duration, draw: f64) -> Duration {
        let half = self.not_after().saturating_sub(now) / 2;
        let factor = 0.95 + 0.1 * draw.clamp(0.0, 1.0);
        now.saturating_add(half.mul_f64(factor))
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.shared.certified
    }

    /// The certificates, leaf first, in DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.shared.certified.cert.iter().map(AsRef::as_ref)
    }
}

/// Equal if the certificates are: a key belongs to its leaf.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.shared.certified.cert == other.shared.certified.cert
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id().map(SpiffeId::as_str))
            .field("serial", &self.serial())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
