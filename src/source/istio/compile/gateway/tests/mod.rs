//! What Gateways become.

mod passthrough;

use super::*;
use crate::model::route::{Action, Domain, Route, VirtualHost};
use crate::source::istio::{Code, read};

const CATALOG: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: order, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: tls, port: 443}]}
";

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
         metadata: {{name: {name}, namespace: edge}}\n\
         spec:\n  selector: {{istio: edge}}\n  servers:\n{servers}"
    )
}

fn rules(name: &str, hosts: &str, http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  hosts: [{hosts}]\n  gateways: [edge/edge, mesh]\n{http}"
    )
}

const ALL: &str = "  http: [{route: [{destination: {host: catalog}}]}]\n";

fn at(texts: &[&str], labels: &[(&str, &str)], router: bool) -> Edge {
    let options = Options::default();
    let text = format!("{CATALOG}{}", texts.concat());
    let read = read([("mesh.yaml", &*text)], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let workload = Workload::new("edge", "x");
    let workload = labels.iter().fold(workload, |workload, (key, value)| {
        workload.label(*key, *value)
    });
    edge(&read.objects, &workload, router, &options)
}

fn of(texts: &[&str]) -> Edge {
    at(texts, &[("istio", "edge")], false)
}

/// The hosts of a route configuration with the names of their routes.
fn names(edge: &Edge, configuration: &str) -> Vec<(String, Vec<String>)> {
    let mut all = edge.routes.iter();
    let routes = all.find(|routes| &*routes.name == configuration);
    let routes = routes.unwrap_or_else(|| panic!("{configuration}: {edge:?}"));
    let name = |route: &Arc<Route>| route.name.to_string();
    let host = |host: &Arc<VirtualHost>| {
        let names = host.routes.iter().map(name).collect();
        (host.name.to_string(), names)
    };
    routes.virtual_hosts.iter().map(host).collect()
}

fn listeners(edge: &Edge) -> Vec<String> {
    edge.listeners.keys().map(ToString::to_string).collect()
}

fn told(edge: &Edge) -> Vec<(Code, String)> {
    let faults = edge.faults.iter();
    faults
        .map(|fault| (fault.code(), fault.message()))
        .collect()
}

#[test]
fn an_envoy_that_is_selected_has_the_hosts_and_rules_that_are_for_it() {
    let edge = of(&[
        &gateway(
            "edge",
            "  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*.shop.test', shop/plain.test]}\n",
        ),
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: shop}
spec:
  hosts: [www.shop.test, elsewhere.example, catalog]
  gateways: [edge/edge, mesh]
  http:
  - name: inside
    match: [{uri: {prefix: /inside}, gateways: [mesh]}]
    route: [{destination: {host: catalog}}]
  - name: edge
    match: [{uri: {prefix: /edge}, gateways: [edge/edge]}, {uri: {prefix: /x}, port: 80}]
    route: [{destination: {host: catalog}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wild, namespace: shop}
spec:
  hosts: ['*.test']
  gateways: [edge/edge]
  http: [{name: wild, route: [{destination: {host: catalog}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: shop}
spec:
  hosts: [inside.shop.test]
  http: [{route: [{destination: {host: catalog}}]}]
",
    ]);
    assert_eq!(listeners(&edge), ["0.0.0.0:8080"]);
    let found = names(&edge, "http.8080");
    let found: Vec<_> = found
        .iter()
        .map(|(host, names)| (&**host, &**names))
        .collect();
    let one = |name: &str| [name.to_owned()];
    let (wild, own) = (one("wild"), one("edge"));
    // What the server's pattern and the claim's have in common.
    let wanted: [(&str, &[String]); 3] = [
        ("*.shop.test:8080", &wild),
        ("plain.test:8080", &wild),
        ("www.shop.test:8080", &own),
    ];
    assert_eq!(found, wanted);
    let routes = &edge.routes[0].virtual_hosts;
    let domains: Vec<&Domain> = routes.iter().flat_map(|host| &host.domains).collect();
    let wanted = [
        "*.shop.test",
        "*.shop.test:8080",
        "plain.test",
        "plain.test:*",
        "www.shop.test",
        "www.shop.test:*",
    ];
    let wanted: Vec<Domain> = wanted.map(Domain::parse).into();
    assert_eq!(domains, wanted.iter().collect::<Vec<_>>());
    let Action::Forward(forward) = &routes[2].routes[0].action else {
        panic!("{routes:?}");
    };
    let cluster = &forward.destinations.all()[0].cluster;
    assert_eq!(&**cluster, "outbound|80||catalog.shop.svc.cluster.local");
    assert!(edge.faults.is_empty(), "{}", edge.faults);
}

#[test]
fn others_have_no_listener_and_an_empty_selector_means_routers() {
    let one = gateway(
        "edge",
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n",
    );
    let all = one.replace("selector: {istio: edge}", "selector: {}");
    let other = at(&[&one], &[("istio", "other")], true);
    assert!(at(&[&one], &[], true).listeners.is_empty() && other.listeners.is_empty());
    assert!(at(&[&all], &[], false).listeners.is_empty());
    assert_eq!(listeners(&at(&[&all], &[], true)), ["0.0.0.0:80"]);
}

#[test]
fn rules_of_several_objects_for_a_host_are_merged_and_the_general_ones_come_last() {
    let server = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [www.test]}\n";
    let other = server.replace("name: http", "name: web");
    let edge = of(&[
        &gateway("edge", server),
        &gateway("second", &other),
        &rules("a", "www.test", "  http: [{name: a, route: [{destination: {host: catalog}}]}]\n"),
        &rules(
            "b",
            "www.test",
            "  http: [{name: b, match: [{uri: {prefix: /b}}], route: [{destination: {host: order, port: {number: 80}}}]}]\n",
        ),
        &rules("c", "www.test", "  http: [{name: c, match: [{uri: {prefix: /c}}], route: [{destination: {host: catalog}}]}]\n")
            .replace("[edge/edge, mesh]", "[edge/second]"),
        &rules("d", "www.test", "  http: [{name: d, route: [{destination: {host: catalog}}]}]\n"),
    ]);
    assert_eq!(listeners(&edge), ["0.0.0.0:80"]);
    let names = names(&edge, "http.80");
    assert_eq!(names.len(), 1);
    assert_eq!(
        names[0].1,
        ["b", "c", "a"],
        "the first that takes all is the last"
    );
}

#[test]
fn exported_rules_only_are_seen_and_own_namespaces_are_served_only() {
    let servers = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [./own.test, bank/bank.test, all.test]}\n";
    let hidden =
        rules("hidden", "all.test", ALL).replace("  gateways", "  exportTo: ['.']\n  gateways");
    let edge = of(&[
        &gateway("edge", servers),
        &rules("own", "own.test", ALL),
        &rules("bank", "bank.test", ALL),
        &hidden,
    ]);
    assert_eq!(names(&edge, "http.80"), []);
    let shown = hidden.replace("['.']", "[edge]");
    let edge = of(&[&gateway("edge", servers), &shown]);
    assert_eq!(names(&edge, "http.80").len(), 1);
}

#[test]
fn a_redirect_takes_every_request_of_its_hosts_with_and_without_rules() {
    let edge = of(&[
        &gateway(
            "edge",
            "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.test'], tls: {httpsRedirect: true}}\n",
        ),
        &rules("www", "www.test", ALL),
    ]);
    let hosts = names(&edge, "http.80");
    assert_eq!(hosts.len(), 2);
    for (host, routes) in &hosts {
        assert_eq!(routes, &["https-redirect"], "{host}");
    }
    let route = &edge.routes[0].virtual_hosts[0].routes[0];
    let Action::Redirect(redirect) = &route.action else {
        panic!("{route:?}");
    };
    assert_eq!(redirect.status, 301);
    assert_eq!(redirect.scheme, Some(http::uri::Scheme::HTTPS));
}

const SECURED: &str = "tls: {mode: SIMPLE, serverCertificate: /crt, privateKey: /key}";

fn https(name: &str, hosts: &str) -> String {
    format!(
        "  - {{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: [{hosts}], {SECURED}}}\n"
    )
}

#[test]
fn servers_of_https_share_a_port_by_the_names_that_callers_ask_for() {
    let edge = of(&[
        &gateway(
            "edge",
            &format!(
                "{}{}",
                https("a", "a.test, shop/b.test"),
                https("any", "'*'")
            ),
        ),
        &rules("a", "a.test", ALL),
        &rules("c", "c.test", ALL),
    ]);
    let chains = &edge.listeners.values().next().expect("a listener")[..];
    let names_of: Vec<Vec<&str>> = chains
        .iter()
        .map(|chain| chain.names.iter().map(|name| &**name).collect())
        .collect();
    assert_eq!(names_of, [vec!["a.test", "b.test"], vec![]]);
    assert!(chains.iter().all(|chain| chain.tls.is_some()));
    let hosts = |configuration: &str| -> Vec<String> {
        let names = names(&edge, configuration).into_iter();
        names.map(|(host, _)| host).collect()
    };
    assert_eq!(hosts("https.443.a.edge.edge"), ["a.test:443"]);
    assert_eq!(
        hosts("https.443.any.edge.edge"),
        ["a.test:443", "c.test:443"]
    );
}

#[test]
fn what_cannot_share_a_port_is_left_out_and_told() {
    let plain = "  - {port: {number: 443, name: http, protocol: HTTP}, hosts: ['*']}\n";
    let edge = of(&[
        &gateway("edge", &https("a", "a.test")),
        &gateway("second", plain),
        &gateway("third", &https("b", "b.test, a.test")),
    ]);
    let chains = &edge.listeners.values().next().expect("a listener")[..];
    assert_eq!(chains.len(), 1);
    let told = told(&edge);
    assert_eq!(told.len(), 2, "{told:?}");
    for ((code, text), part) in told.iter().zip([
        "gateway edge/second servers[0]: has no listener:",
        "gateway edge/third servers[0]: has no listener:",
    ]) {
        assert_eq!(*code, Code::Conflict);
        assert!(text.starts_with(part), "{text}");
    }
    assert!(
        told[0]
            .1
            .contains("for TLS, and this server is one of plaintext"),
        "{told:?}"
    );
    assert!(
        told[1].1.contains("has the name a.test on the port 443"),
        "{told:?}"
    );
}

#[test]
fn the_port_that_is_opened_is_the_one_behind_the_service() {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: edge}
spec: {selector: {istio: edge}, ports: [{name: web, port: 80, targetPort: 8080}]}
";
    let edge = of(&[
        service,
        &gateway(
            "edge",
            "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.test']}\n",
        ),
        &rules(
            "wild",
            "'*.test'",
            "  http: [{match: [{port: 80}], route: [{destination: {host: catalog}}]}]\n",
        ),
    ]);
    assert_eq!(listeners(&edge), ["0.0.0.0:8080"]);
    let hosts = &edge.routes[0].virtual_hosts;
    assert_eq!(&*edge.routes[0].name, "http.8080");
    let wanted = ["*.test", "*.test:80", "*.test:8080"].map(Domain::parse);
    assert_eq!(hosts[0].domains, wanted);
}

#[test]
fn an_address_has_its_own_listener_and_routes() {
    let server =
        "  - {port: {number: 80, name: http, protocol: GRPC-WEB}, bind: '::1', hosts: ['*']}\n";
    let edge = of(&[&gateway("edge", server), &rules("www", "www.test", ALL)]);
    assert_eq!(listeners(&edge), ["[::1]:80"]);
    assert_eq!(names(&edge, "http.80.::1").len(), 1);
    let chains = edge.listeners.values().next().expect("a listener");
    assert!(chains[0].grpc_web);
}

/// The names of both are `https.443.a.b.c.edge`.
#[test]
fn servers_whose_routes_would_have_one_name_have_routes_of_their_own() {
    let to = |name: &str, gateway: &str| {
        rules(name, &format!("{name}.test"), ALL).replace("edge/edge, mesh", gateway)
    };
    let edge = of(&[
        &gateway("c", &https("a.b", "one.test")),
        &gateway("b.c", &https("a", "two.test")),
        &to("one", "edge/c"),
        &to("two", "edge/b.c"),
    ]);
    let hosts = |configuration: &str| {
        let hosts = names(&edge, configuration).into_iter();
        hosts.map(|(host, _)| host).collect::<Vec<_>>()
    };
    assert_eq!(hosts("https.443.a.b.c.edge"), ["one.test:443"]);
    assert_eq!(hosts("https.443.a.b.c.edge.2"), ["two.test:443"]);
    let chains = edge.listeners.values().next().expect("a listener");
    let leads: BTreeSet<&str> = chains
        .iter()
        .filter_map(|chain| match &chain.leads {
            Leads::Routes(name) => Some(&**name),
            Leads::Clusters(_) => None,
        })
        .collect();
    assert_eq!(leads.len(), 2);
}
