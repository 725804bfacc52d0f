//! The `meshwork` command: the mesh from the shell.
//!
//! Each subcommand is one module with an `Args` (what clap parses) and a `run`. Results go to
//! stdout, diagnostics to stderr. Exit codes: 0 it ran, 1 it found faults or could not run, 2 bad
//! arguments.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

mod ask;
mod authz;
mod ca;
mod call;
mod certs;
mod check;
mod config;
mod demo;
mod diff;
mod dump;
mod duration;
mod echo;
mod explain;
mod init;
mod log;
mod sarif;
mod schema;
mod serve;
mod shell;
mod signal;
mod status;
mod top;
mod yaml;

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
    Authz(authz::Args),
    Ca(ca::Args),
    Call(call::Args),
    Certs(certs::Args),
    Check(check::Args),
    Completions(shell::Completions),
    Demo(demo::Args),
    Diff(diff::Args),
    Dump(dump::Args),
    Echo(echo::Args),
    Explain(explain::Args),
    Init(init::Args),
    Man(shell::Man),
    Schema(schema::Args),
    Serve(serve::Args),
    Status(status::Args),
    Top(top::Args),
}

/// The exit code for wrong arguments, which clap uses too.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Authz(args) => authz::run(&args),
        Command::Ca(args) => ca::run(args),
        Command::Call(args) => call::run(args),
        Command::Certs(args) => certs::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Demo(args) => demo::run(args),
        Command::Diff(args) => diff::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Echo(args) => echo::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Man(args) => shell::man(&args),
        Command::Schema(args) => schema::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
    };
    ran.unwrap_or_else(|error| {
        if left(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("meshwork: {error:#}");
        ExitCode::FAILURE
    })
}

/// Whether nobody reads stdout any more (`meshwork schema | head`), which is no failure.
fn left(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
