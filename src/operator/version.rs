//! Which version of HTTP a connection speaks, found out in time.
//!
//! HTTP/2 begins with 24 bytes that no request of HTTP/1.1 begins with (RFC 9113 §3.4), so whoever serves both reads
//! until one of the two is certain. A caller that sends some of these bytes and then nothing (or nothing
//! at all) would be waited for without an end: the timers of either version begin when it is known which
//! one it is. So the look has a deadline of its own, and what was read is given back to whoever reads on.

use std::io;
use std::time::Duration;

use tokio::io::AsyncRead;

use crate::tls::Rewound;

/// How HTTP/2 begins, and how long that is.
const PREFACE: [u8; LENGTH] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LENGTH: usize = 24;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// Or nothing that is known: HTTP/1.1 has words for what it cannot read.
    Http1,
    Http2,
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
) -> io::Result<(Version, Rewound<S, LENGTH>)> {
    let mut begun = Rewound::new(inner);
    let version = tokio::time::timeout(patience, look(&mut begun)).await;
    let version = version.map_err(|_| {
        let text = format!("the caller did not begin with a version of HTTP within {patience:?}");
        io::Error::new(io::ErrorKind::TimedOut, text)
    })??;
    Ok((version, begun))
}

async fn look<S: AsyncRead + Unpin>(begun: &mut Rewound<S, LENGTH>) -> io::Result<Version> {
    loop {
        match PREFACE.strip_prefix(begun.seen()) {
            None => return Ok(Version::Http1),
            Some([]) => return Ok(Version::Http2),
            Some(_) => {}
        }
        if !begun.look().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
