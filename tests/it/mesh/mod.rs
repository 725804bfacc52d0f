//! Requests through the front door, over memory.

mod edits;
mod routing;
pub(crate) mod world;
