//! What holds for requests that arrive at this process.
//!
//! One value for the whole process and not one per listener: a library does not know the ports of
//! the server that it is linked into before they are opened. What differs from port to port asks
//! for the port ([`Condition::DestinationPort`](super::authorization::Condition::DestinationPort)).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};

use super::authorization::Authorization;
use super::custom::CustomFilter;
use super::matcher::StringMatcher;
use super::rate::LocalLimit;
use super::token::TokenRule;

/// Everything that is asked of a request before a handler sees it. Default: nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inbound {
    /// Who may do what.
    pub authorization: Authorization,
    /// Whose tokens are believed; without any, tokens are not looked at.
    pub tokens: Vec<TokenRule>,
    /// Whether a request without a token is refused with 401 (Envoy's `jwt_authn`); Istio leaves that
    /// to policies.
    pub token_required: bool,
    /// How many requests are taken in a time, of those that may come in.
    pub limits: Vec<LocalLimit>,
    /// The program's own filters, in the order in which requests meet them, of those that may come in.
    pub filters: Vec<CustomFilter>,
    /// What is done with paths that can be read in two ways.
    pub normalization: Normalization,
    /// The external authorizers that policies name.
    pub authorizers: BTreeMap<Arc<str>, Authorizer>,
}

impl Inbound {
    /// Denies every request.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            authorization: Authorization::closed(),
            ..Self::default()
        }
    }
}

/// What is done with a path that could be read in another way.
///
/// All but the first are those of Istio's `pathNormalization`, in whose words `None` is `NONE`,
/// `Base` is `BASE` and so on.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Normalization {
    /// The request is refused with 400.
    #[default]
    Reject,
    /// The path stays as it is.
    None,
    /// `\` becomes `/`, unreserved characters are decoded, `.` and `..` are resolved.
    Base,
    /// As `Base`, and repeated slashes become one.
    MergeSlashes,
    /// `%2f` and `%5c` are decoded first, then as `MergeSlashes`.
    DecodeAndMergeSlashes,
}

/// Somebody outside of this process who decides about requests (Envoy's `ext_authz`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authorizer {
    /// The cluster that it is reached through.
    pub cluster: Arc<str>,
    /// The authority of the requests that ask it.
    pub authority: Arc<str>,
    /// How it is asked.
    pub protocol: AskBy,
    /// How long it may take.
    pub timeout: Duration,
    /// What happens when it cannot be asked: it fails, is late, or answers with a 5xx.
    pub on_error: OnError,
}

/// How an external authorizer is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AskBy {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// The request itself without its body; 200 lets it pass, anything else is the answer.
    Http(AskByHttp),
}

/// What an authorizer is shown and what becomes of its answer, by HTTP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AskByHttp {
    /// What is put before the path.
    pub path_prefix: Option<PathAndQuery>,
    /// Headers of the request that are shown, beside method, path, host and `authorization`.
    pub shown: Vec<StringMatcher>,
    /// Headers that are shown besides.
    pub added: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the answer that the handler gets when the request passes.
    pub to_handler: Vec<StringMatcher>,
    /// Headers of the answer that the caller gets when it does not; empty: all.
    pub to_caller_on_deny: Vec<StringMatcher>,
    /// Headers of the answer that the caller gets when it does.
    pub to_caller_on_allow: Vec<StringMatcher>,
}

/// What happens when an external authorizer cannot be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// The request passes.
    Allow,
    /// The request is denied with this status.
    Deny(StatusCode),
}
