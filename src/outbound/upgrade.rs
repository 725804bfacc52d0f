//! Requests that switch protocols, on the mesh's way: which are let through, and in which form.
//!
//! A caller may write an upgrade as HTTP/1.1 has it or as HTTP/2 has it (an extended CONNECT). Inside
//! it has one form, that of HTTP/1.1, so that routes match the same method and headers for both, as
//! in Envoy; the transport turns it into what the endpoint speaks, and the caller gets the answer
//! that belongs to the form it wrote.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::model::route::Forward;
use crate::random::Random;
use crate::transport::upgrade::{WEBSOCKET_ACCEPT, WEBSOCKET_KEY, accept, protocol};

/// What is remembered of an upgrade.
#[derive(Debug)]
pub(super) struct Upgrade {
    protocol: Box<str>,
    form: Form,
}

/// How the caller wrote it.
#[derive(Debug)]
enum Form {
    /// An extended CONNECT (RFC 8441); HTTP/1.1's form of it needed this key.
    Connect { key: Option<HeaderValue> },
    /// `Connection: upgrade`.
    Header,
}

impl Upgrade {
    /// Looks whether a request is one, and gives it its inner form.
    pub(super) fn take(request: &mut Request<Body>, random: &Random) -> Option<Box<Self>> {
        if request.method() == Method::CONNECT {
            return from_connect(request, random).map(Box::new);
        }
        let protocol = protocol(request.headers())?.to_str().ok()?.into();
        let form = Form::Header;
        Some(Box::new(Self { protocol, form }))
    }

    /// Whether the route lets it through.
    pub(super) fn permit(&self, to: &Forward) -> Result<(), Error> {
        if to.upgrades.allows(&self.protocol) {
            return Ok(());
        }
        let protocol = self.protocol.clone();
        Err(Error::new(Kind::UpgradeForbidden { protocol }))
    }

    /// Gives the answer the form that the caller knows.
    pub(super) fn answer(&self, response: &mut Response<Body>) -> Result<(), Error> {
        let Form::Connect { key } = &self.form else {
            return Ok(());
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let accepted = response.headers_mut().remove(WEBSOCKET_ACCEPT);
        // Who made the key checks the answer (RFC 6455 §4.1), and that was not the caller.
        if key
            .as_ref()
            .is_some_and(|key| accepted.as_ref() != Some(&accept(key)))
        {
            let why = "the endpoint's Sec-WebSocket-Accept does not answer the key";
            return Err(Error::new(Kind::Upgrade { why }));
        }
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove(UPGRADE);
        *response.status_mut() = StatusCode::OK;
        Ok(())
    }
}

/// An extended CONNECT becomes what HTTP/1.1 would have sent; a plain one is none of ours.
fn from_connect(request: &mut Request<Body>, random: &Random) -> Option<Upgrade> {
    let name = request.extensions_mut().remove::<Protocol>()?;
    let value = HeaderValue::from_bytes(name.as_ref()).ok()?;
    let protocol: Box<str> = value.to_str().ok()?.into();
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, value);
    let key = protocol
        .eq_ignore_ascii_case("websocket")
        .then(|| handshake_key(headers, random));
    let form = Form::Connect { key };
    Some(Upgrade { protocol, form })
}

/// The key of a WebSocket handshake, made if the caller had no use for one.
fn handshake_key(headers: &mut HeaderMap, random: &Random) -> HeaderValue {
    let made = || {
        let nonce = [(); 2].map(|()| random.draw().to_be_bytes());
        // base64 is made of visible characters only.
        HeaderValue::try_from(BASE64_STANDARD.encode(nonce.as_flattened()))
            .unwrap_or(HeaderValue::from_static(""))
    };
    headers.entry(WEBSOCKET_KEY).or_insert_with(made).clone()
}
