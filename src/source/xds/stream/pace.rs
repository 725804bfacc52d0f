//! How often a silent connection to a control plane is asked whether it is there.
//!
//! A discovery stream is silent for hours, so a peer that vanished without a word (a host that lost
//! power, a firewall that forgot the flow) is found out by HTTP/2 PINGs only: one after ten seconds
//! of silence, five for its answer, as for endpoints. Servers made with grpc-go take that amiss unless
//! they were told to permit it: their default is one PING in five minutes, and a client that
//! sends more is sent away with `ENHANCE_YOUR_CALM` (gRFC A8). What a server permits cannot be known
//! before it complains, so the first complaint slows this client down to what every server permits,
//! for as long as its mesh lives, and towards that server alone. It costs one reconnect; what is in
//! force stays.
//!
//! hyper tells nobody with which code a connection was ended when its streams were within the
//! GOAWAY's last id, so the frames that arrive are looked at on their way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::model::cluster::Keepalive;
use crate::model::endpoint::Address;
use crate::transport::{Connect, Connecting, Io, Settings};

/// What every server permits.
const SELDOM: Keepalive = Keepalive {
    interval: Duration::from_secs(5 * 60),
    timeout: Duration::from_secs(20),
};
/// What finds a peer that vanished within 15 s.
const OFTEN: Keepalive = Keepalive {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(5),
};

/// The pace of one server. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    complained: Arc<AtomicBool>,
}

impl Pace {
    pub(super) fn keepalive(&self) -> Keepalive {
        match self.complained.load(Relaxed) {
            true => SELDOM,
            false => OFTEN,
        }
    }

    /// The same connections, whose peers' complaints are heard.
    pub(super) fn over(&self, inner: Arc<dyn Connect>) -> Arc<dyn Connect> {
        Arc::new(Heard {
            inner,
            pace: self.clone(),
        })
    }
}

/// A way to connect whose streams are looked at.
#[derive(Debug)]
struct Heard {
    inner: Arc<dyn Connect>,
    pace: Pace,
}

impl Connect for Heard {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let connecting = self.inner.connect(address, settings);
        let pace = self.pace.clone();
        Box::pin(async move {
            Ok(Io::boxed(Watched {
                io: connecting.await?,
                frames: Frames::default(),
                pace,
            }))
        })
    }
}

/// A stream of HTTP/2 frames whose GOAWAY is noticed.
#[derive(Debug)]
struct Watched {
    io: Io,
    frames: Frames,
    pace: Pace,
}

/// Where in the frames the next byte is.
#[derive(Debug, Default)]
struct Frames {
    /// The head of a frame, and of a GOAWAY also the fields of constant size behind it.
    head: Vec<u8>,
    /// Bytes of the frame that are passed over.
    rest: usize,
}

const HEAD: usize = 9;
/// Last stream and code.
const FIELDS: usize = 8;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 0xb;

impl Frames {
    /// Reads on; yields whether these bytes complete the complaint.
    fn complains(&mut self, mut bytes: &[u8]) -> bool {
        let mut complains = false;
        while !bytes.is_empty() {
            let passed = self.rest.min(bytes.len());
            self.rest -= passed;
            bytes = &bytes[passed..];
            let taken = self.missing().min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.missing() == 0 {
                complains |= self.take_head();
            }
        }
        complains
    }

    /// The length of the frame, if its head is whole, and how much of that is read with the head.
    fn length(&self) -> Option<(usize, usize)> {
        let [a, b, c, kind, ..] = *self.head.get(..HEAD)? else {
            return None;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let fields = if kind == GOAWAY && length >= FIELDS {
            FIELDS
        } else {
            0
        };
        Some((length, fields))
    }

    fn missing(&self) -> usize {
        let fields = self.length().map_or(0, |(_, fields)| fields);
        (HEAD + fields).saturating_sub(self.head.len())
    }

    /// Works off a head that is whole.
    fn take_head(&mut self) -> bool {
        let Some((length, fields)) = self.length() else {
            return false;
        };
        let code = self.head.last_chunk().map(|code| u32::from_be_bytes(*code));
        self.rest = length - fields;
        self.head.clear();
        fields > 0 && code == Some(ENHANCE_YOUR_CALM)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.frames.complains(&buffer.filled()[before..]) {
            self.pace.complained.store(true, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    fn goaway(code: u8, debug: &[u8]) -> Vec<u8> {
        frame(GOAWAY, &[&[0, 0, 0, 1, 0, 0, 0, code][..], debug].concat())
    }

    #[test]
    fn a_complaint_is_heard_in_whatever_pieces_it_comes_and_nothing_else_is_one() {
        let data = frame(0, &goaway(0xb, b"inside of data"));
        for (row, frames, expected) in [
            ("a complaint", vec![goaway(0xb, b"too_many_pings")], true),
            ("without a word", vec![goaway(0xb, b"")], true),
            (
                "behind others",
                vec![frame(4, &[]), data.clone(), goaway(0xb, b"")],
                true,
            ),
            (
                "before others",
                vec![goaway(0xb, b"too_many_pings"), frame(6, &[0; 8])],
                true,
            ),
            (
                "another code",
                vec![goaway(0, b""), frame(6, &[0; 8])],
                false,
            ),
            ("data only", vec![data], false),
            (
                "too short to be one",
                vec![frame(GOAWAY, &[0, 0, 0, 0xb]), frame(6, &[0xb; 8])],
                false,
            ),
        ] {
            let bytes = frames.concat();
            for size in 1..=bytes.len() {
                let mut frames = Frames::default();
                let mut heard = false;
                for piece in bytes.chunks(size) {
                    heard |= frames.complains(piece);
                }
                assert_eq!(heard, expected, "{row} in pieces of {size}");
                assert!(
                    frames.head.len() < HEAD + FIELDS && frames.rest == 0,
                    "{row}"
                );
            }
        }
    }

    #[test]
    fn the_first_complaint_slows_down() {
        let pace = Pace::default();
        assert_eq!(pace.keepalive(), OFTEN);
        pace.clone().complained.store(true, Relaxed);
        assert_eq!(pace.keepalive(), SELDOM);
    }
}
