//! Requests through the front door, over memory.

mod answers;
#[cfg(feature = "yaml")]
mod article;
mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod edits;
mod faults;
mod hostile;
#[cfg(feature = "inbound")]
mod inbound;
mod limits;
mod outlier;
mod protocols;
mod retries;
mod routing;
mod timeouts;
pub(crate) mod world;
