//! Running a command to its end, and what it said.

use std::{
    io,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::wait;

/// What a command said when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command and collects what it says; kills it after `limit`.
pub fn finish(command: &mut Command, limit: Duration) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    // Read meanwhile, else a command with much to say waits for ever.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read_text(stdout));
        let stderr = scope.spawn(|| read_text(stderr));
        let status = wait_for_exit(&mut child, limit);
        if status.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let text = |reader: std::thread::ScopedJoinHandle<'_, io::Result<String>>| {
            reader.join().unwrap_or_else(|_| Ok(String::new()))
        };
        let (stdout, stderr) = (text(stdout)?, text(stderr)?);
        let status = status.with_context(|| format!("{name}; it had said:\n{stdout}{stderr}"))?;
        Ok(Finished { code: status.code(), stdout, stderr })
    })
}

fn read_text(stream: Option<impl io::Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits until a process has ended.
pub fn wait_for_exit(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    wait::until("the process ends", limit, || Ok(child.try_wait()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_says_much_is_read_to_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo no >&2; exit 3"]);
        let finished = finish(&mut command, Duration::from_secs(10)).unwrap();
        assert_eq!((finished.code, finished.stdout.len()), (Some(3), 1_000_000));
        assert_eq!(finished.stderr, "no\n");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let mut command = Command::new("sleep");
        let error = finish(command.arg("1000"), Duration::from_millis(50)).unwrap_err();
        assert!(format!("{error:#}").contains("sleep"), "{error:#}");
    }
}
