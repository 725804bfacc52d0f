//! The ladder: what a call costs, from bare hyper up to the whole mesh, one mechanism at a time.
//!
//! Each rung makes the same call (see [`call`]), one after the other on one thread, with its client,
//! its connection and its server. The first rung of a family is the floor, and what a rung is above
//! its floor is what its mechanism costs. Three measures tell different things: allocations and
//! instructions are exact and [gate](gates) every change; time is what users feel, and is only ever
//! compared with what ran beside it.
//!
//! docs/PERFORMANCE.md explains the rungs and shows the numbers. A benchmark harness (criterion,
//! divan) was rejected: none of them counts allocations and instructions of asynchronous calls and
//! interleaves the rungs, and what is left after that is a median.

mod allocation;
mod arguments;
mod bare;
mod bars;
mod call;
mod callgrind;
mod change;
#[path = "../control/document.rs"]
mod document;
mod floor;
mod gates;
#[path = "../compare/host.rs"]
mod host;
#[path = "../compare/identity.rs"]
mod identity;
mod layers;
mod measure;
mod memory;
mod mesh;
mod pick;
mod rung;
mod scale;
mod scenario;
mod table;
mod transport;
mod wire;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use arguments::{Arguments, Task, USAGE};
use gates::Gates;
use measure::Cost;
use rung::Rung;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

fn main() -> ExitCode {
    let outcome = Arguments::parse(std::env::args().skip(1)).and_then(run);
    outcome.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::from(2)
    })
}

/// Does what is asked; the error is a line for the user.
fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let mut rungs = rung::all();
    let names: Vec<_> = rungs.iter().map(|rung| rung.name.clone()).collect();
    rungs.retain(|rung| arguments.wants(&rung.name));
    match &arguments.task {
        Task::Bless => Gates::bless(&costs(&gated(rungs), &arguments)?, &names)?,
        Task::Gate => return gate(&gated(rungs), &arguments),
        Task::Help => println!("{USAGE}"),
        Task::Laps(name, calls) => laps(name, *calls)?,
        Task::List => names.iter().for_each(|name| println!("{name}")),
        Task::Build => {
            let scratch =
                std::env::temp_dir().join(format!("meshwork-build-{}", std::process::id()));
            tell("build", &scale::build(&scratch)?, &arguments)?;
        }
        Task::Scale => tell("scale", &scale::tables(), &arguments)?,
        Task::Show => {
            let costs = costs(&rungs, &arguments)?;
            let text = format!("{}\n{}", table::table(&costs), bars::table(&costs));
            tell("ladder", &text, &arguments)?;
        }
        Task::Trace => rungs.iter().for_each(trace),
    }
    Ok(ExitCode::SUCCESS)
}

fn costs(rungs: &[Rung], arguments: &Arguments) -> Result<Vec<Cost>, String> {
    let mut costs = measure::measure(rungs);
    if !arguments.no_instructions && callgrind::available() {
        count_instructions(&mut costs)?;
    }
    Ok(costs)
}

/// Counts do not change with what else runs, so as many are taken at once as there are cores.
fn count_instructions(costs: &mut [Cost]) -> Result<(), String> {
    let wanted = costs.iter_mut().filter(|cost| is_call(&cost.name));
    let wanted = Mutex::new(wanted);
    let next = || wanted.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(cost) = next() {
            cost.instructions = Some(callgrind::instructions(&cost.name)?);
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut ended = workers.into_iter().map(|worker| worker.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|_| Err("a count panicked".into())))
    })
}

/// Edits are timed and have no gate: how a tree is shared differs from run to run, and under callgrind
/// the largest of them would take longer than all calls together.
fn is_call(name: &str) -> bool {
    rung::family(name) != "change"
}

fn gated(rungs: Vec<Rung>) -> Vec<Rung> {
    let calls = rungs.into_iter().filter(|rung| is_call(&rung.name));
    calls.collect()
}

/// Prints a text, or puts it between the marks of this name in the document, with the machine and the
/// versions that it is about.
fn tell(name: &str, text: &str, arguments: &Arguments) -> Result<(), String> {
    if !arguments.publish {
        println!("{text}");
        return Ok(());
    }
    let versions = table::dependencies();
    let machine = document::machine(&versions.iter().map(String::as_str).collect::<Vec<_>>());
    document::publish(name, &format!("{machine}\n{text}"))
}

fn gate(rungs: &[Rung], arguments: &Arguments) -> Result<ExitCode, String> {
    let gates = Gates::read()?;
    let costs = costs(rungs, arguments)?;
    println!("{}\n{}", table::table(&costs), bars::table(&costs));
    let broken = gates.broken(&costs);
    for line in &broken {
        println!("{line}");
    }
    match broken.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

fn laps(name: &str, calls: u32) -> Result<(), String> {
    let rungs = rung::all();
    let rung = rungs.iter().find(|rung| rung.name == name);
    let rung = rung.ok_or_else(|| format!("no rung is called {name:?}; --list names them"))?;
    (rung.prepare)().run(calls, &mut || {});
    Ok(())
}

fn trace(rung: &Rung) {
    let mut caller = (rung.prepare)();
    println!("=== {}", rung.name);
    for allocation in allocation::trace(|| caller.run(1, &mut || {})) {
        println!("{} bytes\n{}", allocation.bytes, allocation.places());
    }
}
