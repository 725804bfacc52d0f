//! An HTTP/2 peer that does exactly what a test says, frame by frame (RFC 9113 §4 and §6).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u8 = 3;

pub(crate) struct Peer<T = DuplexStream> {
    io: T,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        assert_eq!(self.kind, RST_STREAM);
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// A header block: fields literal and not indexed (RFC 7541 §6.2.2), as they are given.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A longer one would need another form of its length.
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|length| *length < 127)
                    .unwrap(),
            );
            block.extend(text.as_bytes());
        }
    }
    block
}

impl<T: AsyncRead + AsyncWrite + Unpin> Peer<T> {
    /// Begins as a client: the preface and SETTINGS.
    pub(crate) async fn call(mut io: T) -> Self {
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut peer = Self { io };
        peer.settings(100).await;
        peer
    }

    /// Sends a request without a body.
    pub(crate) async fn send(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let flags = END_STREAM | END_HEADERS;
        self.write(HEADERS, flags, stream, &block(fields)).await;
    }

    /// Reads the client's preface and sends SETTINGS.
    pub(crate) async fn accept(mut io: T, streams: u32) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut peer = Self { io };
        peer.settings(streams).await;
        peer
    }

    pub(crate) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A client that has hung up is part of some tests.
        let _ = self.io.write_all(&frame).await;
    }

    pub(crate) async fn settings(&mut self, streams: u32) {
        let mut payload = vec![0, MAX_CONCURRENT_STREAMS];
        payload.extend(streams.to_be_bytes());
        self.write(SETTINGS, 0, 0, &payload).await;
    }

    /// The next frame; `None` if the client hung up.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of this kind; meanwhile pings and settings are acknowledged.
    pub(crate) async fn expect(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
            match frame.kind {
                PING if frame.flags & ACK == 0 => {
                    self.write(PING, ACK, 0, &frame.payload).await;
                }
                SETTINGS if frame.flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                _ => {}
            }
        }
    }

    /// The next frame of this kind; nothing is acknowledged.
    pub(crate) async fn expect_without_answers(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Waits for a request and returns its stream.
    pub(crate) async fn request(&mut self) -> u32 {
        self.expect(HEADERS).await.expect("a request").stream
    }

    /// `200` without a body.
    pub(crate) async fn respond(&mut self, stream: u32) {
        self.write(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88])
            .await;
    }

    /// `200` with a body to come.
    pub(crate) async fn respond_head(&mut self, stream: u32) {
        self.write(HEADERS, END_HEADERS, stream, &[0x88]).await;
    }

    /// The end of a body: one header field, literal and not indexed (RFC 7541 §6.2.2).
    pub(crate) async fn trailers(&mut self, stream: u32, name: &str, value: &str) {
        let flags = END_STREAM | END_HEADERS;
        self.write(HEADERS, flags, stream, &block(&[(name, value)]))
            .await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, code: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads on, answering pings, until the client hangs up.
    pub(crate) async fn linger(mut self) {
        while self.expect(GOAWAY).await.is_some() {}
    }
}
