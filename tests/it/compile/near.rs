//! What services say of near and far endpoints, and of hosts that they are not.

use meshwork::model::affinity::SessionKey;
use meshwork::model::cluster::{Discovery, ProxyProtocol};
use meshwork::model::endpoint::Locality;

use super::*;

const HOST: &str = "outbound|80||catalog.example";

/// A client in region `eu`, zone `a`, on node `n1`.
fn near() -> Workload {
    let client = order().label("kubernetes.io/hostname", "n1");
    client.with_locality(Locality {
        region: "eu".into(),
        zone: "a".into(),
        sub_zone: "".into(),
    })
}

fn entry(annotation: &str, endpoints: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: catalog\n  \
         namespace: my-app\n  annotations: {{{annotation}}}\nspec:\n  hosts: [catalog.example]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{endpoints}]\n"
    )
}

/// Address and priority of each endpoint.
fn priorities(client: &Workload, name: &str, texts: &[&str]) -> Vec<(String, u32)> {
    let resources = compiled_as(client, &Options::default(), texts).resources;
    let mut all = Vec::new();
    for group in &resources.endpoints[name].localities {
        for endpoint in &group.endpoints {
            all.push((endpoint.address.to_string(), group.priority));
        }
    }
    all.sort();
    all
}

const THREE: &str = "{address: 10.0.0.1, locality: eu/a}, {address: 10.0.0.2, locality: eu/b}, \
                     {address: 10.0.0.3, locality: us/a}";
const CLOSE: &str = "networking.istio.io/traffic-distribution: PreferClose";

#[test]
fn traffic_distribution_prefers_the_near_with_and_without_outlier_detection() {
    let distance = |texts: &[&str]| -> Vec<u32> {
        let all = priorities(&near(), HOST, texts);
        all.into_iter().map(|(_, priority)| priority).collect()
    };
    let watched = "  host: catalog.example\n  trafficPolicy: {outlierDetection: {}}";
    let watched = destination_rule("catalog.my-app", watched);
    let same = "networking.istio.io/traffic-distribution: PreferSameZone";
    assert_eq!(distance(&[&entry("", THREE)]), [0, 0, 0], "nothing is said");
    assert_eq!(distance(&[&entry(CLOSE, THREE)]), [0, 1, 2]);
    assert_eq!(distance(&[&entry(same, THREE)]), [0, 1, 2]);
    assert_eq!(distance(&[&entry(CLOSE, THREE), &watched]), [0, 1, 2]);
    // The rule of the host stands above the service, the mesh's setting below it.
    let off = "  host: catalog.example\n  trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: \
               false}}}";
    let off = destination_rule("catalog.my-app", off);
    assert_eq!(distance(&[&entry(CLOSE, THREE), &off]), [0, 0, 0]);
    let mesh = "mesh: {localityLbSetting: {distribute: [{from: eu/a/*, to: {'us/*': 100}}]}}\n";
    assert_eq!(distance(&[&entry(CLOSE, THREE), mesh]), [0, 1, 2]);
    let unknown = "networking.istio.io/traffic-distribution: PreferHome";
    assert_eq!(distance(&[&entry(unknown, THREE)]), [0, 0, 0]);
}

/// A Kubernetes service of two pods on two nodes of one zone.
fn on_nodes(field: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: catalog, namespace: my-app}}\nspec:\n  \
         {field}\n  ports: [{{name: http, port: 80}}]\n---\napiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\nmetadata: {{name: catalog-1, namespace: my-app, labels: \
         {{kubernetes.io/service-name: catalog}}}}\naddressType: IPv4\nports: [{{name: http, port: \
         8080}}]\nendpoints:\n- {{addresses: [10.0.0.1], nodeName: n1, zone: a}}\n\
         - {{addresses: [10.0.0.2], nodeName: n2, zone: a}}\n"
    )
}

const SERVICE: &str = "outbound|80||catalog.my-app.svc.cluster.local";

