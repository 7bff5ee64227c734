//! Whether this process may do what only root may, and how to get there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process;

/// What this process can do as root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It is root.
    Root,
    /// It is not, but sudo is there.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// Looks at this process; asks for no password.
    pub fn now() -> Self {
        // The kernel gives a process's folder in /proc to its effective user.
        if fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0) {
            Self::Root
        } else if process::find_program("sudo").is_some() {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// A command that runs `program` as root, or an error that says what needs root.
    pub fn command(self, program: &std::ffi::OsStr, needed_to: &str) -> Result<Command> {
        match self {
            Self::Root => Ok(process::command(program)),
            Self::Sudo => {
                let mut sudo = process::command("sudo");
                sudo.arg("--").arg(program);
                Ok(sudo)
            }
            Self::None => bail!("root is needed to {needed_to}, and sudo is not there: run this as root"),
        }
    }
}

/// Whether sudo would ask for nothing: the only way to use it under a test runner.
pub fn sudo_is_silent() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
