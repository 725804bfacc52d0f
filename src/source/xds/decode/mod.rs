//! From messages to the model: each resource alone becomes a valid value, or a list of faults.
//!
//! What is done with a field is one of four things, and `docs/XDS-FIELDS.md` says for each which.
//! It is *in force*; or its value is *rejected*, because it asks for what is not here; or it is
//! *without effect*, because no client could do anything with it (a buffer size, a tracing sample);
//! or it is not known at all and ignored, as protobuf wants it (gRFC A27). Fields that restrict or
//! secure (another condition of a match, a transport socket) are never without effect.
//!
//! The language is Envoy's, not only gRPC's part of it: a control plane that was made for Envoy is
//! understood. Where the two disagree on a default, the comment at the spot says who is followed.
//!
//! Decoding survives any bytes: recursion ends at prost's limit, lists of faults and quotes of
//! values have bounds, durations and numbers are checked before they are used.

mod action;
mod address;
mod affinity;
mod answer;
mod balancing;
mod certificates;
mod claims;
mod cluster;
mod connection;
mod discovery;
mod endpoints;
mod fault;
mod filters;
mod hashing;
mod headers;
mod health;
mod listener;
mod matches;
mod metadata;
mod outlier;
mod owner;
mod place;
mod policy;
mod rate;
mod rbac;
mod retry;
mod route;
mod routes;
mod secret;
mod security;
mod server;
mod token;
mod unknown;
mod value;

use std::cell::RefCell;
use std::sync::Arc;

use prost::Message;

use super::Kind;
use super::proto;
use super::resource::{Context, Decode, Decoded, Fault, Rejection, Resource};
use crate::filter::Filters;
use crate::model::Origin;
pub(super) use action::{prefix_pattern, whole_path};
pub(super) use affinity::CHANNEL_ID;
pub(super) use connection::OPTIONS;
pub(super) use matches::escaped;
pub(super) use metadata::{HASHED_BY, ISTIO, LABELS, OWN_LABELS, TLS, TLS_MODE};
use owner::Owner;
use place::{Faults, Place};
pub(super) use retry::GRPC_TOKENS;

/// The longest name of a resource, in bytes.
const MAX_NAME: usize = 4_096;

/// Decodes Envoy's messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Filters that the program has added.
    pub(crate) filters: Filters,
}

/// What the decoders of all kinds are given.
#[derive(Clone, Copy)]
struct Scope<'a> {
    context: Context<'a>,
    filters: &'a Filters,
    kind: Kind,
    /// Of the resource.
    name: &'a str,
    /// Of overrides of filters.
    owner: Owner<'a>,
}

impl<'a> Scope<'a> {
    /// The same, for the resource of this name.
    fn of(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// The same, for overrides of this owner.
    fn owned<'b>(self, owner: Owner<'b>) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { owner, ..self }
    }

    fn origin(&self, name: &str) -> Origin {
        let Context {
            server, version, ..
        } = self.context;
        Origin::control_plane(
            server.clone(),
            version.clone(),
            format!("{} {name}", self.kind),
        )
    }
}

impl Decode for Messages {
    fn decode(&self, kind: Kind, bytes: &[u8], context: Context<'_>) -> Result<Decoded, Rejection> {
        let scope = Scope {
            context,
            filters: &self.filters,
            kind,
            name: "",
            owner: Owner::root(""),
        };
        match kind {
            Kind::Listener => resource(
                bytes,
                "name",
                |message: &proto::listener::Listener| &message.name,
                |place, message| listener::listener(scope.of(&message.name), place, message),
            ),
            Kind::RouteConfiguration => resource(
                bytes,
                "name",
                |message: &proto::route::RouteConfiguration| &message.name,
                |place, message| {
                    let (routes, said) =
                        routes::configuration(scope.of(&message.name), place, message)?;
                    Some(Resource::RouteConfiguration {
                        routes: Arc::new(routes),
                        said: Arc::new(said),
                    })
                },
            ),
            Kind::Cluster => resource(
                bytes,
                "name",
                |message: &proto::cluster::Cluster| &message.name,
                |place, message| cluster::cluster(scope.of(&message.name), place, message),
            ),
            Kind::Endpoints => resource(
                bytes,
                "cluster_name",
                |message: &proto::endpoint::ClusterLoadAssignment| &message.cluster_name,
                |place, message| {
                    let endpoints =
                        endpoints::endpoints(scope.of(&message.cluster_name), place, message)?;
                    Some(Resource::Endpoints(Arc::new(endpoints)))
                },
            ),
            Kind::Secret => resource(
                bytes,
                "name",
                |message: &proto::tls::Secret| &message.name,
                secret::secret,
            ),
        }
    }
}

/// Reads the message and its name, which stands in `field`, then what `decode` makes of it.
fn resource<M: Message + Default>(
    bytes: &[u8],
    field: &str,
    name: impl Fn(&M) -> &String,
    decode: impl FnOnce(&Place<'_>, &M) -> Option<Resource>,
) -> Result<Decoded, Rejection> {
    let faults = RefCell::<Faults>::default();
    let root = Place::root(&faults);
    let message = M::decode(bytes).map_err(|error| Rejection {
        name: None,
        faults: vec![Fault {
            path: String::new(),
            text: format!("the bytes are no such message: {error}"),
        }],
    })?;
    let text = name(&message);
    if text.is_empty() || text.len() > MAX_NAME {
        let _: Option<()> = root.field(field).fault(format_args!(
            "has {} bytes; 1 to {MAX_NAME} are allowed",
            text.len()
        ));
    }
    let name: Arc<str> = name(&message).as_str().into();
    let resource = decode(&root, &message);
    match resource {
        Some(resource) if faults.borrow().is_empty() => Ok(Decoded { name, resource }),
        _ => Err(Rejection {
            name: (!name.is_empty() && name.len() <= MAX_NAME).then_some(name),
            faults: faults.into_inner().into_list(),
        }),
    }
}
