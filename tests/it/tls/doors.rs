//! The door where a port of the mesh is not the whole of it: the plain layer, gRPC, and want of an identity.

use std::sync::Arc;

use http::Request;
use meshwork::inbound::Peer;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{MutualTls, Security};
use meshwork::source::feed;
use meshwork::tls::Credentials;
use meshwork::{Body, Mesh};
use tower::service_fn;

use super::authority::{Authority, clock, credentials, trust};
use super::handshakes::mesh_tls;
use super::ports::{ask, client_of, peers, server, tls, whoami};
use crate::mesh::world::{cluster, endpoints, one};

#[tokio::test]
async fn strict_holds_for_the_plain_layer_too() {
    use tower::{Layer, ServiceExt};
    let mut policy = peers(MutualTls::Strict);
    policy.peers.ports.insert(8_081, MutualTls::Disable);
    let (publisher, source) = feed(policy);
    let mesh = Mesh::builder().feed(source).start().await.unwrap();
    let layer = mesh.inbound_layer();
    let status = |layer: meshwork::inbound::InboundLayer, peer: Option<Peer>, grpc: bool| async move {
        let mut request = Request::post("http://a/p.S/M").body(Body::empty()).unwrap();
        request.extensions_mut().extend({
            let mut extensions = http::Extensions::new();
            peer.map(|peer| extensions.insert(peer));
            extensions
        });
        if grpc {
            let value = "application/grpc".parse().unwrap();
            request.headers_mut().insert("content-type", value);
        }
        let response = layer
            .layer(service_fn(whoami))
            .oneshot(request)
            .await
            .unwrap();
        let code = response.headers().get("grpc-status");
        code.map_or(response.status().as_u16().to_string(), |code| {
            format!("grpc {}", code.to_str().unwrap())
        })
    };
    let at = |port: u16| Peer::plaintext(None, Some(([127, 0, 0, 1], port).into()));
    let mut encrypted = at(8_080);
    encrypted.tls = true;
    let mut mutual = encrypted.clone();
    mutual.principal = Some("spiffe://td/caller".parse().unwrap());
    for (row, layer, peer, expected) in [
        ("nobody knows the connection", layer.clone(), None, "403"),
        ("plaintext", layer.clone(), Some(at(8_080)), "403"),
        ("no certificate", layer.clone(), Some(encrypted), "403"),
        ("mutual", layer.clone(), Some(mutual), "200"),
        (
            "a port that is exempt",
            layer.clone(),
            Some(at(8_081)),
            "200",
        ),
        (
            "the same, by the program",
            layer.clone().on_port(8_081),
            None,
            "200",
        ),
        (
            "a port that is not",
            layer.clone().on_port(8_080),
            None,
            "403",
        ),
        (
            "a sidecar in front",
            layer.clone().trust_transport(),
            None,
            "200",
        ),
    ] {
        assert_eq!(status(layer, peer, false).await, expected, "{row}");
    }
    assert_eq!(status(layer.clone(), None, true).await, "grpc 7");
    assert_eq!(mesh.stats().inbound.denied, 5);
    publisher
        .publish(peers(MutualTls::Permissive))
        .await
        .unwrap();
    assert_eq!(status(layer, None, false).await, "200");
}

#[tokio::test]
async fn want_of_an_identity_of_ones_own_ejects_no_endpoint() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let servers = [
        server(own.clone(), MutualTls::Strict).await,
        server(own, MutualTls::Strict).await,
    ];
    let mut model = cluster("c", Protocol::Http2);
    model.security = tls();
    model.outlier = Some(Arc::new(meshwork::model::outlier::Outlier {
        consecutive_5xx: std::num::NonZeroU32::new(1),
        ..meshwork::model::outlier::Outlier::default()
    }));
    let mut resources = one(model, &[1, 2], |_| {});
    let mut members = endpoints("c", &[1, 2]);
    for (index, server) in servers.iter().enumerate() {
        members.localities[0].endpoints[index].address = server.address.into();
    }
    resources.insert_endpoints(members);
    let (_publisher, source) = feed(resources);
    let late = Credentials::new(None, trust(&root));
    let builder = Mesh::builder()
        .feed(source)
        .identity(late.clone())
        .clock(clock());
    let mesh = builder.start().await.unwrap();
    for _ in 0..4 {
        let error = ask(&mesh).await.unwrap_err();
        assert!(error.is_tls() && error.is_unprocessed(), "{error:?}");
    }
    assert_eq!(mesh.stats().clusters[0].ejections, 0);
    late.rotate(root.issue("spiffe://td/caller").identity());
    assert!(
        ask(&mesh)
            .await
            .unwrap()
            .1
            .starts_with("spiffe://td/caller ")
    );
    // The same failures count where the endpoint is the reason.
    servers[0].mesh.credentials().unwrap().withdraw();
    let mut tries = 0;
    while mesh.stats().clusters[0].ejections == 0 {
        let _ = ask(&mesh).await;
        tries += 1;
        assert!(tries < 100, "nobody is ejected");
    }
}

#[tokio::test]
async fn grpc_meets_every_kind_of_server() {
    use MutualTls::{Disable, Permissive, Strict};
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let auto = || Security::Automatic(Arc::new(mesh_tls()));
    for mode in [Disable, Permissive, Strict] {
        let (_publisher, source) = feed(peers(mode));
        let builder = Mesh::builder().feed(source).identity(own.clone());
        let mesh = builder.clock(clock()).start().await.unwrap();
        let listener = mesh.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr();
        let (_reporter, health) = tonic_health::server::health_reporter();
        let routes = tonic::service::Routes::new(health).prepare();
        tokio::spawn(listener.serve(routes));
        for (row, security, meshed) in [
            ("plaintext", Security::Plaintext, false),
            ("mutual", tls(), false),
            ("automatic, it speaks it", auto(), true),
            ("automatic, it does not", auto(), false),
        ] {
            let encrypted = matches!(security, Security::Tls(_)) || meshed;
            let made = client_of(
                caller.clone(),
                address,
                Protocol::Http2,
                security,
                meshed,
                |_| {},
            );
            let (mesh, _publisher) = made.await;
            let mut health = tonic_health::pb::health_client::HealthClient::new(
                mesh.channel("catalog").unwrap(),
            );
            let asked = tonic_health::pb::HealthCheckRequest::default();
            let answer = health.check(asked).await;
            let good = match mode {
                Disable => !encrypted,
                Permissive => true,
                Strict => encrypted,
            };
            match answer {
                Ok(answer) => assert!(good && answer.into_inner().status == 1, "{row}, {mode:?}"),
                Err(status) => assert!(
                    !good && status.code() == tonic::Code::Unavailable,
                    "{row}, {mode:?}: {status}"
                ),
            }
        }
    }
}
