//! Models by chance: everything that the model can say, from a seed.
//!
//! Texts are short and come from small sets, so that equal ones meet. What stays out is what the
//! model's own documentation excludes (a share of a hundred and one percent cannot be built) and
//! what no message can tell apart: limits of zero, empty parts of texts in matchers, cookies that
//! live longer than ten thousand years.

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

// === Routes ===

fn string_matcher(c: &mut Chance) -> StringMatcher {
    match c.below(9) {
        0 => StringMatcher::Contains(c.text()),
        1 => StringMatcher::ContainsIgnoreCase(c.text()),
        2 => StringMatcher::Exact(if c.flag() { c.text() } else { "".into() }),
        3 => StringMatcher::ExactIgnoreCase(c.text()),
        4 => StringMatcher::Prefix(c.text()),
        5 => StringMatcher::PrefixIgnoreCase(c.text()),
        6 => StringMatcher::Regex(Regex::new(c.one(&[".*", "v[0-9]+", "a|b", ""])).unwrap()),
        7 => StringMatcher::Suffix(c.text()),
        _ => StringMatcher::SuffixIgnoreCase(c.text()),
    }
}

fn header_matcher(c: &mut Chance) -> HeaderMatcher {
    HeaderMatcher {
        key: match c.below(6) {
            0 => HeaderKey::Authority,
            1 => HeaderKey::Method,
            2 => HeaderKey::Scheme,
            _ => HeaderKey::Field(c.header_name()),
        },
        test: match c.below(4) {
            0 => HeaderTest::Present,
            1 => HeaderTest::Range {
                from: i64::from(c.number()) - 5,
                to: i64::from(c.number()),
            },
            _ => HeaderTest::Value(string_matcher(c)),
        },
        invert: c.flag(),
        missing_is_empty: c.flag(),
    }
}

fn path_matcher(c: &mut Chance) -> PathMatcher {
    let path: Box<str> = c.one(&["/", "/a", "/a/b", "/a/", "", "/a?b", "/A"]).into();
    match c.below(6) {
        0 => PathMatcher::Exact(path),
        1 => PathMatcher::ExactIgnoreCase(path),
        2 => PathMatcher::Prefix(path),
        3 => PathMatcher::PrefixIgnoreCase(path),
        4 => PathMatcher::Regex(Regex::new(c.one(&[".*", "/a/[^/]+", "/(a|b)"])).unwrap()),
        _ => PathMatcher::SegmentPrefix(path),
    }
}

fn route_matcher(c: &mut Chance) -> RouteMatcher {
    RouteMatcher {
        path: path_matcher(c),
        headers: c.list(2, header_matcher),
        query: c.list(1, |c| QueryMatcher {
            name: c.text(),
            value: c.option(string_matcher),
        }),
        share: c.option(Chance::fraction),
    }
}

fn header_changes(c: &mut Chance) -> HeaderChanges {
    let change = |c: &mut Chance| match c.below(5) {
        0 => HeaderChange::Add(c.header_name(), c.header_value()),
        1 => HeaderChange::AddIfAbsent(c.header_name(), c.header_value()),
        2 => HeaderChange::Remove(c.header_name()),
        3 => HeaderChange::Set(c.header_name(), c.header_value()),
        _ => HeaderChange::SetIfPresent(c.header_name(), c.header_value()),
    };
    HeaderChanges {
        request: c.list(3, change),
        response: c.list(2, change),
    }
}

fn path_rewrite(c: &mut Chance) -> PathRewrite {
    let to: Box<str> = c.one(&["/", "/new", "", "/back\\slash", "/$1"]).into();
    match c.below(4) {
        0 => PathRewrite::Full(to),
        1 => PathRewrite::Regex {
            pattern: RewritePattern::new(c.one(&["^.*$", "/a/(.*)", "a"])).unwrap(),
            to: c.one(&["/\\1", "\\\\", "x"]).into(),
        },
        _ => PathRewrite::Prefix {
            from: c.one(&["/", "/a", "/a/b", ""]).into(),
            to,
        },
    }
}

