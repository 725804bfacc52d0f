//! Between the protocol's messages and the bytes of gRPC.
//!
//! A response is written by hand, as pieces: a head with the version, the resources as they were
//! encoded when they were made, a tail with type and nonce. Only head and tail are this stream's
//! own; everything else is shared by all.

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::rpc::Status as WireStatus;
use prost::Message as _;

use super::ads::{DeltaRequest, Item, Refusal, Response, SotwRequest, Variant};
use super::kind::Kind;
use super::resource::{Encoded, duration, framed, text};
use super::variant;
use crate::protobuf;

/// A request as it arrives, of either variant.
#[derive(Debug)]
pub(super) struct Request {
    /// Who asks; in the first one of a stream.
    pub(super) node: Option<WireNode>,
    /// `None`: about a kind that is not known here.
    pub(super) body: Option<Body>,
}

#[derive(Debug)]
pub(super) enum Body {
    Delta(DeltaRequest),
    Sotw(SotwRequest),
}

/// Reads a request of a stream that serves `only` one kind, or all.
///
/// # Errors
/// It cannot be read, or is about another kind than the stream.
pub(super) fn read(variant: Variant, only: Option<Kind>, bytes: Bytes) -> Result<Request, Refusal> {
    let unreadable = |error| Refusal::invalid(format!("the request cannot be read: {error}"));
    match variant {
        Variant::Sotw => sotw(
            pb::DiscoveryRequest::decode(bytes).map_err(unreadable)?,
            only,
        ),
        Variant::Delta => delta(
            pb::DeltaDiscoveryRequest::decode(bytes).map_err(unreadable)?,
            only,
        ),
    }
}

fn kind(type_url: &str, only: Option<Kind>) -> Result<Option<Kind>, Refusal> {
    match (Kind::from_url(type_url), only) {
        (_, None) if type_url.is_empty() => Err(Refusal::invalid(
            "a request on an aggregated stream has no type_url",
        )),
        (_, Some(only)) if type_url.is_empty() => Ok(Some(only)),
        (found, Some(only)) if found != Some(only) => Err(Refusal::invalid(format!(
            "type_url {type_url:?} on a stream of {}",
            only.type_url()
        ))),
        (found, _) => Ok(found),
    }
}

fn sotw(request: pb::DiscoveryRequest, only: Option<Kind>) -> Result<Request, Refusal> {
    let kind = kind(&request.type_url, only)?;
    let names = variant::asked(request.resource_names, request.resource_locators)?;
    Ok(Request {
        node: request.node,
        body: kind.map(|kind| {
            Body::Sotw(SotwRequest {
                kind,
                names,
                version: request.version_info,
                nonce: request.response_nonce,
                error: request.error_detail.map(said),
            })
        }),
    })
}

fn delta(request: pb::DeltaDiscoveryRequest, only: Option<Kind>) -> Result<Request, Refusal> {
    let kind = kind(&request.type_url, only)?;
    let subscribe = variant::asked(
        request.resource_names_subscribe,
        request.resource_locators_subscribe,
    )?;
    let unsubscribe = variant::asked(
        request.resource_names_unsubscribe,
        request.resource_locators_unsubscribe,
    )?;
    let brought = request.initial_resource_versions.keys();
    brought
        .into_iter()
        .try_for_each(|name| variant::plain(name))?;
    Ok(Request {
        node: request.node,
        body: kind.map(|kind| {
            Body::Delta(DeltaRequest {
                kind,
                subscribe,
                unsubscribe,
                initial: request.initial_resource_versions.into_iter().collect(),
                nonce: request.response_nonce,
                error: request.error_detail.map(said),
            })
        }),
    })
}

/// The text of a refusal; its code is of no use.
fn said(error: WireStatus) -> String {
    error.message
}

