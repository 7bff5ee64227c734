//! `cargo xtask`: set-up, build, run, test and checks of lbx, one verb per file.
//!
//! Owns the command line only. Nothing here knows about packets or configuration, and this crate depends on no
//! other crate of the workspace, so that it builds first and fast on a fresh machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bpf;
mod build;
mod process;
mod toolchain;
mod workspace;

use workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, build, run, test and checks of lbx"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the kernel programs only
    Bpf,
    /// Build the kernel programs, then agent, CLI and playground
    Build(build::Args),
}

fn main() -> ExitCode {
    match dispatch(&Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: &Verb) -> Result<()> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Bpf => bpf::run(&workspace),
        Verb::Build(args) => build::run(&workspace, args),
    }
}
