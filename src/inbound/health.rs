//! Whether this process is alive and ready, for whoever probes it without an identity.
//!
//! A kubelet has no certificate, so a probe of a port that is STRICT fails, and exempting paths of such
//! a port would mean to parse requests of callers that nobody knows. So health has a port of its own,
//! which serves nothing else and which is visible in the manifest that names it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::body::Body;
use crate::outbound::Core;

/// How many probes are answered at once.
const MAX_PROBES: usize = 64;
/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(10);
/// How long accepting pauses when the system cannot give another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// A port for probes.
pub(crate) struct Health {
    tcp: TcpListener,
    core: Arc<Core>,
}

impl Health {
    pub(crate) async fn bind(
        address: impl tokio::net::ToSocketAddrs,
        core: Arc<Core>,
    ) -> io::Result<(Self, SocketAddr)> {
        let tcp = TcpListener::bind(address).await?;
        let local = tcp.local_addr()?;
        tracing::info!(%local, "health is answered in plaintext and without an identity");
        Ok((Self { tcp, core }, local))
    }

    /// Answers probes until it is dropped.
    pub(crate) async fn run(self) {
        let mut probes = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = probes.join_next() => {}
                accepted = self.tcp.accept(), if probes.len() < MAX_PROBES => match accepted {
                    Ok((stream, _)) => {
                        let core = self.core.clone();
                        probes.spawn(async move {
                            let _ = tokio::time::timeout(PROBE, probe(stream, core)).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept a probe: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

/// One request for each connection.
async fn probe(stream: tokio::net::TcpStream, core: Arc<Core>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &core);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PROBE)
        .keep_alive(false);
    // A probe that breaks off has nobody to tell.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer<B>(request: &Request<B>, core: &Core) -> Response<Body> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => (StatusCode::OK, "alive"),
        (&Method::GET | &Method::HEAD, "/readyz") => match not_ready(core) {
            None => (StatusCode::OK, "ready"),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ => (StatusCode::NOT_FOUND, "ask for /livez or /readyz"),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// Why callers should go elsewhere.
fn not_ready(core: &Core) -> Option<&'static str> {
    let credentials = core.environment.materials.mesh();
    if core.drain.is_draining() {
        Some("draining")
    } else if credentials.is_some_and(|own| own.identity().is_none()) {
        Some("there is no identity yet")
    } else {
        None
    }
}
