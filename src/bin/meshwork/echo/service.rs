//! What becomes of a request: plain HTTP, a gRPC call, or a call to the tools of a gRPC server.
//!
//! A request is gRPC if it comes over HTTP/2 with gRPC's content type; gRPC-Web is plain HTTP
//! here. Health and reflection always answer at once: they tell about the server, and a
//! server whose health check failed by chance would be taken out of a set for the wrong reason.

use std::convert::Infallible;
use std::sync::Arc;
use std::{error, fmt};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower_service::Service as _;

use super::behaviour::{Behaviour, Fate};
use super::proto::echo_server::{EchoServer, SERVICE_NAME};
use super::seen::Seen;
use super::speaker::Speaker;
use super::wire::Abort;

/// The most bytes of a request body that are read. They are counted, not kept.
const BODY_LIMIT: u64 = 64 << 20;

/// The body of a request, from a connection of the echo's own or from a port of a mesh.
pub(super) trait Arriving:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>> + Send + 'static>
    + Send
    + 'static
{
}

impl<B> Arriving for B where
    B: http_body::Body<
            Data = Bytes,
            Error: Into<Box<dyn error::Error + Send + Sync>> + Send + 'static,
        > + Send
        + 'static
{
}

/// Answers for one echo; shared by its connections.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    pub(super) behaviour: Arc<Behaviour>,
    /// Health and reflection.
    pub(super) tools: Routes,
}

/// No response: HTTP/2 resets the stream, HTTP/1.1 the connection.
#[derive(Debug)]
pub(super) struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reset as told")
    }
}

impl error::Error for Reset {}

/// Why a request body was not read to its end.
enum Unread {
    /// The client went away.
    Broken,
    /// There is more of it than [`BODY_LIMIT`].
    TooLong,
}

impl Service {
    /// Answers one request, or resets it; `abort` is that of its connection.
    pub(super) async fn answer<B: Arriving>(
        &self,
        request: Request<B>,
        abort: &Abort,
    ) -> Result<Response<Body>, Reset> {
        let grpc = is_grpc(&request);
        let service = grpc_service(request.uri().path());
        if grpc && is_tool(service) {
            return Ok(infallible(self.tools.clone().call(request).await));
        }

        let (delay, fate) = self.behaviour.decide();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match (fate, grpc) {
            (Fate::Reset, _) => {
                if request.version() != Version::HTTP_2 {
                    abort.arm();
                }
                Err(Reset)
            }
            (Fate::Fail(status, _), false) => self.tell(request, status).await,
            (Fate::Answer, false) => self.tell(request, StatusCode::OK).await,
            (Fate::Fail(_, code), true) => self.refuse(request, code).await,
            (Fate::Answer, true) if service == SERVICE_NAME => {
                let (head, body) = request.into_parts();
                let speaker = Speaker::new(Seen::new(&self.name, &head));
                let request = Request::from_parts(head, body);
                Ok(infallible(EchoServer::new(speaker).call(request).await))
            }
            (Fate::Answer, true) => self.speak(request).await,
        }
    }

