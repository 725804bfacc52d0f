//! Requests through the front door, over memory.

mod answers;
mod balance;
mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod dns;
mod edits;
mod faults;
mod hostile;
#[cfg(feature = "inbound")]
mod inbound;
mod limits;
mod mirroring;
mod outlier;
mod protocols;
mod retries;
mod routing;
mod tasks;
mod timeouts;
pub(crate) mod world;
