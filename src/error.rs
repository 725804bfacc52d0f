//! The one public error: what went wrong with a request or a configuration.
//!
//! [`Error`] is opaque and one word wide. It answers questions ([`is_timeout`](Error::is_timeout),
//! [`is_overloaded`](Error::is_overloaded), ...) instead of exposing its variants, so that new
//! causes can be told apart later without breaking anybody. `Display` prints this level only:
//! what failed, at which cluster and endpoint, and what to do where that is known; the cause is
//! under [`source`](std::error::Error::source).
//!
//! Each failure of a request carries the response [`Flag`] that Envoy's access log would show,
//! because that is what operators grep for.

mod flag;
mod grpc;
mod refusal;
mod text;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

pub use flag::Flag;
#[cfg(any(feature = "outbound", feature = "yaml"))]
pub(crate) use grpc::GRPC_STATUSES;
pub(crate) use grpc::grpc_of_http;
pub use refusal::Refusal;

/// Any error, erased: what bodies and connectors of other crates return.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong with a request, or why a mesh could not start.
///
/// `Send + Sync + 'static`, so a call compiles inside `tokio::spawn`.
///
/// ```
/// # fn handle(error: meshwork::Error) -> http::StatusCode {
/// if error.is_timeout() {
///     eprintln!("gave up: {error} ({})", error.flag().map_or("-", |flag| flag.code()));
/// }
/// error.status()
/// # }
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    place: Place,
    attempts: u32,
    cause: Option<BoxError>,
}

/// Where a request was when it failed.
#[derive(Clone, Debug, Default)]
struct Place {
    cluster: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
}

