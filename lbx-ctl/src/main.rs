//! The command line of lbx. It talks to the agent's API and does nothing else: it opens no kernel map, reads no
//! agent file, and what makes sense is for the agent to decide.
//!
//! The way of a command: `args` (what the user typed) → `commands` (which requests) → `client` (the socket) →
//! `output` (tables, JSON, YAML). Every failure is a `CliError`, which knows its exit code.

mod args;
mod client;
mod commands;
mod error;
mod output;
#[cfg(test)]
mod samples;

use std::process::ExitCode;

use clap::Parser;

use self::{args::Args, error::CliError};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn run(args: Args) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Local(format!("cannot start: {error}")))?;
    runtime.block_on(commands::run(args))
}
