//! A small authority that signs the identities of one trust domain.
//!
//! It is for people who have no other: a mesh needs somebody whose word counts, and "set up a public key
//! infrastructure first" is where mutual TLS usually ends. It does one thing, which is to sign
//! short-lived X509-SVIDs ([`sign`](Authority::sign)); who may have one is for its caller to decide, see
//! [`control::ca`](crate::control).
//!
//! # What it takes from a request
//!
//! The public key, and nothing else. A [`CertificateRequest`] may wish for names, for `CA:TRUE`, for a
//! usage or a subject; whoever copies a wish into a certificate has to be right about each of them for
//! ever. The name is the one that the caller proved, and everything else is the same in all
//! certificates.
//!
//! # Its roots
//!
//! All of its state is one file ([`load`](Authority::load)) with the certificate and the key of the
//! root that signs, and, while a root is being replaced, another root that is trusted already or still
//! ([`begin`](Authority::begin), [`switch`](Authority::switch), [`finish`](Authority::finish)). One file,
//! because two could be of different steps after a crash: a step writes another file and renames it
//! over this one, so there is the old state or the new one. Whoever else may read the file is everybody of
//! the trust domain, so a file with a mode that lets them is refused.
//!
//! Keys of roots are ECDSA on P-256. An intermediate below an offline root was left out: who has such a
//! root has an authority already, and gives its certificates by files.

mod file;
mod request;
mod roots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::PrivateKeyDer;
use thiserror::Error;

use super::identity::Identity;
use super::pem::Unusable;
use super::provider::fill;
use super::trust::Bundle;
use crate::model::identity::{SpiffeId, TrustDomain};

pub use request::CertificateRequest;
use roots::{Root, Roots};

/// How far the clocks of those who verify may be behind.
const BEHIND: Duration = Duration::from_secs(60);

/// An authority for one trust domain.
///
/// Immutable and cheap to clone; steps of a replacement yield another one. `Debug` shows no key.
#[derive(Clone)]
pub struct Authority {
    shared: Arc<Shared>,
}

struct Shared {
    roots: Roots,
    issuer: Issuer<'static, KeyPair>,
    bundle: Bundle,
}

/// A certificate that was signed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Signed {
    /// The certificate in PEM. The roots are [`Authority::bundle_pem`]; there is nothing between.
    pub certificate: String,
    /// In hexadecimal digits.
    pub serial: String,
    /// When it expires, as time since 1970.
    pub not_after: Duration,
}

/// Why nothing was signed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Unsigned {
    /// The root has expired.
    #[error("the root of this authority has expired; replace it")]
    Expired,
    /// The provider of cryptography failed.
    #[error("signing failed: {0}")]
    Failed(Box<str>),
    /// The identity is of another trust domain.
    #[error("{found} is of another trust domain than {own}")]
    WrongDomain {
        /// Who was to be signed.
        found: SpiffeId,
        /// The authority's.
        own: TrustDomain,
    },
}

impl Authority {
    fn new(roots: Roots) -> Result<Self, Unusable> {
        let issuer = roots.signing.issuer()?;
        let bundle = Bundle::from_der(roots.certificates().map(<[u8]>::to_vec).collect())?;
        Ok(Self {
            shared: Arc::new(Shared {
                roots,
                issuer,
                bundle,
            }),
        })
    }

    /// An authority with a new root for `domain`, which is valid from `now` (since 1970) for ten years.
    /// It is in memory alone; see [`create`](Self::create).
    ///
    /// # Errors
    /// If the provider of cryptography fails.
    pub fn generate(domain: TrustDomain, now: Duration) -> Result<Self, Unusable> {
        Self::new(Roots::generate(domain, now)?)
    }

