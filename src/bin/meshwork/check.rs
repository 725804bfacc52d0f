//! `meshwork check`: is this configuration right?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use meshwork::source::istio::{self, Checked, Fault};
use serde_json::{Value, json};

use crate::USAGE;
use crate::config::{self, Client, Reading};
use crate::{sarif, yaml};

/// Find all that is wrong with a folder of Istio and Kubernetes YAML, without starting anything.
///
/// Every fault is shown with file, line, the lines around it, the field, what was found, what is
/// allowed and what to do; all of them at once. The folder is looked at as one client would see it, or,
/// without --workload and --label, from each of its namespaces. Errors are what a mesh would refuse to start with
/// and what an edit must not contain; warnings are what it accepts and logs.
///
/// Exit code: 0 without errors (there may be warnings), 1 with errors, 2 for wrong arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with *.yaml, *.yml and *.json files, read with its subfolders; or one file
    #[arg(value_name = "DIR")]
    path: PathBuf,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    reading: Reading,

    #[command(flatten)]
    client: Client,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// For people: faults, then one line that counts them
    Text,
    /// The JSON object as YAML
    Yaml,
}

/// Checks and prints.
///
/// # Errors
///
/// Stdout cannot be written to.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Err(error) = config::must_exist(&args.path) {
        eprintln!("meshwork check: {error}");
        return Ok(ExitCode::from(USAGE));
    }
    let clients: Vec<_> = args.client.named().into_iter().collect();
    let checked = istio::check(&args.path, &clients, &args.reading.options());
    let text = match args.output {
        Output::Json => format!("{:#}\n", as_json(&args.path, &checked)),
        Output::Sarif => format!("{:#}\n", sarif::report(&checked)),
        Output::Text => as_text(&args.path, &checked),
        Output::Yaml => yaml::text(&as_json(&args.path, &checked)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if checked.objects == 0 && checked.faults.is_empty() {
        eprintln!(
            "meshwork check: {} holds no object; name the folder of your *.yaml, *.yml or *.json \
             files",
            args.path.display()
        );
        return Ok(ExitCode::from(USAGE));
    }
    Ok(if checked.faults.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn as_text(path: &Path, checked: &Checked) -> String {
    let mut text = String::new();
    let faults = &checked.faults;
    for fault in faults.iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{fault}\n");
    }
    if faults.omitted() > 0 {
        let _ = writeln!(text, "and {} more\n", faults.omitted());
    }
    let _ = writeln!(
        text,
        "{}: {}, {}, {}",
        path.display(),
        counted(checked.objects, "object"),
        counted(faults.errors(), "error"),
        counted(warnings(checked), "warning"),
    );
    text
}

fn warnings(checked: &Checked) -> usize {
    let faults = &checked.faults;
    (faults.len() + faults.omitted()).saturating_sub(faults.errors())
}

fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

fn as_json(path: &Path, checked: &Checked) -> Value {
    let faults: Vec<Value> = checked.faults.iter().map(fault).collect();
    json!({
        "path": path.to_string_lossy(),
        "objects": checked.objects,
        "errors": checked.faults.errors(),
        "warnings": warnings(checked),
        "omitted": checked.faults.omitted(),
        "faults": faults,
    })
}

fn fault(fault: &Fault) -> Value {
    let object = fault.object().map(|object| {
        json!({
            "kind": *object.kind,
            "namespace": *object.namespace,
            "name": *object.name,
        })
    });
    json!({
        "severity": fault.severity().to_string(),
        "code": fault.code().as_str(),
        "istio_codes": fault.code().istio(),
        "file": fault.file(),
        "line": fault.line(),
        "column": fault.column(),
        "object": object,
        "field": fault.path(),
        "text": fault.text(),
        "message": fault.message(),
        "hint": fault.hint(),
    })
}
