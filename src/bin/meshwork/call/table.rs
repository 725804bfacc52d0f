//! The result for people, and the line that moves while they wait.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use crossterm::cursor::MoveToColumn;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};
use tokio::time::Instant;

use super::tally::Tally;

/// The result as a table.
pub(super) fn table(tally: &Tally) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "", "number", "share"]);
    let calls = tally.sent;
    row(&mut table, "calls", "sent", calls, calls);
    row(&mut table, "", "ok", tally.ok, calls);
    row(&mut table, "", "failed", tally.failed, calls);
    rows(&mut table, "status", &tally.by_status, calls);
    rows(&mut table, "grpc-status", &tally.by_grpc_status, calls);
    rows(&mut table, "flag", &tally.by_flag, calls);
    rows(&mut table, "answered by", &tally.by_name, calls);
    row(
        &mut table,
        "attempts",
        "all",
        tally.attempts,
        tally.attempts,
    );
    rows(&mut table, "", &tally.by_endpoint, tally.attempts);
    row(&mut table, "", "retries", tally.retries, tally.attempts);
    if tally.retries_denied > 0 {
        table.add_row(["", "retries denied", &tally.retries_denied.to_string(), ""]);
    }
    if tally.ejections > 0 {
        table.add_row(["endpoints", "ejections", &tally.ejections.to_string(), ""]);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let latency = tally.latency();
    let mut text = format!(
        "{table}\n\n{calls} calls in {:.2?}, {:.1} per second\nlatency  p50 {}  p90 {}  p99 {}  \
         max {}\n",
        tally.elapsed,
        per_second(calls, tally.elapsed),
        micros(latency.p50),
        micros(latency.p90),
        micros(latency.p99),
        micros(latency.max),
    );
    if let Some(error) = &tally.last_error {
        text.push_str(&format!("last failure: {}\n", printable(error)));
    }
    text
}

fn rows<'a, K: Display + 'a>(
    table: &mut Table,
    title: &str,
    counts: impl IntoIterator<Item = (&'a K, &'a u64)>,
    of: u64,
) {
    let mut title = title;
    for (key, count) in counts {
        row(table, title, &printable(&key.to_string()), *count, of);
        title = "";
    }
}

fn row(table: &mut Table, title: &str, key: &str, count: u64, of: u64) {
    table.add_row([title, key, &count.to_string(), &share(count, of)]);
}

/// In percent with one digit.
pub(crate) fn share(count: u64, of: u64) -> String {
    if of == 0 {
        return String::new();
    }
    format!("{:.1} %", count as f64 * 100.0 / of as f64)
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}

fn micros(micros: u64) -> String {
    format!("{:.1?}", Duration::from_micros(micros))
}

/// What peers say, without what a terminal would obey.
fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// One line on stderr that is written anew; nothing if stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    began: Instant,
    total: Option<u64>,
}

impl Progress {
    /// `total`: how many calls there will be, if that is known.
    pub(super) fn new(total: Option<u64>) -> Self {
        Self {
            shown: stderr().is_terminal(),
            began: Instant::now(),
            total,
        }
    }

    pub(super) fn show(&self, tally: &Tally) {
        let of = self
            .total
            .map_or(String::new(), |total| format!(" of {total}"));
        self.write(&format!(
            "{}{of} sent, {} failed, {:.0} per second",
            tally.sent,
            tally.failed,
            per_second(tally.sent, self.began.elapsed())
        ));
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if self.shown {
            let mut to = stderr();
            // A progress line that cannot be shown is not worth ending the calls for.
            let _ = queue!(to, MoveToColumn(0), Clear(ClearType::CurrentLine));
            let _ = write!(to, "{text}");
            let _ = to.flush();
        }
    }
}
