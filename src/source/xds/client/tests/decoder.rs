//! Resources as texts, `name|what it refers to|a stamp`; `!` at the begin makes one that is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model;
use crate::model::affinity::Affinity;
use crate::model::balancing::Spread;
use crate::model::cluster::{Balancing, Connection, Discovery, Protocol};
use crate::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints};
use crate::model::limit::Limits;
use crate::model::listener::Routes;
use crate::model::matcher::RouteMatcher;
use crate::model::route::{
    Action, Destinations, Domain, Forward, HeaderChanges, Route, VirtualHost,
};
use crate::model::security::Security;
use crate::model::upgrade::Upgrades;
use crate::model::{Origin, Percent};
use crate::source::xds::ads::message::{Content, Incoming, Raw};
use crate::source::xds::resource::Rejection;
use crate::source::xds::{Context, Decode, Decoded, Fault, Kind, Resource};

#[derive(Debug)]
pub(crate) struct Texts;

/// A resource as a server sends it.
pub(super) fn sent(kind: Kind, text: &str) -> Incoming {
    Incoming {
        name: None,
        version: None,
        ttl: None,
        content: Content::Message(Raw {
            type_url: kind.type_url().into(),
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }),
    }
}

impl Decode for Texts {
    fn decode(&self, kind: Kind, bytes: &[u8], _: Context<'_>) -> Result<Decoded, Rejection> {
        let reject = |name: Option<&str>, text: &str| Rejection {
            name: name.map(Arc::from),
            faults: vec![Fault {
                path: "text".into(),
                text: text.into(),
            }],
        };
        let text = std::str::from_utf8(bytes).map_err(|_| reject(None, "is not UTF-8"))?;
        let parts: Vec<&str> = text.trim_start_matches('!').split('|').collect();
        let [name, refers, stamp] = *parts else {
            return Err(reject(None, "has not three parts"));
        };
        if text.starts_with('!') {
            return Err(reject(Some(name), &format!("is bad, stamp {stamp}")));
        }
        Ok(Decoded {
            name: name.into(),
            resource: resource(kind, name, refers, stamp.parse().unwrap()),
        })
    }
}

pub(super) fn resource(kind: Kind, name: &str, refers: &str, stamp: u64) -> Resource {
    match kind {
        Kind::Listener => Resource::Listener {
            listener: Arc::new(model::Listener {
                name: name.into(),
                routes: Routes::Named(refers.into()),
                origin: Origin::built_in(),
            }),
            chain: Arc::default(),
        },
        Kind::RouteConfiguration => Resource::RouteConfiguration {
            routes: Arc::new(routes(name, refers, stamp)),
            said: Arc::default(),
        },
        Kind::Cluster => Resource::Cluster {
            cluster: Arc::new(cluster(name, refers, stamp)),
            endpoints: None,
            reports: false,
        },
        Kind::Endpoints | Kind::Secret => Resource::Endpoints(Arc::new(endpoints(name, stamp))),
    }
}

fn routes(name: &str, clusters: &str, stamp: u64) -> model::RouteConfiguration {
    let route = |cluster: &str| {
        Arc::new(Route {
            name: format!("{cluster} {stamp}").into(),
            matcher: RouteMatcher::everything(),
            action: Action::Forward(Box::new(Forward {
                destinations: Destinations::single(cluster),
                timeout: None,
                idle_timeout: None,
                retry: None,
                path_rewrite: None,
                authority_rewrite: None,
                endpoint_authority: false,
                mirrors: Vec::new(),
                affinity: Affinity::default(),
                upgrades: Upgrades::default(),
            })),
            headers: HeaderChanges::default(),
            fault: None,
            filters: Vec::new(),
            limits: Vec::new(),
            stat_prefix: None,
            origin: Origin::built_in(),
        })
    };
    let clusters = clusters.split(',').filter(|cluster| !cluster.is_empty());
    model::RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![Arc::new(VirtualHost {
            name: "all".into(),
            domains: vec![Domain::Any],
            routes: clusters.map(route).collect(),
            origin: Origin::built_in(),
        })],
        origin: Origin::built_in(),
    }
}

fn cluster(name: &str, endpoints: &str, stamp: u64) -> model::Cluster {
    model::Cluster {
        name: name.into(),
        discovery: Discovery::Endpoints(endpoints.into()),
        balancing: Balancing::default(),
        spread: Spread::default(),
        panic_threshold: Percent::ZERO,
        connect_timeout: Duration::from_secs(stamp),
        protocol: Protocol::Http2,
        connection: Connection::default(),
        limits: Limits::default(),
        security: Security::default(),
        outlier: None,
        health_check: None,
        load_metrics: Vec::new(),
        origin: Origin::built_in(),
    }
}

fn endpoints(name: &str, stamp: u64) -> model::Endpoints {
    let port = u16::try_from(stamp % 60_000 + 1).unwrap();
    model::Endpoints {
        name: name.into(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints: [Endpoint {
                address: Address::Socket(([127, 0, 0, 1], port).into()),
                weight: std::num::NonZeroU32::MIN,
                health: Health::Healthy,
                labels: Arc::default(),
                meshed: false,
                hostname: None,
            }]
            .into(),
        }],
        overloads: Vec::new(),
        origin: Origin::built_in(),
    }
}
