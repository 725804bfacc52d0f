//! What the door says itself, in Envoy's words.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::layer::canonical::Ambiguous;
#[cfg(feature = "rate-limit")]
use crate::model::rate::Refusal;
use crate::outbound::{Dialect, percent_encoded};

/// Envoy's body for a request that a policy denies.
const DENIED: &str = "RBAC: access denied";

/// A response without a handler.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: Bytes,
}

/// An answer in the language of the request.
pub(super) fn answer(
    dialect: Dialect,
    status: StatusCode,
    code: &'static str,
    text: &'static str,
) -> Answer {
    let mut headers = HeaderMap::new();
    match dialect {
        Dialect::Grpc => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(code));
            if let Ok(message) = HeaderValue::try_from(percent_encoded(text)) {
                headers.insert("grpc-message", message);
            }
            Answer {
                status: StatusCode::OK,
                headers,
                text: Bytes::new(),
            }
        }
        Dialect::Http => {
            if !text.is_empty() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            Answer {
                status,
                headers,
                text: Bytes::from_static(text.as_bytes()),
            }
        }
    }
}

/// The mesh shuts down.
pub(super) fn draining(dialect: Dialect) -> Answer {
    let text = "the server is shutting down";
    answer(dialect, StatusCode::SERVICE_UNAVAILABLE, "14", text)
}

/// A policy denies the request.
pub(super) fn denied(dialect: Dialect) -> Answer {
    answer(dialect, StatusCode::FORBIDDEN, "7", DENIED)
}

/// The port has as many requests under way as it takes, in Envoy's words.
#[cfg(feature = "tls-core")]
pub(super) fn overloaded(dialect: Dialect) -> Answer {
    let text = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    let mut answer = answer(dialect, StatusCode::SERVICE_UNAVAILABLE, "14", text);
    let header = HeaderValue::from_static("true");
    answer.headers.insert("x-envoy-overloaded", header);
    answer
}

/// What logs say of [`unasked`].
pub(super) const UNASKED: &str = "switch_not_offered";

/// The handler switches protocols, or opens a tunnel, where the request is none that may.
pub(super) fn unasked() -> Answer {
    let text = "the server switched protocols, which was not asked for or is not offered";
    answer(Dialect::Http, StatusCode::BAD_GATEWAY, "13", text)
}

/// What logs say of [`ending`].
#[cfg(feature = "tls-core")]
pub(super) const ENDING: &str = "switch_of_ending_connection";

/// The connection is about to end and is not switched any more.
#[cfg(feature = "tls-core")]
pub(super) fn ending() -> Answer {
    let text = "the connection is about to end and is not switched any more";
    answer(Dialect::Http, StatusCode::SERVICE_UNAVAILABLE, "14", text)
}

/// No route of the server takes the request.
pub(super) fn unserved(dialect: Dialect) -> Answer {
    let text = "no route of this server takes the request";
    answer(dialect, StatusCode::SERVICE_UNAVAILABLE, "14", text)
}

/// More requests than a limit has tokens for, in the words of Envoy's filter.
#[cfg(feature = "rate-limit")]
pub(super) fn limited(dialect: Dialect, refusal: &Refusal) -> Answer {
    let code = if refusal.exhausted { "8" } else { "14" };
    let mut answer = answer(dialect, refusal.status, code, "local_rate_limited");
    for (name, value) in &refusal.headers {
        answer.headers.append(name, value.clone());
    }
    answer
}

/// The caller came without mutual TLS where it is demanded.
pub(super) fn without_mutual_tls(dialect: Dialect) -> Answer {
    answer(
        dialect,
        StatusCode::FORBIDDEN,
        "7",
        "mutual TLS is demanded here",
    )
}

/// A gRPC denial with another code.
pub(super) fn denied_with(code: u32) -> Answer {
    let mut answer = denied(Dialect::Grpc);
    answer
        .headers
        .insert("grpc-status", HeaderValue::from(code));
    answer
}

/// The end of a gRPC stream that policies deny by now.
pub(super) fn denied_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from_static("7"));
    trailers.insert("grpc-message", HeaderValue::from_static(DENIED));
    trailers
}

/// The request has more than one reading. It does not say which: whoever tries does not need help.
pub(super) fn ambiguous(dialect: Dialect, ambiguous: Ambiguous) -> Answer {
    let code = if ambiguous.is_no_method() { "12" } else { "13" };
    answer(dialect, StatusCode::BAD_REQUEST, code, "")
}

/// The token is not valid (Envoy's `jwt_authn` and its words).
#[cfg_attr(
    not(feature = "jwt"),
    allow(dead_code, reason = "tokens are looked at with the feature")
)]
pub(super) fn unauthenticated(dialect: Dialect, text: &'static str) -> Answer {
    let mut answer = answer(dialect, StatusCode::UNAUTHORIZED, "16", text);
    if dialect == Dialect::Http {
        let value = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        answer.headers.insert(WWW_AUTHENTICATE, value);
    }
    answer
}
