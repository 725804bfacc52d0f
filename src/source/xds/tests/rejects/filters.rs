//! Filters of clients: injected faults, sessions, and what a chain says of each.

use super::listeners::{ads, filter, listener_refused};
use super::routes::route_refused;
use super::seconds;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, core, fault, fault_delay, hcm, http_type, local_rate, percent, route, router, session,
    session_cookie, session_header,
};

/// In the chain of a listener.
#[track_caller]
fn filter_refused(config: Any, expected: &str) {
    listener_refused(
        |manager| manager.http_filters.insert(0, filter("the filter", config)),
        &format!("api_listener.api_listener.http_filters[0].typed_config{expected}"),
    );
}

/// At a route.
#[track_caller]
fn override_refused(config: Any, expected: &str) {
    route_refused(
        |route| route.typed_per_filter_config = [("the filter".to_owned(), config)].into(),
        &format!("typed_per_filter_config[\"the filter\"]{expected}"),
    );
}

fn faulty(change: impl FnOnce(&mut fault::HttpFault)) -> Any {
    let mut message = fault::HttpFault::default();
    change(&mut message);
    any(&message)
}

fn delay(
    specifier: Option<fault_delay::fault_delay::FaultDelaySecifier>,
    denominator: i32,
) -> Option<fault_delay::FaultDelay> {
    Some(fault_delay::FaultDelay {
        percentage: Some(percent::FractionalPercent {
            numerator: 1,
            denominator,
        }),
        fault_delay_secifier: specifier,
    })
}

fn abort(specifier: Option<fault::fault_abort::ErrorType>) -> Option<fault::FaultAbort> {
    Some(fault::FaultAbort {
        error_type: specifier,
        ..fault::FaultAbort::default()
    })
}

#[test]
fn d7_faults_that_cannot_be_injected_are_refused() {
    use fault::fault_abort::ErrorType;
    use fault_delay::fault_delay::FaultDelaySecifier as Specifier;
    let elsewhere = "is not supported; delay, abort and max_active_faults are";
    let fixed = |length| Specifier::FixedDelay(length);
    let rows: Vec<(Any, String)> = vec![
        (
            faulty(|f| f.upstream_cluster = "a".to_owned()),
            format!(".upstream_cluster: {elsewhere}"),
        ),
        (
            faulty(|f| f.headers = vec![Default::default()]),
            format!(".headers: {elsewhere}"),
        ),
        (
            faulty(|f| f.downstream_nodes = vec!["a".to_owned()]),
            format!(".downstream_nodes: {elsewhere}"),
        ),
        (
            faulty(|f| f.response_rate_limit = Some(Default::default())),
            format!(".response_rate_limit: {elsewhere}"),
        ),
        (
            faulty(|f| f.delay = delay(None, 0)),
            ".delay: has no length; fixed_delay and header_delay are allowed".to_owned(),
        ),
        (
            faulty(|f| f.delay = delay(seconds(-1).map(fixed), 0)),
            ".delay.fixed_delay: -1 s and 0 ns is no duration".to_owned(),
        ),
        (
            faulty(|f| f.delay = delay(seconds(1).map(fixed), 3)),
            ".delay.percentage.denominator: 3 is unknown; HUNDRED (0), TEN_THOUSAND (1) and MILLION (2)"
                .to_owned(),
        ),
        (
            faulty(|f| f.abort = abort(None)),
            ".abort: has no status; http_status, grpc_status and header_abort are allowed"
                .to_owned(),
        ),
        (
            faulty(|f| f.abort = abort(Some(ErrorType::HttpStatus(600)))),
            ".abort.http_status: 600 is not the status of an answer: 200 to 599 is allowed"
                .to_owned(),
        ),
        (
            faulty(|f| {
                f.abort = abort(Some(ErrorType::HttpStatus(503)));
                f.abort.get_or_insert_default().response_body = "no".to_owned();
            }),
            ".abort.response_body: is not supported; leave it out".to_owned(),
        ),
        (
            faulty(|f| {
                f.abort = abort(Some(ErrorType::GrpcStatus(14)));
                f.abort.get_or_insert_default().percentage = Some(percent::FractionalPercent {
                    numerator: 1,
                    denominator: -1,
                });
            }),
            ".abort.percentage.denominator: -1 is unknown".to_owned(),
        ),
    ];
    for (config, expected) in rows {
        filter_refused(config.clone(), &expected);
        override_refused(config, &expected);
    }
}

