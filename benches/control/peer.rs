//! The servers: each a process of its own that has one core, says where it listens, and publishes
//! what it is told on its input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use meshwork::control::{Limits, Server, Store};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;

use crate::mesh;

/// The servers that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    Bare,
    GoControlPlane,
    Meshwork,
}

/// The variants of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Variant {
    Delta,
    Sotw,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare h2",
            Self::GoControlPlane => "go-control-plane",
            Self::Meshwork => "meshwork",
        }
    }

    fn command(self) -> Result<Command, String> {
        match self {
            Self::GoControlPlane => {
                let mut command = Command::new(built()?);
                command.env("GOMAXPROCS", "1");
                Ok(command)
            }
            Self::Bare => own("--serve-bare"),
            Self::Meshwork => own("--serve"),
        }
    }
}

impl Variant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Sotw => "SotW",
        }
    }
}

/// This program as a server.
fn own(argument: &str) -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.arg(argument);
    Ok(command)
}

/// Builds the server of go-control-plane, which lies beside this file.
fn built() -> Result<PathBuf, String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/control/go");
    let binary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("control-go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&binary).arg(".");
    let built = build.current_dir(source).output();
    match built {
        Err(error) => Err(format!("go is not there: {error}")),
        Ok(output) if !output.status.success() => {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
        Ok(_) => Ok(binary),
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(peer: Peer) -> Result<Self, String> {
        let mut command = peer.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let address = line.trim().parse();
        let address = address.map_err(|_| format!("it says {line:?} instead of its address"))?;
        Ok(Self {
            child,
            input,
            output,
            address,
        })
    }

    /// Publishes the mesh after so many pushes; returns when that is done.
    pub(crate) fn push(&mut self, push: u32) -> Result<(), String> {
        let told = writeln!(self.input, "{push}");
        told.map_err(|error| error.to_string())?;
        let mut line = String::new();
        let heard = self.output.read_line(&mut line);
        match heard {
            Ok(_) if line.trim() == push.to_string() => Ok(()),
            other => Err(format!("after push {push} it says {line:?}, {other:?}")),
        }
    }

    /// Bytes of it that are in memory.
    pub(crate) fn resident(&self) -> Result<usize, String> {
        let text = self.about("statm")?;
        let pages = text.split(' ').nth(1).and_then(|text| text.parse().ok());
        let pages: usize = pages.ok_or_else(|| format!("statm is {text:?}"))?;
        Ok(pages * 4096)
    }

    /// What it has had of the processor, to a hundredth of a second.
    pub(crate) fn processor(&self) -> Result<Duration, String> {
        let text = self.about("stat")?;
        // The name of the program may hold anything, and stands in parentheses.
        let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut ticks = fields.split(' ').skip(11).take(2);
        let mut next = || ticks.next().and_then(|text| text.parse::<u64>().ok());
        match (next(), next()) {
            (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 10)),
            _ => Err(format!("stat is {text:?}")),
        }
    }

    fn about(&self, what: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{what}", self.child.id());
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread to work on.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// With room for all who come at once, as `meshwork serve` has it.
pub(crate) fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    socket.listen(4_096).expect("it listens")
}

/// This library's server, until its input ends.
pub(crate) fn serve() {
    let runtime = runtime();
    let store = Store::new();
    store.publish(mesh::content(0));
    let server = Server::new(store.clone()).with_limits(Limits {
        streams: 100_000,
        connections: 100_000,
        ..Limits::default()
    });
    let listener = runtime.block_on(async { listener() });
    println!("{}", listener.local_addr().expect("it is bound"));
    runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
    for line in std::io::stdin().lines() {
        let line = line.expect("lines");
        store.publish(mesh::content(line.parse().expect("a number")));
        println!("{line}");
    }
}
