//! Test binaries: which there are, and one more of them at a time than there are processors. Most tests wait for
//! something, and where one binary comes after the other, its last tests leave a processor idle.

use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, TargetKind};

/// A test binary.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binary {
    /// Its package and its source, as `lbx-tests tests/mtu.rs`.
    pub name: String,
    /// How to run it again.
    pub again: String,
    /// The program.
    pub program: PathBuf,
    /// Where it runs: the folder of its package.
    pub dir: PathBuf,
}

/// Builds all test binaries: `cargo` is a `cargo test` with what they are built from. In the order of their names.
pub fn build(mut cargo: Command) -> Result<Vec<Binary>> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("what cargo prints")?;
    let mut binaries = Vec::new();
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot read what cargo prints")?
            && artifact.profile.test
            && let (Some(program), Some(dir)) = (artifact.executable, artifact.manifest_path.parent())
        {
            let package = dir.file_name().unwrap_or_default();
            let source = artifact.target.src_path.strip_prefix(dir).unwrap_or(&artifact.target.src_path);
            let target = match artifact.target.kind.as_slice() {
                [TargetKind::Test] => format!("--test {}", artifact.target.name),
                [TargetKind::Bin] => format!("--bin {}", artifact.target.name),
                _ => "--lib".to_owned(),
            };
            binaries.push(Binary {
                name: format!("{package} {source}"),
                again: format!("cargo test -p {package} {target}"),
                program: program.into(),
                dir: dir.into(),
            });
        }
    }
    if !child.wait().context("cargo did not end")?.success() {
        bail!("the tests do not compile: the compiler's messages are above");
    }
    binaries.sort();
    Ok(binaries)
}

/// Runs them. `command` makes the command of one; `ended` is told of each what it printed, and whether it held.
pub fn run(
    binaries: Vec<Binary>,
    command: impl Fn(&Path) -> Command + Sync,
    ended: impl FnMut(&Binary, &str, bool) + Send,
) {
    let (queue, ended) = (Mutex::new(binaries.into_iter()), Mutex::new(ended));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(binary) = next() {
            let mut command = command(&binary.program);
            command.current_dir(&binary.dir).env("CARGO_MANIFEST_DIR", &binary.dir);
            let (printed, held) = match output(command) {
                Ok(output) => output,
                Err(error) => (format!("error: {}: {error:#}\n", binary.program.display()), false),
            };
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            (*ended)(&binary, &printed, held);
        }
    };
    // Each runs one test at a time, and that one mostly waits.
    let at_once = thread::available_parallelism().map_or(2, |processors| processors.get() + 1);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(work);
        }
    });
}

/// What a program printed, both ways as it came, and whether it ended well.
pub fn output(mut command: Command) -> Result<(String, bool)> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    let errors = writer.try_clone().context("cannot make a pipe")?;
    let mut child = command.stdout(writer).stderr(errors).spawn().context("cannot be started")?;
    // It holds this side's ends for writing: with them open, the pipe would never end.
    drop(command);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).context("cannot read what it prints")?;
    let held = child.wait().context("did not end")?.success();
    Ok((String::from_utf8_lossy(&printed).into_owned(), held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Binary {
        Binary {
            name: script.to_owned(),
            again: String::new(),
            program: script.into(),
            dir: std::env::temp_dir(),
        }
    }

    #[test]
    fn each_is_told_with_all_that_it_printed_and_how_it_ended() {
        let scripts = ["echo one; echo two >&2; echo three", "echo bad; exit 3", "pwd", ":"];
        let mut found = Vec::new();
        run(
            scripts.map(shell).into(),
            |script| {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script);
                command
            },
            |binary, printed, held| found.push((binary.name.clone(), printed.to_owned(), held)),
        );
        found.sort();
        let here = format!("{}\n", std::env::temp_dir().display());
        let mut expected = [
            (scripts[0].to_owned(), "one\ntwo\nthree\n".to_owned(), true),
            (scripts[1].to_owned(), "bad\n".to_owned(), false),
            (scripts[2].to_owned(), here, true),
            (scripts[3].to_owned(), String::new(), true),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn one_that_cannot_be_started_is_a_failure_and_the_others_run() {
        let mut held = Vec::new();
        run(
            vec![shell("/there/is/no/such/program"), shell("/bin/true")],
            |program| Command::new(program),
            |binary, printed, is| held.push((binary.name.clone(), printed.contains("cannot be started"), is)),
        );
        held.sort();
        assert_eq!(
            held,
            [("/bin/true".to_owned(), false, true), ("/there/is/no/such/program".to_owned(), true, false)]
        );
    }
}