fn fault(c: &mut Chance) -> Fault {
    Fault {
        delay: c.option(|c| Delay {
            duration: match c.flag() {
                true => Amount::Fixed(c.duration()),
                false => Amount::Header,
            },
            share: c.fraction(),
        }),
        abort: c.option(|c| Abort {
            status: match c.below(3) {
                0 => Amount::Header,
                1 => Amount::Fixed(AbortStatus::Grpc(c.number())),
                _ => Amount::Fixed(AbortStatus::Http(StatusCode::from_u16(503).unwrap())),
            },
            share: c.fraction(),
        }),
        max_active: c.option(Chance::positive),
    }
}

fn retry_policy(c: &mut Chance) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            server_error: c.flag(),
            gateway_error: c.flag(),
            reset: c.flag(),
            reset_before_request: c.flag(),
            connect_failure: c.flag(),
            refused_stream: c.flag(),
            retriable_4xx: c.flag(),
            envoy_ratelimited: c.flag(),
            http3_post_connect_failure: c.flag(),
            statuses: c.list(2, |c| {
                StatusCode::from_u16(c.below(200) as u16 + 400).unwrap()
            }),
            headers: c.list(2, Chance::header_name),
            grpc: c.list(3, |c| *c.one(&[&1, &4, &8, &13, &14])),
        },
        retries: c.number(),
        per_try_timeout: c.option(Chance::duration),
        backoff: match c.below(4) {
            0 => Backoff::default(),
            1 => Backoff {
                base: Duration::ZERO,
                max: Duration::ZERO,
            },
            _ => Backoff {
                base: c.duration(),
                max: c.duration(),
            },
        },
        avoid_previous: c.flag(),
        hedge: c.option(|c| Hedge {
            delay: c.duration(),
            extra: c.positive(),
        }),
        leave_priorities: c.option(|c| NonZeroU32::MIN.saturating_add(c.below(5))),
    }
}

fn affinity(c: &mut Chance) -> Affinity {
    Affinity {
        hash: c.list(2, |c| HashPolicy {
            source: match c.below(5) {
                0 => HashSource::Cookie(HashCookie {
                    name: c.text(),
                    made: c.option(|c| MadeCookie {
                        max_age: NonZeroU64::new(u64::from(c.number())),
                        path: c.option(Chance::text),
                        attributes: c.list(2, |c| (c.text(), c.option(Chance::text))),
                    }),
                }),
                1 => HashSource::Header(c.header_name()),
                2 => HashSource::Query(c.text()),
                3 => HashSource::RewrittenHeader {
                    name: c.header_name(),
                    pattern: RewritePattern::new("a(.*)").unwrap(),
                    to: "\\1".into(),
                },
                _ => HashSource::Source,
            },
            terminal: c.flag(),
        }),
        session: c.option(|c| Session {
            key: match c.flag() {
                true => SessionKey::Header(c.header_name()),
                false => SessionKey::Cookie(SessionCookie {
                    cookie: c.text().into(),
                    path: c.option(Chance::text),
                    ttl: c.option(Chance::duration).unwrap_or_default(),
                }),
            },
            strict: c.flag(),
        }),
    }
}

fn destinations(c: &mut Chance) -> Destinations {
    if c.flag() {
        return Destinations::single(c.name());
    }
    let mut all = c.list(2, |c| Destination {
        cluster: c.name(),
        weight: c.below(1_000),
        headers: header_changes(c),
        authority_rewrite: c.option(Chance::authority),
        fault: match c.below(3) {
            0 => OwnFault::Nothing,
            1 => OwnFault::This(fault(c)),
            _ => OwnFault::AsRoute,
        },
    });
    all.push(Destination {
        cluster: c.name(),
        weight: c.below(3) + 1,
        headers: HeaderChanges::default(),
        authority_rewrite: None,
        fault: OwnFault::AsRoute,
    });
    Destinations::weighted(all).unwrap()
}

