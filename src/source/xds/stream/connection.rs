//! A server's stream: begun when the machine wishes, kept until it ends.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::pace::Pace;
use super::variant::{Delta, Sotw, Variant};
use super::{Driver, secure};
use crate::body::Body;
use crate::error::Error;
use crate::model::cluster::{Connection, Families, Keepalive, Protocol, TcpKeepalive};
use crate::source::xds::bootstrap::Server;
use crate::source::xds::client::Wish;
use crate::transport::{Connections, Settings, Unlimited};

/// The largest response that is read: a hundred thousand endpoints are a tenth of it.
pub(super) const LARGEST: usize = 128 << 20;

/// How a connection to a server is kept.
fn settings(keepalive: Keepalive) -> Settings {
    Settings {
        protocol: Protocol::Http2,
        connect_timeout: Duration::from_secs(20),
        families: Families::Both,
        connection: Connection {
            idle_timeout: None,
            http2_keepalive: Some(keepalive),
            tcp_keepalive: Some(TcpKeepalive {
                probes: Some(3),
                time: Some(Duration::from_secs(10)),
                interval: Some(Duration::from_secs(5)),
            }),
            ..Connection::default()
        },
    }
}

/// Keeps the stream to a server as the machine wishes, for ever.
pub(super) async fn keep(driver: Arc<Driver>, server: usize) {
    let mut changed = driver.changed.subscribe();
    loop {
        changed.borrow_and_update();
        match driver.wish(server) {
            Wish::Wait(until) if until > Instant::now() => {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    // Cannot fail: the driver holds the sender.
                    _ = changed.changed() => {}
                }
            }
            Wish::Begin | Wish::Wait(_) => {
                driver.tell(|client, now| client.begin(server, now));
                match stream(&driver, server, &mut changed).await {
                    Ended::Here => driver.tell(|client, _| client.rest(server)),
                    Ended::There(why) => driver.tell(|client, now| client.end(server, &why, now)),
                }
            }
            Wish::Continue | Wish::Rest => {
                let _ = changed.changed().await;
            }
        }
    }
}

/// How a stream ended.
enum Ended {
    /// It was not wished any more.
    Here,
    /// The server or the network ended it.
    There(String),
}

async fn stream(driver: &Driver, server: usize, changed: &mut watch::Receiver<u64>) -> Ended {
    let Some(to) = driver.read(|client| client.server(server)) else {
        return Ended::Here;
    };
    let wire = match Wire::new(driver, &to, driver.pace(server)).await {
        Ok(wire) => wire,
        Err(error) => return Ended::There(error.to_string()),
    };
    if to.features.delta {
        exchange::<Delta>(driver, server, wire, changed).await
    } else {
        exchange::<Sotw>(driver, server, wire, changed).await
    }
}

async fn exchange<V: Variant>(
    driver: &Driver,
    server: usize,
    wire: Wire,
    changed: &mut watch::Receiver<u64>,
) -> Ended {
    let (outgoing, messages) = mpsc::channel(1);
    let (messages, mut is_taken) = Outgoing::told(messages);
    let origin = wire.origin.clone();
    let mut grpc =
        tonic::client::Grpc::with_origin(wire, origin).max_decoding_message_size(LARGEST);
    let messages = tonic::Request::new(messages);
    let path = PathAndQuery::from_static(V::PATH);
    let codec = ProstCodec::<V::Request, V::Response>::default();
    let mut opening = pin!(grpc.streaming(messages, path, codec));
    let mut responses: Option<Streaming<V::Response>> = None;
    let mut writable = false;
    loop {
        changed.borrow_and_update();
        if driver.wish(server) != Wish::Continue {
            return Ended::Here;
        }
        let has_next = writable && driver.read(|client| client.has_next(server));
        tokio::select! {
            opened = &mut opening, if responses.is_none() => match opened {
                Ok(opened) => responses = Some(opened.into_inner()),
                Err(status) => return Ended::There(told(&status)),
            },
            response = next(&mut responses) => match response {
                Ok(Some(response)) => {
                    let response = V::response(response);
                    let taken = driver.tell(|client, now| client.receive(server, response, now));
                    if let Err(overrun) = taken {
                        return Ended::There(overrun.to_string());
                    }
                }
                Ok(None) => return Ended::There("the server ended the stream".into()),
                Err(status) => return Ended::There(told(&status)),
            },
            // The connection is there when it takes the first message.
            taken = &mut is_taken, if !writable => match taken {
                Ok(()) => writable = true,
                Err(_) => is_taken = oneshot::channel().1,
            },
            place = outgoing.reserve(), if has_next => match place {
                Ok(place) => {
                    if let Some(request) = driver.tell(|client, now| client.next(server, now)) {
                        place.send(V::request(&request, &driver.node));
                    }
                }
                // The sending half broke; why is for the receiving one to tell.
                Err(_) => writable = false,
            },
            // Cannot fail: the driver holds the sender.
            _ = changed.changed() => {}
        }
    }
}

pub(super) async fn next<T>(responses: &mut Option<Streaming<T>>) -> Result<Option<T>, Status> {
    match responses {
        Some(responses) => responses.message().await,
        None => std::future::pending().await,
    }
}

/// A failure with its causes; those that only repeat what was told are left out.
pub(super) fn told(status: &Status) -> String {
    let mut text = format!("{}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// The messages of a stream; says when the first is asked for.
pub(super) struct Outgoing<T> {
    messages: mpsc::Receiver<T>,
    taken: Option<oneshot::Sender<()>>,
}

impl<T> Outgoing<T> {
    pub(super) fn new(messages: mpsc::Receiver<T>) -> Self {
        Self {
            messages,
            taken: None,
        }
    }

    fn told(messages: mpsc::Receiver<T>) -> (Self, oneshot::Receiver<()>) {
        let (taken, is_taken) = oneshot::channel();
        let taken = Some(taken);
        (Self { messages, taken }, is_taken)
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(taken) = self.taken.take() {
            // Whoever listened may have given the stream up.
            let _ = taken.send(());
        }
        self.messages.poll_recv(cx)
    }
}

/// One connection to a server as tonic wants it.
pub(super) struct Wire {
    connections: Arc<Connections>,
    pub(super) origin: Uri,
    /// Headers that show who this client is: tokens, and whose they are.
    shown: Vec<(HeaderName, HeaderValue)>,
}

impl Wire {
    pub(super) async fn new(driver: &Driver, server: &Server, pace: Pace) -> std::io::Result<Self> {
        let connections = Connections::new(
            server.address.clone(),
            Arc::new(settings(pace.keepalive())),
            pace.over(secure::connector(&driver.connector, server)),
            Arc::new(Unlimited),
        );
        let tokens = secure::tokens(&server.tokens).await?;
        let cluster = secure::cluster(driver.node()).filter(|_| !tokens.is_empty());
        let shown = tokens.into_iter();
        let shown = shown.map(|token| (header::AUTHORIZATION, token));
        let origin = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(server.authority.clone())
            .path_and_query("/")
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self {
            connections,
            origin,
            shown: shown.chain(cluster).collect(),
        })
    }
}

impl Service<Request<tonic::body::Body>> for Wire {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let mut request = request.map(Body::new);
        for (name, value) in &self.shown {
            request.headers_mut().append(name.clone(), value.clone());
        }
        let connections = self.connections.clone();
        Box::pin(async move {
            let sent = connections.send(request, ()).await;
            sent.map_err(|unanswered| unanswered.error)
        })
    }
}
