//! What a Sidecar lets a client see, and what the mesh configuration says for all.

use std::fmt::Write as _;
use std::time::Duration;

use meshwork::Workload;
use meshwork::model::OutboundTraffic;
use meshwork::model::cluster::{Discovery, Protocol};
use meshwork::model::route::Action;
use meshwork::source::istio::Options;

use super::{assert_warns, compiled, compiled_as, order, resources, service};

/// A Sidecar `name.namespace`.
fn sidecar(name: &str, spec: &str) -> String {
    let (name, namespace) = name.split_once('.').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// Services `a` and `b` of `my-app`, `c` of `other`.
fn services() -> Vec<String> {
    let one = |name: &str| service(name, &[("http", 80)], &[("10.0.0.1", "v1")]);
    ["a.my-app", "b.my-app", "c.other"].map(one).to_vec()
}

/// The services that the client of most tests sees under these objects.
fn seen(more: &[&str]) -> String {
    let services = services();
    let texts: Vec<&str> = services
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    let resources = resources(&texts);
    let names = resources.clusters.keys().map(|name| {
        let host = name.rsplit('|').next().unwrap();
        host.split('.').next().unwrap().to_owned()
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn egress_hosts_say_what_is_seen() {
    for (hosts, expected) in [
        ("'*/*'", "a b c"),
        ("'./*'", "a b"),
        ("'other/*'", "c"),
        ("'~/*'", ""),
        ("'./a'", "a"),
        (
            "'./a.my-app.svc.cluster.local', '*/c.other.svc.cluster.local'",
            "a c",
        ),
        ("'*/*.other.svc.cluster.local'", "c"),
        ("'other/a.my-app.svc.cluster.local'", ""),
    ] {
        let text = sidecar("s.my-app", &format!("egress: [{{hosts: [{hosts}]}}]"));
        assert_eq!(seen(&[&text]), expected, "{hosts}");
    }
}

#[test]
fn a_selector_comes_before_the_namespace_and_that_before_the_root() {
    let of = |name: &str, selector: &str, hosts: &str| {
        sidecar(
            name,
            &format!("{selector} egress: [{{hosts: ['{hosts}']}}]"),
        )
    };
    let root = of("s.istio-system", "", "./b");
    let whole = of("s.my-app", "", "other/*");
    let mine = of(
        "t.my-app",
        "workloadSelector: {labels: {app: order}},",
        "./a",
    );
    let yours = of("u.my-app", "workloadSelector: {labels: {app: web}},", "~/*");
    // A short name is one of the Sidecar's own namespace, so the root's is nobody here.
    assert_eq!(seen(&[&root]), "");
    assert_eq!(seen(&[&of("s.istio-system", "", "./*")]), "a b");
    assert_eq!(seen(&[&root, &whole, &yours]), "c");
    assert_eq!(seen(&[&root, &whole, &yours, &mine]), "a");
    let second = of("v.my-app", "", "~/*");
    assert_warns(
        &compiled(&[&whole, &second]),
        "M",
        "speaks for the same workloads",
    );
    assert_eq!(seen(&[&of("s.elsewhere", "", "~/*")]), "a b c");
}

#[test]
fn a_virtual_service_that_is_seen_brings_its_destinations() {
    let text = sidecar("s.my-app", "egress: [{hosts: ['./a']}]");
    let rule = super::virtual_service(
        "a.my-app",
        "  hosts: [a]\n  http: [{route: [{destination: {host: c.other.svc.cluster.local}}]}]",
    );
    assert_eq!(seen(&[&text, &rule]), "a c");
    let unseen = rule.replace("hosts: [a]", "hosts: [b]");
    assert_eq!(seen(&[&text, &unseen]), "a");
    let root = super::virtual_service(
        "a.my-app",
        "  hosts: [a]\n  http: [{match: [{uri: {prefix: /}}], delegate: {name: child}}]",
    );
    let child = super::virtual_service(
        "child.my-app",
        "  http: [{route: [{destination: {host: b}}]}]",
    );
    assert_eq!(seen(&[&text, &root, &child]), "a b");
    let attached = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                    metadata: {name: a, namespace: my-app}\nspec:\n  \
                    parentRefs: [{group: '', kind: Service, name: a, port: 80}]\n  \
                    rules: [{backendRefs: [{name: b, port: 80}]}]\n";
    assert_eq!(seen(&[&text, attached]), "a b");
    let elsewhere = attached.replace("Service, name: a", "Service, name: b");
    assert_eq!(seen(&[&text, &elsewhere]), "a");
}

#[test]
fn ten_thousand_services_of_which_a_sidecar_shows_three_are_three() {
    let mut all = String::new();
    for number in 0..10_000 {
        write!(
            all,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: big}}\n\
             spec: {{ports: [{{name: http, port: 80}}]}}\n---\n"
        )
        .unwrap();
    }
    let hosts = [1, 500, 9_999].map(|number| format!("'big/s{number}.big.svc.cluster.local'"));
    let text = sidecar(
        "s.my-app",
        &format!("egress: [{{hosts: [{}]}}]", hosts.join(", ")),
    );
    let resources = resources(&[&all, &text]);
    assert_eq!(resources.clusters.len(), 3);
    assert_eq!(resources.endpoints.len(), 3);
    assert_eq!(resources.listeners.len(), 3);
    // One for each service, and one for the port number.
    assert_eq!(resources.routes.len(), 4);
    assert_eq!(resources.routes["80"].virtual_hosts.len(), 3);
}

#[test]
fn the_sidecar_and_then_the_mesh_say_what_becomes_of_unknown_hosts() {
    let only = sidecar("s.my-app", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    let empty = sidecar("s.my-app", "outboundTrafficPolicy: {}");
    let silent = sidecar("s.my-app", "egress: [{hosts: ['*/*']}]");
    let mesh = "mesh: {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n";
    let (any, registry) = (
        Some(OutboundTraffic::AllowAny),
        Some(OutboundTraffic::RegistryOnly),
    );
    for (texts, expected) in [
        (vec![], None),
        (vec![mesh], any),
        (vec![mesh, &silent], any),
        (vec![mesh, &only], registry),
        (vec![&empty], registry),
    ] {
        assert_eq!(resources(&texts).outbound_traffic, expected, "{texts:?}");
    }
}

#[test]
fn the_mesh_says_what_the_rules_of_a_host_do_not() {
    const MESH: &str = "mesh:\n  connectTimeout: 3s\n  h2UpgradePolicy: UPGRADE\n  \
                        dnsRefreshRate: 7s\n  \
                        defaultHttpRetryPolicy: {attempts: 7, retryOn: reset}\n  \
                        defaultTrafficPolicy:\n    \
                        connectionPool: {http: {http2MaxRequests: 9}}\n    \
                        outlierDetection: {consecutive5xxErrors: 4}\n";
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: b, namespace: my-app}\nspec:\n  host: b\n  trafficPolicy:\n    \
                connectionPool: {tcp: {connectTimeout: 1s}, http: {h2UpgradePolicy: DO_NOT_UPGRADE}}\n";
    let named = "apiVersion: v1\nkind: Service\nmetadata: {name: d, namespace: my-app}\n\
                 spec: {ports: [{name: http, port: 80}]}\n";
    let services = services();
    let mut texts: Vec<&str> = services.iter().map(String::as_str).collect();
    texts.extend([rule, named, MESH]);
    let resources = resources(&texts);
    let cluster = |name: &str| {
        &*resources.clusters[&*format!("outbound|80||{name}.my-app.svc.cluster.local")]
    };
    let (plain, ruled) = (cluster("a"), cluster("b"));
    assert_eq!(plain.connect_timeout, Duration::from_secs(3));
    assert_eq!(ruled.connect_timeout, Duration::from_secs(1));
    assert_eq!(
        (plain.protocol, ruled.protocol),
        (Protocol::Http2, Protocol::Http1)
    );
    // Block by block: the pool of the rule stands in the place of the whole pool of the mesh.
    assert_eq!(
        (plain.limits.requests, ruled.limits.requests),
        (9, u32::MAX)
    );
    for cluster in [plain, ruled] {
        let outlier = cluster.outlier.as_ref().unwrap();
        assert_eq!(outlier.consecutive_5xx.unwrap().get(), 4);
    }
    let Discovery::Dns(dns) = &cluster("d").discovery else {
        panic!()
    };
    assert_eq!(dns.refresh, Duration::from_secs(7));
    let host = &resources.routes["80"].virtual_hosts[0];
    let Action::Forward(forward) = &host.routes[0].action else {
        panic!()
    };
    assert_eq!(forward.retry.as_ref().unwrap().retries, 7);
}

#[test]
fn the_mesh_says_who_sees_what_says_nothing_itself_and_which_namespace_is_the_root() {
    const MESH: &str = "mesh:\n  rootNamespace: top\n  defaultServiceExportTo: ['.']\n  \
                        defaultDestinationRuleExportTo: ['.']\n";
    assert_eq!(seen(&[MESH]), "a b");
    let root = sidecar("s.top", "egress: [{hosts: ['~/*']}]");
    assert_eq!(seen(&[MESH, &root]), "");
    let rule = |export: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: all, namespace: top}}\nspec:\n  host: '*.local'\n  {export}\n  \
             trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: 1s}}}}}}\n"
        )
    };
    let timeout = |export: &str| {
        let services = services();
        let resources = resources(&[&services[0], MESH, &rule(export)]);
        resources.clusters["outbound|80||a.my-app.svc.cluster.local"]
            .connect_timeout
            .as_secs()
    };
    assert_eq!((timeout(""), timeout("exportTo: ['*']")), (10, 1));
}

