//! The same files, embedded and served: two meshes of which one reads the files and one asks a control
//! plane that does. The same requests, drawn from a seed, have the same outcomes, as the servers see
//! them and as the caller does. Every matcher and every action is hit at least fifty times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use meshwork::control::{Server, Store};
use meshwork::model::endpoint::Address;
use meshwork::source::istio::Options;
use meshwork::source::xds::Bootstrap;
use meshwork::transport::{Connect, Connecting, Settings, TcpConnector};
use meshwork::{Body, CallReport, Mesh, Random, Workload};

use crate::mesh::world::{World, text};

const HOST: &str = "catalog.my-app.svc.cluster.local";
/// How often each route is aimed at.
const SHOTS: usize = 60;

/// A route of the test: its name, its part of the YAML, and a request that takes it.
struct Case {
    name: &'static str,
    matches: &'static str,
    action: &'static str,
    request: fn(&Random) -> Asked,
}

/// Method, path with query, headers.
type Asked = (&'static str, String, Vec<(&'static str, String)>);

/// Something that differs from request to request.
fn noise(random: &Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(6) {
        text.push(char::from(b'a' + random.below(26) as u8));
    }
    text
}

const TO_V1: &str = "route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]";

/// The routes in their order: each takes what those before it leave.
#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "exact-path", matches: "uri: {exact: /exact}", action: TO_V1,
        request: |_| ("GET", "/exact".into(), vec![]) },
    Case { name: "prefix-path", matches: "uri: {prefix: /prefix/}", action: TO_V1,
        request: |r| ("GET", format!("/prefix/{}?q={}", noise(r), noise(r)), vec![]) },
    Case { name: "regex-path", matches: "uri: {regex: '/regex/[a-m]+'}", action: TO_V1,
        request: |_| ("GET", "/regex/abc".into(), vec![]) },
    Case { name: "any-case-path", matches: "uri: {prefix: /AnyCase}, ignoreUriCase: true", action: TO_V1,
        request: |r| ("GET", format!("/anyCASE{}", noise(r)), vec![]) },
    Case { name: "method", matches: "method: {exact: PATCH}", action: TO_V1,
        request: |r| ("PATCH", format!("/{}", noise(r)), vec![]) },
    Case { name: "header-exact", matches: "headers: {x-exact: {exact: one}}", action: TO_V1,
        request: |r| ("GET", format!("/{}", noise(r)), vec![("x-exact", "one".into())]) },
    Case { name: "header-prefix", matches: "headers: {x-prefix: {prefix: on}}", action: TO_V1,
        request: |r| ("GET", "/".into(), vec![("x-prefix", format!("on{}", noise(r)))]) },
    Case { name: "header-regex", matches: "headers: {x-regex: {regex: '[0-9]{2,3}'}}", action: TO_V1,
        request: |r| ("GET", "/".into(), vec![("x-regex", (10 + r.below(900)).to_string())]) },
    Case { name: "header-present", matches: "headers: {x-present: {}}", action: TO_V1,
        request: |r| ("GET", "/".into(), vec![("x-present", noise(r))]) },
    Case { name: "header-absent", matches: "uri: {prefix: /absent}, withoutHeaders: {x-user: {exact: root}}", action: TO_V1,
        request: |r| ("GET", "/absent".into(), vec![("x-user", noise(r))]) },
    Case { name: "header-absent-not", matches: "uri: {prefix: /absent}", action: TO_V1,
        request: |_| ("GET", "/absent".into(), vec![("x-user", "root".into())]) },
    Case { name: "query-exact", matches: "queryParams: {exact: {exact: 'yes'}}", action: TO_V1,
        request: |r| ("GET", format!("/?a={}&exact=yes", noise(r)), vec![]) },
    Case { name: "query-regex", matches: "queryParams: {regex: {regex: 'v[0-9]+'}}", action: TO_V1,
        request: |r| ("GET", format!("/?regex=v{}", r.below(99)), vec![]) },
    Case { name: "query-prefix", matches: "queryParams: {prefix: {prefix: 'ab'}}", action: TO_V1,
        request: |r| ("GET", format!("/?prefix=ab{}", noise(r)), vec![]) },
    Case { name: "all-of", matches: "uri: {prefix: /all}, method: {exact: PUT}, headers: {x-a: {exact: '1'}}", action: TO_V1,
        request: |r| ("PUT", format!("/all/{}", noise(r)), vec![("x-a", "1".into())]) },
    Case { name: "split", matches: "uri: {prefix: /split}", action: "route:
      - {destination: {host: catalog.my-app.svc.cluster.local, subset: v1}, weight: 60, headers: {request: {set: {x-split: one}}}}
      - {destination: {host: catalog.my-app.svc.cluster.local, subset: v2}, weight: 40}",
        request: |r| ("GET", format!("/split/{}", noise(r)), vec![]) },
    Case { name: "redirect", matches: "uri: {prefix: /redirect}", action: "redirect: {uri: /there, authority: else.example, redirectCode: 308}",
        request: |r| ("GET", format!("/redirect/{}", noise(r)), vec![]) },
    Case { name: "direct", matches: "uri: {prefix: /direct}", action: "directResponse: {status: 418, body: {string: teapot}}",
        request: |r| ("GET", format!("/direct/{}", noise(r)), vec![]) },
    Case { name: "rewrite-prefix", matches: "uri: {prefix: /old/}", action: "rewrite: {uri: /new/, authority: other.example}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v2}}]",
        request: |r| ("GET", format!("/old/{}?k={}", noise(r), noise(r)), vec![]) },
    Case { name: "rewrite-regex", matches: "uri: {prefix: /users/}", action: "rewrite: {uriRegexRewrite: {match: '/users/([a-z]+)', rewrite: '/u/\\1/x'}}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v2}}]",
        request: |r| ("GET", format!("/users/{}", noise(r)), vec![]) },
    Case { name: "request-headers", matches: "uri: {prefix: /headers}", action: "headers: {request: {set: {x-set: a}, add: {x-add: b}, remove: [x-gone]}, response: {add: {x-more: c}, remove: [x-server]}}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]",
        request: |r| ("GET", "/headers".into(), vec![("x-gone", noise(r)), ("x-set", noise(r)), ("x-add", noise(r))]) },
    Case { name: "abort", matches: "uri: {prefix: /abort}", action: "fault: {abort: {httpStatus: 451, percentage: {value: 50}}}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]",
        request: |r| ("GET", format!("/abort/{}", noise(r)), vec![]) },
    Case { name: "delay", matches: "uri: {prefix: /delay}", action: "fault: {delay: {fixedDelay: 2ms, percentage: {value: 100}}}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]",
        request: |r| ("GET", format!("/delay/{}", noise(r)), vec![]) },
    Case { name: "retry", matches: "uri: {prefix: /flaky}", action: "retries: {attempts: 3, retryOn: 5xx}
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]",
        request: |r| ("GET", format!("/flaky/{}", 1 + r.below(5)), vec![]) },
    Case { name: "timeout", matches: "uri: {prefix: /slow}", action: "timeout: 15ms
    route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v1}}]",
        request: |r| ("GET", format!("/slow/{}", noise(r)), vec![]) },
    Case { name: "nobody", matches: "uri: {prefix: /nobody}", action: "route: [{destination: {host: catalog.my-app.svc.cluster.local, subset: v3}}]",
        request: |r| ("GET", format!("/nobody/{}", noise(r)), vec![]) },
    Case { name: "session", matches: "uri: {prefix: /hashed}", action: "route: [{destination: {host: hashed.my-app.svc.cluster.local}}]",
        request: |r| ("GET", "/hashed".into(), vec![("x-key", noise(r))]) },
    Case { name: "rest", matches: "", action: TO_V1,
        request: |r| ("POST", format!("/{}", noise(r)), vec![]) },
];

const REGISTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, ports: {http: 9001}, labels: {version: v1}}
  - {address: 10.0.0.1, ports: {http: 9002}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: hashed, namespace: my-app}
spec:
  hosts: [hashed.my-app.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, ports: {http: 9001}}
  - {address: 10.0.0.1, ports: {http: 9002}}
  - {address: 10.0.0.1, ports: {http: 9003}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hashed, namespace: my-app}
spec:
  host: hashed.my-app.svc.cluster.local
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-key}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog, namespace: my-app}
spec:
  host: catalog.my-app.svc.cluster.local
  trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 100}}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  http:
";

fn yaml() -> String {
    let mut yaml = REGISTRY.to_owned();
    for Case {
        name,
        matches,
        action,
        ..
    } in CASES
    {
        let condition = match *matches {
            "" => String::new(),
            some => format!("    match: [{{{some}}}]\n"),
        };
        let _ = write!(yaml, "  - name: {name}\n{condition}    {action}\n");
    }
    yaml
}

/// Answers with everything that was seen, in the same words for the same request.
async fn echo(port: u16, request: Request<Incoming>) -> Response<Body> {
    let uri = request.uri().clone();
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in request.headers() {
        // What tells nothing of the configuration but of the moment, or of one process.
        let of_the_moment = matches!(
            name.as_str(),
            "traceparent" | "tracestate" | "x-request-id" | "x-envoy-expected-rq-timeout-ms"
        );
        if !of_the_moment {
            headers.push(format!("{name}={}", value.to_str().unwrap_or("?")));
        }
    }
    headers.sort();
    let number = |header: &str| {
        let value = request.headers().get(header)?.to_str().ok()?;
        value.parse::<u32>().ok()
    };
    let attempt = number("x-envoy-attempt-count").unwrap_or(1);
    let path = uri.path().to_owned();
    if path.starts_with("/slow/") {
        std::future::pending::<()>().await;
    }
    if let Some(good) = path.strip_prefix("/flaky/")
        && good.parse::<u32>().is_ok_and(|good| attempt < good)
    {
        return crate::mesh::world::answer(503);
    }
    let mut response = text(format!(
        "{port} {} {uri} {}",
        request.method(),
        headers.join(";")
    ));
    let headers = response.headers_mut();
    headers.insert("x-server", http::HeaderValue::from(port));
    response
}

