//! Requests for certificates (PKCS #10), of which one thing is taken.

use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::super::pem::Unusable;

const WHAT: &str = "the certificate request";
/// The longest text that is looked at, in bytes: an RSA key of 8,192 bits needs a quarter of it.
const MAX_TEXT: usize = 16 << 10;
/// The sizes of RSA keys that are signed, in bits.
const RSA: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A public key whose owner has signed that it is its own.
///
/// It is all that is read of a request for a certificate: names, usages and extensions that it wishes
/// for are not looked at.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    key: SubjectPublicKeyInfo,
}

impl CertificateRequest {
    /// Reads a request from PEM.
    ///
    /// # Errors
    /// If it is longer than 16 KiB or cannot be parsed, if its signature is not that of its key, or if the key
    /// is no ECDSA key on P-256, P-384 or P-521, no Ed25519 key and no RSA key of 2,048 to 8,192 bits.
    pub fn from_pem(text: &str) -> Result<Self, Unusable> {
        if text.len() > MAX_TEXT {
            let why = format!(
                "it has {} bytes; at most {MAX_TEXT} are allowed",
                text.len()
            );
            return Err(Unusable::new(WHAT, why));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            let why = "it holds no PEM block CERTIFICATE REQUEST";
            Unusable::new(WHAT, why)
        })?;
        let malformed = || Unusable::new(WHAT, "it cannot be parsed");
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let info = &parsed.certification_request_info.subject_pki;
        let kind = || {
            let why = "its key must be ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2,048 to \
                       8,192 bits";
            Unusable::new(WHAT, why)
        };
        let key = SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| kind())?;
        if let Ok(PublicKey::RSA(rsa)) = info.parsed()
            && !RSA.contains(&rsa.key_size())
        {
            return Err(kind());
        }
        parsed
            .verify_signature()
            .map_err(|_| Unusable::new(WHAT, "its signature is not that of its key"))?;
        Ok(Self { key })
    }
}

impl PublicKeyData for CertificateRequest {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}
