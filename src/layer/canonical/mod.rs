//! One reading of a request, before anybody acts on it.
//!
//! A policy that forbids `/admin` is worth nothing if `//admin`, `/x/../admin` or `/%61dmin` reach
//! the same handler. Proxies rewrite such paths and hope that the server behind them reads them in
//! the same way; most of the published bypasses of Envoy and Istio are cases in which it does not.
//! A library that stands in the same process as the handler can do better: what has two readings is
//! refused ([`Normalization::Reject`], the default), and what has one is seen by router, policy and
//! handler alike. Istio's four modes are there for those who must behave as a sidecar does.
//!
//! # What is refused in every mode
//!
//! - A target that is no path: it does not begin with `/` (`S/M` over HTTP/2 reaches servers that
//!   are built on older versions of the crate `http`), `*` for another method than OPTIONS, CONNECT
//!   without a path.
//! - `%00`, which ends a path in many libraries.
//! - An authority with user information, a list, or characters that no host has; more than one `host` header, or
//!   none. Where the target names the authority, `host` says the same afterwards.
//! - For gRPC: a path that is not `/service/method`, or that has a query.
//!
//! # What is ambiguous
//!
//! Empty segments, `.` and `..`, also as `..;`; `\` and `;`; percent-encoding of what needs none
//! (`%61`), of what separates or ends (`%2f`, `%5c`, `%3b`, `%3f`, `%23`), of `%` itself (what is decoded
//! twice becomes something else), of control characters, of what is no UTF-8 (`%c0%ae`), and `%` without two
//! digits. Other encoded characters, such as spaces and letters that are no ASCII, pass as they are. The
//! case of a path means what it says: `/ADMIN` is another path than `/admin`.
//!
//! # What a caller may not say
//!
//! Identity comes from TLS and from nowhere else. Headers by which proxies tell each other who somebody is
//! ([`FORGED`]) are removed: whoever sends them here is the peer itself.

mod authority;
mod path;
#[cfg(test)]
mod tests;

use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use crate::error::{Error, Kind};

pub use crate::model::inbound::Normalization;

/// Headers that claim an identity or a place inside of a mesh, removed from every request.
pub const FORGED: &[&str] = &[
    "l5d-client-id",
    "l5d-orig-proto",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-forwarded-client-cert",
];

/// Why a request has no single reading.
///
/// Becomes a [`meshwork::Error`](crate::Error) that [is ambiguous](Error::is_ambiguous): status 400,
/// or for gRPC 12 UNIMPLEMENTED where the path is no method.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct Ambiguous {
    why: &'static str,
    /// Whether it is about the name of a gRPC method.
    method: bool,
}

impl Ambiguous {
    fn new(why: &'static str) -> Self {
        Self { why, method: false }
    }

    /// Whether the request is for gRPC and its path is not `/service/method`: there is no such
    /// method, which is 12 UNIMPLEMENTED.
    #[must_use]
    pub fn is_no_method(self) -> bool {
        self.method
    }
}

impl From<Ambiguous> for Error {
    fn from(ambiguous: Ambiguous) -> Self {
        Self::new(Kind::Ambiguous { why: ambiguous.why })
    }
}

/// Makes a request have one reading, or says why it cannot.
///
/// What is changed is the path (unless the mode is [`Reject`](Normalization::Reject) or
/// [`None`](Normalization::None)), the `host` header where the target has an authority, and the headers
/// in [`FORGED`]. A request that is in order is looked at and not copied.
///
/// ```
/// use meshwork::layer::canonical::{Normalization, canonicalize};
///
/// let mut request = http::Request::get("http://catalog/a/../admin").body(())?;
/// let refused = canonicalize(&mut request, Normalization::Reject).unwrap_err();
/// assert_eq!(refused.to_string(), "the path has the segment . or ..");
/// canonicalize(&mut request, Normalization::Base).unwrap();
/// assert_eq!(request.uri().path(), "/admin");
/// # Ok::<(), http::Error>(())
/// ```
///
/// # Errors
/// If the request has more than one reading in this mode. It may have been changed in part then.
pub fn canonicalize<B>(
    request: &mut Request<B>,
    normalization: Normalization,
) -> Result<(), Ambiguous> {
    let grpc = is_grpc(request.headers());
    target(request, normalization).map_err(|ambiguous| Ambiguous {
        method: grpc,
        ..ambiguous
    })?;
    if grpc {
        method(request.uri())?;
    }
    host(request)?;
    for name in FORGED {
        request.headers_mut().remove(*name);
    }
    Ok(())
}

fn target<B>(request: &mut Request<B>, normalization: Normalization) -> Result<(), Ambiguous> {
    let path = request.uri().path();
    if path == "*" && request.method() == Method::OPTIONS {
        return Ok(());
    }
    if !path.starts_with('/') {
        return Err(Ambiguous::new("the target has no path that begins with /"));
    }
    path::check_always(path)?;
    let changed = match normalization {
        Normalization::Reject => {
            path::reject(path)?;
            None
        }
        Normalization::None => None,
        Normalization::Base => path::base(path),
        Normalization::MergeSlashes => path::merged(path),
        Normalization::DecodeAndMergeSlashes => path::decoded(path),
    };
    let Some(path) = changed else { return Ok(()) };
    let text = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let unreadable = |_| Ambiguous::new("the path cannot be written in canonical form");
    let target = PathAndQuery::try_from(text).map_err(unreadable)?;
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(target);
    *request.uri_mut() = Uri::from_parts(parts)
        .map_err(|_| Ambiguous::new("the path cannot be written in canonical form"))?;
    Ok(())
}

/// A method of gRPC is `/service/method`.
fn method(uri: &Uri) -> Result<(), Ambiguous> {
    let mut segments = uri.path().split('/').skip(1);
    let two = (segments.next(), segments.next(), segments.next());
    let named = matches!(two, (Some(service), Some(method), None)
        if !service.is_empty() && !method.is_empty());
    if named && uri.query().is_none() {
        return Ok(());
    }
    Err(Ambiguous {
        why: "the path of a gRPC request is not /service/method",
        method: true,
    })
}

/// The authority of the target decides; without one there is exactly one `host`.
fn host<B>(request: &mut Request<B>) -> Result<(), Ambiguous> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let Some(authority) = request.uri().authority() else {
        return match (first, second) {
            (Some(_), Some(_)) => Err(Ambiguous::new("the header host stands there twice")),
            (None, _) => Err(Ambiguous::new("the request names no host")),
            (Some(host), None) => {
                let text = host.to_str().map_err(|_| authority::invalid())?;
                authority::check(text)
            }
        };
    };
    authority::check(authority.as_str())?;
    let same = first.is_none_or(|host| host.as_bytes() == authority.as_str().as_bytes());
    if same && second.is_none() {
        return Ok(());
    }
    // The header is for routers and handlers that do not look at the target.
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| authority::invalid())?;
    request.headers_mut().insert(HOST, value);
    Ok(())
}

/// Whether a content type is gRPC's; `application/grpc-web` is not.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}
