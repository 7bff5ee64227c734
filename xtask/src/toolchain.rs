//! Finds the compiler and linker for the kernel programs.
//!
//! Two routes lead there: rustup's nightly with its `rust-src` component, which builds `core` itself, and Debian's
//! `rustc-web`, which brings a ready `core` for BPF. Each is tried out on a probe before it is trusted, because a
//! linker with another LLVM than the compiler's fails only when it links. Never installs anything; `setup` does.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use cargo_metadata::semver::Version;

use crate::process;
use crate::workspace::{BPF_TARGET, Workspace};

/// Debian's compiler, beside rustup's.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's cargo, beside rustup's.
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler and a linker that were seen to work together.
pub struct ToolChain {
    /// Where the compiler comes from.
    pub compiler: Compiler,
    /// The bpf-linker that understands this compiler's output.
    pub linker: PathBuf,
}

/// The two sources of a compiler for BPF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's nightly with `rust-src`.
    Nightly,
    /// Debian's `rustc-web`, `cargo-web` and `libstd-rust-web-dev-bpf`.
    Debian,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc",
        })
    }
}

/// Takes the first route that works, or says for each why it does not.
pub fn find(workspace: &Workspace) -> Result<ToolChain> {
    let mut reasons = Vec::new();
    for compiler in [Compiler::Nightly, Compiler::Debian] {
        match compiler.check(workspace).and_then(|()| find_linker(workspace, compiler)) {
            Ok(linker) => return Ok(ToolChain { compiler, linker }),
            Err(reason) => reasons.push(format!("  - {compiler}: {reason:#}")),
        }
    }
    bail!("no tool chain for the kernel programs:\n{}", reasons.join("\n"))
}

impl Compiler {
    /// Whether the compiler is there with all it needs.
    pub fn check(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Nightly => {
                let sysroot = process::output(self.rustc().args(["--print", "sysroot"]))
                    .map_err(|_| anyhow!("`rustup run nightly rustc` does not work"))?;
                let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
                if !source.is_dir() {
                    bail!("it has no component rust-src ({} is missing)", source.display());
                }
            }
            Self::Debian => {
                for program in [DEBIAN_RUSTC, DEBIAN_CARGO] {
                    if !Path::new(program).exists() {
                        bail!("{program} is missing");
                    }
                }
                let folder =
                    process::output(self.rustc().args(["--print", "target-libdir", "--target", BPF_TARGET]))
                        .with_context(|| format!("{DEBIAN_RUSTC} does not know the target {BPF_TARGET}"))?;
                let core_there = fs::read_dir(&folder).is_ok_and(|entries| {
                    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
                });
                if !core_there {
                    bail!("there is no compiled `core` for {BPF_TARGET} in {folder}");
                }
            }
        }
        let version = process::output(self.rustc().arg("-vV"))?;
        match release_in(&version) {
            Some(release) if release >= workspace.rust_version => Ok(()),
            Some(release) => bail!("it is Rust {release}, and {} or newer is needed", workspace.rust_version),
            None => bail!("it names no release in:\n{version}"),
        }
    }

    /// The compiler, free of what points at another one.
    fn rustc(self) -> Command {
        self.program("rustc", DEBIAN_RUSTC)
    }

    /// The cargo that belongs to the compiler.
    pub fn cargo(self) -> Command {
        let mut cargo = self.program("cargo", DEBIAN_CARGO);
        if self == Self::Debian {
            // Else it would take the first rustc in PATH, which is rustup's.
            cargo.env("RUSTC", DEBIAN_RUSTC);
        }
        cargo
    }

    fn program(self, of_rustup: &str, of_debian: &str) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut command = process::command("rustup");
                command.args(["run", "nightly", of_rustup]);
                command
            }
            Self::Debian => process::command(of_debian),
        };
        process::forget_tool_chain(&mut command);
        command
    }

    /// The LLVM major version the compiler was built with.
    pub fn llvm_major(self) -> Result<u32> {
        let text = process::output(self.rustc().arg("-vV"))?;
        llvm_major_in(&text).with_context(|| format!("{self} names no LLVM version in:\n{text}"))
    }
}

