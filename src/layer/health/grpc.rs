//! `grpc.health.v1`: the question that gRPC servers know.
//!
//! One message with a string goes out, one with an enum comes back. That is little enough to write
//! by hand, and a layer that needed protobuf for it would bring prost into stacks that have none.

use std::fmt;
use std::future::poll_fn;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use thiserror::Error;
use tower_service::Service;

use super::{Ending, Probe, Verdict, read};
use crate::body::Body;
use crate::layer::classify::grpc_status;
use crate::protobuf::{Field, Fields, Value, put_bytes};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// The longest service name. gRPC sets no bound; a path of a request is shorter than that.
pub(crate) const LONGEST_NAME: usize = 8 * 1024;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Healthy if `grpc.health.v1.Health/Check` answers SERVING.
///
/// Any other answer is unhealthy, as in Envoy: NOT_SERVING, SERVICE_UNKNOWN, a gRPC status that is not
/// OK (UNIMPLEMENTED too: a server without the health service must not be checked for it), what is
/// no gRPC. No answer, or one that breaks off, is unanswered.
///
/// The service must speak HTTP/2, and get the trailers.
///
/// ```
/// use http::uri::{Authority, Scheme};
/// use meshwork::layer::health::GrpcProbe;
///
/// # fn probe<S>(endpoint: S) -> Result<GrpcProbe<S>, meshwork::layer::health::InvalidServiceName> {
/// // The empty name asks for the server as a whole.
/// GrpcProbe::new(endpoint, Scheme::HTTP, Authority::from_static("catalog:50051"), "")
/// # }
/// ```
#[derive(Clone)]
pub struct GrpcProbe<S> {
    service: S,
    target: Uri,
    /// The framed message.
    message: Bytes,
    /// Further headers.
    metadata: HeaderMap,
}

/// A service name that is too long to be one.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the service name has {0} bytes: up to 8192 are allowed")]
pub struct InvalidServiceName(usize);

impl<S> GrpcProbe<S> {
    /// A probe that asks `authority` for the health of the gRPC service `name` (its full name, or
    /// `""` for the server).
    ///
    /// # Errors
    /// If the name is longer than 8 KiB.
    pub fn new(
        service: S,
        scheme: Scheme,
        authority: Authority,
        name: &str,
    ) -> Result<Self, InvalidServiceName> {
        if name.len() > LONGEST_NAME {
            return Err(InvalidServiceName(name.len()));
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(PathAndQuery::from_static(CHECK));
        let target = Uri::from_parts(parts).expect("scheme, authority and path are all there");
        Ok(Self {
            service,
            target,
            message: encode(name),
            metadata: HeaderMap::new(),
        })
    }

    /// Adds a header to the question (Envoy's `initial_metadata`).
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.metadata.append(name, value);
        self
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.message.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.extend(self.metadata.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        request
    }
}

impl<S, R> Probe for GrpcProbe<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Send,
    S::Future: Send,
    S::Error: Send,
    R: HttpBody + Send,
    R::Data: Send,
    R::Error: Send,
{
    async fn probe(&mut self) -> Verdict {
        let ready = poll_fn(|cx| self.service.poll_ready(cx)).await;
        if ready.is_err() {
            return Verdict::Unanswered;
        }
        let request = self.request();
        let Ok(response) = self.service.call(request).await else {
            return Verdict::Unanswered;
        };
        let (head, body) = response.into_parts();
        match read(body).await {
            Ending::Complete { bytes, trailers } => {
                // Without trailers the status is in the headers ("trailers-only").
                let trailers = trailers.unwrap_or(head.headers);
                judge(head.status, &bytes, &trailers)
            }
            Ending::TooLong => Verdict::Unhealthy,
            Ending::Broken => Verdict::Unanswered,
        }
    }
}

fn judge(status: StatusCode, message: &[u8], trailers: &HeaderMap) -> Verdict {
    let answered = status == StatusCode::OK && grpc_status(trailers) == Some(0);
    if answered && decode(message) == Some(SERVING) {
        Verdict::Healthy
    } else {
        Verdict::Unhealthy
    }
}

/// `HealthCheckRequest { string service = 1; }` in a gRPC frame. proto3 leaves out an empty string.
fn encode(name: &str) -> Bytes {
    let mut message = Vec::with_capacity(name.len() + 3);
    if !name.is_empty() {
        put_bytes(&mut message, 1, name.as_bytes());
    }
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// The status in `HealthCheckResponse { ServingStatus status = 1; }`; `None` if it is not exactly
/// one uncompressed message of that kind. Unknown fields are skipped, the last status counts, and
/// none at all is 0 (UNKNOWN).
fn decode(framed: &[u8]) -> Option<u64> {
    let (flag, rest) = framed.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let complete = usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len());
    if *flag != 0 || !complete {
        return None;
    }
    let mut status = 0;
    for field in Fields(message) {
        let Field { number, value, .. } = field.ok()?;
        if let (1, Value::Number(number)) = (number, value) {
            status = number;
        }
    }
    Some(status)
}

impl<S> fmt::Debug for GrpcProbe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcProbe")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_request_is_the_protobuf_of_its_name() {
        assert_eq!(encode(""), &[0, 0, 0, 0, 0][..]);
        assert_eq!(encode("ab"), &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b'][..]);
        let long = encode(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn names_that_are_too_long_are_refused() {
        let probe = |length: usize| {
            let authority = Authority::from_static("a");
            GrpcProbe::new((), Scheme::HTTP, authority, &"x".repeat(length))
        };
        assert!(probe(8_192).is_ok());
        assert_eq!(
            probe(8_193).unwrap_err().to_string(),
            "the service name has 8193 bytes: up to 8192 are allowed"
        );
    }

    #[test]
    fn answers_are_read_as_protobuf() {
        for (name, framed, status) in [
            ("serving", &[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            ("not serving", &[0, 0, 0, 0, 2, 8, 2], Some(2)),
            ("unknown is left out", &[0, 0, 0, 0, 0], Some(0)),
            ("the last one counts", &[0, 0, 0, 0, 4, 8, 2, 8, 1], Some(1)),
            (
                "unknown fields are skipped",
                &[
                    0, 0, 0, 0, 22, 0x10, 0x80, 1, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x22, 1, 7, 0x2d,
                    0, 0, 0, 0, 8, 1,
                ],
                Some(1),
            ),
            ("compressed", &[1, 0, 0, 0, 2, 8, 1], None),
            ("nothing", &[], None),
            ("half a frame", &[0, 0, 0, 0, 2, 8], None),
            ("two messages", &[0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 0], None),
            ("field 0", &[0, 0, 0, 0, 2, 0, 1], None),
            ("a group", &[0, 0, 0, 0, 1, 0x13], None),
            ("a number without end", &[0, 0, 0, 0, 2, 8, 0x80], None),
            ("a length beyond the end", &[0, 0, 0, 0, 2, 0x12, 9], None),
        ] {
            assert_eq!(decode(framed), status, "{name}");
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            decode(&bytes);
            let mut framed = vec![0, 0, 0, 0, bytes.len() as u8];
            framed.extend(bytes);
            decode(&framed);
        }
    }
}
