//! What was measured, as tables.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Cost;
use crate::document::{self, machine};
use crate::peer::Peer;

/// The bars of the design, for 10,000 streams.
const STREAMS: usize = 10_000;
const MEMORY: f64 = 32.0;
const PUSH: f64 = 1_000.0;

/// One row for each server, variant and number of streams.
pub(crate) fn costs(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| server | variant | streams | first state to all, ms | its processor, ms | KiB a stream | one change to \
         all, median ms | worst ms | its processor, ms | a stream, us |\n| --- | --- | ---: | ---: | ---: | \
         ---: | ---: | ---: | ---: | ---: |\n",
    );
    for cost in costs {
        let (median, worst) = (
            middle(&cost.pushes),
            millis(cost.pushes[cost.pushes.len() - 1]),
        );
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} | {:.1} | {median:.0} | {worst:.0} | {:.1} | {:.1} |",
            cost.peer.name(),
            cost.variant.name(),
            cost.streams,
            millis(cost.first),
            millis(cost.first_processor),
            kibibytes(cost),
            millis(cost.push_processor),
            millis(cost.push_processor) * 1e3 / cost.streams as f64,
        )
        .expect("a string takes all");
    }
    text
}

/// Whether this library's server is within the bars.
fn bars(costs: &[Cost]) -> String {
    let mut text =
        String::from("| bar | allowed | measured | stands |\n| --- | ---: | ---: | --- |\n");
    let own = |cost: &&Cost| cost.peer == Peer::Meshwork && cost.streams >= STREAMS;
    for cost in costs.iter().filter(own) {
        let (variant, streams) = (cost.variant.name(), cost.streams);
        let worst = millis(cost.pushes[cost.pushes.len() - 1]);
        for (what, allowed, measured) in [
            ("KiB of memory for each", MEMORY, kibibytes(cost)),
            ("ms for one change to all, worst of 20", PUSH, worst),
        ] {
            let stands = if measured <= allowed { "met" } else { "missed" };
            writeln!(
                text,
                "| {variant}, {streams} streams on one core: {what} | {allowed} | {measured:.1} | {stands} |"
            )
            .expect("a string takes all");
        }
    }
    text
}

/// Writes both into the document, in place of what is there.
pub(crate) fn publish(all: &[Cost]) -> Result<(), String> {
    let versions = "go-control-plane v0.14.0";
    let text = [machine(&[versions]), costs(all), bars(all)].join("\n");
    document::publish("control", &text)
}

fn middle(sorted: &[Duration]) -> f64 {
    millis(sorted[sorted.len() / 2])
}

fn kibibytes(cost: &Cost) -> f64 {
    cost.memory as f64 / 1_024.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
