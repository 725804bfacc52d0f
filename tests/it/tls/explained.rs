//! What explain says that a server would answer is what it answers: generated policies of servers and clients,
//! over real sockets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::Request;
use meshwork::explain::servers::{Server, Servers, Spoken};
use meshwork::model::Resources;
use meshwork::source::istio::{Options, compile, read};
use meshwork::source::{Publisher, feed};
use meshwork::tls::{Credentials, Trust};
use meshwork::{Body, Mesh, Random, Workload};
use tower::{Layer, service_fn};

use super::authority::{Authority, clock};

const CONFIGURATIONS: u32 = 300;
const REQUESTS: u32 = 8;
/// How often each thing is met at least.
const LEAST: usize = 50;

fn credentials(authority: &mut Authority, account: &str) -> Credentials {
    let domain = "cluster.local".parse().unwrap();
    let trust = Trust::default().with_domain(domain, authority.bundle());
    let id = format!("spiffe://cluster.local/ns/my-app/sa/{account}");
    Credentials::new(Some(authority.issue(&id).identity()), trust)
}

fn client_workload() -> Workload {
    Workload::new("my-app", "order").label("app", "order")
}

fn server_workload(labels: &[(&str, &str)]) -> Workload {
    let workload = Workload::new("my-app", "catalog").label("app", "catalog");
    let labels = labels.iter();
    labels.fold(workload, |one, (key, value)| one.label(*key, *value))
}

fn pick<'a>(random: &Random, all: &[&'a str]) -> &'a str {
    all[random.below(all.len() as u32) as usize]
}

fn one_in(random: &Random, count: u32) -> bool {
    random.below(count) == 0
}

/// How often each thing was met.
#[derive(Default)]
struct Hits(BTreeMap<String, usize>);

