//! Starting other programs: a clean environment for them, progress for the user, errors that name the command.
//!
//! Never decides what to run; the verbs do.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

/// What `cargo run` sets to describe xtask itself. An inner cargo would pass it on to build scripts, which then
/// run again whenever the user changes between `cargo xtask` and plain cargo.
const ABOUT_XTASK: [&str; 3] = ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"];

/// A command that does not take this process for its own cargo package.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ABOUT_XTASK.contains(&&*text) || text.starts_with("CARGO_PKG_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs xtask, for work on the host's own programs.
pub fn host_cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Takes away everything that points a cargo or rustc at a tool chain, at flags or at libraries: for a cargo
/// other than the one that runs xtask.
pub fn forget_tool_chain(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let misleading = matches!(
            &*text,
            "CARGO"
                | "CARGO_ENCODED_RUSTFLAGS"
                | "CARGO_TARGET_DIR"
                | "LD_LIBRARY_PATH"
                | "RUST_RECURSION_COUNT"
        ) || [
            "RUSTC",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_BUILD_",
            "CARGO_TARGET_",
            "CARGO_PROFILE_",
        ]
        .iter()
        .any(|prefix| text.starts_with(prefix));
        if misleading {
            command.env_remove(&name);
        }
    }
}

/// Runs a command to its end with the user watching its output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { bail!("{status}: {}", line(command)) }
}

/// Runs a command under a progress line that says what is done, why, and in the end how long it took.
pub fn step(what: &str, why: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what} ({why})");
    let start = Instant::now();
    run(command)?;
    eprintln!("    {what}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// What a command printed, or its error output when it failed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        bail!("{}: {}\n{}", output.status, line(command), String::from_utf8_lossy(&output.stderr).trim())
    }
}

/// Becomes the command: it gets this process's signals, and its exit status is the one the caller sees.
/// Returns only when the command could not be started.
pub fn become_command(command: &mut Command) -> anyhow::Error {
    let error = command.exec();
    not_started(command, &error)
}

/// Where a program is that a shell would start under this name; the administrator's folders count as well,
/// because Debian leaves them out of an ordinary user's PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

fn not_started(command: &Command, error: &io::Error) -> anyhow::Error {
    anyhow!("cannot start {}: {error}", line(command))
}
