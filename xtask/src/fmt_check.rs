//! `cargo xtask fmt-check`: fails when rustfmt would change a file; changes none itself.

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// The verb.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::host_cargo();
    cargo.current_dir(&workspace.root).args(["fmt", "--all", "--check"]);
    process::step("check the layout", "rustfmt", &mut cargo).context("`cargo fmt` puts it right")
}
