//! The configuration in its one validated form.
//!
//! Istio YAML and xDS are two adapters at the edges of this model, so that an embedded mesh, a
//! served mesh and a foreign control plane cannot drift apart. Its shape is that of xDS (listener,
//! route configuration, cluster, endpoints) because that is the richer of the two languages; its
//! names are Envoy's.
//!
//! Values are parsed, not validated: what can be built can be used. There is no `is_valid`, no
//! empty list where one entry is required, no percentage above one hundred. Types of the wire and
//! of the file system (serde, prost) stay in their adapters, and nothing in here does IO or looks
//! at a clock.
//!
//! Every resource knows its [`Origin`], which takes no part in equality: an edit that only moves
//! a document down by a line changes nothing.

pub mod affinity;
pub mod authorization;
pub mod balancing;
pub mod capacity;
pub mod cluster;
pub mod custom;
pub mod endpoint;
pub mod expression;
pub mod fault;
pub mod health;
pub mod identity;
pub mod inbound;
pub mod limit;
pub(crate) mod line;
pub mod listener;
pub mod matcher;
mod number;
mod origin;
mod outbound_traffic;
pub mod outlier;
pub mod rate;
pub mod reported;
mod resources;
pub mod retry;
pub mod route;
pub mod security;
pub mod server;
pub mod telemetry;
pub mod token;
pub mod upgrade;
pub(crate) mod words;

pub use crate::list::List;
pub use cluster::Cluster;
pub use endpoint::Endpoints;
pub use inbound::Inbound;
pub use listener::Listener;
pub use number::{Fraction, InvalidFraction, InvalidPercent, Percent};
pub use origin::Origin;
pub use outbound_traffic::OutboundTraffic;
pub use resources::Resources;
pub use route::RouteConfiguration;
pub use telemetry::Telemetry;
