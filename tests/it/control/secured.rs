//! Mutual TLS on the server's port: a certificate says who asks.

use hyper_util::rt::TokioIo;
use meshwork::control::{Kind, Server, Store};
use meshwork::model::security::{Alpn, ClientTls, Material, Sni, Verification};
use meshwork::tls::{Clock, Connector, Credentials, Offer};
use rcgen::date_time_ymd;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::Channel;

use super::world::{Sotw, endpoint, publish};
use crate::tls::authority::{Authority, leaf, trust};

pub(crate) fn credentials(authority: &mut Authority, id: &str) -> Credentials {
    let mut params = leaf(id);
    params.not_after = date_time_ymd(2036, 1, 1);
    Credentials::new(Some(authority.sign(params).identity()), trust(authority))
}

pub(crate) async fn connect(
    address: std::net::SocketAddr,
    own: &Credentials,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTls {
        identity: Some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Svid,
        names: Vec::new(),
        sni: Sni::Name("control".into()),
        alpn: Alpn::Http,
    };
    // Who has no certificate shows none, and is refused by the server or not at all.
    let shown = own.identity().map(|_| own.clone());
    let connector = Connector::new(&tls, shown, own.clone(), Clock::system());
    let connector = std::sync::Arc::new(connector);
    let dial = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(stream, "127.0.0.1", Offer::Http2).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    endpoint(address).connect_with_connector(dial).await
}

#[tokio::test]
async fn k4_the_view_follows_the_certificate_and_a_contradiction_is_denied() {
    let mut authority = Authority::new("root");
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let own = credentials(&mut authority, "spiffe://td/ns/mesh/sa/control");
    let server = Server::new(store).with_mutual_tls(own);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });

    let client = credentials(&mut authority, "spiffe://td/ns/my-app/sa/order");
    let channel = connect(address, &client).await.expect("it is believed");
    let mut stream = Sotw::open(channel.clone()).await;
    stream.ask(Kind::Cluster, &[]).await;
    assert_eq!(stream.takes().await, ["1"]);
    let clients = server.clients();
    assert_eq!(clients[0].node.workload().namespace(), "my-app");
    assert_eq!(clients[0].node.workload().service_account(), "order");

    let mut other = Sotw::open(channel).await;
    other
        .ask_as(
            "sidecar~10.0.0.1~x.bank~bank.svc.cluster.local",
            Kind::Cluster,
            &[],
        )
        .await;
    let status = other.next().await.expect_err("denied");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");

    let mut foreign = Authority::new("another root");
    let stranger = credentials(&mut foreign, "spiffe://td/ns/my-app/sa/order");
    let own_trust = Credentials::new(stranger.identity(), trust(&authority));
    let refused = match connect(address, &own_trust).await {
        Err(_) => true,
        // In TLS 1.3 a client learns of a refusal with the first answer.
        Ok(channel) => {
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            health
                .check(tonic_health::pb::HealthCheckRequest::default())
                .await
                .is_err()
        }
    };
    assert!(refused, "a certificate of a foreign root");
    task.abort();
}

/// What others were sent is told to nobody but them, and to the operator.
#[tokio::test]
async fn k4_client_status_tells_a_caller_of_clients_with_its_own_identity() {
    let mut authority = Authority::new("root");
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let own = credentials(&mut authority, "spiffe://td/ns/mesh/sa/control");
    let server = Server::new(store).with_mutual_tls(own);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let mut streams = Vec::new();
    let mut told = Vec::new();
    for account in ["order", "cart"] {
        let identity = format!("spiffe://td/ns/shop/sa/{account}");
        let client = credentials(&mut authority, &identity);
        let channel = connect(address, &client).await.expect("it is believed");
        let mut stream = Sotw::open(channel.clone()).await;
        stream.ask_as(account, Kind::Cluster, &[]).await;
        assert_eq!(stream.takes().await, ["1"]);
        streams.push(stream);
        told.push((account, channel));
    }
    for (account, channel) in told {
        assert_eq!(clients_told(channel).await, [account]);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let admin = listener.local_addr().expect("it is bound");
    let operator = tokio::spawn(async move { server.admin(listener).await });
    let channel = endpoint(admin).connect().await.expect("it listens");
    assert_eq!(clients_told(channel).await, ["order", "cart"]);
    operator.abort();
    task.abort();
}

/// The node ids that client status tells of.
async fn clients_told(channel: Channel) -> Vec<String> {
    use csds::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
    use envoy_types::pb::envoy::service::status::v3 as csds;
    let mut client = ClientStatusDiscoveryServiceClient::new(channel);
    let answer = client
        .fetch_client_status(csds::ClientStatusRequest::default())
        .await;
    let told = answer.expect("an answer").into_inner().config;
    let node = |config: csds::ClientConfig| config.node.expect("a node").id;
    told.into_iter().map(node).collect()
}
