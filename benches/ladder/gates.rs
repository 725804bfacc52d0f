//! What each rung may cost.
//!
//! Wall time is not gated: a shared machine makes it a coin toss. Allocations are counted exactly
//! and may not grow at all; instructions may grow by the margin, because the compiler's version, the
//! C library's choice of `memcpy`, and where the compiler cuts the crate into units (which decides
//! what is inlined) move them a little.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::measure::Cost;

/// How far instructions may be above their gate, in percent.
const MARGIN: u64 = 10;

/// What one rung may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gate {
    allocations: u64,
    instructions: u64,
}

/// The gates by the names of their rungs.
#[derive(Debug, Default)]
pub(crate) struct Gates(BTreeMap<String, Gate>);

pub(crate) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gates.txt");

const HEAD: &str = "\
# What a call may cost on each rung of the ladder: allocations, instructions, name.
# Written by `cargo bench --all-features --bench ladder -- --bless`, compared by `--gate`.
";

impl Gates {
    /// Reads the committed file.
    pub(crate) fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate();
        let gates = lines
            .filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty())
            .map(|(index, line)| {
                parse_line(line).ok_or_else(|| {
                    format!(
                        "{FILE}:{}: not \"allocations instructions name\"",
                        index + 1
                    )
                })
            });
        gates.collect::<Result<_, _>>().map(Self)
    }

    /// Writes the file anew. Rungs that were not measured keep their gates, those that are no more
    /// lose them.
    pub(crate) fn bless(costs: &[Cost], rungs: &[String]) -> Result<(), String> {
        let mut gates = Self::read().unwrap_or_default().0;
        gates.retain(|name, _| rungs.contains(name));
        for cost in costs {
            let instructions = cost
                .instructions
                .ok_or("gates hold instructions, so blessing needs valgrind")?;
            let gate = Gate {
                allocations: cost.count.allocations,
                instructions,
            };
            gates.insert(cost.name.clone(), gate);
        }
        let mut text = HEAD.to_owned();
        for name in rungs {
            if let Some(gate) = gates.get(name) {
                let Gate {
                    allocations,
                    instructions,
                } = gate;
                writeln!(text, "{allocations:>6} {instructions:>8}  {name}")
                    .expect("a string takes all");
            }
        }
        std::fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))
    }

    /// One line for each rung that costs more than it may, or has no gate.
    pub(crate) fn broken(&self, costs: &[Cost]) -> Vec<String> {
        costs.iter().flat_map(|cost| self.compare(cost)).collect()
    }

    fn compare(&self, cost: &Cost) -> Vec<String> {
        let name = &cost.name;
        let Some(gate) = self.0.get(name) else {
            return vec![format!("{name}: no gate; bless it")];
        };
        let mut broken = Vec::new();
        let allocations = cost.count.allocations;
        if allocations > gate.allocations {
            let allowed = gate.allocations;
            broken.push(format!(
                "{name}: {allocations} allocations, {allowed} allowed"
            ));
        }
        let allowed = gate.instructions + gate.instructions * MARGIN / 100;
        if let Some(instructions) = cost.instructions.filter(|count| *count > allowed) {
            broken.push(format!(
                "{name}: {instructions} instructions, {allowed} allowed"
            ));
        }
        broken
    }
}

fn parse_line(line: &str) -> Option<(String, Gate)> {
    let (allocations, rest) = line.trim().split_once(char::is_whitespace)?;
    let (instructions, name) = rest.trim().split_once(char::is_whitespace)?;
    let gate = Gate {
        allocations: allocations.parse().ok()?,
        instructions: instructions.parse().ok()?,
    };
    Some((name.trim().to_owned(), gate))
}
