//! Configuration by a control plane, through the front door, over memory.

mod calls;
mod catalogue;
mod clusters;
mod custom;
mod descriptors;
#[cfg(feature = "control-plane")]
mod equivalence;
mod filters;
mod loss;
pub(crate) mod messages;
mod names;
mod peers;
mod plane;
mod reports;
mod security;
mod server;
mod tokens;
