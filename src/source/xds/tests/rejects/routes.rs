//! Route configurations, virtual hosts and matches.

use super::refused;
use crate::source::xds::Kind;
use crate::source::xds::proto::{core, matcher, percent, route};

fn action() -> route::RouteAction {
    route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster("a".into())),
        ..route::RouteAction::default()
    }
}

pub(super) fn good_route() -> route::Route {
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::Route(action())),
        ..route::Route::default()
    }
}

pub(super) fn routes_of(route: route::Route) -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: "routes".to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            domains: vec!["*".to_owned()],
            routes: vec![good_route(), route],
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    }
}

#[track_caller]
pub(super) fn route_refused(change: impl FnOnce(&mut route::Route), expected: &str) {
    let mut route = good_route();
    change(&mut route);
    let expected = format!("virtual_hosts[0].routes[1].{expected}");
    refused(Kind::RouteConfiguration, &routes_of(route), &expected);
}

#[track_caller]
fn match_refused(change: impl FnOnce(&mut route::RouteMatch), expected: &str) {
    let change = |route: &mut route::Route| change(route.r#match.get_or_insert_default());
    route_refused(change, &format!("match{expected}"));
}

#[track_caller]
pub(super) fn action_refused(change: impl FnOnce(&mut route::RouteAction), expected: &str) {
    let mut action = action();
    change(&mut action);
    let change =
        |route: &mut route::Route| route.action = Some(route::route::Action::Route(action));
    route_refused(change, &format!("route{expected}"));
}

#[track_caller]
pub(super) fn retry_refused(policy: route::RetryPolicy, expected: &str) {
    let policy = route::RetryPolicy {
        retry_on: "5xx".into(),
        ..policy
    };
    action_refused(
        |a| a.retry_policy = Some(policy),
        &format!(".retry_policy.{expected}"),
    );
}

#[test]
fn d4_a_route_without_an_action_is_refused() {
    let route = route::Route {
        action: None,
        ..good_route()
    };
    refused(
        Kind::RouteConfiguration,
        &routes_of(route),
        "virtual_hosts[0].routes[1]: has no action",
    );
}

#[test]
fn d4_d5_matches_that_are_refused() {
    use route::header_matcher::HeaderMatchSpecifier as Header;
    use route::route_match::PathSpecifier as Path;
    route_refused(|r| r.r#match = None, "match: is missing");
    match_refused(|m| m.path_specifier = None, ": has no path specifier");
    let connect = Path::ConnectMatcher(Default::default());
    match_refused(
        |m| m.path_specifier = Some(connect),
        ".connect_matcher: is not supported",
    );
    let regex = |regex: &str| matcher::RegexMatcher {
        regex: regex.into(),
        engine_type: None,
    };
    let broken = Path::SafeRegex(regex("("));
    match_refused(
        |m| m.path_specifier = Some(broken),
        ".safe_regex.regex: not a regular expression",
    );
    let long = Path::SafeRegex(regex(&"a".repeat(1_025)));
    match_refused(
        |m| m.path_specifier = Some(long),
        ".safe_regex.regex: the regular expression has 1025 bytes; at most 1024 are allowed",
    );
    let segments = Path::PathSeparatedPrefix("/a/".into());
    match_refused(
        |m| m.path_specifier = Some(segments),
        ".path_separated_prefix: \"/a/\" is no prefix",
    );
    let header = |specifier: Option<Header>| route::HeaderMatcher {
        name: "x-a".into(),
        header_match_specifier: specifier,
        ..Default::default()
    };
    match_refused(
        |m| m.headers = vec![header(None)],
        ".headers[0]: has no specifier",
    );
    for (empty, field) in [
        (Header::PrefixMatch(String::new()), "prefix_match"),
        (Header::SuffixMatch(String::new()), "suffix_match"),
        (Header::ContainsMatch(String::new()), "contains_match"),
    ] {
        match_refused(
            |m| m.headers = vec![header(Some(empty))],
            &format!(".headers[0].{field}: is empty"),
        );
    }
    let unset = header(Some(Header::StringMatch(Default::default())));
    match_refused(
        |m| m.headers = vec![unset],
        ".headers[0].string_match: has no pattern",
    );
    let broken = header(Some(Header::SafeRegexMatch(regex("["))));
    match_refused(
        |m| m.headers = vec![broken],
        ".headers[0].safe_regex_match.regex: not a regular",
    );
    let present = || Some(Header::PresentMatch(true));
    let nameless = route::HeaderMatcher {
        name: "a b".into(),
        ..header(present())
    };
    match_refused(
        |m| m.headers = vec![nameless],
        ".headers[0].name: \"a b\" is not the name of a header",
    );
    let path = route::HeaderMatcher {
        name: ":path".into(),
        ..header(present())
    };
    match_refused(
        |m| m.headers = vec![path],
        ".headers[0].name: \":path\" cannot be matched",
    );
    match_refused(
        |m| m.tls_context = Some(Default::default()),
        ".tls_context: is a condition",
    );
    match_refused(
        |m| m.dynamic_metadata = vec![Default::default()],
        ".dynamic_metadata: is a condition",
    );
    let share = core::RuntimeFractionalPercent {
        default_value: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 9,
        }),
        runtime_key: String::new(),
    };
    match_refused(
        |m| m.runtime_fraction = Some(share),
        ".runtime_fraction.default_value.denominator: 9 is unknown",
    );
}

#[test]
fn d5_matches_of_query_parameters_that_are_refused() {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let rows = [
        ("", None, "name: is empty"),
        (
            "a",
            Some(Specifier::PresentMatch(false)),
            "present_match: is false, which is not supported; true is allowed",
        ),
        (
            "a",
            Some(Specifier::StringMatch(Default::default())),
            "string_match: has no pattern",
        ),
    ];
    for (name, specifier, expected) in rows {
        let query = route::QueryParameterMatcher {
            name: name.into(),
            query_parameter_match_specifier: specifier,
        };
        match_refused(
            |m| m.query_parameters = vec![query],
            &format!(".query_parameters[0].{expected}"),
        );
    }
}

#[test]
fn domains_that_are_refused() {
    let with = |domains: &[&str]| {
        let mut routes = routes_of(good_route());
        routes.virtual_hosts[0].domains = domains.iter().map(|text| (*text).to_owned()).collect();
        routes
    };
    refused(
        Kind::RouteConfiguration,
        &with(&[]),
        "virtual_hosts[0].domains: is empty",
    );
    refused(
        Kind::RouteConfiguration,
        &with(&["a*b"]),
        "virtual_hosts[0].domains[0]: \"a*b\" is no domain",
    );
    refused(
        Kind::RouteConfiguration,
        &with(&["a", "A"]),
        "virtual_hosts[0].domains[1]: stands also in virtual_hosts[0]",
    );
}
