//! Requests through the front door, over memory.

mod dns;
mod routing;
pub(crate) mod world;
