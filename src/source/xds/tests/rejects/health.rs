//! Active health checks.

use super::clusters::cluster_refused;
use super::{number, seconds};
use crate::source::xds::proto::core::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
};
use crate::source::xds::proto::{core, percent};

fn good() -> core::HealthCheck {
    core::HealthCheck {
        timeout: seconds(1),
        interval: seconds(1),
        health_checker: Some(HealthChecker::HttpHealthCheck(HttpHealthCheck {
            path: "/healthy".into(),
            ..HttpHealthCheck::default()
        })),
        ..core::HealthCheck::default()
    }
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut core::HealthCheck), expected: &str) {
    let mut check = good();
    change(&mut check);
    cluster_refused(
        |c| c.health_checks = vec![check],
        &format!("health_checks[0]{expected}"),
    );
}

#[track_caller]
fn http_refused(change: impl FnOnce(&mut HttpHealthCheck), expected: &str) {
    let expected = format!(".http_health_check{expected}");
    check_refused(
        |check| match &mut check.health_checker {
            Some(HealthChecker::HttpHealthCheck(http)) => change(http),
            _ => unreachable!("the good one asks by HTTP"),
        },
        &expected,
    );
}

#[test]
fn d8_health_checks_that_are_refused() {
    type Change = fn(&mut core::HealthCheck);
    cluster_refused(
        |c| c.health_checks = vec![good(), good()],
        "health_checks: has 2 entries; 1 is supported",
    );
    let rows: [(Change, &str); 16] = [
        (|c| c.timeout = None, ".timeout: is missing"),
        (|c| c.timeout = seconds(0), ".timeout: is zero"),
        (|c| c.interval = None, ".interval: is missing"),
        (|c| c.interval = seconds(0), ".interval: is zero"),
        (
            |c| c.unhealthy_interval = seconds(0),
            ".unhealthy_interval: is zero",
        ),
        (
            |c| c.healthy_edge_interval = seconds(0),
            ".healthy_edge_interval: is zero",
        ),
        (
            |c| c.unhealthy_edge_interval = seconds(0),
            ".unhealthy_edge_interval: is zero",
        ),
        (
            |c| c.no_traffic_interval = seconds(0),
            ".no_traffic_interval: is zero",
        ),
        (
            |c| c.interval_jitter = seconds(-1),
            ".interval_jitter: -1 s and 0 ns",
        ),
        (
            |c| c.initial_jitter = seconds(-1),
            ".initial_jitter: -1 s and 0 ns",
        ),
        (
            |c| c.healthy_threshold = number(0),
            ".healthy_threshold: is 0; 1 or more is allowed",
        ),
        (
            |c| c.unhealthy_threshold = number(0),
            ".unhealthy_threshold: is 0; 1 or more is allowed",
        ),
        (
            |c| c.alt_port = number(1),
            ".alt_port: is not supported; leave it out",
        ),
        (
            |c| c.transport_socket_match_criteria = Some(Default::default()),
            ".transport_socket_match_criteria: is not supported",
        ),
        (
            |c| c.health_checker = Some(HealthChecker::CustomHealthCheck(Default::default())),
            ".custom_health_check: is not supported; http_health_check,",
        ),
        (
            |c| c.health_checker = None,
            ": asks nothing; http_health_check,",
        ),
    ];
    for (change, expected) in rows {
        check_refused(change, expected);
    }
}

#[test]
fn d8_questions_of_health_checks_that_are_refused() {
    type Change = fn(&mut HttpHealthCheck);
    let rows: [(Change, &str); 10] = [
        (|h| h.path.clear(), ".path: is empty"),
        (|h| h.path = "a b".into(), ".path: \"a b\" is no path"),
        (
            |h| h.host = "a b".into(),
            ".host: \"a b\" is no authority; \"host\" and \"host:port\" are allowed",
        ),
        (
            |h| h.method = core::RequestMethod::Connect.into(),
            ".method: 6 is no method of a check; all but CONNECT (6) are allowed",
        ),
        (
            |h| h.codec_client_type = 2,
            ".codec_client_type: 2 is not supported; HTTP1 (0) and HTTP2 (1) are",
        ),
        (
            |h| {
                h.expected_statuses = vec![percent::Int64Range {
                    start: 200,
                    end: 200,
                }]
            },
            ".expected_statuses[0]: 200 to 200 is no range of statuses; 100 to 600 is",
        ),
        (
            |h| {
                h.retriable_statuses = vec![percent::Int64Range {
                    start: 500,
                    end: 601,
                }]
            },
            ".retriable_statuses[0]: 500 to 601 is no range of statuses",
        ),
        (
            |h| h.receive = vec![Payload::default()],
            ".receive: is not supported; leave it out",
        ),
        (
            |h| h.service_name_matcher = Some(Default::default()),
            ".service_name_matcher: is not supported",
        ),
        (
            |h| h.request_headers_to_add = vec![Default::default()],
            ".request_headers_to_add[0].header: is missing",
        ),
    ];
    for (change, expected) in rows {
        http_refused(change, expected);
    }
    let grpc = GrpcHealthCheck {
        authority: "a b".into(),
        ..GrpcHealthCheck::default()
    };
    check_refused(
        |c| c.health_checker = Some(HealthChecker::GrpcHealthCheck(grpc)),
        ".grpc_health_check.authority: \"a b\" is no authority",
    );
    let tcp = |send: Option<payload::Payload>| TcpHealthCheck {
        send: Some(Payload { payload: send }),
        ..TcpHealthCheck::default()
    };
    for (send, expected) in [
        (None, ".send: is empty; text and binary are allowed"),
        (
            Some(payload::Payload::Text("0g".into())),
            ".send.text: \"0g\" is not hexadecimal, two digits for each byte",
        ),
    ] {
        check_refused(
            |c| c.health_checker = Some(HealthChecker::TcpHealthCheck(tcp(send))),
            &format!(".tcp_health_check{expected}"),
        );
    }
}
