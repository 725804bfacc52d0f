//! `meshwork completions` and `meshwork man`: what a shell and `man` want to know.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::Cli;

/// Print the completions of a shell.
///
/// For bash: `meshwork completions bash > ~/.local/share/bash-completion/completions/meshwork`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Of which shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Print the manual page, or write the pages of all subcommands into a folder.
///
/// For example `meshwork man | man -l -`.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Write meshwork.1, meshwork-check.1 and so on into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints completions.
///
/// # Errors
///
/// Stdout cannot be written to.
pub(crate) fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshwork", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes manual pages.
///
/// # Errors
///
/// Stdout or the folder cannot be written to.
pub(crate) fn man(args: &Man) -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .and_then(|()| clap_mangen::generate_to(command, dir))
                .with_context(|| format!("cannot write manual pages into {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
