//! Whether the first bytes of a connection are TLS.
//!
//! Three bytes decide: a handshake record (22) of version 3 (RFC 8446 §5.1). No request of HTTP
//! begins so, and no ClientHello in another way. What was read is given back to whoever reads on.
//! A ClientHello may have any length and come in any number of pieces; none of that matters here.

use std::io;

use tokio::io::AsyncRead;

use super::rewound::Rewound;

/// A handshake record.
const HANDSHAKE: u8 = 22;
/// The major version of all of TLS.
const VERSION: u8 = 3;
/// How many bytes are looked at.
pub(super) const PREFIX: usize = 2;

/// What the other side begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begin {
    Other,
    /// Not enough to tell; nothing follows.
    Nothing,
    Tls,
}

/// Looks at the first bytes. Put a deadline around it.
pub(super) async fn sniff<S>(stream: &mut Rewound<S, PREFIX>) -> io::Result<Begin>
where
    S: AsyncRead + Unpin,
{
    loop {
        match *stream.seen() {
            [HANDSHAKE, VERSION] => return Ok(Begin::Tls),
            [] | [HANDSHAKE] => {}
            _ => return Ok(Begin::Other),
        }
        if !stream.look().await? {
            return Ok(Begin::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
                assert_eq!(sniff(&mut stream).await.unwrap(), expected, "{row}");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, pieces.concat(), "{row}");
            };
            tokio::join!(writing, reading);
        }
    }
}
