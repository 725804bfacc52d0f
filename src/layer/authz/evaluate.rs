//! The answers to questions about a request.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::model::authorization::{Condition, Network, PeerPattern, SpiffeParts};
use crate::model::matcher::StringMatcher;

use super::Attributes;
use super::decide::{claim_holds, claim_is};
use super::header;

/// Which way to err where a request has more than one reading; see the [module](super).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lean {
    /// Yes if it may be so: for policies that deny.
    Broad,
    /// Yes only if it is so in every reading: for policies that allow.
    Narrow,
}

impl Lean {
    /// The lean of what is negated.
    #[must_use]
    pub const fn turned(self) -> Self {
        match self {
            Self::Broad => Self::Narrow,
            Self::Narrow => Self::Broad,
        }
    }

    /// The answer to what cannot be answered.
    #[must_use]
    pub const fn in_doubt(self) -> bool {
        matches!(self, Self::Broad)
    }
}

/// Whether the condition holds for the request.
#[must_use]
pub fn holds(condition: &Condition, attributes: &Attributes<'_>, lean: Lean) -> bool {
    let caller = &attributes.caller;
    let token = attributes.token;
    match condition {
        Condition::All(all) => all.iter().all(|one| holds(one, attributes, lean)),
        Condition::Any(any) => any.iter().any(|one| holds(one, attributes, lean)),
        Condition::Not(inner) => !holds(inner, attributes, lean.turned()),
        Condition::Audience(wanted) => {
            let audiences = token.map(|token| &token.audiences[..]).unwrap_or_default();
            audiences.iter().any(|audience| wanted.matches(audience))
        }
        Condition::Claim { path, value } => {
            let claim = token.and_then(|token| token.claim(path));
            claim.is_some_and(|claim| claim_holds(claim, lean, |text| value.matches(text)))
        }
        Condition::Encrypted => caller.encrypted,
        Condition::DestinationIp(network) => {
            within(network, caller.destination.map(|to| to.ip()), lean)
        }
        Condition::DestinationPort(ports) => match caller.destination {
            Some(to) => ports.contains(to.port()),
            None => lean.in_doubt(),
        },
        Condition::Header(matcher) => header::holds(matcher, &attributes.request, lean),
        Condition::Host(wanted) => host_holds(wanted, attributes.request.authority, lean),
        Condition::Method(wanted) => wanted.matches(attributes.request.method),
        Condition::Path(pattern) => pattern.matches(attributes.request.path),
        Condition::PathAndQuery(wanted) => match attributes.request.query {
            Some(query) => wanted.matches(&format!("{}?{query}", attributes.request.path)),
            None => wanted.matches(attributes.request.path),
        },
        Condition::Peer(pattern) => peer_holds(pattern, caller.principal, lean),
        Condition::Presenter(wanted) => text(wanted, token.and_then(|t| t.presenter.as_deref())),
        Condition::RemoteIp(network) => within(network, caller.remote, lean),
        Condition::RequestPrincipal(wanted) => {
            text(wanted, token.and_then(|token| token.principal.as_deref()))
        }
        Condition::Sni(wanted) => text(wanted, caller.sni),
        Condition::SourceIp(network) => within(network, caller.source, lean),
        Condition::TokenMetadata {
            payload,
            path,
            value,
        } => {
            let named = token.filter(|token| token.metadata.as_ref() == Some(payload));
            let claim = named.and_then(|token| token.claim(path));
            claim.is_some_and(|claim| claim_is(claim, value))
        }
    }
}

fn text(wanted: &StringMatcher, found: Option<&str>) -> bool {
    found.is_some_and(|found| wanted.matches(found))
}

fn within(network: &Network, address: Option<IpAddr>, lean: Lean) -> bool {
    address.map_or(lean.in_doubt(), |address| network.contains(address))
}

/// Hosts are compared in lower case. A policy that allows sees the authority as it is written; one
/// that denies also sees it without its port and without the point at its end.
pub(super) fn host_holds(wanted: &StringMatcher, authority: &str, lean: Lean) -> bool {
    let written = lower(authority);
    let matches = |host: &str| match wanted {
        StringMatcher::Exact(text) => text.eq_ignore_ascii_case(host),
        StringMatcher::Prefix(text) => host.starts_with(&*lower(text)),
        StringMatcher::Suffix(text) => host.ends_with(&*lower(text)),
        StringMatcher::Contains(text) => host.contains(&*lower(text)),
        StringMatcher::ContainsIgnoreCase(_)
        | StringMatcher::ExactIgnoreCase(_)
        | StringMatcher::PrefixIgnoreCase(_)
        | StringMatcher::Regex(_)
        | StringMatcher::SuffixIgnoreCase(_) => wanted.matches(host),
    };
    if matches(&written) {
        return true;
    }
    if lean == Lean::Narrow {
        return false;
    }
    let (host, port) = split_port(&written);
    // Of many points too: no name has them, and whoever reads kindly takes them for one.
    let plain = host.trim_end_matches('.');
    if matches(host) || matches(plain) {
        return true;
    }
    // A policy for `host.:80` is none that anybody writes; one for `host:80` is.
    port.is_some_and(|port| plain.len() < host.len() && matches(&format!("{plain}:{port}")))
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Host and port of an authority; the brackets of an IPv6 address are part of the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

fn peer_holds(pattern: &PeerPattern, principal: Option<&str>, lean: Lean) -> bool {
    let Some(principal) = principal.filter(|principal| !principal.is_empty()) else {
        return false;
    };
    let parts = SpiffeParts::of(principal);
    match pattern {
        PeerPattern::Name(wanted) => wanted.matches(principal),
        PeerPattern::Namespace(wanted) => parts.is_some_and(|parts| match lean {
            Lean::Broad => parts.mentions_namespace(|found| wanted.matches(found)),
            Lean::Narrow => parts
                .istio()
                .is_some_and(|(found, _)| wanted.matches(found)),
        }),
        PeerPattern::ServiceAccount { namespace, account } => {
            parts.is_some_and(|parts| match lean {
                Lean::Broad => {
                    parts.mentions_namespace(|found| found == &**namespace)
                        && parts.mentions_account(account)
                }
                Lean::Narrow => parts.istio() == Some((&**namespace, &**account)),
            })
        }
        PeerPattern::TrustDomain(wanted) => {
            parts.is_some_and(|parts| wanted.matches(parts.trust_domain))
        }
    }
}