/// Reads the Rust version out of `rustc -vV`, without what marks a nightly.
fn release_in(version: &str) -> Option<Version> {
    let release = version.lines().find_map(|line| line.strip_prefix("release: "))?;
    Version::parse(release.split('-').next()?).ok()
}

/// Reads the LLVM major out of `rustc -vV`.
fn llvm_major_in(version: &str) -> Option<u32> {
    version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

/// The first bpf-linker that can link what the compiler emits: this checkout's own, then the one in PATH.
pub fn find_linker(workspace: &Workspace, compiler: Compiler) -> Result<PathBuf> {
    let own = workspace.tools().join("bin/bpf-linker");
    let candidates: Vec<PathBuf> = [Some(own), process::find_program("bpf-linker")]
        .into_iter()
        .flatten()
        .filter(|file| file.exists())
        .collect();
    if candidates.is_empty() {
        bail!("there is no bpf-linker");
    }
    let mut reasons = Vec::new();
    for linker in candidates {
        match probe(workspace, compiler, &linker) {
            Ok(()) => return Ok(linker),
            Err(error) => reasons.push(format!("{} does not link its output: {error:#}", linker.display())),
        }
    }
    bail!("{}", reasons.join("; "))
}

const PROBE: &str = "\
#![no_std]
#[unsafe(no_mangle)]
pub extern \"C\" fn probe() -> u32 { 2 }
";

/// Links bitcode made by the compiler. The bitcode is for the host, whose `core` every tool chain has: what is
/// tried here is whether the two sides speak the same LLVM, and that does not depend on the target.
fn probe(workspace: &Workspace, compiler: Compiler, linker: &Path) -> Result<()> {
    let folder = workspace.tools().join(format!("probe-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let result = probe_in(&folder, compiler, linker);
    // What is left of a probe hurts nobody, and its result is known by now.
    let _ = fs::remove_dir_all(&folder);
    result
}

fn probe_in(folder: &Path, compiler: Compiler, linker: &Path) -> Result<()> {
    let (source, bitcode) = (folder.join("probe.rs"), folder.join("probe.bc"));
    fs::write(&source, PROBE).with_context(|| format!("cannot write {}", source.display()))?;
    process::output(
        compiler
            .rustc()
            .args(["--edition", "2024", "--crate-type", "lib", "--emit", "llvm-bc", "-o"])
            .arg(&bitcode)
            .arg(&source),
    )?;
    process::output(
        process::command(linker)
            .args(["--target", BPF_TARGET, "--export", "probe", "-o"])
            .arg(folder.join("probe.o"))
            .arg(&bitcode)
            .env_remove("LD_LIBRARY_PATH"),
    )?;
    Ok(())
}

/// Makes sure that a program named by absolute path is found first by rustc, which is told `linker=bpf-linker`.
pub fn path_with(linker: &Path) -> Result<std::ffi::OsString> {
    let first = linker.parent().map(Path::to_path_buf);
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths(first.into_iter().chain(env::split_paths(&rest))).context("PATH cannot be extended")
}

#[cfg(test)]
mod tests {
    use cargo_metadata::semver::Version;

    use super::{llvm_major_in, release_in};

    #[test]
    fn the_llvm_major_is_read_from_rustc_version_output() {
        let text = "rustc 1.96.0\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major_in(text), Some(22));
    }

    #[test]
    fn a_nightly_counts_as_the_release_it_becomes() {
        assert_eq!(release_in("release: 1.97.0-nightly\n"), Some(Version::new(1, 97, 0)));
        assert_eq!(release_in("release: 1.96.0\n"), Some(Version::new(1, 96, 0)));
    }

    #[test]
    fn a_version_output_without_llvm_gives_none() {
        assert_eq!(llvm_major_in("rustc 1.96.0\n"), None);
    }
}
