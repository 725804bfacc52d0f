//! Routes of the Gateway API for services.

use http::StatusCode;
use meshwork::Workload;
use meshwork::model::limit::RetryLimit;
use meshwork::model::matcher::{PathMatcher, RouteMatcher};
use meshwork::model::route::{Action, HeaderChange, PathRewrite, RedirectPort, Route};
use meshwork::model::security::Security;
use meshwork::model::{Cluster, Percent};
use meshwork::source::istio::{Compiled, Options};
use std::time::Duration;

use super::{
    CATALOG, assert_silent, assert_warns, catalog, compiled, compiled_as, destinations, forward,
    order, resources, routes, service, taken, virtual_service,
};

const TO_CATALOG: &str = "backendRefs: [{name: catalog, port: 80}]";

/// An HTTPRoute with these parents and rules.
fn route(name: &str, parents: &str, rules: &str) -> String {
    object(
        "HTTPRoute",
        name,
        &format!("{{parentRefs: [{parents}], rules: [{rules}]}}"),
    )
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let (name, namespace) = name.split_once('.').expect("name.namespace");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// A parent that is a service, with more fields.
fn parent(name: &str, more: &str) -> String {
    format!("{{group: '', kind: Service, name: {name}{more}}}")
}

/// A route of the catalog in its own namespace.
fn of_catalog(rules: &str) -> String {
    route("catalog.my-app", &parent("catalog", ""), rules)
}

/// The routes of port 80 of the catalog.
fn of(compiled: &Compiled) -> &[std::sync::Arc<Route>] {
    routes(&compiled.resources, &format!("outbound|80||{CATALOG}"))
}

fn names(compiled: &Compiled) -> Vec<&str> {
    of(compiled).iter().map(|route| &*route.name).collect()
}

/// The status of a route that answers itself.
#[track_caller]
fn answer(route: &Route) -> StatusCode {
    match &route.action {
        Action::Direct(direct) => direct.status,
        other => panic!("not answered: {other:?}"),
    }
}

#[test]
fn a_rule_is_matched_by_segments_and_forwards_by_weight() {
    let other = service("other.my-app", &[("http", 8080)], &[("10.0.1.1", "v1")]);
    let spec = "{name: items, matches: [{path: {value: /items/}, headers: [{name: X-A, value: b}]}, \
                {path: {type: Exact, value: /all}, queryParams: [{name: q, value: '1'}]}], \
                backendRefs: [{name: catalog, port: 80, weight: 90}, \
                {name: other, port: 8080, weight: 10}]}";
    let compiled = compiled(&[&catalog(), &other, &of_catalog(spec)]);
    assert!(compiled.faults.is_empty(), "{}", compiled.faults);
    let all = of(&compiled);
    assert_eq!(names(&compiled), ["my-app/catalog/items"; 2]);
    assert!(taken(all, "/items/1", &[("x-a", "b")]).is_some());
    assert!(taken(all, "/itemsx", &[("x-a", "b")]).is_none());
    assert!(
        taken(all, "/items", &[]).is_none(),
        "no default route behind the rules"
    );
    let exact = taken(all, "/all?q=1", &[]).unwrap();
    let expected = [
        ("outbound|80||catalog.my-app.svc.cluster.local", 90),
        ("outbound|8080||other.my-app.svc.cluster.local", 10),
    ];
    assert_eq!(destinations(exact), expected);
    let retry = forward(exact).retry.as_ref().unwrap();
    assert_eq!((retry.retries, retry.per_try_timeout), (2, None));
}

#[test]
fn rules_of_several_routes_are_merged_and_sorted_by_how_specific_they_are() {
    let rule =
        |name: &str, block: &str| format!("{{name: {name}, matches: [{{{block}}}], {TO_CATALOG}}}");
    let path = |kind: &str, value: &str| format!("path: {{type: {kind}, value: '{value}'}}");
    let first = [
        rule("all", ""),
        rule("regex", &path("RegularExpression", "/a.*")),
        rule("short", &path("PathPrefix", "/a")),
    ];
    let second = [
        rule(
            "method",
            &format!("{}, method: GET", path("PathPrefix", "/a")),
        ),
        rule("long", &path("PathPrefix", "/a/b")),
        rule("exact", &path("Exact", "/a")),
    ];
    let a = route("a.my-app", &parent("catalog", ""), &first.join(", "));
    let b = route("b.my-app", &parent("catalog", ""), &second.join(", "));
    let expected = [
        "my-app/b/exact",
        "my-app/b/long",
        "my-app/b/method",
        "my-app/a/short",
        "my-app/a/regex",
        "my-app/a/all",
    ];
    assert_eq!(names(&compiled(&[&catalog(), &a, &b])), expected);
    assert_eq!(
        names(&compiled(&[&b, &a, &catalog()])),
        expected,
        "the files' order is nothing"
    );
}

#[test]
fn between_equals_age_and_then_the_name_decides_and_the_loser_is_told() {
    let all = format!("{{{TO_CATALOG}}}");
    let route = |name: &str| route(name, &parent("catalog", ""), &all);
    let young = route("a.my-app").replace(
        "name: a,",
        "name: a, creationTimestamp: '2026-02-01T00:00:00Z',",
    );
    let old = route("b.my-app").replace(
        "name: b,",
        "name: b, creationTimestamp: '2026-01-01T00:00:00Z',",
    );
    let by_age = compiled(&[&catalog(), &young, &old]);
    assert_eq!(names(&by_age), ["my-app/b/rules[0]"]);
    assert_warns(
        &by_age,
        "IST0131",
        "httproute my-app/a rules[0].matches: a match of this rule repeats one of",
    );
    let by_name = compiled(&[&catalog(), &route("y.my-app"), &route("x.my-app")]);
    assert_eq!(names(&by_name), ["my-app/x/rules[0]"]);
}

#[test]
fn producer_route_is_for_all_and_consumer_route_for_its_namespace_first() {
    let all = format!("{{{TO_CATALOG}}}");
    let producer = route("producer.my-app", &parent("catalog", ""), &all);
    let consumer = route(
        "consumer.shop",
        &parent("catalog", ", namespace: my-app"),
        "{}",
    );
    let texts = [&*catalog(), &producer, &consumer];
    for (namespace, expected) in [
        ("my-app", "my-app/producer/rules[0]"),
        ("shop", "shop/consumer/rules[0]"),
        ("third", "my-app/producer/rules[0]"),
    ] {
        let client = Workload::new(namespace, "sa");
        let compiled = compiled_as(&client, &Options::default(), &texts);
        assert_eq!(names(&compiled), [expected], "{namespace}");
        assert_silent(&compiled, "IST0109");
    }
}

#[test]
fn the_older_of_a_virtual_service_and_a_route_takes_the_host() {
    let dated = |text: &str, day: u32| {
        text.replacen(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: '2026-01-{day:02}T00:00:00Z', "),
            1,
        )
    };
    let written = virtual_service(
        "vs.my-app",
        "  hosts: [catalog]\n  http: [{name: vs, route: [{destination: {host: catalog}}]}]",
    );
    let private = virtual_service(
        "vs.my-app",
        "  hosts: [catalog]\n  exportTo: ['.']\n  http: [{name: vs, route: [{destination: {host: catalog}}]}]",
    );
    let pattern = virtual_service(
        "vs.my-app",
        "  hosts: ['*.my-app.svc.cluster.local']\n  http: [{name: vs, route: [{destination: {host: catalog.my-app.svc.cluster.local}}]}]",
    );
    let all = format!("{{name: route, {TO_CATALOG}}}");
    let producer = of_catalog(&all);
    let rows = [
        (
            "third",
            dated(&written, 1),
            dated(&producer, 2),
            "vs",
            "httproute",
        ),
        (
            "third",
            dated(&written, 2),
            dated(&producer, 1),
            "my-app/catalog/route",
            "virtualservice",
        ),
        // The client's own routes come before every public VirtualService.
        (
            "my-app",
            dated(&written, 1),
            dated(&producer, 2),
            "my-app/catalog/route",
            "virtualservice",
        ),
        (
            "my-app",
            dated(&private, 2),
            dated(&producer, 1),
            "vs",
            "httproute",
        ),
    ];
    for (namespace, virtual_service, route, expected, loser) in rows {
        let client = Workload::new(namespace, "sa");
        let texts = [&*catalog(), &virtual_service, &route];
        let compiled = compiled_as(&client, &Options::default(), &texts);
        assert_eq!(names(&compiled), [expected], "{namespace}");
        assert_warns(&compiled, "IST0109", &format!("{loser} my-app/"));
    }
    let pattern = compiled(&[&catalog(), &dated(&pattern, 1), &dated(&producer, 2)]);
    assert_eq!(
        names(&pattern),
        ["my-app/catalog/route"],
        "a pattern is less specific"
    );
}

#[test]
fn of_two_kinds_of_routes_the_older_takes_the_port() {
    let grpc = object(
        "GRPCRoute",
        "b.my-app",
        &format!(
            "{{parentRefs: [{}], rules: [{{{TO_CATALOG}}}]}}",
            parent("catalog", "")
        ),
    );
    let http = route(
        "a.my-app",
        &parent("catalog", ""),
        &format!("{{{TO_CATALOG}}}"),
    );
    let compiled = compiled(&[&catalog(), &grpc, &http]);
    assert_eq!(names(&compiled), ["my-app/a/rules[0]"]);
    assert_warns(
        &compiled,
        "IST0109",
        "grpcroute my-app/b: has no effect for the host",
    );
}

#[test]
fn a_route_may_be_for_one_port_by_number_or_name() {
    let catalog = service(
        "catalog.my-app",
        &[("http", 80), ("http-admin", 81), ("tcp", 82)],
        &[("10.0.0.1", "v1")],
    );
    let all = format!("{{{TO_CATALOG}}}");
    for (more, ports) in [
        (", port: 81", [false, true]),
        (", sectionName: http", [true, false]),
        ("", [true, true]),
    ] {
        let route = route("catalog.my-app", &parent("catalog", more), &all);
        let resources = resources(&[&catalog, &route]);
        for (port, attached) in [80, 81].into_iter().zip(ports) {
            let name = &routes(&resources, &format!("outbound|{port}||{CATALOG}"))[0].name;
            assert_eq!(**name != *"default", attached, "{more} {port}");
        }
    }
    for (more, text) in [
        (
            ", port: 90",
            "(NoMatchingParent): catalog.my-app.svc.cluster.local has no port 90",
        ),
        (", sectionName: grpc", "has no port named \"grpc\""),
        (", port: 82", "(UnsupportedProtocol): port 82 of"),
        (
            ", port: 80, sectionName: http-admin",
            "sectionName is port 81, port says 80",
        ),
    ] {
        let route = route("catalog.my-app", &parent("catalog", more), &all);
        assert_warns(&compiled(&[&catalog, &route]), "M060", text);
    }
}

#[test]
fn parent_that_is_not_there_or_of_another_kind_is_accepted_false() {
    let all = format!("{{{TO_CATALOG}}}");
    let warned = |parent: &str| compiled(&[&catalog(), &route("r.my-app", parent, &all)]);
    assert_warns(
        &warned(&parent("catalgo", "")),
        "M060 1.yaml",
        "httproute my-app/r parentRefs[0]: Accepted=False (NoMatchingParent): no service that the \
         client sees has the host catalgo.my-app.svc.cluster.local",
    );
    assert_warns(
        &warned("{group: a.b, kind: Mesh, name: x}"),
        "M060",
        "Accepted=False (InvalidKind): found \"Mesh\" of the group \"a.b\"",
    );
    let gateway = warned("{name: edge}");
    assert!(
        gateway.faults.is_empty(),
        "reading warned of it: {}",
        gateway.faults
    );
    assert_eq!(names(&gateway), ["default"]);
}

#[test]
fn service_entry_is_a_parent_and_its_host_a_backend() {
    let entry = super::object(
        "ServiceEntry",
        "ext.my-app",
        "  hosts: [api.example]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  \
         resolution: STATIC\n  endpoints: [{address: 10.9.9.9}]",
    );
    let rules = "{backendRefs: [{group: networking.istio.io, kind: Hostname, name: api.example, \
                 port: 80}]}";
    let parent = "{group: networking.istio.io, kind: ServiceEntry, name: ext}";
    let compiled = compiled(&[&entry, &route("ext.my-app", parent, rules)]);
    assert!(compiled.faults.is_empty(), "{}", compiled.faults);
    let route = &routes(&compiled.resources, "outbound|80||api.example")[0];
    assert_eq!(&*route.name, "my-app/ext/rules[0]");
    assert_eq!(destinations(route), [("outbound|80||api.example", 1)]);
}

#[test]
fn share_of_a_backend_that_is_not_there_is_answered_with_500() {
    let rules = "{backendRefs: [{name: catalog, port: 80, weight: 3}, \
                 {name: catalgo, port: 80, weight: 1}]}";
    let compiled = compiled(&[&catalog(), &of_catalog(rules)]);
    assert!(
        !compiled.faults.has_errors(),
        "a condition is no fault of the files"
    );
    assert_warns(
        &compiled,
        "IST0101 1.yaml:4",
        "httproute my-app/catalog rules[0].backendRefs[1]: ResolvedRefs=False (BackendNotFound): no \
         service that the client sees has the host catalgo.my-app.svc.cluster.local; 25 % of the \
         requests are answered with 500",
    );
    let [lost, rest] = of(&compiled) else {
        panic!("two routes: {:?}", names(&compiled));
    };
    assert_eq!(answer(lost), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(lost.matcher.share.unwrap().parts_per_million(), 250_000);
    assert_eq!(
        destinations(rest),
        [("outbound|80||catalog.my-app.svc.cluster.local", 1)]
    );
    assert_eq!(rest.matcher.share, None);
}

#[test]
fn rule_without_a_backend_that_can_be_reached_is_answered_with_500_and_grpc_with_503() {
    for refs in [
        "",
        "backendRefs: []",
        "backendRefs: [{name: catalog, port: 80, weight: 0}]",
        "backendRefs: [{name: nobody, port: 80}]",
        "backendRefs: [{name: nobody, port: 80}, {name: catalog, port: 80, weight: 0}]",
        "backendRefs: [{name: catalog, port: 90}]",
        "backendRefs: [{name: catalog, port: 80, group: a.b, kind: C}]",
    ] {
        let rules = format!("{{{refs}}}");
        let http = compiled(&[&catalog(), &of_catalog(&rules)]);
        assert_eq!(of(&http).len(), 1, "{refs}");
        assert_eq!(
            answer(&of(&http)[0]),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{refs}"
        );
        assert!(!http.faults.is_empty(), "{refs} is told of");
        let parents = parent("catalog", "");
        let spec = format!("{{parentRefs: [{parents}], rules: [{rules}]}}");
        let grpc = compiled(&[&catalog(), &object("GRPCRoute", "g.my-app", &spec)]);
        assert_eq!(
            answer(&of(&grpc)[0]),
            StatusCode::SERVICE_UNAVAILABLE,
            "{refs}"
        );
    }
}

#[test]
fn backend_of_another_namespace_needs_a_grant_of_that_namespace() {
    let other = service("other.shop", &[("http", 80)], &[("10.0.1.1", "v1")]);
    let rules = "{backendRefs: [{name: other, namespace: shop, port: 80}]}";
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: my-app}";
    let grant = |namespace: &str, from: &str, to: &str| {
        let spec = format!("{{from: [{from}], to: [{to}]}}");
        object("ReferenceGrant", &format!("g.{namespace}"), &spec)
    };
    let service = "{group: '', kind: Service}";
    let rows = [
        ("all services", grant("shop", from, service), true),
        (
            "this one",
            grant("shop", from, "{group: '', kind: Service, name: other}"),
            true,
        ),
        (
            "another one",
            grant("shop", from, "{group: '', kind: Service, name: third}"),
            false,
        ),
        ("the wrong namespace", grant("my-app", from, service), false),
        (
            "another kind",
            grant("shop", &from.replace("HTTP", "GRPC"), service),
            false,
        ),
        (
            "another origin",
            grant("shop", &from.replace("my-app", "third"), service),
            false,
        ),
    ];
    for (row, grant, allowed) in rows {
        let compiled = compiled(&[&catalog(), &other, &of_catalog(rules), &grant]);
        let route = &of(&compiled)[0];
        assert_eq!(matches!(route.action, Action::Forward(_)), allowed, "{row}");
        if !allowed {
            assert_warns(
                &compiled,
                "IST0101",
                "ResolvedRefs=False (RefNotPermitted): no ReferenceGrant of the namespace shop lets \
                 a HTTPRoute of my-app refer to the Service other",
            );
        }
    }
}

#[test]
fn extension_makes_a_route_partially_invalid_or_not_accepted() {
    let extended = "{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}], \
                    matches: [{path: {value: /a}}], backendRefs: [{name: catalog, port: 80}]}";
    let part = compiled(&[
        &catalog(),
        &of_catalog(&format!("{extended}, {{{TO_CATALOG}}}")),
    ]);
    assert_warns(
        &part,
        "M062",
        "rules[0].filters: PartiallyInvalid=True (UnsupportedValue)",
    );
    assert_eq!(
        answer(taken(of(&part), "/a", &[]).unwrap()),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(destinations(taken(of(&part), "/", &[]).unwrap()).len(), 1);
    let whole = compiled(&[&catalog(), &of_catalog(extended)]);
    assert_warns(&whole, "M060", "Accepted=False (UnsupportedValue)");
    assert_eq!(names(&whole), ["default"]);
}

#[test]
fn filters_change_headers_path_and_authority() {
    let rules = "{matches: [{path: {value: /foo}}], filters: [\
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: '1'}], remove: [b]}}, \
        {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: c, value: d}]}}, \
        {type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /bar/}}}], \
        backendRefs: [{name: catalog, port: 80, filters: [\
        {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: e, value: f}]}}]}]}";
    let compiled = compiled(&[&catalog(), &of_catalog(rules)]);
    assert!(compiled.faults.is_empty(), "{}", compiled.faults);
    let route = &of(&compiled)[0];
    let change = |name: &'static str| http::HeaderName::from_static(name);
    let value = http::HeaderValue::from_static;
    assert_eq!(
        route.headers.request,
        [
            HeaderChange::Remove(change("b")),
            HeaderChange::Set(change("a"), value("1")),
            HeaderChange::Add(change("e"), value("f")),
        ]
    );
    assert_eq!(
        route.headers.response,
        [HeaderChange::Add(change("c"), value("d"))]
    );
    let forward = forward(route);
    assert_eq!(
        forward.authority_rewrite.as_ref().unwrap().as_str(),
        "new.example"
    );
    let expected = PathRewrite::Prefix {
        from: "/foo".into(),
        to: "/bar".into(),
    };
    assert_eq!(forward.path_rewrite, Some(expected));
}

#[test]
fn redirect_is_302_to_the_called_port_unless_a_scheme_or_port_is_written() {
    for (text, status, port) in [
        ("hostname: new.example", 302, RedirectPort::FromRequest),
        (
            "scheme: https, statusCode: 301",
            301,
            RedirectPort::FromScheme,
        ),
        ("scheme: https, port: 8443", 302, RedirectPort::Fixed(8443)),
    ] {
        let rules =
            format!("{{filters: [{{type: RequestRedirect, requestRedirect: {{{text}}}}}]}}");
        let compiled = compiled(&[&catalog(), &of_catalog(&rules)]);
        assert!(compiled.faults.is_empty(), "{}", compiled.faults);
        let Action::Redirect(redirect) = &of(&compiled)[0].action else {
            panic!("{text}: not redirected");
        };
        assert_eq!(
            (redirect.status.as_u16(), redirect.port),
            (status, port),
            "{text}"
        );
    }
}

#[test]
fn timeouts_and_retry_are_terms_of_the_call() {
    let seconds = |n: Option<u64>| n.map(Duration::from_secs);
    // What is written; the timeout of the call; retries; the timeout of a try.
    for (written, call, retries, per_try) in [
        ("", None, Some(2), None),
        ("timeouts: {request: 0s}", None, Some(2), None),
        ("timeouts: {request: 9s}", Some(9), Some(2), None),
        ("timeouts: {backendRequest: 3s}", Some(3), Some(2), None),
        (
            "timeouts: {request: 9s, backendRequest: 3s}",
            Some(9),
            Some(2),
            Some(3),
        ),
        (
            "timeouts: {request: 9s, backendRequest: 3s}, retry: {attempts: 4}",
            Some(9),
            Some(4),
            Some(3),
        ),
        (
            "timeouts: {backendRequest: 3s}, retry: {}",
            None,
            Some(2),
            Some(3),
        ),
        (
            "timeouts: {request: 9s, backendRequest: 3s}, retry: {attempts: 0}",
            Some(3),
            None,
            None,
        ),
    ] {
        let separator = if written.is_empty() { "" } else { ", " };
        let rules = format!("{{{TO_CATALOG}{separator}{written}}}");
        let compiled = compiled(&[&catalog(), &of_catalog(&rules)]);
        let forward = forward(&of(&compiled)[0]);
        let policy = forward.retry.as_ref();
        assert_eq!(forward.timeout, seconds(call), "{written}");
        assert_eq!(policy.map(|policy| policy.retries), retries, "{written}");
        let found = policy.and_then(|policy| policy.per_try_timeout);
        assert_eq!(found, seconds(per_try), "{written}");
    }
}

#[test]
fn retry_names_statuses_besides_failures_of_the_connection() {
    let rules = format!("{{{TO_CATALOG}, retry: {{codes: [503, 429], backoff: 100ms}}}}");
    let compiled = compiled(&[&catalog(), &of_catalog(&rules)]);
    let policy = forward(&of(&compiled)[0]).retry.as_ref().unwrap();
    assert!(policy.on.connect_failure && policy.on.refused_stream && !policy.on.reset);
    assert_eq!(policy.on.grpc, [14, 1]);
    let statuses: Vec<u16> = policy.on.statuses.iter().map(|one| one.as_u16()).collect();
    assert_eq!(statuses, [503, 429]);
    assert_eq!(policy.backoff.base, Duration::from_millis(100));
}

#[test]
fn grpc_route_matches_services_and_methods_as_paths() {
    let rules = "{matches: [{method: {service: shop.v1.Catalog, method: List}}], \
                 backendRefs: [{name: catalog, port: 80}]}, \
                 {matches: [{method: {service: shop.v1.Catalog}, headers: [{name: a, value: b}]}], \
                 backendRefs: [{name: catalog, port: 80}]}";
    let spec = format!(
        "{{parentRefs: [{}], rules: [{rules}]}}",
        parent("catalog", "")
    );
    let compiled = compiled_as(
        &order(),
        &Options::default(),
        &[&catalog(), &object("GRPCRoute", "g.my-app", &spec)],
    );
    let all = of(&compiled);
    assert_eq!(
        all[0].matcher.path,
        PathMatcher::Exact("/shop.v1.Catalog/List".into())
    );
    assert_eq!(
        all[1].matcher.path,
        PathMatcher::Prefix("/shop.v1.Catalog/".into())
    );
    assert!(taken(all, "/shop.v1.Catalog/Get", &[("a", "b")]).is_some());
    assert!(taken(all, "/shop.v1.Catalog/Get", &[]).is_none());
    assert_ne!(all[0].matcher, RouteMatcher::everything());
}

#[test]
fn mirrors_get_their_share_of_copies_and_one_that_is_not_there_gets_none() {
    let mirror = |name: &str, share: &str| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}{share}}}}}"
        )
    };
    let filters = [
        mirror("catalog", ""),
        mirror("catalog", ", percent: 25"),
        mirror("catalog", ", fraction: {numerator: 1, denominator: 1000}"),
        mirror("catalog", ", percent: 0"),
        mirror("nobody", ""),
    ];
    let rules = format!("{{filters: [{}], {TO_CATALOG}}}", filters.join(", "));
    let compiled = compiled(&[&catalog(), &of_catalog(&rules)]);
    let mirrors = forward(&of(&compiled)[0]).mirrors.iter();
    let shares: Vec<u32> = mirrors
        .map(|mirror| {
            assert_eq!(*mirror.cluster, *format!("outbound|80||{CATALOG}"));
            mirror.share.parts_per_million()
        })
        .collect();
    assert_eq!(shares, [1_000_000, 250_000, 1_000]);
    assert_warns(
        &compiled,
        "IST0101",
        "rules[0].filters[4].requestMirror.backendRef: ResolvedRefs=False (BackendNotFound)",
    );
}

