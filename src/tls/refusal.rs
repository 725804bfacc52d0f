//! Why a peer is not believed.

use thiserror::Error;

use crate::model::identity::{InvalidSpiffeId, TrustDomain};

/// Why a peer's certificate was refused.
///
/// It is for logs and counters of this side: the peer learns no more than TLS's alert tells it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The handshake of TLS failed before a certificate could be judged.
    #[error("the TLS handshake failed: {0}")]
    Handshake(Box<str>),
    /// Its time has passed.
    #[error("the certificate has expired")]
    Expired,
    /// The identity of this side has expired, so that the peer need not even be asked.
    #[error("this side's identity has expired and was not renewed")]
    IdentityExpired,
    /// The certificate, or one on the way to its root, cannot be parsed.
    #[error("the certificate cannot be read: {0}")]
    Malformed(Box<str>),
    /// No certificate was presented.
    #[error("no certificate was presented")]
    Missing,
    /// There is no identity on this side that the peer could be shown.
    #[error("this side has no identity yet")]
    NoIdentity,
    /// It breaks a rule of X509-SVIDs.
    #[error("the certificate is no X509-SVID: {0}")]
    NotAnSvid(NotAnSvid),
    /// Its time has not come.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// A revocation list names it or one on the way to its root.
    #[error("the certificate, or one on the way to its root, was revoked")]
    Revoked,
    /// A signature does not hold, or its algorithm is not accepted.
    #[error("the certificate's signatures do not hold: {0}")]
    Signature(Box<str>),
    /// No root that is trusted for this peer leads to it.
    #[error("no trusted root leads to the certificate")]
    UnknownIssuer,
    /// Nobody is trusted for the peer's trust domain.
    #[error("nobody is trusted for the trust domain {0}")]
    WrongDomain(TrustDomain),
    /// None of its names is one that was expected.
    #[error("the certificate is for {}, which is not expected here", names(.found))]
    WrongName {
        /// The names that it has.
        found: Vec<Box<str>>,
    },
    /// It was not issued for this use (extended key usage).
    #[error("the certificate was not issued for this use")]
    WrongPurpose,
}

/// Which rule of X509-SVIDs a certificate breaks (SPIFFE X509-SVID §3 to §5).
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum NotAnSvid {
    /// The leaf is a CA.
    #[error("the leaf is a CA")]
    Authority,
    /// Its URI name is no SPIFFE ID.
    #[error("its URI name {0}")]
    Id(#[source] InvalidSpiffeId),
    /// Key usage lacks `digitalSignature`, or allows to sign certificates or lists.
    #[error("its key usage must be digitalSignature without keyCertSign and cRLSign")]
    KeyUsage,
    /// It has more than one URI name, or none.
    #[error("it has {0} URI names; exactly one is allowed")]
    Names(usize),
    /// Basic constraints are missing.
    #[error("it has no basic constraints")]
    NoConstraints,
    /// Key usage is missing, or not critical.
    #[error("key usage must be present and critical")]
    NoKeyUsage,
}

fn names(found: &[Box<str>]) -> String {
    /// What a log line shows of a certificate with a thousand names.
    const SHOWN: usize = 4;
    match found {
        [] => "no name".to_owned(),
        [one] => format!("{one:?}"),
        many => {
            let shown: Vec<String> = many
                .iter()
                .take(SHOWN)
                .map(|one| format!("{one:?}"))
                .collect();
            let more = many.len().saturating_sub(SHOWN);
            match more {
                0 => shown.join(", "),
                more => format!("{} and {more} more", shown.join(", ")),
            }
        }
    }
}

impl Refusal {
    /// A short word for counters: `expired`, `unknown_issuer`, `wrong_trust_domain`, ...
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Expired => "expired",
            Self::IdentityExpired => "identity_expired",
            Self::Malformed(_) => "malformed",
            Self::Missing => "no_certificate",
            Self::NoIdentity => "no_identity",
            Self::NotAnSvid(_) => "not_an_svid",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::Signature(_) => "signature",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongDomain(_) => "wrong_trust_domain",
            Self::WrongName { .. } => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
        }
    }

    /// Whether the peer has shown a certificate, and that is what is not believed.
    #[cfg(any(feature = "inbound", feature = "control-plane"))]
    pub(crate) fn is_of_certificate(&self) -> bool {
        match self {
            Self::Expired
            | Self::Malformed(_)
            | Self::NotAnSvid(_)
            | Self::NotYetValid
            | Self::Revoked
            | Self::Signature(_)
            | Self::UnknownIssuer
            | Self::WrongDomain(_)
            | Self::WrongName { .. }
            | Self::WrongPurpose => true,
            Self::Handshake(_) | Self::IdentityExpired | Self::Missing | Self::NoIdentity => false,
        }
    }
}

impl From<NotAnSvid> for Refusal {
    fn from(rule: NotAnSvid) -> Self {
        Self::NotAnSvid(rule)
    }
}
