//! Who may call: policies through the front door, from YAML and from a feed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::inbound::{InboundBody, Peer};
use meshwork::model::Fraction;
use meshwork::model::authorization::{
    Action, Authorization, Condition, PathPattern, PeerPattern, Policy, Stage,
};
use meshwork::model::inbound::{AskBy, AskByHttp, Authorizer, OnError};
use meshwork::model::matcher::StringMatcher;
use meshwork::model::rate::{Bucket, CallersBucket, LocalLimit, Refusal};
use meshwork::model::{Inbound, Origin, Resources};
use meshwork::{Body, BoxError, Mesh, Workload};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt, service_fn};

use super::world::{Fed, Plan, World, all_to, answer, cluster, get, seconds, settle, text};
use meshwork::model::cluster::Protocol;

fn with(inbound: Inbound) -> Resources {
    Resources {
        inbound: Arc::new(inbound),
        ..Resources::default()
    }
}

fn stage(action: Action, condition: Condition) -> Inbound {
    Inbound {
        authorization: Authorization {
            stages: vec![Stage::enforced(action, vec![Policy::new("p", condition)])],
            ..Authorization::default()
        },
        ..Inbound::default()
    }
}

fn path(prefix: &str) -> Condition {
    Condition::Path(PathPattern::Text(StringMatcher::Prefix(prefix.into())))
}

fn deny_admin() -> Inbound {
    stage(Action::Deny, path("/admin"))
}

/// Answers with the path that the handler sees.
async fn call(mesh: &Mesh, request: Request<Body>) -> Response<InboundBody<Body>> {
    let handler = service_fn(async |request: Request<Body>| {
        Ok::<_, BoxError>(text(request.uri().path().to_owned()))
    });
    let service = mesh.inbound_layer().layer(handler);
    service.oneshot(request).await.unwrap()
}

async fn body(response: Response<InboundBody<Body>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn grpc(uri: &str) -> Request<Body> {
    let mut request = get(uri);
    *request.method_mut() = http::Method::POST;
    let value = "application/grpc".parse().unwrap();
    request.headers_mut().insert("content-type", value);
    request
}

#[tokio::test(start_paused = true)]
async fn a_denied_request_is_answered_in_envoys_words_and_its_reason_is_counted() {
    let (mesh, _publisher) = World::default().mesh(with(deny_admin())).await;
    let http = call(&mesh, get("http://a/admin/x")).await;
    assert_eq!(http.status(), 403);
    assert_eq!(http.headers()["content-type"], "text/plain");
    assert_eq!(body(http).await, "RBAC: access denied");
    let denied = call(&mesh, grpc("http://a/admin/M")).await;
    assert_eq!(denied.status(), 200);
    assert_eq!(denied.headers()["grpc-status"], "7");
    assert_eq!(denied.headers()["grpc-message"], "RBAC: access denied");
    assert_eq!(body(denied).await, "");
    assert_eq!(
        body(call(&mesh, get("http://a/public")).await).await,
        "/public"
    );
    let stats = mesh.stats().inbound;
    assert_eq!((stats.requests, stats.denied, stats.ambiguous), (3, 2, 0));
    call(&mesh, get("http://a//x")).await;
    let metrics = mesh.metrics();
    for line in [
        "meshwork_inbound_requests_total 4\n",
        "meshwork_inbound_refused_total{reason=\"denied\"} 2\n",
        "meshwork_inbound_refused_total{reason=\"ambiguous\"} 1\n",
        "meshwork_inbound_refused_total{reason=\"unauthenticated\"} 0\n",
        "meshwork_inbound_cut_total 0\n",
        "meshwork_inbound_audited_total 0\n",
        "meshwork_inbound_dry_run_denied_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn c6_c7_what_has_two_readings_never_reaches_a_handler() {
    let (mesh, _publisher) = World::default().mesh(with(deny_admin())).await;
    for uri in [
        "http://a//admin",
        "http://a/x/../admin",
        "http://a/%61dmin",
        "/no-host",
    ] {
        let response = call(&mesh, get(uri)).await;
        assert_eq!(response.status(), 400, "{uri}");
        assert_eq!(body(response).await, "");
    }
    for (uri, code) in [
        ("http://a/M", "12"),
        ("http://a/p/S/M", "12"),
        ("http://a/p.S/M?q", "12"),
    ] {
        assert_eq!(
            call(&mesh, grpc(uri)).await.headers()["grpc-status"],
            code,
            "{uri}"
        );
    }
    assert_eq!(mesh.stats().inbound.ambiguous, 7);
}

#[tokio::test(start_paused = true)]
async fn c24_the_next_request_is_judged_by_the_next_policy() {
    let (mesh, publisher) = World::default().mesh(with(Inbound::default())).await;
    for (inbound, expected) in [
        (deny_admin(), 403),
        (Inbound::default(), 200),
        (Inbound::closed(), 403),
    ] {
        publisher.publish(with(inbound)).await.unwrap();
        assert_eq!(call(&mesh, get("http://a/admin")).await.status(), expected);
    }
}

/// A response of which each part is sent by the test.
async fn stream(
    mesh: &Mesh,
    request: Request<Body>,
) -> (
    tokio::sync::mpsc::Sender<Result<Frame<Bytes>, BoxError>>,
    InboundBody<Body>,
) {
    let (sender, body) = Fed::body();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let handler = service_fn(move |_: Request<Body>| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, BoxError>(Response::new(body)) }
    });
    let service = mesh.inbound_layer().layer(handler);
    let response = service.oneshot(request).await.unwrap();
    (sender, response.into_body())
}

