//! Who somebody is: SPIFFE trust domains and identities.
//!
//! An identity is the one text that certificates, policies and logs have in common, so it is parsed
//! once, strictly, and compared byte by byte afterwards. The grammar is that of the SPIFFE ID
//! standard (§2): no escapes, no upper case in the trust domain, no query, no empty or dotted
//! segment. What a lenient parser would repair (a trailing slash, `%2e`, an upper-case trust domain)
//! is refused, because two spellings of one identity are how policies are walked around.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// What every SPIFFE ID begins with.
const SCHEME: &str = "spiffe://";
/// The longest trust domain, in bytes (SPIFFE ID §2.3).
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest identity, in bytes (SPIFFE ID §2.3).
const MAX_ID: usize = 2_048;

/// Whose word counts: the domain under which a mesh issues identities, such as `cluster.local`.
///
/// Lower-case letters, digits, `.`, `-` and `_`; 1 to 255 bytes.
///
/// ```
/// use meshwork::model::identity::TrustDomain;
///
/// let domain: TrustDomain = "cluster.local".parse()?;
/// assert_eq!(domain.as_str(), "cluster.local");
/// assert!("Cluster.Local".parse::<TrustDomain>().is_err());
/// # Ok::<(), meshwork::model::identity::InvalidSpiffeId>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(Arc<str>);

/// A workload's identity: `spiffe://TRUST-DOMAIN/PATH`.
///
/// ```
/// use meshwork::model::identity::SpiffeId;
///
/// let order: SpiffeId = "spiffe://cluster.local/ns/my-app/sa/order-sa".parse()?;
/// assert_eq!(order.trust_domain().as_str(), "cluster.local");
/// assert_eq!(order.path(), "/ns/my-app/sa/order-sa");
/// assert_eq!(order.namespace(), Some("my-app"));
/// assert_eq!(order.service_account(), Some("order-sa"));
/// # Ok::<(), meshwork::model::identity::InvalidSpiffeId>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

/// A text that is no SPIFFE ID or trust domain.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidSpiffeId {
    /// It does not begin with `spiffe://`.
    #[error("does not begin with \"spiffe://\"")]
    Scheme,
    /// The trust domain is empty, too long, or has other characters.
    #[error(
        "the trust domain must have 1 to {MAX_TRUST_DOMAIN} lower-case letters, digits, '.', '-' and '_'"
    )]
    TrustDomain,
    /// There is no path: a trust domain alone is nobody's identity.
    #[error("no path follows the trust domain; a workload's identity has one")]
    NoPath,
    /// A segment of the path is empty, `.`, `..`, or has other characters.
    #[error(
        "each segment of the path must have letters, digits, '.', '-' and '_', and must not be empty, \".\" or \"..\""
    )]
    Segment,
    /// Too long.
    #[error("has {0} bytes; at most {MAX_ID} are allowed")]
    TooLong(usize),
}

fn is_domain_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| is_domain_byte(byte) || byte.is_ascii_uppercase();
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

