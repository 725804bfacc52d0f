//! Identities as they are written in policies.

use crate::model::authorization::{Condition, PeerPattern};
use crate::model::matcher::StringMatcher;
use crate::source::istio::defaults::Defaults;

use super::rule::pattern;

/// The trust domain that policies name when they mean their own.
const POINTER: &str = "cluster.local";

/// The trust domains under which the mesh's own workloads have identities.
pub(super) struct Domains<'a> {
    own: Vec<&'a str>,
}

impl<'a> Domains<'a> {
    pub(super) fn new(defaults: Defaults<'a>) -> Self {
        Self {
            own: defaults.trust_domains().collect(),
        }
    }

    /// The identities of a service account, whole.
    pub(super) fn account(&self, namespace: &str, name: &str) -> impl Iterator<Item = Box<str>> {
        let own = self.own.iter();
        own.map(move |own| format!("spiffe://{own}/ns/{namespace}/sa/{name}").into())
    }

    /// An identity of `principals`. A trust domain of the mesh stands for all of them, and
    /// `cluster.local` for the mesh's, whatever it is called (Istio's trust domain aliases).
    pub(super) fn principal(&self, text: &str) -> Condition {
        let name = |matcher| Condition::Peer(PeerPattern::Name(matcher));
        if text == "*" || text.starts_with('*') {
            return name(pattern(text));
        }
        let prefixed = |text: &str| match pattern(text) {
            StringMatcher::Exact(text) => StringMatcher::Exact(format!("spiffe://{text}").into()),
            StringMatcher::Prefix(text) => StringMatcher::Prefix(format!("spiffe://{text}").into()),
            other => other,
        };
        match text.split_once('/') {
            Some((domain, path)) if domain == POINTER || self.own.contains(&domain) => {
                let all = self
                    .own
                    .iter()
                    .map(|own| name(prefixed(&format!("{own}/{path}"))));
                Condition::Any(all.collect())
            }
            Some(_) | None => name(prefixed(text)),
        }
    }
}

/// An entry of `serviceAccounts`: `account` or `namespace/account`.
pub(super) fn service_account(text: &str, own_namespace: &str) -> Condition {
    let (namespace, account) = text.split_once('/').unwrap_or((own_namespace, text));
    Condition::Peer(PeerPattern::ServiceAccount {
        namespace: namespace.into(),
        account: account.into(),
    })
}
