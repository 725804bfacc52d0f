//! Requests through the front door, over memory.

mod balance;
mod edits;
mod routing;
mod tasks;
pub(crate) mod world;