#[tokio::test(start_paused = true)]
async fn c24_a_hundred_streams_end_when_a_policy_denies_them_and_the_others_go_on() {
    let (mesh, publisher) = World::default()
        .mesh(with(stage(Action::Deny, path("/other"))))
        .await;
    let mut streams = Vec::new();
    for index in 0..100 {
        let uri = if index % 2 == 0 {
            "http://a/admin/M"
        } else {
            "http://a/public/M"
        };
        let (sender, mut body) = stream(&mesh, grpc(uri)).await;
        sender.send(Ok(Frame::data("one".into()))).await.unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "one"
        );
        let task = tokio::spawn(async move { (body.frame().await, body) });
        streams.push((index, sender, task));
    }
    settle().await;
    // An edit of something else wakes nobody up for good.
    publisher
        .publish(with(stage(Action::Deny, path("/another"))))
        .await
        .unwrap();
    settle().await;
    publisher.publish(with(deny_admin())).await.unwrap();
    for (index, sender, task) in streams {
        if index % 2 == 1 {
            sender.send(Ok(Frame::data("two".into()))).await.unwrap();
            let (frame, _) = task.await.unwrap();
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "two");
            continue;
        }
        let (frame, mut body) = task.await.unwrap();
        let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "7");
        assert!(body.frame().await.is_none());
        assert!(sender.is_closed(), "the handler learns of the end");
    }
    assert_eq!(mesh.stats().inbound.cut, 50);
}

#[tokio::test(start_paused = true)]
async fn c24_a_stream_that_began_without_policies_ends_when_one_denies_it() {
    let (mesh, publisher) = World::default().mesh(with(Inbound::default())).await;
    let (_sender, mut denied) = stream(&mesh, grpc("http://a/admin/M")).await;
    let (sender, mut other) = stream(&mesh, grpc("http://a/public/M")).await;
    publisher.publish(with(deny_admin())).await.unwrap();
    let trailers = denied.frame().await.unwrap().unwrap().into_trailers();
    assert_eq!(trailers.unwrap()["grpc-status"], "7");
    sender.send(Ok(Frame::data("on".into()))).await.unwrap();
    let frame = other.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "on");
}

