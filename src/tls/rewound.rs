//! A stream whose first bytes are looked at, and come again.
//!
//! Whoever serves two protocols on one port has to read before it is known who reads on. What was read is kept
//! here, in as many bytes as decide (`N`), and is given to the one that reads next.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// A stream of which up to `N` bytes may be looked at.
#[derive(Debug)]
pub(crate) struct Rewound<S, const N: usize> {
    first: [u8; N],
    read: usize,
    given: usize,
    /// How many bytes may still be read, beside those that were looked at.
    allowance: Option<usize>,
    inner: S,
}

impl<S, const N: usize> Rewound<S, N> {
    /// A stream that has not been looked at.
    pub(crate) fn new(inner: S) -> Self {
        Self {
            first: [0; N],
            read: 0,
            given: 0,
            allowance: None,
            inner,
        }
    }

    /// What was looked at.
    pub(crate) fn seen(&self) -> &[u8] {
        self.first.get(..self.read).unwrap_or_default()
    }

    /// Bounds what may be read from here on; `None` lifts the bound.
    pub(crate) fn allow(&mut self, bytes: Option<usize>) {
        self.allowance = bytes;
    }
}

impl<S: AsyncRead + Unpin, const N: usize> Rewound<S, N> {
    /// Looks at what comes next; `false`: nothing does, or `N` bytes were seen. Cancel-safe. It waits for as
    /// long as the other side does: put a deadline around it.
    ///
    /// # Errors
    /// If the stream breaks.
    pub(crate) async fn look(&mut self) -> io::Result<bool> {
        let space = self.first.get_mut(self.read..).unwrap_or_default();
        let some = self.inner.read(space).await?;
        self.read += some;
        Ok(some > 0)
    }
}

impl<S: AsyncRead + Unpin, const N: usize> AsyncRead for Rewound<S, N> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.first.get(this.given..this.read).unwrap_or_default();
        if !rest.is_empty() {
            let (some, _) = rest.split_at(rest.len().min(buffer.remaining()));
            buffer.put_slice(some);
            this.given += some.len();
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

impl<S: AsyncWrite + Unpin, const N: usize> AsyncWrite for Rewound<S, N> {
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
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn what_was_looked_at_comes_again_in_whatever_pieces_it_is_read() {
        for looks in 0..4 {
            let (mut theirs, ours) = tokio::io::duplex(64);
            theirs.write_all(b"hello world").await.unwrap();
            drop(theirs);
            let mut stream = Rewound::<_, 3>::new(ours);
            for look in 0..looks {
                assert_eq!(stream.look().await.unwrap(), look == 0, "{looks}");
            }
            let seen: &[u8] = if looks == 0 { b"" } else { b"hel" };
            assert_eq!(stream.seen(), seen);
            let mut all = Vec::new();
            for _ in 0..11 {
                all.push(stream.read_u8().await.unwrap());
            }
            assert_eq!(
                (&all[..], stream.read(&mut [0]).await.unwrap()),
                (&b"hello world"[..], 0)
            );
        }
    }

    #[tokio::test]
    async fn more_than_the_allowance_is_refused() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        theirs.write_all(b"\x16\x03four").await.unwrap();
        let mut stream = Rewound::<_, 2>::new(ours);
        assert!(stream.look().await.unwrap());
        stream.allow(Some(4));
        let mut all = [0; 6];
        stream.read_exact(&mut all).await.unwrap();
        theirs.write_all(b"!").await.unwrap();
        let error = stream.read(&mut all).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
