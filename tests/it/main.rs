//! One binary for all integration tests, so that linking is paid once. Try not to add another.

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "yaml")]
mod compile;
#[cfg(feature = "control-plane")]
mod control;
mod house;
#[cfg(feature = "yaml")]
mod istio;
mod layer;
#[cfg(feature = "outbound")]
mod mesh;
#[cfg(feature = "test-util")]
mod testing;
#[cfg(feature = "tls-core")]
mod tls;
#[cfg(feature = "outbound")]
mod transport;
#[cfg(feature = "xds")]
mod xds;
