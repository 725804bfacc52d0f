//! Requests through the front door, over memory.

mod access_log;
#[cfg(feature = "inbound")]
mod admin;
mod answers;
#[cfg(feature = "yaml")]
mod article;
#[cfg(all(feature = "inbound", feature = "yaml"))]
mod authorization;
mod balance;
mod cancel;
#[cfg(all(feature = "inbound", feature = "tls-core", feature = "yaml"))]
mod capacity;
mod churn;
#[cfg(all(feature = "inbound", feature = "xds"))]
mod debugged;
#[cfg(feature = "yaml")]
mod disk;
mod dns;
#[cfg(all(feature = "inbound", feature = "test-util"))]
mod door;
mod edits;
mod endpoints;
mod events;
mod explain;
mod faults;
#[cfg(all(feature = "inbound", feature = "tls-core"))]
mod frames;
#[cfg(feature = "yaml")]
mod gamma;
mod grpc_metrics;
mod health;
mod hedging;
mod hostile;
#[cfg(feature = "inbound")]
mod inbound;
#[cfg(all(feature = "inbound", feature = "rate-limit"))]
mod layers;
mod limits;
#[cfg(feature = "test-util")]
mod memory;
mod metrics;
mod mirroring;
mod near;
mod outlier;
mod protocols;
#[cfg(feature = "test-util")]
mod recording;
mod retries;
mod routing;
mod runtimes;
mod sessions;
#[cfg(feature = "yaml")]
mod shares;
mod soak;
mod streaming;
#[cfg(all(feature = "inbound", feature = "tls-core"))]
mod switched;
mod tasks;
#[cfg(all(feature = "inbound", feature = "yaml"))]
mod telemetry;
mod timeouts;
#[cfg(feature = "inbound")]
mod traces;
mod unswitched;
mod upgrades;
pub(crate) mod world;
