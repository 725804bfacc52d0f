//! Requests through the front door, over memory.

mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod dns;
mod edits;
mod faults;
mod limits;
mod mirroring;
mod outlier;
mod retries;
mod routing;
mod tasks;
mod timeouts;
pub(crate) mod world;
