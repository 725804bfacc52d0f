//! Requests that turn their connection into something else: WebSocket and its like.
//!
//! A caller writes the request in one form, that of HTTP/1.1 (RFC 9110 §7.8): `Connection: upgrade`
//! with the protocol's name in `Upgrade`. Over HTTP/1.1 it is sent so, and a 101 hands over the
//! connection. Over HTTP/2 it becomes an extended CONNECT (RFC 8441), whose 200 hands over one
//! stream and comes back as the 101 that the caller waits for, with the `Sec-WebSocket-Accept` that
//! HTTP/2 has no use for. So who calls need not know which version the endpoint speaks.
//!
//! What was switched is an [`Upgraded`], a stream of bytes in both directions. hyper has such a
//! type, but it would let go of everything that the mesh counts at the moment of the switch: the
//! connection, the place among the cluster's requests, the guard. Here all of them live until the
//! stream is dropped.
//!
//! `Upgrade: h2c` is no upgrade here. It is removed, as in Envoy: which version of HTTP is spoken is
//! the cluster's to say.

mod accept;
mod stream;

use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;

use super::Http;

pub(crate) use accept::accept;
pub(super) use stream::switched;
pub use stream::{OnUpgrade, Upgraded, on};

pub(crate) const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(crate) const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// The protocol that a request asks its connection to switch to.
pub(crate) fn protocol(headers: &HeaderMap) -> Option<&HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers.get_all(CONNECTION).iter().any(|value| {
        let Ok(value) = value.to_str() else {
            return false;
        };
        let mut options = value.split(',').map(str::trim);
        options.any(|option| option.eq_ignore_ascii_case("upgrade"))
    });
    let named = !protocol.is_empty() && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    (asked && named).then_some(protocol)
}

/// What has to be known of an upgrade request once it is sent.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    protocol: HeaderValue,
    /// `Sec-WebSocket-Key`.
    key: Option<HeaderValue>,
}

impl Handshake {
    /// Of a request in HTTP/1.1's form.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        protocol(headers).map(|protocol| Self {
            protocol: protocol.clone(),
            key: headers.get(WEBSOCKET_KEY).cloned(),
        })
    }

    /// Writes the request in the form of a version of HTTP; the headers for one hop are gone.
    pub(super) fn write<B>(&self, request: &mut Request<B>, http: Http) {
        match http {
            Http::One => self.write_one(request.headers_mut()),
            Http::Two => {
                *request.method_mut() = Method::CONNECT;
                request.headers_mut().remove(WEBSOCKET_KEY);
                // `protocol` comes out of a header that was compared as text.
                let name = self.protocol.to_str().unwrap_or_default();
                request.extensions_mut().insert(Protocol::from(name));
            }
        }
    }

    /// Writes a request back into the form that it came in, for another connection.
    pub(super) fn restore<B>(&self, request: &mut Request<B>) {
        if request.extensions_mut().remove::<Protocol>().is_some() {
            *request.method_mut() = Method::GET;
            if let Some(key) = &self.key {
                request.headers_mut().insert(WEBSOCKET_KEY, key.clone());
            }
            self.write_one(request.headers_mut());
        }
    }

    fn write_one(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Whether the peer has switched; the response is then HTTP/1.1's.
    pub(super) fn completed<B>(&self, response: &mut Response<B>, http: Http) -> bool {
        match http {
            Http::One => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            Http::Two if response.status() == StatusCode::OK => {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                self.write_one(headers);
                if let Some(key) = &self.key {
                    headers
                        .entry(WEBSOCKET_ACCEPT)
                        .or_insert_with(|| accept(key));
                }
                true
            }
            Http::Two => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn only_both_headers_together_ask_for_a_switch_and_h2c_never_does() {
        for (row, pairs, asked) in [
            ("none", &[][..], None),
            ("no connection", &[("upgrade", "websocket")], None),
            ("no upgrade", &[("connection", "upgrade")], None),
            (
                "another option",
                &[("connection", "keep-alive"), ("upgrade", "websocket")],
                None,
            ),
            (
                "one of several",
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "WebSocket"),
                ],
                Some("WebSocket"),
            ),
            (
                "h2c",
                &[
                    ("connection", "Upgrade, HTTP2-Settings"),
                    ("upgrade", "h2c"),
                ],
                None,
            ),
            ("empty", &[("connection", "upgrade"), ("upgrade", "")], None),
        ] {
            let headers = headers(pairs);
            let found = protocol(&headers).map(|value| value.to_str().unwrap());
            assert_eq!(found, asked, "{row}");
        }
    }

    #[test]
    fn over_http2_it_is_an_extended_connect_and_comes_back_as_it_went() {
        let mut request = Request::get("http://a/chat").body(()).unwrap();
        *request.headers_mut() = headers(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let handshake = Handshake::of(&request).unwrap();
        let before = request.headers().clone();
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(UPGRADE);
        handshake.write(&mut request, Http::Two);
        assert_eq!(request.method(), Method::CONNECT);
        assert!(request.headers().is_empty());
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_ref(), b"websocket");

        handshake.restore(&mut request);
        assert_eq!(request.method(), Method::GET);
        assert_eq!(*request.headers(), before);
        assert!(request.extensions().get::<Protocol>().is_none());
    }

    #[test]
    fn a_stream_that_was_switched_looks_like_http1s_answer() {
        let handshake = Handshake {
            protocol: HeaderValue::from_static("websocket"),
            key: Some(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")),
        };
        let mut response = Response::new(());
        assert!(handshake.completed(&mut response, Http::Two));
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["connection"], "upgrade");
        // The example of RFC 6455 §1.3.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(response.headers()["sec-websocket-accept"], accept);

        let mut refused = Response::builder().status(403).body(()).unwrap();
        assert!(!handshake.completed(&mut refused, Http::Two));
        let mut plain = Response::new(());
        assert!(!handshake.completed(&mut plain, Http::One));
        assert_eq!(plain.status(), 200);
    }
}