#[test]
fn near_endpoints_come_first_unless_the_mesh_says_no() {
    let endpoints = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                     metadata: {name: api, namespace: my-app}\nspec:\n  hosts: [api.example]\n  \
                     ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  \
                     endpoints: [{address: 10.0.0.1, locality: eu/a}, {address: 10.0.0.2, locality: us/a}]\n";
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: api, namespace: my-app}\nspec:\n  host: api.example\n  \
                trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}\n";
    let client: Workload = order().with_locality(meshwork::model::endpoint::Locality {
        region: "eu".into(),
        zone: "a".into(),
        sub_zone: "".into(),
    });
    let priorities = |more: &str| -> Vec<u32> {
        let texts: Vec<&str> = [endpoints, rule]
            .into_iter()
            .chain(Some(more).filter(|one| !one.is_empty()))
            .collect();
        let compiled = compiled_as(&client, &Options::default(), &texts);
        let localities = &compiled.resources.endpoints["outbound|80||api.example"].localities;
        localities.iter().map(|one| one.priority).collect()
    };
    assert_eq!(priorities(""), [0, 1]);
    let shares = "mesh: {localityLbSetting: {distribute: [{from: eu/a/*, to: {'us/*': 100}}]}}\n";
    assert_eq!(priorities(shares), [0]);
    assert_eq!(
        priorities("mesh: {localityLbSetting: {enabled: false}}\n"),
        [0, 0]
    );
}

