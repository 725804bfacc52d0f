//! What does it say?

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use super::{BODY_LIMIT, Probe, Verdict};

/// Healthy if a connection can be made and the peer says what is expected.
///
/// Bytes are sent first, if there are any. Then the expected pieces have to come in their order,
/// with anything before, between and after them (Envoy's `tcp_health_check`). A connection that
/// fails or ends before that, or 64 KiB in which they are not, is unanswered. The connection is
/// dropped after each check.
///
/// ```
/// use std::net::SocketAddr;
///
/// use meshwork::layer::health::ExchangeProbe;
/// use tokio::net::TcpStream;
/// use tower::service_fn;
///
/// let address: SocketAddr = ([127, 0, 0, 1], 6379).into();
/// let probe = ExchangeProbe::new(service_fn(TcpStream::connect::<SocketAddr>), address)
///     .send("PING\r\n")
///     .receive(["PONG"]);
/// ```
#[derive(Clone)]
pub struct ExchangeProbe<C, T> {
    connector: C,
    target: T,
    send: Bytes,
    receive: Vec<Bytes>,
}

impl<C, T> ExchangeProbe<C, T> {
    /// A probe that connects to `target` and expects nothing yet.
    pub fn new(connector: C, target: T) -> Self {
        Self {
            connector,
            target,
            send: Bytes::new(),
            receive: Vec::new(),
        }
    }

    /// What is sent once connected.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Bytes>) -> Self {
        self.send = bytes.into();
        self
    }

    /// What has to come back, in this order.
    #[must_use]
    pub fn receive<I>(mut self, pieces: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        self.receive = pieces.into_iter().map(Into::into).collect();
        self
    }

    async fn exchange<S>(&self, stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = stream;
        let mut stream = Pin::new(&mut stream);
        let mut rest = &self.send[..];
        while !rest.is_empty() {
            match poll_fn(|cx| stream.as_mut().poll_write(cx, rest)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
        poll_fn(|cx| stream.as_mut().poll_flush(cx)).await?;
        let (mut said, mut chunk) = (Vec::new(), [0; 1_024]);
        while !in_order(&self.receive, &said) {
            let mut buffer = ReadBuf::new(&mut chunk);
            poll_fn(|cx| stream.as_mut().poll_read(cx, &mut buffer)).await?;
            if buffer.filled().is_empty() || said.len() > BODY_LIMIT {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            said.extend_from_slice(buffer.filled());
        }
        Ok(())
    }
}

/// Whether the pieces are in `said`, one after the other.
fn in_order(pieces: &[Bytes], said: &[u8]) -> bool {
    let mut rest = said;
    pieces
        .iter()
        .filter(|piece| !piece.is_empty())
        .all(|piece| {
            let mut windows = rest.windows(piece.len());
            match windows.position(|window| window == piece) {
                Some(at) => {
                    rest = &rest[at + piece.len()..];
                    true
                }
                None => false,
            }
        })
}

impl<C, T> Probe for ExchangeProbe<C, T>
where
    C: Service<T> + Send + Sync,
    C::Future: Send,
    C::Response: AsyncRead + AsyncWrite + Unpin + Send,
    C::Error: Send,
    T: Clone + Send + Sync,
{
    async fn probe(&mut self) -> Verdict {
        let ready = poll_fn(|cx| self.connector.poll_ready(cx)).await;
        if ready.is_err() {
            return Verdict::Unanswered;
        }
        let Ok(stream) = self.connector.call(self.target.clone()).await else {
            return Verdict::Unanswered;
        };
        match self.exchange(stream).await {
            Ok(()) => Verdict::Healthy,
            Err(_) => Verdict::Unanswered,
        }
    }
}

impl<C, T: fmt::Debug> fmt::Debug for ExchangeProbe<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeProbe")
            .field("target", &self.target)
            .field("send", &self.send)
            .field("receive", &self.receive)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_in_their_order_only() {
        for (pieces, said, found) in [
            (&[][..], "", true),
            (&["PONG"], "+PONG\r\n", true),
            (&["PONG"], "+PON", false),
            (&["a", "b"], "xaxbx", true),
            (&["b", "a"], "xaxbx", false),
            (&["aa", "aa"], "aaa", false),
            (&["aa", "aa"], "aaaa", true),
            (&[""], "", true),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| Bytes::from(*piece)).collect();
            assert_eq!(
                in_order(&pieces, said.as_bytes()),
                found,
                "{pieces:?} in {said}"
            );
        }
    }
}
