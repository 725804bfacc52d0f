//! Active health checks.
//!
//! One check per cluster: Envoy takes a list and wants all of them to pass, which no control plane
//! is known to use. What would make a check stricter than it is here (what a server says by HTTP,
//! which service answers) is refused; where events are logged is without effect.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::place::{Place, Quoted};
use super::{headers, value};
use crate::model::cluster::Protocol;
use crate::model::health::{GrpcQuestion, HealthCheck, HttpQuestion, Question, TcpQuestion};
use crate::model::route::HeaderChange;
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::{core, percent};

/// Envoy's `no_traffic_interval`.
const NO_TRAFFIC: Duration = Duration::from_secs(60);
/// Envoy asks for both; the usual ones hold where they are missing.
const THRESHOLDS: (NonZeroU32, NonZeroU32) = (
    NonZeroU32::MIN.saturating_add(1),
    NonZeroU32::MIN.saturating_add(2),
);

/// `Some(None)`: nothing is asked.
pub(super) fn check(
    place: &Place<'_>,
    all: &[core::HealthCheck],
    extra: &ClusterExtra,
) -> Option<Option<HealthCheck>> {
    match all {
        [] => Some(None),
        [one] => self::one(&place.index(0), one, extra).map(Some),
        more => place.fault(format_args!("has {} entries; 1 is supported", more.len())),
    }
}

fn one(
    place: &Place<'_>,
    message: &core::HealthCheck,
    extra: &ClusterExtra,
) -> Option<HealthCheck> {
    let fine = restrictions(place, message);
    let needed = |field: &str, found: Option<crate::source::xds::proto::Duration>| {
        let place = place.field(field);
        let found = place.required(found)?;
        value::positive_or(&place, Some(found), Duration::ZERO)
    };
    let optional = |field: &str, found: Option<crate::source::xds::proto::Duration>| match found {
        None => Some(None),
        some => value::positive_or(&place.field(field), some, Duration::ZERO).map(Some),
    };
    let jitter =
        |field: &str, found| value::duration_or(&place.field(field), found, Duration::ZERO);
    let threshold =
        |field: &str, found, default| value::nonzero_or(&place.field(field), found, default);
    let question = question(place, message);
    let timeout = needed("timeout", message.timeout);
    let interval = needed("interval", message.interval);
    let unhealthy = optional("unhealthy_interval", message.unhealthy_interval);
    let healthy_edge = optional("healthy_edge_interval", message.healthy_edge_interval);
    let unhealthy_edge = optional("unhealthy_edge_interval", message.unhealthy_edge_interval);
    let no_traffic = optional("no_traffic_interval", message.no_traffic_interval);
    let interval_jitter = jitter("interval_jitter", message.interval_jitter);
    let initial_jitter = jitter("initial_jitter", message.initial_jitter);
    let healthy = threshold("healthy_threshold", message.healthy_threshold, THRESHOLDS.0);
    let unhealthy_threshold = threshold(
        "unhealthy_threshold",
        message.unhealthy_threshold,
        THRESHOLDS.1,
    );
    fine?;
    let interval = interval?;
    // Envoy adds a part of each; the longest of both together is what can be said here.
    let share = interval.saturating_mul(message.interval_jitter_percent) / 100;
    Some(HealthCheck {
        question: question?,
        timeout: timeout?,
        interval,
        unhealthy_interval: unhealthy?,
        healthy_edge_interval: healthy_edge?,
        unhealthy_edge_interval: unhealthy_edge?,
        no_traffic_interval: match extra.checks_without_traffic {
            true => None,
            false => Some(no_traffic?.unwrap_or(NO_TRAFFIC)),
        },
        jitter: interval_jitter?.saturating_add(share),
        initial_jitter: initial_jitter?,
        healthy_threshold: healthy?,
        unhealthy_threshold: unhealthy_threshold?,
        reuse_connection: message.reuse_connection.is_none_or(|flag| flag.value),
    })
}

