//! Connections in memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::Backend;
use crate::body::Body;
use crate::model::endpoint::Address;
use crate::transport::{Connect, Connecting, Io, Settings};

/// How many bytes are on their way in one direction of a connection.
const PIPE: usize = 64 << 10;

/// 198.18.0.0/15 is reserved for benchmarks (RFC 2544): nobody serves there.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 1]);
const PORT: u16 = 80;

/// All backends and their connections.
#[derive(Debug, Default)]
pub(super) struct Network {
    // Both locked for a few instructions, by the test and by dials.
    backends: Mutex<Vec<Backend>>,
    connections: Mutex<JoinSet<()>>,
}

impl Network {
    pub(super) fn add(&self, host: String) -> Backend {
        let mut backends = lock(&self.backends);
        // Memory ends before the addresses do.
        let number = FIRST.wrapping_add(backends.len() as u32);
        let address = SocketAddr::from((Ipv4Addr::from(number), PORT));
        let backend = Backend::new(host, address);
        backends.push(backend.clone());
        backend
    }

    pub(super) fn backends(&self) -> Vec<Backend> {
        lock(&self.backends).clone()
    }

    /// Ends all connections.
    pub(super) fn end(&self) {
        lock(&self.connections).abort_all();
    }

    fn connect(&self, address: &Address) -> io::Result<DuplexStream> {
        let of = |backend: &&Backend| *address == Address::Socket(backend.address());
        let Some(backend) = lock(&self.backends).iter().find(of).cloned() else {
            let text = format!("no backend of this world has the address {address}");
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
        };
        if !*backend.up().borrow() {
            let text = format!("the backend {} is down", backend.host());
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
        }
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let mut connections = lock(&self.connections);
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(backend, theirs));
        Ok(ours)
    }
}

/// Serves a connection until its other end is gone or the backend is down.
async fn serve(backend: Backend, stream: DuplexStream) {
    let mut up = backend.up();
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        backend.clone().answer(request.map(Body::new))
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new());
    let serving = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::select! {
        // A backend that is down answers nothing, also not what has arrived by then.
        biased;
        _ = up.wait_for(|up| !*up) => {}
        // How a connection failed is for the mesh to tell.
        _ = serving => {}
    }
}

/// The mesh's way into the network. It is weak, so that no mesh keeps a world alive.
#[derive(Debug)]
pub(super) struct Connector(Weak<Network>);

impl Connector {
    pub(super) fn new(network: &Arc<Network>) -> Self {
        Self(Arc::downgrade(network))
    }
}

impl Connect for Connector {
    fn connect(&self, address: &Address, _: &Settings) -> Connecting {
        let ended = || io::Error::new(io::ErrorKind::ConnectionRefused, "the world has ended");
        let dialled = match self.0.upgrade() {
            Some(network) => network.connect(address),
            None => Err(ended()),
        };
        Box::pin(async move { dialled.map(Io::boxed) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
