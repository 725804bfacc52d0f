//! Edits of YAML files on disk, with real sockets and in real time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::{Mesh, Workload};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::world::{Break, get, text};

/// Serves its port with `name`.
async fn backend(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service =
                    hyper::service::service_fn(move |_| async move { Ok::<_, Break>(text(name)) });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    port
}

/// Three backends, of which two serve in turn; HTTP/1.1 and HTTP/2 in turn.
fn yaml(generation: u64, ports: &[u16; 3]) -> String {
    let step = usize::try_from(generation).unwrap();
    let (one, other) = (ports[step % 3], ports[(step + 1) % 3]);
    let protocol = if (generation / 10).is_multiple_of(2) {
        "http"
    } else {
        "http2"
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: shop}}
spec:
  hosts: [catalog.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: {protocol}, protocol: {}}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{{protocol}: {one}}}}}
  - {{address: 127.0.0.1, ports: {{{protocol}: {other}}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: shop}}
spec:
  hosts: [catalog.test]
  http:
  - name: stamped
    headers: {{response: {{set: {{x-generation: \"{generation}\"}}}}}}
    route: [{{destination: {{host: catalog.test}}}}]
",
        protocol.to_uppercase()
    )
}

/// In one step, as editors and kubelets do, or in place, as shells do.
fn write(folder: &Path, generation: u64, text: &str) {
    let file = folder.join("catalog.yaml");
    if generation.is_multiple_of(2) {
        std::fs::write(&file, text).unwrap();
    } else {
        let aside = folder.join(".catalog.yaml.new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, file).unwrap();
    }
}

async fn stamp_of_a_call(mesh: &Mesh) -> u64 {
    let response = mesh.client().request(get("http://catalog.test/")).await;
    let response = response.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(response.status(), 200);
    let stamp = response.headers()["x-generation"].to_str().unwrap();
    let stamp = stamp.parse().unwrap();
    assert!(
        !response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    stamp
}

async fn keep_calling(mesh: Mesh, seen: Arc<watch::Sender<u64>>) -> u64 {
    let mut calls = 0;
    while !seen.is_closed() {
        let stamp = stamp_of_a_call(&mesh).await;
        seen.send_if_modified(|newest| {
            let newer = stamp > *newest;
            *newest = stamp.max(*newest);
            newer
        });
        calls += 1;
        // A load, not a benchmark: other tests want the processor too.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    calls
}

async fn start(folder: &TempDir) -> Mesh {
    Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("shop", "order"))
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_edits_of_files_under_load_fail_no_request_and_each_is_seen() {
    const EDITS: u64 = 200;
    let ports = [backend("a").await, backend("b").await, backend("c").await];
    let folder = TempDir::new().unwrap();
    write(folder.path(), 1, &yaml(1, &ports));
    let mesh = start(&folder).await;
    let (seen, mut newest) = watch::channel(0);
    let seen = Arc::new(seen);
    let callers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(keep_calling(mesh.clone(), seen.clone())))
        .collect();
    for generation in 1..=EDITS {
        let shown = newest.wait_for(|seen| *seen >= generation);
        let shown = *timeout(Duration::from_secs(10), shown)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(shown, generation);
        write(folder.path(), generation + 1, &yaml(generation + 1, &ports));
    }
    newest.wait_for(|seen| *seen > EDITS).await.unwrap();
    drop(newest);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls > EDITS * 2, "{calls} calls are no load");
    assert_eq!(mesh.shutdown(Duration::from_secs(1)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_edit_changes_nothing_and_the_next_good_one_is_in_force() {
    let ports = [backend("a").await, backend("b").await, backend("c").await];
    let folder = TempDir::new().unwrap();
    write(folder.path(), 1, &yaml(1, &ports));
    let mesh = start(&folder).await;
    assert_eq!(stamp_of_a_call(&mesh).await, 1);
    let bad = yaml(2, &ports).replace("route:", "rout:");
    write(folder.path(), 2, &bad);
    // In force at most a second after it is complete, if at all.
    assert!(
        timeout(Duration::from_secs(1), mesh.changed(1))
            .await
            .is_err()
    );
    assert_eq!(stamp_of_a_call(&mesh).await, 1);
    write(folder.path(), 3, &yaml(3, &ports));
    let generation = timeout(Duration::from_secs(5), mesh.changed(1)).await;
    assert_eq!(generation.unwrap(), 2);
    assert_eq!(stamp_of_a_call(&mesh).await, 3);
}

#[tokio::test]
async fn a_first_configuration_with_faults_says_all_of_them() {
    let folder = TempDir::new().unwrap();
    let bad = yaml(1, &[1, 2, 3])
        .replace("resolution: STATIC", "resolution: STATICC")
        .replace("- name: stamped", "- nam: stamped");
    write(folder.path(), 1, &bad);
    let error = Mesh::builder()
        .yaml(folder.path())
        .start()
        .await
        .unwrap_err();
    assert!(error.is_config());
    let text = error.to_string();
    for part in ["catalog.yaml", "STATICC", "nam"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}
