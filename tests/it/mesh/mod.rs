//! Requests through the front door, over memory.

mod edits;
mod events;
mod hedging;
mod mirroring;
mod routing;
mod tasks;
pub(crate) mod world;
