//! What one machine says, as the other one reads it.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::{DeltaRequest, Item, Outcome, Response, SotwRequest, Stream, Variant};
use crate::control::ads::Refusal;
use crate::control::kind::Kind;
use crate::source::xds::machine as client;

/// A request of the client, as the server reads it.
pub(super) fn take_in(
    stream: &mut Stream,
    kind: Kind,
    request: &client::Request,
    now: Instant,
) -> Result<Outcome, Refusal> {
    let owned = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    let (nonce, error) = (request.nonce.to_string(), None);
    match &request.ask {
        client::Ask::Sotw { names, version } => {
            let request = SotwRequest {
                kind,
                names: owned(names),
                version: version.to_string(),
                nonce,
                error,
            };
            stream.sotw(&request, now)
        }
        client::Ask::Delta {
            subscribe,
            unsubscribe,
            known,
        } => {
            let known = known.iter();
            let request = DeltaRequest {
                kind,
                subscribe: owned(subscribe),
                unsubscribe: owned(unsubscribe),
                initial: known
                    .map(|(name, version)| (name.to_string(), version.to_string()))
                    .collect(),
                nonce,
                error,
            };
            stream.delta(&request, now)
        }
    }
}

/// A response of the server, as the client reads it.
pub(super) fn message(variant: Variant, response: &Response) -> client::Response {
    let delta = variant == Variant::Delta;
    let type_url = response.kind.type_url();
    let resources = response.items.iter().map(|item| {
        let (content, one) = match item {
            Item::Beat(one) => (client::Content::Heartbeat, one),
            Item::Full(one) => {
                let raw = client::Raw {
                    type_url: type_url.into(),
                    bytes: one.body().to_vec().into(),
                };
                (client::Content::Message(raw), one)
            }
            Item::Unknown(name) => panic!("a virtual host {name}"),
        };
        client::Incoming {
            name: delta.then(|| one.name().clone()),
            version: delta.then(|| one.version().clone()),
            ttl: one.ttl(),
            content,
        }
    });
    let missing = response.missing.iter().map(|name| client::Unavailable {
        name: name.clone(),
        code: 5,
        text: "does not exist".into(),
    });
    client::Response {
        type_url: type_url.into(),
        version: response.version.clone(),
        nonce: response.nonce.to_string().into(),
        resources: resources.collect(),
        removed: response.removed.clone(),
        errors: missing.collect(),
    }
}
