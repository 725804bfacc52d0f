//! What stands in a certificate: names, times, uses. Paths are verified elsewhere.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::refusal::{NotAnSvid, Refusal};
use crate::model::identity::SpiffeId;

/// The most names that are looked at; more than this is an attack on whoever compares them.
const MAX_NAMES: usize = 1_024;

/// A leaf certificate that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Leaf {
    pub(super) uris: Vec<Box<str>>,
    pub(super) dns: Vec<Box<str>>,
    /// Addresses and e-mail addresses, as text.
    pub(super) others: Vec<Box<str>>,
    pub(super) subject: Box<str>,
    /// In hexadecimal digits with colons.
    pub(super) serial: Box<str>,
    /// Since 1970.
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
    /// Names that cannot be read as what they are tagged.
    invalid: usize,
    constraints: Option<Constraints>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Constraints {
    authority: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Usage {
    critical: bool,
    signs: bool,
    certifies: bool,
}

impl Leaf {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let malformed = |why: &dyn std::fmt::Display| Refusal::Malformed(why.to_string().into());
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes follow the certificate"));
        }
        let mut leaf = Self {
            uris: Vec::new(),
            dns: Vec::new(),
            others: Vec::new(),
            subject: parsed.subject().to_string().into(),
            serial: parsed.raw_serial_as_string().into(),
            not_before: since_1970(parsed.validity().not_before.timestamp()),
            not_after: since_1970(parsed.validity().not_after.timestamp()),
            invalid: 0,
            constraints: None,
            usage: None,
        };
        // Unlike the named getters this also sees an extension that stands there twice.
        let mut seen = Vec::new();
        for extension in parsed.extensions() {
            if seen.contains(&&extension.oid) {
                return Err(malformed(&"an extension stands there twice"));
            }
            seen.push(&extension.oid);
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    let authority = constraints.ca;
                    leaf.constraints = Some(Constraints { authority });
                }
                ParsedExtension::KeyUsage(usage) => {
                    leaf.usage = Some(Usage {
                        critical: extension.critical,
                        signs: usage.digital_signature(),
                        certifies: usage.key_cert_sign() || usage.crl_sign(),
                    });
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    if names.general_names.len() > MAX_NAMES {
                        return Err(malformed(&"it has more than 1024 names"));
                    }
                    names.general_names.iter().for_each(|name| leaf.name(name));
                }
                ParsedExtension::ParseError { error } => return Err(malformed(error)),
                _ => {}
            }
        }
        Ok(leaf)
    }

    fn name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).into()),
            GeneralName::DNSName(name) => self.dns.push((*name).into()),
            GeneralName::RFC822Name(name) => self.others.push((*name).into()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.others.push(address.to_string().into()),
                None => self.invalid += 1,
            },
            GeneralName::Invalid(..) => self.invalid += 1,
            _ => {}
        }
    }

    /// The identity, if all rules for the leaf of an X509-SVID are kept.
    pub(super) fn svid(&self) -> Result<SpiffeId, Refusal> {
        if self.invalid > 0 {
            return Err(Refusal::Malformed("a name cannot be read".into()));
        }
        let [uri] = &*self.uris else {
            return Err(NotAnSvid::Names(self.uris.len()).into());
        };
        let id = SpiffeId::new(uri).map_err(NotAnSvid::Id)?;
        match self.constraints {
            None => return Err(NotAnSvid::NoConstraints.into()),
            Some(Constraints { authority: true }) => return Err(NotAnSvid::Authority.into()),
            Some(Constraints { authority: false }) => {}
        }
        match self.usage {
            Some(Usage {
                critical: true,
                signs: true,
                certifies: false,
            }) => Ok(id),
            Some(Usage { critical: true, .. }) => Err(NotAnSvid::KeyUsage.into()),
            Some(Usage {
                critical: false, ..
            })
            | None => Err(NotAnSvid::NoKeyUsage.into()),
        }
    }

    /// Whether it says to have a SPIFFE identity, well formed or not.
    pub(super) fn claims_spiffe(&self) -> bool {
        const SCHEME: &str = "spiffe:";
        let begins = |uri: &str| {
            let scheme = uri.get(..SCHEME.len());
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
        };
        self.uris.iter().any(|uri| begins(uri))
    }

    /// All names, the URIs first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.uris.iter().chain(&self.dns).chain(&self.others);
        all.map(|name| &**name)
    }
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(Into::into).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(Into::into).ok())
}

/// A time before 1970 is long enough ago.
fn since_1970(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
