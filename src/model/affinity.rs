//! Which requests belong together, so that they go to the same endpoint.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::route::RewritePattern;

/// What keeps requests of a route together.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Affinity {
    /// Where the key of a consistent hash comes from (Envoy's `RouteAction.hash_policy`); looked at
    /// only by clusters that balance by hash. Without any value of them an endpoint is drawn.
    pub hash: Vec<HashPolicy>,
    /// What names the endpoint itself (gRPC A55, Envoy's stateful session filter).
    pub session: Option<Session>,
}

/// One part of the key of a consistent hash.
///
/// ```
/// use meshwork::model::affinity::{HashPolicy, HashSource};
///
/// let user = HashPolicy {
///     source: HashSource::Header(http::HeaderName::from_static("x-user")),
///     terminal: true,
/// };
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HashPolicy {
    /// Where it comes from.
    pub source: HashSource,
    /// Whether the later ones are left out if this one has a value.
    pub terminal: bool,
}

/// Where a part of the key comes from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HashSource {
    /// A cookie, which is made if it is missing and has a life.
    Cookie(HashCookie),
    /// All values of a header.
    Header(HeaderName),
    /// The first value of a query parameter.
    Query(Box<str>),
    /// The first value of a header, with every match of an expression replaced (gRFC A42's
    /// `regex_rewrite`).
    RewrittenHeader {
        /// The header.
        name: HeaderName,
        /// What is looked for in its value.
        pattern: RewritePattern,
        /// What stands there instead, with `\0` to `\9` for groups.
        to: Box<str>,
    },
    /// The client: all requests of one process go to the same endpoint, as those of a pod do behind
    /// a sidecar.
    Source,
}

/// A cookie that is the key of a hash.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// How it is made for a request without it; `None`: such a request has no key.
    pub made: Option<MadeCookie>,
}

/// A cookie that the mesh makes and the response brings to the caller.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct MadeCookie {
    /// How many seconds it lives (`Max-Age`); `None`: as long as the caller's session.
    pub max_age: Option<NonZeroU64>,
    /// For which path it is sent.
    pub path: Option<Box<str>>,
    /// Further attributes, with or without a value, such as `SameSite` and `Strict`.
    pub attributes: Vec<(Box<str>, Option<Box<str>>)>,
}

/// What keeps the requests of a session with the endpoint that served it before.
///
/// ```
/// use meshwork::model::affinity::{Session, SessionKey};
///
/// let session = Session::from(SessionKey::Header(http::HeaderName::from_static("x-at")));
/// assert!(!session.strict);
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Session {
    /// What names that endpoint.
    pub key: SessionKey,
    /// Whether a request fails, without an endpoint (503), whose endpoint is not there or is not
    /// admitted, or whose cluster is none of the route's (Envoy's `StatefulSession.strict`); otherwise it
    /// goes to another one and the session with it. Default: no.
    pub strict: bool,
}

impl From<SessionKey> for Session {
    fn from(key: SessionKey) -> Self {
        Self { key, strict: false }
    }
}

/// What names the endpoint that served a session before.
///
/// Its value is base64 of `address;cluster`, as gRPC makes it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SessionKey {
    /// A cookie, which the caller keeps as cookies are kept.
    Cookie(SessionCookie),
    /// A header of the response, which the caller sends with its next request.
    Header(HeaderName),
}

/// A cookie that names an endpoint.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SessionCookie {
    /// The cookie's name, not empty.
    pub cookie: Arc<str>,
    /// For which paths it counts; `None`: all.
    pub path: Option<Box<str>>,
    /// How long it lives; zero: as long as the caller's session.
    pub ttl: Duration,
}
