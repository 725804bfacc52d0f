//! `meshwork top`: what goes on in a running process.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::{Asked, Who};
use crate::{duration, yaml};

/// Show the rates of a running process, cluster by cluster: requests, success, latency, retries, ejections, what
/// is under way and what is left of the retry budget.
///
/// Latency is the mean of the requests whose answers ended within the interval, bodies included; a process without
/// metrics, or without such requests, has none.
///
/// On a terminal the table is drawn anew at each interval, else a table follows the other. Ctrl-C ends it.
///
/// Exit code: 0, or 1 if the process cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin endpoint of the process
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// Over how long rates are taken
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,

    /// End after so many tables [default: no end]
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,

    /// How it is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// One JSON object on each line
    Json,
    /// Tables, for people
    Text,
    /// The JSON objects as YAML, a document for each
    Yaml,
}

/// Asks and prints.
///
/// # Errors
///
/// The process cannot be asked, or stdout not be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let asked = Asked::at(&args.address, Who::Process).await?;
    let mut before = Moment::of(&asked).await?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        tokio::time::sleep(args.interval).await;
        let now = Moment::of(&asked).await?;
        let rows = rows(&before, &now);
        let all = || json!({"clusters": rows.iter().map(Row::json).collect::<Vec<_>>()});
        match args.output {
            Output::Json => print(&format!("{}\n", all()))?,
            Output::Text => draw(&rows)?,
            Output::Yaml => print(&format!("---\n{}", yaml::text(&all())))?,
        }
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The counters of a process at one moment.
#[derive(Debug)]
struct Moment {
    at: Instant,
    clusters: BTreeMap<String, Value>,
}

impl Moment {
    async fn of(asked: &Asked) -> anyhow::Result<Self> {
        let answer = asked.with("/clusters?format=json", "clusters").await?;
        let clusters = answer["clusters"].as_array().cloned().unwrap_or_default();
        let named = |cluster: Value| {
            let name = cluster["name"].as_str().unwrap_or_default().to_owned();
            (name, cluster)
        };
        Ok(Self {
            at: Instant::now(),
            clusters: clusters.into_iter().map(named).collect(),
        })
    }
}

/// What is shown of one cluster.
#[derive(Debug, PartialEq)]
struct Row {
    cluster: String,
    per_second: f64,
    /// In percent; `None` without a request.
    success: Option<f64>,
    /// In milliseconds; `None` if nothing was measured.
    latency: Option<f64>,
    retries_per_second: f64,
    active: u64,
    endpoints: usize,
    ejected: usize,
    budget: u64,
}

fn rows(before: &Moment, now: &Moment) -> Vec<Row> {
    let seconds = now
        .at
        .saturating_duration_since(before.at)
        .as_secs_f64()
        .max(0.001);
    let row = |(name, cluster): (&String, &Value)| {
        let nothing = Value::Null;
        let old = before.clusters.get(name).unwrap_or(&nothing);
        let number = |value: &Value, field: &str| value[field].as_f64().unwrap_or_default();
        let grown = |field: &str| (number(cluster, field) - number(old, field)).max(0.0);
        let (requests, failures) = (grown("requests"), grown("failures"));
        let endpoints = members(cluster);
        let (measured, millis) = timed(cluster, old);
        Row {
            cluster: name.clone(),
            per_second: requests / seconds,
            success: (requests > 0.0).then(|| (1.0 - failures / requests) * 100.0),
            latency: (measured > 0.0).then(|| millis / measured),
            retries_per_second: grown("retries") / seconds,
            active: number(cluster, "active_requests") as u64,
            endpoints: endpoints.len(),
            ejected: endpoints
                .iter()
                .filter(|one| one["ejected"] == true)
                .count(),
            budget: number(cluster, "retry_budget") as u64,
        }
    };
    now.clusters.iter().map(row).collect()
}

fn members(cluster: &Value) -> &[Value] {
    cluster["endpoints"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
}

/// How many requests of a cluster were timed since, and how many milliseconds they took. An endpoint that is
/// new counts from zero, one that has left does not count.
fn timed(now: &Value, before: &Value) -> (f64, f64) {
    let known: HashMap<&str, &Value> = members(before)
        .iter()
        .filter_map(|old| Some((old["address"].as_str()?, old)))
        .collect();
    let grown = |one: &Value, field: &str| {
        let old = one["address"].as_str().and_then(|own| known.get(own));
        let old = old.map_or(0.0, |old| old[field].as_f64().unwrap_or_default());
        (one[field].as_f64().unwrap_or_default() - old).max(0.0)
    };
    let sum = |field: &str| members(now).iter().map(|one| grown(one, field)).sum();
    (sum("timed"), sum("time_ms"))
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "cluster": self.cluster,
            "requests_per_second": self.per_second,
            "success_percent": self.success,
            "latency_ms": self.latency,
            "retries_per_second": self.retries_per_second,
            "active_requests": self.active,
            "endpoints": self.endpoints,
            "ejected": self.ejected,
            "retry_budget": self.budget,
        })
    }
}

fn draw(rows: &[Row]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "cluster",
        "per second",
        "success",
        "latency",
        "retries/s",
        "active",
        "ejected",
        "budget",
    ]);
    for row in rows {
        table.add_row([
            row.cluster.clone(),
            format!("{:.1}", row.per_second),
            row.success
                .map_or("-".to_owned(), |share| format!("{share:.1} %")),
            row.latency
                .map_or("-".to_owned(), |millis| format!("{millis:.1} ms")),
            format!("{:.1}", row.retries_per_second),
            row.active.to_string(),
            format!("{} of {}", row.ejected, row.endpoints),
            row.budget.to_string(),
        ]);
    }
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut stdout = stdout().lock();
    if stdout.is_terminal() {
        queue!(stdout, MoveTo(0, 0), Clear(ClearType::FromCursorDown))?;
    }
    writeln!(stdout, "{table}")?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_what_counters_have_grown_by() {
        let at = Instant::now();
        let moment = |seconds, requests, failures, gone: &str| Moment {
            at: at + Duration::from_secs(seconds),
            clusters: BTreeMap::from([(
                "c".to_owned(),
                json!({"requests": requests, "failures": failures, "retries": requests / 10, "active_requests": 2,
                       "retry_budget": 7, "endpoints": [
                           {"address": gone, "ejected": true, "timed": requests, "time_ms": 9 * requests},
                           {"address": "b", "ejected": false, "timed": requests / 2, "time_ms": 2 * requests}]}),
            )]),
        };
        let rows = rows(&moment(0, 100, 10, "a"), &moment(2, 200, 15, "a"));
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].per_second, rows[0].success), (50.0, Some(95.0)));
        assert_eq!(rows[0].latency, Some(1_100.0 / 150.0));
        // Of another one nothing was known before.
        let moved = super::rows(&moment(0, 100, 10, "a"), &moment(2, 200, 15, "c"));
        assert_eq!(moved[0].latency, Some(2_000.0 / 250.0));
        assert_eq!(
            (rows[0].ejected, rows[0].endpoints, rows[0].budget),
            (1, 2, 7)
        );
        assert_eq!(rows[0].retries_per_second, 5.0);
    }
}