    /// Whose identities it signs.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.shared.roots.domain
    }

    /// The roots that are to be trusted: one, or two while one replaces the other.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.shared.bundle
    }

    /// The same in PEM, the one that signs first.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        self.shared.roots.certificates_pem()
    }

    /// When the root that signs expires, as time since 1970.
    #[must_use]
    pub fn not_after(&self) -> Duration {
        self.shared.roots.signing.not_after
    }

    /// Signs the key of `request` as that of `id`, from a minute before `now` (since 1970) for
    /// `lifetime`, and never for longer than the root is valid.
    ///
    /// # Errors
    /// If the identity is of another trust domain, or the root has expired.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        id: &SpiffeId,
        lifetime: Duration,
        now: Duration,
    ) -> Result<Signed, Unsigned> {
        self.certify(request, id, &[], lifetime, now)
    }

    /// A new key with its certificate, for the process that holds the authority itself. `dns` are
    /// names that clients without SPIFFE identities know its server by.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), and if one of the names is none.
    pub fn issue(
        &self,
        id: &SpiffeId,
        dns: &[Box<str>],
        lifetime: Duration,
        now: Duration,
    ) -> Result<Identity, Unsigned> {
        let key = KeyPair::generate().map_err(failed)?;
        let signed = self.certify(&key, id, dns, lifetime, now)?;
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain =
            super::pem::certificates("the certificate chain", signed.certificate.as_bytes())
                .map_err(failed)?;
        Identity::new(chain, der).map_err(failed)
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        dns: &[Box<str>],
        lifetime: Duration,
        now: Duration,
    ) -> Result<Signed, Unsigned> {
        let own = self.trust_domain();
        if id.trust_domain() != own {
            return Err(Unsigned::WrongDomain {
                found: id.clone(),
                own: own.clone(),
            });
        }
        let root = &self.shared.roots.signing;
        if root.not_after <= now {
            return Err(Unsigned::Expired);
        }
        let not_after = now.saturating_add(lifetime).min(root.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let uri = SanType::URI(id.as_str().try_into().map_err(failed)?);
        params.subject_alt_names = vec![uri];
        for name in dns {
            let name = SanType::DnsName((&**name).try_into().map_err(failed)?);
            params.subject_alt_names.push(name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let not_before = now.saturating_sub(BEHIND).max(root.not_before);
        roots::validity(&mut params, not_before, not_after);
        let certificate = params.signed_by(key, &self.shared.issuer).map_err(failed)?;
        Ok(Signed {
            certificate: certificate.pem(),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after,
        })
    }

    /// Step one of replacing the root: another one that is trusted and does not sign yet.
    ///
    /// # Errors
    /// If a replacement has begun already.
    pub fn begin(&self, now: Duration) -> Result<Self, Unusable> {
        Self::new(self.shared.roots.begin(now)?)
    }

    /// Step two: the other root signs from here on, and the old one is still trusted. Its key is gone.
    ///
    /// # Errors
    /// If there is no other root with a key.
    pub fn switch(&self) -> Result<Self, Unusable> {
        Self::new(self.shared.roots.switch()?)
    }

    /// Step three: nobody is told to trust the old root any more.
    ///
    /// # Errors
    /// If there is no old root, or the other root has not begun to sign.
    pub fn finish(&self) -> Result<Self, Unusable> {
        Self::new(self.shared.roots.finish()?)
    }

    /// Which step of a replacement it stands at.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.shared.roots.other {
            None => Step::Settled,
            Some(Root { key: Some(_), .. }) => Step::Begun,
            Some(Root { key: None, .. }) => Step::Switched,
        }
    }
}

/// Where the replacement of a root stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is one root.
    Settled,
    /// The next root is trusted, the old one signs.
    Begun,
    /// The next root signs, the old one is still trusted.
    Switched,
}

/// Sixteen bytes that nobody can foresee, as a positive number.
fn serial() -> Result<[u8; 16], Unsigned> {
    let mut bytes = [0; 16];
    if !fill(&mut bytes) {
        return Err(Unsigned::Failed("there is no randomness".into()));
    }
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes)
}

fn failed(error: impl fmt::Display) -> Unsigned {
    Unsigned::Failed(error.to_string().into())
}

/// Equal if they trust the same and the same root signs.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.bundle() == other.bundle() && self.step() == other.step()
    }
}

impl Eq for Authority {}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", self.trust_domain())
            .field("step", &self.step())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
