//! A request in the form that its connection's version of HTTP asks for.

use http::header::{self, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body::Body as HttpBody;

use super::Http;
use super::upgrade::Handshake;

/// Makes `request` fit for a connection that speaks `http`; doing so again changes nothing, so a
/// request that was not sent can go to any other endpoint.
///
/// HTTP/1.1 gets `Host` and a path (RFC 9112 §3.2), HTTP/2 a scheme and an authority instead
/// (RFC 9113 §8.3.1); both lose what is meant for one hop only (RFC 9110 §7.6.1), except a
/// `handshake` that this hop takes part in. The authority of the URI wins over `Host`, because that
/// is what a route rewrites.
pub(super) fn prepare<B: HttpBody>(
    request: &mut Request<B>,
    http: Http,
    handshake: Option<&Handshake>,
) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("the mesh opens no tunnels (CONNECT)");
    }
    if handshake.is_some() && http == Http::Two && !request.body().is_end_stream() {
        return Err("an upgrade over HTTP/2 has no body before the switch");
    }
    strip_hop_by_hop(request.headers_mut());
    match http {
        Http::One => prepare_one(request),
        Http::Two => prepare_two(request),
    }?;
    if let Some(handshake) = handshake {
        handshake.write(request, http);
    }
    Ok(())
}

const NO_AUTHORITY: &str = "it has neither an authority nor a Host header";

fn prepare_one<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_none() && request.uri().scheme().is_none() {
        return match request.headers().contains_key(header::HOST) {
            true => Ok(()),
            false => Err(NO_AUTHORITY),
        };
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    *request.uri_mut() = parts.path_and_query.map_or_else(Uri::default, Uri::from);
    let authority = parts.authority.ok_or(NO_AUTHORITY)?;
    let host = without_user(&authority);
    let same = request
        .headers()
        .get(header::HOST)
        .is_some_and(|value| value == host);
    if !same {
        // An authority is made of visible ASCII only, so this cannot fail; if it did, the request
        // would be refused rather than sent to another host.
        let value = HeaderValue::from_str(host).map_err(|_| NO_AUTHORITY)?;
        request.headers_mut().insert(header::HOST, value);
    }
    Ok(())
}

fn prepare_two<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let whole = request.uri().scheme().is_some()
        && request
            .uri()
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
    if whole {
        return Ok(());
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let authority = match (parts.authority, host) {
        (Some(authority), _) => authority,
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| NO_AUTHORITY)?,
        (None, None) => return Err(NO_AUTHORITY),
    };
    parts.authority = Some(match authority.as_str().contains('@') {
        true => Authority::try_from(without_user(&authority)).map_err(|_| NO_AUTHORITY)?,
        false => authority,
    });
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| NO_AUTHORITY)?;
    Ok(())
}

/// `host:port` of `user@host:port`: credentials are not for the wire (RFC 9110 §4.2.4).
fn without_user(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: &str = "trailers";

/// Nearly every request has none of them but gRPC's `te: trailers`, which stays; so one scan finds
/// out without hashing.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let any = headers.iter().any(|(name, value)| {
        name == header::CONNECTION
            || name == header::TE && value != TRAILERS
            || name == header::TRANSFER_ENCODING
            || name == header::UPGRADE
            || name == KEEP_ALIVE
            || name == PROXY_CONNECTION
    });
    if any {
        strip_found(headers);
    }
}

fn strip_found(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::TE)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|coding| coding.trim() == TRAILERS))
    });
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static(TRAILERS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn request(uri: &str, headers: &[(&'static str, &'static str)]) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn http1_gets_a_path_and_the_authority_as_host() {
        for (row, uri, host, path, expected) in [
            ("absolute", "http://a:80/x?y=1", None, "/x?y=1", "a:80"),
            ("uri wins", "http://a/", Some("b"), "/", "a"),
            ("host only", "/x", Some("b"), "/x", "b"),
            ("credentials", "http://u:p@a:1/", None, "/", "a:1"),
            ("no path", "http://a", None, "/", "a"),
            ("asterisk", "*", Some("a"), "*", "a"),
        ] {
            let headers = host.map(|host| ("host", host));
            let mut request = request(uri, headers.as_slice());
            for _ in 0..2 {
                prepare(&mut request, Http::One, None).unwrap();
                assert_eq!(request.uri().to_string(), path, "{row}");
                assert_eq!(request.headers()["host"], expected, "{row}");
                assert_eq!(request.version(), Version::HTTP_11, "{row}");
            }
        }
    }

    #[test]
    fn http2_gets_scheme_and_authority_and_no_host() {
        for (row, uri, host, expected) in [
            ("absolute", "https://a:80/x", None, "https://a:80/x"),
            ("uri wins", "http://a/", Some("b"), "http://a/"),
            ("host only", "/x?y", Some("b:1"), "http://b:1/x?y"),
            ("credentials", "http://u@a/", None, "http://a/"),
        ] {
            let headers = host.map(|host| ("host", host));
            let mut request = request(uri, headers.as_slice());
            for _ in 0..2 {
                prepare(&mut request, Http::Two, None).unwrap();
                assert_eq!(request.uri().to_string(), expected, "{row}");
                assert!(!request.headers().contains_key("host"), "{row}");
                assert_eq!(request.version(), Version::HTTP_2, "{row}");
            }
        }
    }

    #[test]
    fn a_request_can_go_to_the_other_version_after_it_was_prepared() {
        let mut request = request("http://a:1/x", &[]);
        prepare(&mut request, Http::One, None).unwrap();
        prepare(&mut request, Http::Two, None).unwrap();
        assert_eq!(request.uri().to_string(), "http://a:1/x");
        prepare(&mut request, Http::One, None).unwrap();
        assert_eq!(request.uri().to_string(), "/x");
        assert_eq!(request.headers()["host"], "a:1");
    }

    #[test]
    fn what_names_no_host_or_wants_a_tunnel_is_refused() {
        for http in [Http::One, Http::Two] {
            assert_eq!(
                prepare(&mut request("/x", &[]), http, None),
                Err(NO_AUTHORITY)
            );
            let mut tunnel = request("a:443", &[]);
            *tunnel.method_mut() = Method::CONNECT;
            assert!(
                prepare(&mut tunnel, http, None)
                    .unwrap_err()
                    .contains("CONNECT")
            );
        }
        let bad = &mut request("/", &[("host", "not a host")]);
        assert_eq!(prepare(bad, Http::Two, None), Err(NO_AUTHORITY));
    }

    #[test]
    fn hop_by_hop_headers_stay_here_except_te_trailers() {
        for http in [Http::One, Http::Two] {
            let mut request = request(
                "http://a/",
                &[
                    ("connection", "x-hop, close, te"),
                    ("x-hop", "1"),
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "keep-alive"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "websocket"),
                    ("te", "gzip, trailers"),
                    ("x-end", "2"),
                ],
            );
            prepare(&mut request, http, None).unwrap();
            request.headers_mut().remove("host");
            let mut left: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            left.sort_unstable();
            assert_eq!(left, [("te", "trailers"), ("x-end", "2")]);
        }
    }
}
