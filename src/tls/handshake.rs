//! What a handshake has established.

use std::sync::Arc;
use std::time::Duration;

use super::verify::Proven;
use crate::model::identity::SpiffeId;

/// What is known of the peer after a handshake, or of a plaintext peer without one.
///
/// The default is a plaintext peer: nothing is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Handshaken {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The peer's identity, if it has proven one.
    pub principal: Option<SpiffeId>,
    /// The URI names of its certificate.
    pub uris: Vec<Box<str>>,
    /// The DNS names of its certificate.
    pub dns: Vec<Box<str>>,
    /// The subject of its certificate.
    pub subject: Box<str>,
    /// The serial number of its certificate, in hexadecimal digits.
    pub serial: Box<str>,
    /// When its certificate expires, as time since 1970.
    pub not_after: Option<Duration>,
    /// The protocol that was agreed on (ALPN).
    pub alpn: Option<Arc<str>>,
    /// The server that the client asked for (SNI).
    pub sni: Option<Arc<str>>,
}

impl Handshaken {
    pub(super) fn new(proven: Option<Proven>, alpn: Option<&[u8]>, sni: Option<&str>) -> Self {
        let mut known = Self {
            tls: true,
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into()),
            sni: sni.map(Into::into),
            ..Self::default()
        };
        if let Some(Proven { id, leaf }) = proven {
            known.principal = id;
            known.uris = leaf.uris;
            known.dns = leaf.dns;
            known.subject = leaf.subject;
            known.serial = leaf.serial;
            known.not_after = Some(leaf.not_after);
        }
        known
    }

    /// Whether the peer presented a certificate that was verified.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.not_after.is_some()
    }
}
