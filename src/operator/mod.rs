//! What the admin endpoints of a mesh and of a server have in common: a listener with bounds, who may ask, and
//! HTTP with gRPC beside it.
//!
//! Both are for operators, opt-in, and mostly on the loopback interface, where they need no
//! authentication of their own. Two things guard them there. A page in a browser on the same machine could
//! talk to a loopback address by a name that it controls (DNS rebinding), so such a listener answers only
//! for `localhost` and addresses. And the one thing that can be changed, [levels](logging) of events, is
//! changed by nothing that a browser sent, since a page could send a form to any address.
//!
//! The server is hyper's, by hand: 64 connections, ten seconds for the head of a request, one task that
//! owns all of them. With TLS built in (whose server side knows both versions anyway) it speaks HTTP/2 too, which
//! is what gRPC comes in: `grpcdebug` asks here as it asks a server of gRPC.

mod logging;
#[cfg(feature = "tls-core")]
mod version;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::body::Body;
pub(crate) use logging::Levels;
#[cfg(feature = "tls-core")]
pub(crate) use version::{Version, begin};

/// How many connections are served at once; more wait in the system's queue.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and a connection be without one.
const HEAD: Duration = Duration::from_secs(10);
/// How long nothing is accepted after accepting failed: mostly there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on a connection of HTTP/2.
#[cfg(feature = "tls-core")]
const STREAMS: u32 = 32;
/// The longest list of headers.
#[cfg(feature = "tls-core")]
const HEADER_LIST: u32 = 16 << 10;
/// PINGs that find out whether the one who asked is still there, and how long an answer may take.
#[cfg(feature = "tls-core")]
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

const FOREIGN: &str =
    "this address is asked by the name localhost or by its number, not by another name";

/// An answer that is being made.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Who asks, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct From {
    /// The listener is one of the loopback interface.
    pub(crate) loopback: bool,
    /// A browser says that a page sent it.
    pub(crate) page: bool,
}

/// Something that is asked.
pub(crate) trait Operated: Send + Sync + 'static {
    /// The answer to a request of plain HTTP, whose body nobody reads.
    fn answer(&self, request: &Request<()>, from: From) -> Response<Body>;

    /// The answer to a request of gRPC; it comes only where HTTP/2 is spoken.
    fn call(&self, request: Request<Incoming>) -> Answering;
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, operated: Arc<dyn Operated>) {
    let local = listener.local_addr();
    let loopback = local.is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, operated.clone(), loopback));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin endpoint cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection. One that has not asked for anything in time is closed, whatever it began with.
async fn connection(stream: TcpStream, operated: Arc<dyn Operated>, loopback: bool) {
    let first = Arc::new(Notify::new());
    let asked = first.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        asked.notify_one();
        let operated = operated.clone();
        async move { Ok::<_, Infallible>(answer(&*operated, request, loopback).await) }
    });
    let silent = async {
        if tokio::time::timeout(HEAD, first.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    // What breaks here breaks for the one who asked, who sees it.
    tokio::select! {
        () = speak(stream, service) => {}
        () = silent => {}
    }
}

#[cfg(feature = "tls-core")]
async fn speak<S>(stream: TcpStream, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + 'static,
    S::Future: Send + 'static,
{
    use hyper_util::rt::TokioExecutor;
    let Ok((version, stream)) = begin(stream, HEAD).await else {
        return;
    };
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let mut builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(not(feature = "tls-core"))]
async fn speak<S>(stream: TcpStream, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + 'static,
    S::Future: Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    operated: &dyn Operated,
    request: Request<Incoming>,
    loopback: bool,
) -> Response<Body> {
    let local = !loopback || is_local(&request);
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    let grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
    match (local, grpc) {
        (false, true) => return grpc_refusal("7", FOREIGN),
        (false, false) => return plain(StatusCode::FORBIDDEN, &format!("{FOREIGN}\n")),
        (true, true) => return operated.call(request).await,
        (true, false) => {}
    }
    let from = From {
        loopback,
        page: request.headers().contains_key(ORIGIN),
    };
    operated.answer(&request.map(drop), from)
}

/// Whether the one who asks named this machine by a number or as itself.
fn is_local<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST);
    let host = host.map(|host| Authority::try_from(host.as_bytes()).ok());
    // HTTP/2 has it in the target.
    let authority = host.unwrap_or_else(|| request.uri().authority().cloned());
    authority.is_some_and(|authority| {
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    })
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A call of gRPC that ends with a status and nothing else. `message` has no characters to be escaped.
pub(crate) fn grpc_refusal(status: &'static str, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

/// The values of a query parameter, decoded.
pub(crate) fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    pairs(query)
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value)
}

/// All parameters of a query, decoded; one without `=` has no value.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

/// Without `%XX` and `+`; what is not well-formed stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (other, _) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_slips_of_them_survive() {
        let query = "url=http%3A%2F%2Fa%2Fb&header=x:+1%&header=y:2%zz&url=c&&alone";
        let of = |name| parameters(query, name).collect::<Vec<_>>();
        assert_eq!(of("url"), ["http://a/b", "c"]);
        assert_eq!(of("header"), ["x: 1%", "y:2%zz"]);
        assert_eq!(of("alone"), [""]);
        assert_eq!(of("none"), [""; 0]);
    }

    #[test]
    fn only_numbers_and_localhost_are_local() {
        for (host, local) in [
            ("localhost:1", true),
            ("LOCALHOST:15014", true),
            ("127.0.0.1", true),
            ("[::1]:15000", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example:1", false),
            ("localhost.evil.example", false),
            ("a b", false),
            ("", false),
        ] {
            let request = Request::get("/").header(HOST, host).body(()).unwrap();
            assert_eq!(is_local(&request), local, "{host}");
        }
        let of_http2 = |uri: &str| is_local(&Request::get(uri).body(()).unwrap());
        assert!(of_http2("http://127.0.0.1:1/a"));
        assert!(!of_http2("http://evil.example/a"));
        assert!(!of_http2("/a"));
        // A header that says something else than the target does not help.
        let both = Request::get("http://localhost/").header(HOST, "evil.example");
        assert!(!is_local(&both.body(()).unwrap()));
    }
}
