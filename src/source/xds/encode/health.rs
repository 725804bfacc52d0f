//! Active health checks.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{Pen, value};
use crate::model::cluster::Protocol;
use crate::model::health::{GrpcQuestion, HealthCheck, HttpQuestion, Question, TcpQuestion};
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::{core, percent};

/// The check of a cluster. A cluster that is checked with and without traffic alike says so beside
/// the message, whose default is a minute; Envoy is told the interval.
pub(super) fn check(
    pen: &Pen<'_>,
    model: &HealthCheck,
    extra: &mut ClusterExtra,
) -> core::HealthCheck {
    let HealthCheck {
        question,
        timeout,
        interval,
        unhealthy_interval,
        healthy_edge_interval,
        unhealthy_edge_interval,
        no_traffic_interval,
        jitter,
        initial_jitter,
        healthy_threshold,
        unhealthy_threshold,
        reuse_connection,
    } = model;
    extra.checks_without_traffic = pen.is_meshwork() && no_traffic_interval.is_none();
    let optional = |interval: Option<Duration>| interval.map(value::limit);
    core::HealthCheck {
        timeout: Some(value::limit(*timeout)),
        interval: Some(value::limit(*interval)),
        unhealthy_interval: optional(*unhealthy_interval),
        healthy_edge_interval: optional(*healthy_edge_interval),
        unhealthy_edge_interval: optional(*unhealthy_edge_interval),
        no_traffic_interval: Some(value::limit(no_traffic_interval.unwrap_or(*interval))),
        interval_jitter: Some(value::duration(*jitter)),
        initial_jitter: Some(value::duration(*initial_jitter)),
        healthy_threshold: Some(value::number(healthy_threshold.get())),
        unhealthy_threshold: Some(value::number(unhealthy_threshold.get())),
        reuse_connection: Some(value::flag(*reuse_connection)),
        health_checker: Some(self::question(question)),
        ..core::HealthCheck::default()
    }
}

fn question(model: &Question) -> core::health_check::HealthChecker {
    use core::health_check::HealthChecker;
    match model {
        Question::Grpc(grpc) => HealthChecker::GrpcHealthCheck(self::grpc(grpc)),
        Question::Http(http) => HealthChecker::HttpHealthCheck(self::http(http)),
        Question::Tcp(tcp) => HealthChecker::TcpHealthCheck(self::tcp(tcp)),
    }
}

fn grpc(model: &GrpcQuestion) -> core::health_check::GrpcHealthCheck {
    let GrpcQuestion {
        service,
        authority,
        metadata,
    } = model;
    core::health_check::GrpcHealthCheck {
        service_name: service.to_string(),
        authority: authority
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        initial_metadata: headers(metadata),
    }
}

fn http(model: &HttpQuestion) -> core::health_check::HttpHealthCheck {
    let HttpQuestion {
        path,
        host,
        method,
        headers: added,
        expected,
        retriable,
        protocol,
    } = model;
    core::health_check::HttpHealthCheck {
        path: path.to_string(),
        host: host.as_ref().map(ToString::to_string).unwrap_or_default(),
        method: self::method(method).into(),
        request_headers_to_add: headers(added),
        expected_statuses: statuses(expected),
        retriable_statuses: statuses(retriable),
        codec_client_type: match protocol {
            // What a check is made as is HTTP/1.1.
            Protocol::Http1 | Protocol::SameAsRequest => 0,
            Protocol::Http2 => 1,
        },
        ..core::health_check::HttpHealthCheck::default()
    }
}

fn tcp(model: &TcpQuestion) -> core::health_check::TcpHealthCheck {
    use core::health_check::{Payload, payload};
    let TcpQuestion { send, receive } = model;
    let binary = |bytes: &bytes::Bytes| Payload {
        payload: Some(payload::Payload::Binary(bytes.to_vec())),
    };
    core::health_check::TcpHealthCheck {
        send: (!send.is_empty()).then(|| binary(send)),
        receive: receive.iter().map(binary).collect(),
        proxy_protocol_config: None,
    }
}

fn method(model: &Method) -> core::RequestMethod {
    use core::RequestMethod as Wire;
    match model.as_str() {
        "HEAD" => Wire::Head,
        "POST" => Wire::Post,
        "PUT" => Wire::Put,
        "DELETE" => Wire::Delete,
        "OPTIONS" => Wire::Options,
        "TRACE" => Wire::Trace,
        "PATCH" => Wire::Patch,
        // Envoy has no other.
        _ => Wire::Get,
    }
}

fn headers(all: &[(HeaderName, HeaderValue)]) -> Vec<core::HeaderValueOption> {
    let option = |(name, value): &(HeaderName, HeaderValue)| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.as_str().to_owned(),
            value: String::new(),
            raw_value: value.as_bytes().to_vec(),
        }),
        append: None,
        append_action: core::header_value_option::HeaderAppendAction::AppendIfExistsOrAdd.into(),
        keep_empty_value: true,
    };
    all.iter().map(option).collect()
}

fn statuses(all: &[(StatusCode, StatusCode)]) -> Vec<percent::Int64Range> {
    let range = |(first, last): &(StatusCode, StatusCode)| percent::Int64Range {
        start: first.as_u16().into(),
        end: i64::from(last.as_u16()) + 1,
    };
    all.iter().map(range).collect()
}