/// A response as one gRPC message, in pieces.
///
/// # Errors
/// It is longer than such a message can be.
pub(super) fn write(variant: Variant, response: &Response) -> Result<Vec<Bytes>, Refusal> {
    let mut head = BytesMut::new();
    text(&mut head, 1, &response.version);
    let mut pieces = Vec::with_capacity(response.items.len() + 2);
    pieces.push(Bytes::new());
    pieces.extend(response.items.iter().map(|item| match (item, variant) {
        (Item::Full(resource), Variant::Delta) => resource.delta(),
        (Item::Full(resource), Variant::Sotw) => resource.sotw(),
        (Item::Beat(resource), _) => beat(resource),
        (Item::Unknown(name), _) => unknown(name),
    }));
    let mut tail = BytesMut::new();
    text(&mut tail, 4, response.kind.type_url());
    text(&mut tail, 5, &response.nonce.to_string());
    for name in &response.removed {
        match variant::parameters(name).is_empty() {
            true => text(&mut tail, 6, name),
            false => tail.extend_from_slice(&framed(8, &variant::resource_name(name, None))),
        }
    }
    for variant in &response.left {
        let name = variant::resource_name(variant.name(), variant.constraints());
        tail.extend_from_slice(&framed(8, &name));
    }
    let errors = match variant {
        Variant::Sotw => 7,
        Variant::Delta => 9,
    };
    for name in &response.missing {
        let text = "the control plane has no such resource";
        error(&mut tail, errors, name, (tonic::Code::NotFound, text));
    }
    for name in &response.denied {
        let text =
            "the control plane has such a resource, and not for this node: see `nodes` in its file";
        error(
            &mut tail,
            errors,
            name,
            (tonic::Code::PermissionDenied, text),
        );
    }
    pieces.push(tail.freeze());
    let length = head.len() + pieces.iter().map(Bytes::len).sum::<usize>();
    let mut framed = BytesMut::with_capacity(5 + head.len());
    framed.put_u8(0);
    framed.put_u32(prefixed(length)?);
    framed.extend_from_slice(&head);
    pieces[0] = framed.freeze();
    Ok(pieces)
}

/// The length of a message as gRPC writes it before it.
///
/// # Errors
/// It is longer than that can say.
fn prefixed(length: usize) -> Result<u32, Refusal> {
    u32::try_from(length).map_err(|_| {
        Refusal::exhausted(format!(
            "a response of {length} bytes: a message of gRPC has {} at most",
            u32::MAX
        ))
    })
}

/// A `Resource` without its resource, which the client has.
fn beat(resource: &Encoded) -> Bytes {
    let mut inner = BytesMut::new();
    text(&mut inner, 1, resource.version());
    match resource.constraints() {
        None => text(&mut inner, 3, resource.name()),
        of @ Some(_) => {
            let name = variant::resource_name(resource.name(), of);
            inner.extend_from_slice(&framed(8, &name));
        }
    }
    if let Some(ttl) = resource.ttl() {
        duration(&mut inner, 6, ttl);
    }
    framed(2, &inner)
}

/// A `Resource` that does not exist: a virtual host, under the name that was asked for.
fn unknown(name: &str) -> Bytes {
    let mut inner = BytesMut::new();
    text(&mut inner, 3, name);
    text(&mut inner, 4, name);
    framed(2, &inner)
}

