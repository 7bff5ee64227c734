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
mod remote;
#[cfg(test)]
mod samples;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::{args::Args, error::CliError};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn run() -> Result<(), CliError> {
    let matches = Args::command().get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let place = args.place.clone().place(&matches)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Local(format!("cannot start: {error}")))?;
    runtime.block_on(commands::run(args, &place))
}
