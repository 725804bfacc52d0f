//! This library as a client of its own server: every policy through both front doors, over real
//! sockets, from a folder of YAML.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::control::{Limits, Store};
use meshwork::source::istio::Options;
use meshwork::source::xds::Bootstrap;
use meshwork::{Body, Error, Mesh, Random};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::world::{PATIENCE, World};
use crate::mesh::world::{Break, answer, text};

const HOST: &str = "catalog.my-app.svc.cluster.local";

/// Serves a port with a function of the request.
async fn backend<F, A>(with: F) -> u16
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let with = with.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let answer = with(request);
                    async move { Ok::<_, Break>(answer.await) }
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    port
}

async fn named(name: &'static str) -> u16 {
    backend(move |_| async move { text(name) }).await
}

/// An entry for the service: endpoints are (port, version, locality).
fn entry(host: &str, endpoints: &[(u16, &str, &str)]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|(port, version, locality)| {
            format!(
                "  - {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{version: {version}}}, \
                 locality: {locality}}}\n"
            )
        })
        .collect();
    let name = host.split('.').next().expect("a name");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: my-app}}\nspec:\n  hosts: [{host}]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n{endpoints}"
    )
}

/// A rule for the service with the subsets v1 and v2.
fn rule(policy: &str) -> String {
    let policy = match policy {
        "" => String::new(),
        policy => format!("  trafficPolicy: {{{policy}}}\n"),
    };
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  host: {HOST}\n  \
         subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]\n{policy}"
    )
}

fn routes(http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [{HOST}]\n  http:\n{http}\n"
    )
}

fn to(subset: &str) -> String {
    format!("destination: {{host: {HOST}, subset: {subset}}}")
}

fn to_all() -> String {
    format!("[{{destination: {{host: {HOST}}}}}]")
}

/// A folder that is served, and a mesh that is configured by the server.
struct Stage {
    folder: tempfile::TempDir,
    world: World,
    mesh: Mesh,
}

impl Stage {
    async fn set(text: &str) -> Self {
        Self::set_with(text, false).await
    }

