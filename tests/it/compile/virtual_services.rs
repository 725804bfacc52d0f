//! Which VirtualService owns a host, and what its rules become.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use meshwork::model::route::{HeaderChange, PathRewrite};

use super::*;

fn to(subset: &str) -> String {
    format!("  http:\n  - name: {subset}\n    route: [{{destination: {{host: catalog}}}}]")
}

fn owner_route(texts: &[&str]) -> String {
    let resources = resources(texts);
    routes(&resources, &format!("outbound|80||{CATALOG}"))[0]
        .name
        .to_string()
}

/// A VirtualService of the host catalog that names its only route after itself.
fn claim(name: &str, more: &str) -> String {
    let (short, _) = name.split_once('.').expect("name.namespace");
    let spec = format!(
        "  hosts: [{CATALOG}]\n{more}  http:\n  - name: {short}\n    \
         route: [{{destination: {{host: {CATALOG}}}}}]"
    );
    virtual_service(name, &spec)
}

#[test]
fn host_without_a_virtual_service_has_the_default_route() {
    let resources = resources(&[&catalog()]);
    let routes = routes(&resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(routes.len(), 1);
    assert_eq!(&*routes[0].name, "default");
    let forward = forward(&routes[0]);
    assert_eq!(forward.timeout, None);
    assert_eq!(forward.retry.as_ref().unwrap().retries, 2);
    let whole = format!("outbound|80||{CATALOG}");
    assert_eq!(destinations(&routes[0]), [(&*whole, 1)]);
}

#[test]
fn first_virtual_service_takes_the_host_and_the_others_are_dropped_whole() {
    let compiled = compiled(&[
        &catalog(),
        &claim("one.my-app", ""),
        &claim("two.my-app", ""),
    ]);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(routes.len(), 1);
    assert_eq!(&*routes[0].name, "one");
    assert_warns(&compiled, "IST0109 2.yaml", "1.yaml");
    assert_warns(&compiled, "IST0109", "first in the order of files");
}

#[test]
fn older_virtual_service_wins_whatever_its_file_is_called() {
    let dated = |text: &str, time: &str| {
        text.replace(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: \"{time}\", "),
        )
    };
    let young = dated(&claim("young.my-app", ""), "2026-02-01T00:00:00Z");
    let old = dated(&claim("old.my-app", ""), "2025-02-01T00:00:00Z");
    assert_eq!(owner_route(&[&catalog(), &young, &old]), "old");
    let undated = claim("undated.my-app", "");
    assert_eq!(owner_route(&[&catalog(), &undated, &young]), "young");
}

#[test]
fn private_virtual_service_comes_before_a_named_one_and_that_before_a_public_one() {
    let public = claim("public.a", "");
    let named = claim("named.b", "  exportTo: [my-app]\n");
    let private = claim("private.my-app", "  exportTo: [\".\"]\n");
    let catalog = catalog();
    assert_eq!(
        owner_route(&[&catalog, &public, &named, &private]),
        "private"
    );
    assert_eq!(owner_route(&[&catalog, &public, &named]), "named");
    assert_eq!(owner_route(&[&catalog, &public]), "public");
}

#[test]
fn virtual_service_that_is_not_exported_to_the_client_has_no_effect() {
    for export in ["[\".\"]", "[other]", "[\"~\"]"] {
        let hidden = claim("hidden.a", &format!("  exportTo: {export}\n"));
        assert_eq!(owner_route(&[&catalog(), &hidden]), "default", "{export}");
    }
}

#[test]
fn exact_host_comes_before_a_wildcard_and_a_longer_wildcard_before_a_shorter_one() {
    let pattern = |name: &str, pattern: &str| {
        let hosts = format!("hosts: [\"{pattern}\"]");
        claim(name, "").replace(&format!("hosts: [{CATALOG}]"), &hosts)
    };
    let all = pattern("all.a", "*.svc.cluster.local");
    let namespace = pattern("namespace.b", "*.my-app.svc.cluster.local");
    let exact = claim("exact.c", "");
    let catalog = catalog();
    assert_eq!(owner_route(&[&catalog, &all, &namespace, &exact]), "exact");
    assert_eq!(owner_route(&[&catalog, &all, &namespace]), "namespace");
    assert_eq!(owner_route(&[&catalog, &all]), "all");
}

