//! Requests through the front door, over memory.

mod routing;
pub(crate) mod world;
