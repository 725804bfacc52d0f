//! One binary for all integration tests, so that linking is paid once. Try not to add another.

#[cfg(feature = "cli")]
mod cli;
mod layer;
