//! Istio's objects as one client sees them, by the public door: texts in, model out.

mod article;
mod delegates;
mod destination_rules;
mod discovery;
mod gateway_api;
mod inbound;
mod kubernetes;
mod lints;
mod live;
mod near;
mod order;
mod registry;
mod scope;
mod security;
mod survey;
mod telemetry;
mod virtual_services;

use std::fmt::Write as _;

use meshwork::Workload;
use meshwork::model::matcher::RequestView;
use meshwork::model::route::{Action, Domain, Forward, Route, RouteConfiguration};
use meshwork::model::{Cluster, Resources};
use meshwork::source::istio::{Compiled, Options, compile, read};

/// The client of most tests.
fn order() -> Workload {
    Workload::new("my-app", "order-sa").label("app", "order")
}

/// Reads texts, which must have no errors, and compiles them for a client.
fn compiled_as(client: &Workload, options: &Options, texts: &[&str]) -> Compiled {
    let files = texts
        .iter()
        .enumerate()
        .map(|(index, text)| (format!("{index}.yaml"), *text));
    let read = read(files, options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    compile(&read.objects, client, options)
}

fn compiled(texts: &[&str]) -> Compiled {
    compiled_as(&order(), &Options::default(), texts)
}

/// Compiles and forgets the warnings.
fn resources(texts: &[&str]) -> Resources {
    compiled(texts).resources
}

/// Our own codes and those of Istio, each with the messages.
fn warnings(compiled: &Compiled) -> Vec<String> {
    let faults = compiled.faults.iter();
    faults
        .flat_map(|fault| {
            let codes = [fault.code().as_str()].into_iter();
            codes
                .chain(fault.code().istio().iter().copied())
                .map(|code| {
                    let place = (fault.file(), fault.line());
                    format!("{code} {}:{} {}", place.0, place.1, fault.message())
                })
        })
        .collect()
}

#[track_caller]
fn assert_warns(compiled: &Compiled, start: &str, part: &str) {
    let all = warnings(compiled);
    assert!(
        all.iter()
            .any(|text| text.starts_with(start) && text.contains(part)),
        "no {start} with {part:?} in {all:#?}"
    );
}

#[track_caller]
fn assert_silent(compiled: &Compiled, start: &str) {
    let all = warnings(compiled);
    assert!(!all.iter().any(|text| text.starts_with(start)), "{all:#?}");
}

/// A Kubernetes service `name.namespace` with one port for each of `ports` (name and number), and
/// endpoints (address, version) that listen on the port's number plus 8000.
fn service(name: &str, ports: &[(&str, u16)], endpoints: &[(&str, &str)]) -> String {
    let (name, namespace) = name.split_once('.').expect("name.namespace");
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{app: {name}}}\n  ports:\n"
    );
    for (port, number) in ports {
        writeln!(text, "  - {{name: {port}, port: {number}}}").unwrap();
    }
    write!(
        text,
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, namespace: {namespace}, \
         labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports:\n"
    )
    .unwrap();
    for (port, number) in ports {
        writeln!(text, "- {{name: {port}, port: {}}}", number + 8_000).unwrap();
    }
    writeln!(text, "endpoints:").unwrap();
    for (address, _) in endpoints {
        let pod = pod_name(name, address);
        writeln!(
            text,
            "- {{addresses: [{address}], targetRef: {{kind: Pod, name: {pod}}}}}"
        )
        .unwrap();
    }
    for (address, version) in endpoints {
        let pod = pod_name(name, address);
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace}, \
             labels: {{app: {name}, version: {version}}}}}\nspec: {{containers: []}}\n"
        )
        .unwrap();
    }
    text
}

fn pod_name(service: &str, address: &str) -> String {
    format!("{service}-{}", address.replace('.', "-"))
}

/// The catalog of the tests: port 80, two endpoints of v1 and one of v2.
fn catalog() -> String {
    service(
        "catalog.my-app",
        &[("http", 80)],
        &[("10.0.0.1", "v1"), ("10.0.0.2", "v1"), ("10.0.0.3", "v2")],
    )
}

const CATALOG: &str = "catalog.my-app.svc.cluster.local";

/// A VirtualService with this `spec`, written in flow or block style with two blanks before.
fn virtual_service(name: &str, spec: &str) -> String {
    object("VirtualService", name, spec)
}

fn destination_rule(name: &str, spec: &str) -> String {
    object("DestinationRule", name, spec)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let (name, namespace) = name.split_once('.').expect("name.namespace");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}\n"
    )
}

/// The routes of a host that a client finds by its service's route configuration.
#[track_caller]
fn routes<'a>(resources: &'a Resources, name: &str) -> &'a [std::sync::Arc<Route>] {
    let names: Vec<_> = resources.routes.keys().collect();
    let configuration = resources.routes.get(name);
    let configuration = configuration.unwrap_or_else(|| panic!("no {name} in {names:?}"));
    &configuration.virtual_hosts[0].routes
}

#[track_caller]
fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("not forwarded: {other:?}"),
    }
}

/// Clusters and weights of a route.
#[track_caller]
fn destinations(route: &Route) -> Vec<(&str, u32)> {
    let all = forward(route).destinations.all();
    all.iter().map(|one| (&*one.cluster, one.weight)).collect()
}

#[track_caller]
fn cluster<'a>(resources: &'a Resources, name: &str) -> &'a Cluster {
    let names: Vec<_> = resources.clusters.keys().collect();
    let cluster = resources.clusters.get(name);
    cluster.unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

/// The addresses of an endpoints resource.
#[track_caller]
fn addresses(resources: &Resources, name: &str) -> Vec<String> {
    let endpoints = &resources.endpoints[name];
    let all = endpoints.localities.iter().flat_map(|one| &one.endpoints);
    all.map(|endpoint| endpoint.address.to_string()).collect()
}

/// The name of the virtual host that has this authority, as a whole name.
fn owner<'a>(configuration: &'a RouteConfiguration, authority: &str) -> Option<&'a str> {
    let wanted = Domain::parse(authority);
    let mut hosts = configuration.virtual_hosts.iter();
    hosts
        .find(|host| host.domains.contains(&wanted))
        .map(|host| &*host.name)
}

/// The first route that takes a GET of `path` with these headers.
fn taken<'a>(
    routes: &'a [std::sync::Arc<Route>],
    path: &str,
    headers: &[(&'static str, &'static str)],
) -> Option<&'a Route> {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, http::HeaderValue::from_static(value));
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let view = RequestView {
        method: "GET",
        scheme: "http",
        authority: "catalog",
        path,
        query,
        headers: &map,
    };
    let mut all = routes.iter();
    all.find(|route| route.matcher.matches(&view, || 0))
        .map(|route| &**route)
}
