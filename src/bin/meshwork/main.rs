//! The `meshwork` command: the mesh from the shell.
//!
//! Each subcommand is one module with an `Args` (what clap parses) and a `run`. Results go to
//! stdout, diagnostics to stderr. Exit codes: 0 it ran, 1 it found faults or could not run, 2 bad
//! arguments.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod duration;
mod echo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A service mesh that a Rust service links instead of running beside.
#[derive(Debug, Parser)]
#[command(name = "meshwork", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Echo(echo::Args),
}

fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Echo(args) => echo::run(args),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("meshwork: {error:#}");
        ExitCode::FAILURE
    })
}