fn action(c: &mut Chance) -> Action {
    match c.below(8) {
        0 => Action::Direct(DirectResponse {
            status: StatusCode::from_u16(c.below(400) as u16 + 200).unwrap(),
            body: Bytes::copy_from_slice(c.one(&["", "hello"]).as_bytes()),
        }),
        1 => Action::Redirect(Redirect {
            status: StatusCode::from_u16(*c.one(&[&301, &302, &303, &307, &308])).unwrap(),
            scheme: c.option(|c| Scheme::try_from(c.one(&["http", "https", "other"])).unwrap()),
            host: c.option(Chance::text),
            port: match c.below(4) {
                0 => RedirectPort::Unchanged,
                1 => RedirectPort::FromRequest,
                2 => RedirectPort::FromScheme,
                _ => RedirectPort::Fixed(c.below(65_535) as u16 + 1),
            },
            path: c.option(path_rewrite),
        }),
        2 if c.below(4) == 0 => Action::Unknown,
        2 => Action::Serve,
        _ => Action::Forward(Box::new(Forward {
            destinations: destinations(c),
            timeout: c.option(Chance::duration),
            idle_timeout: c.option(Chance::duration),
            retry: c.option(retry_policy),
            path_rewrite: c.option(path_rewrite),
            authority_rewrite: c.option(Chance::authority),
            mirrors: c.list(2, |c| Mirror {
                cluster: c.name(),
                share: c.fraction(),
            }),
            affinity: affinity(c),
            upgrades: match c.below(3) {
                0 => Upgrades::none(),
                1 => Upgrades::of(["spdy/3.1", "CONNECT"]),
                _ => Upgrades::default(),
            },
        })),
    }
}

pub(super) fn route(c: &mut Chance) -> Route {
    let mut route = Route {
        name: c.text().as_ref().into(),
        matcher: route_matcher(c),
        action: action(c),
        headers: header_changes(c),
        fault: c.option(fault),
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: c.flag().then(|| "statistics".into()),
        origin: c.origin(),
    };
    // What a destination says that is what its route says too is not said.
    if let Action::Forward(forward) = &mut route.action {
        forward.destinations.map_faults(|own| match own {
            OwnFault::AsRoute => OwnFault::AsRoute,
            OwnFault::Nothing => own_fault(route.fault.as_ref(), None),
            OwnFault::This(fault) => own_fault(route.fault.as_ref(), Some(fault)),
        });
    }
    route
}

pub(super) fn route_configuration(c: &mut Chance, name: Arc<str>) -> RouteConfiguration {
    let count = c.below(3);
    let virtual_hosts = (0..count).map(|number| {
        let domains = match number {
            0 => vec![Domain::Any, Domain::Exact("a.example:80".into())],
            1 => vec![Domain::Suffix(".b.example".into())],
            _ => vec![Domain::Prefix("c.".into())],
        };
        Arc::new(VirtualHost {
            name: c.text().as_ref().into(),
            domains,
            routes: c.list(3, |c| Arc::new(route(c))),
            origin: c.origin(),
        })
    });
    RouteConfiguration {
        virtual_hosts: virtual_hosts.collect(),
        name,
        origin: Origin::built_in(),
    }
}

// === Clusters ===

fn balancing(c: &mut Chance) -> Balancing {
    let bound = c.option(|c| LoadBound::new(c.below(900) + 100).unwrap());
    match c.below(8) {
        0 => Balancing::LeastRequest,
        1 => Balancing::Maglev(match bound {
            Some(bound) => Maglev::new(251).unwrap().bounded(bound),
            None => Maglev::default(),
        }),
        2 => Balancing::PeakEwma(PeakEwma {
            default_latency: c.duration(),
            decay: c.duration(),
        }),
        3 => Balancing::Random,
        4 => Balancing::RingHash(match bound {
            Some(bound) => RingHash::new(1, c.below(99) + 1).unwrap().bounded(bound),
            None => RingHash::default(),
        }),
        5 => Balancing::RoundRobin,
        6 => Balancing::PickFirst(PickFirst { shuffle: c.flag() }),
        _ => Balancing::WeightedRoundRobin(WeightedRoundRobin {
            blackout: c.duration(),
            expiration: c.duration(),
            update: c.duration(),
            error_penalty: Ratio::new(f64::from(c.below(8)) / 4.0).unwrap(),
            out_of_band: c.flag().then(|| c.duration()),
            utilization: c
                .list(3, |c| match c.below(6) {
                    0 => ReportedMetric::Application,
                    1 => ReportedMetric::Cost(c.text()),
                    2 => ReportedMetric::Cpu,
                    3 => ReportedMetric::Memory,
                    4 => ReportedMetric::Named(c.text()),
                    _ => ReportedMetric::Utilization(c.text()),
                })
                .into(),
        }),
    }
}

