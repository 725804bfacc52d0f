//! What the model can say and Envoy's messages cannot: our own messages, which travel in
//! `metadata.typed_filter_metadata["meshwork"]` of the Meshwork dialect.
//!
//! Other clients leave such metadata alone, so a message with them is still a good message: it is
//! then read as Envoy would. These derives are the only definition: nobody but this library reads
//! or writes them, and numbers of fields are never used again for something else.

use std::collections::HashMap;

use prost::{Message, Name};

use super::proto::{Any, Duration, core};

/// The key under which they stand in metadata.
pub(super) const KEY: &str = "meshwork";

/// Of a `route.v3.Route`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteExtra {
    /// Changes of request headers in another order than "remove, then add": one letter for each,
    /// `r` takes the next of `request_headers_to_remove`, `a` the next of `..._to_add`.
    #[prost(string, tag = "1")]
    pub(super) request_order: String,
    /// The same of response headers.
    #[prost(string, tag = "2")]
    pub(super) response_order: String,
    /// The same for each weighted cluster, in their order; empty if none needs it.
    #[prost(message, repeated, tag = "3")]
    pub(super) destinations: Vec<HeaderOrder>,
    /// The path matches by whole segments, and `path_separated_prefix` cannot say it.
    #[prost(bool, tag = "4")]
    pub(super) segment_prefix: bool,
    /// The regular expression that rewrites the path stands for "the whole path".
    #[prost(bool, tag = "5")]
    pub(super) full_path: bool,
    /// The prefix that is replaced, where it is not the one that was matched.
    #[prost(string, optional, tag = "6")]
    pub(super) rewritten_prefix: Option<String>,
    /// Where the port of a redirect comes from.
    #[prost(enumeration = "RedirectPortSource", tag = "7")]
    pub(super) redirect_port: i32,
    /// What a `RetryPolicy` cannot say.
    #[prost(message, optional, tag = "8")]
    pub(super) retry: Option<RetryExtra>,
    /// The prefix that is replaced by nothing.
    #[prost(string, optional, tag = "9")]
    pub(super) removed_prefix: Option<String>,
    /// Endpoints say what the authority is, and the message says what it is of others.
    #[prost(bool, tag = "10")]
    pub(super) endpoint_authority: bool,
}

/// Of a weighted cluster.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderOrder {
    #[prost(string, tag = "1")]
    pub(super) request: String,
    #[prost(string, tag = "2")]
    pub(super) response: String,
}

/// Where the port of a redirect comes from, if it is not fixed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RedirectPortSource {
    Unchanged = 0,
    FromRequest = 1,
    FromScheme = 2,
}

/// Of a retry policy.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryExtra {
    /// No retry follows, but hedging may.
    #[prost(bool, tag = "1")]
    pub(super) no_retries: bool,
    #[prost(message, optional, tag = "2")]
    pub(super) base_interval: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub(super) max_interval: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub(super) hedge: Option<HedgeExtra>,
    /// The policy retries nothing and is there all the same.
    #[prost(bool, tag = "5")]
    pub(super) no_conditions: bool,
}

/// Hedging after a time of its own.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HedgeExtra {
    #[prost(message, optional, tag = "1")]
    pub(super) delay: Option<Duration>,
    #[prost(uint32, tag = "2")]
    pub(super) extra: u32,
}