#[tokio::test(start_paused = true)]
async fn c24_a_body_that_is_no_grpc_ends_with_an_error_and_a_silent_handler_with_an_answer() {
    let (mesh, publisher) = World::default()
        .mesh(with(stage(Action::Deny, path("/other"))))
        .await;
    let (_sender, mut body) = stream(&mesh, get("http://a/admin")).await;
    let silent = service_fn(async |_: Request<Body>| {
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(answer(200))
    });
    let silent = mesh.inbound_layer().layer(silent);
    let waiting = tokio::spawn(silent.oneshot(get("http://a/admin")));
    settle().await;
    publisher.publish(with(deny_admin())).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 403);
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "RBAC: access denied");
}

#[tokio::test(start_paused = true)]
async fn the_caller_is_whom_the_connection_proves() {
    let me = StringMatcher::Exact("spiffe://td/ns/a/sa/me".into());
    let allow = stage(Action::Allow, Condition::Peer(PeerPattern::Name(me)));
    let (mesh, _publisher) = World::default().mesh(with(allow)).await;
    let from = |principal: Option<&str>| {
        let mut peer = Peer::plaintext(None, None);
        peer.principal = principal.map(|text| text.parse().unwrap());
        let mut request = get("http://a/");
        request.extensions_mut().insert(peer);
        let forged = "URI=spiffe://td/ns/a/sa/me".parse().unwrap();
        request
            .headers_mut()
            .insert("x-forwarded-client-cert", forged);
        request
    };
    for (principal, status) in [
        (Some("spiffe://td/ns/a/sa/me"), 200),
        (Some("spiffe://td/ns/a/sa/you"), 403),
        (None, 403),
    ] {
        assert_eq!(
            call(&mesh, from(principal)).await.status(),
            status,
            "{principal:?}"
        );
    }
    assert_eq!(call(&mesh, get("http://a/")).await.status(), 403);
}

const POLICY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: my-app}
spec:
  selector: {matchLabels: {app: order}}
  rules:
  - to: [{operation: {methods: [GET], paths: ["/items/{*}"]}}]
    when: [{key: "request.headers[x-role]", values: [reader]}]
"#;

fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("policy.yaml"), text).unwrap();
    folder
}

async fn started(folder: &TempDir) -> Mesh {
    let workload = Workload::new("my-app", "order-sa").label("app", "order");
    let builder = Mesh::builder().yaml(folder.path()).workload(workload);
    builder.start().await.unwrap()
}