impl Hits {
    fn add(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    fn each_at_least(&self, what: &[&str], least: usize) {
        for one in what {
            let found = self.0.get(*one).copied().unwrap_or_default();
            assert!(found >= least, "{one}: {found} of {:#?}", self.0);
        }
    }
}

/// The questions of rules: the field of `source` or `operation`, and what it is asked for.
const SOURCES: [(&str, &[&str]); 8] = [
    (
        "principals",
        &[
            "cluster.local/ns/my-app/sa/order",
            "*/sa/order",
            "cluster.local/ns/other/*",
        ],
    ),
    (
        "notPrincipals",
        &[
            "cluster.local/ns/my-app/sa/order",
            "cluster.local/ns/other/*",
        ],
    ),
    ("namespaces", &["my-app", "other", "my-*"]),
    ("notNamespaces", &["my-app", "other"]),
    ("serviceAccounts", &["my-app/order", "my-app/other"]),
    ("notServiceAccounts", &["my-app/order", "my-app/other"]),
    ("trustDomains", &["cluster.local", "elsewhere"]),
    ("notTrustDomains", &["cluster.local", "elsewhere"]),
];
const OPERATIONS: [(&str, &[&str]); 8] = [
    ("methods", &["GET", "POST"]),
    ("notMethods", &["GET", "POST"]),
    (
        "paths",
        &["/items", "/items/*", "*.html", "/a/{*}", "/new/items"],
    ),
    ("notPaths", &["/items", "/items/*", "*.html"]),
    ("hosts", &["catalog", "catalog.*", "other.example"]),
    ("notHosts", &["catalog", "other.example"]),
    ("ports", &["PORT", "1"]),
    ("notPorts", &["PORT", "1"]),
];
const CONDITIONS: [(&str, &[&str]); 5] = [
    ("request.headers[x-role]", &["admin", "user", "a*"]),
    (
        "source.principal",
        &["cluster.local/ns/my-app/sa/order", "nobody"],
    ),
    ("source.namespace", &["my-app", "other"]),
    ("destination.port", &["PORT", "1"]),
    (
        "connection.sni",
        &[
            "outbound_.80_._.catalog.my-app.svc.cluster.local",
            "other.example",
        ],
    ),
];

/// Objects as text, and what in them is of interest to be met.
struct Drawn {
    yaml: String,
    kinds: Vec<String>,
    labels: Vec<(&'static str, &'static str)>,
}

fn draw(random: &Random, port: u16) -> Drawn {
    let mut kinds = Vec::new();
    // Mostly one that speaks mutual TLS, so that policies are reached with an identity.
    let meshed = !one_in(random, 4);
    let mut labels = vec![("app", "catalog")];
    if meshed {
        labels.push(("security.istio.io/tlsMode", "istio"));
    }
    let told = labels.iter().map(|(key, value)| format!("{key}: {value}"));
    let told = told.collect::<Vec<_>>().join(", ");
    let mut yaml = format!(
        "
mesh: {{defaultHttpRetryPolicy: {{attempts: 0}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: catalog, namespace: my-app}}
spec: {{selector: {{app: catalog}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: catalog-1, namespace: my-app, labels: {{{told}}}}}
spec: {{serviceAccountName: catalog, containers: [{{name: catalog}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: catalog, namespace: my-app, labels: {{kubernetes.io/service-name: catalog}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], targetRef: {{kind: Pod, name: catalog-1, namespace: my-app}}}}]
"
    );
    peers(random, port, &mut yaml, &mut kinds);
    destination_rule(random, &mut yaml, &mut kinds);
    if one_in(random, 3) {
        kinds.push("route".to_owned());
        yaml.push_str(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog]
  http:
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/}
    headers: {request: {set: {x-role: admin}}}
    route: [{destination: {host: catalog}}]
  - route: [{destination: {host: catalog}}]
    headers: {request: {remove: [x-role]}}
",
        );
    }
    for number in 0..random.below(4) {
        policy(random, number, port, &mut yaml, &mut kinds);
    }
    Drawn {
        yaml,
        kinds,
        labels,
    }
}

fn peers(random: &Random, port: u16, yaml: &mut String, kinds: &mut Vec<String>) {
    const MODES: [&str; 3] = ["STRICT", "PERMISSIVE", "DISABLE"];
    for (name, selector) in [
        ("all", ""),
        ("one", "selector: {matchLabels: {app: catalog}}, "),
    ] {
        if one_in(random, 2) {
            continue;
        }
        let mode = pick(random, &MODES);
        kinds.push(format!("peer {mode}"));
        // Only a policy with a selector may have ports.
        let ports = match one_in(random, 2) && !selector.is_empty() {
            true => {
                let mode = pick(random, &MODES);
                kinds.push("peer of a port".to_owned());
                format!(", portLevelMtls: {{{port}: {{mode: {mode}}}}}")
            }
            false => String::new(),
        };
        let _ = write!(
            yaml,
            "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: my-app}}
spec: {{{selector}mtls: {{mode: {mode}}}{ports}}}
"
        );
    }
}

fn destination_rule(random: &Random, yaml: &mut String, kinds: &mut Vec<String>) {
    let (kind, tls) = match random.below(7) {
        0 => ("rule DISABLE", "{mode: DISABLE}"),
        1 => ("rule ISTIO_MUTUAL", "{mode: ISTIO_MUTUAL}"),
        2 => (
            "rule with another name",
            "{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/my-app/sa/other']}",
        ),
        3 => ("rule SIMPLE", "{mode: SIMPLE, insecureSkipVerify: true}"),
        _ => return kinds.push("no rule".to_owned()),
    };
    kinds.push(kind.to_owned());
    let _ = write!(
        yaml,
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec: {{host: catalog, trafficPolicy: {{tls: {tls}}}}}
"
    );
}

fn policy(random: &Random, number: u32, port: u16, yaml: &mut String, kinds: &mut Vec<String>) {
    let action = pick(random, &["ALLOW", "ALLOW", "DENY", "AUDIT"]);
    kinds.push(format!("action {action}"));
    let of = |all: &[(&'static str, &'static [&'static str])], kinds: &mut Vec<String>| {
        let (field, values) = all[random.below(all.len() as u32) as usize];
        kinds.push(field.to_owned());
        (
            field,
            pick(random, values).replace("PORT", &port.to_string()),
        )
    };
    let mut rule = Vec::new();
    let from = one_in(random, 2);
    if from {
        let (field, value) = of(&SOURCES, kinds);
        rule.push(format!("from: [{{source: {{{field}: ['{value}']}}}}]"));
    }
    if !from || one_in(random, 2) {
        let (field, value) = of(&OPERATIONS, kinds);
        rule.push(format!("to: [{{operation: {{{field}: ['{value}']}}}}]"));
    }
    if one_in(random, 3) {
        let (key, value) = of(&CONDITIONS, kinds);
        let values = pick(random, &["values", "notValues"]);
        kinds.push(values.to_owned());
        rule.push(format!("when: [{{key: '{key}', {values}: ['{value}']}}]"));
    }
    let rule = rule.join(", ");
    let _ = write!(
        yaml,
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p{number}, namespace: my-app}}
spec: {{action: {action}, rules: [{{{rule}}}]}}
"
    );
}

fn request(random: &Random) -> Request<()> {
    let host = pick(random, &["catalog", "catalog.my-app"]);
    let paths = [
        "/items",
        "/items/1",
        "/a/b",
        "/index.html",
        "/old/items",
        "//items",
    ];
    let path = pick(random, &paths);
    let mut request = Request::builder()
        .method(pick(random, &["GET", "POST", "PUT"]))
        .uri(format!("http://{host}{path}"));
    if one_in(random, 2) {
        request = request.header("x-role", pick(random, &["admin", "user", "guest"]));
    }
    request.body(()).unwrap()
}

/// A server whose configuration is published, at a port.
async fn serve(authority: &mut Authority) -> (Mesh, Publisher, u16) {
    let (publisher, source) = feed(Resources::default());
    let own = credentials(authority, "catalog");
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().port();
    let handler = service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
    });
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(handler)));
    (mesh, publisher, port)
}

