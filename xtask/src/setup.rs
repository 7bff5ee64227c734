//! `cargo xtask setup`: makes sure that everything lbx is built, run and tested with is there.
//!
//! Looks for what is really used (a program, a compiled `core`, a linker that links) and not at package lists, so
//! that tools from any source count. Installs from apt and crates.io only, and nothing that would take the place
//! of something the user has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::privilege::Privilege;
use crate::process;
use crate::toolchain::{self, Compiler, ToolChain};
use crate::workspace::Workspace;

const BPF_LINKER: &str = "bpf-linker@0.13.0";
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// How much has to be there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// What compiles lbx and makes it run.
    Run,
    /// That, and what lbx is compared with.
    Compare,
    /// That, and what the tests and checks use.
    Test,
}

/// A program of the system that lbx or its tests start.
struct Program {
    name: &'static str,
    package: &'static str,
    why: &'static str,
    scope: Scope,
}

/// What users try first has to work.
const TRY: &str = "is tried on lbx by the tests";

/// Neither package has a service.
const PROBED: &str = "is probed by the tests";

const PROGRAMS: [Program; 11] = [
    Program {
        name: "ip",
        package: "iproute2",
        why: "makes the devices of the network namespaces",
        scope: Scope::Run,
    },
    Program {
        name: "nft",
        package: "nftables",
        why: "balances beside lbx in `bench e2e`, and puts a firewall in the way of the tests' probes",
        scope: Scope::Compare,
    },
    Program {
        name: "haproxy",
        package: "haproxy",
        why: "balances beside lbx in `bench e2e`, and is probed by HTTP in the tests, as a process of its own: the \
              package's service is not used",
        scope: Scope::Compare,
    },
    Program {
        name: "strace",
        package: "strace",
        why: "the tests count the agent's system calls",
        scope: Scope::Test,
    },
    Program { name: "dnsmasq", package: "dnsmasq-base", why: PROBED, scope: Scope::Test },
    Program { name: "aiosmtpd", package: "python3-aiosmtpd", why: PROBED, scope: Scope::Test },
    Program {
        name: "systemd-analyze",
        package: "systemd",
        why: "checks the unit of the agent",
        scope: Scope::Test,
    },
    Program { name: "ping", package: "iputils-ping", why: TRY, scope: Scope::Test },
    Program { name: "traceroute", package: "traceroute", why: TRY, scope: Scope::Test },
    Program { name: "tracepath", package: "iputils-tracepath", why: TRY, scope: Scope::Test },
    Program {
        name: "c++",
        package: "g++",
        why: "compiles the fuzzer that the fuzz targets are linked with",
        scope: Scope::Test,
    },
];

/// The verb: as [`ensure`], with a line for the user when there was nothing to do.
pub fn run(workspace: &Workspace) -> Result<()> {
    let tool_chain = ensure(workspace, Scope::Test)?;
    println!(
        "setup: everything is there (kernel programs: {}, {})",
        tool_chain.compiler,
        tool_chain.linker.display()
    );
    Ok(())
}

/// Installs what is missing; silent and quick when nothing is. Returns the tool chain for the kernel programs.
pub fn ensure(workspace: &Workspace, scope: Scope) -> Result<ToolChain> {
    programs(scope)?;
    if scope == Scope::Test {
        component("fmt", "rustfmt", "checks the layout of the code")?;
        component("clippy", "clippy", "checks the code for mistakes")?;
        promtool(workspace)?;
        schemathesis(workspace)?;
    }
    match toolchain::find(workspace) {
        Ok(tool_chain) => Ok(tool_chain),
        Err(reasons) => {
            eprintln!("{reasons:#}");
            debian_route(workspace).map_err(|error| anyhow!("{error:#}\n{}", by_hand(workspace)))?;
            toolchain::find(workspace).map_err(|error| anyhow!("{error:#}\n{}", by_hand(workspace)))
        }
    }
}

fn programs(scope: Scope) -> Result<()> {
    let missing: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| program.scope <= scope)
        .filter(|program| process::find_program(program.name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    let reasons: Vec<String> =
        missing.iter().map(|program| format!("`{}` {}", program.name, program.why)).collect();
    apt_install(&packages, &reasons.join("; "))
}

/// A part of the host's own Rust tool chain that minimal installations leave out.
fn component(verb: &str, name: &str, why: &str) -> Result<()> {
    if process::output(process::host_cargo().args([verb, "--version"])).is_ok() {
        return Ok(());
    }
    let remedy = format!("`cargo {verb}` is missing: install it with `rustup component add {name}`");
    if process::find_program("rustup").is_none() {
        bail!("{remedy}, or with the package of your distribution");
    }
    let mut rustup = process::command("rustup");
    rustup.args(["component", "add", name]);
    process::step(&format!("install {name}"), why, &mut rustup).context(remedy)
}

/// Installs Debian's compiler for BPF and a bpf-linker with the same LLVM.
fn debian_route(workspace: &Workspace) -> Result<()> {
    if let Err(reason) = Compiler::Debian.check(workspace) {
        apt_install(&DEBIAN_COMPILER, "a compiler with a ready `core` for BPF; about 30 s")?;
        Compiler::Debian.check(workspace).with_context(|| format!("after installing, because {reason:#}"))?;
    }
    if toolchain::find_linker(workspace, Compiler::Debian).is_err() {
        let major = Compiler::Debian.llvm_major()?;
        let prefix = format!("/usr/lib/llvm-{major}");
        if !Path::new(&prefix).join("bin/llvm-config").exists() {
            apt_install(
                &[&format!("llvm-{major}-dev")],
                "bpf-linker is linked against the compiler's LLVM; about 30 s",
            )?;
        }
        let mut cargo = process::host_cargo();
        cargo.args(["install", BPF_LINKER, "--locked", "--no-default-features", "--force", "--features"]);
        cargo.arg(format!("llvm-{major}")).arg("--root").arg(workspace.tools()).env("LLVM_PREFIX", prefix);
        // Its release profile has debug information, which takes longer than the rest.
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        process::step("install bpf-linker", "links the kernel programs; a minute or two", &mut cargo)?;
    }
    Ok(())
}

/// Where `cargo-fuzz` is; installs it for this checkout where it is not.
pub fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    let own = workspace.tools().join("bin/cargo-fuzz");
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = process::find_program("cargo-fuzz") {
        return Ok(found);
    }
    let mut cargo = process::host_cargo();
    cargo.args(["install", CARGO_FUZZ, "--locked", "--root"]).arg(workspace.tools());
    process::step("install cargo-fuzz", "builds and runs the fuzz targets; half a minute", &mut cargo)?;
    Ok(own)
}

