//! The agent under `strace`, and what that saw.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::Result;

use crate::{agent::Agent, netns::Netns};

/// The command of an agent under `strace`, which writes these system calls (names with commas between them, or `all`)
/// to `trace`, with what their descriptors are.
pub fn traced(agent: &Agent, netns: &Netns, trace: &Path, calls: &str) -> Result<Command> {
    let run = agent.run_command()?;
    let mut command = netns.command("strace");
    // -D: the agent stays the child of whoever starts this, so that signals reach it.
    command.args(["-D", "-f", "-qq", "-y", "-e", &format!("trace={calls}"), "-o"]).arg(trace);
    command.arg(run.get_program()).args(run.get_args());
    Ok(command)
}

/// Names of the system calls in a trace, whose lines are `PID NAME(…`.
pub fn names(trace: &str) -> BTreeSet<String> {
    let names = trace.lines().filter_map(|line| {
        let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then(|| name.to_owned())
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_whole_and_from_interrupted_calls() {
        let trace = "7  bpf(BPF_MAP_CREATE, {}) = 3<x>\n7  read(3,  <unfinished ...>\n\
                     7  <... read resumed>\"\") = 0\n7  +++ exited with 0 +++\n";
        assert_eq!(names(trace), ["bpf".to_owned(), "read".to_owned()].into());
    }
}
