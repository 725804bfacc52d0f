//! Answers that the mesh gives itself, in the language of the request.
//!
//! A channel turns every failure into a response, because tonic shows a foreign error as UNKNOWN
//! and a plain HTTP service expects what a sidecar would have sent: Envoy's status and body for
//! HTTP, a trailers-only status for gRPC.

use std::fmt::Write;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};

use crate::body::Body;
pub(crate) use crate::error::grpc_of_http;
use crate::error::{Error, Limit};
use crate::model::route::{DirectResponse, Redirect, RedirectPort};

use super::rewrite;

/// The language of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    Grpc,
    Http,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

impl Dialect {
    /// gRPC if the content type says so (`application/grpc`, `application/grpc+proto`, ...).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let grpc = headers.get(CONTENT_TYPE).is_some_and(|value| {
            value
                .as_bytes()
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
        });
        if grpc { Self::Grpc } else { Self::Http }
    }

    /// The response for a failure.
    pub(crate) fn failure(self, error: &Error) -> Response<Body> {
        let mut response = match self {
            Self::Grpc => grpc(error.grpc_status(), &chain(error)),
            Self::Http => {
                let mut response = Response::new(Body::from(chain(error)));
                *response.status_mut() = error.status();
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                if error.is_overloaded() {
                    headers.insert("x-envoy-overloaded", HeaderValue::from_static("true"));
                }
                response
            }
        };
        for (name, value) in error.answer_headers() {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// A response that the route itself is.
    pub(crate) fn direct(self, direct: &DirectResponse) -> Response<Body> {
        if self == Self::Grpc {
            let text = String::from_utf8_lossy(&direct.body);
            return grpc(grpc_of_http(direct.status), &text);
        }
        let mut response = Response::new(Body::from(direct.body.clone()));
        *response.status_mut() = direct.status;
        if !direct.body.is_empty() {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        response
    }
}

/// The end of a gRPC response whose body broke off.
pub(super) fn grpc_trailers(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    write_grpc(error.grpc_status(), &chain(error), &mut trailers);
    trailers
}

/// A trailers-only gRPC response.
fn grpc(status: u32, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    write_grpc(status, message, headers);
    response
}

fn write_grpc(status: u32, message: &str, headers: &mut HeaderMap) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    if let Ok(value) = HeaderValue::try_from(percent_encoded(message)) {
        headers.insert(GRPC_MESSAGE, value);
    }
}

/// `grpc-message` is percent-encoded: everything but printable ASCII, and `%` itself.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The error and its causes, outermost first.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = String::new();
    if error.limit() == Some(Limit::Requests) || error.limit() == Some(Limit::Pending) {
        // Envoy's words, which operators and tests of sidecars look for.
        text.push_str("upstream connect error or disconnect/reset before headers. reset reason: ");
    }
    let _ = write!(text, "{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// The answer of a redirect route.
pub(crate) fn redirect<B>(redirect: &Redirect, request: &Request<B>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirect.status;
    match HeaderValue::try_from(location(redirect, request.uri())) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn location(redirect: &Redirect, uri: &Uri) -> String {
    let old_scheme = uri.scheme_str().unwrap_or("http");
    let scheme = redirect.scheme.as_ref().map_or(old_scheme, |s| s.as_str());
    let authority = uri.authority();
    let old_host = authority.map_or("", |authority| authority.host());
    let host = redirect.host.as_deref().unwrap_or(old_host);
    let request_port = authority.and_then(|authority| authority.port_u16());
    let port = match redirect.port {
        RedirectPort::Fixed(port) => Some(port),
        RedirectPort::FromRequest => request_port.or(default_port(old_scheme)),
        RedirectPort::FromScheme => None,
        RedirectPort::Unchanged if redirect.host.is_none() && redirect.scheme.is_none() => {
            request_port
        }
        RedirectPort::Unchanged => None,
    };
    let mut text = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| Some(*port) != default_port(scheme)) {
        let _ = write!(text, ":{port}");
    }
    match &redirect.path {
        Some(rewrite) => text.push_str(&rewrite::path(rewrite, uri.path())),
        None => text.push_str(uri.path()),
    }
    if let Some(query) = uri.query() {
        let _ = write!(text, "?{query}");
    }
    text
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::route::PathRewrite;
    use http_body_util::BodyExt;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, dialect) in [
            ("application/grpc", Dialect::Grpc),
            ("application/grpc+proto", Dialect::Grpc),
            ("application/grpc; charset=utf-8", Dialect::Grpc),
            ("application/grpc-web", Dialect::Http),
            ("application/json", Dialect::Http),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(Dialect::of(&headers), dialect, "{value}");
        }
    }

    #[tokio::test]
    async fn failure_is_a_status_in_the_language_of_the_request() {
        let overflow = || {
            Error::new(Kind::Overflow {
                limit: Limit::Pending,
            })
        };
        let http = Dialect::Http.failure(&overflow());
        assert_eq!(http.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(http.headers()["x-envoy-overloaded"], "true");
        let text = http.into_body().collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"upstream connect error or disconnect/reset before headers"));
        let grpc = Dialect::Grpc.failure(&overflow());
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()["grpc-status"], "14");
    }

    #[test]
    fn grpc_message_is_percent_encoded() {
        assert_eq!(percent_encoded("50% \u{e9}\n"), "50%25 %C3%A9%0A");
    }

    #[test]
    fn redirect_writes_a_port_only_where_it_is_not_the_default() {
        let base = Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            scheme: None,
            host: None,
            port: RedirectPort::Unchanged,
            path: None,
        };
        let https = Redirect {
            scheme: Some(http::uri::Scheme::HTTPS),
            ..base.clone()
        };
        let other = Redirect {
            host: Some("new".into()),
            path: Some(PathRewrite::Full("/b".into())),
            ..base.clone()
        };
        let fixed = |port| Redirect {
            port: RedirectPort::Fixed(port),
            ..base.clone()
        };
        for (redirect, expected) in [
            (base.clone(), "http://old:8080/a?q=1"),
            (https, "https://old/a?q=1"),
            (other, "http://new/b?q=1"),
            (fixed(80), "http://old/a?q=1"),
            (fixed(81), "http://old:81/a?q=1"),
        ] {
            let uri = Uri::from_static("http://old:8080/a?q=1");
            assert_eq!(location(&redirect, &uri), expected);
        }
    }
}
