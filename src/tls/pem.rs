//! PEM files, within bounds.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;

/// The largest text that is read, in bytes. A bundle of a hundred public roots is a quarter of that.
const MAX_TEXT: usize = 1 << 20;
/// How many certificates a text may hold.
const MAX_CERTIFICATES: usize = 1_024;

/// Certificates, keys or lists that cannot be used; nothing of them is kept.
///
/// The text never contains a byte of a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{what} cannot be used: {why}")]
pub struct Unusable {
    what: &'static str,
    why: Box<str>,
}

impl Unusable {
    pub(super) fn new(what: &'static str, why: impl Into<Box<str>>) -> Self {
        let why = why.into();
        Self { what, why }
    }

    /// An authority that cannot sign.
    #[cfg(feature = "control-plane")]
    pub(crate) fn authority(why: &dyn std::fmt::Display) -> Self {
        Self::new("the authority", why.to_string())
    }
}

fn bounded(what: &'static str, text: &[u8]) -> Result<(), Unusable> {
    match text.len() {
        0 => Err(Unusable::new(what, "the text is empty")),
        1..=MAX_TEXT => Ok(()),
        long => {
            let why = format!("the text has {long} bytes; at most {MAX_TEXT} are allowed");
            Err(Unusable::new(what, why))
        }
    }
}

/// All certificates of a text, in order; at least one.
pub(super) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    bounded(what, text)?;
    let mut found = Vec::new();
    for one in CertificateDer::pem_slice_iter(text) {
        found.push(one.map_err(|error| Unusable::new(what, error.to_string()))?);
        if found.len() > MAX_CERTIFICATES {
            let why = format!("it holds more than {MAX_CERTIFICATES} certificates");
            return Err(Unusable::new(what, why));
        }
    }
    match found.is_empty() {
        true => Err(Unusable::new(what, "it holds no PEM block CERTIFICATE")),
        false => Ok(found),
    }
}

/// The first private key of a text: PKCS#8, PKCS#1 or SEC1.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    const WHAT: &str = "the private key";
    bounded(WHAT, text)?;
    // The parser's own errors may quote what they stumbled over.
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        let why = "it holds no PEM block PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY";
        Unusable::new(WHAT, why)
    })
}

/// All revocation lists of a text; at least one.
pub(super) fn revocations(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, Unusable> {
    const WHAT: &str = "the revocation list";
    bounded(WHAT, text)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| Unusable::new(WHAT, error.to_string()))?;
    match found.is_empty() {
        true => Err(Unusable::new(WHAT, "it holds no PEM block X509 CRL")),
        false => Ok(found),
    }
}
