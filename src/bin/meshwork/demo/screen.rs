//! What is shown: lines that stay, and under them a table that is drawn anew.
//!
//! Without a terminal, or in one that is too small for the table, there are only lines that stay,
//! one per second of the table's facts.

use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use crossterm::cursor::MoveToPreviousLine;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType, size};
use meshwork::Stats;
use tokio::time::Instant;

use super::backends::Backends;
use super::traffic::Counts;
use crate::call::share;

/// The smallest terminal for a table.
const COLUMNS: u16 = 80;
const ROWS: u16 = 20;

/// How often a line is written without a terminal.
const LINE: Duration = Duration::from_secs(1);

/// Where it is shown.
#[derive(Debug)]
pub(super) struct Screen {
    redraws: bool,
    /// Lines of the table that is on the terminal now.
    drawn: u16,
    /// When the last line without a terminal was written.
    told: Instant,
    began: Instant,
}

/// What is shown of a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) backends: &'a Backends,
    pub(super) stats: &'a Stats,
    pub(super) scene: &'a Counts,
    pub(super) all: &'a Counts,
}

impl Screen {
    pub(super) fn new() -> Self {
        let large = size().is_ok_and(|(columns, rows)| columns >= COLUMNS && rows >= ROWS);
        let now = Instant::now();
        Self {
            redraws: stdout().is_terminal() && large,
            drawn: 0,
            told: now,
            began: now,
        }
    }

    /// Writes lines that stay.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.erase()?;
        writeln!(stdout(), "{text}")
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, view: View<'_>) -> io::Result<()> {
        if self.redraws {
            self.erase()?;
            let text = self.table(view);
            self.drawn = u16::try_from(text.lines().count()).unwrap_or(ROWS);
            writeln!(stdout(), "{text}")?;
            stdout().flush()
        } else if self.told.elapsed() >= LINE {
            self.told = Instant::now();
            writeln!(stdout(), "{}", self.line(view))
        } else {
            Ok(())
        }
    }

    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            let lines = std::mem::take(&mut self.drawn);
            queue!(
                stdout(),
                MoveToPreviousLine(lines),
                Clear(ClearType::FromCursorDown)
            )?;
        }
        Ok(())
    }

    fn table(&self, view: View<'_>) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "backend",
            "address",
            "it",
            "the mesh",
            "answers",
            "share",
            "failed tries",
        ]);
        for backend in &view.backends.all {
            let address = backend.address.to_string();
            let answers = view.scene.of(backend.name);
            let (ejected, failures) = endpoint(view.stats, &address);
            table.add_row([
                backend.name,
                &address,
                &backend.conduct(),
                if ejected { "has ejected it" } else { "uses it" },
                &answers.to_string(),
                &share(answers, view.scene.calls),
                &failures.to_string(),
            ]);
        }
        for column in 4..7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{table}\n{}", self.facts(view))
    }

    fn line(&self, view: View<'_>) -> String {
        let backends = view.backends.all.iter().map(|backend| {
            let (ejected, _) = endpoint(view.stats, &backend.address.to_string());
            let ejected = if ejected { " (ejected)" } else { "" };
            let share = share(view.scene.of(backend.name), view.scene.calls);
            let share = if share.is_empty() { "-" } else { &share };
            format!("{}{ejected} {share}", backend.name)
        });
        let backends = backends.collect::<Vec<_>>().join("  ");
        format!("{}  {backends}", self.facts(view))
    }

    fn facts(&self, view: View<'_>) -> String {
        let sum = |of: fn(&meshwork::ClusterStats) -> u64| -> u64 {
            view.stats.clusters.iter().map(of).sum()
        };
        format!(
            "  {:5.1} s  calls {}  failed {}  retries {}  ejections {}  configuration {}",
            self.began.elapsed().as_secs_f64(),
            view.all.calls,
            view.all.failed,
            sum(|cluster| cluster.retries),
            sum(|cluster| cluster.ejections),
            view.stats.generation,
        )
    }
}

/// Whether an endpoint is ejected from any cluster, and how many tries failed there.
fn endpoint(stats: &Stats, address: &str) -> (bool, u64) {
    let clusters = stats.clusters.iter();
    clusters
        .flat_map(|cluster| &cluster.endpoints)
        .filter(|endpoint| &*endpoint.address == address)
        .fold((false, 0), |(ejected, failures), endpoint| {
            (ejected || endpoint.ejected, failures + endpoint.failures)
        })
}
