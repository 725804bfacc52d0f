//! Rules of a VirtualService that stand in another one.

use meshwork::model::route::Action;

use super::{
    CATALOG, assert_warns, catalog, compiled, destinations, forward, resources, routes, service,
    taken, virtual_service,
};

fn root(rules: &str) -> String {
    virtual_service(
        "root.my-app",
        &format!("  hosts: [catalog]\n  http:\n{rules}"),
    )
}

fn name() -> String {
    format!("outbound|80||{CATALOG}")
}

#[test]
fn a_delegates_rules_stand_in_the_place_of_the_rule_that_names_it() {
    let root = root(
        "  - match: [{uri: {prefix: /items}}]\n    delegate: {name: items}\n  \
         - route: [{destination: {host: catalog, subset: v1}}]",
    );
    let items = virtual_service(
        "items.my-app",
        "  http:\n  - name: new\n    match: [{uri: {prefix: /items/new}}]\n    \
         route: [{destination: {host: catalog, subset: v2}}]\n  \
         - route: [{destination: {host: catalog, subset: v3}}]",
    );
    let resources = resources(&[&catalog(), &root, &items]);
    let routes = routes(&resources, &name());
    for (path, subset) in [("/items/new/1", "v2"), ("/items/1", "v3"), ("/other", "v1")] {
        let route = taken(routes, path, &[]).unwrap();
        let cluster = format!("outbound|80|{subset}|{CATALOG}");
        assert_eq!(destinations(route), [(&*cluster, 1)], "{path}");
    }
    assert_eq!(&*routes[0].name, "new");
    let origin = routes[0].origin.to_string();
    assert!(origin.contains("2.yaml"), "{origin}");
    assert_eq!(&*routes[1].name, "my-app/items/http[1]");
}

#[test]
fn what_a_delegates_rule_does_not_say_is_the_roots() {
    let root = root(
        "  - name: a\n    match: [{name: m, headers: {x-a: {exact: '1'}}}]\n    \
         delegate: {name: child}\n    timeout: 3s\n    retries: {attempts: 7}\n    \
         rewrite: {authority: new.example}\n    mirror: {host: catalog, subset: v2}\n    \
         mirrorPercentage: {value: 10}\n    headers: {request: {set: {x-b: b}}}\n    \
         fault: {abort: {httpStatus: 503, percentage: {value: 1}}}",
    );
    let child = virtual_service(
        "child.my-app",
        "  http:\n  - name: c\n    match: [{name: n, uri: {exact: /x}}]\n    timeout: 1s\n    \
         route: [{destination: {host: catalog}}]",
    );
    let resources = resources(&[&catalog(), &root, &child]);
    let routes = routes(&resources, &name());
    assert_eq!(routes.len(), 1);
    let route = &routes[0];
    assert_eq!(&*route.name, "a-c.m-n");
    assert!(taken(routes, "/x", &[]).is_none() && taken(routes, "/", &[("x-a", "1")]).is_none());
    assert!(taken(routes, "/x", &[("x-a", "1")]).is_some());
    let terms = forward(route);
    assert_eq!(terms.timeout.unwrap().as_secs(), 1, "its own");
    assert_eq!(terms.retry.as_ref().unwrap().retries, 7);
    assert_eq!(terms.authority_rewrite.as_ref().unwrap(), "new.example");
    assert_eq!(terms.mirrors[0].share.parts_per_million(), 100_000);
    assert_eq!(route.headers.request.len(), 1);
    assert!(route.fault.is_some());
}

#[test]
fn hosts_are_completed_by_the_namespace_of_the_object_that_names_them() {
    let other = service("catalog.other", &[("http", 80)], &[("10.1.0.1", "v1")]);
    let root = root("  - delegate: {name: child, namespace: other}\n    mirror: {host: catalog}");
    let child = virtual_service(
        "child.other",
        "  http:\n  - route: [{destination: {host: catalog}}]",
    );
    let resources = resources(&[&catalog(), &other, &root, &child]);
    let route = &routes(&resources, &name())[0];
    let there = "outbound|80||catalog.other.svc.cluster.local";
    assert_eq!(destinations(route), [(there, 1)]);
    assert_eq!(*forward(route).mirrors[0].cluster, *name());
}

#[test]
fn a_rule_that_is_not_narrower_is_dropped_with_a_warning() {
    let root = root(
        "  - match: [{uri: {prefix: /a}}]\n    delegate: {name: child}\n  \
         - directResponse: {status: 418}",
    );
    let child = virtual_service(
        "child.my-app",
        "  http:\n  - match: [{uri: {prefix: /b}}]\n    route: [{destination: {host: catalog}}]",
    );
    let compiled = compiled(&[&catalog(), &root, &child]);
    assert_warns(&compiled, "M045 2.yaml", "not narrower");
    let routes = routes(&compiled.resources, &name());
    assert_eq!(routes.len(), 1);
    assert!(matches!(routes[0].action, Action::Direct(_)));
}

#[test]
fn a_delegate_that_is_missing_or_not_exported_is_a_warning() {
    let rules = root(
        "  - delegate: {name: child, namespace: other}\n    match: [{uri: {prefix: /a}}]\n  \
         - directResponse: {status: 418}",
    );
    let hidden = virtual_service(
        "child.other",
        "  exportTo: ['.']\n  http:\n  - route: [{destination: {host: catalog}}]",
    );
    for (texts, part) in [
        (
            vec![catalog(), rules.clone()],
            "no VirtualService other/child",
        ),
        (
            vec![catalog(), rules, hidden],
            "is not exported to namespace my-app",
        ),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let compiled = compiled(&texts);
        assert_warns(&compiled, "IST0101 1.yaml", part);
        assert_eq!(routes(&compiled.resources, &name()).len(), 1);
    }
}

#[test]
fn a_virtual_service_without_hosts_and_http_rules_is_no_delegate() {
    use meshwork::source::istio::{Options, read};
    let text = virtual_service("a.my-app", "  tcp: [{route: [{destination: {host: a}}]}]");
    let read = read([("a.yaml", &*text)], &Options::default());
    let messages: Vec<_> = read.faults.iter().map(|fault| fault.message()).collect();
    let required = "must have at least one host";
    assert!(
        messages.iter().any(|text| text.contains(required)),
        "{messages:?}"
    );
}
