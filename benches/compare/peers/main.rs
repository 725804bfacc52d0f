//! Clients of other makers: `compare-peers SUBJECT --to ADDRESS,.. --callers N --milliseconds N`.
//!
//! `tower` is what a team makes by hand of tower's own parts, `tower-resilience` the same of that
//! crate's; both as near to the bench config as their parts come: no routes. `tonic-xds` is given the
//! bench config by a control plane, `--bootstrap FILE`.

mod collected;
#[path = "../driver.rs"]
mod driver;
#[path = "../host.rs"]
mod host;
mod resilience;
mod tower_stack;

use std::process::ExitCode;

use driver::{Generated, HOST};
use tonic::transport::{Channel, Endpoint};
use tonic_xds::{BootstrapConfig, XdsChannelBuilder, XdsChannelConfig, XdsUri};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match subject(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn subject(arguments: &[String]) -> Result<(), String> {
    let (load, time) = driver::wished(arguments)?;
    let to = driver::value(arguments, "--to").unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("tower") => {
            driver::run(
                Generated::with_origin(tower_stack::stack(channels(to)?)),
                load,
                time,
            )
            .await
        }
        Some("tower-resilience") => {
            let stack = resilience::stack(channels(to)?)?;
            driver::run(Generated::with_origin(stack), load, time).await
        }
        Some("tonic-xds") => {
            let file = driver::value(arguments, "--bootstrap").ok_or("--bootstrap is wanted")?;
            let json = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
            let bootstrap = BootstrapConfig::from_json(&json).map_err(|error| error.to_string())?;
            let target = XdsUri::parse(&format!("xds:///{HOST}:80"));
            let config = XdsChannelConfig::new(target.map_err(|error| error.to_string())?);
            let builder = XdsChannelBuilder::new(config.with_bootstrap(bootstrap));
            let channel = builder
                .build_grpc_channel()
                .map_err(|error| error.to_string())?;
            driver::run(Generated::new(channel), load, time).await
        }
        other => Err(format!(
            "{other:?} is no subject: tower, tower-resilience, tonic-xds"
        )),
    }
}

/// One channel of tonic for each address.
fn channels(addresses: &str) -> Result<Vec<Channel>, String> {
    let origin = || format!("http://{HOST}").parse();
    addresses
        .split(',')
        .map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|error| error.to_string())?;
            let origin = origin().map_err(|error: http::uri::InvalidUri| error.to_string())?;
            Ok(endpoint.origin(origin).connect_lazy())
        })
        .collect()
}
