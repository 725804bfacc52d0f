//! Requests through the front door, over memory.

mod dns;
mod edits;
mod routing;
mod tasks;
pub(crate) mod world;