#[test]
fn hash_of_a_destination_rule_holds_for_a_route_too() {
    let rule = super::destination_rule(
        "catalog.my-app",
        "  host: catalog\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}",
    );
    let compiled = compiled(&[&catalog(), &rule, &of_catalog(&format!("{{{TO_CATALOG}}}"))]);
    let forward = forward(&of(&compiled)[0]);
    assert_eq!(forward.affinity.hash.len(), 1);
    let retry = forward.retry.as_ref().unwrap();
    assert!(!retry.avoid_previous, "retries stay where the hash leads");
}

// === Policies of backends ===

/// A policy of this kind in `my-app`, for the service `catalog`.
fn for_catalog(kind: &str, name: &str, section: &str, spec: &str) -> String {
    let version = match kind {
        "BackendTLSPolicy" => "gateway.networking.k8s.io/v1",
        _ => "gateway.networking.x-k8s.io/v1alpha1",
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: my-app}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: catalog{section}}}], {spec}}}\n"
    )
}

fn catalog_with_two_ports() -> String {
    service(
        "catalog.my-app",
        &[("http", 80), ("http-admin", 81)],
        &[("10.0.0.1", "v1")],
    )
}

fn of_port(compiled: &Compiled, port: u16) -> &Cluster {
    let name = format!("outbound|{port}||catalog.my-app.svc.cluster.local");
    &compiled.resources.clusters[&*name]
}

