//! `cargo xtask run`: the playground, or lbx on this host.
//!
//! Builds, then becomes the program: Ctrl-C reaches it directly, and its exit status is the one of this command.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bpf;
use crate::build;
use crate::privilege::Privilege;
use crate::process;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// Verify the playground's answers and exit with a status, instead of staying up until Ctrl-C
    #[arg(long, conflicts_with = "config")]
    check: bool,
    /// Run lbx on this host's interfaces with this configuration, instead of the playground
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Optimise the host's programs (the kernel programs always are)
    #[arg(long)]
    release: bool,
    /// Further arguments for the playground or the agent
    #[arg(last = true)]
    extra: Vec<String>,
}

/// The verb. Returns only when something failed before the program took over.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    // Before minutes of building: both would fail at the end only.
    if let Some(file) = &args.config {
        File::open(file).with_context(|| format!("--config {}: cannot be read", file.display()))?;
    }
    let name = if args.config.is_some() { "lbx-agent" } else { "lbx-playground" };
    let program = workspace.host_binary(name, args.release);
    let mut command =
        Privilege::now().command(program.as_os_str(), "load kernel programs and make network namespaces")?;

    bpf::compile(workspace, &setup::ensure(workspace, Scope::Run)?)?;
    build::host_programs(workspace, args.release)?;

    if let Some(file) = &args.config {
        command.args(["run", "--config"]).arg(file);
    }
    if args.check {
        command.arg("--check");
    }
    command.args(&args.extra);
    eprintln!("==> {}", process::line(&command));
    Err(process::become_command(&mut command))
}
