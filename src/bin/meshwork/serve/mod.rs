//! `meshwork serve`: the mesh of a folder, for clients that speak xDS.

mod authority;

use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use meshwork::control::{Content, Egress, Limits, Server, Store};
use meshwork::model::security::Files;
use meshwork::tls::FileSource;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Reading, must_exist};
use crate::{duration, log, signal};

/// Serve a folder of YAML by xDS: to proxyless gRPC of every language, to Envoy and to this library.
///
/// The folder is watched: a good edit is with all clients within a second, one with an error
/// changes nothing and is told on stderr with file, line and a way out. Each client gets the view of
/// its own namespace, labels and locality, as its node metadata says them.
///
/// The first line on stdout is `listening on ADDRESS:PORT`, the second, where there is one, `admin endpoint at
/// http://ADDRESS:PORT`. SIGTERM and SIGINT drain: streams end one
/// by one so that clients do not all leave in one moment; then the exit code is 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of YAML files, or one file
    #[arg(long, value_name = "PATH")]
    config: PathBuf,

    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    listen: SocketAddr,

    /// Address of the admin endpoint (a page at /, the rest at /help, CSDS by gRPC); without it
    /// there is none. It has no authentication
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,

    /// A listener that every Envoy opens, with the routes of all services of one port (80 unless
    /// said); may be repeated
    #[arg(long = "envoy-listener", value_name = "ADDR:PORT[=SERVICEPORT]")]
    envoy_listeners: Vec<Egress>,

    /// Discovery streams at a time; gRPC opens one for each target
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().streams, value_parser = number)]
    max_streams: usize,

    /// Connections at a time; further ones wait
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections, value_parser = number)]
    max_connections: usize,

    /// Streams that get their first state at the same time; others wait for their turn
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().initial_syncs, value_parser = number)]
    initial_syncs: usize,

    /// Names that one stream may subscribe to or bring from another one, of all types together; beyond them it
    /// ends with RESOURCE_EXHAUSTED
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().names, value_parser = number)]
    max_names: usize,

    /// Views that clients have of the mesh at a time: those with equal namespace, labels, service account and
    /// locality share one; beyond them a new stream ends with RESOURCE_EXHAUSTED
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().views, value_parser = number)]
    max_views: usize,

    /// Bytes of one request; a larger one ends its stream with an error
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().message_bytes, value_parser = bytes)]
    max_request_bytes: usize,

    /// How long a drain lasts before it cuts what is left
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    drain: Duration,

    #[command(flatten)]
    tls: Tls,

    #[command(flatten)]
    ca: authority::CaFlags,

    #[command(flatten)]
    reading: Reading,
}

/// The files of a port with TLS; they may be renewed while it serves.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
struct Tls {
    /// PEM chain of the server, whose port has TLS then
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// PEM key of the server
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// PEM roots: clients must present a certificate of these, whose identity decides on their view. Without
    /// them clients present none, and are believed what they say
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_roots: Option<PathBuf>,
}

impl Tls {
    fn files(self) -> Option<Files> {
        let file = |path: Option<PathBuf>| path.map(|path| path.as_path().into());
        self.tls_certificate.is_some().then(|| Files {
            certificate: file(self.tls_certificate),
            key: file(self.tls_key),
            roots: file(self.tls_roots),
            revocations: None,
        })
    }
}

/// A bound that leaves room for one, up to ten million.
fn number(text: &str) -> Result<usize, String> {
    within(text, 1..=10_000_000, "")
}

/// Bytes of a request: the first one of a client, which says who it is, has some hundred.
fn bytes(text: &str) -> Result<usize, String> {
    within(text, 1_024..=1 << 30, " bytes")
}

fn within(text: &str, bounds: RangeInclusive<usize>, unit: &str) -> Result<usize, String> {
    let parsed = text.parse().ok().filter(|number| bounds.contains(number));
    parsed.ok_or_else(|| {
        let (least, most) = bounds.into_inner();
        format!("expected a number from {least} to {most}{unit}")
    })
}