/// Takes `promtool` out of Debian's package for this checkout, where it is not there. The package itself would start a
/// server.
fn promtool(workspace: &Workspace) -> Result<()> {
    let own = workspace.tools().join("bin/promtool");
    if own.exists() || process::find_program("promtool").is_some() {
        return Ok(());
    }
    let remedy = "`promtool` is missing, which checks the metrics: put it into PATH, it is in Debian's package prometheus";
    if process::find_program("apt-get").is_none() {
        bail!(remedy);
    }
    let folder = workspace.tools().join("promtool-package");
    std::fs::create_dir_all(&folder)?;
    let download = || {
        let mut apt = process::command("apt-get");
        apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", "prometheus"]).current_dir(&folder);
        process::step("download promtool", "checks the metrics; 19 MB", &mut apt)
    };
    if download().is_err() {
        refresh_packages(Privilege::now())?;
        download().context(remedy)?;
    }
    let package = std::fs::read_dir(&folder)?.next().context(remedy)??.path();
    let mut unpack = process::command("dpkg-deb");
    unpack.arg("--extract").arg(&package).arg(&folder);
    process::step("unpack promtool", "for this checkout alone", &mut unpack).context(remedy)?;
    std::fs::create_dir_all(workspace.tools().join("bin"))?;
    std::fs::rename(folder.join("usr/bin/promtool"), &own).context(remedy)?;
    std::fs::remove_dir_all(&folder).context("cannot remove the rest of the package")
}

/// Installs schemathesis, of exactly the versions that the tests ask for, where it is not there: a folder of Python's for
/// this checkout alone.
fn schemathesis(workspace: &Workspace) -> Result<()> {
    let folder = workspace.tools().join("schemathesis");
    let wanted = workspace.root.join("tests/schemathesis/requirements.txt");
    let installed = folder.join("requirements.txt");
    let versions = std::fs::read(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    if std::fs::read(&installed).is_ok_and(|installed| installed == versions) {
        return Ok(());
    }
    let why = "holds the API against its OpenAPI document";
    if process::output(process::command("python3").args(["-c", "import ensurepip"])).is_err() {
        apt_install(&["python3-venv"], &format!("for schemathesis, which {why}"))?;
    }
    let mut python = process::command("python3");
    python.args(["-m", "venv", "--clear"]).arg(&folder);
    process::step("make a folder for schemathesis", "for this checkout alone", &mut python)?;
    let mut pip = process::command(folder.join("bin/pip"));
    pip.args(["--disable-pip-version-check", "install", "--quiet", "--requirement"]).arg(&wanted);
    process::step("install schemathesis", &format!("{why}; half a minute"), &mut pip)?;
    std::fs::copy(&wanted, &installed).context("cannot note what is installed")?;
    Ok(())
}

/// Installs packages, or says which they are where apt or root is missing.
fn apt_install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if process::find_program("apt-get").is_none() {
        bail!("there is no apt-get here: install what Debian has as {list} ({why}), then run this again");
    }
    let privilege = Privilege::now();
    let remedy =
        || format!("install by hand: apt-get update && apt-get install --no-install-recommends {list}");
    if let Err(error) = refresh_packages(privilege) {
        // One mirror of several may be out of reach; whether that matters shows in the next step.
        eprintln!("    {error:#}");
    }
    // A user who has Debian's older rustc keeps it: apt then refuses instead of replacing it.
    let mut install = apt_get(privilege, &format!("install {list}"))?;
    install.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    process::step(&format!("install {list}"), why, &mut install).with_context(remedy)
}

fn refresh_packages(privilege: Privilege) -> Result<()> {
    let mut update = apt_get(privilege, "refresh the list of packages")?;
    process::step("refresh the list of packages", "to install the next", update.arg("update"))
}

fn apt_get(privilege: Privilege, why: &str) -> Result<Command> {
    let mut apt = privilege.command("env".as_ref(), why)?;
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]);
    apt.args(["-o", "Dpkg::Use-Pty=0"]);
    Ok(apt)
}

fn by_hand(workspace: &Workspace) -> String {
    format!(
        "To compile the kernel programs, install one of these, then run this again:\n  \
         - on Debian 12 (with bookworm-security): apt-get install --no-install-recommends {} llvm-22-dev && \
         LLVM_PREFIX=/usr/lib/llvm-22 cargo install {BPF_LINKER} --locked --no-default-features --features llvm-22\n  \
         - anywhere: rustup toolchain install nightly --component rust-src, and a bpf-linker in PATH that is built \
         with the LLVM major of `rustc +nightly -vV` (see https://github.com/aya-rs/bpf-linker)\n\
         Either compiler must be Rust {} or newer.",
        DEBIAN_COMPILER.join(" "),
        workspace.rust_version,
    )
}
