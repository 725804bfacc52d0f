//! What routes and virtual hosts do with requests.

use super::refused;
use super::routes::{action_refused, good_route, route_refused, routes_of};
use super::{number, seconds, told};
use crate::source::xds::Kind;
use crate::source::xds::proto::{Any, core, percent, route};
use route::route_action::ClusterSpecifier;

fn plugin(name: &str, is_optional: bool) -> route::ClusterSpecifierPlugin {
    route::ClusterSpecifierPlugin {
        extension: Some(core::TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(Any {
                type_url: "type.googleapis.com/x.Y".into(),
                value: Vec::new(),
            }),
        }),
        is_optional,
    }
}

/// A configuration with these plugins, and a route that picks its cluster in this way.
fn picking(
    plugins: Vec<route::ClusterSpecifierPlugin>,
    specifier: ClusterSpecifier,
) -> route::RouteConfiguration {
    let action = route::RouteAction {
        cluster_specifier: Some(specifier),
        ..route::RouteAction::default()
    };
    route::RouteConfiguration {
        cluster_specifier_plugins: plugins,
        ..routes_of(route::Route {
            action: Some(route::route::Action::Route(action)),
            ..good_route()
        })
    }
}

/// None is known here, so a required one is refused and a route of an optional one is skipped.
#[test]
fn d6_plugins_that_pick_clusters_are_refused_unless_optional() {
    let kind = Kind::RouteConfiguration;
    let by = |name: &str| ClusterSpecifier::ClusterSpecifierPlugin(name.to_owned());
    let unknown =
        "extension.typed_config: \"x.Y\" is no cluster specifier plugin that is known here";
    refused(
        kind,
        &picking(vec![plugin("p", true), plugin("q", false)], by("p")),
        &format!("cluster_specifier_plugins[1].{unknown}"),
    );
    refused(
        kind,
        &picking(vec![plugin("p", true)], by("q")),
        "virtual_hosts[0].routes[1].route.cluster_specifier_plugin: \"q\" is none of \
         cluster_specifier_plugins",
    );
    let inline = |optional| ClusterSpecifier::InlineClusterSpecifierPlugin(plugin("p", optional));
    refused(
        kind,
        &picking(Vec::new(), inline(false)),
        &format!("virtual_hosts[0].routes[1].route.inline_cluster_specifier_plugin.{unknown}"),
    );
    for good in [
        picking(vec![plugin("p", true)], by("p")),
        picking(Vec::new(), inline(true)),
        picking(Vec::new(), ClusterSpecifier::ClusterHeader("x-a".into())),
    ] {
        assert_eq!(told(kind, &good), "");
    }
}

#[test]
fn d6_clusters_of_routes_that_are_refused() {
    use route::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
    action_refused(
        |a| a.cluster_specifier = Some(ClusterSpecifier::Cluster(String::new())),
        ".cluster: is empty",
    );
    let one = || ClusterWeight {
        name: "a".into(),
        weight: number(1),
        ..ClusterWeight::default()
    };
    let weighted = |cluster: ClusterWeight, drawn: Option<RandomValueSpecifier>| {
        Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: vec![cluster],
            random_value_specifier: drawn,
            ..route::WeightedCluster::default()
        }))
    };
    let unnamed = ClusterWeight {
        name: String::new(),
        ..one()
    };
    let by_header = ClusterWeight {
        cluster_header: "x-a".into(),
        ..one()
    };
    let elsewhere = ClusterWeight {
        host_rewrite_specifier: Some(
            route::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(
                "a b".into(),
            ),
        ),
        ..one()
    };
    let header = RandomValueSpecifier::HeaderName("x-a".into());
    for (specifier, expected) in [
        (weighted(unnamed, None), ".clusters[0].name: is empty"),
        (
            weighted(by_header, None),
            ".clusters[0].cluster_header: is not supported; name the cluster",
        ),
        (
            weighted(elsewhere, None),
            ".clusters[0].host_rewrite_literal: \"a b\" is no authority",
        ),
        (
            weighted(one(), Some(header)),
            ": draws by a header or a hash, which is not supported",
        ),
    ] {
        action_refused(
            |a| a.cluster_specifier = specifier,
            &format!(".weighted_clusters{expected}"),
        );
    }
}

