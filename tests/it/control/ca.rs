//! The authority beside the xDS server, through its port: rows K1 to K4 and A2, and whole meshes whose
//! identities come from it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use meshwork::control::{Ca, JoinTokens, Kind, Server, Store};
use meshwork::inbound::Peer;
use meshwork::model::Resources;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{
    Alpn, ClientTls, Material, MutualTls, PeerPolicy, Security, Sni, Verification,
};
use meshwork::source::feed;
use meshwork::tls::{
    Authority, Bundle, Clock, Connector, Credentials, CsrSource, Identity, Offer, Trust,
};
use meshwork::{Body, Mesh};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::service_fn;

use super::world::{Sotw, endpoint, publish};
use crate::mesh::world::{cluster, endpoints, one};

const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const ORDER: &str = "spiffe://td/ns/my-app/sa/order";

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(int64, tag = "3")]
    seconds: i64,
    #[prost(message, optional, tag = "4")]
    metadata: Option<envoy_types::pb::google::protobuf::Struct>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answered {
    #[prost(string, repeated, tag = "1")]
    chain: Vec<String>,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A server with an authority, in a folder of its own.
struct Office {
    folder: TempDir,
    server: Server,
    address: SocketAddr,
    task: JoinHandle<std::io::Result<usize>>,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Office {
    async fn open(lifetime: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("authority.pem");
        let authority = Authority::create(&path, "td".parse().unwrap(), now()).unwrap();
        std::fs::write(folder.path().join("roots.pem"), authority.bundle_pem()).unwrap();
        let id = "spiffe://td/ns/mesh-system/sa/meshwork".parse().unwrap();
        let ca = Ca::new(path, authority, id)
            .with_names(["localhost"])
            .with_lifetime(lifetime)
            .with_join_tokens(JoinTokens::new(folder.path().join("tokens")));
        let store = Store::new();
        publish(&store, &[("a", "1")]);
        let server = Server::new(store).with_ca(ca).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server.clone();
        let task =
            tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self {
            folder,
            server,
            address,
            task,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn token(&self, identity: &str) -> String {
        let tokens = JoinTokens::new(self.folder.path().join("tokens"));
        tokens.make(identity, false).unwrap()
    }

    fn source(&self, id: &str) -> CsrSource {
        let name = id.strip_prefix("spiffe://td/ns/").unwrap();
        let token = self.token(&name.replace("/sa/", "/"));
        let roots = self.folder.path().join("roots.pem");
        CsrSource::new(self.address.to_string(), id.parse().unwrap(), roots)
            .with_server_name("localhost")
            .with_join_token(token)
    }

    async fn channel(&self, own: Option<Credentials>) -> Channel {
        let roots = std::fs::read(self.folder.path().join("roots.pem")).unwrap();
        let trust = Trust::default().with_roots(Bundle::from_pem(&roots).unwrap());
        let tls = ClientTls {
            identity: own.is_some().then_some(Material::Mesh),
            trust: Material::Mesh,
            verification: Verification::Name,
            names: Vec::new(),
            sni: Sni::Name("localhost".into()),
            alpn: Alpn::Http,
        };
        let trust = Credentials::new(None, trust);
        let connector = Arc::new(Connector::new(&tls, own, trust, Clock::system()));
        let address = self.address;
        let dial = service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = connector.connect(stream, "localhost", Offer::Http2).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        endpoint(address)
            .connect_with_connector(dial)
            .await
            .unwrap()
    }

    async fn ask(
        &self,
        own: Option<Credentials>,
        token: Option<&str>,
        asked: Asked,
    ) -> Result<Vec<String>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel(own).await);
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(asked);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let codec = tonic_prost::ProstCodec::<Asked, Answered>::default();
        let path = PathAndQuery::from_static(PATH);
        let answer = grpc.unary(request, path, codec).await?;
        Ok(answer.into_inner().chain)
    }

    /// What the operator sees at the admin port.
    async fn metrics(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.server.clone();
        let serving = tokio::spawn(async move { server.admin(listener).await });
        let mesh = Mesh::builder().start().await.unwrap();
        let uri = format!("http://{address}/stats/prometheus");
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = mesh.client().request(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        serving.abort();
        String::from_utf8(text.to_vec()).unwrap()
    }
}

fn csr(key: &KeyPair) -> String {
    let params = CertificateParams::default();
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn asked(key: &KeyPair, seconds: i64) -> Asked {
    Asked {
        csr: csr(key),
        seconds,
        metadata: None,
    }
}

fn identity(chain: &[String], key: &KeyPair) -> Identity {
    Identity::from_pem(chain[0].as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn k1_k3_a_join_token_is_one_certificate_and_the_certificate_is_the_next_proof() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    let token = office.token("my-app/order");
    let key = KeyPair::generate().unwrap();
    let chain = office
        .ask(None, Some(&token), asked(&key, 0))
        .await
        .unwrap();
    assert_eq!(chain.len(), 2);
    let own = identity(&chain, &key);
    assert_eq!(own.id().unwrap().as_str(), ORDER);
    let replay = office
        .ask(None, Some(&token), asked(&key, 0))
        .await
        .unwrap_err();
    assert_eq!(replay.code(), Code::Unauthenticated);
    let domain = "td".parse().unwrap();
    let trust =
        Trust::default().with_domain(domain, Bundle::from_pem(chain[1].as_bytes()).unwrap());
    let shown = Credentials::new(Some(own), trust);
    let next = KeyPair::generate().unwrap();
    let chain = office
        .ask(Some(shown.clone()), None, asked(&next, 0))
        .await
        .unwrap();
    assert_eq!(identity(&chain, &next).id().unwrap().as_str(), ORDER);
    // A wrong token is not made good by a certificate.
    let both = office
        .ask(Some(shown.clone()), Some(&token), asked(&next, 0))
        .await;
    assert_eq!(both.unwrap_err().code(), Code::Unauthenticated);
    let mut other = asked(&next, 0);
    let mut metadata = envoy_types::pb::google::protobuf::Struct::default();
    metadata
        .fields
        .insert("ImpersonatedIdentity".into(), Default::default());
    other.metadata = Some(metadata);
    let impersonating = office.ask(Some(shown), None, other).await.unwrap_err();
    assert_eq!(impersonating.code(), Code::PermissionDenied);
    let metrics = office.metrics().await;
    for line in [
        "meshwork_control_ca_issued_total{by=\"join_token\"} 1",
        "meshwork_control_ca_issued_total{by=\"identity\"} 1",
        "meshwork_control_ca_refused_total{reason=\"unauthenticated\"} 2",
        "meshwork_control_ca_refused_total{reason=\"impersonation\"} 1",
        "meshwork_control_ca_roots 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn k3_who_proves_nothing_learns_nothing() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    let key = KeyPair::generate().unwrap();
    let mut texts = Vec::new();
    for token in [
        None,
        Some("nobody-knows-this-token"),
        Some("a.b.c"),
        Some("short"),
    ] {
        let refused = office.ask(None, token, asked(&key, 0)).await.unwrap_err();
        texts.push((refused.code(), refused.message().to_owned()));
    }
    let same = (
        Code::Unauthenticated,
        "the caller is not authenticated".to_owned(),
    );
    assert_eq!(texts, vec![same; 4]);
}

#[tokio::test]
async fn k2_a_lifetime_is_what_was_asked_for_within_what_is_allowed() {
    let most = 3_600;
    let office = Office::open(Duration::from_secs(most)).await;
    for (seconds, expected) in [
        (0, most),
        (-5, most),
        (60, 60),
        (10 * 365 * 86_400, most),
        (i64::MIN, most),
    ] {
        let token = office.token("my-app/order");
        let key = KeyPair::generate().unwrap();
        let before = now();
        let chain = office
            .ask(None, Some(&token), asked(&key, seconds))
            .await
            .unwrap();
        let own = identity(&chain, &key);
        let lives = own.not_after().saturating_sub(before).as_secs();
        assert!(
            (expected - 2..=expected + 1).contains(&lives),
            "{seconds}: {lives}"
        );
    }
}

#[tokio::test]
async fn k1_what_is_no_request_is_told_so_and_too_large_ones_are_not_read() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    for (text, code, expected) in [
        (String::new(), Code::InvalidArgument, "CERTIFICATE REQUEST"),
        ("x".repeat(20 << 10), Code::InvalidArgument, "at most 16384"),
        ("x".repeat(1 << 20), Code::OutOfRange, "limit"),
    ] {
        let token = office.token("my-app/order");
        let asked = Asked {
            csr: text,
            ..Asked::default()
        };
        let refused = office.ask(None, Some(&token), asked).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    let channel = office.channel(None).await;
    let asking = (0..300).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<Asked, Answered>::default();
            let path = PathAndQuery::from_static(PATH);
            let refused = grpc.unary(tonic::Request::new(Asked::default()), path, codec);
            refused.await.unwrap_err().code()
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut limited = 0;
    for asked in asking {
        match asked.await.unwrap() {
            Code::ResourceExhausted => limited += 1,
            code => assert_eq!(code, Code::Unauthenticated),
        }
    }
    assert!((1..=250).contains(&limited), "{limited} of 300");
}

#[tokio::test]
async fn k4_who_has_no_certificate_gets_no_configuration() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    let mut ads = AggregatedDiscoveryServiceClient::new(office.channel(None).await);
    let refused = ads
        .stream_aggregated_resources(tokio_stream::pending())
        .await;
    let refused = refused.expect_err("it is nobody");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut health = tonic_health::pb::health_client::HealthClient::new(office.channel(None).await);
    let asked = tonic_health::pb::HealthCheckRequest::default();
    assert_eq!(health.check(asked).await.unwrap().into_inner().status, 1);

    let token = office.token("my-app/order");
    let key = KeyPair::generate().unwrap();
    let chain = office
        .ask(None, Some(&token), self::asked(&key, 0))
        .await
        .unwrap();
    let own = Credentials::new(Some(identity(&chain, &key)), Trust::default());
    let mut stream = Sotw::open(office.channel(Some(own)).await).await;
    stream.ask(Kind::Cluster, &[]).await;
    assert_eq!(stream.takes().await, ["1"]);
    let clients = office.server.clients();
    assert_eq!(clients[0].node.workload().namespace(), "my-app");
}

fn mesh_tls() -> ClientTls {
    crate::tls::handshakes::mesh_tls()
}

/// A server in mode STRICT that answers with the caller and the certificate that it showed, and a client of
/// it; both have their identities from the office.
struct Pair {
    server: Mesh,
    client: Mesh,
}

async fn pair(office: &Office) -> Pair {
    let policy = Resources {
        peers: PeerPolicy {
            mode: MutualTls::Strict,
            ..PeerPolicy::default()
        },
        ..Resources::default()
    };
    let (_publisher, source) = feed(policy);
    let own = office.source("spiffe://td/ns/my-app/sa/catalog");
    let server = Mesh::builder()
        .feed(source)
        .identity(own)
        .start()
        .await
        .unwrap();
    let listener = server.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    tokio::spawn(
        listener.serve(service_fn(|request: Request<Body>| async move {
            let peer = request
                .extensions()
                .get::<Peer>()
                .cloned()
                .unwrap_or_default();
            let principal = peer.principal.map(|id| id.to_string()).unwrap_or_default();
            let serial = peer.certificate.map(|names| names.serial.to_string());
            let text = format!("{principal} {}", serial.unwrap_or_default());
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(text)))
        })),
    );
    let mut model = cluster("c", Protocol::Http2);
    model.security = Security::Tls(Arc::new(mesh_tls()));
    let mut resources = one(model, &[1], |_| {});
    let mut members = endpoints("c", &[1]);
    members.localities[0].endpoints[0].address = address.into();
    resources.insert_endpoints(members);
    let (_publisher, source) = feed(resources);
    let own = office.source(ORDER);
    let client = Mesh::builder()
        .feed(source)
        .identity(own)
        .start()
        .await
        .unwrap();
    for mesh in [&server, &client] {
        let own = mesh.credentials().unwrap();
        while own.identity().is_none() {
            own.changed(own.generation()).await;
        }
    }
    Pair { server, client }
}

async fn call(mesh: &Mesh) -> Result<String, meshwork::Error> {
    let request = Request::get("http://catalog/").body(Body::empty()).unwrap();
    let response = mesh.client().request(request).await?;
    let text = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn meshes_have_their_identities_from_the_authority_and_are_somebody_to_each_other() {
    let office = Office::open(Duration::from_secs(3_600)).await;
    let pair = pair(&office).await;
    let own = pair.client.credentials().unwrap();
    let expected = format!("{ORDER} {}", own.identity().unwrap().serial());
    assert_eq!(call(&pair.client).await.unwrap(), expected);
    assert_eq!(own.counts().renewal_failures, 0);
}

/// A step of a root's replacement, and what both sides must have taken before the next one.
async fn step(office: &Office, pair: &Pair, step: impl FnOnce(&Authority) -> Authority) {
    let next = step(&Authority::load(&office.path()).unwrap());
    next.save(&office.path()).unwrap();
    for mesh in [&pair.server, &pair.client] {
        let own = mesh.credentials().unwrap();
        let domain = "td".parse().unwrap();
        // Roots come with a certificate of the one that signs by then.
        while own.trusted().domain(&domain) != Some(next.bundle()) {
            own.changed(own.generation()).await;
        }
    }
}

#[tokio::test]
async fn a2_the_root_of_the_authority_is_replaced_in_three_steps_and_no_request_is_lost() {
    let office = Office::open(Duration::from_secs(4)).await;
    let pair = pair(&office).await;
    let (stop, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (mesh, stop, served) = (pair.client.clone(), stop.clone(), served.clone());
        callers.push(tokio::spawn(async move {
            let mut serials = std::collections::BTreeSet::new();
            while !stop.load(Relaxed) {
                let text = call(&mesh).await.expect("no request fails");
                assert!(text.starts_with(ORDER), "{text}");
                serials.insert(text);
                served.fetch_add(1, Relaxed);
            }
            serials.len()
        }));
    }
    let first = Authority::load(&office.path()).unwrap();
    step(&office, &pair, |authority| authority.begin(now()).unwrap()).await;
    step(&office, &pair, |authority| authority.switch().unwrap()).await;
    step(&office, &pair, |authority| authority.finish().unwrap()).await;
    let last = Authority::load(&office.path()).unwrap();
    assert_ne!(first.bundle(), last.bundle());
    stop.store(true, Relaxed);
    let mut shown = 0;
    for caller in callers {
        shown = shown.max(caller.await.unwrap());
    }
    assert!(
        served.load(Relaxed) > 100 && shown >= 3,
        "{shown} certificates were shown"
    );
    for mesh in [&pair.server, &pair.client] {
        let counts = mesh.credentials().unwrap().counts();
        // A dial that is given up for a newer one is a handshake that failed; nobody was disbelieved.
        assert_eq!((counts.cut, counts.disbelieved), (0, 0), "{counts:?}");
    }
    // What the first root signed is nobody any more.
    let key = KeyPair::generate().unwrap();
    let request = meshwork::tls::CertificateRequest::from_pem(&csr(&key)).unwrap();
    let late = first.sign(
        &request,
        &ORDER.parse().unwrap(),
        Duration::from_secs(60),
        now(),
    );
    let late = identity(&[late.unwrap().certificate], &key);
    let acceptor =
        meshwork::tls::Acceptor::new(pair.server.credentials().unwrap(), Clock::system());
    let trust = Trust::default().with_domain("td".parse().unwrap(), last.bundle().clone());
    let late = Credentials::new(Some(late), trust);
    let connector = Connector::new(&mesh_tls(), Some(late.clone()), late, Clock::system());
    let (served, _) = crate::tls::handshakes::handshake(&acceptor, &connector).await;
    assert_eq!(
        crate::tls::handshakes::refused(&served),
        Some(meshwork::tls::Refusal::UnknownIssuer)
    );
}
