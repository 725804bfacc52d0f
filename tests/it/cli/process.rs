//! Child processes that end with their test.

use std::net::SocketAddr;
#[cfg(unix)]
use std::process::ExitStatus;
use std::process::{Output, Stdio};
use std::time::Duration;

#[cfg(unix)]
use tokio::io::AsyncReadExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a child may take for what takes it milliseconds, on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The built binary with `args`.
pub(super) fn meshwork(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwork"));
    command.args(args).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(super) async fn run(args: &[&str]) -> Output {
    let output = meshwork(args).output();
    tokio::time::timeout(PATIENCE, output)
        .await
        .expect("it ends")
        .expect("it starts")
}

/// A running `meshwork echo` on a free port.
pub(super) struct Echo {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Echo {
    /// Starts an echo with these flags and waits until it listens.
    pub(super) async fn start(flags: &[&str]) -> Self {
        let mut command = meshwork(&["echo", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line());
        let first = first
            .await
            .expect("it starts in time")
            .expect("its stdout can be read");
        let first = first.expect("it writes a line before it ends");
        let address = first.strip_prefix("listening on ").expect(&first);
        Self {
            child,
            address: address.parse().expect(address),
        }
    }

    /// Sends SIGTERM.
    #[cfg(unix)]
    pub(super) async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &id])
            .status()
            .await;
        assert!(kill.expect("there is a shell").success());
    }

    /// Waits for the end; the exit status and what it said on stderr.
    #[cfg(unix)]
    pub(super) async fn end(mut self) -> (ExitStatus, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait());
        let status = status
            .await
            .expect("it ends")
            .expect("it can be waited for");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        stderr.read_to_string(&mut said).await.expect("text");
        (status, said)
    }
}
