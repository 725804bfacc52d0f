//! `meshwork dump`: the configuration that a process has in force.

use std::io::Write as _;
use std::process::ExitCode;

use crate::ask::Asked;
use crate::yaml;

/// Print the configuration that a running process has in force, each resource with the file, line and object
/// that it comes from.
///
/// Exit code: 0, or 1 if the process cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin endpoint of the process
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// How it is printed
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// One JSON object
    Json,
    /// The same as YAML
    Yaml,
}

/// Asks and prints.
///
/// # Errors
///
/// The process cannot be asked, or stdout not be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dump = Asked::at(&args.address).await?.json("/config_dump").await?;
    let text = match args.output {
        Output::Json => format!("{dump:#}\n"),
        Output::Yaml => yaml::text(&dump),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