#[test]
fn virtual_service_for_gateways_only_has_no_effect() {
    let edge = claim("edge.my-app", "  gateways: [edge]\n");
    let both = claim("both.my-app", "  gateways: [edge, mesh]\n");
    assert_eq!(owner_route(&[&catalog(), &edge]), "default");
    assert_eq!(owner_route(&[&catalog(), &both]), "both");
}

#[test]
fn short_host_belongs_to_the_namespace_of_the_virtual_service() {
    let spec = format!("  hosts: [catalog]\n{}", to("mine"));
    let other = virtual_service("catalog.other", &spec);
    assert_eq!(owner_route(&[&catalog(), &other]), "default");
    let own = virtual_service("catalog.my-app", &spec);
    assert_eq!(owner_route(&[&catalog(), &own]), "mine");
}

#[test]
fn one_virtual_service_may_own_several_hosts() {
    let cart = service("cart.my-app", &[("http", 80)], &[("10.0.1.1", "v1")]);
    let both = virtual_service(
        "both.my-app",
        &format!("  hosts: [catalog, cart]\n{}", to("both")),
    );
    let resources = resources(&[&catalog(), &cart, &both]);
    for host in [CATALOG, "cart.my-app.svc.cluster.local"] {
        assert_eq!(
            &*routes(&resources, &format!("outbound|80||{host}"))[0].name,
            "both"
        );
    }
}

#[test]
fn unknown_host_has_a_virtual_host_on_port_80_only() {
    let two = service(
        "two.my-app",
        &[("http", 80), ("http-b", 81)],
        &[("10.0.1.1", "v1")],
    );
    let spec = "  hosts: [api.example.com]\n  http:\n  \
                - route: [{destination: {host: two, port: {number: 81}}}]";
    let resources = resources(&[&two, &virtual_service("api.my-app", spec)]);
    assert!(owner(&resources.routes["80"], "api.example.com").is_some());
    assert!(owner(&resources.routes["80"], "api.example.com:80").is_some());
    assert!(owner(&resources.routes["81"], "api.example.com").is_none());
    let routes = routes(&resources, "outbound|80||api.example.com");
    let target = "outbound|81||two.my-app.svc.cluster.local";
    assert_eq!(destinations(&routes[0]), [(target, 1)]);
}

fn matching(blocks: &str) -> Vec<String> {
    let spec = format!(
        "  hosts: [catalog]\n  http:\n  - name: rule\n    match: {blocks}\n    \
         route: [{{destination: {{host: catalog}}}}]\n  - name: rest\n    \
         route: [{{destination: {{host: catalog}}}}]"
    );
    let resources = resources(&[&catalog(), &virtual_service("catalog.my-app", &spec)]);
    let routes = routes(&resources, &format!("outbound|80||{CATALOG}"));
    routes.iter().map(|route| route.name.to_string()).collect()
}

#[test]
fn every_match_block_is_a_route_of_its_own() {
    let names = matching("[{name: a, uri: {prefix: /a}}, {uri: {exact: /b}}]");
    assert_eq!(names, ["rule.a", "rule", "rest"]);
}

#[test]
fn the_prefix_of_statistics_is_that_of_the_block() {
    let rule = virtual_service(
        "catalog.my-app",
        "  hosts: [catalog]\n  http:\n  - match: [{uri: {prefix: /a}, statPrefix: items}, \
         {uri: {prefix: /b}, statPrefix: ''}]\n    route: [{destination: {host: catalog}}]\n  \
         - route: [{destination: {host: catalog}}]",
    );
    let resources = resources(&[&catalog(), &rule]);
    let routes = routes(&resources, &format!("outbound|80||{CATALOG}"));
    let prefixes: Vec<_> = routes
        .iter()
        .map(|one| one.stat_prefix.as_deref())
        .collect();
    assert_eq!(prefixes, [Some("items"), None, None]);
}

