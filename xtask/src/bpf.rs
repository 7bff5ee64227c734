//! `cargo xtask bpf`: compiles the kernel programs to the object file that the agent embeds.
//!
//! Always with the release profile: the verifier accepts nothing less, and an unoptimised program is no measure of
//! anything. Never touches the host's programs.

use anyhow::{Context, Result};

use crate::process;
use crate::setup::{self, Scope};
use crate::toolchain::{Compiler, ToolChain, path_with};
use crate::workspace::{BPF_TARGET, Workspace};

/// The verb: sets up what is missing, then compiles.
pub fn run(workspace: &Workspace) -> Result<()> {
    compile(workspace, &setup::ensure(workspace, Scope::Run)?)
}

/// Compiles with a tool chain that is known to work. Cargo sees to it that nothing is done twice.
pub fn compile(workspace: &Workspace, tool_chain: &ToolChain) -> Result<()> {
    let mut cargo = tool_chain.compiler.cargo();
    cargo
        .current_dir(&workspace.root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "lbx-ebpf",
            "--target",
            BPF_TARGET,
            "--target-dir",
        ])
        .arg(workspace.bpf_target())
        .env("PATH", path_with(&tool_chain.linker)?)
        .env("RUSTFLAGS", "-C linker=bpf-linker -C debuginfo=2 -C link-arg=--btf");
    match tool_chain.compiler {
        Compiler::Nightly => cargo.args(["-Z", "build-std=core"]),
        // aya-ebpf uses a feature that only a nightly lets it use without this.
        Compiler::Debian => cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf"),
    };
    let why = format!("with {}", tool_chain.compiler);
    process::step("compile the kernel programs", &why, &mut cargo)
        .context("the kernel programs do not compile; the compiler's messages are above")
}
