//! The table.

use std::fmt::Write;

use crate::callgrind;
use crate::measure::Cost;
use crate::rung::family;

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

/// The versions in Cargo.lock of what the ladder stands on, and of what counts instructions.
pub(crate) fn dependencies() -> Vec<String> {
    const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
    let version = |name: &str| {
        let (_, rest) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let all = ["hyper", "h2", "tokio", "tonic"].iter();
    let mut versions: Vec<String> = all.filter_map(|name| version(name)).collect();
    versions.push(callgrind::version());
    versions
}