fn restrictions(place: &Place<'_>, message: &core::HealthCheck) -> Option<()> {
    let alpn = message.tls_options.as_ref();
    let refused = [
        ("alt_port", message.alt_port.is_some()),
        (
            "no_traffic_healthy_interval",
            message.no_traffic_healthy_interval.is_some(),
        ),
        (
            "tls_options",
            alpn.is_some_and(|options| !options.alpn_protocols.is_empty()),
        ),
        (
            "transport_socket_match_criteria",
            message.transport_socket_match_criteria.is_some(),
        ),
    ];
    told(place, &refused)
}

fn told(place: &Place<'_>, refused: &[(&str, bool)]) -> Option<()> {
    let mut fine = Some(());
    for (field, set) in refused {
        if *set {
            fine = place.field(field).fault("is not supported; leave it out");
        }
    }
    fine
}

fn question(place: &Place<'_>, message: &core::HealthCheck) -> Option<Question> {
    use core::health_check::HealthChecker;
    match &message.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => {
            self::http(&place.field("http_health_check"), http).map(Question::Http)
        }
        Some(HealthChecker::TcpHealthCheck(tcp)) => {
            self::tcp(&place.field("tcp_health_check"), tcp).map(Question::Tcp)
        }
        Some(HealthChecker::GrpcHealthCheck(grpc)) => {
            self::grpc(&place.field("grpc_health_check"), grpc).map(Question::Grpc)
        }
        Some(HealthChecker::CustomHealthCheck(_)) => place.field("custom_health_check").fault(
            "is not supported; http_health_check, grpc_health_check and tcp_health_check are",
        ),
        None => place.fault(
            "asks nothing; http_health_check, grpc_health_check and tcp_health_check are allowed",
        ),
    }
}

fn http(place: &Place<'_>, message: &core::health_check::HttpHealthCheck) -> Option<HttpQuestion> {
    let fine = told(
        place,
        &[
            ("send", message.send.is_some()),
            ("receive", !message.receive.is_empty()),
            (
                "request_headers_to_remove",
                !message.request_headers_to_remove.is_empty(),
            ),
            (
                "service_name_matcher",
                message.service_name_matcher.is_some(),
            ),
        ],
    );
    let path_place = place.field("path");
    let path = value::filled(&path_place, &message.path).and_then(|path| match path.parse() {
        Ok(path) => Some(path),
        Err(_) => path_place.fault(format_args!("{} is no path", Quoted(path))),
    });
    let host = authority(&place.field("host"), &message.host);
    let method = method(&place.field("method"), message.method);
    let headers = added(
        &place.field("request_headers_to_add"),
        &message.request_headers_to_add,
    );
    let expected = statuses(
        &place.field("expected_statuses"),
        &message.expected_statuses,
    );
    let retriable = statuses(
        &place.field("retriable_statuses"),
        &message.retriable_statuses,
    );
    let protocol = match message.codec_client_type {
        0 => Some(Protocol::Http1),
        1 => Some(Protocol::Http2),
        other => place.field("codec_client_type").fault(format_args!(
            "{other} is not supported; HTTP1 (0) and HTTP2 (1) are"
        )),
    };
    fine?;
    Some(HttpQuestion {
        path: path?,
        host: host?,
        method: method?,
        headers: headers?,
        expected: expected?,
        retriable: retriable?,
        protocol: protocol?,
    })
}

fn grpc(place: &Place<'_>, message: &core::health_check::GrpcHealthCheck) -> Option<GrpcQuestion> {
    let authority = authority(&place.field("authority"), &message.authority);
    let metadata = added(&place.field("initial_metadata"), &message.initial_metadata);
    Some(GrpcQuestion {
        service: message.service_name.as_str().into(),
        authority: authority?,
        metadata: metadata?,
    })
}

