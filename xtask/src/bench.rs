//! `cargo xtask bench`: builds with optimisation, then measures.

use anyhow::Result;

use crate::bpf;
use crate::build;
use crate::privilege::Privilege;
use crate::process;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure and how: `datapath`, `scale`, `e2e`; `bench WHAT --help` says more
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
    what: Vec<String>,
}

/// The verb. Returns only when something failed before the program took over.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = workspace.host_binary("lbx-bench", true);
    let mut command =
        Privilege::now().command(program.as_os_str(), "load kernel programs and make network namespaces")?;
    let compares = args.what.first().is_some_and(|what| what == "e2e");
    let scope = if compares { Scope::Compare } else { Scope::Run };
    bpf::compile(workspace, &setup::ensure(workspace, scope)?)?;
    build::host_programs(workspace, true)?;
    command.args(&args.what);
    eprintln!("==> {}", process::line(&command));
    Err(process::become_command(&mut command))
}
