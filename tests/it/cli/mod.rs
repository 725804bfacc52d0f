//! The `meshwork` command, driven as a user drives it: the built binary, real sockets, real signals.

mod authz;
mod call;
mod check;
mod demo;
mod diff;
mod echo;
mod explain;
mod identity;
mod operate;
mod process;
mod proto;
mod serve;
mod serve_secured;
mod served;

/// The echo's messages and client, as the binary has them.
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::pedantic,
    reason = "generated"
)]
pub(crate) mod echo_proto {
    include!("../../../src/bin/meshwork/echo/meshwork.echo.v1.rs");
}
