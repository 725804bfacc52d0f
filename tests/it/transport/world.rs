//! What the tests connect to.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use meshwork::Body;
use meshwork::model::cluster::{Connection, Families, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::transport::{
    Connect, Connecting, Connections, End, Gate, Guard, Io, Settings, Unanswered, Unlimited,
};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};

/// What happens to a dial.
pub(crate) enum Dial {
    Accept(Box<dyn FnOnce(DuplexStream) + Send>),
    Fail(io::Error),
    Hang,
}

impl Dial {
    pub(crate) fn accept(serve: impl FnOnce(DuplexStream) + Send + 'static) -> Self {
        Self::Accept(Box::new(serve))
    }
}

/// A connector whose dials do what a function says; it is given the number of the dial, from 0.
pub(crate) struct World {
    dials: AtomicUsize,
    script: Box<dyn Fn(usize) -> Dial + Send + Sync>,
}

impl World {
    pub(crate) fn new(script: impl Fn(usize) -> Dial + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            dials: AtomicUsize::new(0),
            script: Box::new(script),
        })
    }
}

/// A world that hands the other end of each connection to the test.
pub(crate) fn handed() -> (Arc<World>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (hand, ends) = mpsc::unbounded_channel();
    let world = World::new(move |_| {
        let hand = hand.clone();
        Dial::accept(move |io| hand.send(io).expect("the test still listens"))
    });
    (world, ends)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl Connect for World {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        match (self.script)(self.dials.fetch_add(1, Ordering::SeqCst)) {
            Dial::Accept(serve) => {
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                serve(theirs);
                Box::pin(async move { Ok(Io::boxed(ours)) })
            }
            Dial::Fail(error) => Box::pin(async move { Err(error) }),
            Dial::Hang => Box::pin(std::future::pending()),
        }
    }
}

pub(crate) fn address() -> Address {
    Address::Socket("10.0.0.1:80".parse().unwrap())
}

pub(crate) fn settings(protocol: Protocol) -> Settings {
    Settings {
        protocol,
        connect_timeout: Duration::from_secs(10),
        families: Families::Both,
        connection: Connection::default(),
    }
}

/// Settings with so many requests for each connection.
pub(crate) fn used_up_after(protocol: Protocol, requests: u32) -> Settings {
    let mut settings = settings(protocol);
    settings.connection.max_requests = NonZeroU32::new(requests);
    settings
}

pub(crate) fn endpoint(settings: Settings, world: &Arc<World>) -> Arc<Connections> {
    limited(settings, world, Arc::new(Unlimited))
}

pub(crate) fn limited(
    settings: Settings,
    world: &Arc<World>,
    gate: Arc<dyn Gate>,
) -> Arc<Connections> {
    Connections::new(address(), Arc::new(settings), world.clone(), gate)
}

pub(crate) fn get() -> Request<Body> {
    Request::get("http://catalog/items")
        .body(Body::empty())
        .unwrap()
}

/// A body whose chunks come from the test; it stays open for as long as the sender lives.
pub(crate) struct Chunks(pub(crate) mpsc::Receiver<Result<Bytes, meshwork::BoxError>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = meshwork::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = self.0.poll_recv(cx);
        chunk.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// A POST with such a body.
pub(crate) fn upload() -> (
    mpsc::Sender<Result<Bytes, meshwork::BoxError>>,
    Request<Body>,
) {
    let (sender, chunks) = mpsc::channel(8);
    let request = Request::post("http://catalog/items");
    (sender, request.body(Body::new(Chunks(chunks))).unwrap())
}

/// Sends a request, reads the response to its end.
pub(crate) async fn call(connections: &Arc<Connections>) -> Result<Bytes, Unanswered> {
    let response = connections.send(get(), ()).await?;
    Ok(response.into_body().collect().await.unwrap().to_bytes())
}

/// Starts a call as a task of its own.
pub(crate) fn start(
    connections: &Arc<Connections>,
) -> tokio::task::JoinHandle<Result<Bytes, Unanswered>> {
    let connections = connections.clone();
    tokio::spawn(async move { call(&connections).await })
}

/// Lets all tasks run until only time could move them: the paused clock advances by a millisecond
/// when nothing else is left to do.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A guard that tells how the response ended.
pub(crate) struct Told(pub(crate) Arc<Mutex<Vec<End>>>);

impl Guard for Told {
    fn ended(self: Pin<&mut Self>, end: End) {
        self.0.lock().unwrap().push(end);
    }
}

/// A server whose requests wait at a gate before they are answered.
#[derive(Clone, Default)]
pub(crate) struct Server {
    pub(crate) requests: Arc<AtomicUsize>,
    /// The most requests that were seen at once.
    pub(crate) peak: Arc<AtomicUsize>,
    pub(crate) heads: Arc<Mutex<Vec<http::request::Parts>>>,
    current: Arc<AtomicUsize>,
    delay: Duration,
    held: Option<Arc<Notify>>,
    streams: Option<u32>,
}

impl Server {
    /// Answers after `delay`.
    pub(crate) fn slow(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Answers when [`Notify::notify_waiters`] is called.
    pub(crate) fn held(held: &Arc<Notify>) -> Self {
        Self {
            held: Some(held.clone()),
            ..Self::default()
        }
    }

    /// Allows so many HTTP/2 streams at once.
    pub(crate) fn streams(mut self, streams: u32) -> Self {
        self.streams = Some(streams);
        self
    }

    pub(crate) fn seen(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        self.heads.lock().unwrap().push(head);
        self.requests.fetch_add(1, Ordering::SeqCst);
        let now = self.current.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        if let Some(held) = &self.held {
            held.notified().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let body = body.collect().await.map(|body| body.to_bytes());
        self.current.fetch_sub(1, Ordering::SeqCst);
        Ok(Response::new(Full::new(match body {
            Ok(body) if !body.is_empty() => body,
            _ => Bytes::from_static(b"hello"),
        })))
    }

    pub(crate) async fn http1<I>(self, io: I)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let service = service_fn(move |request| self.clone().answer(request));
        // A client that goes away is no concern of the server's.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(io), service)
            .await;
    }

    pub(crate) async fn http2<I>(self, io: I)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let streams = self.streams;
        let service = service_fn(move |request| self.clone().answer(request));
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        if let Some(streams) = streams {
            builder.max_concurrent_streams(streams);
        }
        let _ = builder.serve_connection(TokioIo::new(io), service).await;
    }

    /// A world of HTTP/1.1 servers like this one.
    pub(crate) fn world1(&self) -> Arc<World> {
        let server = self.clone();
        World::new(move |_| {
            let server = server.clone();
            Dial::accept(|io| drop(tokio::spawn(server.http1(io))))
        })
    }

    /// A world of HTTP/2 servers like this one.
    pub(crate) fn world2(&self) -> Arc<World> {
        let server = self.clone();
        World::new(move |_| {
            let server = server.clone();
            Dial::accept(|io| drop(tokio::spawn(server.http2(io))))
        })
    }
}
