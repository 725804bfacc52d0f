//! Tokens through the door, with keys that are written and keys that are fetched.

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
        let payload =
            format!(r#"{{"iss":"https://me","aud":"catalog","sub":"{subject}","exp":{expires}}}"#);
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