fn resources(yaml: &str, workload: &Workload) -> Resources {
    let read = read([("mesh.yaml", yaml)], &Options::default());
    assert!(!read.faults.has_errors(), "{yaml}\n{}", read.faults);
    let compiled = compile(&read.objects, workload, &Options::default());
    assert!(!compiled.faults.has_errors(), "{yaml}\n{}", compiled.faults);
    compiled.resources
}

/// What a server says, in a word.
fn word(server: &Server) -> &'static str {
    let judgement = &server.judgement;
    match (judgement.allowed, &judgement.origin) {
        (true, None) => "no policy is about it",
        (true, Some(_)) => "a policy allows it",
        (false, Some(_)) => "a policy denies it",
        (false, None) if judgement.why.contains("none allows this") => "no policy allows it",
        (false, None) if judgement.why.contains("does not believe") => {
            "the client does not believe it"
        }
        (false, None) if judgement.why.contains("400") => "the path is ambiguous",
        (false, None) => "the connection is refused",
    }
}

#[tokio::test]
async fn what_is_explained_of_servers_is_what_they_answer() {
    let random = Random::seeded(11);
    let mut authority = Authority::new("root");
    let order = credentials(&mut authority, "order");
    let (server, publisher, port) = serve(&mut authority).await;
    let mut hits = Hits::default();
    for _ in 0..CONFIGURATIONS {
        let drawn = draw(&random, port);
        let theirs = resources(&drawn.yaml, &server_workload(&drawn.labels));
        publisher.publish(theirs).await.unwrap();
        let (_own, source) = feed(resources(&drawn.yaml, &client_workload()));
        let builder = Mesh::builder().feed(source).identity(order.clone());
        let client = builder.clock(clock()).start().await.unwrap();
        let objects = read([("mesh.yaml", &drawn.yaml)], &Options::default()).objects;
        let options = Options::default();
        let mut servers = Servers::new(&objects, &client_workload(), &options);
        let mut refused = 0;
        for _ in 0..REQUESTS {
            let asked = request(&random);
            let explained = client.explain(&asked);
            let told = servers.say(&explained, &asked);
            let [told] = &told[..] else {
                panic!("{told:?}\n{explained}\n{}", drawn.yaml);
            };
            let sent = asked.map(|()| Body::empty());
            let answer = client.client().request(sent).await;
            let allowed = answer.as_ref().is_ok_and(|answer| answer.status() == 200);
            assert_eq!(
                told.judgement.allowed, allowed,
                "{told:?}\n{answer:?}\n{explained}\n{}",
                drawn.yaml
            );
            assert_eq!(told.port, port);
            hits.add(word(told));
            hits.add(told.mutual_tls.as_str());
            hits.add(told.spoken.as_str());
            let decided = !matches!(
                word(told),
                "the connection is refused" | "the client does not believe it"
            );
            let kinds = drawn.kinds.iter().filter(|_| decided);
            kinds.for_each(|kind| hits.add(kind));
            refused += u32::from(!decided);
            if matches!(&told.spoken, Spoken::Mutual(_)) {
                assert_eq!(
                    told.spoken.principal(),
                    Some("spiffe://cluster.local/ns/my-app/sa/order")
                );
            }
            // The others would meet the same.
            if refused == 2 {
                break;
            }
        }
        client.shutdown(std::time::Duration::ZERO).await;
    }
    drop(server);
    let fields = SOURCES.iter().chain(&OPERATIONS).chain(&CONDITIONS);
    let fields: Vec<&str> = fields.map(|(field, _)| *field).collect();
    hits.each_at_least(&fields, LEAST);
    hits.each_at_least(
        &[
            "action ALLOW",
            "action DENY",
            "action AUDIT",
            "values",
            "notValues",
        ],
        LEAST,
    );
    hits.each_at_least(
        &[
            "STRICT",
            "PERMISSIVE",
            "DISABLE",
            "mutual TLS",
            "plaintext",
            "TLS",
        ],
        LEAST,
    );
    hits.each_at_least(
        &[
            "peer of a port",
            "route",
            "no rule",
            "rule DISABLE",
            "rule ISTIO_MUTUAL",
        ],
        LEAST,
    );
    hits.each_at_least(
        &[
            "no policy is about it",
            "a policy allows it",
            "a policy denies it",
            "no policy allows it",
            "the client does not believe it",
            "the path is ambiguous",
            "the connection is refused",
        ],
        LEAST,
    );
}
