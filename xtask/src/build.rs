//! `cargo xtask build`: the kernel programs, then everything that embeds or drives them.

use anyhow::Result;

use crate::bpf;
use crate::process;
use crate::workspace::Workspace;

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// Optimise the host's programs (the kernel programs always are)
    #[arg(long)]
    pub release: bool,
}

/// The verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    bpf::run(workspace)?;
    host_programs(workspace, args.release)
}

/// Builds agent, CLI and playground; the kernel programs must be there already.
pub fn host_programs(workspace: &Workspace, release: bool) -> Result<()> {
    let mut cargo = process::host_cargo();
    cargo.current_dir(&workspace.root).args(["build", "--locked", "--bins"]);
    cargo.args(["--package", "lbx-agent", "--package", "lbx-ctl", "--package", "lbx-tests"]);
    if release {
        cargo.arg("--release");
    }
    process::step("build agent, CLI and playground", "with the kernel programs embedded", &mut cargo)
}
