//! Which protocol is spoken, and how connections are kept.

use std::time::Duration;

use super::loss::Loss;
use super::{Pen, value};
use crate::model::cluster::{Connection, Keepalive, Protocol, ProxyProtocol, TcpKeepalive};
use crate::source::xds::decode::OPTIONS;
use crate::source::xds::extra::{ClusterExtra, TcpKeepaliveExtra, any};
use crate::source::xds::proto::{cluster as wire, core, upstream};

pub(super) fn connection(
    pen: &mut Pen<'_>,
    message: &mut wire::Cluster,
    protocol: Protocol,
    model: &Connection,
    extra: &mut ClusterExtra,
) {
    let Connection {
        max_requests,
        // Among the limits, in `cluster`.
        max_per_endpoint,
        max_age,
        idle_timeout,
        max_concurrent_streams,
        http2_keepalive,
        tcp_keepalive,
        proxy_protocol,
    } = model;
    if !pen.is_meshwork() {
        pen.lose_if(proxy_protocol.is_some(), Loss::ProxyProtocol);
    }
    if pen.is_grpc() {
        pen.lose_if(protocol == Protocol::Http1, Loss::Protocol);
        let standard = Connection {
            max_per_endpoint: *max_per_endpoint,
            ..Connection::default()
        };
        pen.lose_if(*model != standard, Loss::ConnectionSettings);
        pen.lose_if(tcp_keepalive.is_some(), Loss::TcpKeepalive);
        return;
    }
    let http2 = core::Http2ProtocolOptions {
        max_concurrent_streams: max_concurrent_streams.map(|max| value::number(max.get())),
        connection_keepalive: http2_keepalive.map(keepalive),
        ..core::Http2ProtocolOptions::default()
    };
    extra.proxy_protocol = match proxy_protocol {
        None => 0,
        Some(ProxyProtocol::V1) => 1,
        Some(ProxyProtocol::V2) => 2,
    };
    extra.no_http2_keepalive = http2_keepalive.is_none();
    let standard = Connection {
        max_per_endpoint: *max_per_endpoint,
        max_concurrent_streams: *max_concurrent_streams,
        http2_keepalive: *http2_keepalive,
        ..Connection::default()
    } == Connection {
        max_per_endpoint: *max_per_endpoint,
        max_concurrent_streams: None,
        ..Connection::default()
    };
    if protocol == Protocol::Http1 && !standard {
        extra.http2 = Some(http2.clone());
    }
    let options = upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(value::limit_or_zero(*idle_timeout)),
            max_connection_duration: max_age.map(value::limit),
            max_requests_per_connection: max_requests.map(|max| value::number(max.get())),
            ..core::HttpProtocolOptions::default()
        }),
        upstream_protocol_options: Some(spoken(protocol, http2)),
        ..upstream::HttpProtocolOptions::default()
    };
    message
        .typed_extension_protocol_options
        .insert(OPTIONS.to_owned(), any(&options));
    if let Some(model) = tcp_keepalive {
        message.upstream_connection_options = Some(wire::UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp(pen, model, extra)),
            ..wire::UpstreamConnectionOptions::default()
        });
    }
}

fn spoken(
    protocol: Protocol,
    http2: core::Http2ProtocolOptions,
) -> upstream::http_protocol_options::UpstreamProtocolOptions {
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream::http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions as Chosen, UseDownstreamHttpConfig,
    };
    let explicit = |config| {
        Chosen::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let http1 = core::Http1ProtocolOptions::default();
    match protocol {
        Protocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        Protocol::SameAsRequest => Chosen::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(http1),
            http2_protocol_options: Some(http2),
            http3_protocol_options: None,
        }),
    }
}

fn keepalive(model: Keepalive) -> core::KeepaliveSettings {
    let Keepalive { interval, timeout } = model;
    core::KeepaliveSettings {
        interval: Some(value::limit(interval)),
        timeout: Some(value::limit(timeout)),
        ..core::KeepaliveSettings::default()
    }
}

fn tcp(pen: &mut Pen<'_>, model: &TcpKeepalive, extra: &mut ClusterExtra) -> core::TcpKeepalive {
    let TcpKeepalive {
        probes,
        time,
        interval,
    } = model;
    let whole = |value: &Option<Duration>| {
        value.is_none_or(|value| value.subsec_nanos() == 0 && value.as_secs() <= u32::MAX.into())
    };
    let seconds = |value: &Option<Duration>| {
        let value = (*value)?;
        let seconds = value.as_secs() + u64::from(value.subsec_nanos() > 0);
        Some(value::number(u32::try_from(seconds).unwrap_or(u32::MAX)))
    };
    if !whole(time) || !whole(interval) {
        extra.tcp_keepalive = Some(TcpKeepaliveExtra {
            time: time.map(value::duration),
            interval: interval.map(value::duration),
        });
        pen.lose_if(!pen.is_meshwork(), Loss::TcpKeepalive);
    }
    core::TcpKeepalive {
        keepalive_probes: probes.map(value::number),
        keepalive_time: seconds(time),
        keepalive_interval: seconds(interval),
    }
}
