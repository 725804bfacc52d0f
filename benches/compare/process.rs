//! Processes: started, asked for their first line, measured from outside, ended when dropped.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What one run of one client came to. Times of callers in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Calls a second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Microseconds of processor for each call.
    pub(crate) client: f64,
    pub(crate) proxies: f64,
    pub(crate) server: f64,
    /// The client's resident set, in MiB.
    pub(crate) resident: f64,
}

/// A process that runs, and the line that it began with.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) said: String,
}

impl Running {
    /// Starts it and waits for its first line.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let mut child = spawn(&mut command)?;
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let heard = output.read_line(&mut line);
        let running = Self {
            child,
            said: line.trim().to_owned(),
        };
        match heard {
            Ok(1..) => Ok(running),
            _ => Err(format!("{command:?} says nothing")),
        }
    }

    /// One that says nothing: a proxy on this address.
    pub(crate) fn silent(mut command: Command, address: String) -> Result<Self, String> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self {
            child,
            said: address,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command.stdout(Stdio::piped());
    command
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))
}

/// The first of several addresses.
pub(crate) fn first(addresses: &str) -> &str {
    addresses.split(',').next().unwrap_or_default()
}

/// Runs a client to its end, and reads what it, the proxies and the server used meanwhile.
pub(crate) fn measure(
    mut command: Command,
    server: u32,
    proxies: &[u32],
) -> Result<Figures, String> {
    command.stdin(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let client = child.id();
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let measured = follow(&mut output, client, server, proxies);
    let _ = measured.is_err().then(|| child.kill());
    let _ = child.wait();
    measured
}

fn follow(
    output: &mut impl std::io::BufRead,
    client: u32,
    server: u32,
    proxies: &[u32],
) -> Result<Figures, String> {
    let used = || -> Result<[f64; 3], String> {
        let together: Result<f64, String> = proxies.iter().map(|proxy| processor(*proxy)).sum();
        Ok([processor(client)?, together?, processor(server)?])
    };
    expect(output, "measuring")?;
    let before = used()?;
    expect(output, "measured")?;
    let (after, resident) = (used()?, resident(client)?);
    let mut rest = String::new();
    output
        .read_line(&mut rest)
        .map_err(|error| error.to_string())?;
    let seen: serde_json::Value =
        serde_json::from_str(rest.trim()).map_err(|error| format!("it says {rest:?}: {error}"))?;
    let number = |name: &str| {
        seen[name]
            .as_f64()
            .ok_or_else(|| format!("it says no {name:?}: {rest}"))
    };
    let calls = number("calls")?;
    if number("failed")? > 0.0 || calls == 0.0 {
        return Err(format!("calls failed: {}", rest.trim()));
    }
    let [client, proxies, server] = [0, 1, 2].map(|at| (after[at] - before[at]) * 1e6 / calls);
    Ok(Figures {
        rate: calls / number("seconds")?,
        p50: number("p50")?,
        p99: number("p99")?,
        p999: number("p999")?,
        client,
        proxies,
        server,
        resident,
    })
}

fn expect(output: &mut impl std::io::BufRead, wanted: &str) -> Result<(), String> {
    let mut line = String::new();
    let heard = output
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    match line.trim() == wanted {
        true => Ok(()),
        false if heard == 0 => Err("it has ended; above is what it said".into()),
        false => Err(format!("it says {line:?} and not {wanted:?}")),
    }
}

/// Seconds of processor that a process has used: fields 14 and 15 of its `stat`, in hundredths.
fn processor(process: u32) -> Result<f64, String> {
    let text = read(process, "stat")?;
    // The second field is a name in parentheses, which may have anything in it.
    let (_, rest) = text.rsplit_once(')').ok_or("a stat without a name")?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => {
            Ok(Duration::from_millis((user + system) * 10).as_secs_f64())
        }
        _ => Err(format!("a stat without times: {text}")),
    }
}

/// MiB of a process's memory that are resident.
fn resident(process: u32) -> Result<f64, String> {
    let text = read(process, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kibibytes
        .map(|number| number / 1_024.0)
        .ok_or_else(|| "a status without VmRSS".into())
}

fn read(process: u32, what: &str) -> Result<String, String> {
    let path = format!("/proc/{process}/{what}");
    std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
}
