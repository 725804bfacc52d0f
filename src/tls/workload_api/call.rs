//! The stream of the Workload API: opened over a socket, read message by message.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::body::grpc;

const METHOD: &str = "http://workload-api/SpiffeWorkloadAPI/FetchX509SVID";
/// Without it an agent must refuse: a browser or a proxy cannot be talked into sending it
/// (SPIFFE Workload Endpoint §5).
const SECURITY: HeaderName = HeaderName::from_static("workload.spiffe.io");
/// The largest message, in bytes.
const LARGEST: usize = 4 << 20;
/// The frame of a message.
const FRAME: usize = 5;
/// How long it may take until the agent answers.
const OPENING: Duration = Duration::from_secs(20);
/// An agent is asked for a sign of life this often, and must give one in this time.
const PING: Duration = Duration::from_secs(30);

/// Where the agent is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

/// Why there is no stream any more.
#[derive(Debug, Error)]
pub(super) enum Ended {
    #[error("it cannot be connected to: {0}")]
    Connect(io::Error),
    #[error("it did not answer within {OPENING:?}")]
    Elapsed,
    #[error("the stream broke: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered HTTP {0} where gRPC was expected")]
    Status(StatusCode),
    #[error("it ended the stream")]
    Over,
    #[error("it denies this process an identity: {0}")]
    Denied(Box<str>),
    #[error("it does not understand the request: {0}")]
    Invalid(Box<str>),
    #[error("it ended the stream with gRPC status {code}: {message}")]
    Refused { code: Box<str>, message: Box<str> },
    #[error("it sent a message that is compressed or has more than {LARGEST} bytes")]
    Message,
}

/// An open stream.
pub(super) struct Stream {
    body: Incoming,
    buffer: BytesMut,
    /// Drives the connection, and ends with the stream.
    _connection: JoinSet<()>,
}

impl Stream {
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, Ended> {
        let opening = async {
            match endpoint {
                Endpoint::Tcp(address) => {
                    let stream = tokio::net::TcpStream::connect(address).await;
                    Self::over(stream.map_err(Ended::Connect)?).await
                }
                #[cfg(unix)]
                Endpoint::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await;
                    Self::over(stream.map_err(Ended::Connect)?).await
                }
                #[cfg(not(unix))]
                Endpoint::Unix(_) => Err(Ended::Connect(io::ErrorKind::Unsupported.into())),
            }
        };
        let opened = tokio::time::timeout(OPENING, opening).await;
        opened.unwrap_or(Err(Ended::Elapsed))
    }

    async fn over<S>(stream: S) -> Result<Self, Ended>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            // What breaks it breaks the stream, which tells.
            let _ = connection.await;
        });
        let body = grpc::framed(&[]).ok_or(Ended::Message)?;
        let request = Request::post(METHOD)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(SECURITY, HeaderValue::from_static("true"))
            .body(Full::<Bytes>::new(body))
            .map_err(broken)?;
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(broken)?
            .into_parts();
        if head.status != StatusCode::OK {
            return Err(Ended::Status(head.status));
        }
        if head.headers.contains_key("grpc-status") {
            return Err(ended(&head.headers));
        }
        Ok(Self {
            body,
            buffer: BytesMut::new(),
            _connection: driving,
        })
    }

    /// The next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, Ended> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(message);
            }
            match self.body.frame().await {
                None => return Err(Ended::Over),
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Err(ended(&trailers));
                    }
                },
            }
        }
    }

    /// A message that is whole.
    fn message(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some(head) = self.buffer.first_chunk::<FRAME>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 || length > LARGEST {
            return Err(Ended::Message);
        }
        if self.buffer.len() < FRAME + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// What the status of an ended stream means.
fn ended(trailers: &HeaderMap) -> Ended {
    let text = |name: &str| -> Box<str> {
        let value = trailers.get(name).map(HeaderValue::as_bytes);
        let text = String::from_utf8_lossy(value.unwrap_or_default());
        text.chars().take(256).collect::<String>().into()
    };
    let message = text("grpc-message");
    match &*text("grpc-status") {
        "0" => Ended::Over,
        "3" => Ended::Invalid(message),
        "7" => Ended::Denied(message),
        code => Ended::Refused {
            code: code.into(),
            message,
        },
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Ended {
    Ended::Broken(error.into())
}