fn spread(c: &mut Chance) -> Spread {
    Spread {
        localities: match c.flag() {
            true => LocalityWeights::InForce,
            false => LocalityWeights::Ignored,
        },
        overprovisioning: match c.flag() {
            true => Spread::default().overprovisioning,
            false => c.positive(),
        },
        slow_start: c.option(|c| SlowStart {
            window: c.duration(),
            minimum: c.percent(),
            aggression: Ratio::new(f64::from(c.below(8) + 1) / 4.0).unwrap(),
        }),
        subset: c.option(Chance::positive),
    }
}

fn connection(c: &mut Chance) -> Connection {
    if c.flag() {
        return Connection::default();
    }
    Connection {
        max_requests: c.option(Chance::positive),
        max_per_endpoint: c.option(Chance::positive),
        max_age: c.option(Chance::duration),
        idle_timeout: c.option(Chance::duration),
        max_concurrent_streams: c.option(Chance::positive),
        http2_keepalive: c.option(|c| Keepalive {
            interval: c.duration(),
            timeout: c.duration(),
        }),
        tcp_keepalive: c.option(|c| TcpKeepalive {
            probes: c.option(Chance::number),
            time: c.option(Chance::duration),
            interval: c.option(Chance::duration),
        }),
        proxy_protocol: c.option(|c| match c.flag() {
            true => ProxyProtocol::V1,
            false => ProxyProtocol::V2,
        }),
    }
}

fn limits(c: &mut Chance) -> Limits {
    Limits {
        connections: c.number(),
        pending: c.number(),
        requests: c.number(),
        retries: match c.below(3) {
            0 => RetryLimit::Budget,
            1 => RetryLimit::Concurrent(c.number()),
            _ => RetryLimit::Share {
                percent: c.percent(),
                minimum: c.number(),
                interval: c.duration(),
            },
        },
    }
}

fn outlier(c: &mut Chance) -> Outlier {
    Outlier {
        consecutive_5xx: c.option(Chance::positive),
        consecutive_gateway: c.option(Chance::positive),
        local_origin: c.option(|c| LocalOrigin {
            consecutive: c.option(Chance::positive),
        }),
        error_statuses: c.list(2, |c| c.below(500) as u16),
        success_rate: c.option(|c| SuccessRate {
            stdev_factor: c.number(),
            enforcing: c.percent(),
            minimum_hosts: c.number(),
            request_volume: c.number(),
        }),
        failure_percentage: c.option(|c| FailurePercentage {
            threshold: c.percent(),
            enforcing: c.percent(),
            minimum_hosts: c.number(),
            request_volume: c.number(),
        }),
        interval: c.duration(),
        base_ejection_time: c.duration(),
        max_ejection_time: c.duration(),
        max_ejection: c.percent(),
        always_eject_one: c.flag(),
    }
}

fn health_check(c: &mut Chance) -> HealthCheck {
    let status = |c: &mut Chance| StatusCode::from_u16(c.below(499) as u16 + 100).unwrap();
    let headers = |c: &mut Chance| c.list(2, |c| (c.header_name(), c.header_value()));
    let ranges = |c: &mut Chance| {
        c.list(2, |c| {
            let (one, other) = (status(c), status(c));
            (one.min(other), one.max(other))
        })
    };
    HealthCheck {
        question: match c.below(3) {
            0 => Question::Grpc(GrpcQuestion {
                service: c.text(),
                authority: c.option(Chance::authority),
                metadata: headers(c),
            }),
            1 => Question::Http(HttpQuestion {
                path: PathAndQuery::from_static("/healthz?full=1"),
                host: c.option(Chance::authority),
                method: c
                    .one(&[&Method::GET, &Method::HEAD, &Method::PATCH])
                    .clone(),
                headers: headers(c),
                expected: ranges(c),
                retriable: ranges(c),
                protocol: match c.flag() {
                    true => Protocol::Http1,
                    false => Protocol::Http2,
                },
            }),
            _ => Question::Tcp(TcpQuestion {
                send: Bytes::copy_from_slice(c.text().as_bytes()),
                receive: c.list(2, |c| Bytes::copy_from_slice(c.text().as_bytes())),
            }),
        },
        timeout: c.duration(),
        interval: c.duration(),
        unhealthy_interval: c.option(Chance::duration),
        healthy_edge_interval: c.option(Chance::duration),
        unhealthy_edge_interval: c.option(Chance::duration),
        no_traffic_interval: c.option(Chance::duration),
        jitter: c.duration(),
        initial_jitter: c.duration(),
        healthy_threshold: c.positive(),
        unhealthy_threshold: c.positive(),
        reuse_connection: c.flag(),
    }
}

