//! A cluster: a set of endpoints that serve the same thing, and how to treat them.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::balancing::{Maglev, PeakEwma, PickFirst, RingHash, Spread, WeightedRoundRobin};
use super::health::HealthCheck;
use super::limit::Limits;
use super::outlier::Outlier;
use super::security::Security;
use super::{Origin, Percent};

/// A cluster without its endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// The name that routes use, such as `outbound|80|v1|catalog.my-app.svc.cluster.local`.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How one of them is picked.
    pub balancing: Balancing,
    /// How requests are spread over priorities and localities before that.
    pub spread: Spread,
    /// The share of healthy endpoints below which health is ignored; 0 turns panic off.
    pub panic_threshold: Percent,
    /// How long connecting may take. Istio's default is 10 s.
    pub connect_timeout: Duration,
    /// Which protocol is spoken.
    pub protocol: Protocol,
    /// How connections are secured.
    pub security: Security,
    /// How connections are kept.
    pub connection: Connection,
    /// How much may be under way at once.
    pub limits: Limits,
    /// When an endpoint is ejected; `None`: never. Shared with the detector that acts by it.
    pub outlier: Option<Arc<Outlier>>,
    /// What endpoints are asked; `None`: nothing, and the registry alone says who is healthy. Not for
    /// clusters whose endpoint is the host of the request.
    pub health_check: Option<Arc<HealthCheck>>,
    /// What of its endpoints' own reports (ORCA) stands in the reports of its load to a control plane
    /// (xDS's `lrs_report_endpoint_metrics`, gRPC A85). Default: nothing.
    pub load_metrics: Vec<LoadMetric>,
    /// Who wrote it.
    pub origin: Origin,
}

/// A metric that endpoints report with their responses.
///
/// ```
/// use meshwork::model::cluster::LoadMetric;
///
/// let metric = LoadMetric::parse("named_metrics.queue").unwrap();
/// assert_eq!(metric, LoadMetric::Named("queue".into()));
/// assert_eq!(metric.to_string(), "named_metrics.queue");
/// assert!(LoadMetric::parse("queue").is_none());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LoadMetric {
    /// All that have a name of the application's.
    AllNamed,
    /// `application_utilization`.
    Application,
    /// `cpu_utilization`.
    Cpu,
    /// `mem_utilization`.
    Memory,
    /// The one with this name among those of the application.
    Named(Box<str>),
}

impl LoadMetric {
    /// The words of xDS; `None` for others, which gRPC leaves alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "application_utilization" => Self::Application,
            "cpu_utilization" => Self::Cpu,
            "mem_utilization" => Self::Memory,
            "named_metrics.*" => Self::AllNamed,
            other => Self::Named(other.strip_prefix("named_metrics.")?.into()),
        })
    }
}

impl fmt::Display for LoadMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllNamed => f.write_str("named_metrics.*"),
            Self::Application => f.write_str("application_utilization"),
            Self::Cpu => f.write_str("cpu_utilization"),
            Self::Memory => f.write_str("mem_utilization"),
            Self::Named(name) => write!(f, "named_metrics.{name}"),
        }
    }
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Discovery {
    /// The endpoints of these clusters, of the first that has one that is admitted (Envoy's
    /// aggregate, gRFC A37). Each member balances, limits and secures as it says itself; the
    /// aggregate's own policies have no effect. Aggregates may be members, 16 deep.
    Aggregate(Vec<Arc<str>>),
    /// An [`Endpoints`](super::Endpoints) resource of this name.
    Endpoints(Arc<str>),
    /// An [`Endpoints`](super::Endpoints) resource in which addresses may be names, which DNS
    /// resolves (Envoy's `STRICT_DNS` and `LOGICAL_DNS`).
    Dns(Dns),
    /// The host of the request itself, at this port: the host is resolved when it is first asked
    /// for (Istio's `resolution: NONE` and `DYNAMIC_DNS`).
    OnDemand {
        /// The port that is connected to.
        port: u16,
    },
    /// The authority of the request itself is where it goes (Envoy's `ORIGINAL_DST`, Istio's
    /// `PassthroughCluster`).
    Passthrough,
}

impl Discovery {
    /// The name of the [`Endpoints`](super::Endpoints) resource, if they come from one.
    #[must_use]
    pub fn endpoints(&self) -> Option<&Arc<str>> {
        match self {
            Self::Endpoints(name) => Some(name),
            Self::Dns(dns) => Some(&dns.endpoints),
            Self::Aggregate(_) | Self::OnDemand { .. } | Self::Passthrough => None,
        }
    }
}

/// A cluster whose members' addresses may be names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Dns {
    /// The [`Endpoints`](super::Endpoints) resource. IP addresses and Unix sockets in it are used
    /// as they are. A name of the form `_service._proto.name` is looked up as SRV, whose ports and
    /// priorities then count.
    pub endpoints: Arc<str>,
    /// What the addresses of a name are.
    pub lookup: Lookup,
    /// Which addresses of a name are used.
    pub families: Families,
    /// How long an answer is used whose resolver tells no TTL, and the longest pause between two
    /// questions while they fail; from 5 s to 1 h count. Istio's `dnsRefreshRate`, 60 s.
    pub refresh: Duration,
}