fn state(config: Option<Any>) -> session::StatefulSession {
    session::StatefulSession {
        session_state: Some(core::TypedExtensionConfig {
            name: "state".to_owned(),
            typed_config: config,
        }),
        ..session::StatefulSession::default()
    }
}

fn cookie(cookie: Option<http_type::Cookie>) -> session::StatefulSession {
    state(Some(any(&session_cookie::CookieBasedSessionState {
        cookie,
    })))
}

#[test]
fn d7_sessions_that_cannot_be_kept_are_refused() {
    let named = |name: &str, ttl| {
        cookie(Some(http_type::Cookie {
            name: name.to_owned(),
            ttl,
            ..http_type::Cookie::default()
        }))
    };
    let header = |name: &str| {
        state(Some(any(&session_header::HeaderBasedSessionState {
            name: name.to_owned(),
        })))
    };
    let at = ".session_state.typed_config";
    let rows = [
        (state(None), format!("{at}: is missing")),
        (
            state(Some(any(&router::Router::default()))),
            format!(
                "{at}: is of type \"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\""
            ),
        ),
        (cookie(None), format!("{at}.cookie: is missing")),
        (named("", None), format!("{at}.cookie.name: is empty")),
        (
            named("a", seconds(-1)),
            format!("{at}.cookie.ttl: -1 s and 0 ns is no duration"),
        ),
        (header("a b"), format!("{at}.name: is no name of a header")),
        (header(""), format!("{at}.name: is no name of a header")),
        (
            session::StatefulSession {
                strict: true,
                status_on_strict_destination_not_found: 404,
                ..session::StatefulSession::default()
            },
            ".status_on_strict_destination_not_found: is 404; only 503 is supported, or 0 for it"
                .to_owned(),
        ),
    ];
    use session::stateful_session_per_route::Override;
    let of = |said: Override| {
        any(&session::StatefulSessionPerRoute {
            r#override: Some(said),
        })
    };
    for (message, expected) in rows {
        filter_refused(any(&message), &expected);
        override_refused(
            of(Override::StatefulSession(message)),
            &format!(".stateful_session{expected}"),
        );
    }
    override_refused(
        of(Override::Disabled(false)),
        ".disabled: is false; only true is allowed",
    );
}

#[test]
fn d7_sessions_of_one_of_several_clusters_are_refused() {
    use route::route_action::ClusterSpecifier;
    use session::stateful_session_per_route::Override;
    let own = any(&session::StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(cookie(Some(http_type::Cookie {
            name: "a".to_owned(),
            ..http_type::Cookie::default()
        })))),
    });
    let one = route::weighted_cluster::ClusterWeight {
        name: "a".to_owned(),
        weight: super::number(1),
        typed_per_filter_config: [("session".to_owned(), own)].into(),
        ..Default::default()
    };
    super::routes::action_refused(
        |action| {
            action.cluster_specifier =
                Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
                    clusters: vec![one],
                    ..route::WeightedCluster::default()
                }));
        },
        ".weighted_clusters.clusters[0].typed_per_filter_config: configures sessions for one cluster",
    );
}

#[test]
fn d7_filters_that_come_otherwise_are_refused() {
    let without = |config_type| hcm::HttpFilter {
        name: "the filter".to_owned(),
        config_type,
        ..hcm::HttpFilter::default()
    };
    let at = "api_listener.api_listener.http_filters[0].typed_config";
    listener_refused(
        |m| {
            let discovered = hcm::http_filter::ConfigType::ConfigDiscovery(Default::default());
            m.http_filters.insert(0, without(Some(discovered)));
        },
        &format!("{at}: comes by another resource, which is not supported; inline it"),
    );
    listener_refused(
        |m| m.http_filters.insert(0, without(None)),
        &format!("{at}: is missing"),
    );
    let second = "api_listener.api_listener.http_filters[1].typed_config: is the second filter of its \
                  type; one of each is supported";
    let twice = [
        any(&fault::HttpFault::default()),
        any(&cookie(Some(http_type::Cookie {
            name: "a".to_owned(),
            ..http_type::Cookie::default()
        }))),
    ];
    for config in twice {
        listener_refused(
            |m| {
                m.http_filters.insert(0, filter("b", config.clone()));
                m.http_filters.insert(0, filter("a", config));
            },
            second,
        );
    }
    let nothing = route::FilterConfig::default();
    override_refused(any(&nothing), ".config: is missing");
    let wrapped = route::FilterConfig {
        config: Some(faulty(|f| f.delay = delay(None, 0))),
        // Of what is known an optional one is read all the same.
        is_optional: true,
        disabled: false,
    };
    override_refused(any(&wrapped), ".config.delay: has no length");
}

