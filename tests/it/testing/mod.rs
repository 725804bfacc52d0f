//! `meshwork::testing`, as a service's test uses it.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use meshwork::testing::{Backend, World};
use meshwork::{Body, CallReport, Mesh, Workload};
use tempfile::TempDir;
use tokio::time::Instant;

/// A split between two versions, with one retry of what did not answer.
fn folder(v1: u32, v2: u32) -> TempDir {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: catalog, namespace: my-app}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec:
  host: catalog
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [catalog]
  http:
  - route:
    - {{destination: {{host: catalog, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: catalog, subset: v2}}, weight: {v2}}}
    timeout: 2s
    retries: {{attempts: 1, retryOn: reset}}
"
    );
    std::fs::write(folder.path().join("mesh.yaml"), text).unwrap();
    folder
}

fn order() -> Workload {
    Workload::new("my-app", "order-sa")
}

async fn call(mesh: &Mesh) -> Result<(StatusCode, String), meshwork::Error> {
    let request = Request::get("http://catalog/items").body(Body::empty());
    let response = mesh.client().request(request.unwrap()).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_backend_does_what_it_is_told_and_recovers() {
    let world = World::seeded(1);
    let catalog = world.backend("catalog");
    let folder = folder(1, 1);
    let mesh = world.mesh(folder.path(), order()).await.unwrap();
    catalog.body("fine");
    let began = Instant::now();
    for (tell, flag) in [
        (Backend::hang as fn(&Backend), "UT"),
        (Backend::reset, "UC"),
        (Backend::down, "UF"),
    ] {
        let begun = Instant::now();
        tell(&catalog);
        let error = call(&mesh).await.unwrap_err();
        assert_eq!(error.flag().unwrap().code(), flag, "{error}");
        assert!(begun.elapsed() <= Duration::from_secs(2), "{error}");
        catalog.recover();
        assert_eq!(call(&mesh).await.unwrap().1, "fine");
    }
    assert!(began.elapsed() < Duration::from_secs(7));
    catalog.fail_next(2, StatusCode::BAD_GATEWAY);
    catalog.delay(Duration::from_millis(300));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        statuses.push(call(&mesh).await.unwrap().0.as_u16());
        assert_eq!(begun.elapsed().as_millis(), 300);
    }
    assert_eq!(statuses, [502, 502, 200]);
    catalog.status(StatusCode::NOT_FOUND);
    assert_eq!(call(&mesh).await.unwrap().0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_backend_counts_and_shows_what_has_arrived() {
    let world = World::seeded(1);
    let catalog = world.backend("catalog.my-app.svc.cluster.local");
    let folder = folder(1, 1);
    let mesh = world.mesh(folder.path(), order()).await.unwrap();
    let report = CallReport::default();
    let mut request = Request::get("http://catalog/items?page=2")
        .body(Body::empty())
        .unwrap();
    request.extensions_mut().insert(report.clone());
    mesh.client().request(request).await.unwrap();
    assert_eq!(catalog.requests(), 1);
    let seen = &catalog.seen()[0];
    assert_eq!(seen.uri().path_and_query().unwrap(), "/items?page=2");
    assert_eq!(seen.headers()["host"], "catalog");
    let attempt = &report.attempts()[0];
    assert_eq!(*attempt.endpoint, *catalog.address().to_string());
}

#[tokio::test(start_paused = true)]
async fn subsets_and_edits_decide_who_is_asked_and_a_seed_repeats_itself() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let world = World::seeded(9);
        let v1 = world.backend("catalog").subset("v1");
        let v2 = world.backend("catalog").subset("v2");
        v1.body("v1");
        v2.body("v2");
        let split = folder(50, 50);
        let mesh = world.mesh(split.path(), order()).await.unwrap();
        let mut run = Vec::new();
        for _ in 0..40 {
            run.push(call(&mesh).await.unwrap().1);
        }
        assert!(v1.requests() > 0 && v2.requests() > 0);
        runs.push(run);
        let before = v1.requests();
        let all = folder(0, 1);
        world.apply(all.path()).await.unwrap();
        assert_eq!(mesh.generation(), 2);
        for _ in 0..10 {
            assert_eq!(call(&mesh).await.unwrap().1, "v2");
        }
        assert_eq!(v1.requests(), before);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_may_be_a_service() {
    let world = World::seeded(1);
    let catalog = world.backend("catalog");
    let router = axum::Router::new().route("/items", axum::routing::get(async || "routed"));
    catalog.serve(router);
    let folder = folder(1, 1);
    let mesh = world.mesh(folder.path(), order()).await.unwrap();
    assert_eq!(call(&mesh).await.unwrap().1, "routed");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_the_folder_does_not_know_and_a_faulty_folder_are_told() {
    let world = World::seeded(1);
    let _ = world.backend("catlog");
    let good = folder(1, 1);
    let error = world.mesh(good.path(), order()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("catlog.my-app.svc.cluster.local"), "{text}");
    let bad = folder(0, 0);
    let error = world.mesh(bad.path(), order()).await.unwrap_err();
    assert!(error.to_string().contains("mesh.yaml"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_address_without_a_backend_is_reached() {
    let world = World::seeded(1);
    let folder = folder(1, 1);
    let mesh = world.mesh(folder.path(), order()).await.unwrap();
    let request = Request::get("http://192.0.2.1:9/").body(Body::empty());
    let error = mesh.client().request(request.unwrap()).await.unwrap_err();
    assert!(error.is_connect(), "{error}");
}