#[test]
fn a_backend_tls_policy_is_the_tls_block_of_its_service() {
    let catalog = catalog_with_two_ports();
    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: catalog, namespace: my-app}}\nspec:\n  host: catalog\n  \
             trafficPolicy: {{tls: {{{tls}}}}}\n"
        )
    };
    for (validation, block) in [
        (
            "hostname: a.b, wellKnownCACertificates: System",
            "mode: SIMPLE, sni: a.b",
        ),
        (
            "hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}], \
             subjectAltNames: [{type: Hostname, hostname: c.d}, {type: URI, uri: 'spiffe://td/e'}]",
            "mode: SIMPLE, sni: a.b, credentialName: roots, subjectAltNames: [c.d, 'spiffe://td/e']",
        ),
    ] {
        let validation = format!("validation: {{{validation}}}");
        let policy = for_catalog("BackendTLSPolicy", "p", "", &validation);
        let attached = compiled(&[&catalog, &policy]);
        assert!(attached.faults.is_empty(), "{}", attached.faults);
        let ruled = compiled(&[&catalog, &rule(block)]);
        for port in [80, 81] {
            assert_eq!(
                of_port(&attached, port).security,
                of_port(&ruled, port).security
            );
        }
        assert_ne!(of_port(&attached, 80).security, Security::Plaintext);
        // The rule of the host stands above it.
        let both = compiled(&[&catalog, &policy, &rule("mode: DISABLE")]);
        assert_eq!(of_port(&both, 80).security, Security::Plaintext);
    }
}