/// A `ResourceError`: the name, and why it is not there.
fn error(out: &mut BytesMut, field: u8, name: &str, (code, why): (tonic::Code, &str)) {
    let named = variant::resource_name(name, None);
    let mut status = BytesMut::new();
    status.put_u8(1 << 3);
    protobuf::put(&mut status, code as u64);
    text(&mut status, 2, why);
    let mut inner = BytesMut::new();
    inner.extend_from_slice(&framed(1, &named));
    inner.extend_from_slice(&framed(2, &status));
    out.extend_from_slice(&framed(field, &inner));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn joined(pieces: &[Bytes]) -> Bytes {
        let all = pieces.concat();
        let length = u32::from_be_bytes(all[1..5].try_into().expect("four bytes"));
        assert_eq!((all[0], length as usize), (0, all.len() - 5));
        Bytes::from(all).slice(5..)
    }

    fn response(items: Vec<Item>) -> Response {
        Response {
            kind: Kind::Endpoints,
            nonce: 7,
            version: "v".into(),
            items,
            removed: vec!["gone".into()],
            left: Vec::new(),
            missing: vec!["none".into()],
            denied: vec!["hidden".into()],
        }
    }

    #[test]
    fn a_response_decodes_in_both_variants() {
        let resource = Arc::new(Encoded::new(Kind::Endpoints, "a", b"\x0a\x01a"));
        let items = vec![
            Item::Full(resource.clone()),
            Item::Beat(resource.clone()),
            Item::Unknown("r/h".into()),
        ];
        let pieces = write(Variant::Delta, &response(items)).expect("a short one");
        let delta = pb::DeltaDiscoveryResponse::decode(joined(&pieces)).expect("it decodes");
        assert_eq!((&*delta.nonce, &*delta.system_version_info), ("7", "v"));
        assert_eq!(delta.type_url, Kind::Endpoints.type_url());
        assert_eq!(delta.removed_resources, ["gone"]);
        let names: Vec<_> = delta.resources.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["a", "a", "r/h"]);
        assert!(delta.resources[1].resource.is_none());
        assert_eq!(delta.resources[1].version, delta.resources[0].version);
        assert_eq!(delta.resources[2].aliases, ["r/h"]);
        let mut whole = response(vec![Item::Full(resource)]);
        whole.removed.clear();
        let pieces = write(Variant::Sotw, &whole).expect("a short one");
        let sotw = pb::DiscoveryResponse::decode(joined(&pieces)).expect("it decodes");
        assert_eq!((&*sotw.nonce, &*sotw.version_info), ("7", "v"));
        assert_eq!(sotw.resources[0].value, b"\x0a\x01a");
        for errors in [&sotw.resource_errors, &delta.resource_errors] {
            let told = errors.iter().map(|error| {
                let name = error.resource_name.as_ref().map(|name| &*name.name);
                (name, error.error_detail.as_ref().map(|status| status.code))
            });
            let told: Vec<_> = told.collect();
            assert_eq!(told, [(Some("none"), Some(5)), (Some("hidden"), Some(7))]);
        }
    }

    /// Files are bounded; what a program publishes is not.
    #[test]
    fn a_response_that_grpc_cannot_carry_is_an_error() {
        assert_eq!(prefixed(5).expect("short enough"), 5);
        let most = u32::MAX as usize;
        assert_eq!(prefixed(most).expect("just short enough"), u32::MAX);
        let refusal = prefixed(most + 1).expect_err("too long");
        assert!(
            refusal.message.contains("4294967296 bytes"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn a_storm_of_invented_type_urls_asks_for_nothing() {
        for at in 0..10_000 {
            let request = pb::DeltaDiscoveryRequest {
                type_url: format!("type.googleapis.com/invented.Kind{at}"),
                resource_names_subscribe: vec!["a".into()],
                ..pb::DeltaDiscoveryRequest::default()
            };
            let bytes = Bytes::from(request.encode_to_vec());
            let read = read(Variant::Delta, None, bytes).expect("survived");
            assert!(read.body.is_none(), "nothing reaches the stream's machine");
        }
    }

    #[test]
    fn s17_s22_type_urls_are_judged_by_the_stream() {
        let request = |type_url: &str| {
            let request = pb::DiscoveryRequest {
                type_url: type_url.into(),
                ..pb::DiscoveryRequest::default()
            };
            Bytes::from(request.encode_to_vec())
        };
        let cds = Kind::Cluster.type_url();
        let none = read(Variant::Sotw, None, request("")).expect_err("no type_url");
        assert!(none.message.contains("no type_url"), "{}", none.message);
        let unknown =
            read(Variant::Sotw, None, request("type.googleapis.com/a.B")).expect("survived");
        assert!(unknown.body.is_none());
        let implied = read(Variant::Sotw, Some(Kind::Cluster), request("")).expect("implied");
        assert!(matches!(implied.body, Some(Body::Sotw(body)) if body.kind == Kind::Cluster));
        assert!(read(Variant::Sotw, Some(Kind::Cluster), request(cds)).is_ok());
        assert!(read(Variant::Sotw, Some(Kind::Routes), request(cds)).is_err());
        for variant in [Variant::Sotw, Variant::Delta] {
            assert!(read(variant, None, Bytes::from_static(b"\xff\xff")).is_err());
        }
    }
}
