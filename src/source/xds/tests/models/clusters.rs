//! Clusters by chance.

use super::routes::string_matcher;
use super::*;

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

pub(super) fn limits(c: &mut Chance) -> Limits {
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
        verification: match c.below(5) {
            0 => Verification::Chain,
            1 => Verification::Name,
            2 => Verification::NameOr,
            3 => Verification::Nothing,
            _ => Verification::Svid,
        },
        names: c.list(2, string_matcher),
        sni: match c.below(4) {
            0 => Sni::Endpoint,
            1 => Sni::EndpointOr("catalog.example".into()),
            2 => Sni::Name("catalog.my-app.svc.cluster.local".into()),
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
