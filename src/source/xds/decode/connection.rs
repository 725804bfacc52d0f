//! Which protocol is spoken, and how connections are kept.

use std::num::NonZeroU32;
use std::time::Duration;

use super::place::Place;
use super::value;
use crate::model::cluster::{Connection, Keepalive, Protocol, ProxyProtocol, TcpKeepalive};
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::{UInt32Value, cluster as wire, core, upstream};

/// Under which key the options stand.
pub(in crate::source::xds) const OPTIONS: &str =
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) struct Http {
    pub(super) protocol: Protocol,
    pub(super) connection: Connection,
}

/// A cluster that says nothing speaks what the request was made as: a control plane for gRPC never
/// says it and means HTTP/2, one for Envoy means HTTP/1.1.
pub(super) fn http(
    place: &Place<'_>,
    message: &wire::Cluster,
    extra: &ClusterExtra,
) -> Option<Http> {
    let options_place = place.field("typed_extension_protocol_options");
    let options_place = options_place.key(OPTIONS);
    let options: Option<upstream::HttpProtocolOptions> =
        match message.typed_extension_protocol_options.get(OPTIONS) {
            None => None,
            Some(any) => Some(value::unpack(&options_place, any)?),
        };
    let chosen = options.as_ref();
    let chosen = chosen.and_then(|options| options.upstream_protocol_options.as_ref());
    let (protocol, http2, at) = match chosen {
        Some(chosen) => {
            let (protocol, http2, word) = chosen_protocol(&options_place, chosen)?;
            (protocol, http2, options_place.field(word))
        }
        None => {
            let (protocol, http2) = legacy_protocol(message);
            (protocol, http2, *place)
        }
    };
    let common = options.as_ref();
    let common = common.and_then(|options| options.common_http_protocol_options.as_ref());
    // Of a cluster without HTTP/2 the settings are kept all the same, in our own message.
    let http2 = extra.http2.clone().or(http2);
    let mut connection = match common {
        Some(common) => kept(&options_place, message, Some(common))?,
        None => kept(
            place,
            message,
            message.common_http_protocol_options.as_ref(),
        )?,
    };
    if let Some(http2) = &http2 {
        let place = at.field("http2_protocol_options");
        connection.max_concurrent_streams = positive(http2.max_concurrent_streams);
        if let Some(keepalive) = &http2.connection_keepalive {
            connection.http2_keepalive = http2_keepalive(&place, keepalive)?;
        }
    }
    if extra.no_http2_keepalive {
        connection.http2_keepalive = None;
    }
    connection.tcp_keepalive = tcp_keepalive(place, message, extra)?;
    connection.proxy_protocol = match extra.proxy_protocol {
        1 => Some(ProxyProtocol::V1),
        2 => Some(ProxyProtocol::V2),
        _none => None,
    };
    Some(Http {
        protocol,
        connection,
    })
}

fn positive(value: Option<UInt32Value>) -> Option<NonZeroU32> {
    value.and_then(|value| NonZeroU32::new(value.value))
}

type Spoken = (Protocol, Option<core::Http2ProtocolOptions>);

