//! `meshwork call` from outside, against `meshwork echo`.

mod flags;
mod policies;
mod stdin;

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Echo, run};

/// A folder with one of the article's VirtualServices and these backends behind it: v1, v1, v2.
pub(super) fn article(name: &str, backends: [SocketAddr; 3]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let article = format!("{}/examples/article/{name}", env!("CARGO_MANIFEST_DIR"));
    let read = |file| std::fs::read_to_string(format!("{article}/{file}")).expect("an example");
    let mut catalog = read("catalog.yaml");
    for (fixed, backend) in ["18081", "18082", "18083"].iter().zip(backends) {
        catalog = catalog.replace(fixed, &backend.port().to_string());
    }
    std::fs::write(folder.path().join("catalog.yaml"), catalog).expect("a file");
    std::fs::write(folder.path().join("routing.yaml"), read("routing.yaml")).expect("a file");
    folder
}

/// A folder with a service `one` in namespace `my-app`, these endpoints, and what else is given.
pub(super) fn service(port_name: &str, endpoints: &[SocketAddr], more: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: one, namespace: my-app}}\n\
         spec: {{ports: [{{name: {port_name}, port: 80}}]}}\n"
    );
    for (number, endpoint) in endpoints.iter().enumerate() {
        write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: one-{number}\n  namespace: my-app\n  labels: {{kubernetes.io/service-name: one}}\n\
             addressType: IPv4\nports: [{{name: {port_name}, port: {}}}]\n\
             endpoints: [{{addresses: [127.0.0.1]}}]\n",
            endpoint.port()
        )
        .expect("a string");
    }
    yaml.push_str(more);
    std::fs::write(folder.path().join("mesh.yaml"), yaml).expect("a file");
    folder
}

/// Calls as the article's order service; the result object.
pub(super) async fn call(folder: &TempDir, args: &[&str]) -> Value {
    let config = folder.path().to_str().expect("UTF-8");
    let who = [
        "call",
        "--json",
        "--workload",
        "my-app/order-sa",
        "--config",
        config,
    ];
    let output = run(&[&who[..], args].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

pub(super) async fn echo(flags: &[&str]) -> Echo {
    Echo::start(flags).await
}
