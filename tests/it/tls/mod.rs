//! Identities and encrypted connections, with certificates that are made for each test.

pub(crate) mod authority;
mod certificates;
mod doors;
#[cfg(feature = "yaml")]
mod explained;
mod files;
pub(crate) mod handshakes;
#[cfg(feature = "yaml")]
mod policies;
mod ports;
mod rotation;
mod secrets;
mod sniffing;
mod told;
mod trust;
#[cfg(all(unix, feature = "spiffe"))]
mod workload_api;
