//! Questions that a client asks endpoints on its own account (Envoy's `health_checks`).

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::cluster::Protocol;

/// What each endpoint of a cluster is asked, and how often.
///
/// Fields and defaults are those of Envoy's `core.v3.HealthCheck`. Durations below 1 ms or above
/// 24 h count as these bounds; jitters may be zero.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HealthCheck {
    /// What is asked.
    pub question: Question,
    /// How long an answer may take (`timeout`).
    pub timeout: Duration,
    /// From the end of a check to the next while the endpoint is healthy (`interval`).
    pub interval: Duration,
    /// The same while it is unhealthy (`unhealthy_interval`); `None`: `interval`.
    pub unhealthy_interval: Option<Duration>,
    /// The interval after the check that made it healthy (`healthy_edge_interval`); `None`:
    /// `interval`.
    pub healthy_edge_interval: Option<Duration>,
    /// The interval after the check that made it unhealthy (`unhealthy_edge_interval`); `None`:
    /// `unhealthy_interval`.
    pub unhealthy_edge_interval: Option<Duration>,
    /// The interval of a cluster that no request was sent to yet (`no_traffic_interval`); `None`:
    /// as if there were some. Envoy's default is 60 s.
    pub no_traffic_interval: Option<Duration>,
    /// Up to so much is added to each interval (`interval_jitter`).
    pub jitter: Duration,
    /// Up to so much is waited before the first check (`initial_jitter`).
    pub initial_jitter: Duration,
    /// Passes in a row that make an unhealthy endpoint healthy; the very first check needs one.
    pub healthy_threshold: NonZeroU32,
    /// Checks in a row without an answer that make a healthy endpoint unhealthy.
    pub unhealthy_threshold: NonZeroU32,
    /// Whether one connection serves all checks of an endpoint (`reuse_connection`, Envoy's default).
    pub reuse_connection: bool,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Question {
    /// `grpc.health.v1.Health/Check` (`grpc_health_check`).
    Grpc(GrpcQuestion),
    /// An HTTP request (`http_health_check`).
    Http(HttpQuestion),
    /// A connection, and bytes on it (`tcp_health_check`).
    Tcp(TcpQuestion),
}

/// Whether a gRPC service serves.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct GrpcQuestion {
    /// The service's full name; empty: the server as a whole (`service_name`).
    pub service: Box<str>,
    /// The `:authority` of the question; `None`: the cluster's name, or the endpoint's address where
    /// that is no authority.
    pub authority: Option<Authority>,
    /// Further headers (`initial_metadata`).
    pub metadata: Vec<(HeaderName, HeaderValue)>,
}

/// What an HTTP server answers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HttpQuestion {
    /// The path (`path`).
    pub path: PathAndQuery,
    /// The host; `None`: the cluster's name, or the endpoint's address where that is no authority.
    pub host: Option<Authority>,
    /// The method (`method`); Envoy's default is GET.
    pub method: Method,
    /// Headers that are added (`request_headers_to_add`), after `user-agent: meshwork/HC`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The statuses that are healthy, both ends included; empty: 200 alone.
    pub expected: Vec<(StatusCode, StatusCode)>,
    /// The statuses that count as no answer, both ends included.
    pub retriable: Vec<(StatusCode, StatusCode)>,
    /// Which version of HTTP is spoken (`codec_client_type`); [`Protocol::SameAsRequest`] is HTTP/1.1.
    pub protocol: Protocol,
}

impl HttpQuestion {
    /// GET `path` over HTTP/1.1, of which 200 is the good answer.
    ///
    /// ```
    /// use http::uri::PathAndQuery;
    /// use meshwork::model::health::HttpQuestion;
    ///
    /// let question = HttpQuestion::get(PathAndQuery::from_static("/healthz"));
    /// assert!(question.expected.is_empty());
    /// ```
    #[must_use]
    pub const fn get(path: PathAndQuery) -> Self {
        Self {
            path,
            host: None,
            method: Method::GET,
            headers: Vec::new(),
            expected: Vec::new(),
            retriable: Vec::new(),
            protocol: Protocol::Http1,
        }
    }
}

/// Whether a server can be connected to, and what it says.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TcpQuestion {
    /// Bytes that are sent; empty: none (`send`).
    pub send: Bytes,
    /// Pieces that have to be in what the server says, in this order, with anything between them
    /// (`receive`); without any a connection is enough.
    pub receive: Vec<Bytes>,
}

impl HealthCheck {
    /// This question with Envoy's usual numbers: every 10 s, 5 s for an answer, two passes, three
    /// misses, a second of jitter, one connection.
    ///
    /// ```
    /// use http::uri::PathAndQuery;
    /// use meshwork::model::health::{HealthCheck, HttpQuestion, Question};
    ///
    /// let question = HttpQuestion::get(PathAndQuery::from_static("/healthz"));
    /// let check = HealthCheck::new(Question::Http(question));
    /// assert_eq!(check.interval.as_secs(), 10);
    /// ```
    #[must_use]
    pub const fn new(question: Question) -> Self {
        Self {
            question,
            timeout: Duration::from_secs(5),
            interval: Duration::from_secs(10),
            unhealthy_interval: None,
            healthy_edge_interval: None,
            unhealthy_edge_interval: None,
            no_traffic_interval: None,
            jitter: Duration::from_secs(1),
            initial_jitter: Duration::ZERO,
            healthy_threshold: NonZeroU32::MIN.saturating_add(1),
            unhealthy_threshold: NonZeroU32::MIN.saturating_add(2),
            reuse_connection: true,
        }
    }
}
