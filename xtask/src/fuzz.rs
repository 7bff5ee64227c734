//! `cargo xtask fuzz`: searches for input that lbx does something wrong with (`lbx-common/fuzz`).
//!
//! Each target starts from its saved corpus. What it finds on the way stays under `target/fuzz`, unless it is
//! told to be saved; an input that makes it fail is in `lbx-common/fuzz/artifacts`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::bpf;
use crate::process;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// The crate of the targets, from the root.
const CRATE: &str = "lbx-common/fuzz";
const SMOKE_SECONDS: u64 = 60;
const FULL_SECONDS: u64 = 20 * 60;

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these targets
    targets: Vec<String>,
    /// One minute for each target instead of twenty
    #[arg(long)]
    smoke: bool,
    /// So many seconds for each target
    #[arg(long, conflicts_with = "smoke", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Add inputs that reach new code to the saved corpus
    #[arg(long)]
    save: bool,
}

impl Args {
    /// All targets, each for as long as it should be now and then.
    pub const FULL: Self = Self { targets: Vec::new(), smoke: false, seconds: None, save: false };
}

/// The verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    // The agent's code is under test as well, and embeds the kernel programs.
    bpf::compile(workspace, &setup::ensure(workspace, Scope::Test)?)?;
    let fuzzer = Fuzzer {
        program: setup::cargo_fuzz(workspace)?,
        folder: workspace.root.join(CRATE),
        results: workspace.host_target.join("fuzz"),
    };
    let targets = fuzzer.choose(&args.targets)?;
    process::step("build the fuzz targets", "about 3 minutes when new", &mut fuzzer.command("build"))?;

    let default = if args.smoke { SMOKE_SECONDS } else { FULL_SECONDS };
    let seconds = args.seconds.unwrap_or(default);
    eprintln!("==> fuzz {} ({seconds} s each, logs in {})", targets.join(", "), fuzzer.results.display());
    let waiting = Mutex::new(targets.iter());
    let failed = Mutex::new(Vec::new());
    let next = || waiting.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    match fuzzer.search(target, seconds, args.save) {
                        Ok(summary) => eprintln!("    {target}: {summary}"),
                        Err(error) => {
                            eprintln!("error: {target}: {error:#}");
                            failed.lock().expect("nobody panics with it").push(target.as_str());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    ensure!(failed.is_empty(), "something was found by {}", failed.join(", "));
    Ok(())
}

struct Fuzzer {
    program: PathBuf,
    folder: PathBuf,
    results: PathBuf,
}

impl Fuzzer {
    /// `cargo fuzz` with a verb. Without a sanitizer, which only a nightly compiler knows: the packet's bytes are
    /// reached by checked slices on the host, so that what is out of bounds panics.
    fn command(&self, verb: &str) -> Command {
        let mut command = process::command(&self.program);
        command.args(["fuzz", verb, "--sanitizer", "none", "--fuzz-dir"]).arg(&self.folder);
        command.arg("--target-dir").arg(self.results.join("build"));
        command
    }

    /// The targets that are asked for, or all.
    fn choose(&self, asked: &[String]) -> Result<Vec<String>> {
        let list = process::output(
            process::command(&self.program).args(["fuzz", "list", "--fuzz-dir"]).arg(&self.folder),
        )?;
        let all: Vec<String> = list.lines().map(str::to_owned).collect();
        if let Some(unknown) = asked.iter().find(|target| !all.contains(target)) {
            bail!("there is no target {unknown}: there are {}", all.join(", "));
        }
        Ok(if asked.is_empty() { all } else { asked.to_vec() })
    }

    /// Runs a target for so long; what to say of it, or what it found.
    fn search(&self, target: &str, seconds: u64, save: bool) -> Result<String> {
        let corpus = self.folder.join("corpus").join(target);
        let new = self.results.join(target).join("new");
        fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
        let log = self.results.join(target).join("log");
        let mut search = self.command("run");
        // Found inputs go into the first folder.
        search.arg(target).args([&new, &corpus]).args(["--", "-timeout=10"]);
        search.arg(format!("-max_total_time={seconds}"));
        let said = logged(search, &log)?;
        let runs = said.lines().rev().find_map(|line| line.strip_prefix("Done ")?.split(' ').next());
        let runs = runs.with_context(|| format!("it ended early; see {}", log.display()))?;
        if save {
            let mut merge = self.command("run");
            merge.arg(target).args([&corpus, &new]).args(["--", "-merge=1", "-use_counters=0"]);
            logged(merge, &log)?;
            fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
        }
        Ok(format!("{runs} runs, nothing found"))
    }
}

/// Runs a command that says more than anybody reads; what it said, or the end of it where it failed.
fn logged(mut command: Command, log: &Path) -> Result<String> {
    const LINES: usize = 40;
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let line = process::line(&command);
    let status = command.stdout(file.try_clone()?).stderr(file).status();
    let status = status.with_context(|| format!("cannot start {line}"))?;
    // A corpus has any bytes, and a fuzzer shows them.
    let said = String::from_utf8_lossy(&fs::read(log).context("the log")?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = said.lines().collect();
        let end = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n");
        bail!("{status}; all of it is in {}\n{end}", log.display());
    }
    Ok(said)
}
