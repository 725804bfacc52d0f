//! `meshwork schema`: what editors complete and mark.

use std::io::Write as _;
use std::process::ExitCode;

/// Print the JSON schema (draft 2020-12) of all kinds that are read, for editors.
///
/// For VS Code's and other editors' YAML language server: write it to a file and begin each YAML
/// file with `# yaml-language-server: $schema=PATH/TO/THAT/FILE`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints it.
///
/// # Errors
///
/// Stdout cannot be written to.
pub(crate) fn run(Args {}: Args) -> anyhow::Result<ExitCode> {
    let schema = meshwork::source::istio::schema();
    writeln!(std::io::stdout(), "{schema:#}")?;
    Ok(ExitCode::SUCCESS)
}
