//! Where published figures go: between two marks of docs/PERFORMANCE.md.

use std::process::Command;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");

/// Puts a text between the marks of a bench, in place of what is there.
pub(crate) fn publish(bench: &str, text: &str) -> Result<(), String> {
    let begin = format!("<!-- {bench}: written by --publish -->");
    let end = format!("<!-- end of {bench} -->");
    let document =
        std::fs::read_to_string(DOCUMENT).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let marks = || format!("{DOCUMENT} has no {begin:?} before {end:?}");
    let (before, rest) = document.split_once(&begin).ok_or_else(marks)?;
    let (_, after) = rest.split_once(&end).ok_or_else(marks)?;
    let document = format!("{before}{begin}\n\n{text}\n{end}{after}");
    std::fs::write(DOCUMENT, document).map_err(|error| format!("{DOCUMENT}: {error}"))
}

/// What it was measured on.
pub(crate) fn machine(others: &[&str]) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut versions = vec![told("rustc", "--version")];
    versions.extend(others.iter().map(|other| (*other).to_owned()));
    let (system, versions) = (told("uname", "-sr"), versions.join("; "));
    format!("Machine: {model}, {cores} cores, {system}. Versions: {versions}.\n")
}

pub(crate) fn told(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(
        |_| format!("no {program}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
