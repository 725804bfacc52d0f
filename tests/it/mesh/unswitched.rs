//! Connections of a port that become nothing else, whatever is written on them and whoever holds them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::inbound::Listener;
use meshwork::source::feed;
use meshwork::{AccessLog, Body, Mesh};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::switched::{
    PATIENCE, Port, active, ask, deny, end, serve, serve_of, switch, talk, until,
};
use super::telemetry::{Lines, resources, telemetry};

/// Takes the connection of every request, and echoes on what it gets; it answers as if it had one.
async fn grasping(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let switch = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = switch.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(io));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut response = Response::new(Body::empty());
    if request.method() != Method::CONNECT && request.uri().path() != "/plain" {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "upgrade".parse().unwrap());
        headers.insert("upgrade", "websocket".parse().unwrap());
    }
    Ok(response)
}

#[tokio::test]
async fn what_is_no_switch_of_http1_is_not_answered_as_one() {
    let port = serve(|listener| listener, |_| service_fn(grasping)).await;
    for (row, request) in [
        (
            "Connection does not name it",
            "GET /chat HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            "another version of HTTP",
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        ),
        ("a tunnel", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"),
        (
            "a tunnel that looks like a switch",
            "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        ("nothing", "GET /chat HTTP/1.1\r\nhost: a\r\n\r\n"),
        (
            "a body that is still to come",
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 10\r\n\r\n",
        ),
        (
            "a body in chunks",
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             transfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let head = ask(&mut stream, request).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{row}: {head}");
    }
}

#[tokio::test]
async fn a_tunnel_is_not_opened_over_http2_either() {
    let port = serve(|listener| listener, |_| service_fn(grasping)).await;
    let stream = TcpStream::connect(port.address).await.unwrap();
    let made = hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    );
    let (mut http, connection) = made.await.unwrap();
    tokio::spawn(connection);
    let connect = Request::connect("a:80").body(Empty::new()).unwrap();
    let response = http.send_request(connect).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    // The connection is as good as before.
    let plain = Request::get("http://a/plain").body(Empty::new()).unwrap();
    let response = http.send_request(plain).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn whoever_took_a_connection_that_did_not_switch_has_nothing_when_it_ends() {
    let port = serve(|listener| listener, |_| service_fn(grasping)).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    let request = "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\n\
                   upgrade: websocket\r\n\r\n";
    let head = ask(&mut stream, request).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // It may be closed by now.
    let _ = stream.write_all(b"is anybody there?").await;
    end(&mut stream).await;
}

/// Switches, and keeps the connection without ever looking at it.
async fn hoarding(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let switch = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _kept = switch.await;
        std::future::pending::<()>().await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    Ok(response)
}

#[tokio::test]
async fn a_cut_closes_the_connection_whatever_its_holder_does() {
    let make = |mesh: &meshwork::Mesh| mesh.inbound_layer().layer(service_fn(hoarding));
    let port = serve(|listener| listener, make).await;
    let mut stream = switch(port.address, "/chat").await;
    port.publisher.publish(deny("/chat")).await.unwrap();
    end(&mut stream).await;
    until("it is given back", || active(&port.mesh, 0)).await;
}

#[tokio::test]
async fn c24_a_response_that_was_made_anew_on_the_way_is_cut_by_policy_all_the_same() {
    let make = |mesh: &meshwork::Mesh| {
        let inner = mesh.inbound_layer().layer(service_fn(grasping));
        inner.map_response(|response| {
            let (head, body) = response.into_parts();
            let mut anew = Response::new(body);
            *anew.status_mut() = head.status;
            *anew.headers_mut() = head.headers;
            anew
        })
    };
    let port = serve(|listener| listener, make).await;
    let mut stream = switch(port.address, "/chat").await;
    talk(&mut stream, b"one").await;
    assert!(active(&port.mesh, 1), "{}", port.mesh.metrics());
    port.publisher.publish(deny("/chat")).await.unwrap();
    end(&mut stream).await;
    assert_eq!(port.mesh.stats().inbound.cut, 1);
    until("it is given back", || active(&port.mesh, 0)).await;
}

/// A port whose requests are logged with code, flags, details and bytes.
async fn logged<S>(change: impl FnOnce(Listener) -> Listener, handler: S) -> (Port, Lines)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    const FORMAT: &str =
        "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_SENT%";
    let lines = Lines::default();
    let wanted = telemetry("  accessLogging: [{providers: [{name: envoy}]}]\n");
    let (publisher, source) = feed(resources(&wanted));
    let log = AccessLog::format(FORMAT).unwrap().to(lines.clone());
    let mesh = Mesh::builder().feed(source).access_log(log);
    let mesh = mesh.start().await.unwrap();
    let make = |mesh: &Mesh| mesh.inbound_layer().layer(handler);
    let port = serve_of(mesh, publisher, change, make).await;
    (port, lines)
}

/// How many requests were counted with this code and this flag.
fn counted(mesh: &Mesh, code: u16, flag: &str) -> usize {
    let metrics = mesh.metrics();
    let labels = [
        format!("response_code=\"{code}\""),
        format!("response_flags=\"{flag}\""),
        "reporter=\"destination\"".to_owned(),
    ];
    let lines = metrics.lines().filter(|line| {
        line.starts_with("istio_requests_total{") && labels.iter().all(|one| line.contains(one))
    });
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    counts.sum()
}

#[tokio::test]
async fn metrics_and_log_have_what_the_caller_got_where_a_switch_was_not_offered() {
    let (port, lines) = logged(|listener| listener, service_fn(grasping)).await;
    let expected = [
        ("GET /chat HTTP/1.1\r\nhost: a\r\n\r\n", 502),
        (
            "GET /body HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             content-length: 1\r\n\r\n",
            502,
        ),
        ("GET /plain HTTP/1.1\r\nhost: a\r\n\r\n", 200),
    ];
    for (request, status) in expected {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let head = ask(&mut stream, request).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let stream = switch(port.address, "/chat").await;
    drop(stream);
    until("it is given back", || active(&port.mesh, 0)).await;
    let of = |code, flag| counted(&port.mesh, code, flag);
    let counts = [of(502, "LR"), of(200, "-"), of(101, "-")];
    assert_eq!(counts, [2, 1, 1], "{}", port.mesh.metrics());
    port.mesh.shutdown(PATIENCE).await;
    assert_eq!(
        lines.all(),
        [
            "/chat 502 LR switch_not_offered 72",
            "/body 502 LR switch_not_offered 72",
            "/plain 200 - via_upstream 0",
            "/chat 101 - via_upstream 0",
        ]
    );
}

#[tokio::test]
async fn a_connection_that_is_to_end_is_not_switched_any_more() {
    const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
                             upgrade: websocket\r\n\r\n";
    let (called, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (to_call, to_wait) = (called.clone(), answers.clone());
    let slow = service_fn(move |request| {
        let (called, answers) = (to_call.clone(), to_wait.clone());
        async move {
            called.add_permits(1);
            answers.acquire().await.unwrap().forget();
            grasping(request).await
        }
    });
    // The time would not end before the test fails: nobody has to wait for it.
    let hour = Duration::from_secs(3_600);
    let (port, lines) = logged(|listener| listener.with_drain(hour), slow).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    let asking = tokio::spawn(async move {
        let head = ask(&mut stream, HANDSHAKE).await;
        (stream, head)
    });
    called.acquire().await.unwrap().forget();
    let mesh = port.mesh.clone();
    let shutting = tokio::spawn(async move { mesh.shutdown(PATIENCE).await });
    // Nobody listens any more: the drain has begun.
    let begun = async { while TcpStream::connect(port.address).await.is_ok() {} };
    let begun = tokio::time::timeout(PATIENCE, begun).await;
    begun.expect("the port is closed");
    answers.add_permits(1);
    let (mut stream, head) = asking.await.unwrap();
    let head = head.unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    let mut text = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text);
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("it is closed").unwrap();
    assert_eq!(
        text,
        "the connection is about to end and is not switched any more"
    );
    shutting.await.unwrap();
    assert_eq!(counted(&port.mesh, 503, "LR"), 1, "{}", port.mesh.metrics());
    let told = "/chat 503 LR switch_of_ending_connection 59";
    assert_eq!(lines.all(), [told], "the handler's 101 is nowhere");
}
