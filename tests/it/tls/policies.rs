//! What YAML says of callers, at a port of the mesh: who they are is proven by their certificates, over
//! real sockets, in HTTP/1.1, HTTP/2 and gRPC.

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
    _folder: TempDir,
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
        _folder: folder,
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

#[cfg(feature = "jwt")]
mod tokens {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

    use super::*;

    /// Whoever signs tokens, with a key that JSON web keys call `OKP`.
    struct Issuer(KeyPair);

    impl Issuer {
        fn new() -> Self {
            Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
        }

        fn set(&self) -> String {
            let x = URL_SAFE_NO_PAD.encode(self.0.der_bytes());
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","x":"{x}"}}]}}"#)
        }

        fn token(&self, subject: &str) -> String {
            let expires = clock().now().as_secs() + 600;
            let payload = format!(
                r#"{{"iss":"https://me","aud":"catalog","sub":"{subject}","exp":{expires}}}"#
            );
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"one"}"#);
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
            let signature = self.0.sign(signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn yaml(keys: &str) -> String {
        format!(
            "{STRICT}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: my-app}}
spec:
  jwtRules:
  - issuer: https://me
    audiences: [catalog]
    {keys}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: bearers, namespace: my-app}}
spec:
  rules:
  - from: [{{source: {{requestPrincipals: [https://me/alice]}}}}]
"
        )
    }

    async fn a_good_token_is_let_in_and_no_other(
        domain: &mut Domain,
        server: &Server,
        issuer: &Issuer,
    ) {
        let http = client(
            domain.credentials(ORDER),
            server.http,
            Protocol::Http2,
            true,
        )
        .await;
        let grpc = client(
            domain.credentials(ORDER),
            server.grpc,
            Protocol::Http2,
            true,
        )
        .await;
        let bearing = |token: &str| {
            let value = format!("Bearer {token}");
            (
                Request::get("http://catalog/").header("authorization", &value),
                value,
            )
        };
        let stranger = Issuer::new();
        for (row, token, http_status, grpc_code) in [
            ("good", issuer.token("alice"), 200, None),
            (
                "another subject",
                issuer.token("bob"),
                403,
                Some(Code::PermissionDenied),
            ),
            (
                "another key",
                stranger.token("alice"),
                401,
                Some(Code::Unauthenticated),
            ),
        ] {
            let (request, value) = bearing(&token);
            assert_eq!(ask(&http, request).await.0.as_u16(), http_status, "{row}");
            let code = check(&grpc, &[("authorization", value)]).await;
            assert_eq!(code.err().map(|(code, _)| code), grpc_code, "{row}");
        }
        assert_eq!(
            ask(&http, Request::get("http://catalog/")).await.0.as_u16(),
            403
        );
    }

    #[tokio::test]
    async fn a_good_token_opens_the_door_and_a_bad_one_is_401() {
        let mut domain = Domain::new();
        let issuer = Issuer::new();
        let yaml = yaml(&format!("jwks: '{}'", issuer.set()));
        let server = server(&mut domain, &yaml).await;
        a_good_token_is_let_in_and_no_other(&mut domain, &server, &issuer).await;
    }

    #[tokio::test]
    async fn c25_keys_are_fetched_and_this_machine_is_not_asked_unless_it_is_let_in() {
        let issuer = Issuer::new();
        let keys = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/keys", keys.local_addr().unwrap());
        let (set, asked) = (
            issuer.set(),
            Arc::new(std::sync::atomic::AtomicUsize::new(0)),
        );
        let count = asked.clone();
        let app: axum::Router = axum::Router::new().route(
            "/keys",
            axum::routing::get(move || {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::future::ready(set.clone())
            }),
        );
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = keys.accept().await {
                let app = hyper_util::service::TowerToHyperService::new(app.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(io, app).await;
                });
            }
        });
        for let_in in [false, true] {
            let mut domain = Domain::new();
            let folder = TempDir::new().unwrap();
            let text = yaml(&format!("jwksUri: {uri}"));
            std::fs::write(folder.path().join("mesh.yaml"), text).unwrap();
            let own = domain.credentials("spiffe://cluster.local/ns/my-app/sa/catalog");
            let workload = Workload::new("my-app", "catalog").label("app", "catalog");
            let mut builder = Mesh::builder().yaml(folder.path()).workload(workload);
            if let_in {
                builder = builder.token_keys_in("127.0.0.0/8".parse().unwrap());
            }
            let mesh = builder.identity(own).clock(clock()).start().await.unwrap();
            let listener = mesh.listen("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr();
            let handler = service_fn(async |_: Request<Body>| {
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            });
            tokio::spawn(listener.serve(mesh.inbound_layer().layer(handler)));
            let caller = client(domain.credentials(ORDER), address, Protocol::Http1, true).await;
            for _ in 0..3 {
                let value = format!("Bearer {}", issuer.token("alice"));
                let request = Request::get("http://catalog/").header("authorization", value);
                let (status, text) = ask(&caller, request).await;
                match let_in {
                    true => assert_eq!(status, StatusCode::OK, "{text}"),
                    false => {
                        let words = "Jwks remote fetch is failed".to_owned();
                        assert_eq!((status, text), (StatusCode::UNAUTHORIZED, words));
                    }
                }
            }
            let fetched = asked.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(fetched, usize::from(let_in), "one set serves all");
        }
    }
}

#[cfg(feature = "xds")]
mod external {
    use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
        Authorization, AuthorizationServer,
    };
    use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
    use envoy_types::pb::google::rpc::Status as RpcStatus;

    use super::*;

    /// Lets in who is `order`, by what the mesh says of the caller.
    #[derive(Clone, Default)]
    struct Decider(Arc<std::sync::Mutex<Vec<String>>>);

    #[tonic::async_trait]
    impl Authorization for Decider {
        async fn check(
            &self,
            request: tonic::Request<CheckRequest>,
        ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
            let attributes = request.into_inner().attributes.unwrap_or_default();
            let principal = attributes.source.map(|source| source.principal);
            let principal = principal.unwrap_or_default();
            let code = if principal == ORDER { 0 } else { 7 };
            self.0.lock().unwrap().push(principal);
            let status = RpcStatus {
                code,
                ..RpcStatus::default()
            };
            Ok(tonic::Response::new(CheckResponse {
                status: Some(status),
                ..CheckResponse::default()
            }))
        }
    }

    #[tokio::test]
    async fn an_authorizer_over_grpc_is_told_who_calls_and_decides() {
        let decider = Decider::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = tonic::service::Routes::new(AuthorizationServer::new(decider.clone()));
        let routes = routes.prepare();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(async move {
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let http = hyper::server::conn::http2::Builder::new(executor);
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        let yaml = format!(
            "{STRICT}
---
mesh:
  extensionProviders:
  - name: decider
    envoyExtAuthzGrpc: {{service: decider.my-app.svc.cluster.local, port: 9000}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: decider, namespace: my-app}}
spec:
  hosts: [decider.my-app.svc.cluster.local]
  ports: [{{number: 9000, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {port}}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: my-app}}
spec:
  action: CUSTOM
  provider: {{name: decider}}
  rules: [{{to: [{{operation: {{notPaths: [/open]}}}}]}}]
"
        );
        let mut domain = Domain::new();
        let server = server(&mut domain, &yaml).await;
        let order = client(
            domain.credentials(ORDER),
            server.http,
            Protocol::Http2,
            true,
        )
        .await;
        let other = client(
            domain.credentials(OTHER),
            server.http,
            Protocol::Http2,
            true,
        )
        .await;
        let items = || Request::get("http://catalog/items");
        assert_eq!(ask(&order, items()).await.0, StatusCode::OK);
        assert_eq!(ask(&other, items()).await.0, StatusCode::FORBIDDEN);
        let open = ask(&other, Request::get("http://catalog/open")).await;
        assert_eq!(open.0, StatusCode::OK, "nobody is asked about it");
        assert_eq!(*decider.0.lock().unwrap(), [ORDER, OTHER]);
        let grpc = client(
            domain.credentials(OTHER),
            server.grpc,
            Protocol::Http2,
            true,
        )
        .await;
        assert_eq!(
            check(&grpc, &[]).await.unwrap_err().0,
            Code::PermissionDenied
        );
        // Nobody is let in when the authorizer is away.
        serving.abort();
        let _ = serving.await;
        let closed = ask(&order, items()).await.0;
        assert_eq!(closed, StatusCode::FORBIDDEN);
    }
}