#[test]
fn a_backend_traffic_policy_is_the_retry_budget_of_its_service() {
    let catalog = catalog_with_two_ports();
    for (constraint, percent, minimum, seconds) in [
        ("{}", 20, 10, 10),
        (
            "{budget: {percent: 5, interval: 1m}, minRetryRate: {count: 2}}",
            5,
            2,
            60,
        ),
    ] {
        let spec = format!("retryConstraint: {constraint}");
        let policy = for_catalog("XBackendTrafficPolicy", "p", "", &spec);
        let compiled = compiled(&[&catalog, &policy]);
        assert!(compiled.faults.is_empty(), "{}", compiled.faults);
        let expected = RetryLimit::Share {
            percent: Percent::new(percent).unwrap(),
            minimum,
            interval: Duration::from_secs(seconds),
        };
        for port in [80, 81] {
            assert_eq!(of_port(&compiled, port).limits.retries, expected);
        }
    }
}

#[test]
fn of_two_backend_policies_the_precise_and_then_the_older_counts() {
    let catalog = catalog_with_two_ports();
    let percent = |name: &str, section: &str, percent: u32| {
        let spec = format!("retryConstraint: {{budget: {{percent: {percent}}}}}");
        for_catalog("XBackendTrafficPolicy", name, section, &spec)
    };
    let texts = [
        percent("a", "", 1),
        percent("b", ", sectionName: http-admin", 2),
        percent("c", "", 3),
        percent("d", ", sectionName: none", 4),
    ];
    // The older one gives way where a younger one names the port, and is told.
    assert_warns(
        &compiled(&[&catalog, &texts[0], &texts[1]]),
        "M045",
        "has no effect on port 81 of catalog.my-app.svc.cluster.local",
    );
    let texts = std::iter::once(&catalog).chain(&texts);
    let texts: Vec<&str> = texts.map(String::as_str).collect();
    let compiled = compiled(&texts);
    let found = |port| match of_port(&compiled, port).limits.retries {
        RetryLimit::Share { percent, .. } => percent.value(),
        other => panic!("{other:?}"),
    };
    assert_eq!((found(80), found(81)), (1, 2));
    assert_warns(
        &compiled,
        "M045",
        "has no effect on port 80 of catalog.my-app.svc.cluster.local",
    );
    assert_warns(
        &compiled,
        "M040",
        "there is no Service \"catalog\" in the namespace my-app with a port \"none\"",
    );
}