    /// The answer to plain HTTP: JSON, whatever the status.
    async fn tell<B: Arriving>(
        &self,
        request: Request<B>,
        status: StatusCode,
    ) -> Result<Response<Body>, Reset> {
        let (head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Ok(empty(StatusCode::METHOD_NOT_ALLOWED));
        }
        let seen = match count(body).await {
            Ok(bytes) => Seen::new(&self.name, &head).with_body_bytes(bytes),
            Err(Unread::Broken) => return Err(Reset),
            Err(Unread::TooLong) => return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE)),
        };
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(empty(status));
        }
        let Ok(mut json) = serde_json::to_vec(&seen) else {
            return Ok(empty(StatusCode::INTERNAL_SERVER_ERROR));
        };
        json.push(b'\n');
        let length = HeaderValue::from(json.len());
        let body = if head.method == Method::HEAD {
            Bytes::new()
        } else {
            Bytes::from(json)
        };
        let mut response = Response::new(Body::new(Full::new(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CONTENT_LENGTH, length);
        Ok(response)
    }

    /// The answer to a method of any service: an `EchoResponse`, which other response types with
    /// a string in field 1 can be decoded from.
    async fn speak<B: Arriving>(&self, request: Request<B>) -> Result<Response<Body>, Reset> {
        let (head, body) = request.into_parts();
        let seen = match count(body).await {
            Ok(bytes) => Seen::new(&self.name, &head).with_body_bytes(bytes),
            Err(Unread::Broken) => return Err(Reset),
            Err(Unread::TooLong) => return Ok(too_long()),
        };
        let message = seen.to_response();
        let Ok(length) = u32::try_from(message.encoded_len()) else {
            return Ok(too_long());
        };
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(length);
        frame.extend_from_slice(&message.encode_to_vec());

        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok(trailers)) });
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        Ok(response)
    }

    /// The failure of a gRPC call: trailers only, as a server sends it that never had a response.
    async fn refuse<B: Arriving>(
        &self,
        request: Request<B>,
        code: Code,
    ) -> Result<Response<Body>, Reset> {
        // A stream of requests may not end before its first response; all others are read first,
        // because some clients report a response that overtakes their request as a reset.
        let streams = request.uri().path().ends_with("/ClientStream")
            || request.uri().path().ends_with("/BidiStream");
        if !streams {
            match count(request.into_body()).await {
                Ok(_) => {}
                Err(Unread::Broken) => return Err(Reset),
                Err(Unread::TooLong) => return Ok(too_long()),
            }
        }
        Ok(Status::new(code, format!("{} fails as told", self.name)).into_http())
    }
}

/// Reads a body to its end and counts its bytes, up to [`BODY_LIMIT`].
async fn count<B: Arriving>(body: B) -> Result<u64, Unread> {
    let mut body = std::pin::pin!(body);
    let mut bytes = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > BODY_LIMIT {
            return Err(Unread::TooLong);
        }
    }
    Ok(bytes)
}

fn too_long() -> Response<Body> {
    let text = format!("the message is longer than {BODY_LIMIT} bytes");
    Status::new(Code::ResourceExhausted, text).into_http()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// Whether a request is a gRPC call: HTTP/2, and `application/grpc` alone, with a codec (`+proto`)
/// or with parameters.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let media = request.headers().get(header::CONTENT_TYPE);
    let after = media.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    request.version() == Version::HTTP_2 && matches!(after, Some([] | [b'+' | b';', ..]))
}

/// `package.Service` of `/package.Service/Method`; empty for paths of another form.
fn grpc_service(path: &str) -> &str {
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((service, _)) => service,
        None => "",
    }
}

fn is_tool(service: &str) -> bool {
    matches!(
        service,
        "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_version_and_content_type() {
        for (version, media, grpc) in [
            (Version::HTTP_2, Some("application/grpc"), true),
            (Version::HTTP_2, Some("application/grpc+proto"), true),
            (Version::HTTP_2, Some("application/grpc;x=y"), true),
            (Version::HTTP_2, Some("application/grpc-web"), false),
            (Version::HTTP_2, Some("application/json"), false),
            (Version::HTTP_2, None, false),
            (Version::HTTP_11, Some("application/grpc"), false),
        ] {
            let mut request = Request::post("/a.B/C").version(version);
            if let Some(media) = media {
                request = request.header("content-type", media);
            }
            assert_eq!(
                is_grpc(&request.body(()).expect("a request")),
                grpc,
                "{version:?} {media:?}"
            );
        }
    }

    #[test]
    fn service_is_the_first_part_of_the_path() {
        for (path, service) in [
            ("/a.B/C", "a.B"),
            ("/a.B/C/D", "a.B"),
            ("/a.B", ""),
            ("*", ""),
            ("", ""),
            ("//", ""),
        ] {
            assert_eq!(grpc_service(path), service, "{path}");
        }
    }
}
