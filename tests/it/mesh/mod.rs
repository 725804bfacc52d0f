//! Requests through the front door, over memory.

mod dns;
mod routing;
mod tasks;
pub(crate) mod world;