#[test]
fn nothing_follows_a_route_that_takes_everything() {
    for all in ["{uri: {prefix: /}}", "{uri: {regex: \".*\"}}", "{}"] {
        assert_eq!(matching(&format!("[{all}]")), ["rule"], "{all}");
    }
    assert_eq!(
        matching("[{uri: {prefix: /}, method: {exact: GET}}]").len(),
        2
    );
}

#[test]
fn block_for_another_port_client_or_gateway_has_no_route() {
    for other in [
        "{port: 8080}",
        "{sourceLabels: {app: cart}}",
        "{sourceNamespace: other}",
        "{gateways: [edge]}",
    ] {
        assert_eq!(matching(&format!("[{other}]")), ["rest"], "{other}");
    }
    for own in [
        "{port: 80}",
        "{sourceLabels: {app: order}}",
        "{sourceNamespace: my-app}",
        "{gateways: [edge, mesh]}",
    ] {
        assert_eq!(matching(&format!("[{own}]")), ["rule"], "{own}");
    }
}

#[test]
fn rules_of_which_none_is_for_the_port_leave_the_default_route() {
    let two = service(
        "catalog.my-app",
        &[("http", 80), ("http-b", 81)],
        &[("10.0.0.1", "v1")],
    );
    let spec = "  hosts: [catalog]\n  http:\n  - name: rule\n    match: [{port: 80}]\n    \
                route: [{destination: {host: catalog, port: {number: 80}}}]";
    let resources = resources(&[&two, &virtual_service("catalog.my-app", spec)]);
    let name = |port: u16| {
        routes(&resources, &format!("outbound|{port}||{CATALOG}"))[0]
            .name
            .to_string()
    };
    assert_eq!(
        (name(80), name(81)),
        ("rule".to_owned(), "default".to_owned())
    );
}

#[test]
fn uri_headers_method_and_query_are_asked_of_each_request() {
    let spec = r#"  hosts: [catalog]
  http:
  - name: exact
    match: [{uri: {exact: /Exact}, ignoreUriCase: true}]
    route: [{destination: {host: catalog}}]
  - name: regex
    match: [{uri: {regex: "/v[0-9]+"}}]
    route: [{destination: {host: catalog}}]
  - name: header
    match: [{headers: {X-Kind: {prefix: a}}, withoutHeaders: {x-not: {exact: "1"}}}]
    route: [{destination: {host: catalog}}]
  - name: query
    match: [{queryParams: {debug: {exact: "1"}}}]
    route: [{destination: {host: catalog}}]
  - name: post
    match: [{method: {exact: POST}}, {scheme: {exact: https}}, {authority: {prefix: other}}]
    route: [{destination: {host: catalog}}]
  - name: prefix
    match: [{uri: {prefix: /foo}}]
    route: [{destination: {host: catalog}}]"#;
    let resources = resources(&[&catalog(), &virtual_service("catalog.my-app", spec)]);
    let routes = routes(&resources, &format!("outbound|80||{CATALOG}"));
    let name = |path: &str, headers: &[(&'static str, &'static str)]| {
        taken(routes, path, headers).map(|route| route.name.to_string())
    };
    assert_eq!(name("/eXACT", &[]).as_deref(), Some("exact"));
    assert_eq!(name("/v12", &[]).as_deref(), Some("regex"));
    assert_eq!(name("/v12/x", &[]), None);
    assert_eq!(name("/", &[("x-kind", "abc")]).as_deref(), Some("header"));
    assert_eq!(name("/", &[("x-kind", "abc"), ("x-not", "1")]), None);
    assert_eq!(name("/?debug=1", &[]).as_deref(), Some("query"));
    assert_eq!(name("/?debug=12", &[]), None);
    assert_eq!(
        name("/foobar", &[]).as_deref(),
        Some("prefix"),
        "a plain prefix"
    );
}

