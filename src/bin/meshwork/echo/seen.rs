//! What an echo saw of a request: one set of facts, told as JSON and as `EchoResponse`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{header, request::Parts};
use meshwork::inbound::Peer;
use serde::Serialize;

use super::proto::{EchoResponse, Header};

/// The facts of one request. The field names are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    #[serde(serialize_with = "as_str")]
    pub(super) name: Arc<str>,
    pub(super) protocol: String,
    pub(super) method: String,
    /// Path and query: a rewrite shows in both.
    pub(super) path: String,
    pub(super) authority: String,
    /// Ordered by name, so that answers can be compared as text.
    pub(super) headers: BTreeMap<String, Vec<String>>,
    pub(super) attempt: u32,
    pub(super) body_bytes: u64,
    /// The identity of the caller, where a mesh has verified one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<String>,
}

fn as_str<S: serde::Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

impl Seen {
    /// What the head of a request tells to the echo called `name`.
    pub(super) fn new(name: &Arc<str>, head: &Parts) -> Self {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (header, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers
                .entry(header.as_str().to_owned())
                .or_default()
                .push(value);
        }
        let first = |header: &str| headers.get(header).and_then(|values| values.first());
        Self {
            name: name.clone(),
            protocol: format!("{:?}", head.version),
            method: head.method.to_string(),
            path: head
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            authority: match head.uri.authority() {
                Some(authority) => authority.to_string(),
                None => first(header::HOST.as_str()).cloned().unwrap_or_default(),
            },
            // Envoy's `request_headers_to_add` of the attempt number; a peer that does not count
            // sends its only attempt.
            attempt: first("x-envoy-attempt-count")
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
            headers,
            body_bytes: 0,
            caller: head
                .extensions
                .get::<Peer>()
                .and_then(|peer| peer.principal.as_ref())
                .map(ToString::to_string),
        }
    }

    /// The same facts with the size of the body, known once it is read.
    pub(super) fn with_body_bytes(self, body_bytes: u64) -> Self {
        Self { body_bytes, ..self }
    }

    /// The facts as a gRPC message; what the request's own message says is left empty.
    pub(super) fn to_response(&self) -> EchoResponse {
        let header = |(name, values): (&String, &Vec<String>)| Header {
            name: name.clone(),
            values: values.clone(),
        };
        EchoResponse {
            name: self.name.to_string(),
            protocol: self.protocol.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            authority: self.authority.clone(),
            headers: self.headers.iter().map(header).collect(),
            attempt: self.attempt,
            body_bytes: self.body_bytes,
            message: String::new(),
            payload: Vec::new(),
            index: 0,
            caller: self.caller.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn seen(request: http::request::Builder) -> Seen {
        let (head, ()) = request.body(()).expect("a request").into_parts();
        Seen::new(&Arc::from("v1"), &head)
    }

    #[test]
    fn attempt_is_counted_only_when_it_can_be() {
        for (header, attempt) in [(None, 1), (Some("3"), 3), (Some("x"), 1), (Some("-1"), 1)] {
            let mut request = Request::get("/");
            if let Some(value) = header {
                request = request.header("x-envoy-attempt-count", value);
            }
            assert_eq!(seen(request).attempt, attempt, "{header:?}");
        }
    }

    #[test]
    fn authority_is_the_uri_before_the_host_header() {
        assert_eq!(
            seen(Request::get("http://a/x?y=1").header("host", "b")).authority,
            "a"
        );
        assert_eq!(seen(Request::get("/x").header("host", "b")).authority, "b");
        assert_eq!(seen(Request::get("/x")).authority, "");
    }

    #[test]
    fn values_of_one_header_stay_in_order_and_odd_bytes_do_not_break_the_answer() {
        let odd = http::HeaderValue::from_bytes(b"caf\xe9").expect("obs-text is allowed");
        let request = Request::get("/")
            .header("b", "2")
            .header("a", odd)
            .header("b", "1");
        let json = serde_json::to_value(seen(request)).expect("strings only");
        assert_eq!(
            json["headers"],
            serde_json::json!({"a": ["caf\u{fffd}"], "b": ["2", "1"]})
        );
    }

    #[test]
    fn the_caller_is_whom_the_connection_proves_and_no_header() {
        let request = Request::get("/").header("x-forwarded-client-cert", "URI=spiffe://td/x");
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        assert_eq!(Seen::new(&Arc::from("v1"), &head).caller, None);
        let mut peer = Peer::default();
        peer.principal = Some("spiffe://td/ns/a/sa/b".parse().expect("an identity"));
        head.extensions.insert(peer);
        let seen = Seen::new(&Arc::from("v1"), &head);
        assert_eq!(seen.to_response().caller, "spiffe://td/ns/a/sa/b");
        let json = serde_json::to_value(seen).expect("strings only");
        assert_eq!(json["caller"], "spiffe://td/ns/a/sa/b");
    }

    #[test]
    fn both_forms_tell_the_same() {
        let seen = seen(Request::post("http://c/p?q").header("x", "1")).with_body_bytes(7);
        let response = seen.to_response();
        let json = serde_json::to_value(&seen).expect("strings only");
        assert_eq!(json["name"], response.name);
        assert_eq!(json["protocol"], response.protocol);
        assert_eq!(json["method"], response.method);
        assert_eq!(json["path"], response.path);
        assert_eq!(json["authority"], response.authority);
        assert_eq!(json["attempt"], response.attempt);
        assert_eq!(json["body_bytes"], response.body_bytes);
        assert_eq!(
            response.headers,
            [Header {
                name: "x".into(),
                values: vec!["1".into()]
            }]
        );
    }
}
