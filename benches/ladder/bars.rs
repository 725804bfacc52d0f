//! The bars that the ladder can tell about: what the design promises, and where it stands.

use std::fmt::Write;

use crate::change;
use crate::measure::Cost;
use crate::memory;

/// One promise.
struct Bar {
    promise: &'static str,
    allowed: f64,
    /// The figure, if the rungs that it takes were measured.
    figure: fn(&[Cost]) -> Option<f64>,
}

const BARS: &[Bar] = &[
    Bar {
        promise: "allocations added, retry and deadline off",
        allowed: 3.0,
        figure: |costs| allocations(costs, "no-op/+ outlier"),
    },
    Bar {
        promise: "allocations added, retry and deadline armed",
        allowed: 6.0,
        figure: |costs| allocations(costs, "no-op/+ retry"),
    },
    Bar {
        promise: "ns added by the whole mesh",
        allowed: 500.0,
        figure: |costs| nanoseconds(costs, "no-op/+ retry", "no-op/endpoint"),
    },
    Bar {
        promise: "ns of a pick among 10,000 endpoints",
        allowed: 150.0,
        figure: |costs| nanoseconds(costs, "pick/least request 10,000", "pick/endpoint"),
    },
    Bar {
        promise: "ns that 9,999 more virtual hosts add to a call",
        allowed: 150.0,
        figure: |costs| nanoseconds(costs, "hosts/10,000", "hosts/1"),
    },
    Bar {
        promise: "ns from an edit of one endpoint among 10,000 to its effect",
        allowed: 100_000.0,
        figure: |costs| {
            Some(
                named(costs, "change/least request 10,000")?
                    .time
                    .as_secs_f64()
                    * 1e9,
            )
        },
    },
    Bar {
        promise: "ns from an edit of one endpoint on a ring of 10,000 to its effect",
        allowed: 100_000.0,
        figure: |costs| Some(named(costs, "change/ring hash 10,000")?.time.as_secs_f64() * 1e9),
    },
    Bar {
        promise: "bytes for an endpoint, its place in the configuration included",
        allowed: 512.0,
        figure: |_| Some(memory::of_an_endpoint()),
    },
    Bar {
        promise: "bytes that an edit of one of 10,000 endpoints leaves behind",
        allowed: 1.0,
        figure: |_| Some(change::left_behind()),
    },
    Bar {
        promise: "bytes for an idle cluster with one endpoint",
        allowed: 4_096.0,
        figure: |_| Some(memory::of_a_cluster()),
    },
    Bar {
        promise: "a call over TCP against tonic's channel, one caller, time with server",
        allowed: 1.0,
        figure: |costs| {
            let [mesh, tonic] = two(costs, "tcp/+ retry", "tcp/tonic channel")?;
            Some(mesh.ratio / tonic.ratio)
        },
    },
    Bar {
        promise: "a call over TCP against bare hyper, one caller, time with server",
        allowed: 1.1,
        figure: |costs| Some(named(costs, "tcp/+ retry")?.ratio),
    },
];

/// The table of those bars whose rungs were measured; empty if none were.
pub(crate) fn table(costs: &[Cost]) -> String {
    let mut rows = String::new();
    for bar in BARS {
        let Some(figure) = (bar.figure)(costs) else {
            continue;
        };
        let stands = match figure <= bar.allowed {
            true => "met",
            false => "missed",
        };
        let Bar {
            promise, allowed, ..
        } = bar;
        writeln!(
            rows,
            "| {promise:<70} | {allowed:>7} | {figure:>8.2} | {stands:<6} |"
        )
        .expect("a string takes all");
    }
    match rows.as_str() {
        "" => rows,
        _ => format!("{HEADING}{rows}"),
    }
}

const HEADING: &str = "\
| bar                                                                    | allowed | measured | stands |
| ---------------------------------------------------------------------- | ------: | -------: | ------ |
";

fn named<'a>(costs: &'a [Cost], name: &str) -> Option<&'a Cost> {
    costs.iter().find(|cost| cost.name == name)
}

fn two<'a>(costs: &'a [Cost], one: &str, other: &str) -> Option<[&'a Cost; 2]> {
    Some([named(costs, one)?, named(costs, other)?])
}

fn allocations(costs: &[Cost], name: &str) -> Option<f64> {
    let [own, floor] = two(costs, name, "no-op/endpoint")?;
    Some(own.count.allocations as f64 - floor.count.allocations as f64)
}

/// How much longer a call takes on one rung than on the other.
fn nanoseconds(costs: &[Cost], one: &str, other: &str) -> Option<f64> {
    let [one, other] = two(costs, one, other)?;
    Some((one.time.as_secs_f64() - other.time.as_secs_f64()) * 1e9)
}
