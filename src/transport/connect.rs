//! How a connection's byte stream comes to be.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{Settings, proxy, race};
use crate::model::cluster::{Connection, ProxyProtocol, TcpKeepalive};
use crate::model::endpoint::Address;

/// What [`Connect::connect`] returns.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

/// Opens byte streams to addresses. Tests bring their own, over memory.
///
/// Boxed futures are no cost that matters: one per connection.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream to `address`. The future is dropped when [`Settings::connect_timeout`] has
    /// passed or the endpoint is closed; it has to clean up after itself then.
    ///
    /// # Errors
    ///
    /// The error of the operating system; it becomes the cause of the request's error.
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting;
}

/// A byte stream to an endpoint.
///
/// An enum, so that the common kinds cost no virtual call for each read and write.
#[derive(Debug)]
#[non_exhaustive]
pub enum Io {
    /// Anything else: memory in tests, TLS, a tunnel.
    Boxed(Box<dyn Stream>),
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix domain socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Io {
    /// Takes over any other stream, such as one half of [`tokio::io::duplex`].
    ///
    /// ```
    /// let (ours, _theirs) = tokio::io::duplex(1_024);
    /// let _io = meshwork::transport::Io::boxed(ours);
    /// ```
    pub fn boxed(stream: impl Stream) -> Self {
        Self::Boxed(Box::new(stream))
    }
}

/// What [`Io::boxed`] asks of a stream.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static> Stream for S {}

/// TCP and Unix sockets of the operating system.
///
/// TCP streams send at once (no Nagle), have keepalive probes as
/// [`Connection::tcp_keepalive`](crate::model::cluster::Connection::tcp_keepalive) says, and on Linux give
/// up when sent bytes stay unacknowledged for the interval and timeout of
/// [`Connection::http2_keepalive`](crate::model::cluster::Connection::http2_keepalive) together
/// (`TCP_USER_TIMEOUT`, as gRPC does in its proposal A18): without that a peer that vanished holds
/// an HTTP/1.1 call for a quarter of an hour.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connect for TcpConnector {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let tuning = Tuning::of(settings);
        match address {
            Address::Name { host, port } => {
                let (host, port) = (host.clone(), *port);
                let (families, within) = (settings.families, settings.connect_timeout);
                Box::pin(async move {
                    let began = Instant::now();
                    // The system's resolver, asked for each connection.
                    let found = tokio::net::lookup_host((&*host, port)).await?.collect();
                    let found = race::interleave(families.of(found, SocketAddr::ip));
                    let left = within.saturating_sub(began.elapsed());
                    race::first(found, left, |address| tcp(address, tuning)).await
                })
            }
            Address::Several(addresses) => {
                let addresses = race::in_turn(addresses.all().collect());
                let dial = move |address| tcp(address, tuning);
                Box::pin(race::first(addresses, settings.connect_timeout, dial))
            }
            Address::Socket(address) => {
                let address = *address;
                Box::pin(async move { tcp(address, tuning).await })
            }
            Address::Unix(path) => unix(path.clone(), tuning),
        }
    }
}

/// What is set on a TCP stream.
#[derive(Clone, Copy)]
struct Tuning {
    keepalive: Option<TcpKeepalive>,
    /// How long sent bytes may stay unacknowledged.
    unacknowledged: Option<Duration>,
    /// What is sent first.
    proxy: Option<ProxyProtocol>,
}

impl Tuning {
    fn of(settings: &Settings) -> Self {
        let Connection {
            http2_keepalive,
            tcp_keepalive,
            proxy_protocol,
            ..
        } = settings.connection;
        Self {
            keepalive: tcp_keepalive,
            proxy: proxy_protocol,
            unacknowledged: http2_keepalive.map(|ping| ping.interval.saturating_add(ping.timeout)),
        }
    }
}

async fn tcp(address: SocketAddr, tuning: Tuning) -> io::Result<Io> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    tune(&stream, tuning)?;
    if let Some(version) = tuning.proxy {
        let ends = Some((stream.local_addr()?, stream.peer_addr()?));
        proxy::announce(&mut stream, version, ends).await?;
    }
    Ok(Io::Tcp(stream))
}

#[cfg(unix)]
fn unix(path: std::sync::Arc<std::path::Path>, tuning: Tuning) -> Connecting {
    Box::pin(async move {
        let mut stream = UnixStream::connect(path).await?;
        if let Some(version) = tuning.proxy {
            proxy::announce(&mut stream, version, None).await?;
        }
        Ok(Io::Unix(stream))
    })
}

#[cfg(not(unix))]
fn unix(path: std::sync::Arc<std::path::Path>, _: Tuning) -> Connecting {
    Box::pin(async move {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "unix:{}: this system has no Unix domain sockets",
                path.display()
            ),
        ))
    })
}

/// The longest time that systems take for keepalive: `TCP_KEEPIDLE` is at most 32,767 s on Linux.
const LONGEST: Duration = Duration::from_secs(32_767);
/// Zero is refused by the kernel, or means "off".
const SHORTEST: Duration = Duration::from_secs(1);

fn tune(stream: &TcpStream, tuning: Tuning) -> io::Result<()> {
    let Tuning {
        keepalive,
        unacknowledged,
        proxy: _,
    } = tuning;
    let socket = SockRef::from(stream);
    if let Some(TcpKeepalive {
        probes,
        time,
        interval,
    }) = keepalive
    {
        let mut wish = socket2::TcpKeepalive::new();
        if let Some(time) = time {
            wish = wish.with_time(time.clamp(SHORTEST, LONGEST));
        }
        if let Some(interval) = interval {
            wish = wish.with_interval(interval.clamp(SHORTEST, LONGEST));
        }
        if let Some(probes) = probes {
            // 127 is the most that Linux takes.
            wish = wish.with_retries(probes.clamp(1, 127));
        }
        socket.set_tcp_keepalive(&wish)?;
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Some(unacknowledged) = unacknowledged {
        socket.set_tcp_user_timeout(Some(unacknowledged.clamp(SHORTEST, LONGEST)))?;
    }
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = unacknowledged;
    Ok(())
}

macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Boxed($stream) => $call,
            Io::Tcp($stream) => $call,
            #[cfg(unix)]
            Io::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }
}
