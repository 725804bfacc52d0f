//! One call from its beginning to the end of its answer, and what is worth counting of it.

use std::error::Error as _;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use meshwork::{Body, CallReport, Client, Error};
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;

use super::request::Template;
use crate::echo::proto::EchoResponse;

/// How much of an answer is kept to find the echo's name in it; the rest is read and dropped.
const KEPT: usize = 1 << 20;
/// How much of a name is kept: it is a key of the result.
const NAME: usize = 200;

/// How one call ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// Why it is not ok.
    pub(crate) error: Option<String>,
    /// Which echo answered.
    pub(crate) echo: Option<Echo>,
    /// From its beginning to the end of the body.
    pub(crate) latency: Duration,
    /// What the mesh did.
    pub(crate) report: CallReport,
}

/// What an echo says of itself and of how it was reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Echo {
    pub(crate) name: String,
    /// `HTTP/1.1` or `HTTP/2.0`
    pub(crate) protocol: String,
}

/// The status in the language of the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    Grpc(u32),
    Http(u16),
}

impl Answer {
    /// Whether it is what a caller hopes for.
    pub(crate) fn ok(&self) -> bool {
        self.error.is_none()
    }
}

/// Makes one call that began, or was to begin, at `began`.
///
/// Cancel-safe: dropping it cancels the call.
pub(crate) async fn send(client: &Client, template: &Template, began: Instant) -> Answer {
    let report = CallReport::default();
    let answered = match client.request(template.request(&report)).await {
        Ok(response) => read(response).await,
        Err(error) => Err(error),
    };
    let latency = began.elapsed();
    let (status, echo, error) = match answered {
        Ok(read) => read.judge(template, &report),
        Err(error) => (status_of(template, &error), None, Some(chain(&error))),
    };
    Answer {
        status,
        error,
        echo,
        latency,
        report,
    }
}

/// An answer that arrived whole.
struct Read {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

async fn read(response: Response<Body>) -> Result<Read, Error> {
    let (head, mut body) = response.into_parts();
    let mut kept = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                let room = KEPT - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
        }
    }
    Ok(Read {
        status: head.status,
        headers: head.headers,
        body: kept.freeze(),
        trailers,
    })
}

impl Read {
    fn judge(
        self,
        template: &Template,
        report: &CallReport,
    ) -> (Status, Option<Echo>, Option<String>) {
        let (status, echo, error) = if template.is_grpc() {
            let (code, message) = self.grpc_status();
            let error = (code != 0).then(|| {
                let name = Code::from_i32(i32::try_from(code).unwrap_or(2));
                format!("gRPC status {code} ({name:?}): {message}")
            });
            (Status::Grpc(code), self.grpc_echo(), error)
        } else {
            let wrong = self.status.as_u16() >= 400;
            let error = wrong.then(|| format!("HTTP {}", self.status));
            (Status::Http(self.status.as_u16()), self.json_echo(), error)
        };
        let endpoint = report.attempts().pop().map(|attempt| attempt.endpoint);
        let error = error.map(|error| match endpoint {
            Some(endpoint) => format!("{error} (from {endpoint})"),
            None => error,
        });
        (status, echo, error)
    }

    /// The status from the trailers, or from the headers of a trailers-only answer.
    fn grpc_status(&self) -> (u32, String) {
        let of = |headers: &HeaderMap| {
            let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
            let message = headers.get("grpc-message");
            let message = message.map_or("", |message| message.to_str().unwrap_or(""));
            Some((status, percent_decoded(message)))
        };
        of(&self.trailers)
            .or_else(|| of(&self.headers))
            .unwrap_or_else(|| {
                let status = self.status;
                (
                    2,
                    format!("the answer has no grpc-status, its HTTP status is {status}"),
                )
            })
    }

    /// What the first message says if it is an echo's; others may have a text in field 1 too.
    fn grpc_echo(&self) -> Option<Echo> {
        let mut body = self.body.clone();
        if body.remaining() < 5 || body.get_u8() != 0 {
            return None;
        }
        let length = body.get_u32() as usize;
        let message = body.get(..length)?;
        let message = EchoResponse::decode(message).ok()?;
        let named = !message.name.is_empty();
        named.then(|| Echo::new(&message.name, &message.protocol))
    }

    fn json_echo(&self) -> Option<Echo> {
        let json: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let text = |key| json.get(key).and_then(serde_json::Value::as_str);
        Some(Echo::new(
            text("name")?,
            text("protocol").unwrap_or_default(),
        ))
    }
}

impl Echo {
    fn new(name: &str, protocol: &str) -> Self {
        let cut = |text: &str| text.chars().take(NAME).collect();
        Self {
            name: cut(name),
            protocol: cut(protocol),
        }
    }
}

/// What a sidecar would have answered.
fn status_of(template: &Template, error: &Error) -> Status {
    if template.is_grpc() {
        Status::Grpc(error.grpc_status())
    } else {
        Status::Http(error.status().as_u16())
    }
}

/// The error and its causes, outermost first.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Undoes the encoding of `grpc-message`; what is not well-formed stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).and_then(|pair| hex::decode(pair).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                decoded.extend(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_decoded() {
        for (encoded, text) in [
            ("plain", "plain"),
            ("50%25 %C3%A9", "50% \u{e9}"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(percent_decoded(encoded), text);
        }
    }

    fn read(body: &'static [u8]) -> Read {
        Read {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body),
            trailers: HeaderMap::new(),
        }
    }

    #[test]
    fn the_name_is_found_only_where_an_echo_puts_it() {
        let json = |body| read(body).json_echo().map(|echo| echo.name);
        assert_eq!(json(b"{\"name\":\"v1\"}\n").as_deref(), Some("v1"));
        assert_eq!(json(b"{\"name\":1}"), None);
        assert_eq!(json(b"v1"), None);
        let grpc = |body| read(body).grpc_echo().map(|echo| echo.name);
        assert_eq!(grpc(b"\0\0\0\0\x04\x0a\x02v2").as_deref(), Some("v2"));
        assert_eq!(grpc(b"\0\0\0\0\x00"), None);
        assert_eq!(grpc(b"\0\0\0\0\x09\x0a\x02v2"), None, "cut");
        assert_eq!(grpc(b"\x01\0\0\0\x04\x0a\x02v2"), None, "compressed");
    }

    #[test]
    fn grpc_status_of_trailers_comes_before_that_of_headers() {
        let mut answer = read(b"");
        assert_eq!(answer.grpc_status().0, 2);
        answer.headers.insert("grpc-status", 14.into());
        assert_eq!(answer.grpc_status(), (14, String::new()));
        answer.trailers.insert("grpc-status", 0.into());
        assert_eq!(answer.grpc_status().0, 0);
    }
}
