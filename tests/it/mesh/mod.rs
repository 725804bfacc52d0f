//! Requests through the front door, over memory.

mod edits;
mod routing;
mod tasks;
pub(crate) mod world;
