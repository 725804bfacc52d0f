//! Requests through the front door, over memory.

mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod edits;
mod faults;
#[cfg(feature = "yaml")]
mod gamma;
mod limits;
mod outlier;
mod retries;
mod routing;
mod tasks;
mod timeouts;
pub(crate) mod world;
