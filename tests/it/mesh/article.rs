//! The documents of the article, unchanged but for the ports of the backends, on real sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use http::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::{Mesh, Random, Workload};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::world::{Break, answer, call, get, text};

/// A version of the catalog, which can be told to misbehave.
#[derive(Clone, Default)]
struct Catalog {
    fails: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Catalog {
    async fn start(&self, version: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let catalog = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let catalog = catalog.clone();
                let service = hyper::service::service_fn(move |_| {
                    let catalog = catalog.clone();
                    async move {
                        catalog.requests.fetch_add(1, Ordering::Relaxed);
                        if catalog.hangs.load(Ordering::Relaxed) {
                            std::future::pending::<()>().await;
                        }
                        let fails = catalog.fails.load(Ordering::Relaxed);
                        Ok::<_, Break>(if fails { answer(503) } else { text(version) })
                    }
                });
                tokio::spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        port
    }
}

/// A mesh from one of the article's folders, and its three backends: v1, v1, v2.
async fn article(folder: &str) -> (Mesh, [Catalog; 3], TempDir) {
    let catalogs: [Catalog; 3] = std::array::from_fn(|_| Catalog::default());
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/article")
        .join(folder);
    let mut endpoints = std::fs::read_to_string(source.join("catalog.yaml")).unwrap();
    for ((catalog, version), fixed) in catalogs
        .iter()
        .zip(["v1", "v1", "v2"])
        .zip(["18081", "18082", "18083"])
    {
        let port = catalog.start(version).await;
        endpoints = endpoints.replace(fixed, &port.to_string());
    }
    let copy = TempDir::new().unwrap();
    std::fs::write(copy.path().join("catalog.yaml"), endpoints).unwrap();
    let routing = source.join("routing.yaml");
    std::fs::copy(routing, copy.path().join("routing.yaml")).unwrap();
    let mesh = Mesh::builder()
        .yaml(copy.path())
        .workload(Workload::new("my-app", "order-sa"))
        .random(Random::seeded(7))
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    (mesh, catalogs, copy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_split_90_10_and_the_header_always_goes_to_v2() {
    let (mesh, _catalogs, _folder) = article("canary").await;
    let mut v2 = 0;
    for _ in 0..10_000 {
        let (status, version) = call(&mesh, get("http://catalog/")).await.unwrap();
        assert_eq!(status, 200);
        v2 += i32::from(version == "v2");
    }
    // sigma = sqrt(10,000 x 0.1 x 0.9) = 30; one caller and a seed make the draws repeatable.
    assert!((v2 - 1_000).abs() <= 90, "{v2} of 10,000 went to v2");
    let mut wrong_case = 0;
    for (value, rounds) in [("true", 200), ("True", 200)] {
        for _ in 0..rounds {
            let mut request = get("http://catalog.my-app.svc.cluster.local/");
            let header = HeaderValue::from_static(value);
            request.headers_mut().insert("x-canary", header);
            let (_, version) = call(&mesh, request).await.unwrap();
            match value {
                "true" => assert_eq!(version, "v2"),
                _ => wrong_case += i32::from(version == "v2"),
            }
        }
    }
    assert!(
        wrong_case < 60,
        "the wrong case is split as any: {wrong_case} of 200"
    );
    assert_eq!(mesh.shutdown(Duration::from_secs(1)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_errors_in_a_row_eject_a_backend_of_the_article() {
    let (mesh, catalogs, _folder) = article("canary").await;
    catalogs[0].fails.store(true, Ordering::Relaxed);
    let mut failures = 0;
    for _ in 0..200 {
        let (status, _) = call(&mesh, get("http://catalog/")).await.unwrap();
        failures += i32::from(status == 503);
    }
    let stats = mesh.stats();
    let ejected = stats.clusters.iter().flat_map(|one| &one.endpoints);
    assert_eq!(ejected.filter(|one| one.ejected).count(), 1);
    // Istio's default retries do not cover 503: its callers have seen each of them.
    assert_eq!(failures, 3);
    assert_eq!(
        catalogs[0].requests.load(Ordering::Relaxed),
        3,
        "exactly the third"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_backend_of_the_article_is_cut_at_two_seconds_and_the_call_at_five() {
    let (mesh, catalogs, _folder) = article("resilience").await;
    for catalog in &catalogs {
        catalog.hangs.store(true, Ordering::Relaxed);
    }
    let start = Instant::now();
    let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_millis(5_900),
        "{took:?}"
    );
    assert_eq!(error.attempts(), 3);
    let text = error.to_string();
    assert!(
        text.starts_with("no response within the route's timeout of 5s (cluster "),
        "{text}"
    );
    let seen: Vec<_> = catalogs
        .iter()
        .map(|one| one.requests.load(Ordering::Relaxed))
        .collect();
    assert_eq!(seen.iter().sum::<usize>(), 3, "{seen:?}");
}
