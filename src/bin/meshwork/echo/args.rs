//! `meshwork echo`: the flags, the process around the server.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use meshwork::{Mesh, Random};
use tokio::net::TcpListener;
use tonic::Code;

use super::{Behaviour, Conduct, Options, Share, serve};
use crate::{duration, signal};

/// Serve answers that tell what arrived: HTTP/1.1, HTTP/2 (prior knowledge) and gRPC on one port.
///
/// Plain HTTP gets JSON: name, protocol, method, path, authority, headers, attempt (from
/// x-envoy-attempt-count), body_bytes, and behind a mesh the verified identity of the caller. gRPC gets the same facts from meshwork.echo.v1.Echo (unary
/// and streaming), from health and reflection what they say everywhere, and from a unary call to any
/// other service and method an EchoResponse, whose field 1 is the name.
///
/// The first line on stdout is `listening on ADDRESS:PORT`. SIGTERM and SIGINT drain: the
/// port is closed, requests in flight are finished, idle connections end; then the exit code is 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// What the echo calls itself in its answers
    #[arg(long, default_value = "echo")]
    name: String,

    /// HTTP status of the failing share, 200 to 599 [default: 503]. gRPC calls get what gRPC makes
    /// of it: 400 INTERNAL, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 UNIMPLEMENTED, 429, 502,
    /// 503 and 504 UNAVAILABLE, others UNKNOWN
    #[arg(long, value_name = "CODE", value_parser = status)]
    status: Option<StatusCode>,

    /// gRPC status of the failing share, 1 to 16 [default: that of --status]
    #[arg(long, value_name = "CODE", value_parser = grpc_status)]
    grpc_status: Option<Code>,

    /// Share of requests that fails, 0 to 1 [default: 1 with --status or --grpc-status, else 0]
    #[arg(long, value_name = "SHARE")]
    fail_rate: Option<Share>,

    /// How long each request waits before it is answered, failed or reset, such as 20ms or 1.5s
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration::parse)]
    delay: Duration,

    /// Share of requests, 0 to 1, whose HTTP/2 stream or HTTP/1.1 connection is reset instead of
    /// answered; drawn before --fail-rate
    #[arg(long, value_name = "SHARE", default_value_t = Share::NONE)]
    reset_rate: Share,

    /// How long a drain waits for requests in flight before it cuts them
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    drain: Duration,

    /// Seed of the random choices, for a run that can be repeated [default: a random one]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    #[command(flatten)]
    mesh: super::meshed::Flags,
}

fn status(text: &str) -> Result<StatusCode, String> {
    match text.parse::<u16>() {
        Ok(code @ 200..=599) => StatusCode::from_u16(code).map_err(|error| error.to_string()),
        _ => Err("expected an HTTP status from 200 to 599, such as 503".to_owned()),
    }
}

fn grpc_status(text: &str) -> Result<Code, String> {
    match text.parse::<i32>() {
        Ok(code @ 1..=16) => Ok(Code::from_i32(code)),
        _ => Err("expected a gRPC status from 1 to 16, such as 14 (UNAVAILABLE)".to_owned()),
    }
}

impl Args {
    fn conduct(&self) -> Conduct {
        let default = Conduct::default();
        let told_to_fail = self.status.is_some() || self.grpc_status.is_some();
        Conduct {
            status: self.status.unwrap_or(default.status),
            grpc_status: self.grpc_status,
            fail: self.fail_rate.unwrap_or(if told_to_fail {
                Share::ALL
            } else {
                Share::NONE
            }),
            fail_every: None,
            delay: self.delay,
            reset: self.reset_rate,
            down: false,
        }
    }
}

/// Runs the echo until it is told to end.
///
/// # Errors
///
/// The address cannot be listened on, or signals cannot be awaited.
#[tokio::main]
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dice = args.seed.map_or_else(Random::from_entropy, Random::seeded);
    let mesh = args.mesh.mesh().await?;
    let options = Options {
        behaviour: Arc::new(Behaviour::new(args.conduct(), dice)),
        drain: args.drain,
        name: args.name.into(),
    };
    if let Some(mesh) = mesh {
        return behind(&mesh, args.listen, options).await;
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address, or port 0 for a free port",
            args.listen
        )
    })?;
    // Before the line that tells a script that it may send signals.
    let shutdown = signal::end()?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "listening on {address}").context("cannot write to stdout")?;

    let cut = serve(listener, options, shutdown).await?;
    if cut > 0 {
        eprintln!("meshwork echo: cut {cut} connections that did not end within the drain");
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves at a port of a mesh.
async fn behind(mesh: &Mesh, address: SocketAddr, options: Options) -> anyhow::Result<ExitCode> {
    let listener = mesh.listen(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address, or port 0 for a free port")
    })?;
    let shutdown = signal::end()?;
    let address = listener.local_addr();
    writeln!(std::io::stdout(), "listening on {address}").context("cannot write to stdout")?;
    let left = super::serve_behind(mesh, listener, options, shutdown).await?;
    if left > 0 {
        eprintln!("meshwork echo: cut {left} requests that did not end within the drain");
    }
    Ok(ExitCode::SUCCESS)
}
