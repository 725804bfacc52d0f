//! From the policies of a DestinationRule to the settings of one cluster.
//!
//! Each block is decided as a whole, never field by field: the host's block, replaced by that of
//! the port (where *all* four blocks are replaced, so that a block which the port does not have
//! goes back to its default), replaced by the subset's where it has one, replaced by that of the
//! subset's port, again all four.

use std::num::NonZeroU32;
use std::time::Duration;

use super::affinity;
use crate::model::balancing::{Ratio, SlowStart, Spread};
use crate::model::cluster::{
    Balancing, Cluster, Connection, Discovery, Keepalive, Protocol, ProxyProtocol, TcpKeepalive,
};
use crate::model::limit::{Limits, RetryLimit};
use crate::model::outlier::{LocalOrigin, Outlier};
use crate::model::security::Security;
use crate::model::{Origin, Percent};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::kinds::{
    self, ClientTls, ConnectionPool, GoDuration, H2UpgradePolicy, HttpPool, LoadBalancer,
    OutlierDetection, PortTrafficPolicy, ProxyProtocolVersion, RetryBudget, SimpleBalancer,
    TcpPool, TrafficPolicy, Warmup,
};
use crate::source::istio::registry::PortProtocol;
use crate::source::istio::yaml::Located;

/// MeshConfig's `connectTimeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Envoy's longest ejection, unless the first is longer.
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);
/// Envoy's panic threshold, where nobody ejects.
const PANIC: u32 = 50;
/// Envoy's retry budget, where the block does not say it.
const BUDGET: (f64, u32) = (20.0, 3);

/// How many endpoints of a small cluster may be ejected.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Ejection {
    /// At least one, if there are two or more (gRPC A50): an example with three replicas works.
    #[default]
    AtLeastOne,
    /// As many as `maxEjectionPercent` allows when rounded down (Envoy's rule under Istio): with
    /// the default of 10 % a cluster of fewer than ten endpoints never ejects any.
    Envoy,
}

/// The blocks that are in force for one cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks<'a> {
    pub(super) balancer: Option<&'a Located<LoadBalancer>>,
    pub(super) pool: Option<&'a Located<ConnectionPool>>,
    pub(super) outlier: Option<&'a Located<OutlierDetection>>,
    pub(super) budget: Option<&'a Located<RetryBudget>>,
    pub(super) proxy: Option<&'a Located<kinds::ProxyProtocol>>,
    pub(super) tls: Option<&'a Located<ClientTls>>,
}