/// What the ports of `order-1` (labels `app: order`) take under these objects: connections and requests
/// of each port that is asked for.
fn capacities(texts: &[&str], ports: &[u16]) -> Vec<(u32, u32)> {
    let all = resources(texts).capacities;
    let number = |limit: Option<std::num::NonZeroU32>| limit.map_or(0, std::num::NonZeroU32::get);
    let of = |port: &u16| {
        let one = all.on(*port);
        (number(one.connections), number(one.requests))
    };
    ports.iter().map(of).collect()
}

#[test]
fn a_sidecar_says_what_ports_take_and_else_the_rule_of_the_own_service() {
    let own = "apiVersion: v1\nkind: Service\nmetadata: {name: order, namespace: my-app}\n\
               spec:\n  selector: {app: order}\n  ports:\n  \
               - {name: http, port: 80, targetPort: 8080}\n  - {name: http-b, port: 81}\n";
    let other = own.replace("order", "billing");
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: order, namespace: my-app}\nspec:\n  host: order\n  trafficPolicy:\n    \
                connectionPool: {tcp: {maxConnections: 7}, http: {http2MaxRequests: 9}}\n    \
                portLevelSettings:\n    - port: {number: 81}\n      \
                connectionPool: {http: {http2MaxRequests: 3}}\n";
    let ports = [8080, 81, 80];
    assert_eq!(capacities(&[own, rule], &ports), [(7, 9), (0, 3), (0, 0)]);
    // A rule of somebody else's service is for its callers only.
    let others = rule.replace("order", "billing");
    assert_eq!(capacities(&[&other, &others], &ports), [(0, 0); 3]);
    // A selector chooses callers, and the server itself may be one.
    let mine = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: mine, namespace: my-app}\nspec:\n  host: order\n  \
                workloadSelector: {matchLabels: {app: order}}\n  \
                trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}\n";
    assert_eq!(capacities(&[own, mine], &ports), [(0, 0); 3]);
    assert_eq!(
        capacities(&[own, mine, rule], &ports),
        [(7, 9), (0, 3), (0, 0)]
    );
    let pool = "inboundConnectionPool: {tcp: {maxConnections: 2}, http: {http2MaxRequests: 5}}";
    let whole = sidecar("s.my-app", pool);
    assert_eq!(capacities(&[own, rule, &whole], &ports), [(2, 5); 3]);
    let elsewhere = sidecar(
        "s.my-app",
        &format!("workloadSelector: {{labels: {{app: cart}}}}, {pool}"),
    );
    assert_eq!(
        capacities(&[own, rule, &elsewhere], &ports),
        [(7, 9), (0, 3), (0, 0)]
    );
}

#[test]
fn a_named_target_port_is_that_of_the_endpoints_and_of_two_services_the_lower_limits_hold() {
    let own = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: my-app}}\n\
             spec:\n  selector: {{app: order}}\n  ports: [{{name: http, port: 80, targetPort: web}}]\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: my-app, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 9090}}]\n\
             endpoints: [{{addresses: [10.0.0.9]}}]\n"
        )
    };
    let rule = |name: &str, limit: u32| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: {name}, namespace: my-app}}\nspec:\n  host: {name}\n  \
             trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {limit}}}}}}}\n"
        )
    };
    let (one, other) = (own("one"), own("two"));
    let texts = [&one, &other, &rule("one", 8), &rule("two", 4)];
    let texts = texts.map(String::as_str);
    assert_eq!(capacities(&texts, &[9090, 80]), [(0, 4), (0, 0)]);
}