/// What the addresses of a name are to the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Lookup {
    /// Each is an endpoint (`STRICT_DNS`). Of a host with both families one of each is a pair, which is
    /// one endpoint (RFC 8305, gRFC A61).
    Each,
    /// All together are one endpoint; each new connection goes to the next (`LOGICAL_DNS`).
    One,
}

/// Which addresses of a name are used (Envoy's `dns_lookup_family`). A name that has none of them has no
/// address.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Families {
    /// All of them (`AUTO`, `ALL`).
    #[default]
    Both,
    /// Those of IPv4 (`V4_ONLY`).
    V4,
    /// Those of IPv6 (`V6_ONLY`).
    V6,
    /// Those of IPv4, and those of IPv6 of a name that has no other (`V4_PREFERRED`).
    PreferV4,
}

impl Families {
    /// Those of the addresses of one name that are used.
    pub(crate) fn of<T>(self, mut all: Vec<T>, address: impl Fn(&T) -> IpAddr) -> Vec<T> {
        let four = all.iter().any(|one| address(one).is_ipv4());
        all.retain(|one| match self {
            Self::Both => true,
            Self::V4 => address(one).is_ipv4(),
            Self::V6 => address(one).is_ipv6(),
            Self::PreferV4 => address(one).is_ipv4() || !four,
        });
        all
    }
}

/// How an endpoint is picked.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Balancing {
    /// The less busy of two drawn at random (Envoy's LEAST_REQUEST with two choices).
    #[default]
    LeastRequest,
    /// The same for the same key, by a table.
    Maglev(Maglev),
    /// The less costly of two drawn at random, by latency and load.
    PeakEwma(PeakEwma),
    /// The same for all requests: the first that can be connected to.
    PickFirst(PickFirst),
    /// Any, by weight.
    Random,
    /// The same for the same key, by a ring.
    RingHash(RingHash),
    /// One after the other, by weight.
    RoundRobin,
    /// One after the other, by the weights that endpoints report.
    WeightedRoundRobin(WeightedRoundRobin),
}

/// Which protocol is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1; a request made as HTTP/2 is sent as HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (h2c) or by ALPN.
    Http2,
    /// What the request was made as: HTTP/2 for gRPC and HTTP/2 requests, otherwise HTTP/1.1.
    SameAsRequest,
}

/// How connections to an endpoint are kept.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Connection {
    /// How many requests a connection carries before it is replaced; `None`: any number.
    pub max_requests: Option<NonZeroU32>,
    /// How many connections of each version of HTTP there may be to one endpoint (Envoy's
    /// `per_host_thresholds.max_connections`, gRPC A105); requests beyond them wait. Those that take no
    /// more requests do not count. `None`: as many as the requests need.
    pub max_per_endpoint: Option<NonZeroU32>,
    /// How old a connection may grow; requests under way finish. `None`: any age.
    pub max_age: Option<Duration>,
    /// How long a connection may be without a request; `None`: for ever. Istio's default is 1 h.
    pub idle_timeout: Option<Duration>,
    /// How many streams an HTTP/2 connection carries at once, if the peer allows more.
    pub max_concurrent_streams: Option<NonZeroU32>,
    /// HTTP/2 PINGs that find out whether the peer is still there.
    pub http2_keepalive: Option<Keepalive>,
    /// TCP keepalive; `None`: the system's default.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The PROXY protocol's header that each connection begins with.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Versions of the PROXY protocol, by which a server learns from whom a connection is when there is
/// a load balancer between. What is told are the two ends of this connection; of one that has no
/// addresses (a Unix socket) nothing is told.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProxyProtocol {
    /// As a line of text.
    V1,
    /// As bytes.
    V2,
}

impl Connection {
    /// How long an unanswered HTTP/2 PING, or unacknowledged bytes, may stay so.
    pub const DEFAULT_KEEPALIVE: Keepalive = Keepalive {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
    };
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            max_requests: None,
            max_per_endpoint: None,
            max_age: None,
            idle_timeout: Some(Duration::from_secs(3_600)),
            max_concurrent_streams: None,
            http2_keepalive: Some(Self::DEFAULT_KEEPALIVE),
            tcp_keepalive: None,
            proxy_protocol: None,
        }
    }
}

/// HTTP/2 PINGs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Keepalive {
    /// How long nothing may arrive before a PING is sent.
    pub interval: Duration,
    /// How long its answer may take before the connection is given up.
    pub timeout: Duration,
}

/// TCP keepalive probes; `None` leaves the system's default.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TcpKeepalive {
    /// How many unanswered probes end the connection.
    pub probes: Option<u32>,
    /// How long the connection is idle before the first probe.
    pub time: Option<Duration>,
    /// How long between probes.
    pub interval: Option<Duration>,
}