fn tcp(place: &Place<'_>, message: &core::health_check::TcpHealthCheck) -> Option<TcpQuestion> {
    let proxied = message.proxy_protocol_config.is_some();
    let fine = told(place, &[("proxy_protocol_config", proxied)]);
    let send = match &message.send {
        None => Some(Bytes::new()),
        Some(send) => payload(&place.field("send"), send),
    };
    let list = place.field("receive");
    let receive = message.receive.iter().enumerate();
    let receive: Vec<Option<Bytes>> = receive
        .map(|(index, one)| payload(&list.index(index), one))
        .collect();
    fine?;
    Some(TcpQuestion {
        send: send?,
        receive: receive.into_iter().collect::<Option<_>>()?,
    })
}

fn payload(place: &Place<'_>, message: &core::health_check::Payload) -> Option<Bytes> {
    use core::health_check::payload::Payload;
    match &message.payload {
        Some(Payload::Binary(bytes)) => Some(Bytes::copy_from_slice(bytes)),
        Some(Payload::Text(text)) => match unhex(text) {
            Some(bytes) => Some(bytes.into()),
            None => place.field("text").fault(format_args!(
                "{} is not hexadecimal, two digits for each byte",
                Quoted(text)
            )),
        },
        None => place.fault("is empty; text and binary are allowed"),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    rest.is_empty()
        .then(|| pairs.iter().map(byte).collect::<Option<_>>())?
}

fn authority(place: &Place<'_>, text: &str) -> Option<Option<http::uri::Authority>> {
    if text.is_empty() {
        return Some(None);
    }
    match text.parse() {
        Ok(authority) => Some(Some(authority)),
        Err(_) => place.fault(format_args!(
            "{} is no authority; \"host\" and \"host:port\" are allowed",
            Quoted(text)
        )),
    }
}

fn method(place: &Place<'_>, number: i32) -> Option<Method> {
    use core::RequestMethod as Wire;
    match Wire::try_from(number) {
        Ok(Wire::MethodUnspecified | Wire::Get) => Some(Method::GET),
        Ok(Wire::Head) => Some(Method::HEAD),
        Ok(Wire::Post) => Some(Method::POST),
        Ok(Wire::Put) => Some(Method::PUT),
        Ok(Wire::Delete) => Some(Method::DELETE),
        Ok(Wire::Options) => Some(Method::OPTIONS),
        Ok(Wire::Trace) => Some(Method::TRACE),
        Ok(Wire::Patch) => Some(Method::PATCH),
        Ok(Wire::Connect) | Err(_) => place.fault(format_args!(
            "{number} is no method of a check; all but CONNECT (6) are allowed"
        )),
    }
}

fn added(
    place: &Place<'_>,
    options: &[core::HeaderValueOption],
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let changes = headers::added(place, options)?;
    let pair = |change| match change {
        HeaderChange::Add(name, value)
        | HeaderChange::AddIfAbsent(name, value)
        | HeaderChange::Set(name, value) => Some((name, value)),
        // There is none yet that could be changed.
        HeaderChange::Remove(_) | HeaderChange::SetIfPresent(..) => None,
    };
    Some(changes.into_iter().filter_map(pair).collect())
}

fn statuses(
    place: &Place<'_>,
    ranges: &[percent::Int64Range],
) -> Option<Vec<(StatusCode, StatusCode)>> {
    let mut all = Vec::with_capacity(ranges.len());
    let mut fine = Some(());
    for (index, range) in ranges.iter().enumerate() {
        let percent::Int64Range { start, end } = *range;
        let status = |code: i64| {
            let code = u16::try_from(code).ok().filter(|code| *code < 600)?;
            StatusCode::from_u16(code).ok()
        };
        match (status(start), end.checked_sub(1).and_then(status)) {
            (Some(first), Some(last)) if first <= last => all.push((first, last)),
            _ => {
                fine = place.index(index).fault(format_args!(
                    "{start} to {end} is no range of statuses; 100 to 600 is, without the end"
                ));
            }
        }
    }
    fine.map(|()| all)
}