#[test]
fn d11_connection_managers_that_are_refused() {
    use hcm::http_connection_manager::RouteSpecifier;
    let at = "api_listener.api_listener";
    listener_refused(
        |m| {
            m.common_http_protocol_options = Some(core::HttpProtocolOptions {
                max_stream_duration: seconds(-1),
                ..core::HttpProtocolOptions::default()
            });
        },
        &format!(
            "{at}.common_http_protocol_options.max_stream_duration: -1 s and 0 ns is no duration"
        ),
    );
    let from = |config_source| {
        Some(RouteSpecifier::Rds(hcm::Rds {
            config_source,
            route_config_name: "routes".to_owned(),
        }))
    };
    listener_refused(
        |m| m.route_specifier = from(None),
        &format!("{at}.rds.config_source: is missing"),
    );
    let nowhere = core::ConfigSource {
        config_source_specifier: None,
        ..ads()
    };
    listener_refused(
        |m| m.route_specifier = from(Some(nowhere)),
        &format!("{at}.rds.config_source: names no source; \"ads\" and \"self\" are allowed"),
    );
    // The path of an inline route begins at the listener.
    let inline = route::RouteConfiguration {
        virtual_hosts: vec![route::VirtualHost::default()],
        ..route::RouteConfiguration::default()
    };
    listener_refused(
        |m| m.route_specifier = Some(RouteSpecifier::RouteConfig(inline)),
        &format!("{at}.route_config.virtual_hosts[0].domains: is empty"),
    );
}

#[cfg(feature = "rate-limit")]
#[test]
fn d7_limits_of_routes_that_cannot_be_counted_are_refused() {
    let bucket = |change: fn(&mut local_rate::LocalRateLimit)| {
        let mut limit = local_rate::LocalRateLimit {
            stat_prefix: "limit".to_owned(),
            ..local_rate::LocalRateLimit::default()
        };
        change(&mut limit);
        any(&limit)
    };
    type Change = fn(&mut local_rate::LocalRateLimit);
    let rows: [(Change, &str); 8] = [
        (
            |l| l.local_cluster_rate_limit = Some(Default::default()),
            ".local_cluster_rate_limit: is not supported; leave it out",
        ),
        (
            |l| l.request_headers_to_add_when_not_enforced = vec![Default::default()],
            ".request_headers_to_add_when_not_enforced: is not supported; leave it out",
        ),
        (
            |l| l.response_headers_to_add = vec![Default::default()],
            ".response_headers_to_add[0].header: is missing",
        ),
        (
            |l| l.status = Some(percent::HttpStatus { code: 600 }),
            ".status.code: 600 is not the status of an answer",
        ),
        (
            |l| {
                l.token_bucket = Some(percent::TokenBucket {
                    max_tokens: 1,
                    tokens_per_fill: super::number(0),
                    fill_interval: seconds(1),
                });
            },
            ".token_bucket: 0 tokens each 1s fill no bucket: both must be above 0",
        ),
        (
            |l| {
                l.token_bucket = Some(percent::TokenBucket {
                    max_tokens: 1,
                    tokens_per_fill: None,
                    fill_interval: seconds(-1),
                });
            },
            ".token_bucket.fill_interval: -1 s and 0 ns is no duration",
        ),
        (
            |l| l.filter_enabled = unknown_share(),
            ".filter_enabled.default_value.denominator: 7 is unknown",
        ),
        (
            |l| l.filter_enforced = unknown_share(),
            ".filter_enforced.default_value.denominator: 7 is unknown",
        ),
    ];
    for (change, expected) in rows {
        filter_refused(bucket(change), expected);
        override_refused(bucket(change), expected);
    }
}

#[cfg(feature = "rate-limit")]
fn unknown_share() -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent {
        default_value: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 7,
        }),
        runtime_key: String::new(),
    })
}
