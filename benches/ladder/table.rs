//! The table, and the document that shows it.

use std::fmt::Write;
use std::process::Command;

use crate::bars;
use crate::measure::Cost;
use crate::rung::family;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");
const BEGIN: &str = "<!-- ladder: written by --publish -->\n";
const END: &str = "<!-- end of ladder -->";

/// The costs as a table in Markdown that is also readable as it is.
pub(crate) fn table(costs: &[Cost]) -> String {
    let mut text = String::new();
    let mut floor: Option<&Cost> = None;
    for cost in costs {
        let base = match floor {
            Some(floor) if family(&floor.name) == family(&cost.name) => floor,
            _ => {
                heading(&mut text);
                cost
            }
        };
        floor = Some(base);
        row(&mut text, cost, base);
    }
    text
}

fn heading(text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(
        "| rung                             | allocations | added |  bytes | added |      ns |   added | ratio | instructions |   added |\n\
         | -------------------------------- | ----------: | ----: | -----: | ----: | ------: | ------: | ----: | -----------: | ------: |\n",
    );
}

fn row(text: &mut String, cost: &Cost, floor: &Cost) {
    let ns = |cost: &Cost| cost.time.as_nanos() as i64;
    let (instructions, more) = match (cost.instructions, floor.instructions) {
        (Some(own), Some(floor)) => (own.to_string(), difference(own as i64, floor as i64)),
        (Some(own), None) => (own.to_string(), "-".into()),
        (None, _) => ("-".into(), "-".into()),
    };
    writeln!(
        text,
        "| {:<32} | {:>11} | {:>5} | {:>6} | {:>5} | {:>7} | {:>7} | {:>5.2} | {:>12} | {:>7} |",
        cost.name,
        cost.count.allocations,
        difference(
            cost.count.allocations as i64,
            floor.count.allocations as i64
        ),
        cost.count.bytes,
        difference(cost.count.bytes as i64, floor.count.bytes as i64),
        ns(cost),
        difference(ns(cost), ns(floor)),
        cost.ratio,
        instructions,
        more,
    )
    .expect("a string takes all");
}

fn difference(own: i64, floor: i64) -> String {
    format!("{:+}", own - floor)
}

/// Puts the table into the document, with the machine and the versions that it is about.
pub(crate) fn publish(costs: &[Cost]) -> Result<(), String> {
    let text = std::fs::read_to_string(DOCUMENT).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let marks = || format!("{DOCUMENT} has no {BEGIN:?} before {END:?}");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(marks)?;
    let (_, after) = rest.split_once(END).ok_or_else(marks)?;
    let (machine, table, bars) = (machine(), table(costs), bars::table(costs));
    let text = format!("{before}{BEGIN}\n{machine}\n{table}\n{bars}\n{END}{after}");
    std::fs::write(DOCUMENT, text).map_err(|error| format!("{DOCUMENT}: {error}"))
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "Machine: {model}, {cores} cores, {}.\n",
        told("uname", "-sr")
    );
    writeln!(
        text,
        "Versions: {}; {}; {}.",
        told("rustc", "--version"),
        dependencies(),
        told("valgrind", "--version"),
    )
    .expect("a string takes all");
    text.push_str("Command: `cargo bench --all-features --bench ladder -- --publish`.\n");
    text
}

fn told(program: &str, argument: &str) -> String {
    match Command::new(program).arg(argument).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => format!("no {program}"),
    }
}

/// The versions in Cargo.lock of what the ladder stands on.
fn dependencies() -> String {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
    let version = |name: &str| {
        let (_, rest) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let all = ["hyper", "h2", "tokio", "tonic"].iter();
    all.filter_map(|name| version(name))
        .collect::<Vec<_>>()
        .join(", ")
}
