//! `meshwork call`: the flags.

use std::path::PathBuf;
use std::time::Duration;

use super::load::Load;
use super::request::Wanted;
use crate::config::{Client, Identity, Reading};
use crate::duration;

/// The most calls that are under way at a time.
const CONCURRENCY: u32 = 10_000;

/// Send requests through a mesh and tell what it did with them.
///
/// With neither --config nor --xds, and neither of gRPC's bootstrap variables in the environment, the
/// mesh knows nobody and every host is passed through by DNS. YAML is watched: an edit is in force
/// within a second, also while calls are sent; a control plane sends what changes.
///
/// A call is ok if its answer has an HTTP status below 400, or the gRPC status 0. Answers that the
/// mesh gives itself (no route, a timeout, a limit) count with the status that a sidecar would have
/// sent.
///
/// Exit code: 0 when it ran, whatever the answers were; 2 for wrong arguments or a configuration
/// with errors.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom to call: http://HOST[:PORT][/PATH], with --grpc only the host; or xds:///LISTENER, the
    /// name of a listener, whose path is /
    #[arg(value_name = "URL", required_unless_present = "stdin")]
    pub(super) url: Option<String>,

    /// Folder (or file) of Istio and Kubernetes YAML that configures the mesh
    #[arg(long, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,

    /// gRPC's bootstrap file of the control planes that configure the mesh [default: what
    /// GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG say, unless there is --config]
    #[arg(long, value_name = "BOOTSTRAP.json", conflicts_with = "config")]
    pub(super) xds: Option<PathBuf>,

    /// How many calls to make [default: 1, or no limit with --duration]
    #[arg(short = 'n', long = "requests", value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// How many calls are under way at a time [default: 1; with --rate as many as it takes, up to
    /// 10000]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY)))]
    concurrency: Option<u32>,

    /// Calls per second, begun on schedule whether or not earlier ones have ended; latencies then
    /// count from the scheduled beginning
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,

    /// How long to begin calls, such as 30s; those under way are finished
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    duration: Option<Duration>,

    /// HTTP method [default: GET, or POST with -d]
    #[arg(short = 'X', long, value_name = "METHOD", conflicts_with = "grpc")]
    method: Option<String>,

    /// A request header, such as 'x-canary: true'; may be repeated. `host` replaces the host of the
    /// URL, by which the mesh routes
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The request's body
    #[arg(short, long, value_name = "BODY", conflicts_with = "grpc")]
    data: Option<String>,

    /// Make unary gRPC calls of this method
    #[arg(long, value_name = "PACKAGE.SERVICE/METHOD")]
    grpc: Option<String>,

    /// The gRPC request message in hex [default: the empty message]
    #[arg(long, value_name = "HEX")]
    data_hex: Option<String>,

    /// How long a caller waits for each call, its body included [default: as the route says]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// Answer questions about this process at a loopback address, such as 127.0.0.1:15000: /ready,
    /// /stats, /clusters, /config_dump, /certs, /logging, /explain, and client status and health by
    /// gRPC; `meshwork top`, `dump`, `certs` and `explain --process` ask there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) admin: Option<std::net::SocketAddr>,

    /// Print the result as one line of JSON, the last line of stdout
    #[arg(long)]
    pub(super) json: bool,

    /// Keep one mesh and read one JSON object per line from stdin, printing one result object per
    /// line. Fields: url, grpc (PACKAGE.SERVICE/METHOD, or with the host before it:
    /// HOST/PACKAGE.SERVICE/METHOD), n, c, rate, duration, method, headers (an object of texts or
    /// lists of texts), body, data_hex, timeout. What a line does not say is as the flags say. A line
    /// that is wrong gets a result with nothing sent and the reason in last_error; then the
    /// exit code is 2 at the end
    #[arg(long)]
    pub(super) stdin: bool,

    #[command(flatten)]
    pub(super) identity: Identity,

    #[command(flatten)]
    pub(super) client: Client,

    #[command(flatten)]
    pub(super) reading: Reading,
}

impl Args {
    /// What to send, as the flags say.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            url: self.url.clone(),
            grpc: self.grpc.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: self.data.clone(),
            data_hex: self.data_hex.clone(),
            timeout: self.timeout,
        }
    }

    /// How much of it, as the flags say.
    pub(super) fn load(&self) -> Load {
        Load {
            requests: self.requests,
            concurrency: self.concurrency,
            rate: self.rate,
            duration: self.duration,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) => check_rate(rate),
        Err(_) => check_rate(f64::NAN),
    }
}

/// A rate of calls that can be scheduled.
pub(super) fn check_rate(rate: f64) -> Result<f64, String> {
    if (0.001..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("expected calls per second from 0.001 to 1000000, such as 500".to_owned())
    }
}

/// A number of calls under way that can be served.
pub(super) fn check_concurrency(number: u64) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(number @ 1..=CONCURRENCY) => Ok(number),
        _ => Err(format!("expected a number from 1 to {CONCURRENCY}")),
    }
}