/// Of a `cluster.v3.Cluster`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClusterExtra {
    /// By how many percent a priority can serve more than its share.
    #[prost(uint32, tag = "1")]
    pub(super) overprovisioning: u32,
    /// Warming of a policy whose message has no place for it.
    #[prost(message, optional, tag = "2")]
    pub(super) slow_start: Option<super::proto::cluster::cluster::SlowStartConfig>,
    /// The retries have the mesh's own budget.
    #[prost(bool, tag = "3")]
    pub(super) retry_budget: bool,
    /// No HTTP/2 PING is sent.
    #[prost(bool, tag = "4")]
    pub(super) no_http2_keepalive: bool,
    /// Settings of HTTP/2 of a cluster that speaks HTTP/1.1.
    #[prost(message, optional, tag = "5")]
    pub(super) http2: Option<super::proto::core::Http2ProtocolOptions>,
    /// TCP keepalive in fractions of seconds.
    #[prost(message, optional, tag = "6")]
    pub(super) tcp_keepalive: Option<TcpKeepaliveExtra>,
    /// Statuses that count as errors for outlier detection.
    #[prost(uint32, repeated, tag = "7")]
    pub(super) error_statuses: Vec<u32>,
    /// Where the endpoints in the message belong: the name of their own resource.
    #[prost(string, optional, tag = "8")]
    pub(super) endpoints: Option<String>,
    /// The endpoints are not in the message although the cluster's type has them there.
    #[prost(bool, tag = "9")]
    pub(super) no_endpoints: bool,
    /// The version of the PROXY protocol's header; 0: none.
    #[prost(uint32, tag = "10")]
    pub(super) proxy_protocol: u32,
    /// Endpoints are asked for their health as often without traffic as with it.
    #[prost(bool, tag = "11")]
    pub(super) checks_without_traffic: bool,
    /// What secures connections, where a transport socket is there.
    #[prost(message, optional, tag = "12")]
    pub(super) tls: Option<TlsExtra>,
}

/// Of TLS as a client: what the transport socket says in Envoy's words, in ours. Names of servers are
/// there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsExtra {
    #[prost(message, optional, tag = "1")]
    pub(super) identity: Option<MaterialExtra>,
    #[prost(message, optional, tag = "2")]
    pub(super) trust: Option<MaterialExtra>,
    /// 0: the chain; 1: the name too; 2: nothing; 3: as a SPIFFE identity; 4: the name, or the names where
    /// there is none.
    #[prost(uint32, tag = "3")]
    pub(super) verification: u32,
    /// The endpoint's name is asked for.
    #[prost(bool, tag = "4")]
    pub(super) sni_endpoint: bool,
    /// Istio's words of ALPN are offered.
    #[prost(bool, tag = "5")]
    pub(super) istio: bool,
}

/// Where certificates come from.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MaterialExtra {
    /// 1: files; 2: the mesh's own; 3: a provider; 4: the system's.
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, optional, tag = "3")]
    pub(super) certificate: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) key: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(super) roots: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(super) revocations: Option<String>,
}

/// Of a cluster's TCP keepalive.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TcpKeepaliveExtra {
    #[prost(message, optional, tag = "1")]
    pub(super) time: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub(super) interval: Option<Duration>,
}

/// Peak EWMA, which Envoy has no message for, as a policy of `load_balancing_policy` (gRFC A52).
#[derive(Clone, PartialEq, Message)]
pub(super) struct PeakEwmaExtra {
    #[prost(message, optional, tag = "1")]
    pub(super) default_latency: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub(super) decay: Option<Duration>,
}

macro_rules! named {
    ($($message:ident = $name:literal),* $(,)?) => {$(
        impl Name for $message {
            const NAME: &'static str = $name;
            const PACKAGE: &'static str = "meshwork.model.v1";

            fn type_url() -> String {
                concat!("type.googleapis.com/meshwork.model.v1.", $name).into()
            }
        }
    )*};
}

named!(
    RouteExtra = "RouteExtra",
    ClusterExtra = "ClusterExtra",
    PeakEwmaExtra = "PeakEwma"
);

/// Metadata with `extra`, or nothing where it says nothing.
pub(super) fn metadata<M: Message + Name + Default + PartialEq>(
    extra: &M,
) -> Option<core::Metadata> {
    (*extra != M::default()).then(|| core::Metadata {
        filter_metadata: HashMap::new(),
        typed_filter_metadata: HashMap::from([(KEY.to_owned(), any(extra))]),
    })
}

/// The extra message in metadata; its default where there is none or it is of another type.
pub(super) fn of<M: Message + Name + Default>(metadata: Option<&core::Metadata>) -> M {
    metadata
        .and_then(|metadata| metadata.typed_filter_metadata.get(KEY))
        .filter(|any| any.type_url == M::type_url())
        .and_then(|any| M::decode(&*any.value).ok())
        .unwrap_or_default()
}

/// A message with its type.
pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}
