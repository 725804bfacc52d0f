//! Who the peer is.
//!
//! An identity of Istio's form, `spiffe://domain/ns/namespace/sa/account`, is taken apart once and
//! its parts are compared as parts. Envoy is given regular expressions for the same (`.*/ns/x/.*`),
//! which also match identities in which these words stand somewhere else; where that is more
//! than the form says, only a policy that denies believes it.

use super::super::matcher::StringMatcher;

/// A question about the identity that the peer's certificate proves.
///
/// A peer without identity (plaintext, or TLS without a client certificate) matches none of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PeerPattern {
    /// The whole identity, `spiffe://` included.
    Name(StringMatcher),
    /// The namespace of an identity of Istio's form.
    Namespace(StringMatcher),
    /// Namespace and service account of an identity of Istio's form.
    ServiceAccount {
        /// The namespace.
        namespace: Box<str>,
        /// The service account.
        account: Box<str>,
    },
    /// The trust domain.
    TrustDomain(StringMatcher),
}

/// A SPIFFE identity, taken apart without copying.
///
/// ```
/// use meshwork::model::authorization::SpiffeParts;
///
/// let parts = SpiffeParts::of("spiffe://cluster.local/ns/my-app/sa/order").unwrap();
/// assert_eq!(parts.trust_domain, "cluster.local");
/// assert_eq!(parts.istio(), Some(("my-app", "order")));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpiffeParts<'a> {
    /// The trust domain.
    pub trust_domain: &'a str,
    /// What follows it, without the first slash.
    pub path: &'a str,
}

impl<'a> SpiffeParts<'a> {
    /// The parts; `None` if the text is no `spiffe://` identity.
    #[must_use]
    pub fn of(identity: &'a str) -> Option<Self> {
        let rest = identity.strip_prefix("spiffe://")?;
        let (trust_domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        (!trust_domain.is_empty()).then_some(Self { trust_domain, path })
    }

    /// Namespace and service account, if the path is exactly `ns/namespace/sa/account`.
    #[must_use]
    pub fn istio(self) -> Option<(&'a str, &'a str)> {
        let mut segments = self.path.split('/');
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Some((namespace, account))
            }
            _other_forms => None,
        }
    }

    /// Whether somewhere in the path `ns/` is followed by a namespace that `wanted` takes.
    pub(crate) fn mentions_namespace(self, wanted: impl Fn(&str) -> bool) -> bool {
        self.after("ns").any(wanted)
    }

    /// Whether somewhere in the path `sa/` is followed by this account.
    pub(crate) fn mentions_account(self, account: &str) -> bool {
        self.after("sa").any(|found| found == account)
    }

    fn after(self, word: &'static str) -> impl Iterator<Item = &'a str> {
        let pairs = self.path.split('/').zip(self.path.split('/').skip(1));
        pairs.filter_map(move |(before, this)| (before == word).then_some(this))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_istio_is_exact_and_the_rest_is_only_mentioned() {
        for (identity, istio) in [
            ("spiffe://td/ns/a/sa/b", Some(("a", "b"))),
            ("spiffe://td/ns/a/sa/b/c", None),
            ("spiffe://td/x/ns/a/sa/b", None),
            ("spiffe://td/sa/b/ns/a", None),
            ("spiffe://td", None),
        ] {
            assert_eq!(
                SpiffeParts::of(identity).unwrap().istio(),
                istio,
                "{identity}"
            );
        }
        for none in [
            "",
            "spiffe://",
            "spiffe:///ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "CN=a",
        ] {
            assert_eq!(SpiffeParts::of(none), None, "{none}");
        }
        let odd = SpiffeParts::of("spiffe://td/x/ns/a/sa/b").unwrap();
        assert!(odd.mentions_namespace(|ns| ns == "a") && odd.mentions_account("b"));
        assert!(!odd.mentions_namespace(|ns| ns == "sa") && !odd.mentions_account("a"));
    }
}
