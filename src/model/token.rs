//! Whose tokens are believed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::Origin;

/// One issuer of JSON web tokens (Istio's `JwtRule`, Envoy's `JwtProvider`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct TokenRule {
    /// Must be the token's `iss`; `None`: any.
    pub issuer: Option<Box<str>>,
    /// Of which one must be among the token's `aud`; empty: any.
    pub audiences: Vec<Box<str>>,
    /// The keys that its signature is verified with.
    pub keys: Keys,
    /// Where the token is looked for, in this order.
    pub locations: Vec<Location>,
    /// Whether the handler sees the token.
    pub forward: bool,
    /// A header for the handler with the claims, as base64url of the token's JSON.
    pub payload_header: Option<HeaderName>,
    /// Headers for the handler with single claims.
    pub claim_headers: Vec<(HeaderName, Vec<Box<str>>)>,
    /// Claims that are lists with spaces between.
    pub spaced: Vec<Box<str>>,
    /// Under which name conditions on metadata see its claims (Envoy's `payload_in_metadata`); `None`: not
    /// at all.
    pub metadata: Option<Box<str>>,
    /// Where it was written.
    pub origin: Origin,
}

/// The keys of an issuer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Keys {
    /// A JSON Web Key Set.
    Inline(Arc<str>),
    /// Where the set is fetched.
    Remote {
        /// `http` or `https`.
        uri: Uri,
        /// How long a fetch may take.
        timeout: Duration,
    },
    /// Where the issuer's OpenID configuration says: `ISSUER/.well-known/openid-configuration`.
    Discovered {
        /// That document.
        uri: Uri,
        /// How long each of the two fetches may take.
        timeout: Duration,
    },
}

/// A place in a request where a token may be.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Location {
    /// A cookie of this name.
    Cookie(Box<str>),
    /// A header, in whose value the token stands behind a prefix.
    Header {
        /// Its name.
        name: HeaderName,
        /// The prefix; may be empty.
        prefix: Box<str>,
    },
    /// A query parameter of this name.
    Parameter(Box<str>),
}
