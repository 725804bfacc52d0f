//! `meshwork serve` as a process.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::process::{PATIENCE, meshwork, run};

pub(super) const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: my-app}
spec: {ports: [{name: grpc, port: 80}]}
";

pub(super) async fn start(arguments: &[&str]) -> (Child, SocketAddr) {
    let (child, address, _) = start_with_admin(arguments).await;
    (child, address)
}

/// The second address is that of the admin endpoint, if the flags have one.
async fn start_with_admin(arguments: &[&str]) -> (Child, SocketAddr, Option<SocketAddr>) {
    let mut child = meshwork(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = timeout(PATIENCE, lines.next_line()).await.expect("in time");
    let first = first.expect("readable").expect("a line before it ends");
    let address = first.strip_prefix("listening on ").expect(&first);
    let address = address.parse().expect(address);
    if !arguments.contains(&"--admin") {
        return (child, address, None);
    }
    let second = timeout(PATIENCE, lines.next_line()).await.expect("in time");
    let second = second.expect("readable").expect("a second line");
    let admin = second
        .strip_prefix("admin endpoint at http://")
        .expect(&second);
    let admin = admin.parse().expect(admin);
    (child, address, Some(admin))
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn the_page_and_status_tell_of_a_server_without_clients() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("mesh.yaml"), SERVICE).expect("a file");
    let path = folder.path().to_str().expect("a path of text");
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let flags = [&["serve", "--config", path], &listen[..]].concat();
    let (_child, _, admin) = start_with_admin(&flags).await;
    let admin = admin.expect("an admin endpoint").to_string();
    let page = get(admin.parse().expect("an address"), "/").await;
    for part in [
        "200 OK",
        "text/html",
        "default-src 'none'",
        "<h1>",
        "nosniff",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let status = get(admin.parse().expect("an address"), "/status.json").await;
    let body = status.split_once("\r\n\r\n").expect("a body").1;
    let json: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(json["services"][0]["name"], "catalog.my-app");
    assert_eq!(
        (&json["serving"], &json["rejected"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let output = run(&["status", &admin]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"no client is connected\n");
    let output = run(&["certs", &admin]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("there is no certificate"));
}

#[tokio::test]
async fn a_node_is_dumped_with_all_that_it_was_sent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mesh = folder.path().join("mesh.yaml");
    std::fs::write(&mesh, SERVICE).expect("a file");
    let mesh = mesh.to_str().expect("a path of text");
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let (_child, address, admin) =
        start_with_admin(&[&["serve", "--config", mesh], &listen[..]].concat()).await;
    let admin = admin.expect("an admin endpoint").to_string();
    let bootstrap = folder.path().join("bootstrap.json");
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "{address}", "channel_creds": [{{"type": "insecure"}}]}}],
            "node": {{"id": "a node & more"}}}}"#
    );
    std::fs::write(&bootstrap, text).expect("a file");
    let bootstrap = bootstrap.to_str().expect("a path of text");
    let url = "http://catalog.my-app/";
    let _call = meshwork(&[
        "call",
        "--xds",
        bootstrap,
        "--duration",
        "1h",
        "--rate",
        "10",
        url,
    ])
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .expect("it starts");
    let dump = async {
        loop {
            let output = run(&["dump", &admin, "--node", "a node & more", "-o", "json"]).await;
            let dump: serde_json::Value =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            let resources = dump["streams"][0]["resources"].as_array();
            if resources.is_some_and(|all| all.iter().any(|one| one["client_status"] == "ACKED")) {
                return dump;
            }
        }
    };
    let dump = timeout(PATIENCE, dump).await.expect("in time");
    assert_eq!(dump["streams"][0]["node"], "a node & more");
    let output = run(&["dump", &admin]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("say which node") && said.contains("dump --node"),
        "{said}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_is_served_admin_answers_and_sigterm_drains() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("mesh.yaml"), SERVICE).expect("a file");
    let path = folder.path().to_str().expect("a path of text");
    let flags = [
        "serve",
        "--config",
        path,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let (mut child, address, admin) = start_with_admin(&flags).await;
    let admin = admin.expect("an admin endpoint");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = endpoint
        .expect("a URL")
        .connect()
        .await
        .expect("it listens");
    let health = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    assert_eq!(health.expect("an answer").into_inner().status, 1);
    let ready = get(admin, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let stats = get(admin, "/stats/prometheus").await;
    assert!(stats.contains("meshwork_control_generation 1\n"), "{stats}");
    let id = child.id().expect("it runs").to_string();
    let kill = Command::new("sh")
        .args(["-c", "kill -TERM \"$0\"", &id])
        .status()
        .await;
    assert!(kill.expect("there is a shell").success());
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert!(status.expect("a status").success());
}

#[tokio::test]
async fn a_folder_with_faults_is_told_with_its_place_and_not_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("mesh.yaml"), "kind: Service\nspec: [").expect("a file");
    let path = folder.path().to_str().expect("a path of text");
    let output = run(&["serve", "--config", path, "--listen", "127.0.0.1:0"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("mesh.yaml:2"), "{said}");
    let output = run(&["serve", "--config", "no/such/folder"]).await;
    assert_eq!(output.status.code(), Some(1));
    let output = run(&["serve", "--config", path, "--envoy-listener", "nonsense"]).await;
    assert_eq!(output.status.code(), Some(2));
}
