//! What was measured, as tables: one for each load, and the bars of the design.

use std::fmt::Write as _;

use crate::Run;
use crate::driver::Load;
use crate::process::Figures;
use crate::subject::Subject;

/// What the ratios are of.
const BASE: Subject = Subject::TonicChannel;

pub(crate) fn all(runs: &[Run], loads: &[Load], subjects: &[Subject]) -> String {
    let mut text = String::new();
    for load in loads {
        one(&mut text, runs, *load, subjects);
    }
    bars(&mut text, runs);
    text
}

fn same(left: Load, right: Load) -> bool {
    match (left, right) {
        (Load::Closed { callers }, Load::Closed { callers: other }) => callers == other,
        (Load::Open { rate }, Load::Open { rate: other }) => rate == other,
        _ => false,
    }
}

fn titled(load: Load) -> String {
    match load {
        Load::Closed { callers: 1 } => "One caller".into(),
        Load::Closed { callers } => format!("{callers} callers"),
        Load::Open { rate } => format!("{rate} calls a second, whatever becomes of those before"),
    }
}

/// Of a subject under a load: a figure of each round.
fn rounds(runs: &[Run], subject: Subject, load: Load, figure: fn(&Figures) -> f64) -> Vec<f64> {
    let wanted = |run: &&Run| run.subject == subject && same(run.load, load);
    runs.iter()
        .filter(wanted)
        .map(|run| figure(&run.figures))
        .collect()
}

/// Of each round, a subject's figure to another's.
fn ratios(
    runs: &[Run],
    subject: Subject,
    base: Subject,
    load: Load,
    figure: fn(&Figures) -> f64,
) -> Vec<f64> {
    let (own, others) = (
        rounds(runs, subject, load, figure),
        rounds(runs, base, load, figure),
    );
    own.iter()
        .zip(&others)
        .map(|(own, other)| own / other)
        .collect()
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Minimum, median and maximum.
fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".into();
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", middle(values))
}

fn together(figures: &Figures) -> f64 {
    figures.client + figures.proxies
}

fn one(text: &mut String, runs: &[Run], load: Load, subjects: &[Subject]) {
    let _ = writeln!(
        text,
        "{}:\n\n| client | calls a second | to {} | p50, us | p99, us | p99.9, us | client, us of processor | proxies, us | \
         server, us | client and proxies to {} | client, MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | \
         ---: | ---: | ---: |",
        titled(load),
        BASE.name(),
        BASE.name(),
    );
    for subject in subjects
        .iter()
        .copied()
        .filter(|subject| subject.takes(load))
    {
        let of = |figure| middle(&rounds(runs, subject, load, figure));
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {:.1} |",
            subject.name(),
            of(|figures| figures.rate),
            spread(&ratios(runs, subject, BASE, load, |figures| figures.rate)),
            of(|figures| figures.p50),
            of(|figures| figures.p99),
            of(|figures| figures.p999),
            of(|figures| figures.client),
            of(|figures| figures.proxies),
            of(|figures| figures.server),
            spread(&ratios(runs, subject, BASE, load, together)),
            of(|figures| figures.resident),
        );
    }
    text.push('\n');
}

/// A bar: whose figure, to whose, at how many callers, what it may be.
struct Bar {
    what: &'static str,
    subject: Subject,
    base: Subject,
    callers: usize,
    figure: fn(&Figures) -> f64,
    allowed: f64,
    at_least: bool,
}

/// Those of the design that need more than one process.
const BARS: [Bar; 6] = [
    Bar {
        what: "client processor, to tonic's channel, 64 callers",
        subject: Subject::Meshwork,
        base: Subject::TonicChannel,
        callers: 64,
        figure: |figures| figures.client,
        allowed: 1.0,
        at_least: false,
    },
    Bar {
        what: "client processor with raw requests, to bare hyper, 64 callers",
        subject: Subject::MeshworkRaw,
        base: Subject::Hyper,
        callers: 64,
        figure: |figures| figures.client,
        allowed: 1.1,
        at_least: false,
    },
    Bar {
        what: "client processor with mTLS, to tonic's channel with mTLS, 64 callers",
        subject: Subject::MeshworkTls,
        base: Subject::TonicTls,
        callers: 64,
        figure: |figures| figures.client,
        allowed: 1.0,
        at_least: false,
    },
    Bar {
        what: "calls a second, to one Envoy hop, 64 callers",
        subject: Subject::Meshwork,
        base: Subject::Envoy,
        callers: 64,
        figure: |figures| figures.rate,
        allowed: 3.5,
        at_least: true,
    },
    Bar {
        what: "p50, to one Envoy hop, one caller",
        subject: Subject::Meshwork,
        base: Subject::Envoy,
        callers: 1,
        figure: |figures| figures.p50,
        allowed: 0.4,
        at_least: false,
    },
    Bar {
        what: "processor of client and proxy, to one Envoy hop, 64 callers",
        subject: Subject::Meshwork,
        base: Subject::Envoy,
        callers: 64,
        figure: together,
        allowed: 0.25,
        at_least: false,
    },
];

fn bars(text: &mut String, runs: &[Run]) {
    text.push_str("| bar | allowed | measured | stands |\n| --- | ---: | ---: | --- |\n");
    for bar in &BARS {
        let load = Load::Closed {
            callers: bar.callers,
        };
        let measured = ratios(runs, bar.subject, bar.base, load, bar.figure);
        let (median, limit) = (
            middle(&measured),
            if bar.at_least { "at least" } else { "at most" },
        );
        let stands = match (median.is_nan(), (median >= bar.allowed) == bar.at_least) {
            (true, _) => "not measured",
            (false, true) => "met",
            (false, false) => "missed",
        };
        let _ = writeln!(
            text,
            "| {} | {limit} {} | {} | {stands} |",
            bar.what,
            bar.allowed,
            spread(&measured)
        );
    }
}
