//! `consistentHash`: which requests go to the same endpoint.
//!
//! The key is a matter of the route and the algorithm one of the cluster, so the block of a
//! DestinationRule ends up in both: each route that may send requests to the cluster gets the key.

use std::num::NonZeroU64;
use std::time::Duration;

use http::HeaderName;

use super::Scope;
use super::policy::Blocks;
use crate::model::affinity::{
    Affinity, HashCookie, HashPolicy, HashSource, MadeCookie, Session, SessionCookie, SessionKey,
};
use crate::model::balancing::{Maglev, RingHash};
use crate::model::cluster::Balancing;
use crate::source::istio::kinds::gateway_api::SessionPersistence;
use crate::source::istio::kinds::{self, ConsistentHash};

/// The keys of all destinations of a route, each once; a destination is host, port and subset.
///
/// As istiod does it, a route to several gets the keys of all. A destination without a hash pays
/// no attention to them.
pub(super) fn affinity<'d>(
    scope: &Scope<'_>,
    destinations: impl Iterator<Item = (&'d str, u16, &'d str)>,
) -> Affinity {
    let mut hash: Vec<HashPolicy> = Vec::new();
    for (host, port, subset) in destinations {
        let rule = scope.effective.get(host);
        let subset = rule.and_then(|rule| rule.subset(subset));
        let subset = subset.and_then(|(_, one)| one.traffic_policy.as_ref());
        let policies = [
            scope.defaults.traffic_policy(),
            rule.and_then(|rule| rule.policy),
            subset,
        ];
        let balancer = Blocks::of(policies, port).balancer;
        let block = balancer.and_then(|block| block.consistent_hash.as_ref());
        let Some(source) = block.and_then(|block| source(block)) else {
            continue;
        };
        let policy = HashPolicy {
            source,
            terminal: false,
        };
        if !hash.contains(&policy) {
            hash.push(policy);
        }
    }
    Affinity {
        hash,
        session: None,
    }
}

/// The name of a session that has none.
const SESSION: &str = "gateway-session";

/// What keeps a client with one endpoint; reading has checked the words and names.
pub(super) fn session(block: &SessionPersistence) -> Option<Session> {
    let name = block.session_name.as_deref().unwrap_or(SESSION);
    if block.persistence_type.as_deref() == Some("Header") {
        return name
            .parse()
            .ok()
            .map(|name| SessionKey::Header(name).into());
    }
    let config = block.cookie_config.as_ref();
    let permanent = config.is_some_and(|c| c.lifetime_type.as_deref() == Some("Permanent"));
    let ttl = block.absolute_timeout.filter(|_| permanent);
    let cookie = SessionCookie {
        cookie: name.into(),
        path: None,
        ttl: ttl.map(Duration::from).unwrap_or_default(),
    };
    Some(SessionKey::Cookie(cookie).into())
}

/// The algorithm; reading has checked the sizes.
pub(super) fn balancing(block: &ConsistentHash) -> Balancing {
    if let Some(maglev) = &block.maglev {
        let size = maglev.table_size.and_then(|size| u32::try_from(size).ok());
        return Balancing::Maglev(size.and_then(Maglev::new).unwrap_or_default());
    }
    let ring = block.ring_hash.as_ref();
    let minimum = ring
        .and_then(|ring| ring.minimum_ring_size)
        .or(block.minimum_ring_size)
        .and_then(|size| u32::try_from(size).ok());
    let ring = minimum.and_then(|minimum| RingHash::new(minimum, RingHash::LIMIT));
    Balancing::RingHash(ring.unwrap_or_default())
}

/// The key, of which reading has seen to it that there is one.
fn source(block: &ConsistentHash) -> Option<HashSource> {
    let ConsistentHash {
        http_header_name,
        http_cookie,
        use_source_ip,
        http_query_parameter_name,
        ring_hash: _,
        maglev: _,
        minimum_ring_size: _,
    } = block;
    if let Some(name) = http_header_name {
        return HeaderName::from_bytes(name.as_bytes())
            .ok()
            .map(HashSource::Header);
    }
    if let Some(written) = http_cookie {
        return Some(HashSource::Cookie(cookie(written)));
    }
    if let Some(name) = http_query_parameter_name {
        return Some(HashSource::Query(name.as_str().into()));
    }
    (*use_source_ip == Some(true)).then_some(HashSource::Source)
}

fn cookie(written: &kinds::HashCookie) -> HashCookie {
    let kinds::HashCookie {
        name,
        path,
        ttl,
        attributes,
    } = written;
    let made = ttl.map(|ttl| MadeCookie {
        max_age: NonZeroU64::new(Duration::from(ttl).as_secs()),
        path: path.as_deref().map(Into::into),
        attributes: attributes
            .iter()
            .map(|one| {
                (
                    one.name.as_str().into(),
                    one.value.as_deref().map(Into::into),
                )
            })
            .collect(),
    });
    HashCookie {
        name: name.as_str().into(),
        made,
    }
}
