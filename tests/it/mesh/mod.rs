//! Requests through the front door, over memory.

mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod edits;
mod events;
mod faults;
mod hedging;
mod limits;
mod mirroring;
mod outlier;
mod retries;
mod routing;
mod streaming;
mod tasks;
mod timeouts;
pub(crate) mod world;
