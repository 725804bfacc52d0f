//! An authorizer that is asked by gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! One message there and one back, so the framing is our own instead of a client that brings a transport:
//! the call is one of the mesh.

use std::collections::HashMap;
use std::net::IpAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderValueOption, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use prost::Message;

use super::super::answer::Answer;
use super::super::door::Door;
use super::super::judge::caller_of;
use super::{Verdict, refused};
use crate::body::{Body, grpc};
use crate::layer::authz::Attributes;
use crate::model::inbound::Authorizer;
use crate::outbound::Dialect;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The longest answer, in bytes.
const ANSWER: usize = 64 * 1_024;

/// Asks.
pub(super) async fn ask(
    door: &Door,
    authorizer: &Authorizer,
    head: &mut http::Request<()>,
    dialect: Dialect,
) -> Verdict {
    let question = question(authorizer, &check_request(head));
    let Some(question) = question else {
        return Verdict::Failed;
    };
    let answer = match door.send(&authorizer.authority, question).await {
        Ok(response) => read(response).await,
        Err(error) => {
            tracing::debug!(%error, "the authorizer did not answer");
            None
        }
    };
    let Some(answer) = answer else {
        return Verdict::Failed;
    };
    let allowed = answer
        .status
        .as_ref()
        .is_some_and(|status| status.code == 0);
    match answer.http_response {
        Some(HttpResponse::OkResponse(ok)) if allowed => allow(head, &ok),
        None if allowed => Verdict::Allowed {
            to_caller: HeaderMap::new(),
        },
        Some(HttpResponse::DeniedResponse(denied)) if !allowed => {
            Verdict::Denied(deny(dialect, denied))
        }
        // Also what says yes and no at once.
        _denied => Verdict::Denied(refused(dialect, StatusCode::FORBIDDEN)),
    }
}

fn question(authorizer: &Authorizer, check: &CheckRequest) -> Option<http::Request<Body>> {
    let message = grpc::framed(&check.encode_to_vec())?;
    http::Request::post(format!("http://{}{METHOD}", authorizer.authority))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Body::from(message))
        .ok()
}

/// The message of a response without failure.
async fn read(response: http::Response<Body>) -> Option<CheckResponse> {
    let (head, body) = response.into_parts();
    let collected = Limited::new(body, ANSWER).collect().await.ok()?;
    let failed = |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|code| code != "0");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    if head.status != StatusCode::OK || failed(&head.headers) || failed(&trailers) {
        return None;
    }
    let bytes = collected.to_bytes();
    CheckResponse::decode(grpc::message(&bytes)?).ok()
}

fn check_request(head: &http::Request<()>) -> CheckRequest {
    let attributes = Attributes::of(head, caller_of(head.extensions()));
    let caller = attributes.caller;
    let view = attributes.request;
    let query = view.query.unwrap_or_default();
    let path = match view.query {
        Some(query) => format!("{}?{query}", view.path),
        None => view.path.to_owned(),
    };
    let mut headers: HashMap<String, String> = HashMap::new();
    for (name, value) in head.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = headers.entry(name.as_str().to_owned());
        known
            .and_modify(|all| *all = format!("{all},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    for (name, value) in [
        (":authority", view.authority),
        (":method", view.method),
        (":path", &path),
        (":scheme", view.scheme),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let http = HttpRequest {
        method: view.method.to_owned(),
        headers,
        path,
        host: view.authority.to_owned(),
        scheme: view.scheme.to_owned(),
        query: query.to_owned(),
        protocol: format!("{:?}", head.version()),
        size: -1,
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: caller.source.map(|ip| address(ip, 0)),
                principal: caller.principal.unwrap_or_default().to_owned(),
                ..Peer::default()
            }),
            destination: Some(Peer {
                address: caller.destination.map(|to| address(to.ip(), to.port())),
                ..Peer::default()
            }),
            request: Some(Request {
                time: None,
                http: Some(http),
            }),
            ..AttributeContext::default()
        }),
    }
}

fn address(ip: IpAddr, port: u16) -> Address {
    let socket = SocketAddress {
        address: ip.to_canonical().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    Address {
        address: Some(AddressKind::SocketAddress(socket)),
    }
}

fn allow(head: &mut http::Request<()>, ok: &OkHttpResponse) -> Verdict {
    let headers = head.headers_mut();
    for name in &ok.headers_to_remove {
        if let Some(name) = changeable(name) {
            headers.remove(name);
        }
    }
    apply(&ok.headers, headers);
    let mut to_caller = HeaderMap::new();
    apply(&ok.response_headers_to_add, &mut to_caller);
    Verdict::Allowed { to_caller }
}

fn deny(dialect: Dialect, denied: DeniedHttpResponse) -> Answer {
    let code = denied.status.map_or(0, |status| status.code);
    let code = u16::try_from(code).ok().filter(|code| *code >= 200);
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut answer = refused(dialect, status.unwrap_or(StatusCode::FORBIDDEN));
    apply(&denied.headers, &mut answer.headers);
    if dialect == Dialect::Http {
        answer.text = Bytes::from(denied.body);
    }
    answer
}

/// Sets or appends headers, as each of them says (`append`; absent means set).
fn apply(options: &[HeaderValueOption], headers: &mut HeaderMap) {
    for option in options {
        let Some(header) = &option.header else {
            continue;
        };
        let value = match &header.raw_value[..] {
            [] => HeaderValue::from_str(&header.value),
            raw => HeaderValue::from_bytes(raw),
        };
        let (Some(name), Ok(value)) = (changeable(&header.key), value) else {
            continue;
        };
        #[expect(
            deprecated,
            reason = "what authorizers that are older than append_action send"
        )]
        let append = option.append.is_some_and(|append| append.value);
        if append {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

/// A header that an authorizer may change: none that says how the message is read (gRFC A92's guard).
fn changeable(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let framing = [
        "connection",
        "content-length",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let guarded =
        name == HOST || name.as_str().starts_with("grpc-") || framing.contains(&name.as_str());
    (!guarded).then_some(name)
}
