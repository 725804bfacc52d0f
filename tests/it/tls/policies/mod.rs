//! What YAML says of callers, at a port of the mesh: who they are is proven by their certificates, over
//! real sockets, in HTTP/1.1, HTTP/2 and gRPC.

#[cfg(feature = "xds")]
mod external;
#[cfg(feature = "rate-limit")]
mod limits;
#[cfg(feature = "jwt")]
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use meshwork::inbound::Peer;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::Security;
use meshwork::source::feed;
use meshwork::tls::{Credentials, Trust};
use meshwork::{Body, Mesh, Workload};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, service_fn};

use super::authority::{Authority, clock};
use super::handshakes::mesh_tls;
use crate::mesh::world::{cluster, endpoints, one};

const ORDER: &str = "spiffe://cluster.local/ns/my-app/sa/order";
const OTHER: &str = "spiffe://cluster.local/ns/other/sa/default";

/// Identities of one trust domain.
struct Domain(Authority);

impl Domain {
    fn new() -> Self {
        Self(Authority::new("root"))
    }

    fn credentials(&mut self, id: &str) -> Credentials {
        let domain = "cluster.local".parse().unwrap();
        let trust = Trust::default().with_domain(domain, self.0.bundle());
        Credentials::new(Some(self.0.issue(id).identity()), trust)
    }
}

/// A server of the workload `catalog` in `my-app`, configured by YAML; its handlers say who called.
struct Server {
    mesh: Mesh,
    http: SocketAddr,
    grpc: SocketAddr,
    folder: TempDir,
}

async fn server(domain: &mut Domain, yaml: &str) -> Server {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("mesh.yaml"), yaml).unwrap();
    let own = domain.credentials("spiffe://cluster.local/ns/my-app/sa/catalog");
    let workload = Workload::new("my-app", "catalog").label("app", "catalog");
    let builder = Mesh::builder().yaml(folder.path()).workload(workload);
    let mesh = builder.identity(own).clock(clock()).start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let http = listener.local_addr();
    let handler = service_fn(|request: Request<Body>| async move {
        let peer = request
            .extensions()
            .get::<Peer>()
            .cloned()
            .unwrap_or_default();
        let caller = peer
            .principal
            .map_or("nobody".to_owned(), |id| id.to_string());
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(caller)))
    });
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(handler)));
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let grpc = listener.local_addr();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare();
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(routes)));
    Server {
        mesh,
        http,
        grpc,
        folder,
    }
}

/// A mesh whose host `catalog` is at this address.
async fn client(own: Credentials, address: SocketAddr, protocol: Protocol, tls: bool) -> Mesh {
    let mut model = cluster("c", protocol);
    if tls {
        model.security = Security::Tls(Arc::new(mesh_tls()));
    }
    let mut resources = one(model, &[1], |_| {});
    let mut members = endpoints("c", &[1]);
    members.localities[0].endpoints[0].address = address.into();
    resources.insert_endpoints(members);
    let (_publisher, source) = feed(resources);
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    builder.start().await.unwrap()
}

async fn ask(mesh: &Mesh, request: http::request::Builder) -> (StatusCode, String) {
    let request = request.body(Body::empty()).unwrap();
    let response = mesh.client().request(request).await.unwrap();
    let status = response.status();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

/// The status of a gRPC call.
async fn check(mesh: &Mesh, metadata: &[(&'static str, String)]) -> Result<i32, (Code, String)> {
    let mut health = HealthClient::new(mesh.channel("catalog").unwrap());
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    match health.check(request).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: my-app}
spec: {mtls: {mode: STRICT}}
";

const READERS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: my-app}
spec:
  selector: {matchLabels: {app: catalog}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/my-app/sa/order]}}]
    to: [{operation: {paths: [/items, /grpc.health.v1.Health/Check]}}]
";

#[tokio::test]
async fn who_calls_decides_in_every_protocol() {
    let mut domain = Domain::new();
    let server = server(&mut domain, &format!("{STRICT}---{READERS}")).await;
    let denied = (StatusCode::FORBIDDEN, "RBAC: access denied".to_owned());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let order = client(domain.credentials(ORDER), server.http, protocol, true).await;
        let other = client(domain.credentials(OTHER), server.http, protocol, true).await;
        let items = || Request::get("http://catalog/items");
        assert_eq!(
            ask(&order, items()).await,
            (StatusCode::OK, ORDER.to_owned())
        );
        assert_eq!(ask(&other, items()).await, denied);
        assert_eq!(
            ask(&order, Request::get("http://catalog/prices")).await,
            denied
        );
        // What a caller says of itself is no proof.
        let claims = items().header("x-forwarded-client-cert", format!("URI={ORDER}"));
        assert_eq!(ask(&other, claims).await, denied);
    }
    let order = client(
        domain.credentials(ORDER),
        server.grpc,
        Protocol::Http2,
        true,
    )
    .await;
    let other = client(
        domain.credentials(OTHER),
        server.grpc,
        Protocol::Http2,
        true,
    )
    .await;
    assert_eq!(check(&order, &[]).await, Ok(1));
    let status = (Code::PermissionDenied, "RBAC: access denied".to_owned());
    assert_eq!(check(&other, &[]).await, Err(status));
    assert_eq!(server.mesh.stats().inbound.denied, 7);
}

#[tokio::test]
async fn b3_a_plaintext_caller_is_no_principal_of_any_kind() {
    let policy = |rest: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: my-app}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
{rest}"
        )
    };
    let any = "  rules: [{from: [{source: {principals: ['*']}}]}]";
    let namespace = "  rules: [{from: [{source: {namespaces: ['*']}}]}]";
    let others = "  action: DENY
  rules: [{from: [{source: {notPrincipals: [cluster.local/ns/my-app/sa/order]}}]}]";
    let mut domain = Domain::new();
    for (row, rest) in [
        ("any", any),
        ("any namespace", namespace),
        ("DENY others", others),
    ] {
        let server = server(&mut domain, &policy(rest)).await;
        let own = domain.credentials(ORDER);
        let plain = client(own.clone(), server.http, Protocol::Http1, false).await;
        let mutual = client(own, server.http, Protocol::Http1, true).await;
        let items = || Request::get("http://catalog/items");
        assert_eq!(ask(&plain, items()).await.0, StatusCode::FORBIDDEN, "{row}");
        let let_in = (StatusCode::OK, ORDER.to_owned());
        assert_eq!(ask(&mutual, items()).await, let_in, "{row}");
    }
}

#[tokio::test]
async fn a_plaintext_caller_of_a_permissive_port_is_nobody_that_a_policy_allows() {
    let mut domain = Domain::new();
    let server = server(&mut domain, READERS).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let own = domain.credentials(ORDER);
        let plain = client(own.clone(), server.http, protocol, false).await;
        let mutual = client(own, server.http, protocol, true).await;
        let items = || Request::get("http://catalog/items");
        assert_eq!(ask(&plain, items()).await.0, StatusCode::FORBIDDEN);
        assert_eq!(
            ask(&mutual, items()).await,
            (StatusCode::OK, ORDER.to_owned())
        );
    }
    let plain = client(
        domain.credentials(ORDER),
        server.grpc,
        Protocol::Http2,
        false,
    )
    .await;
    let refused = check(&plain, &[]).await.unwrap_err();
    assert_eq!(refused.0, Code::PermissionDenied);
}
