//! Somebody who follows the events of an agent, by `lbx-ctl events --follow`.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lbx_common::api::{Event, Happening};

use crate::{
    agent::{Agent, binary},
    process::wait_for_exit,
};

/// A running `lbx-ctl events --follow -o json`.
pub struct Follower {
    child: Child,
    lines: Receiver<Event>,
    /// All that was heard so far.
    heard: Vec<Event>,
    /// Number of the last event.
    last: u64,
}

/// All events that an agent has.
pub fn events(agent: &Agent, arguments: &[&str]) -> Result<Vec<Event>> {
    let shown = agent.ctl(&[&["events", "-o", "json"], arguments].concat())?;
    ensure!(shown.code == Some(0), "{}", shown.stderr);
    shown.stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

impl Follower {
    /// Follows what happens after the last event that there is now.
    pub fn start(agent: &Agent) -> Result<Self> {
        let last = events(agent, &[])?.last().map_or(0, |event| event.number);
        let mut command = Command::new(binary("lbx-ctl")?);
        command.arg("--socket").arg(agent.socket());
        command.args(["events", "--follow", "-o", "json", "--since", &last.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start lbx-ctl")?;
        let out = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, lines) = channel();
        // Ends with the child.
        thread::spawn(move || {
            let events = out.lines().map_while(|line| serde_json::from_str(&line.ok()?).ok());
            events.map_while(|event| sender.send(event).ok()).for_each(drop);
        });
        Ok(Self { child, lines, heard: Vec::new(), last })
    }

    /// Waits for an event. Those before it are passed over, for good.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&Happening) -> bool,
    ) -> Result<Event> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.lines.recv_timeout(left) else {
                let heard: Vec<String> = self.heard.iter().map(|event| event.what.to_string()).collect();
                bail!("no event within {limit:?}: {what}; heard were\n{}", heard.join("\n"));
            };
            // A sample has no number of its own.
            if !matches!(event.what, Happening::FlowSample(_)) {
                ensure!(event.number > self.last, "numbers rise: {event:?} after {}", self.last);
                self.last = event.number;
            }
            self.heard.push(event.clone());
            if is_it(&event.what) {
                return Ok(event);
            }
        }
    }

    /// Waits for the end of the program. Returns its exit code, and what it said.
    pub fn end(&mut self, limit: Duration) -> Result<(Option<i32>, String)> {
        let status = wait_for_exit(&mut self.child, limit)?;
        let mut said = String::new();
        self.child.stderr.take().context("its messages")?.read_to_string(&mut said)?;
        Ok((status.code(), said))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
