//! The roots of an authority, and the text that they are kept as.
//!
//! PEM blocks in order: the certificate of the root that signs, its key, and perhaps the certificate of
//! another root, with its key if it is the next one and without if it is the last one.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::super::certificate::Leaf;
use super::super::pem::Unusable;
use crate::model::identity::TrustDomain;

/// What is said to be unusable.
pub(super) const WHAT: &str = "the authority's file";
/// The attribute `serialNumber` of names (X.520 6.2.9).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// How long a root is valid.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// How far the clocks of others may be behind when a root is new.
const BEHIND: Duration = Duration::from_secs(300);

/// The root that signs, and another one while it is replaced.
#[derive(Clone)]
pub(super) struct Roots {
    pub(super) domain: TrustDomain,
    pub(super) signing: Root,
    pub(super) other: Option<Root>,
}

/// A root.
#[derive(Clone)]
pub(super) struct Root {
    certificate: CertificateDer<'static>,
    /// PKCS#8.
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    /// Since 1970.
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
}

/// Says from when until when a certificate is valid, both since 1970.
pub(super) fn validity(params: &mut CertificateParams, from: Duration, to: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from;
    params.not_after = epoch + to;
}

impl Root {
    fn generate(domain: &TrustDomain, now: Duration) -> Result<Self, Unusable> {
        let key = KeyPair::generate().map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = format!("meshwork root of {domain}");
        params.distinguished_name.push(DnType::CommonName, name);
        // Roots are told apart by it, also those of one domain.
        let number = format!("{:x}", now.as_millis());
        params
            .distinguished_name
            .push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), number);
        let uri = format!("spiffe://{domain}").as_str().try_into();
        params.subject_alt_names = vec![SanType::URI(uri.map_err(unusable)?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (from, to) = (now.saturating_sub(BEHIND), now.saturating_add(LIFETIME));
        validity(&mut params, from, to);
        let certificate = params.self_signed(&key).map_err(unusable)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: Some(Zeroizing::new(key.serialize_der())),
            not_before: from,
            not_after: to,
        })
    }

    /// Reads what a certificate says of itself, and checks that it can be a root for `domain`.
    fn read(certificate: CertificateDer<'static>) -> Result<(TrustDomain, Self), Unusable> {
        let leaf = Leaf::read(&certificate).map_err(unusable)?;
        let [uri] = &*leaf.uris else {
            let why = "a root has no URI name spiffe://TRUST-DOMAIN, or more than one";
            return Err(Unusable::new(WHAT, why));
        };
        let domain = uri.strip_prefix("spiffe://").unwrap_or_default();
        let domain = TrustDomain::new(domain).map_err(|error| {
            Unusable::new(WHAT, format!("the root's URI name {uri:?}: {error}"))
        })?;
        let root = Self {
            certificate,
            key: None,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        };
        Ok((domain, root))
    }

    /// What signs with its key.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Unusable> {
        let missing = || Unusable::new(WHAT, "the first root has no key");
        let key = self.key.as_ref().ok_or_else(missing)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_slice()));
        // The error could quote what it stumbled over.
        let pair = KeyPair::try_from(&der)
            .map_err(|_| Unusable::new(WHAT, "a key is none that can sign here"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate)
            .map_err(|error| unusable(error.to_string()))?;
        if *parsed.public_key().subject_public_key.data != *pair.public_key_raw() {
            let why = "a key does not belong to the certificate before it";
            return Err(Unusable::new(WHAT, why));
        }
        Issuer::from_ca_cert_der(&self.certificate, pair).map_err(unusable)
    }
}

impl Roots {
    pub(super) fn generate(domain: TrustDomain, now: Duration) -> Result<Self, Unusable> {
        Ok(Self {
            signing: Root::generate(&domain, now)?,
            domain,
            other: None,
        })
    }

    /// Reads what [`to_pem`](Self::to_pem) has written.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, Unusable> {
        let mut domain: Option<TrustDomain> = None;
        let mut roots: Vec<Root> = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| Unusable::new(WHAT, "it is not PEM"))?;
            match (kind, roots.last_mut()) {
                (SectionKind::Certificate, _) => {
                    let (own, root) = Root::read(der.into())?;
                    if domain.get_or_insert_with(|| own.clone()) != &own {
                        let why = "its roots are of different trust domains";
                        return Err(Unusable::new(WHAT, why));
                    }
                    roots.push(root);
                }
                (SectionKind::PrivateKey, Some(root)) if root.key.is_none() => {
                    root.key = Some(Zeroizing::new(der));
                }
                _ => {
                    let why = "it must hold CERTIFICATE and PRIVATE KEY, and perhaps another \
                               CERTIFICATE with or without its PRIVATE KEY, in this order";
                    return Err(Unusable::new(WHAT, why));
                }
            }
        }
        let mut roots = roots.into_iter();
        match (domain, roots.next(), roots.next(), roots.next()) {
            (Some(domain), Some(signing), other, None) => {
                if let Some(next @ Root { key: Some(_), .. }) = &other {
                    next.issuer()?;
                }
                Ok(Self {
                    domain,
                    signing,
                    other,
                })
            }
            (None, ..) | (_, None, ..) => Err(Unusable::new(WHAT, "it holds no CERTIFICATE")),
            _ => Err(Unusable::new(WHAT, "it holds more than two roots")),
        }
    }

    /// All of it, keys included.
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for root in std::iter::once(&self.signing).chain(&self.other) {
            text.push_str(&block("CERTIFICATE", &root.certificate));
            if let Some(key) = &root.key {
                text.push_str(&Zeroizing::new(block("PRIVATE KEY", key)));
            }
        }
        text
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        let all = std::iter::once(&self.signing).chain(&self.other);
        all.map(|root| root.certificate.as_ref())
    }

    pub(super) fn certificates_pem(&self) -> String {
        let blocks = self.certificates().map(|der| block("CERTIFICATE", der));
        blocks.collect()
    }

    pub(super) fn begin(&self, now: Duration) -> Result<Self, Unusable> {
        if self.other.is_some() {
            let why = "a replacement of its root has begun already";
            return Err(Unusable::new(WHAT, why));
        }
        Ok(Self {
            other: Some(Root::generate(&self.domain, now)?),
            ..self.clone()
        })
    }

    pub(super) fn switch(&self) -> Result<Self, Unusable> {
        let Some(next @ Root { key: Some(_), .. }) = &self.other else {
            let why = "it has no next root; begin a replacement first";
            return Err(Unusable::new(WHAT, why));
        };
        let old = Root {
            key: None,
            ..self.signing.clone()
        };
        Ok(Self {
            domain: self.domain.clone(),
            signing: next.clone(),
            other: Some(old),
        })
    }

    pub(super) fn finish(&self) -> Result<Self, Unusable> {
        match &self.other {
            Some(Root { key: None, .. }) => Ok(Self {
                other: None,
                ..self.clone()
            }),
            Some(_) => Err(Unusable::new(
                WHAT,
                "its next root does not sign yet; switch to it first",
            )),
            None => Err(Unusable::new(
                WHAT,
                "no replacement of its root is under way",
            )),
        }
    }
}

/// A PEM block (RFC 7468).
fn block(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    // All at once, so that no copy of a key is left behind by a buffer that grew.
    let mut block = String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + 40);
    block.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        block.push_str(line);
        block.push('\n');
        rest = after;
    }
    block.push_str(&format!("-----END {label}-----\n"));
    block
}

fn unusable(error: impl std::fmt::Display) -> Unusable {
    Unusable::new(WHAT, error.to_string())
}