/// The same, with the field that it was said by.
type SpokenBy = (Protocol, Option<core::Http2ProtocolOptions>, &'static str);

fn chosen_protocol(
    place: &Place<'_>,
    chosen: &upstream::http_protocol_options::UpstreamProtocolOptions,
) -> Option<SpokenBy> {
    const EXPLICIT: &str = "explicit_http_config";
    use upstream::http_protocol_options::UpstreamProtocolOptions as Chosen;
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig as Explicit;
    Some(match chosen {
        Chosen::ExplicitHttpConfig(explicit) => match &explicit.protocol_config {
            Some(Explicit::HttpProtocolOptions(_)) => (Protocol::Http1, None, EXPLICIT),
            Some(Explicit::Http2ProtocolOptions(http2)) => {
                (Protocol::Http2, Some(http2.clone()), EXPLICIT)
            }
            Some(Explicit::Http3ProtocolOptions(_)) => {
                return place
                    .field("explicit_http_config.http3_protocol_options")
                    .fault("is not supported; HTTP/1.1 and HTTP/2 are");
            }
            None => {
                return place.field(EXPLICIT).fault(
                    "is empty; http_protocol_options and http2_protocol_options are allowed",
                );
            }
        },
        Chosen::UseDownstreamProtocolConfig(config) => (
            Protocol::SameAsRequest,
            config.http2_protocol_options.clone(),
            "use_downstream_protocol_config",
        ),
        // ALPN decides in Envoy; here each request is sent as what it was made as.
        Chosen::AutoConfig(config) => (
            Protocol::SameAsRequest,
            config.http2_protocol_options.clone(),
            "auto_config",
        ),
    })
}

/// The deprecated fields of the cluster itself.
fn legacy_protocol(message: &wire::Cluster) -> Spoken {
    let http2 = message.http2_protocol_options.clone();
    let downstream = message.protocol_selection == 1;
    match (downstream, &http2, &message.http_protocol_options) {
        (false, Some(_), _) => (Protocol::Http2, http2),
        (false, None, Some(_)) => (Protocol::Http1, None),
        (true, ..) | (false, None, None) => (Protocol::SameAsRequest, http2),
    }
}

fn kept(
    place: &Place<'_>,
    message: &wire::Cluster,
    common: Option<&core::HttpProtocolOptions>,
) -> Option<Connection> {
    let place = place.field("common_http_protocol_options");
    let standard = Connection::default();
    let common = common.cloned().unwrap_or_default();
    let idle_timeout = match common.idle_timeout {
        None => Some(standard.idle_timeout),
        some => value::limit(&place.field("idle_timeout"), some),
    };
    let max_age = value::limit(
        &place.field("max_connection_duration"),
        common.max_connection_duration,
    );
    let max_requests = common
        .max_requests_per_connection
        .or(message.max_requests_per_connection);
    Some(Connection {
        max_requests: positive(max_requests),
        max_age: max_age?,
        idle_timeout: idle_timeout?,
        ..standard
    })
}

/// `Some(None)`: switched off, by an interval of zero.
fn http2_keepalive(
    place: &Place<'_>,
    message: &core::KeepaliveSettings,
) -> Option<Option<Keepalive>> {
    let place = place.field("connection_keepalive");
    let standard = Connection::DEFAULT_KEEPALIVE;
    let interval = value::duration_or(&place.field("interval"), message.interval, Duration::ZERO);
    let timeout = value::positive_or(&place.field("timeout"), message.timeout, standard.timeout);
    let (interval, timeout) = (interval?, timeout?);
    Some((!interval.is_zero()).then_some(Keepalive { interval, timeout }))
}

fn tcp_keepalive(
    place: &Place<'_>,
    message: &wire::Cluster,
    extra: &ClusterExtra,
) -> Option<Option<TcpKeepalive>> {
    let options = message.upstream_connection_options.as_ref();
    let Some(found) = options.and_then(|options| options.tcp_keepalive) else {
        return Some(None);
    };
    let seconds =
        |value: Option<UInt32Value>| value.map(|value| Duration::from_secs(u64::from(value.value)));
    let mut keepalive = TcpKeepalive {
        probes: found.keepalive_probes.map(|probes| probes.value),
        time: seconds(found.keepalive_time),
        interval: seconds(found.keepalive_interval),
    };
    if let Some(finer) = &extra.tcp_keepalive {
        let place = place.field("metadata");
        keepalive.time = match finer.time {
            None => keepalive.time,
            Some(time) => Some(value::duration(&place, time)?),
        };
        keepalive.interval = match finer.interval {
            None => keepalive.interval,
            Some(interval) => Some(value::duration(&place, interval)?),
        };
    }
    Some(Some(keepalive))
}