/// What happened. Private: users ask [`Error`]'s predicates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) enum Kind {
    /// The message body of the peer or of the caller broke off.
    Body,
    /// No virtual host or route matches.
    NoRoute { authority: Arc<str> },
    /// The host is not in the registry and `REGISTRY_ONLY` forbids to pass it through.
    Blocked { authority: Arc<str> },
    /// The route names a cluster that does not exist.
    NoCluster,
    /// The cluster has no endpoint that could be picked.
    NoEndpoint,
    /// The control plane has not said where the target is, and why.
    #[cfg_attr(
        not(feature = "xds"),
        allow(
            dead_code,
            reason = "only control planes are asked; whoever matches need not care"
        )
    )]
    Discovery { why: Arc<str> },
    /// The endpoint could not be connected to.
    Connect,
    /// The endpoint was connected to and the connection could not be secured.
    Secure,
    /// Connecting took longer than the cluster's connect timeout.
    ConnectTimeout { after: Duration },
    /// The connection broke after the request was sent, or the peer reset the stream.
    Reset,
    /// The peer refused the stream or went away before it looked at the request.
    Refused,
    /// A limit of the cluster was reached.
    Overflow { limit: Limit },
    /// The route's timeout, or the caller's deadline, ran out.
    Timeout { after: Duration, whose: Whose },
    /// One try took longer than the route's per-try timeout.
    PerTryTimeout { after: Duration },
    /// No byte moved for the idle timeout.
    Idle { after: Duration },
    /// A local rate limit has no token; the next is there after `wait`.
    #[cfg_attr(
        not(feature = "rate-limit"),
        allow(
            dead_code,
            reason = "only `layer::rate_limit` makes it; whoever matches need not care"
        )
    )]
    RateLimited {
        wait: Duration,
        /// How it is answered, where the configuration says.
        refusal: Option<Arc<Refusal>>,
    },
    /// The control plane wants a share of the requests dropped, and this one is among them.
    Dropped { category: Arc<str> },
    /// So many recent requests failed that this one was rejected on this side.
    Throttled,
    /// The service below a layer failed with an error that is not one of ours; it is the cause.
    Inner,
    /// An injected fault.
    Fault {
        status: StatusCode,
        grpc: Option<u32>,
    },
    /// The mesh, or this side of the connection, is shutting down.
    Draining,
    /// The connection does not switch to the protocol that the request asks for.
    Upgrade { why: &'static str },
    /// The route does not let requests switch to this protocol.
    UpgradeForbidden { protocol: Box<str> },
    /// A policy denies the request; which one is not for the caller.
    Denied,
    /// The request can be read in two ways, so that policy and handler might see two requests.
    Ambiguous { why: &'static str },
    /// The request cannot be sent as it is.
    Request { why: &'static str },
    /// The configuration, the target or an argument is wrong.
    Config { text: Arc<str> },
}

/// Which limit of a cluster was reached (Envoy's "circuit breaker" thresholds).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// Connections (`connectionPool.tcp.maxConnections`).
    Connections,
    /// Requests that wait for a connection (`http1MaxPendingRequests`).
    Pending,
    /// Requests in flight (`http2MaxRequests`).
    Requests,
    /// Retries in flight (`maxRetries`), or the retry budget.
    Retries,
}

/// Whose time ran out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// The caller's: `grpc-timeout`, a request option, or the inbound request it works for.
    Caller,
    /// A timeout layer's, in a stack without routes.
    Layer,
    /// The route's `timeout`.
    Route,
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                place: Place::default(),
                attempts: 0,
                cause: None,
            }),
        }
    }

    /// An error about configuration, a target or an argument; `text` says what was found, what is
    /// allowed and what to do.
    pub(crate) fn config(text: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::Config { text: text.into() })
    }

    /// What a layer makes of the error of the service that it wraps.
    ///
    /// One of ours passes unchanged, so that a stack of layers reports the first failure and not a
    /// chain of wrappers. Any other becomes the cause: of a connect failure if a refused
    /// connection is at its root (what hyper's and tonic's clients return), else of a plain failure
    /// of the inner service.
    pub(crate) fn from_inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(foreign) if refused(&*foreign) => Self::new(Kind::Connect).caused_by(foreign),
            Err(foreign) => Self::new(Kind::Inner).caused_by(foreign),
        }
    }

    pub(crate) fn caused_by(mut self, cause: impl Into<BoxError>) -> Self {
        self.inner.cause = Some(cause.into());
        self
    }

    pub(crate) fn at_cluster(mut self, cluster: &Arc<str>) -> Self {
        self.inner
            .place
            .cluster
            .get_or_insert_with(|| cluster.clone());
        self
    }

    pub(crate) fn at_endpoint(mut self, endpoint: &Arc<str>) -> Self {
        self.inner
            .place
            .endpoint
            .get_or_insert_with(|| endpoint.clone());
        self
    }

    /// How many tries were made before this error was the answer.
    pub(crate) fn after_attempts(mut self, attempts: u32) -> Self {
        self.inner.attempts = attempts;
        self
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.inner.kind
    }

    /// Whether time ran out: the caller's deadline, the route's timeout, a per-try, connect or
    /// idle timeout.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.inner.kind,
            Kind::Timeout { .. }
                | Kind::PerTryTimeout { .. }
                | Kind::ConnectTimeout { .. }
                | Kind::Idle { .. }
        )
    }

    /// Whether no connection to the endpoint could be made: refused, unreachable, timed out.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(
            self.inner.kind,
            Kind::Connect | Kind::ConnectTimeout { .. } | Kind::Secure
        )
    }

    /// Whether the connection to the endpoint could not be secured: one side did not believe the
    /// other, or does not speak TLS. The cause says why. It is a [connect](Self::is_connect) failure
    /// too, and nothing of the request was sent.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.inner.kind, Kind::Secure)
    }

    /// Whether a limit of the cluster was reached, or client-side admission control rejected the
    /// request; it was not sent.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        matches!(
            self.inner.kind,
            Kind::Dropped { .. } | Kind::Overflow { .. } | Kind::Throttled
        )
    }

    /// Whether a local rate limit was exhausted; the request was not sent.
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        matches!(self.inner.kind, Kind::RateLimited { .. })
    }

    /// Headers that the configuration wants the answer to have.
    #[cfg(feature = "outbound")]
    pub(crate) fn answer_headers(&self) -> &[(http::HeaderName, http::HeaderValue)] {
        match &self.inner.kind {
            Kind::RateLimited {
                refusal: Some(refusal),
                ..
            } => &refusal.headers,
            _ => &[],
        }
    }

    /// Which limit was reached, if that is what happened.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self.inner.kind {
            Kind::Overflow { limit } => Some(limit),
            _ => None,
        }
    }

    /// Whether the configuration knows no route for the request.
    #[must_use]
    pub fn is_no_route(&self) -> bool {
        matches!(self.inner.kind, Kind::NoRoute { .. } | Kind::Blocked { .. })
    }

    /// Whether the host is unknown and may not be passed through.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.inner.kind, Kind::Blocked { .. })
    }

    /// Whether the route led nowhere: its cluster does not exist or has no usable endpoint.
    #[must_use]
    pub fn is_no_endpoint(&self) -> bool {
        matches!(self.inner.kind, Kind::NoCluster | Kind::NoEndpoint)
    }

    /// Whether the connection broke or the peer reset the stream.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self.inner.kind, Kind::Reset | Kind::Refused)
    }

    /// Whether the failure was injected by a fault policy.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self.inner.kind, Kind::Fault { .. })
    }

    /// Whether a policy denied the request; it was not handed on.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.inner.kind, Kind::Denied)
    }

    /// Whether the request was refused because it can be read in two ways, see
    /// [`layer::canonical`](crate::layer::canonical).
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.inner.kind, Kind::Ambiguous { .. })
    }

    /// Whether the mesh is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.inner.kind, Kind::Draining)
    }

    /// Whether the connection could not be switched to another protocol, or the route forbids it.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        matches!(
            self.inner.kind,
            Kind::Upgrade { .. } | Kind::UpgradeForbidden { .. }
        )
    }

    /// Whether a configuration, a target or an argument is wrong.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self.inner.kind, Kind::Config { .. })
    }

    /// Whether the control plane has not said where the target is: it cannot be reached, it refused,
    /// or what it sent was refused.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        matches!(self.inner.kind, Kind::Discovery { .. })
    }

    /// Whether a message body broke off after the response had begun.
    #[must_use]
    pub fn is_body(&self) -> bool {
        matches!(self.inner.kind, Kind::Body)
    }

    /// Whether the request certainly was not processed by any endpoint, so that sending it again
    /// is safe even if it is not idempotent.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self.inner.kind {
            Kind::NoRoute { .. }
            | Kind::Blocked { .. }
            | Kind::Discovery { .. }
            | Kind::NoCluster
            | Kind::NoEndpoint
            | Kind::Connect
            | Kind::ConnectTimeout { .. }
            | Kind::Secure
            | Kind::Refused
            | Kind::Overflow { .. }
            | Kind::RateLimited { .. }
            | Kind::Dropped { .. }
            | Kind::Throttled
            | Kind::Fault { .. }
            | Kind::Draining
            | Kind::UpgradeForbidden { .. }
            | Kind::Denied
            | Kind::Ambiguous { .. }
            | Kind::Request { .. }
            | Kind::Config { .. } => true,
            Kind::Body
            | Kind::Inner
            | Kind::Reset
            | Kind::Timeout { .. }
            | Kind::PerTryTimeout { .. }
            | Kind::Idle { .. }
            | Kind::Upgrade { .. } => false,
        }
    }

    /// The cluster that the request was on its way to.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.inner.place.cluster.as_deref()
    }

    /// The address of the endpoint that the last try went to.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.inner.place.endpoint.as_deref()
    }

    /// How many tries were made; 0 if none left this process.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// Envoy's response flag for this failure; `None` for errors of configuration and arguments.
    #[must_use]
    pub fn flag(&self) -> Option<Flag> {
        match self.inner.kind {
            Kind::NoRoute { .. } | Kind::Blocked { .. } => Some(Flag::NoRoute),
            Kind::Discovery { .. } | Kind::NoCluster => Some(Flag::NoCluster),
            Kind::NoEndpoint => Some(Flag::NoHealthyUpstream),
            Kind::Connect | Kind::ConnectTimeout { .. } | Kind::Secure => {
                Some(Flag::UpstreamConnectionFailure)
            }
            Kind::Body | Kind::Inner | Kind::Reset => Some(Flag::UpstreamConnectionTermination),
            Kind::Refused | Kind::Upgrade { .. } => Some(Flag::UpstreamRemoteReset),
            Kind::Dropped { .. } => Some(Flag::DropOverload),
            // Envoy has no letters for its admission control; what it means is an overflow.
            Kind::Overflow { .. } | Kind::Throttled => Some(Flag::UpstreamOverflow),
            Kind::RateLimited { .. } => Some(Flag::RateLimited),
            Kind::Timeout { .. } | Kind::PerTryTimeout { .. } => Some(Flag::UpstreamRequestTimeout),
            Kind::Idle { .. } => Some(Flag::StreamIdle),
            Kind::Fault { .. } => Some(Flag::FaultInjected),
            Kind::Draining => Some(Flag::LocalReset),
            Kind::Ambiguous { .. }
            | Kind::Denied
            | Kind::UpgradeForbidden { .. }
            | Kind::Request { .. }
            | Kind::Config { .. } => None,
        }
    }

    /// Envoy's `%RESPONSE_CODE_DETAILS%` for this failure.
    #[cfg_attr(
        not(feature = "outbound"),
        allow(dead_code, reason = "for access logs")
    )]
    pub(crate) fn details(&self) -> &'static str {
        match self.inner.kind {
            Kind::NoRoute { .. } | Kind::Blocked { .. } => "route_not_found",
            Kind::Discovery { .. } | Kind::NoCluster => "cluster_not_found",
            Kind::NoEndpoint => "no_healthy_upstream",
            Kind::Connect | Kind::ConnectTimeout { .. } => {
                "upstream_reset_before_response_started{connection_failure}"
            }
            Kind::Body | Kind::Inner | Kind::Reset => {
                "upstream_reset_before_response_started{connection_termination}"
            }
            Kind::Refused => "upstream_reset_before_response_started{remote_reset}",
            Kind::Dropped { .. } => "drop_overload",
            Kind::Overflow { .. } | Kind::Throttled => {
                "upstream_reset_before_response_started{overflow}"
            }
            Kind::RateLimited { .. } => "local_rate_limited",
            Kind::Timeout { .. } => "response_timeout",
            Kind::PerTryTimeout { .. } => "upstream_per_try_timeout",
            Kind::Idle { .. } => "stream_idle_timeout",
            Kind::Fault { .. } => "fault_filter_abort",
            Kind::Draining => "local_reset",
            Kind::Secure => "upstream_reset_before_response_started{connection_failure}",
            Kind::Upgrade { .. } | Kind::UpgradeForbidden { .. } => "upgrade_failed",
            Kind::Denied => "rbac_access_denied",
            Kind::Ambiguous { .. } => "path_normalization_failed",
            Kind::Request { .. } | Kind::Config { .. } => "bad_request",
        }
    }

    /// Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: why no connection came to be, in the words of whoever knows
    /// best.
    #[cfg_attr(
        not(feature = "outbound"),
        allow(dead_code, reason = "for access logs")
    )]
    pub(crate) fn transport_failure(&self) -> Option<String> {
        if !matches!(
            self.inner.kind,
            Kind::Connect | Kind::ConnectTimeout { .. } | Kind::Secure
        ) {
            return None;
        }
        let mut deepest: &dyn StdError = self;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        Some(deepest.to_string())
    }

    /// The HTTP status that a sidecar would answer with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.inner.kind {
            Kind::NoRoute { .. } => StatusCode::NOT_FOUND,
            Kind::Blocked { .. } => StatusCode::BAD_GATEWAY,
            Kind::Timeout { .. } | Kind::PerTryTimeout { .. } | Kind::Idle { .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Kind::RateLimited { ref refusal, .. } => {
                let said = refusal.as_ref().map(|refusal| refusal.status);
                said.unwrap_or(StatusCode::TOO_MANY_REQUESTS)
            }
            Kind::Fault { status, .. } => status,
            Kind::Ambiguous { .. } | Kind::Request { .. } => StatusCode::BAD_REQUEST,
            Kind::Denied | Kind::UpgradeForbidden { .. } => StatusCode::FORBIDDEN,
            Kind::Config { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Body
            | Kind::Discovery { .. }
            | Kind::Inner
            | Kind::NoCluster
            | Kind::NoEndpoint
            | Kind::Connect
            | Kind::ConnectTimeout { .. }
            | Kind::Secure
            | Kind::Reset
            | Kind::Refused
            | Kind::Overflow { .. }
            | Kind::Dropped { .. }
            | Kind::Throttled
            | Kind::Upgrade { .. }
            | Kind::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The gRPC status code that a gRPC caller sees for this failure.
    ///
    /// 14 UNAVAILABLE for all that a retry elsewhere may cure, 4 DEADLINE_EXCEEDED for all
    /// timeouts but that of connecting, 7 PERMISSION_DENIED for what a policy denies, 13 INTERNAL for
    /// wrong requests and configurations.
    #[must_use]
    pub fn grpc_status(&self) -> u32 {
        match self.inner.kind {
            Kind::Timeout { .. } | Kind::PerTryTimeout { .. } | Kind::Idle { .. } => 4,
            Kind::Fault {
                grpc: Some(code), ..
            } => code,
            Kind::Fault { status, .. } => grpc_of_http(status),
            Kind::RateLimited {
                refusal: Some(ref refusal),
                ..
            } if refusal.exhausted => 8,
            Kind::Denied | Kind::UpgradeForbidden { .. } => 7,
            Kind::Ambiguous { .. } | Kind::Request { .. } | Kind::Config { .. } => 13,
            Kind::Body
            | Kind::Discovery { .. }
            | Kind::Inner
            | Kind::NoRoute { .. }
            | Kind::Blocked { .. }
            | Kind::NoCluster
            | Kind::NoEndpoint
            | Kind::Connect
            | Kind::ConnectTimeout { .. }
            | Kind::Secure
            | Kind::Reset
            | Kind::Refused
            | Kind::Overflow { .. }
            | Kind::RateLimited { .. }
            | Kind::Dropped { .. }
            | Kind::Throttled
            | Kind::Upgrade { .. }
            | Kind::Draining => 14,
        }
    }
}

/// Whether a refused connection is among the causes; the depth is bounded, because a foreign chain
/// may be any length.
fn refused(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .take(16)
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("cluster", &self.inner.place.cluster)
            .field("endpoint", &self.inner.place.endpoint)
            .field("attempts", &self.inner.attempts)
            .field("cause", &self.inner.cause)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner
            .cause
            .as_ref()
            .map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_one_word_and_crosses_threads() {
        fn spawnable<T: Send + Sync + StdError + 'static>() {}
        spawnable::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn text_names_cluster_endpoint_and_tries_and_leaves_the_cause_to_source() {
        let error = Error::new(Kind::Connect)
            .caused_by(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
            .at_cluster(&"outbound|80|v1|catalog.my-app.svc.cluster.local".into())
            .at_endpoint(&"10.0.0.1:8080".into())
            .after_attempts(3);
        assert_eq!(
            error.to_string(),
            "could not connect (cluster outbound|80|v1|catalog.my-app.svc.cluster.local, \
             endpoint 10.0.0.1:8080, after 3 tries)"
        );
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        assert!(error.is_connect() && error.is_unprocessed() && !error.is_timeout());
        assert_eq!(error.flag().unwrap().code(), "UF");
    }

    #[test]
    fn inner_errors_stay_ours_or_become_the_cause() {
        let own = Error::from_inner(Error::new(Kind::Draining));
        assert!(own.is_draining() && own.source().is_none());
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(Error::from_inner(io).is_connect());
        let foreign = Error::from_inner("gone");
        assert_eq!(foreign.to_string(), "the inner service failed");
        assert_eq!(foreign.source().unwrap().to_string(), "gone");
    }

    #[test]
    fn what_this_side_rejects_was_not_sent_and_says_why() {
        let wait = Duration::from_millis(250);
        for (kind, status, flag, text) in [
            (
                Kind::RateLimited {
                    wait,
                    refusal: None,
                },
                429,
                "RL",
                "the local rate limit is exhausted; the next request may pass in 250ms",
            ),
            (
                Kind::Dropped {
                    category: "lb".into(),
                },
                503,
                "DO",
                "not sent: the control plane wants a share of the requests dropped (category \
                 \"lb\")",
            ),
            (
                Kind::Throttled,
                503,
                "UO",
                "not sent: so many recent requests failed that admission control rejects a share \
                 of them on this side",
            ),
        ] {
            let error = Error::new(kind);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.status().as_u16(), status);
            assert_eq!(error.flag().unwrap().code(), flag);
            assert_eq!(error.grpc_status(), 14);
            assert!(error.is_unprocessed() && !error.is_timeout() && error.limit().is_none());
            assert_eq!(error.is_rate_limited(), flag == "RL");
            assert_eq!(error.is_overloaded(), flag != "RL");
        }
    }

    #[test]
    fn every_limit_names_its_field() {
        for (limit, field) in [
            (Limit::Connections, "connectionPool.tcp.maxConnections"),
            (
                Limit::Pending,
                "connectionPool.http.http1MaxPendingRequests",
            ),
            (Limit::Requests, "connectionPool.http.http2MaxRequests"),
            (Limit::Retries, "connectionPool.http.maxRetries"),
        ] {
            let error = Error::new(Kind::Overflow { limit });
            assert!(error.to_string().contains(field), "{error}");
            assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(error.limit(), Some(limit));
        }
    }
}
