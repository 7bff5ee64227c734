//! `cargo xtask`: set-up, build, run, test and checks of lbx, one verb per file.
//!
//! Owns the command line only. Nothing here knows about packets or configuration, and this crate depends on no
//! other crate of the workspace, so that it builds first and fast on a fresh machine.

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod binaries;
mod bpf;
mod build;
mod fmt_check;
mod fuzz;
mod lint;
mod privilege;
mod process;
mod run;
mod setup;
mod tally;
mod test;
mod tidy;
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
    /// Install what is missing to build, run and test lbx; does nothing when all is there
    Setup,
    /// Build the kernel programs only
    Bpf,
    /// Build the kernel programs, then agent, CLI and playground
    Build(build::Args),
    /// Build, then show lbx at work in a playground of network namespaces, or run it on this host
    Run(run::Args),
    /// Build, check and test everything, as CI does
    Test(test::Args),
    /// Build with optimisation, then measure nanoseconds per packet
    Bench(bench::Args),
    /// Search for input that lbx does something wrong with
    Fuzz(fuzz::Args),
    /// Fail when `cargo fmt` would change a file
    FmtCheck,
    /// Run clippy over everything, with warnings denied
    Lint,
    /// Check the rules that neither compiler nor clippy knows: crate edges, file sizes, words
    Tidy,
}

/// A failure whose report has been printed; the exit status is all that is left to say.
#[derive(Debug)]
pub struct AlreadySaid;

impl fmt::Display for AlreadySaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see above")
    }
}

impl std::error::Error for AlreadySaid {}

fn main() -> ExitCode {
    match dispatch(&Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<AlreadySaid>() {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: &Verb) -> Result<()> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Setup => setup::run(&workspace),
        Verb::Bpf => bpf::run(&workspace),
        Verb::Build(args) => build::run(&workspace, args),
        Verb::Run(args) => run::run(&workspace, args),
        Verb::Test(args) => test::run(&workspace, args),
        Verb::Bench(args) => bench::run(&workspace, args),
        Verb::Fuzz(args) => fuzz::run(&workspace, args),
        Verb::FmtCheck => fmt_check::run(&workspace),
        Verb::Lint => lint::run(&workspace),
        Verb::Tidy => tidy::run(&workspace),
    }
}