#[test]
fn d6_rewrites_that_are_refused() {
    use route::route_action::HostRewriteSpecifier as Host;
    for (host, expected) in [
        (
            Host::HostRewriteLiteral("a b".into()),
            ".host_rewrite_literal: \"a b\" is no authority",
        ),
        (
            Host::HostRewriteHeader("x-a".into()),
            ".host_rewrite_header: is not supported; host_rewrite_literal is",
        ),
        (
            Host::HostRewritePathRegex(Default::default()),
            ".host_rewrite_path_regex: is not supported; host_rewrite_literal is",
        ),
    ] {
        action_refused(|a| a.host_rewrite_specifier = Some(host), expected);
    }
    action_refused(
        |a| {
            a.prefix_rewrite = "/b".into();
            a.regex_rewrite = Some(Default::default());
        },
        ": has both prefix_rewrite and regex_rewrite; one of them is allowed",
    );
    action_refused(
        |a| a.regex_rewrite = Some(Default::default()),
        ".regex_rewrite.pattern: is missing",
    );
    action_refused(
        |a| a.path_rewrite_policy = Some(Default::default()),
        ": rewrites the path by path_rewrite or path_rewrite_policy",
    );
    action_refused(
        |a| a.retry_policy_typed_config = Some(Default::default()),
        ".retry_policy_typed_config: is not supported; use \"retry_policy\"",
    );
}

#[test]
fn d6_copies_and_hedges_that_are_refused() {
    use route::route_action::RequestMirrorPolicy as Mirror;
    let mirror = |change: fn(&mut Mirror), expected: &str| {
        let mut policy = Mirror {
            cluster: "b".into(),
            ..Mirror::default()
        };
        change(&mut policy);
        action_refused(
            |a| a.request_mirror_policies = vec![policy],
            &format!(".request_mirror_policies[0]{expected}"),
        );
    };
    mirror(|m| m.cluster.clear(), ".cluster: is empty");
    mirror(
        |m| m.cluster_header = "x-a".into(),
        ".cluster_header: is not supported; name the cluster",
    );
    mirror(
        |m| m.host_rewrite_literal = "b".into(),
        ": changes headers or the host of the copy",
    );
    let hedged = |hedge: route::HedgePolicy, expected: &str| {
        action_refused(
            |a| {
                a.hedge_policy = Some(hedge);
                a.retry_policy = Some(route::RetryPolicy {
                    retry_on: "5xx".into(),
                    ..route::RetryPolicy::default()
                });
            },
            &format!(".hedge_policy{expected}"),
        );
    };
    let several = route::HedgePolicy {
        initial_requests: number(2),
        ..route::HedgePolicy::default()
    };
    hedged(
        several,
        ".initial_requests: is not 1; several tries at once",
    );
    let chance = route::HedgePolicy {
        additional_request_chance: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 0,
        }),
        ..route::HedgePolicy::default()
    };
    hedged(chance, ".additional_request_chance: is above 0");
}

#[test]
fn d6_retries_of_other_kinds_that_are_refused() {
    use super::routes::retry_refused;
    use route::retry_policy::{RetryHostPredicate, RetryPriority};
    let policy = route::RetryPolicy::default;
    retry_refused(
        route::RetryPolicy {
            retriable_status_codes: vec![503, 1_000],
            ..policy()
        },
        "retriable_status_codes[1]: 1000 is no status; 100 to 999 is allowed",
    );
    let valued = route::HeaderMatcher {
        name: "x-a".into(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::ExactMatch(
            "b".into(),
        )),
        ..route::HeaderMatcher::default()
    };
    retry_refused(
        route::RetryPolicy {
            retriable_headers: vec![valued],
            ..policy()
        },
        "retriable_headers[0]: matches a value, which is not supported",
    );
    retry_refused(
        route::RetryPolicy {
            retry_host_predicate: vec![RetryHostPredicate {
                name: "x".into(),
                ..RetryHostPredicate::default()
            }],
            ..policy()
        },
        "retry_host_predicate[0].name: is not supported",
    );
    let priority = |name: &str| {
        Some(RetryPriority {
            name: name.into(),
            ..RetryPriority::default()
        })
    };
    retry_refused(
        route::RetryPolicy {
            retry_priority: priority("x"),
            ..policy()
        },
        "retry_priority.name: is not supported",
    );
    retry_refused(
        route::RetryPolicy {
            retry_priority: priority("envoy.retry_priorities.previous_priorities"),
            ..policy()
        },
        "retry_priority.typed_config: is missing; a PreviousPrioritiesConfig is required",
    );
    retry_refused(
        route::RetryPolicy {
            retriable_request_headers: vec![route::HeaderMatcher::default()],
            ..policy()
        },
        "retriable_request_headers: is not supported; leave it out",
    );
    retry_refused(
        route::RetryPolicy {
            per_try_idle_timeout: seconds(1),
            ..policy()
        },
        "per_try_idle_timeout: is not supported",
    );
    retry_refused(
        route::RetryPolicy {
            per_try_timeout: seconds(-1),
            ..policy()
        },
        "per_try_timeout: -1 s and 0 ns",
    );
}

