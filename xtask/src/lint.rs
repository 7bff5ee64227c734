//! `cargo xtask lint`: clippy over everything, with warnings denied.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// The verb.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::host_cargo();
    cargo.current_dir(&workspace.root);
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    process::step("lint", "clippy, warnings denied", &mut cargo)
}
