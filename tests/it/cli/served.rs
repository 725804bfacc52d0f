//! `meshwork echo --xds`: a control plane says whether it serves, and what.

use http_body_util::BodyExt as _;
use meshwork::Mesh;
use meshwork::control::{Content, Encoded, Kind, Server, Store};

use super::process::{Echo, PATIENCE, run};
use crate::xds::messages::{Made, chain, server_listener};

async fn get(address: std::net::SocketAddr) -> Option<String> {
    let mesh = Mesh::builder().start().await.unwrap();
    let request = http::Request::get(format!("http://{address}/items"));
    let request = request.body(meshwork::Body::empty()).unwrap();
    let response = mesh.client().request(request).await.ok()?;
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some(String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn an_echo_serves_when_its_control_plane_says_so_and_drains_on_sigterm() {
    let store = Store::new();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = socket.local_addr().unwrap();
    let server = Server::new(store.clone());
    tokio::spawn(async move { server.serve(socket, std::future::pending()).await });
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap.json");
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "{plane}", "channel_creds": [{{"type": "insecure"}}]}}],
            "node": {{"id": "echo-1"}}, "server_listener_resource_name_template": "server/%s"}}"#
    );
    std::fs::write(&bootstrap, text).unwrap();
    let echo = Echo::start(&["--name", "v1", "--xds", bootstrap.to_str().unwrap()]).await;
    assert_eq!(
        get(echo.address).await,
        None,
        "nobody has said that it serves"
    );
    let name = format!("server/{}", echo.address);
    let Made { any, .. } = server_listener(&name, echo.address, |message| {
        message.filter_chains = vec![chain(Vec::new(), None)];
    });
    let listener = Encoded::new(Kind::Listener, name, &any.value);
    store.publish(Content::default().with_resources([listener]));
    let serves = async {
        loop {
            if let Some(answer) = get(echo.address).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, serves).await.unwrap();
    assert!(answer.contains("\"name\":\"v1\""), "{answer}");
    #[cfg(unix)]
    {
        echo.terminate().await;
        let (status, said) = echo.end().await;
        assert!(status.success(), "{said}");
    }
}

#[tokio::test]
async fn an_echo_whose_bootstrap_is_wrong_says_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap.json");
    std::fs::write(&bootstrap, r#"{"xds_servers": []}"#).unwrap();
    let output = run(&[
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--xds",
        bootstrap.to_str().unwrap(),
    ])
    .await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("at least one server is needed"), "{said}");
}
