//! Requests through the front door, over memory.

mod mirroring;
mod routing;
pub(crate) mod world;
