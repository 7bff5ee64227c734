//! Why a command failed, in words for the user, and the exit code that goes with it.

use std::{fmt, path::PathBuf, process::ExitCode};

use lbx_common::api::Problem;

/// What `--help` says about exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the agent: nothing was changed
  2  wrong usage, or a file that cannot be read
  3  the agent cannot be reached
  4  not there yet when --timeout was over: the change is in force
  5  the probe of `monitor test` failed";

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// The agent said no. `file` is what the configuration was read from.
    Refused {
        /// What the agent said.
        problem: Box<Problem>,
        /// The file that its line numbers belong to.
        file: Option<String>,
    },
    /// What was waited for has not come in time.
    TimedOut(String),
    /// A probe that was asked for did not succeed.
    ProbeFailed(String),
    /// The command asks for something that makes no sense.
    Usage(String),
    /// Nobody listens on the socket.
    NotRunning(PathBuf),
    /// The socket is closed to this user.
    NoPermission(PathBuf),
    /// Something answers, but not as an agent of this version would.
    Unreachable {
        /// The socket, or the address.
        agent: String,
        /// What happened there.
        reason: String,
    },
    /// This machine failed the command, as with a closed standard output.
    Local(String),
}

impl CliError {
    /// The documented exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused { .. } => 1,
            Self::Usage(_) | Self::Local(_) => 2,
            Self::NotRunning(_) | Self::NoPermission(_) | Self::Unreachable { .. } => 3,
            Self::TimedOut(_) => 4,
            Self::ProbeFailed(_) => 5,
        })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { problem, file } => refusal(f, problem, file.as_deref()),
            Self::Usage(text) | Self::Local(text) | Self::TimedOut(text) => f.write_str(text),
            Self::ProbeFailed(reason) => write!(f, "the probe failed: {reason}"),
            Self::NotRunning(socket) => write!(
                f,
                "no lbx agent is listening on {}: start one with `lbx-agent run` (as root), or name the socket of \
                 a running one with --socket PATH or LBX_SOCKET",
                socket.display()
            ),
            Self::NoPermission(socket) => write!(
                f,
                "no permission to use {}: run lbx-ctl as root, or as a member of the group `lbx` (which must exist \
                 when the agent starts)",
                socket.display()
            ),
            Self::Unreachable { agent, reason } => {
                write!(f, "cannot talk to the lbx agent on {agent}: {reason}")
            }
        }
    }
}

fn refusal(f: &mut fmt::Formatter<'_>, problem: &Problem, file: Option<&str>) -> fmt::Result {
    f.write_str(&problem.detail)?;
    for mistake in &problem.mistakes {
        f.write_str("\n  ")?;
        match file {
            Some(file) if mistake.line.is_some() => f.write_str(&mistake.in_file(file))?,
            Some(_) | None => write!(f, "{mistake}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lbx_common::api::Mistake;

    use super::*;

    #[test]
    fn a_refusal_lists_every_mistake_at_its_place_in_the_file() {
        let mut located = Mistake::new("pools[0].monitor", "there is no monitor `x`");
        (located.line, located.column) = (Some(12), Some(5));
        let problem = Box::new(Problem {
            kind: "invalid".to_owned(),
            title: String::new(),
            status: 422,
            detail: "the new configuration has 2 mistakes; nothing was changed".to_owned(),
            mistakes: vec![located, Mistake::new("services[0].address", "must be an IPv4 address")],
        });
        let mut error = CliError::Refused { problem, file: Some("lbx.yaml".to_owned()) };
        assert_eq!(
            error.to_string(),
            "the new configuration has 2 mistakes; nothing was changed\n  \
             lbx.yaml:12:5: pools[0].monitor: there is no monitor `x`\n  \
             services[0].address: must be an IPv4 address"
        );
        if let CliError::Refused { file, .. } = &mut error {
            *file = None;
        }
        assert!(error.to_string().contains("  line 12, column 5: pools[0].monitor: there"), "{error}");
    }
}