fn only_route(rule: &str) -> (Compiled, std::sync::Arc<Route>) {
    let spec = format!("  hosts: [catalog]\n  http:\n  - {rule}");
    let compiled = compiled(&[&catalog(), &virtual_service("catalog.my-app", &spec)]);
    let route = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"))[0].clone();
    (compiled, route)
}

const HERE: &str = "route: [{destination: {host: catalog}}]";

#[test]
fn timeout_of_zero_is_none_and_retries_may_be_turned_off() {
    let (_, route) = only_route(&format!(
        "{{timeout: 0s, retries: {{attempts: 0}}, {HERE}}}"
    ));
    assert_eq!(forward(&route).timeout, None);
    assert_eq!(forward(&route).retry, None);
    let (_, route) = only_route(&format!("{{timeout: 1h30m, {HERE}}}"));
    assert_eq!(forward(&route).timeout, Some(Duration::from_secs(5_400)));
}

#[test]
fn destination_takes_the_only_port_of_the_service_or_the_one_that_is_called() {
    let one = service("one.my-app", &[("http", 9_000)], &[("10.0.1.1", "v1")]);
    let two = service(
        "two.my-app",
        &[("http", 80), ("http-b", 81)],
        &[("10.0.2.1", "v1")],
    );
    let spec = "  hosts: [catalog]\n  http:\n  - name: one\n    match: [{uri: {prefix: /one}}]\n    \
                route: [{destination: {host: one}}]\n  - route: [{destination: {host: two}}]";
    let rules = virtual_service("catalog.my-app", spec);
    let compiled = compiled(&[&catalog(), &one, &two, &rules]);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    let target = "outbound|9000||one.my-app.svc.cluster.local";
    assert_eq!(destinations(&routes[0]), [(target, 1)]);
    let target = "outbound|80||two.my-app.svc.cluster.local";
    assert_eq!(destinations(&routes[1]), [(target, 1)]);
    assert_warns(&compiled, "IST0112", "several ports (80, 81)");
}

#[test]
fn weights_are_relative_and_a_weight_of_zero_is_dropped() {
    let (_, route) = only_route(
        "{route: [{destination: {host: catalog}, weight: 3}, \
         {destination: {host: other}, weight: 0}, {destination: {host: third}, weight: 1}]}",
    );
    let weights: Vec<u32> = destinations(&route).iter().map(|one| one.1).collect();
    assert_eq!(weights, [3, 1]);
    assert_eq!(forward(&route).destinations.total().get(), 4);
}

#[test]
fn headers_of_a_single_destination_follow_those_of_the_route() {
    let (_, route) = only_route(
        "{headers: {request: {set: {x-a: \"1\"}}, response: {remove: [x-r]}}, \
         route: [{destination: {host: catalog}, \
         headers: {request: {remove: [x-b], add: {x-a: \"2\", Host: b.example}}}}]}",
    );
    let name = HeaderName::from_static;
    let value = HeaderValue::from_static;
    assert_eq!(
        route.headers.request,
        [
            HeaderChange::Remove(name("x-b")),
            HeaderChange::Set(name("x-a"), value("1")),
            HeaderChange::Add(name("x-a"), value("2")),
        ]
    );
    assert_eq!(route.headers.response, [HeaderChange::Remove(name("x-r"))]);
    assert_eq!(
        forward(&route).authority_rewrite.as_ref().unwrap(),
        "b.example"
    );
}

#[test]
fn headers_of_weighted_destinations_stay_with_them() {
    let (_, route) = only_route(
        "{route: [{destination: {host: catalog}, weight: 1, \
         headers: {request: {set: {x-a: \"1\", host: a.example}}}}, \
         {destination: {host: catalog}, weight: 1}]}",
    );
    assert!(route.headers.request.is_empty());
    let all = forward(&route).destinations.all();
    assert_eq!(all[0].headers.request.len(), 1);
    assert_eq!(all[0].authority_rewrite.as_ref().unwrap(), "a.example");
    assert_eq!(all[1].authority_rewrite, None);
}