    async fn set_with(text: &str, delta: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), text);
        let store = Store::follow(folder.path(), Options::default()).await;
        let world = World::start(store.expect("good files"), Limits::default()).await;
        let features = if delta {
            r#", "server_features": ["xds.delta"]"#
        } else {
            ""
        };
        let bootstrap = format!(
            r#"{{"xds_servers": [{{"server_uri": "{}", "channel_creds": [{{"type": "insecure"}}]{features}}}],
                "node": {{"id": "sidecar~127.0.0.1~order.my-app~my-app.svc.cluster.local",
                          "locality": {{"region": "here", "zone": "a"}}}}}}"#,
            world.address
        );
        let mesh = Mesh::builder()
            .xds(Bootstrap::from_json(&bootstrap).expect("a bootstrap"))
            .random(Random::seeded(7))
            .start()
            .await
            .expect("it starts");
        Self {
            folder,
            world,
            mesh,
        }
    }

    fn edit(&self, text: &str) {
        write(self.folder.path(), text);
    }

    async fn call(&self, headers: &[(&str, &str)]) -> Result<(StatusCode, String), Error> {
        let mut request = Request::get(format!("http://{HOST}/items"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = self.mesh.client().request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The body of an answer that is well.
    async fn told(&self, headers: &[(&str, &str)]) -> String {
        let (status, body) = self.call(headers).await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    async fn tally(&self, calls: usize, headers: &[(&str, &str)]) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for _ in 0..calls {
            *tally.entry(self.told(headers).await).or_default() += 1;
        }
        tally
    }

    /// Calls until the answer is this one.
    async fn until(&self, wanted: &str) {
        let look = async { while self.told(&[]).await != wanted {} };
        timeout(PATIENCE, look).await.expect("it comes");
    }

    async fn end(self) {
        self.mesh.shutdown(Duration::from_secs(1)).await;
        self.world.stop().await;
    }
}

fn write(folder: &Path, text: &str) {
    // As editors do: whole or not at all.
    std::fs::write(folder.join("next"), text).expect("a file in a temporary folder");
    std::fs::rename(folder.join("next"), folder.join("mesh.yaml")).expect("a rename");
}

#[tokio::test]
async fn requests_are_split_and_routed_by_header_in_both_variants() {
    let (one, two) = (named("v1").await, named("v2").await);
    let text = entry(HOST, &[(one, "v1", "here/a"), (two, "v2", "here/a")])
        + &rule("")
        + &routes(&format!(
            "  - match: [{{headers: {{x-canary: {{exact: 'true'}}}}}}]\n    route: [{{{}}}]\n  \
             - route: [{{{}, weight: 90}}, {{{}, weight: 10}}]",
            to("v2"),
            to("v1"),
            to("v2"),
        ));
    for delta in [false, true] {
        let stage = Stage::set_with(&text, delta).await;
        let split = stage.tally(1_000, &[]).await;
        assert!((60..=140).contains(&split["v2"]), "{split:?}");
        let canary = stage.tally(50, &[("x-canary", "true")]).await;
        assert_eq!(canary, [("v2".to_owned(), 50)].into());
        let clients = stage.world.server.clients();
        assert!(clients.iter().all(|client| client.refusals.is_empty()));
        let report = stage.world.server.report();
        let refused = meshwork::control::Kind::ALL.map(|kind| report.refused(kind));
        assert_eq!(refused.iter().sum::<u64>(), 0);
        stage.end().await;
    }
}

#[tokio::test]
async fn timeouts_end_calls_and_faults_are_injected() {
    let hung = backend(|_| std::future::pending()).await;
    let stage = Stage::set(
        &(entry(HOST, &[(hung, "v1", "here/a")])
            + &routes(&format!(
                "  - match: [{{headers: {{x-fault: {{exact: 'yes'}}}}}}]\n    \
                 fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}\n    route: {}\n  \
                 - timeout: 0.1s\n    route: {}",
                to_all(),
                to_all(),
            ))),
    )
    .await;
    let error = stage.call(&[]).await.expect_err("nobody answers");
    assert!(error.is_timeout(), "{error}");
    let error = stage
        .call(&[("x-fault", "yes")])
        .await
        .expect_err("a fault");
    assert!(error.is_fault(), "{error}");
    stage.end().await;
}

#[tokio::test]
async fn failures_are_retried() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let flaky = backend(move |_| {
        let third = counted.fetch_add(1, SeqCst) % 3 == 2;
        async move { if third { text("well") } else { answer(503) } }
    })
    .await;
    let stage = Stage::set(
        &(entry(HOST, &[(flaky, "v1", "here/a")])
            + &rule("connectionPool: {http: {maxRetries: 100}}")
            + &routes(&format!(
                "  - retries: {{attempts: 4, retryOn: 5xx, backoff: 1ms}}\n    route: {}",
                to_all()
            ))),
    )
    .await;
    assert_eq!(stage.tally(10, &[]).await["well"], 10);
    assert_eq!(calls.load(SeqCst), 30);
    stage.end().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_fail_at_once() {
    let hung = backend(|_| std::future::pending()).await;
    let stage = Stage::set(
        &(entry(HOST, &[(hung, "v1", "here/a")])
            + &rule("connectionPool: {http: {http2MaxRequests: 1}}")
            + &routes(&format!(
                "  - retries: {{attempts: 0}}\n    route: {}",
                to_all()
            ))),
    )
    .await;
    let first = stage.call(&[]);
    let look = async {
        loop {
            // The first to be sent has the only place; whoever comes then is turned away.
            match timeout(Duration::from_millis(100), stage.call(&[])).await {
                Ok(Err(error)) if error.is_overloaded() => return,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
    };
    tokio::select! {
        found = first => assert!(found.expect_err("a limit").is_overloaded()),
        found = timeout(PATIENCE, look) => found.expect("one is turned away"),
    }
    stage.end().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_is_ejected() {
    let (bad, good) = (
        backend(|_| async { answer(500) }).await,
        named("good").await,
    );
    let stage = Stage::set(
        &(entry(HOST, &[(bad, "v1", "here/a"), (good, "v1", "here/a")])
            + &rule(
                "outlierDetection: {consecutive5xxErrors: 3, interval: 0.1s, baseEjectionTime: 300s, \
                 maxEjectionPercent: 50}",
            )
            + &routes(&format!("  - retries: {{attempts: 0}}\n    route: {}", to_all()))),
    )
    .await;
    let mut failed = 0;
    for _ in 0..200 {
        let (status, _) = stage.call(&[]).await.expect("an answer");
        failed += usize::from(status != StatusCode::OK);
    }
    assert_eq!(failed, 3, "the fourth goes elsewhere");
    stage.end().await;
}

#[tokio::test]
async fn a_key_stays_with_its_endpoint() {
    let mut endpoints = Vec::new();
    for name in ["a", "b", "c", "d"] {
        endpoints.push((named(name).await, "v1", "here/a"));
    }
    let stage = Stage::set(
        &(entry(HOST, &endpoints)
            + &rule("loadBalancer: {consistentHash: {httpHeaderName: x-user}}")),
    )
    .await;
    let mut all = BTreeMap::new();
    for user in 0..20 {
        let user = user.to_string();
        let tally = stage.tally(5, &[("x-user", &user)]).await;
        assert_eq!(tally.len(), 1, "{user}: {tally:?}");
        all.extend(tally);
    }
    assert!(all.len() > 1, "{all:?}");
    stage.end().await;
}

#[tokio::test]
async fn the_near_endpoint_is_used_until_it_fails() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let near = backend(move |_| {
        let failing = failing.load(SeqCst);
        async move { if failing { answer(503) } else { text("near") } }
    })
    .await;
    let far = named("far").await;
    let stage = Stage::set(
        &(entry(HOST, &[(near, "v1", "here/a"), (far, "v1", "there/b")])
            + &rule(
                "outlierDetection: {consecutive5xxErrors: 2, interval: 0.1s, baseEjectionTime: 300s, \
                 maxEjectionPercent: 100}",
            )
            + &routes(&format!("  - retries: {{attempts: 0}}\n    route: {}", to_all()))),
    )
    .await;
    assert_eq!(stage.tally(50, &[]).await["near"], 50);
    fails.store(true, SeqCst);
    let look = async { while !stage.call(&[]).await.is_ok_and(|(_, body)| body == "far") {} };
    timeout(PATIENCE, look).await.expect("it goes elsewhere");
    assert_eq!(stage.tally(20, &[]).await["far"], 20);
    stage.end().await;
}

#[tokio::test]
async fn a_good_edit_is_in_force_and_a_bad_one_changes_nothing() {
    let (one, two) = (named("v1").await, named("v2").await);
    let to_only = |subset: &str| {
        entry(HOST, &[(one, "v1", "here/a"), (two, "v2", "here/a")])
            + &rule("")
            + &routes(&format!("  - route: [{{{}}}]", to(subset)))
    };
    let stage = Stage::set(&to_only("v1")).await;
    stage.until("v1").await;
    stage.edit(&to_only("v2"));
    stage.until("v2").await;
    stage.edit(
        &to_only("v1")
            .replace("weight", "wight")
            .replace("route:", "rout:"),
    );
    let rejected = async {
        while stage.world.server.store().rejections() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, rejected).await.expect("it is seen");
    assert_eq!(stage.tally(20, &[]).await["v2"], 20);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_edit_moves_a_route_and_deletes_its_cluster_without_a_failed_call() {
    let (old, new) = (named("old").await, named("new").await);
    let before = entry(HOST, &[(old, "v1", "here/a")])
        + &rule("")
        + &routes(&format!("  - route: [{{{}}}]", to("v1")));
    let other = "stock.my-app.svc.cluster.local";
    let after = entry(HOST, &[(new, "v3", "here/a")])
        + &entry(other, &[(new, "v1", "here/a")])
        + &routes(&format!("  - route: [{{destination: {{host: {other}}}}}]"));
    for delta in [false, true] {
        let stage = Arc::new(Stage::set_with(&before, delta).await);
        stage.until("old").await;
        let stop = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (stage, stop) = (stage.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut calls = 0;
                    while !stop.load(SeqCst) {
                        stage.told(&[]).await;
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for text in [&after, &before, &after] {
            stage.edit(text);
            let wanted = if *text == after { "new" } else { "old" };
            stage.until(wanted).await;
        }
        stop.store(true, SeqCst);
        let mut calls = 0;
        for caller in callers {
            calls += caller.await.expect("no call has failed");
        }
        assert!(calls > 100, "{calls}");
        let stage = Arc::into_inner(stage).expect("the callers are gone");
        stage.end().await;
    }
}
