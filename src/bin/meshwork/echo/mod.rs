//! An echo server: a backend that tells what arrived, and misbehaves on demand.
//!
//! Demos, debugging and black-box tests need a backend that shows the mesh's work from the other
//! side: which version answered, which headers were added, which attempt this is. One port
//! serves HTTP/1.1, HTTP/2 and gRPC, told apart by the connection's first bytes and the content
//! type, so that one address stands for a backend whatever protocol a test is about.
//!
//! It is built on hyper's connections instead of tonic's or axum's server, because only there can a
//! request be left without a response: that resets its stream, which `--reset-rate` is for.
//!
//! [`serve`] is separate from the command line ([`Args`], [`run`]) so that a process can run
//! several echoes, and change how each behaves while it serves ([`Behaviour`]).

mod args;
mod behaviour;
mod meshed;
mod seen;
mod service;
mod speaker;
mod wire;

/// Generated from `proto/meshwork/echo/v1/echo.proto`; a test keeps it so.
#[allow(dead_code, reason = "a binary uses the server, not the client")]
#[allow(unreachable_pub, clippy::pedantic, reason = "generated")]
pub(crate) mod proto {
    include!("meshwork.echo.v1.rs");

    /// The descriptors of the same, for reflection.
    pub(super) const DESCRIPTORS: &[u8] = include_bytes!("descriptor.bin");
}

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use meshwork::Mesh;
use meshwork::inbound::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub(crate) use self::args::{Args, run};
pub(crate) use self::behaviour::{Behaviour, Conduct, Share};
use self::proto::echo_server::SERVICE_NAME;
use self::service::Service;
use self::wire::{Abort, Wire};

/// The most connections at a time; further ones wait in the listener's queue.
const CONNECTION_LIMIT: usize = 10_000;

/// How long an HTTP/1.1 connection may wait for a request head: Envoy's idle timeout for its
/// upstream connections, so that the peer is the one that closes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long to wait after a listener refused to accept, or an address to be listened on again.
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// What an echo is.
#[derive(Debug)]
pub(crate) struct Options {
    /// What it calls itself.
    pub(crate) name: Arc<str>,
    /// How it treats requests.
    pub(crate) behaviour: Arc<Behaviour>,
    /// How long a drain waits for requests in flight.
    pub(crate) drain: Duration,
}

