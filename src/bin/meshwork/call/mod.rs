//! `meshwork call`: the mesh from the shell.
//!
//! It sends through [`Client`] like any program that links the mesh, so what it shows is what a
//! service would see: not a model of the mesh, the mesh. What happened to each call comes from its
//! [`CallReport`](meshwork::CallReport), and only what belongs to no call, such as ejections, from the
//! mesh's counters.

mod answer;
mod args;
mod lines;
mod load;
mod request;
mod table;
mod tally;

use std::collections::HashMap;
use std::io::Write as _;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::Duration;

use meshwork::{BoxError, Client, Mesh};
use serde_json::Value;
use tokio::io::BufReader;
use tokio::time::Instant;

use crate::USAGE;
use crate::{config, log, signal};
use load::Load;
use table::Progress;
use tally::Tally;

pub(crate) use answer::{Answer, Status, send};
pub(crate) use args::Args;
pub(crate) use request::Template;
pub(crate) use table::share;

/// How often the progress line is written.
const PROGRESS: Duration = Duration::from_millis(200);
/// How long an identity may take to come.
const IDENTITY: Duration = Duration::from_secs(30);
/// How long the mesh may take to end; its calls have ended before.
const END: Duration = Duration::from_secs(1);

/// Sends and prints.
///
/// # Errors
///
/// Stdin cannot be read or stdout cannot be written.
#[tokio::main]
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Faults of edits are worth a line while calls are sent.
    let set_levels = log::to_stderr("error");
    let ready = match prepare(&args, set_levels).await {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("meshwork call: {error:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let Ready {
        mesh,
        client,
        template,
    } = ready;
    let end = pin!(signal::end()?);
    let code = match template {
        Some(template) => {
            let Ran { tally, .. } = carry_out(&mesh, &client, args.load(), template, end).await;
            let text = if args.json {
                format!("{}\n", tally.json())
            } else {
                table::table(&tally)
            };
            std::io::stdout().write_all(text.as_bytes())?;
            ExitCode::SUCCESS
        }
        None => converse(&mesh, &args, end).await?,
    };
    mesh.shutdown(END).await;
    Ok(code)
}

/// A mesh, and what to send through it unless stdin says that.
struct Ready {
    mesh: Mesh,
    client: Client,
    template: Option<Template>,
}

async fn prepare(
    args: &Args,
    set_levels: impl Fn(&str) -> Result<(), BoxError> + Send + Sync + 'static,
) -> anyhow::Result<Ready> {
    // Before the mesh is started: wrong flags are told at once.
    let wanted = args.wanted();
    let template = if args.stdin {
        None
    } else {
        Some(wanted.parse().map_err(anyhow::Error::msg)?)
    };
    let mut builder = Mesh::builder()
        .workload(args.client.workload())
        .log_levels(set_levels);
    if let Some(path) = &args.config {
        config::must_exist(path)?;
        builder = builder.yaml_with(path, args.reading.options());
    } else if let Some(bootstrap) = config::bootstrap(args.xds.as_deref())? {
        builder = builder.xds(bootstrap);
    }
    if let Some(source) = args.identity.source(&args.client)? {
        builder = builder.identity(source);
    }
    let mesh = builder.start().await?;
    config::identified(&mesh, IDENTITY).await?;
    if let Some(address) = args.admin {
        let address = mesh.admin(address).await?;
        eprintln!("admin endpoint at http://{address}");
    }
    // A client of its own for each target: held for as long as the load goes on.
    let client = match &template {
        Some(template) => template.client(&mesh)?,
        None => mesh.client(),
    };
    Ok(Ready {
        mesh,
        client,
        template,
    })
}

/// What came of one load.
struct Ran {
    tally: Tally,
    /// Whether a signal ended it; it must not be awaited again then.
    interrupted: bool,
}

/// Makes the calls of one load. `end` ends it early; what has happened until then is told.
async fn carry_out(
    mesh: &Mesh,
    client: &Client,
    load: Load,
    template: Template,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Ran {
    let before = mesh.stats();
    let began = Instant::now();
    let total = Some(load.total()).filter(|total| *total < u64::MAX);
    let progress = Progress::new(total);
    let mut tally = Tally::new();
    let mut answers = load.start(client, template);
    let mut ticks = tokio::time::interval(PROGRESS);
    let interrupted = loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) => tally.count(answer),
                None => break false,
            },
            _ = ticks.tick() => progress.show(&tally),
            () = &mut end => break true,
        }
    };
    drop(answers);
    progress.end();
    tally.close(mesh, &before, began.elapsed());
    Ran { tally, interrupted }
}

/// Answers each line of stdin with a result.
async fn converse(
    mesh: &Mesh,
    args: &Args,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<ExitCode> {
    let (flags, load) = (args.wanted(), args.load());
    let mut clients = Clients::default();
    let mut input = BufReader::new(tokio::io::stdin());
    let mut code = ExitCode::SUCCESS;
    let mut number = 0_u64;
    loop {
        let line = tokio::select! {
            line = lines::next(&mut input) => line?,
            () = &mut end => leave(mesh).await,
        };
        let Some(line) = line else {
            return Ok(code);
        };
        number += 1;
        if line.trim().is_empty() {
            continue;
        }
        let parsed = lines::parse(&line, &flags, load).and_then(|(template, load)| {
            let client = clients
                .of(&template, mesh)
                .map_err(|error| error.to_string())?;
            Ok((template, load, client))
        });
        match parsed {
            Ok((template, load, client)) => {
                let ran = carry_out(mesh, &client, load, template, end.as_mut()).await;
                print(&ran.tally.json())?;
                if ran.interrupted {
                    leave(mesh).await;
                }
            }
            Err(why) => {
                code = ExitCode::from(USAGE);
                print(&Tally::refused(format!("line {number}: {why}")).json())?;
            }
        }
    }
}

/// A client for each target that lines have named, so that what was asked for stays known between
/// lines.
#[derive(Default)]
struct Clients(HashMap<Option<String>, Client>);

impl Clients {
    fn of(&mut self, template: &Template, mesh: &Mesh) -> Result<Client, meshwork::Error> {
        let target = template.target().map(str::to_owned);
        if let Some(client) = self.0.get(&target) {
            return Ok(client.clone());
        }
        let client = template.client(mesh)?;
        self.0.insert(target, client.clone());
        Ok(client)
    }
}

/// Ends the process when it is told to. Returning would wait for the next line of stdin, since a read of it
/// that is under way cannot be cancelled.
async fn leave(mesh: &Mesh) -> ! {
    mesh.shutdown(END).await;
    std::process::exit(130);
}

/// One line, at once: somebody waits for it.
fn print(result: &Value) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{result}")?;
    stdout.flush()?;
    Ok(())
}