/// The control plane is on a real socket, everything else in memory.
#[derive(Debug)]
struct Beside(World, u16);

impl Connect for Beside {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        match address {
            Address::Socket(real) if real.port() == self.1 => {
                TcpConnector.connect(address, settings)
            }
            other => self.0.connect(other, settings),
        }
    }
}

async fn serve(folder: &std::path::Path) -> SocketAddr {
    let store = Store::follow(folder, Options::default()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(store);
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    address
}

/// What became of a request: the caller's view, which has the server's in its body.
async fn outcome(mesh: &Mesh, request: Request<Body>) -> (String, Option<String>) {
    let report = CallReport::default();
    let mut request = request;
    request.extensions_mut().insert(report.clone());
    let outcome = match mesh.client().request(request).await {
        Ok(response) => {
            let status = response.status();
            let mut headers: Vec<String> = response
                .headers()
                .iter()
                .filter(|(name, _)| *name != "date")
                .map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or("?")))
                .collect();
            headers.sort();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            format!("{status} [{}] {body}", headers.join(";"))
        }
        Err(error) => format!("{} {:?}", error.status(), error.flag()),
    };
    (outcome, report.route().map(|name| name.to_string()))
}

#[tokio::test]
async fn what_is_served_does_what_is_embedded() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mesh.yaml"), yaml()).unwrap();
    let world = World::default();
    for port in [9_001, 9_002, 9_003] {
        world.serve(port, move |request| echo(port, request));
    }
    let embedded = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order"))
        .connector(world.clone())
        .random(Random::seeded(11))
        .start()
        .await
        .unwrap();
    let plane = serve(folder.path()).await;
    let node = "sidecar~10.0.0.1~order.my-app~my-app.svc.cluster.local";
    let served = Mesh::builder()
        .xds(Bootstrap::server(&plane.to_string(), node).unwrap())
        .connector(Beside(world, plane.port()))
        .random(Random::seeded(11))
        .start()
        .await
        .unwrap();
    let random = Random::seeded(2_026);
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    for shot in 0..CASES.len() * SHOTS {
        let case = &CASES[shot % CASES.len()];
        let (method, target, headers) = (case.request)(&random);
        let request = || {
            let mut request = Request::builder()
                .method(method)
                .uri(format!("http://{HOST}{target}"));
            for (name, value) in &headers {
                request = request.header(*name, value);
            }
            request.body(Body::empty()).unwrap()
        };
        let (one, route) = outcome(&embedded, request()).await;
        let (other, other_route) = outcome(&served, request()).await;
        assert_eq!(
            route, other_route,
            "{}: {method} {target} {headers:?}",
            case.name
        );
        // Dice fall where they like; each way they may fall is seen below.
        let by_chance = matches!(case.name, "split" | "abort");
        if !by_chance {
            assert_eq!(one, other, "{}: {method} {target} {headers:?}", case.name);
        }
        *hits.entry(case.name.to_owned()).or_default() +=
            usize::from(route.as_deref() == Some(case.name));
        for seen in [one, other].iter().filter(|_| by_chance) {
            let end = match seen {
                aborted if aborted.starts_with("451") => "451",
                one if one.contains("9001 GET") => "9001",
                _ => "9002",
            };
            *hits.entry(format!("{} {end}", case.name)).or_default() += 1;
        }
    }
    for case in CASES {
        assert!(hits[case.name] >= 50, "{}: {hits:?}", case.name);
    }
    // Two meshes of sixty shots each: 120 draws of a share of 0.6 and of a half, within four
    // standard deviations.
    assert!((51..=93).contains(&hits["split 9001"]), "{hits:?}");
    assert!((38..=82).contains(&hits["abort 451"]), "{hits:?}");
}