#[test]
fn the_same_node_is_preferred_or_the_only_one_where_the_service_says_so() {
    let (one, two) = ("10.0.0.1:8080".to_owned(), "10.0.0.2:8080".to_owned());
    let found = |field: &str| priorities(&near(), SERVICE, &[&on_nodes(field)]);
    assert_eq!(
        found("trafficDistribution: PreferSameNode"),
        [(one.clone(), 0), (two.clone(), 1)]
    );
    assert_eq!(
        found("trafficDistribution: PreferSameZone"),
        [(one.clone(), 0), (two.clone(), 0)]
    );
    assert_eq!(found("internalTrafficPolicy: Local"), [(one.clone(), 0)]);
    assert_eq!(found("internalTrafficPolicy: Cluster").len(), 2);
    // A client that does not know its node has no endpoint of its own node, and is told so.
    let text = on_nodes("internalTrafficPolicy: Local");
    let compiled = compiled(&[&text]);
    assert!(addresses(&compiled.resources, SERVICE).is_empty());
    assert_warns(&compiled, "M047", "does not know its node");
}

#[test]
fn a_network_is_a_label_that_failover_and_distribution_look_at() {
    let endpoints = "{address: 10.0.0.1, network: one, locality: us/a}, \
                     {address: 10.0.0.2, network: two, locality: eu/a}";
    let client = near().label("topology.istio.io/network", "one");
    let found = priorities(&client, HOST, &[&entry(CLOSE, endpoints)]);
    let expected = [("10.0.0.1:80".to_owned(), 0), ("10.0.0.2:80".to_owned(), 1)];
    assert_eq!(found, expected, "the network counts before the region");
    let rule = "  host: catalog.example\n  trafficPolicy:\n    outlierDetection: {}\n    \
                loadBalancer: {localityLbSetting: {failoverPriority: ['topology.istio.io/network']}}";
    let rule = destination_rule("catalog.my-app", rule);
    assert_eq!(
        priorities(&client, HOST, &[&entry("", endpoints), &rule]),
        expected
    );
}

#[test]
fn remote_localities_are_left_for_after_two_tries() {
    let of = |field: &str| {
        let spec = format!(
            "  hosts: [catalog.my-app.svc.cluster.local]\n  http: [{{route: [{{destination: {{host: \
             catalog}}}}], retries: {{attempts: 3{field}}}}}]"
        );
        let resources = resources(&[&catalog(), &virtual_service("catalog.my-app", &spec)]);
        let policy = forward(&routes(&resources, SERVICE)[0])
            .retry
            .clone()
            .unwrap();
        policy.leave_priorities.map(std::num::NonZeroU32::get)
    };
    assert_eq!(of(", retryRemoteLocalities: true"), Some(2));
    assert_eq!(of(", retryRemoteLocalities: false"), None);
    assert_eq!(of(""), None);
}

#[test]
fn unknown_hosts_go_to_the_egress_proxy_where_they_may_pass() {
    let of = |policy: &str| {
        let spec = format!("  outboundTrafficPolicy: {policy}");
        let sidecar = object("Sidecar", "s.my-app", &spec);
        resources(&[&catalog(), &sidecar]).egress_proxy
    };
    let proxy = |text: &str| Some(text.into());
    assert_eq!(
        of("{mode: ALLOW_ANY, egressProxy: {host: catalog}}"),
        proxy(SERVICE),
        "the sole port of the service"
    );
    assert_eq!(
        of(
            "{mode: ALLOW_ANY, egressProxy: {host: egress.example, subset: v1, port: {number: 15443}}}"
        ),
        proxy("outbound|15443|v1|egress.example")
    );
    assert_eq!(
        of("{mode: REGISTRY_ONLY, egressProxy: {host: catalog}}"),
        None
    );
    assert_eq!(of("{mode: ALLOW_ANY}"), None);
}

