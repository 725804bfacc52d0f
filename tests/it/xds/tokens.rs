//! What a control plane is shown of who asks: the tokens of a bootstrap's `call_creds` (gRFC A97).

use std::fs;
use std::path::Path;

use http::Request;
use hyper::body::Incoming;
use meshwork::model::endpoint::Address;
use meshwork::source::xds::Bootstrap;
use meshwork::transport::{Connect, Connecting, Settings};
use meshwork::{Mesh, Random};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::calls::get;
use super::plane::PORT;
use crate::mesh::world::{World, answer};

/// The control plane behind a socket of this machine, to which a token may go without TLS.
#[derive(Debug)]
struct Local(World);

impl Connect for Local {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        match address {
            Address::Unix(_) => {
                let plane = Address::Name {
                    host: "plane".into(),
                    port: PORT,
                };
                self.0.connect(&plane, settings)
            }
            other => self.0.connect(other, settings),
        }
    }
}

async fn mesh(world: &World, token: &Path) -> Mesh {
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "unix:///run/plane", "channel_creds": [{{"type": "insecure"}}],
            "call_creds": [{{"type": "of_tomorrow"}},
              {{"type": "jwt_token_file", "config": {{"jwt_token_file": "{}"}}}}]}}],
            "node": {{"id": "order-1", "metadata": {{"CLUSTER_ID": "east"}}}}}}"#,
        token.display()
    );
    Mesh::builder()
        .xds(Bootstrap::from_json(&text).unwrap())
        .connector(Local(world.clone()))
        .random(Random::seeded(7))
        .start()
        .await
        .unwrap()
}

/// A control plane that refuses every stream, and what each was shown.
fn plane(world: &World) -> mpsc::UnboundedReceiver<Vec<String>> {
    let (shown, seen) = mpsc::unbounded_channel();
    world.serve(PORT, move |request: Request<Incoming>| {
        let headers = request.headers();
        let all = headers.get_all("authorization").into_iter();
        let all = all.chain(headers.get_all("clusterid"));
        let all = all.map(|value| value.to_str().unwrap().to_owned());
        // The test may have seen enough.
        let _ = shown.send(all.collect());
        async { answer(503) }
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn istio_3_2_a_token_and_its_cluster_are_shown_and_read_anew_for_each_stream() {
    let world = World::default();
    let mut seen = plane(&world);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "one.two.three\n").unwrap();
    let mesh = mesh(&world, &token).await;
    let channel = mesh.channel("catalog:80").unwrap();
    let call = tokio::spawn(channel.clone().oneshot(get("/")));
    assert_eq!(seen.recv().await.unwrap(), ["Bearer one.two.three", "east"]);
    fs::write(&token, "four").unwrap();
    assert_eq!(seen.recv().await.unwrap(), ["Bearer four", "east"]);
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_read_is_told_and_nothing_is_sent_without_it() {
    let world = World::default();
    let mut seen = plane(&world);
    let folder = tempfile::tempdir().unwrap();
    for (row, content, expected) in [
        ("no file", None, "No such file"),
        ("no token", Some(" \n"), "holds no token"),
        ("no text", Some("a\nb"), "holds no token"),
    ] {
        let token = folder.path().join("token");
        if let Some(content) = content {
            fs::write(&token, content).unwrap();
        }
        let mesh = mesh(&world, &token).await;
        let channel = mesh.channel("catalog:80").unwrap();
        let error = channel.clone().oneshot(get("/")).await.unwrap();
        assert_eq!(error.status(), 503, "{row}");
        let dump = mesh.xds().unwrap();
        let trouble = dump.servers[0].trouble.clone().unwrap_or_default();
        assert!(trouble.contains(expected), "{row}: {trouble}");
        assert!(trouble.contains("token"), "{row}: {trouble}");
        assert!(seen.try_recv().is_err(), "{row}");
    }
}
