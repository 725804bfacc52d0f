//! Requests through the front door, over memory.

mod routing;
mod tasks;
pub(crate) mod world;
