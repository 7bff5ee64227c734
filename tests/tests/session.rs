//! README.md's session, as a first-time user would type it: its commands are taken out of it, run in order against a real
//! playground, and must print what it shows.
//!
//! `...` in README.md stands for any lines. What differs from run to run is compared by its form alone: see [`form`].

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use lbx_tests::{
    process::{finish, wait_for_exit},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const README: &str = include_str!("../../README.md");
const SECTION: &str = "\n## A session\n";
/// What a shell, and the playground, are shown with.
const PROMPTS: [&str; 2] = ["$ ", "playground> "];
const START: &str = "cargo xtask run";
/// From the start of the playground to its last line.
const PLAYGROUND: Duration = Duration::from_mins(1);
/// For a question to be answered as shown: it takes some probes until an endpoint is found to be up or down.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a command to end.
const COMMAND: Duration = Duration::from_secs(30);

/// Something that a user types, and what is shown below it.
#[derive(Debug)]
struct Step {
    at_playground: bool,
    command: &'static str,
    shown: Vec<&'static str>,
}

impl Step {
    /// Whether it changes nothing, so that it may be asked again until the answer is right.
    fn is_question(&self) -> bool {
        let words: Vec<&str> = self.command.split_whitespace().collect();
        match words.as_slice() {
            ["lbx-ctl", verb, ..] => {
                ["describe", "events", "explain", "health", "stats", "status"].contains(verb)
            }
            [program, ..] => *program == "nsenter",
            [] => false,
        }
    }
}

/// The steps of the session: of every `console` block, in order.
fn steps() -> Vec<Step> {
    let section = README.split(SECTION).nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks {
        assert!(
            PROMPTS.iter().any(|prompt| block.starts_with(prompt)),
            "a block begins with a command:\n{block}"
        );
        for line in block.lines() {
            let typed = PROMPTS.iter().position(|prompt| line.starts_with(prompt));
            match (typed, steps.last_mut()) {
                (Some(prompt), _) => steps.push(Step {
                    at_playground: prompt == 1,
                    command: line.split_once(' ').unwrap().1,
                    shown: Vec::new(),
                }),
                (None, Some(step)) => step.shown.push(line),
                (None, None) => panic!("{line} is shown before any command"),
            }
        }
    }
    steps
}

/// A line without what differs from run to run: the width of columns, times, MACs, ports of the client, process ids, names
/// of runs, and counters.
fn form(line: &str, is_counted: bool) -> String {
    // Which it is, is the kernel's to say.
    let line = line.replace("in userspace", "kernel device");
    let mut words: Vec<String> = line.split_whitespace().map(|word| word_form(word, is_counted)).collect();
    // `1m 40s` is one time.
    words.dedup_by(|word, before| before == "TIME" && word.starts_with("TIME"));
    words.join(" ")
}

fn word_form(word: &str, is_counted: bool) -> String {
    let (bare, end) = match word.strip_suffix([',', ':', ';', ')']) {
        Some(bare) => (bare, &word[bare.len()..]),
        None => (word, ""),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_decimal = |text: &str| text.split('.').all(is_number) && text.matches('.').count() < 2;
    let is_hex = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unit = ["us", "ms", "s", "m"].into_iter().any(|unit| bare.strip_suffix(unit).is_some_and(is_decimal));
    if unit {
        return format!("TIME{end}");
    }
    if is_counted && is_number(bare) {
        return format!("COUNT{end}");
    }
    if bare.split(':').count() == 6 && bare.split(':').all(is_hex) {
        return format!("MAC{end}");
    }
    if bare.len() == 24 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T' {
        return format!("DATE{end}");
    }
    if let Some((client, port)) = bare.split_once("192.0.2.2:")
        && is_number(port)
    {
        return format!("{client}192.0.2.2:PORT{end}");
    }
    // /tmp/lbx-3af9-0/agent.sock, /run/netns/lbx-3af9-0-client
    let mut text = bare.to_owned();
    if let Some((before, rest)) = bare.split_once("/lbx-")
        && let Some((run, rest)) = rest.split_once('-')
        && run.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        text = format!("{before}/lbx-RUN-{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text + end
}

/// What is compared of some lines. In tables of packets every number is a counter.
fn forms<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut is_counted = false;
    lines
        .map(|line| {
            is_counted = line.contains("PACKETS") || (is_counted && !line.trim().is_empty());
            // Words after which a number is another one each time.
            let counted = is_counted || ["pid ", "writes since"].iter().any(|word| line.contains(word));
            form(line, counted)
        })
        .collect()
}

/// Whether lines are those that are shown, where `...` is any number of lines.
fn agree(shown: &[String], found: &[String]) -> bool {
    match (shown, found) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == "..." => (0..=found.len()).any(|skip| agree(rest, &found[skip..])),
        ([one, rest @ ..], [other, others @ ..]) => one == other && agree(rest, others),
        ([], _) | (_, []) => false,
    }
}

