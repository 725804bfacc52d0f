//! Models by chance: everything that the model can say, from a seed.
//!
//! Texts are short and come from small sets, so that equal ones meet. What stays out is what the
//! model's own documentation excludes (a share of a hundred and one percent cannot be built) and
//! what no message can tell apart: limits of zero, empty parts of texts in matchers, cookies that
//! live longer than ten thousand years.

mod clusters;
mod routes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::model::affinity::*;
use crate::model::balancing::*;
use crate::model::cluster::*;
use crate::model::endpoint::*;
use crate::model::fault::*;
use crate::model::health::{GrpcQuestion, HealthCheck, HttpQuestion, Question, TcpQuestion};
use crate::model::limit::*;
use crate::model::listener::Routes;
use crate::model::matcher::*;
use crate::model::outlier::*;
use crate::model::reported::ReportedMetric;
use crate::model::retry::*;
use crate::model::route::*;
use crate::model::security::*;
use crate::model::upgrade::*;
use crate::model::{Endpoints, Fraction, Listener, Origin, Percent, Resources, RouteConfiguration};
use crate::random::Random;
use crate::source::xds::filters::own_fault;

use clusters::cluster;
use routes::route_configuration;

/// Draws.
pub(super) struct Chance(Random);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::seeded(seed))
    }

    fn flag(&mut self) -> bool {
        self.0.below(2) == 1
    }

    fn below(&mut self, end: u32) -> u32 {
        self.0.below(end)
    }

    fn one<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.0.below(of.len() as u32) as usize]
    }

    fn option<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn list<T>(&mut self, most: u32, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }

    fn number(&mut self) -> u32 {
        match self.below(4) {
            0 => u32::MAX,
            1 => self.below(3),
            _ => self.0.below(u32::MAX),
        }
    }

    fn positive(&mut self) -> NonZeroU32 {
        NonZeroU32::new(self.number()).unwrap_or(NonZeroU32::MIN)
    }

    fn duration(&mut self) -> Duration {
        match self.below(4) {
            0 => Duration::from_millis(u64::from(self.below(10_000)) + 1),
            1 => Duration::from_nanos(u64::from(self.number()) + 1),
            2 => Duration::from_secs(315_576_000_000),
            _ => Duration::from_secs(u64::from(self.below(100_000)) + 1),
        }
    }

    fn percent(&mut self) -> Percent {
        Percent::new(self.below(101)).unwrap()
    }

    fn fraction(&mut self) -> Fraction {
        Fraction::from_parts_per_million(self.below(1_000_001)).unwrap()
    }

    fn text(&mut self) -> Box<str> {
        self.one(&[
            "a",
            "v1",
            "x-y",
            "ümlaut",
            "with space",
            "A",
            "%",
            "\\1",
            "z.z",
        ])
        .into()
    }

    fn name(&mut self) -> Arc<str> {
        let host = self.one(&["catalog", "order", "cart"]);
        format!(
            "outbound|80|{}|{host}.my-app.svc.cluster.local",
            self.one(&["", "v1", "v2"])
        )
        .into()
    }

    fn origin(&mut self) -> Origin {
        Origin::file("mesh/a.yaml", self.below(99), "virtualservice my-app/a")
    }

    fn header_name(&mut self) -> HeaderName {
        HeaderName::from_static(self.one(&["x-user", "x-canary", "content-type", "x-a"]))
    }

    fn header_value(&mut self) -> HeaderValue {
        match self.below(8) {
            0 => HeaderValue::from_static(""),
            1 => HeaderValue::from_bytes(b"\xff\xfe").unwrap(),
            _ => HeaderValue::from_bytes(self.text().as_bytes()).unwrap(),
        }
    }

    fn authority(&mut self) -> Authority {
        Authority::from_static(self.one(&["a.example", "b.example:8080", "[::1]:80"]))
    }
}

// === Endpoints ===

/// Addresses that stand once in a set: the number is part of each.
fn address(c: &mut Chance, number: u16) -> Address {
    match c.below(6) {
        5 => {
            let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), number);
            let others = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), number)];
            Address::Several(crate::model::endpoint::Several::new(six, others))
        }
        0 => Address::Name {
            host: c
                .one(&["a.example", "b-c.example", "_http._tcp.example"])
                .into(),
            port: number,
        },
        1 => Address::Socket(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), number)),
        2 => Address::Unix(Arc::from(Path::new(&format!("/run/{number}.sock")))),
        _ => Address::Socket(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), number)),
    }
}

pub(super) fn endpoints(c: &mut Chance, name: Arc<str>) -> Endpoints {
    let priorities = c.below(4);
    let mut localities = Vec::new();
    let mut number = 0;
    for priority in 0..priorities {
        for zone in 0..=c.below(2) {
            let endpoints = c.list(3, |c| {
                number += 1;
                Endpoint {
                    address: address(c, number),
                    weight: NonZeroU32::new(c.below(1_000) + 1).unwrap(),
                    health: match c.below(3) {
                        0 => Health::Draining,
                        1 => Health::Unhealthy,
                        _ => Health::Healthy,
                    },
                    meshed: c.flag(),
                    hostname: c.option(|c| Arc::new(c.authority())),
                    labels: Arc::new(BTreeMap::from_iter(c.list(2, |c| match c.below(6) {
                        0 => ("hash_key".into(), c.text()),
                        _ => (c.text(), c.text()),
                    }))),
                }
            });
            localities.push(LocalityEndpoints {
                locality: Locality {
                    region: c.text(),
                    zone: zone.to_string().into(),
                    sub_zone: c.one(&["", "rack"]).into(),
                },
                priority,
                weight: c.option(|c| NonZeroU32::new(c.below(1_000) + 1).unwrap()),
                endpoints: endpoints.into(),
            });
        }
    }
    let overloads = c.list(2, |c| Overload {
        category: c.name(),
        share: c.fraction(),
    });
    Endpoints {
        name,
        localities,
        overloads,
        origin: c.origin(),
    }
}

/// A whole configuration. Its references need not hold: messages are decoded one by one.
pub(super) fn resources(seed: u64) -> Resources {
    let mut chance = Chance::new(seed);
    let c = &mut chance;
    let mut resources = Resources::default();
    for number in 0..c.below(3) {
        let name: Arc<str> = format!("catalog:{number}").into();
        resources.insert_listener(Listener {
            routes: match c.flag() {
                true => Routes::Named(c.name()),
                false => Routes::Inline(Arc::new(route_configuration(c, name.clone()))),
            },
            name,
            origin: Origin::built_in(),
        });
    }
    for number in 0..c.below(3) {
        resources.insert_routes(route_configuration(c, format!("routes {number}").into()));
    }
    for number in 0..c.below(4) {
        let name: Arc<str> = format!("cluster {number}").into();
        let cluster = cluster(c, name.clone());
        if c.flag() {
            resources.insert_endpoints(endpoints(c, name));
        }
        resources.insert_cluster(cluster);
    }
    resources
}