fn material(c: &mut Chance) -> Material {
    let path = |c: &mut Chance| {
        c.option(|c| Arc::from(Path::new(c.one(&["/etc/tls.crt", "/run/mesh/ca.pem"]))))
    };
    match c.below(4) {
        0 => Material::Files(Files {
            certificate: path(c),
            key: path(c),
            roots: path(c),
            revocations: path(c),
        }),
        1 => Material::Named("default".into()),
        2 => Material::System,
        _ => Material::Mesh,
    }
}

fn client_tls(c: &mut Chance) -> ClientTls {
    ClientTls {
        identity: c.option(material),
        trust: material(c),
        verification: match c.below(4) {
            0 => Verification::Chain,
            1 => Verification::Name,
            2 => Verification::Nothing,
            _ => Verification::Svid,
        },
        names: c.list(2, string_matcher),
        sni: match c.below(3) {
            0 => Sni::Endpoint,
            1 => Sni::Name("catalog.my-app.svc.cluster.local".into()),
            _ => Sni::Nobody,
        },
        alpn: match c.flag() {
            true => Alpn::Http,
            false => Alpn::Istio,
        },
    }
}

pub(super) fn cluster(c: &mut Chance, name: Arc<str>) -> Cluster {
    let mut cluster = any_cluster(c, name);
    if let Discovery::Aggregate(_) = cluster.discovery {
        // Its members have these.
        (cluster.balancing, cluster.spread) = (Balancing::default(), Spread::default());
    }
    cluster
}

fn any_cluster(c: &mut Chance, name: Arc<str>) -> Cluster {
    Cluster {
        discovery: match c.below(6) {
            3 => Discovery::Aggregate(vec![c.name(), c.name()]),
            0 => Discovery::Dns(Dns {
                endpoints: name.clone(),
                lookup: match c.flag() {
                    true => Lookup::Each,
                    false => Lookup::One,
                },
                families: match c.below(4) {
                    0 => Families::Both,
                    1 => Families::V4,
                    2 => Families::V6,
                    _ => Families::PreferV4,
                },
                refresh: c.duration(),
            }),
            1 => Discovery::OnDemand {
                port: c.below(65_536) as u16,
            },
            2 => Discovery::Passthrough,
            _ => Discovery::Endpoints(name.clone()),
        },
        name,
        balancing: balancing(c),
        spread: spread(c),
        panic_threshold: c.percent(),
        connect_timeout: c.duration(),
        protocol: match c.below(3) {
            0 => Protocol::Http1,
            1 => Protocol::Http2,
            _ => Protocol::SameAsRequest,
        },
        connection: connection(c),
        limits: limits(c),
        outlier: c.option(|c| outlier(c).into()),
        health_check: c.option(health_check).map(Arc::new),
        load_metrics: c.list(2, |c| match c.below(5) {
            0 => LoadMetric::AllNamed,
            1 => LoadMetric::Application,
            2 => LoadMetric::Cpu,
            3 => LoadMetric::Memory,
            _ => LoadMetric::Named(c.text()),
        }),
        security: match c.below(4) {
            0 => Security::Tls(Arc::new(client_tls(c))),
            1 => Security::Automatic(Arc::new(client_tls(c))),
            _ => Security::Plaintext,
        },
        origin: c.origin(),
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
