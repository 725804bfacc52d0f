//! Requests through the front door, over memory.

#[cfg(feature = "yaml")]
mod balance;
mod cancel;
#[cfg(feature = "yaml")]
mod disk;
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
