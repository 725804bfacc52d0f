//! Which version of HTTP a connection speaks, found out in time.
//!
//! HTTP/2 begins with 24 bytes that no request of HTTP/1.1 begins with (RFC 9113 §3.4), so whoever serves both reads
//! until one of the two is certain. A caller that sends some of these bytes and then nothing (or nothing
//! at all) would be waited for without an end: the timers of either version begin when it is known which
//! one it is. So the look has a deadline of its own, and what was read is given back to whoever reads on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// How HTTP/2 begins.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// Or nothing that is known: HTTP/1.1 has words for what it cannot read.
    Http1,
    Http2,
}

/// A connection that has begun; its first bytes come again.
#[derive(Debug)]
pub(crate) struct Begun<S> {
    first: [u8; PREFACE.len()],
    read: usize,
    given: usize,
    inner: S,
}

/// Reads until it is certain what `inner` speaks.
///
/// Dropping the future drops the connection.
///
/// # Errors
/// If it is not certain within `patience`, if the connection ends before, or breaks.
pub(crate) async fn begin<S: AsyncRead + Unpin>(
    inner: S,
    patience: Duration,
) -> io::Result<(Version, Begun<S>)> {
    let mut begun = Begun {
        first: [0; PREFACE.len()],
        read: 0,
        given: 0,
        inner,
    };
    let version = tokio::time::timeout(patience, begun.look()).await;
    let version = version.map_err(|_| {
        let text = format!("the caller did not begin with a version of HTTP within {patience:?}");
        io::Error::new(io::ErrorKind::TimedOut, text)
    })??;
    Ok((version, begun))
}

impl<S: AsyncRead + Unpin> Begun<S> {
    async fn look(&mut self) -> io::Result<Version> {
        while let Some(space) = self.first.get_mut(self.read..)
            && !space.is_empty()
        {
            match self.inner.read(space).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                some => self.read += some,
            }
            if !PREFACE.starts_with(self.seen()) {
                return Ok(Version::Http1);
            }
        }
        Ok(Version::Http2)
    }

    fn seen(&self) -> &[u8] {
        self.first.get(..self.read).unwrap_or_default()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.first.get(this.given..this.read).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        let (some, _) = rest.split_at(rest.len().min(buffer.remaining()));
        buffer.put_slice(some);
        this.given += some.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
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

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_decide_however_they_come_and_come_again() {
        let preface = &PREFACE[..];
        for (row, pieces, expected) in [
            (
                "HTTP/1.1",
                &[&b"GET / HTTP/1.1\r\n"[..]][..],
                Version::Http1,
            ),
            (
                "another method with P",
                &[b"P", b"OST / HTTP/1.1\r\n"],
                Version::Http1,
            ),
            (
                "nearly",
                &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r.more"],
                Version::Http1,
            ),
            ("HTTP/2", &[preface, b"frames"], Version::Http2),
            (
                "in pieces",
                &[&preface[..1], &preface[1..23], &preface[23..]],
                Version::Http2,
            ),
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
                let (version, mut begun) = begin(ours, PATIENCE).await.unwrap();
                assert_eq!(version, expected, "{row}");
                let mut all = Vec::new();
                begun.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, pieces.concat(), "{row}");
            };
            tokio::join!(writing, reading);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_within_the_preface_is_let_go() {
        for length in 0..PREFACE.len() {
            let (mut theirs, ours) = tokio::io::duplex(64);
            theirs.write_all(&PREFACE[..length]).await.unwrap();
            let start = tokio::time::Instant::now();
            let error = begin(ours, PATIENCE).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{length}");
            assert_eq!(start.elapsed(), PATIENCE, "{length}");
        }
        let (mut theirs, ours) = tokio::io::duplex(64);
        theirs.write_all(b"PRI").await.unwrap();
        drop(theirs);
        let error = begin(ours, PATIENCE).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