impl Args {
    fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            streams: self.max_streams,
            initial_syncs: self.initial_syncs,
            names: self.max_names,
            views: self.max_views,
            message_bytes: self.max_request_bytes,
            drain: self.drain,
            ..Limits::default()
        }
    }
}

/// Serves until it is told to end.
///
/// # Errors
///
/// The files have faults, the address cannot be listened on, or signals cannot be awaited.
#[tokio::main]
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    must_exist(&args.config)?;
    let set_levels = log::to_stderr("info");
    let beside = Content::default().with_egress(args.envoy_listeners.iter().copied());
    let followed = Store::follow_with(&args.config, args.reading.options(), beside).await;
    let limits = args.limits();
    let ca = args.ca.authority()?;
    let store = match followed {
        Ok(store) => store,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let listener = bind(args.listen)?;
    let admin = match args.admin {
        Some(address) => Some(bind(address)?),
        None => None,
    };
    // Before the line that tells a script that it may send signals.
    let shutdown = signal::end()?;
    // In one piece: who reads a line and leaves has not missed the other.
    let mut told = format!("listening on {}\n", listener.local_addr()?);
    if let Some(admin) = &admin {
        told.push_str(&format!(
            "admin endpoint at http://{}\n",
            admin.local_addr()?
        ));
    }
    let written = std::io::stdout().write_all(told.as_bytes());
    written.context("cannot write to stdout")?;

    let server = Server::new(store).with_limits(limits);
    let mut server = server.with_log_levels(set_levels);
    if let Some(files) = args.tls.files() {
        server = match files.roots.is_some() {
            true => server.with_mutual_tls(FileSource::new(files)),
            false => server.with_tls(FileSource::new(files)),
        };
    }
    if let Some(ca) = ca {
        server = server.with_ca(ca)?;
    }
    let asked = async {
        match admin {
            Some(admin) => server.admin(admin).await,
            None => std::future::pending().await,
        }
    };
    let cut = tokio::select! {
        cut = server.serve(listener, shutdown) => cut?,
        () = asked => 0,
    };
    if cut > 0 {
        eprintln!("meshwork serve: cut {cut} connections that did not end within the drain");
    }
    Ok(ExitCode::SUCCESS)
}

/// Connections that may wait to be accepted. The standard library has room for 128: after a restart all clients
/// come at once, and who finds no room tries again a second later, and then two seconds.
const WAITING: u32 = 4_096;

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address).with_context(|| {
        format!("cannot listen on {address}; choose another address, or port 0 for a free port")
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the standard library does: a port is free again as soon as its server has ended.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The limits of a command line, or why there are none.
    fn limits(flag: &str, value: &str) -> Result<Limits, String> {
        let line = Line::try_parse_from(["serve", "--config", "mesh", flag, value]);
        let line = line.map_err(|error| error.to_string())?;
        Ok(line.args.limits())
    }

    #[test]
    fn no_flag_starts_a_server_that_refuses_all() {
        for flag in [
            "--max-streams",
            "--max-connections",
            "--initial-syncs",
            "--max-names",
            "--max-views",
            "--max-request-bytes",
        ] {
            let fault = limits(flag, "0").expect_err(flag);
            assert!(fault.contains("expected a number from 1"), "{fault}");
            assert!(fault.contains(flag), "{fault}");
        }
        let views = limits("--max-views", "7").expect("a number");
        let expected = Limits {
            views: 7,
            ..Limits::default()
        };
        assert_eq!(views, expected);
    }

    #[test]
    fn bounds_that_would_refuse_everything_or_bound_nothing_are_none() {
        assert_eq!((number("1"), number("10000000")), (Ok(1), Ok(10_000_000)));
        for text in ["0", "-1", "10000001", "1.5", "many", ""] {
            let expected = Err("expected a number from 1 to 10000000".to_owned());
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(
            (bytes("1024"), bytes("1073741824")),
            (Ok(1_024), Ok(1 << 30))
        );
        for text in ["0", "1023", "1073741825", "4MiB"] {
            let expected = Err("expected a number from 1024 to 1073741824 bytes".to_owned());
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