impl<'a> Blocks<'a> {
    /// The blocks of a port: those of the mesh, the host and the subset, each over the one before.
    pub(super) fn of(policies: [Option<&'a Located<TrafficPolicy>>; 3], port: u16) -> Self {
        let mut blocks = Self::default();
        for policy in policies.into_iter().flatten() {
            blocks = blocks.overridden(policy, port);
        }
        blocks
    }

    fn overridden(self, policy: &'a TrafficPolicy, port: u16) -> Self {
        let blocks = Self {
            balancer: policy.load_balancer.as_ref().or(self.balancer),
            pool: policy.connection_pool.as_ref().or(self.pool),
            outlier: policy.outlier_detection.as_ref().or(self.outlier),
            budget: policy.retry_budget.as_ref().or(self.budget),
            proxy: policy.proxy_protocol.as_ref().or(self.proxy),
            tls: policy.tls.as_ref().or(self.tls),
        };
        let of_port = policy.port_level_settings.iter().find(|entry| {
            let selector = entry.port.as_ref();
            selector.is_some_and(|selector| selector.number == port)
        });
        match of_port {
            None => blocks,
            Some(entry) => {
                let PortTrafficPolicy {
                    port: _,
                    load_balancer,
                    connection_pool,
                    outlier_detection,
                    tls,
                } = &entry.value;
                Self {
                    balancer: load_balancer.as_ref(),
                    pool: connection_pool.as_ref(),
                    outlier: outlier_detection.as_ref(),
                    budget: blocks.budget,
                    proxy: blocks.proxy,
                    tls: tls.as_ref(),
                }
            }
        }
    }

    /// Puts in what the mesh says where the blocks say nothing.
    pub(super) fn complete(&self, cluster: &mut Cluster, mesh: Defaults<'_>, port: PortProtocol) {
        let http = self.pool.and_then(|pool| pool.http.as_ref());
        let tcp = self.pool.and_then(|pool| pool.tcp.as_ref());
        if tcp.and_then(|tcp| positive(tcp.connect_timeout)).is_none() {
            cluster.connect_timeout = mesh.connect_timeout();
        }
        let upgrade = http.and_then(|http| http.h2_upgrade_policy);
        let unsaid = matches!(upgrade, None | Some(H2UpgradePolicy::Default));
        let client = http.is_some_and(|http| http.use_client_protocol == Some(true));
        if mesh.upgrades() && unsaid && !client && port == PortProtocol::Http {
            cluster.protocol = Protocol::Http2;
        }
    }

    /// The cluster with these settings.
    pub(super) fn cluster(
        &self,
        name: std::sync::Arc<str>,
        protocol: PortProtocol,
        ejection: Ejection,
        origin: Origin,
    ) -> Cluster {
        let http = self.pool.and_then(|pool| pool.http.as_ref());
        let tcp = self.pool.and_then(|pool| pool.tcp.as_ref());
        let passthrough = matches!(
            self.balancer.and_then(|balancer| balancer.simple),
            Some(SimpleBalancer::Passthrough)
        );
        Cluster {
            discovery: if passthrough {
                Discovery::Passthrough
            } else {
                Discovery::Endpoints(name.clone())
            },
            name,
            balancing: balancing(self.balancer),
            spread: Spread {
                slow_start: self.balancer.and_then(|block| slow_start(block)),
                ..Spread::default()
            },
            panic_threshold: panic_threshold(self.outlier),
            connect_timeout: tcp
                .and_then(|tcp| positive(tcp.connect_timeout))
                .unwrap_or(CONNECT_TIMEOUT),
            protocol: spoken(protocol, http),
            // What secures it is known only with its members.
            security: Security::Plaintext,
            connection: Connection {
                proxy_protocol: self.proxy.map(|block| version(block)),
                ..connection(tcp, http)
            },
            limits: limits(tcp, http, self.budget),
            outlier: self.outlier.map(|block| outlier(block, ejection).into()),
            // No kind of Istio asks for them.
            health_check: None,
            load_metrics: Vec::new(),
            origin,
        }
    }
}

fn balancing(block: Option<&Located<LoadBalancer>>) -> Balancing {
    if let Some(hash) = block.and_then(|block| block.consistent_hash.as_ref()) {
        return affinity::balancing(hash);
    }
    match block.and_then(|block| block.simple) {
        None
        | Some(
            SimpleBalancer::Unspecified
            | SimpleBalancer::LeastConn
            | SimpleBalancer::LeastRequest
            | SimpleBalancer::Passthrough,
        ) => Balancing::LeastRequest,
        Some(SimpleBalancer::Random) => Balancing::Random,
        Some(SimpleBalancer::RoundRobin) => Balancing::RoundRobin,
    }
}

/// `warmup`, or its deprecated form.
fn slow_start(block: &LoadBalancer) -> Option<SlowStart> {
    let Some(warmup) = &block.warmup else {
        return positive(block.warmup_duration_secs).map(SlowStart::over);
    };
    let Warmup {
        duration,
        minimum_percent,
        aggression,
    } = &warmup.value;
    let standard = SlowStart::over(positive(*duration)?);
    Some(SlowStart {
        minimum: minimum_percent.map_or(standard.minimum, share),
        aggression: aggression
            .and_then(Ratio::new)
            .unwrap_or(standard.aggression),
        ..standard
    })
}

/// Istio turns panic off where somebody ejects, unless `minHealthPercent` is said.
fn panic_threshold(block: Option<&Located<OutlierDetection>>) -> Percent {
    let percent = block.map_or(PANIC, |block| block.min_health_percent.unwrap_or(0));
    Percent::new(percent.min(100)).unwrap_or(Percent::HUNDRED)
}

/// The protocol of the port; `UPGRADE` makes HTTP/2 of any, since who writes it knows that the port
/// speaks HTTP.
fn spoken(port: PortProtocol, http: Option<&HttpPool>) -> Protocol {
    let upgrade = http.and_then(|http| http.h2_upgrade_policy);
    if http.is_some_and(|http| http.use_client_protocol == Some(true)) {
        return Protocol::SameAsRequest;
    }
    match (upgrade, port) {
        (Some(H2UpgradePolicy::Upgrade), _) | (_, PortProtocol::Http2) => Protocol::Http2,
        (_, PortProtocol::Http) => Protocol::Http1,
        (_, PortProtocol::Tcp | PortProtocol::Udp | PortProtocol::Unknown) => {
            Protocol::SameAsRequest
        }
    }
}

fn connection(tcp: Option<&TcpPool>, http: Option<&HttpPool>) -> Connection {
    let standard = Connection::default();
    Connection {
        max_requests: http.and_then(|http| count(http.max_requests_per_connection)),
        max_age: tcp.and_then(|tcp| positive(tcp.max_connection_duration)),
        idle_timeout: match http
            .and_then(|http| http.idle_timeout)
            .or_else(|| tcp.and_then(|tcp| tcp.idle_timeout))
        {
            None => standard.idle_timeout,
            Some(limit) => positive(Some(limit)),
        },
        max_concurrent_streams: http.and_then(|http| count(http.max_concurrent_streams)),
        http2_keepalive: match http.and_then(|http| http.http2_keepalive.as_ref()) {
            None => standard.http2_keepalive,
            Some(block) => Some(Keepalive {
                interval: positive(block.interval)
                    .unwrap_or(Connection::DEFAULT_KEEPALIVE.interval),
                timeout: positive(block.timeout).unwrap_or(Connection::DEFAULT_KEEPALIVE.timeout),
            }),
        },
        max_per_endpoint: None,
        proxy_protocol: None,
        tcp_keepalive: tcp
            .and_then(|tcp| tcp.tcp_keepalive.as_ref())
            .map(|block| TcpKeepalive {
                probes: block.probes,
                time: positive(block.time),
                interval: positive(block.interval),
            }),
    }
}

/// Version 1 unless 2 is said, as in istiod.
fn version(block: &kinds::ProxyProtocol) -> ProxyProtocol {
    match block.version {
        Some(ProxyProtocolVersion::V2) => ProxyProtocol::V2,
        Some(ProxyProtocolVersion::V1) | None => ProxyProtocol::V1,
    }
}

/// Zero is "not said" for every limit, as in istiod.
fn limits(
    tcp: Option<&TcpPool>,
    http: Option<&HttpPool>,
    budget: Option<&Located<RetryBudget>>,
) -> Limits {
    let or_none = |limit: Option<u32>| limit.filter(|limit| *limit > 0).unwrap_or(u32::MAX);
    let retries = match (budget, http.and_then(|http| count(http.max_retries))) {
        (Some(budget), _) => RetryLimit::Share {
            percent: share(budget.percent.unwrap_or(BUDGET.0)),
            minimum: budget.min_retry_concurrency.unwrap_or(BUDGET.1),
            interval: budget
                .budget_interval
                .map(Duration::from)
                .unwrap_or_default(),
        },
        (None, Some(most)) => RetryLimit::Concurrent(most.get()),
        (None, None) => RetryLimit::Budget,
    };
    Limits {
        connections: or_none(tcp.and_then(|tcp| tcp.max_connections)),
        pending: or_none(http.and_then(|http| http.http1_max_pending_requests)),
        requests: or_none(http.and_then(|http| http.http2_max_requests)),
        retries,
    }
}

/// A whole percentage; `lint` warns of digits that are lost.
fn share(percent: f64) -> Percent {
    // The cast saturates, and is exact for what is left after rounding and clamping.
    Percent::new(percent.clamp(0.0, 100.0).round() as u32).unwrap_or(Percent::HUNDRED)
}

fn outlier(block: &OutlierDetection, ejection: Ejection) -> Outlier {
    let standard = Outlier::default();
    let OutlierDetection {
        // Not translated by istiod any more; reading warns of it.
        consecutive_errors: _,
        split_external_local_origin_errors: split,
        consecutive_local_origin_failures,
        consecutive_gateway_errors,
        consecutive_5xx_errors,
        interval,
        base_ejection_time,
        max_ejection_percent,
        // It is a property of the cluster: see `panic_threshold`.
        min_health_percent: _,
        outlier_detection_http_error_codes,
    } = block;
    let base_ejection_time = positive(*base_ejection_time).unwrap_or(standard.base_ejection_time);
    Outlier {
        consecutive_5xx: match consecutive_5xx_errors {
            None => standard.consecutive_5xx,
            Some(errors) => NonZeroU32::new(*errors),
        },
        consecutive_gateway: consecutive_gateway_errors.and_then(NonZeroU32::new),
        local_origin: split.then(|| LocalOrigin {
            consecutive: count(*consecutive_local_origin_failures).or(standard.consecutive_5xx),
        }),
        error_statuses: outlier_detection_http_error_codes.clone(),
        success_rate: None,
        failure_percentage: None,
        interval: positive(*interval).unwrap_or(standard.interval),
        base_ejection_time,
        max_ejection_time: MAX_EJECTION_TIME.max(base_ejection_time),
        max_ejection: max_ejection_percent
            .filter(|percent| *percent > 0)
            .and_then(|percent| Percent::new(percent).ok())
            .unwrap_or(standard.max_ejection),
        always_eject_one: match ejection {
            Ejection::AtLeastOne => true,
            Ejection::Envoy => false,
        },
    }
}

fn count(number: Option<u32>) -> Option<NonZeroU32> {
    number.and_then(NonZeroU32::new)
}

fn positive(duration: Option<GoDuration>) -> Option<Duration> {
    duration
        .map(Duration::from)
        .filter(|duration| !duration.is_zero())
}