fn reading(uri: &str, roles: &[&str]) -> Request<Body> {
    let mut request = get(uri);
    for role in roles {
        request
            .headers_mut()
            .append("x-role", role.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn an_authorization_policy_of_yaml_is_enforced() {
    let folder = folder(POLICY);
    let mesh = started(&folder).await;
    for (uri, roles, status) in [
        ("http://a/items/1", &["reader"][..], 200),
        ("http://a/items/1", &[], 403),
        ("http://a/items/1", &["reader", "admin"], 403),
        ("http://a/items/1/2", &["reader"], 403),
        ("http://a/other", &["reader"], 403),
    ] {
        assert_eq!(
            call(&mesh, reading(uri, roles)).await.status(),
            status,
            "{uri} {roles:?}"
        );
    }
}

#[tokio::test]
async fn c23_a_bad_edit_of_a_policy_keeps_the_last_good_one_and_a_bad_first_one_starts_nothing() {
    let folder = folder(POLICY);
    let mesh = started(&folder).await;
    let mut events = mesh.events();
    let bad = POLICY.replace("request.headers[x-role]", "request.header[x-role]");
    std::fs::write(folder.path().join("policy.yaml"), &bad).unwrap();
    let rejected = async {
        loop {
            if let Some(Ok(meshwork::Event::ConfigRejected { text })) = events.next().await {
                return text;
            }
        }
    };
    let rejected = tokio::time::timeout(Duration::from_secs(30), rejected)
        .await
        .unwrap();
    assert!(
        rejected.contains("unknown attribute \"request.header[x-role]\""),
        "{rejected}"
    );
    assert_eq!(
        call(&mesh, reading("http://a/items/1", &["reader"]))
            .await
            .status(),
        200
    );
    assert_eq!(
        call(&mesh, reading("http://a/items/1", &[])).await.status(),
        403
    );
    let error = Mesh::builder()
        .yaml(folder.path())
        .start()
        .await
        .unwrap_err();
    assert!(error.is_config());
}

/// What an authorizer is asked by HTTP, and what is made of its answers.
fn asking(on_error: OnError, by: AskByHttp) -> Resources {
    let authorizer = Authorizer {
        cluster: "authz".into(),
        authority: "authz:80".into(),
        protocol: AskBy::Http(by),
        timeout: seconds(1),
        on_error,
    };
    let external = meshwork::model::authorization::External {
        provider: "ask".into(),
        policies: vec![Policy::new("p", path("/admin"))],
    };
    let plan = Plan::default()
        .host("authz", vec![all_to("authz")])
        .cluster(cluster("authz", Protocol::Http1), &[1]);
    Resources {
        inbound: Arc::new(Inbound {
            authorization: Authorization {
                external: vec![external],
                ..Authorization::default()
            },
            authorizers: [("ask".into(), authorizer)].into(),
            ..Inbound::default()
        }),
        ..plan.build()
    }
}

#[tokio::test(start_paused = true)]
async fn an_external_authorizer_decides_about_what_its_policies_match() {
    let world = World::default();
    world.serve(1, |request| async move {
        let asked = request.headers().get("x-user").cloned();
        assert!(!request.headers().contains_key("x-secret"));
        assert_eq!(request.headers()["x-forwarded-host"], "a");
        let mut response = match asked.as_ref().map(|value| value.as_bytes()) {
            Some(b"good") => answer(200),
            Some(b"bad") => {
                let mut response = text("not you");
                *response.status_mut() = http::StatusCode::UNAUTHORIZED;
                response
            }
            _ => answer(503),
        };
        let path = request.uri().path().parse().unwrap();
        response.headers_mut().insert("x-asked", path);
        response
    });
    let exact = |text: &str| StringMatcher::Exact(text.into());
    let by = AskByHttp {
        path_prefix: Some("/check".parse().unwrap()),
        shown: vec![exact("x-user")],
        to_handler: vec![exact("x-asked")],
        to_caller_on_allow: vec![exact("x-asked")],
        ..AskByHttp::default()
    };
    let deny = OnError::Deny(http::StatusCode::FORBIDDEN);
    let (mesh, publisher) = world.mesh(asking(deny, by.clone())).await;
    let user = |uri: &str, user: &str| {
        let mut request = get(uri);
        request
            .headers_mut()
            .insert("x-user", user.parse().unwrap());
        request
            .headers_mut()
            .insert("x-secret", "s".parse().unwrap());
        request
    };
    let passed = call(&mesh, user("http://a/admin", "good")).await;
    assert_eq!(passed.status(), 200);
    assert_eq!(passed.headers()["x-asked"], "/check/admin");
    let refused = call(&mesh, user("http://a/admin", "bad")).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(body(refused).await, "not you");
    let mut over_grpc = grpc("http://a/admin/M");
    over_grpc
        .headers_mut()
        .insert("x-user", "bad".parse().unwrap());
    assert_eq!(call(&mesh, over_grpc).await.headers()["grpc-status"], "16");
    assert_eq!(
        call(&mesh, user("http://a/public", "bad")).await.status(),
        200
    );
    // It fails, and is gone: closed by default, open where the provider says so.
    assert_eq!(
        call(&mesh, user("http://a/admin", "broken")).await.status(),
        403
    );
    world.remove(1);
    assert_eq!(
        call(&mesh, user("http://a/admin", "good")).await.status(),
        403
    );
    publisher.publish(asking(OnError::Allow, by)).await.unwrap();
    assert_eq!(
        call(&mesh, user("http://a/admin", "bad")).await.status(),
        200
    );
}

/// A real server behind the door; returns its port.
async fn listening(mesh: &Mesh) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new()
        .fallback(async |uri: http::Uri| uri.path().to_owned())
        .layer(mesh.inbound_layer());
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// Sends bytes as they are and reads until the server closes.
async fn raw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn c9_c10_c15_raw_requests_of_http1_are_refused_or_denied() {
    let role = Condition::Header(meshwork::model::matcher::HeaderMatcher {
        key: meshwork::model::matcher::HeaderKey::Field("x-role".parse().unwrap()),
        test: meshwork::model::matcher::HeaderTest::Value(StringMatcher::Exact("admin".into())),
        invert: false,
        missing_is_empty: false,
    });
    let denied = Condition::Any(vec![path("/admin"), role]);
    let (mesh, _publisher) = World::default()
        .mesh(with(stage(Action::Deny, denied)))
        .await;
    let port = listening(&mesh).await;
    for (request, status) in [
        ("GET /public HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET /admin HTTP/1.1\r\nHost: a\r\n", 403),
        ("GET http://a/admin HTTP/1.1\r\nHost: b\r\n", 403),
        ("GET /admin#x HTTP/1.1\r\nHost: a\r\n", 403),
        ("GET //admin HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /%61dmin HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /x/../admin HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /admin;x HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /public HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /public HTTP/1.1\r\nHost: u@a\r\n", 400),
        ("GET /public HTTP/1.1\r\n", 400),
        ("GET /public HTTP/1.0\r\n", 400),
        ("POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 400),
        (
            "GET /public HTTP/1.1\r\nHost: a\r\nx-role: user\r\nX-Role: admin\r\n",
            403,
        ),
        (
            "GET /public HTTP/1.1\r\nHost: a\r\nx-role:   admin  \r\n",
            403,
        ),
        (
            "GET /public HTTP/1.1\r\nHost: a\r\nx-role: user,\r\n admin\r\n",
            400,
        ),
        ("GET /public HTTP/1.1\r\nHost: a\r\nx_role: admin\r\n", 200),
        (
            "GET /admin HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: PUT\r\n",
            403,
        ),
    ] {
        let bytes = format!("{request}Connection: close\r\n\r\n");
        let answer = raw(port, bytes.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer);
        let found = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(found, status.to_string(), "{request:?} {answer:?}");
    }
}

#[cfg(feature = "jwt")]
mod tokens {
    use meshwork::model::Origin;
    use meshwork::model::token::{Keys, Location, TokenRule};

    use super::*;

    fn requiring() -> Inbound {
        let rule = TokenRule {
            issuer: Some("me".into()),
            audiences: Vec::new(),
            keys: Keys::Inline(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#.into()),
            locations: vec![Location::Header {
                name: AUTHORIZATION,
                prefix: "Bearer ".into(),
            }],
            forward: false,
            payload_header: Some("x-payload".parse().unwrap()),
            claim_headers: vec![("x-sub".parse().unwrap(), vec!["sub".into()])],
            spaced: Vec::new(),
            metadata: None,
            origin: Origin::built_in(),
        };
        let anybody = StringMatcher::Prefix("".into());
        let secret = Condition::All(vec![
            path("/secret"),
            Condition::RequestPrincipal(anybody).not(),
        ]);
        Inbound {
            tokens: vec![rule],
            ..stage(Action::Deny, secret)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_token_is_401_and_none_is_for_the_policies_to_judge() {
        let (mesh, _publisher) = World::default().mesh(with(requiring())).await;
        let bearing = |uri: &str, token: &str| {
            let mut request = get(uri);
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(AUTHORIZATION, value);
            request
        };
        let refused = call(&mesh, bearing("http://a/public", "a.b")).await;
        assert_eq!(refused.status(), 401);
        assert_eq!(
            refused.headers()["www-authenticate"],
            "Bearer error=\"invalid_token\""
        );
        let words =
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
        assert_eq!(body(refused).await, words);
        let mut over_grpc = grpc("http://a/p.S/M");
        over_grpc
            .headers_mut()
            .insert(AUTHORIZATION, "Bearer x".parse().unwrap());
        assert_eq!(call(&mesh, over_grpc).await.headers()["grpc-status"], "16");
        assert_eq!(call(&mesh, get("http://a/public")).await.status(), 200);
        assert_eq!(call(&mesh, get("http://a/secret")).await.status(), 403);
        let stats = mesh.stats().inbound;
        assert_eq!((stats.unauthenticated, stats.denied), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_are_made_of_tokens_cannot_be_written_by_callers() {
        let (mesh, _publisher) = World::default().mesh(with(requiring())).await;
        let handler = service_fn(async |request: Request<Body>| {
            assert!(!request.headers().contains_key("x-sub"));
            assert!(!request.headers().contains_key("x-payload"));
            assert!(request.headers().contains_key(HOST) || request.uri().host().is_some());
            Ok::<_, BoxError>(answer(200))
        });
        let mut request = get("http://a/public");
        for name in ["x-sub", "x-payload"] {
            request.headers_mut().insert(name, "me".parse().unwrap());
        }
        let service = mesh.inbound_layer().layer(handler);
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn linkerds_limits_are_counted_for_the_port_its_callers_and_each_caller() {
    let bucket = |rate| Bucket::new(rate, rate, std::time::Duration::from_secs(1)).unwrap();
    let limit = LocalLimit {
        scope: "my-app/limit".into(),
        port: Some(8080),
        total: Some(bucket(6)),
        per_caller: Some(bucket(2)),
        callers: vec![CallersBucket {
            identities: vec!["spiffe://td/ns/a/sa/special".into()],
            bucket: bucket(3),
        }],
        enabled: Fraction::ONE,
        enforced: Fraction::ONE,
        refusal: Refusal {
            exhausted: true,
            ..Refusal::default()
        },
        origin: Origin::built_in(),
    };
    let limited = || Inbound {
        limits: vec![limit.clone()],
        ..Inbound::default()
    };
    let (mesh, publisher) = World::default().mesh(with(limited())).await;
    let from = |account: &str, port: u16, mut request: Request<Body>| {
        let mut peer = Peer::plaintext(None, Some(([127, 0, 0, 1], port).into()));
        let id = format!("spiffe://td/ns/a/sa/{account}");
        peer.principal = (!account.is_empty()).then(|| id.parse().unwrap());
        request.extensions_mut().insert(peer);
        request
    };
    let statuses = async |account: &str, port: u16, count: usize| {
        let mut all = Vec::new();
        for _ in 0..count {
            let request = from(account, port, get("http://a/"));
            all.push(call(&mesh, request).await.status().as_u16());
        }
        all
    };
    assert_eq!(statuses("one", 9090, 9).await, [200; 9], "another port");
    assert_eq!(statuses("one", 8080, 3).await, [200, 200, 429]);
    assert_eq!(statuses("special", 8080, 2).await, [200, 200]);
    // Nobody's requests are one caller's, and a caller above its limit takes nothing of the total.
    assert_eq!(statuses("", 8080, 3).await, [200, 200, 429]);
    assert_eq!(statuses("special", 8080, 1).await, [429], "the total of 6");
    let refused = call(&mesh, from("", 8080, grpc("http://a/p.S/M"))).await;
    assert_eq!(refused.headers()["grpc-status"], "8");
    // An edit of something else fills no bucket.
    let edited = Inbound {
        authorization: deny_admin().authorization,
        ..limited()
    };
    publisher.publish(with(edited)).await.unwrap();
    assert_eq!(statuses("two", 8080, 1).await, [429]);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(statuses("two", 8080, 3).await, [200, 200, 429]);
    assert_eq!(mesh.stats().inbound.limited, 6);
}
