//! Whether the first bytes of a connection are TLS.
//!
//! Three bytes decide: a handshake record (22) of version 3 (RFC 8446 §5.1). No request of HTTP
//! begins so, and no ClientHello in another way. What was read is given back to whoever reads on.
//! A ClientHello may have any length and come in any number of pieces; none of that matters here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A handshake record.
const HANDSHAKE: u8 = 22;
/// The major version of all of TLS.
const VERSION: u8 = 3;
/// How many bytes are looked at.
const PREFIX: usize = 2;

/// What the other side begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begin {
    Other,
    /// Not enough to tell; nothing follows.
    Nothing,
    Tls,
}

/// A stream whose first bytes were looked at, and come again.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    prefix: [u8; PREFIX],
    read: usize,
    given: usize,
    /// How many bytes may still be read before the handshake is over.
    allowance: Option<usize>,
    inner: S,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// A stream that has not been looked at.
    pub(super) fn new(inner: S) -> Self {
        Self {
            prefix: [0; PREFIX],
            read: 0,
            given: 0,
            allowance: None,
            inner,
        }
    }

    /// Looks at the first bytes. Not cancel-safe: put a deadline around it and drop the stream.
    pub(super) async fn sniff(&mut self) -> io::Result<Begin> {
        while self.read < PREFIX {
            let Some(space) = self.prefix.get_mut(self.read..) else {
                break;
            };
            match self.inner.read(space).await? {
                0 => return Ok(Begin::Nothing),
                some => self.read += some,
            }
            if self.prefix[0] != HANDSHAKE {
                return Ok(Begin::Other);
            }
        }
        match self.prefix {
            [HANDSHAKE, VERSION] => Ok(Begin::Tls),
            _ => Ok(Begin::Other),
        }
    }

    /// Bounds what may be read from here on; `None` lifts the bound.
    pub(super) fn allow(&mut self, bytes: Option<usize>) {
        self.allowance = bytes;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.prefix.get(this.given..this.read)
            && !rest.is_empty()
        {
            let some = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..some]);
            this.given += some;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        if let Some(allowance) = &mut this.allowance {
            let read = buffer.filled().len() - before;
            match allowance.checked_sub(read) {
                Some(left) => *allowance = left,
                None => {
                    let text = "the peer sent more in its handshake than is allowed";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn the_first_bytes_decide_however_they_come_and_come_again() {
        for (row, pieces, expected) in [
            ("at once", &[&b"\x16\x03\x01rest"[..]][..], Begin::Tls),
            ("byte by byte", &[b"\x16", b"\x03", b"\x01rest"], Begin::Tls),
            ("HTTP/1.1", &[b"GET / HTTP/1.1"], Begin::Other),
            ("HTTP/2", &[b"PRI * HTTP/2.0"], Begin::Other),
            ("another version", &[b"\x16\x02rest"], Begin::Other),
            ("an end after one byte", &[b"\x16"], Begin::Nothing),
            ("nothing", &[], Begin::Nothing),
        ] {
            let (mut theirs, ours) = tokio::io::duplex(64);
            let writing = async {
                for piece in pieces {
                    theirs.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(theirs);
            };
            let reading = async {
                let mut stream = Rewound::new(ours);
                assert_eq!(stream.sniff().await.unwrap(), expected, "{row}");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, pieces.concat(), "{row}");
            };
            tokio::join!(writing, reading);
        }
    }

    #[tokio::test]
    async fn more_than_the_allowance_is_refused() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        theirs.write_all(b"\x16\x03four").await.unwrap();
        let mut stream = Rewound::new(ours);
        assert_eq!(stream.sniff().await.unwrap(), Begin::Tls);
        stream.allow(Some(4));
        let mut all = [0; 6];
        stream.read_exact(&mut all).await.unwrap();
        theirs.write_all(b"!").await.unwrap();
        let error = stream.read(&mut all).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