#[test]
fn d6_answers_that_are_refused() {
    use route::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
    use route::route::Action;
    let direct = |change: fn(&mut route::DirectResponseAction), expected: &str| {
        let mut answer = route::DirectResponseAction {
            status: 404,
            ..route::DirectResponseAction::default()
        };
        change(&mut answer);
        route_refused(
            |r| r.action = Some(Action::DirectResponse(answer)),
            &format!("direct_response.{expected}"),
        );
    };
    direct(
        |d| d.status = 600,
        "status: 600 is not the status of an answer: 200 to 599 is allowed",
    );
    direct(
        |d| d.body_format = Some(Default::default()),
        "body_format: is not supported; \"body\" is",
    );
    direct(
        |d| {
            d.body = Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::Filename("/etc/passwd".into())),
                ..core::DataSource::default()
            });
        },
        "body: is read from this machine, which is not supported; inline_bytes",
    );
    direct(
        |d| {
            d.body = Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineBytes(vec![
                    0;
                    (1 << 20) + 1
                ])),
                ..core::DataSource::default()
            });
        },
        "body: has 1048577 bytes; at most 1048576 are allowed",
    );
    let redirect = |change: fn(&mut route::RedirectAction), expected: &str| {
        let mut answer = route::RedirectAction::default();
        change(&mut answer);
        route_refused(
            |r| r.action = Some(Action::Redirect(answer)),
            &format!("redirect.{expected}"),
        );
    };
    redirect(
        |r| r.strip_query = true,
        "strip_query: is true, which is not supported; the query stays",
    );
    redirect(
        |r| r.response_code = 9,
        "response_code: 9 is unknown; 0 to 4 are allowed",
    );
    redirect(
        |r| r.port_redirect = 70_000,
        "port_redirect: 70000 is no port; 0 to 65535 is allowed",
    );
    redirect(
        |r| {
            let scheme = SchemeRewriteSpecifier::SchemeRedirect("a b".into());
            r.scheme_rewrite_specifier = Some(scheme);
        },
        "scheme_redirect: \"a b\" is no scheme",
    );
    redirect(
        |r| {
            let rewrite = PathRewriteSpecifier::RegexRewrite(Default::default());
            r.path_rewrite_specifier = Some(rewrite);
        },
        "regex_rewrite.pattern: is missing",
    );
    route_refused(
        |r| r.action = Some(Action::FilterAction(Default::default())),
        "filter_action: is not supported; route, redirect, direct_response and",
    );
}

#[test]
fn d4_virtual_hosts_that_are_refused() {
    type Change = fn(&mut route::RouteConfiguration);
    let rows: [(Change, &str); 6] = [
        (
            |c| c.vhost_header = "x-a".into(),
            "vhost_header: picks virtual hosts by another header",
        ),
        (
            |c| c.virtual_hosts[0].require_tls = 1,
            "virtual_hosts[0].require_tls: redirects of a server to TLS are not supported",
        ),
        (
            |c| c.virtual_hosts[0].matcher = Some(Default::default()),
            "virtual_hosts[0].matcher: routes by a matcher tree are not supported",
        ),
        (
            |c| c.virtual_hosts[0].retry_policy_typed_config = Some(Default::default()),
            "virtual_hosts[0].retry_policy_typed_config: extensions of retries are not supported",
        ),
        (
            |c| {
                c.virtual_hosts[0].retry_policy = Some(route::RetryPolicy {
                    num_retries: number(0),
                    ..route::RetryPolicy::default()
                });
            },
            "virtual_hosts[0].retry_policy.num_retries: is 0; 1 or more is allowed",
        ),
        (
            |c| c.request_headers_to_add = vec![changed_header("a b", "c")],
            "request_headers_to_add[0].header.key: \"a b\" is not the name of a header",
        ),
    ];
    for (change, expected) in rows {
        let mut message = routes_of(good_route());
        change(&mut message);
        refused(Kind::RouteConfiguration, &message, expected);
    }
    route_refused(
        |r| r.response_headers_to_add = vec![changed_header("x-a", "a\nb")],
        "response_headers_to_add[0].header.value: has characters that no header value may have",
    );
    route_refused(
        |r| {
            let mut change = changed_header("x-a", "b");
            change.append_action = 9;
            r.request_headers_to_add = vec![change];
        },
        "request_headers_to_add[0].append_action: 9 is unknown; 0 to 3 are allowed",
    );
    route_refused(
        |r| r.request_headers_to_remove = vec!["a b".into()],
        "request_headers_to_remove[0]: \"a b\" is not the name of a header",
    );
}

fn changed_header(key: &str, value: &str) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: key.into(),
            value: value.into(),
            ..core::HeaderValue::default()
        }),
        ..core::HeaderValueOption::default()
    }
}