impl TrustDomain {
    /// Parses a trust domain, without a scheme.
    ///
    /// # Errors
    /// If it is empty, longer than 255 bytes, or has other characters than those allowed.
    pub fn new(text: &str) -> Result<Self, InvalidSpiffeId> {
        let long = text.is_empty() || text.len() > MAX_TRUST_DOMAIN;
        if long || !text.bytes().all(is_domain_byte) {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        Ok(Self(text.into()))
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// Parses an identity.
    ///
    /// # Errors
    /// What is wrong with the first part that is; see [`InvalidSpiffeId`].
    pub fn new(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > MAX_ID {
            return Err(InvalidSpiffeId::TooLong(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidSpiffeId::Scheme)?;
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let domain = TrustDomain::new(domain)?;
        if rest.len() == domain.as_str().len() {
            return Err(InvalidSpiffeId::NoPath);
        }
        if !path.split('/').all(is_segment) {
            return Err(InvalidSpiffeId::Segment);
        }
        Ok(Self {
            text: text.into(),
            domain,
        })
    }

    /// The identity that Istio gives a service account: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    ///
    /// # Errors
    /// If the namespace or the account cannot be a segment of a path.
    pub fn of_service_account(
        domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> Result<Self, InvalidSpiffeId> {
        Self::new(&format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}"))
    }

    /// The identity as text, scheme included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Under which trust domain it was issued.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its path, with the slash that it begins with.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.domain.as_str().len()..]
    }

    /// The Kubernetes namespace, if the path is Istio's `/ns/NAMESPACE/sa/ACCOUNT`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.kubernetes().map(|(namespace, _)| namespace)
    }

    /// The Kubernetes service account, if the path is Istio's `/ns/NAMESPACE/sa/ACCOUNT`.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        self.kubernetes().map(|(_, account)| account)
    }

    fn kubernetes(&self) -> Option<(&str, &str)> {
        let (namespace, rest) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        let account = rest.strip_prefix("sa/")?;
        (!account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        Self::new(text)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        Self::new(text)
    }
}

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a9_only_the_strict_spelling_is_an_identity() {
        use InvalidSpiffeId::{NoPath, Scheme, Segment, TooLong, TrustDomain as Domain};
        let long = format!("spiffe://td/{}", "a".repeat(MAX_ID - 12 + 1));
        let wide = format!("spiffe://{}/a", "d".repeat(256));
        for (row, text, expected) in [
            ("another scheme", "https://td/a", Scheme),
            ("upper-case scheme", "SPIFFE://td/a", Scheme),
            ("empty", "", Scheme),
            ("no trust domain", "spiffe:///a", Domain),
            ("upper-case trust domain", "spiffe://TD/a", Domain),
            ("a port", "spiffe://td:80/a", Domain),
            ("a user", "spiffe://me@td/a", Domain),
            ("an escape in the domain", "spiffe://t%64/a", Domain),
            ("256 bytes of domain", &wide, Domain),
            ("no path", "spiffe://td", NoPath),
            ("the root", "spiffe://td/", Segment),
            ("a trailing slash", "spiffe://td/a/", Segment),
            ("an empty segment", "spiffe://td//a", Segment),
            ("a dot", "spiffe://td/./a", Segment),
            ("two dots", "spiffe://td/a/..", Segment),
            ("an escape", "spiffe://td/%2e", Segment),
            ("a query", "spiffe://td/a?b", Segment),
            ("a fragment", "spiffe://td/a#b", Segment),
            ("NUL", "spiffe://td/a\0b", Segment),
            ("not ASCII", "spiffe://td/\u{e4}", Segment),
            ("2,049 bytes", &long, TooLong(MAX_ID + 1)),
        ] {
            assert_eq!(SpiffeId::new(text), Err(expected), "{row}");
        }
        let longest = format!("spiffe://td/{}", "a".repeat(MAX_ID - 12));
        assert_eq!(SpiffeId::new(&longest).unwrap().as_str(), longest);
    }

    #[test]
    fn only_the_path_of_istio_has_a_namespace_and_an_account() {
        for (path, expected) in [
            ("/ns/a/sa/b", Some(("a", "b"))),
            ("/ns/a/sa/b/c", None),
            ("/ns/a/sx/b", None),
            ("/x/ns/a/sa/b", None),
        ] {
            let id = SpiffeId::new(&format!("spiffe://td{path}")).unwrap();
            assert_eq!(id.kubernetes(), expected, "{path}");
        }
        let domain = TrustDomain::new("td").unwrap();
        assert!(SpiffeId::of_service_account(&domain, "a/b", "").is_err());
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn any_text_is_refused_or_comes_back_as_it_was(text in "(spiffe://)?[a-zA-Z0-9./%_-]{0,40}") {
            if let Ok(id) = SpiffeId::new(&text) {
                prop_assert_eq!(id.as_str(), &text);
                let parts = format!("spiffe://{}{}", id.trust_domain(), id.path());
                prop_assert_eq!(parts, text);
            }
        }
    }
}
