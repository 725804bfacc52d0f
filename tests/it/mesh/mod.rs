//! Requests through the front door, over memory.

mod answers;
#[cfg(feature = "yaml")]
mod article;
#[cfg(all(feature = "inbound", feature = "yaml"))]
mod authorization;
mod balance;
mod cancel;
#[cfg(feature = "yaml")]
mod disk;
mod dns;
mod edits;
mod events;
mod explain;
mod faults;
#[cfg(feature = "yaml")]
mod gamma;
mod hedging;
mod hostile;
#[cfg(feature = "inbound")]
mod inbound;
mod limits;
mod mirroring;
mod outlier;
mod protocols;
mod retries;
mod routing;
mod streaming;
mod tasks;
mod timeouts;
pub(crate) mod world;
