//! An authorizer that is asked by HTTP: the request without its body is sent to it, and 200 lets it pass.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

use super::super::answer::Answer;
use super::super::door::Door;
use super::{Verdict, refused};
use crate::body::Body;
use crate::model::inbound::{AskByHttp, Authorizer};
use crate::model::matcher::StringMatcher;
use crate::outbound::Dialect;

/// The longest answer that is handed on, in bytes; what is longer is left out.
const ANSWER: usize = 64 * 1_024;

/// Headers that never go on, whatever lists say: they are about the connection or the message.
const NEVER: &[HeaderName] = &[
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Asks.
pub(super) async fn ask(
    door: &Door,
    authorizer: &Authorizer,
    by: &AskByHttp,
    head: &mut Request<()>,
    dialect: Dialect,
) -> Verdict {
    let Some(question) = question(authorizer, by, head) else {
        return Verdict::Failed;
    };
    let (answer, body) = match door.send(&authorizer.authority, question).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            tracing::debug!(%error, "the authorizer did not answer");
            return Verdict::Failed;
        }
    };
    if answer.status == StatusCode::OK {
        // What the authorizer says of a header stands in place of what the caller said.
        for name in names(&answer.headers, &by.to_handler) {
            head.headers_mut().remove(&name);
            for value in answer.headers.get_all(&name) {
                head.headers_mut().append(&name, value.clone());
            }
        }
        let to_caller = chosen(&answer.headers, &by.to_caller_on_allow);
        return Verdict::Allowed { to_caller };
    }
    if answer.status.is_server_error() {
        return Verdict::Failed;
    }
    let mut denial = refused(dialect, answer.status);
    let headers = match &by.to_caller_on_deny[..] {
        [] => all(&answer.headers),
        some => chosen(&answer.headers, some),
    };
    match dialect {
        Dialect::Grpc => {
            let other = headers
                .into_iter()
                .filter_map(|(name, value)| Some((name?, value)));
            let other = other.filter(|(name, _)| name != CONTENT_TYPE);
            denial
                .headers
                .extend(other.map(|(name, value)| (Some(name), value)));
        }
        Dialect::Http => return Verdict::Denied(with_body(denial, headers, body).await),
    }
    Verdict::Denied(denial)
}

/// The caller gets the authorizer's own words.
async fn with_body(denial: Answer, headers: HeaderMap, body: Body) -> Answer {
    let text = Limited::new(body, ANSWER).collect().await;
    let text = text
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Answer {
        headers,
        text,
        ..denial
    }
}

fn question(authorizer: &Authorizer, by: &AskByHttp, head: &Request<()>) -> Option<Request<Body>> {
    let own = head
        .uri()
        .path_and_query()
        .map_or("/", PathAndQuery::as_str);
    let path = match &by.path_prefix {
        Some(prefix) => format!("{}{own}", prefix.path().trim_end_matches('/')),
        None => own.to_owned(),
    };
    let uri: Uri = format!("http://{}{path}", authorizer.authority)
        .parse()
        .ok()?;
    let mut question = Request::new(Body::empty());
    *question.method_mut() = head.method().clone();
    *question.uri_mut() = uri;
    let headers = question.headers_mut();
    let mut shown = chosen(head.headers(), &by.shown);
    if let Some(value) = head.headers().get(AUTHORIZATION) {
        shown.insert(AUTHORIZATION, value.clone());
    }
    headers.extend(shown);
    for (name, value) in &by.added {
        headers.insert(name, value.clone());
    }
    // The authorizer decides about the host that the caller asked for.
    let host = head.uri().authority().map(|authority| authority.as_str());
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    if let Some(host) = host.or_else(|| head.headers().get(HOST).cloned()) {
        headers.insert("x-forwarded-host", host);
    }
    Some(question)
}

fn names(headers: &HeaderMap, wanted: &[StringMatcher]) -> Vec<HeaderName> {
    let names = headers.keys().filter(|name| !NEVER.contains(name));
    let matching = names.filter(|name| wanted.iter().any(|one| one.matches(name.as_str())));
    matching.cloned().collect()
}

fn chosen(headers: &HeaderMap, wanted: &[StringMatcher]) -> HeaderMap {
    let mut chosen = HeaderMap::new();
    for name in names(headers, wanted) {
        for value in headers.get_all(&name) {
            chosen.append(&name, value.clone());
        }
    }
    chosen
}

fn all(headers: &HeaderMap) -> HeaderMap {
    chosen(headers, &[StringMatcher::Prefix("".into())])
}
