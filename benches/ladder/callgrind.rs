//! Instructions per call, counted by valgrind.
//!
//! The benchmark runs itself under callgrind twice, with different numbers of calls on one rung.
//! The difference is what the calls cost: starting up, setting the rung up and warming it cost the
//! same in both runs. A crate that does this with valgrind's client requests was rejected: it saves
//! the second run and costs a dependency with inline assembly.

use std::process::Command;

use crate::document;

const FEW: u32 = 200;
const MANY: u32 = 1_200;

/// Whether valgrind can be run at all.
pub(crate) fn available() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Which valgrind it is.
pub(crate) fn version() -> String {
    document::told("valgrind", "--version")
}

/// Instructions per call on one rung.
///
/// # Errors
/// A line that says what valgrind did.
pub(crate) fn instructions(rung: &str) -> Result<u64, String> {
    let few = collected(rung, FEW)?;
    let many = collected(rung, MANY)?;
    Ok(many.saturating_sub(few) / u64::from(MANY - FEW))
}

fn collected(rung: &str, calls: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--laps", rung, &calls.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "valgrind failed on {rung}: {}\n{told}",
            output.status
        ));
    }
    told.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| format!("valgrind told no count for {rung}:\n{told}"))
}
