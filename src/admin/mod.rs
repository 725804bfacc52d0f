//! A running process, asked over HTTP.
//!
//! The paths are those of Envoy's admin interface, so that what people know of sidecars and what
//! their tools scrape goes on working: `/ready`, `/stats`, `/stats/prometheus`, `/clusters`,
//! `/config_dump`, `/certs`; beside them `/explain`. It is opt-in, answers reads alone and changes nothing,
//! which is why it needs no authentication of its own on the loopback interface. It shows no secrets:
//! header values that a route sets are shown unless the header is one that carries credentials.
//!
//! A page in a browser on the same machine could talk to a loopback address by a name that it
//! controls (DNS rebinding), so a loopback listener answers only for `localhost` and addresses.
//!
//! The server is hyper's, by hand: 64 connections, ten seconds for a request's head, one task that
//! owns all of them and ends with its mesh.

mod answer;
mod certs;
mod dump;
mod json;
mod logging;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::outbound::Core;

/// How many connections are served at once; more wait in the system's queue.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and a connection be without one.
const HEAD: Duration = Duration::from_secs(10);
/// How long nothing is accepted after accepting failed: mostly there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked. It holds nothing alive: each question is answered by whoever is there then.
pub(crate) trait Inspect: Send + Sync + 'static {
    /// The mesh; `None` when it is gone.
    fn core(&self) -> Option<Arc<Core>>;
    /// Its metrics in Prometheus' text.
    fn metrics(&self) -> Option<String>;
    /// What would become of a request, for people.
    fn explain(&self, request: &Request<()>) -> Option<String>;
}

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, inspect: Arc<dyn Inspect>) {
    let local = listener.local_addr();
    let loopback = local.is_ok_and(|address| address.ip().is_loopback());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let inspect = inspect.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer::answer(&*inspect, &request.map(drop), loopback);
                        std::future::ready(Ok::<_, Infallible>(answer))
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD)
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        // What breaks here breaks for the one who asked, who sees it.
                        let _ = connection.await;
                    });
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
