//! Identities and encrypted connections, with certificates that are made for each test.

pub(crate) mod authority;
mod certificates;
mod files;
mod handshakes;
mod ports;
mod secrets;
mod sniffing;
mod told;
mod trust;