#[test]
fn rewrite_of_uri_and_authority() {
    let (_, route) = only_route(&format!(
        "{{match: [{{uri: {{prefix: /old}}}}], rewrite: {{uri: /new, authority: a.b}}, {HERE}}}"
    ));
    let forward = forward(&route);
    let prefix = PathRewrite::Prefix {
        from: "/old".into(),
        to: "/new".into(),
    };
    assert_eq!(forward.path_rewrite, Some(prefix));
    assert_eq!(forward.authority_rewrite.as_ref().unwrap(), "a.b");
}

#[test]
fn redirect_and_direct_response_are_answered_here() {
    let (_, route) = only_route("{redirect: {uri: /new, redirectCode: 302}}");
    let Action::Redirect(redirect) = &route.action else {
        panic!("{:?}", route.action);
    };
    assert_eq!(redirect.status, StatusCode::FOUND);
    assert_eq!(redirect.path, Some(PathRewrite::Full("/new".into())));
    let (_, route) = only_route("{directResponse: {status: 418, body: {string: teapot}}}");
    let Action::Direct(response) = &route.action else {
        panic!("{:?}", route.action);
    };
    assert_eq!(
        (response.status.as_u16(), &*response.body),
        (418, &b"teapot"[..])
    );
}

#[test]
fn fault_is_part_of_the_route() {
    let (_, route) = only_route(&format!(
        "{{fault: {{abort: {{httpStatus: 503, percentage: {{value: 25}}}}}}, {HERE}}}"
    ));
    let abort = route.fault.as_ref().unwrap().abort.unwrap();
    assert_eq!(abort.share.parts_per_million(), 250_000);
}

#[test]
fn http_rules_have_no_effect_on_tcp_ports() {
    let store = service(
        "catalog.my-app",
        &[("tcp-store", 80)],
        &[("10.0.0.1", "v1")],
    );
    let compiled = compiled(&[&store, &claim("one.my-app", "")]);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(&*routes[0].name, "default");
    assert_eq!(forward(&routes[0]).retry, None);
    assert_warns(&compiled, "M023", "its ports are not HTTP");
}

#[test]
fn mirrors_name_clusters_and_a_share_that_is_all_when_it_is_not_said() {
    for (written, expected) in [
        ("mirror: {host: catalog, subset: v2}", 1_000_000),
        (
            "mirror: {host: catalog, subset: v2}\n    mirrorPercentage: {value: 0.5}",
            5_000,
        ),
        (
            "mirror: {host: catalog, subset: v2}\n    mirrorPercent: 10",
            100_000,
        ),
        (
            "mirrors: [{destination: {host: catalog, subset: v2}, percentage: {value: 20}}]",
            200_000,
        ),
        (
            "mirrors: [{destination: {host: catalog, subset: v2}, percentage: {value: 0}}]",
            0,
        ),
    ] {
        let rules = virtual_service(
            "catalog.my-app",
            &format!(
                "  hosts: [catalog]\n  http:\n  - route: [{{destination: {{host: catalog}}}}]\n    \
                 {written}"
            ),
        );
        let resources = resources(&[&catalog(), &rules]);
        let mirrors = &forward(&routes(&resources, &format!("outbound|80||{CATALOG}"))[0]).mirrors;
        let found = mirrors.iter().map(|mirror| {
            assert_eq!(*mirror.cluster, *format!("outbound|80|v2|{CATALOG}"));
            mirror.share.parts_per_million()
        });
        assert_eq!(found.sum::<u32>(), expected, "{written}");
    }
}

#[test]
fn a_mirror_that_nobody_serves_is_a_warning() {
    let rules = virtual_service(
        "catalog.my-app",
        "  hosts: [catalog]\n  http:\n  - route: [{destination: {host: catalog}}]\n    \
         mirror: {host: catalgo}",
    );
    let compiled = compiled(&[&catalog(), &rules]);
    assert_warns(&compiled, "IST0101", "no request is copied");
}
