//! From nothing to calls by identity, on the command line: an authority, a server that serves it, an echo in
//! mode STRICT and callers that have joined.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::process::{PATIENCE, meshwork, run};

/// A process that says where it listens.
async fn listening(args: &[&str]) -> (Child, SocketAddr) {
    let mut child = meshwork(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let first = first.expect("in time").expect("text").expect("a line");
    let address = first.strip_prefix("listening on ").expect(&first).parse();
    (child, address.expect(&first))
}

/// What a command prints.
async fn printed(args: &[&str]) -> String {
    let output = run(args).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim().to_owned()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
    std::fs::write(&path, text).expect("it can be written");
    path.display().to_string()
}

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: my-app}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: my-app}
spec:
  selector: {matchLabels: {app: catalog}}
  rules: [{from: [{source: {principals: [cluster.local/ns/my-app/sa/order]}}]}]
";

fn services(port: u16) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec:
  host: catalog.my-app.svc.cluster.local
  trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}
"
    )
}

#[tokio::test]
async fn an_authority_an_echo_and_callers_are_a_mesh_in_which_identity_decides() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (authority, tokens) = (at("authority.pem"), at("tokens"));
    printed(&["ca", "create", &authority]).await;
    let again = run(&["ca", "create", &authority]).await;
    assert!(!again.status.success(), "what is there is not replaced");
    let roots = write(
        folder.path(),
        "roots.pem",
        &printed(&["ca", "roots", &authority]).await,
    );
    let nothing = write(folder.path(), "served/empty.yaml", "");
    let (_server, address) = listening(&[
        "serve",
        "--config",
        &nothing,
        "--listen",
        "127.0.0.1:0",
        "--ca",
        &authority,
        "--ca-join-tokens",
        &tokens,
    ])
    .await;
    let ca = address.to_string();
    let join = async |who: &str| printed(&["ca", "token", &tokens, who]).await;

    let policies = write(folder.path(), "server/policies.yaml", POLICIES);
    let token = join("my-app/catalog").await;
    let (_echo, echo) = listening(&[
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "v1",
        "--config",
        &policies,
        "--workload",
        "my-app/catalog",
        "--label",
        "app=catalog",
        "--ca",
        &ca,
        "--ca-roots",
        &roots,
        "--ca-name",
        "localhost",
        "--ca-join-token",
        &token,
    ])
    .await;

    let mesh = write(folder.path(), "client/mesh.yaml", &services(echo.port()));
    let url = "http://catalog.my-app.svc.cluster.local/items";
    for (who, status) in [("my-app/order", "200"), ("my-app/other", "403")] {
        let token = join(who).await;
        let text = printed(&[
            "call",
            url,
            "--json",
            "--config",
            &mesh,
            "--workload",
            who,
            "--ca",
            &ca,
            "--ca-roots",
            &roots,
            "--ca-name",
            "localhost",
            "--ca-join-token",
            &token,
        ])
        .await;
        let result: Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(result["by_status"][status], 1, "{who}: {result}");
    }
    let used = std::fs::read_to_string(&tokens).expect("it is there");
    assert_eq!(used, "", "each token counts once");

    // A step of a replacement is refused until certificates of before are gone.
    printed(&["ca", "begin", &authority]).await;
    let early = run(&["ca", "switch", &authority]).await;
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(
        !early.status.success() && said.contains("would not be believed"),
        "{said}"
    );
    printed(&["ca", "switch", &authority, "--lifetime", "0s"]).await;
    let early = run(&["ca", "finish", &authority]).await;
    assert!(!early.status.success());
    printed(&["ca", "finish", &authority, "--lifetime", "0s"]).await;
    assert_ne!(
        printed(&["ca", "roots", &authority]).await,
        std::fs::read_to_string(&roots).expect("it is there").trim()
    );
}