/// A running playground, and a place for the user's files.
struct Playground {
    child: Child,
    keyboard: ChildStdin,
    lines: Receiver<String>,
    /// What it printed up to its last line.
    said: Vec<String>,
    directory: tempfile::TempDir,
}

impl Playground {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lbx-playground"));
        // Where cargo starts it from.
        command.current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (keyboard, out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, lines) = channel();
        // Ends with the child.
        thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).map_err(drop))
        });
        let mut playground =
            Self { child, keyboard, lines, said: Vec::new(), directory: tempfile::tempdir().unwrap() };
        while playground.said.last().is_none_or(|line| !line.trim_start().starts_with("quit ")) {
            let line = playground.line(PLAYGROUND);
            playground.said.push(line);
        }
        playground
    }

    fn line(&self, limit: Duration) -> String {
        let said = || self.said.join("\n");
        self.lines
            .recv_timeout(limit)
            .unwrap_or_else(|error| panic!("{error}; the playground said\n{}", said()))
    }

    /// Types a line into it. Returns what it says.
    fn types(&mut self, line: &str) -> String {
        writeln!(self.keyboard, "{line}").unwrap();
        self.line(PATIENCE)
    }

    /// Runs a command in a shell that has done what the playground says that a second terminal needs.
    fn runs(&self, command: &str) -> String {
        let mut script = format!("cd {}\n", root().display());
        let needed = self.said.iter().map(|line| line.trim());
        for line in
            needed.filter(|line| line.starts_with("export LBX_SOCKET=") || line.starts_with("client="))
        {
            writeln!(script, "{line}").unwrap();
        }
        writeln!(script, "cd {}\nexec 2>&1\n{command}", self.directory.path().display()).unwrap();
        finish(Command::new("sh").args(["-c", &script]), COMMAND).unwrap().stdout
    }

    /// Does a step, and says what came of it.
    fn does(&mut self, step: &Step) -> String {
        if step.at_playground {
            self.types(step.command)
        } else if step.command == START {
            self.said.join("\n")
        } else {
            self.runs(step.command)
        }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // It removes its network by itself; one that does not is killed.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
        if wait_for_exit(&mut self.child, COMMAND).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_session_of_the_readme_goes_as_it_shows() {
    let steps = steps();
    assert!(steps.len() > 30, "{} steps", steps.len());
    let mut playground = Playground::start();
    let mut transcript = String::new();
    let mut wrong = Vec::new();
    for step in &steps {
        let shown = forms(step.shown.iter().copied());
        let deadline = Instant::now() + PATIENCE;
        let mut found = playground.does(step);
        let is_right = |found: &str| agree(&shown, &forms(found.lines()));
        if step.is_question() && !is_right(&found) {
            let left = deadline.saturating_duration_since(Instant::now());
            // What is asked again must be answered right in the end.
            let _ = wait::until(step.command, left, || {
                found = playground.does(step);
                Ok(is_right(&found).then_some(()))
            });
        }
        writeln!(
            transcript,
            "{}{}\n{}",
            PROMPTS[usize::from(step.at_playground)],
            step.command,
            found.trim_end()
        )
        .unwrap();
        if !is_right(&found) {
            wrong.push(format!(
                "`{}`: README.md shows\n{}\nfound is\n{found}",
                step.command,
                step.shown.join("\n")
            ));
        }
    }
    println!("{transcript}");
    assert!(wrong.is_empty(), "{} of {} steps:\n{}", wrong.len(), steps.len(), wrong.join("\n"));
}

#[test]
fn what_differs_from_run_to_run_makes_no_difference_and_all_else_does() {
    let same = |shown: &str, found: &str| agree(&forms(shown.lines()), &forms(found.lines()));
    assert!(same("web/a  healthy  431us", "web/a    healthy  1.2ms"));
    assert!(same("up 19s", "up 1m 40s"));
    assert!(same("east a client=192.0.2.2:48576", "east a client=192.0.2.2:1"));
    assert!(same("SERVICE  IN PACKETS\nweb  18", "SERVICE  IN PACKETS\nweb  7"));
    assert!(same("by 82:81:5e:81:67:af, pid 15280", "by 00:81:5e:81:67:af, pid 3"));
    assert!(same(
        "export LBX_SOCKET=/tmp/lbx-3af9-0/agent.sock",
        "export LBX_SOCKET=/tmp/lbx-beef-12/agent.sock"
    ));
    assert!(same("a\n...\nd", "a\nb\nc\nd") && same("...", "") && same("a\n...", "a"));
    assert!(!same("a\n...\nd", "a\nb\nc") && !same("a", "a\nb") && !same("a\nb", "a"));
    assert!(!same("web/a  healthy  431us", "web/a  unhealthy  431us"));
    assert!(!same("web/a  80", "web/a  81"));
    assert!(!same("10.0.0.10:80", "10.0.0.10:81"));
}