#[test]
fn the_proxy_protocol_is_of_every_port_and_subset() {
    let rule = |version: &str| {
        let spec = format!(
            "  host: catalog\n  trafficPolicy:\n    proxyProtocol: {version}\n    \
             portLevelSettings: [{{port: {{number: 80}}, connectionPool: {{tcp: {{maxConnections: 1}}}}}}]\n  \
             subsets: [{{name: v1, labels: {{version: v1}}}}]"
        );
        resources(&[&catalog(), &destination_rule("catalog.my-app", &spec)])
    };
    for (version, expected) in [
        ("{version: V1}", ProxyProtocol::V1),
        ("{version: V2}", ProxyProtocol::V2),
        ("{}", ProxyProtocol::V1),
    ] {
        let resources = rule(version);
        for name in [SERVICE, "outbound|80|v1|catalog.my-app.svc.cluster.local"] {
            let found = cluster(&resources, name).connection.proxy_protocol;
            assert_eq!(found, Some(expected), "{version} {name}");
        }
    }
}

#[test]
fn pass_through_goes_to_what_the_request_asks_for() {
    let spec = "  host: catalog\n  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}";
    let resources = resources(&[&catalog(), &destination_rule("catalog.my-app", spec)]);
    assert_eq!(
        cluster(&resources, SERVICE).discovery,
        Discovery::Passthrough
    );
}

#[test]
fn a_session_of_a_route_is_a_cookie_or_a_header() {
    let of = |kind: &str, session: &str| {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: \
             my-app}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: catalog}}]\n  \
             rules: [{{backendRefs: [{{name: catalog, port: 80}}], sessionPersistence: {session}}}]\n"
        );
        let resources = resources(&[&catalog(), &text]);
        forward(&routes(&resources, SERVICE)[0])
            .affinity
            .session
            .clone()
            .unwrap()
            .key
    };
    for kind in ["HTTPRoute", "GRPCRoute"] {
        let cookie = |session: &str| match of(kind, session) {
            SessionKey::Cookie(cookie) => (cookie.cookie.to_string(), cookie.ttl.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(cookie("{}"), ("gateway-session".to_owned(), 0));
        assert_eq!(
            cookie("{sessionName: at, type: Cookie}"),
            ("at".to_owned(), 0)
        );
        let permanent = "{sessionName: at, absoluteTimeout: 1h, cookieConfig: {lifetimeType: \
                         Permanent}}";
        assert_eq!(cookie(permanent), ("at".to_owned(), 3_600));
        let header = of(kind, "{sessionName: X-At, type: Header}");
        assert_eq!(
            header,
            SessionKey::Header(http::HeaderName::from_static("x-at"))
        );
    }
}

#[test]
fn the_node_of_endpoints_and_pods_is_a_label_too() {
    let labels = |texts: &[&str]| {
        let resources = resources(texts);
        let groups = resources.endpoints[SERVICE].localities.iter();
        let all = groups.flat_map(|group| group.endpoints.clone());
        let node = |labels: &std::collections::BTreeMap<Box<str>, Box<str>>| {
            labels
                .get("kubernetes.io/hostname")
                .map(ToString::to_string)
        };
        all.map(|endpoint| node(&endpoint.labels))
            .collect::<Vec<_>>()
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: catalog, namespace: my-app}\n\
                   spec: {ports: [{name: http, port: 80}]}\n";
    let legacy = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: catalog, namespace: my-app}\n\
                  subsets: [{addresses: [{ip: 10.0.0.1, nodeName: n7}], ports: [{name: http, port: \
                  8080}]}]\n";
    assert_eq!(labels(&[service, legacy]), [Some("n7".to_owned())]);
    let pods = catalog().replace(
        "spec: {containers: []}",
        "spec: {nodeName: n8, containers: []}",
    );
    assert_eq!(labels(&[&pods]), vec![Some("n8".to_owned()); 3]);
    assert_eq!(labels(&[&catalog()]), vec![None; 3]);
}