/// Serves on `listener` until `shutdown` ends, then drains; returns how many connections did not
/// end within [`Options::drain`] and were cut.
///
/// Every connection is a task of this future. Dropping it cuts them all, without a drain.
///
/// # Errors
///
/// The listener has no address, or the committed descriptors are broken.
pub(crate) async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<usize> {
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let (health, tools) = tools().await?;
    let behaviour = options.behaviour.clone();
    let mut house = House {
        service: Arc::new(Service {
            name: options.name,
            behaviour: options.behaviour,
            tools,
        }),
        connections: JoinSet::new(),
        graceful: GracefulShutdown::new(),
    };

    tokio::select! {
        () = shutdown => {}
        never = house.stay(listener, address, &behaviour) => match never {},
    }
    for service in ["", SERVICE_NAME] {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
    Ok(house.drain(options.drain).await)
}

/// As [`serve`], at a port of a mesh.
///
/// # Errors
///
/// The committed descriptors are broken.
async fn serve_behind(
    mesh: &Mesh,
    listener: Listener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<usize> {
    let (_health, tools) = tools().await?;
    let service = Service {
        name: options.name,
        behaviour: options.behaviour,
        tools,
    };
    Ok(meshed::serve(mesh, listener, service, options.drain, shutdown).await)
}

/// Health and reflection, and the means to change the former.
async fn tools() -> anyhow::Result<(HealthReporter, Routes)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status(SERVICE_NAME, ServingStatus::Serving)
        .await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(
            reflection()
                .build_v1()
                .context("descriptor.bin is broken")?,
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .context("descriptor.bin is broken")?,
        );
    Ok((health, routes.routes().prepare()))
}

/// A server's connections.
struct House {
    service: Arc<Service>,
    connections: JoinSet<()>,
    graceful: GracefulShutdown,
}

impl House {
    /// Serves whenever the behaviour is not `down`. Cancel-safe: connections stay with `self`, the
    /// listener is closed.
    async fn stay(
        &mut self,
        mut listener: TcpListener,
        address: SocketAddr,
        behaviour: &Behaviour,
    ) -> std::convert::Infallible {
        let mut conduct = behaviour.watch();
        loop {
            tokio::select! {
                // The sender lives in `behaviour`, so this ends only when the value holds.
                _ = conduct.wait_for(|conduct| conduct.down) => {}
                never = self.accept(&listener) => match never {},
            }
            drop(listener);
            self.connections.shutdown().await;
            let _ = conduct.wait_for(|conduct| !conduct.down).await;
            listener = listen_again(address).await;
        }
    }

    /// Accepts connections for ever.
    async fn accept(&mut self, listener: &TcpListener) -> std::convert::Infallible {
        loop {
            tokio::select! {
                accepted = listener.accept(), if self.connections.len() < CONNECTION_LIMIT => {
                    match accepted {
                        Ok((stream, _)) => self.welcome(stream),
                        // No file descriptor, or a client that left again: both pass.
                        Err(_) => tokio::time::sleep(LISTEN_PAUSE).await,
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    /// Serves one connection in a task of its own.
    fn welcome(&mut self, stream: TcpStream) {
        // Without it, small answers wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let abort = Abort::default();
        let io = TokioIo::new(Wire::new(stream, abort.clone()));
        let service = self.service.clone();
        let answer = service_fn(move |request| {
            let (service, abort) = (service.clone(), abort.clone());
            async move { service.answer(request, &abort).await }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        builder.http2().timer(TokioTimer::new());
        let connection = builder.serve_connection(io, answer).into_owned();
        let connection = self.graceful.watch(connection);
        self.connections.spawn(async move {
            // A connection that fails concerns its client, who is told by the failure itself.
            let _ = connection.await;
        });
    }

    /// Ends all connections: GOAWAY and `connection: close` first, then by force.
    async fn drain(mut self, patience: Duration) -> usize {
        let finished = tokio::time::timeout(patience, self.graceful.shutdown()).await;
        while self.connections.try_join_next().is_some() {}
        let cut = if finished.is_ok() {
            0
        } else {
            self.connections.len()
        };
        self.connections.shutdown().await;
        cut
    }
}

/// Listens on the address that an echo had before it was down; tries until it is free.
async fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        let bound: io::Result<TcpListener> = TcpListener::bind(address).await;
        match bound {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(LISTEN_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    async fn get(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn behaviour_changes_while_serving() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let dice = meshwork::Random::seeded(1);
        let behaviour = Arc::new(Behaviour::new(Conduct::default(), dice));
        let options = Options {
            name: "v1".into(),
            behaviour: behaviour.clone(),
            drain: Duration::from_secs(5),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, options, async {
            let _ = stopped.await;
        }));

        let answer = get(address).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        behaviour.change(|conduct| conduct.fail = Share::ALL);
        let answer = get(address).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");

        let mut idle = TcpStream::connect(address).await.expect("the port is open");
        behaviour.change(|conduct| {
            *conduct = Conduct {
                down: true,
                ..Conduct::default()
            }
        });
        let mut rest = Vec::new();
        // Ends, as data or as an error, only because the connection was cut.
        let _ = idle.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        let refused = get(address).await.expect_err("the port is closed");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        behaviour.change(|conduct| conduct.down = false);
        let back = async {
            loop {
                if let Ok(answer) = get(address).await {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), back)
            .await
            .expect("it is back");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        drop(stop);
        let cut = server.await.expect("no panic").expect("a clean end");
        assert_eq!(cut, 0);
    }
}
