//! `meshwork dump`: the configuration that a process has in force.

use std::io::Write as _;
use std::process::ExitCode;

use crate::ask::{Asked, Who, escaped};
use crate::yaml;

/// Print the configuration that a running process has in force, each resource with the file, line and object
/// that it comes from.
///
/// With --node it asks a control plane instead, for all that this node was sent.
///
/// Exit code: 0, or 1 if nobody can be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin endpoint of the process, or of the control plane
    #[arg(value_name = "HOST:PORT")]
    address: String,

    /// What a control plane has sent to the node of this id; `meshwork status` has them all
    #[arg(long, value_name = "ID")]
    node: Option<String>,

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
/// Nobody can be asked, or stdout not be written to.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (who, path) = match &args.node {
        Some(node) => (Who::Server, format!("/config_dump?node={}", escaped(node))),
        None => (Who::Process, "/config_dump".to_owned()),
    };
    let asked = Asked::at(&args.address, who).await?;
    // What was sent is told by stream; a process takes no notice of a node, and tells of itself.
    let list = match who {
        Who::Server => "streams",
        Who::Any | Who::Process => "clusters",
    };
    let dump = asked.with(&path, list).await?;
    let text = match args.output {
        Output::Json => format!("{dump:#}\n"),
        Output::Yaml => yaml::text(&dump),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
