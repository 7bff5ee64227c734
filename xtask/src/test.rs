//! `cargo xtask test`: everything that must hold before a change is taken; what CI runs.
//!
//! Every check is made even when an earlier one failed, so that one run shows all there is to mend. The last line
//! sums up the tests of all binaries.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::binaries;
use crate::bpf;
use crate::privilege::{Privilege, sudo_is_silent};
use crate::process;
use crate::setup::{self, Scope};
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{fmt_check, fuzz, lint, tidy};

/// A test that cannot run on this machine appends a line `name: reason` to the file named by this variable and
/// returns; it then counts as skipped, and as failed where `CI` is set.
const SKIP_FILE: &str = "LBX_SKIP_FILE";

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run tests in their long forms (`LBX_LONG=1`: more of everything, for longer), and then the fuzz targets
    #[arg(long)]
    long: bool,
    /// Run only the tests whose name contains this, and none of the checks
    filter: Option<String>,
    /// Further arguments for the test binaries, such as `--test-threads 1`
    #[arg(last = true)]
    extra: Vec<String>,
}

/// The verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let start = Instant::now();
    bpf::compile(workspace, &setup::ensure(workspace, Scope::Test)?)?;

    let mut failures = Vec::new();
    if args.filter.is_none() {
        let checks = [
            ("fmt-check", fmt_check::run(workspace)),
            ("lint", lint::run(workspace)),
            ("tidy", tidy::run(workspace)),
        ];
        for (name, result) in checks {
            if let Err(error) = result {
                eprintln!("error: {name}: {error:#}");
                failures.push(name);
            }
        }
    }

    let mut tally = Tally::default();
    // Tests start lbx-agent and lbx-ctl as processes; cargo builds those of other crates only when told to.
    let mut cargo = process::host_cargo();
    cargo.current_dir(&workspace.root).args(["build", "--locked", "--workspace", "--all-targets"]);
    match process::step("build all programs and tests", "the tests start them", &mut cargo) {
        Ok(()) => {
            let success = tests(workspace, args, &mut tally)?;
            if !success {
                failures.push("tests");
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            failures.push("build");
        }
    }

    if args.long
        && args.filter.is_none()
        && let Err(error) = fuzz::run(workspace, &fuzz::Args::FULL)
    {
        eprintln!("error: fuzz: {error:#}");
        failures.push("fuzz");
    }

    eprintln!("    all of it took {:.0} s", start.elapsed().as_secs_f64());
    if !failures.is_empty() {
        eprintln!("FAILED: {}", failures.join(", "));
    }
    println!("{tally}");
    if failures.is_empty() { Ok(()) } else { Err(crate::AlreadySaid.into()) }
}

/// Runs the tests of all crates; false when one failed or could not run where it had to.
fn tests(workspace: &Workspace, args: &Args, tally: &mut Tally) -> Result<bool> {
    let skip_file = workspace.host_target.join(format!("skipped-{}.txt", std::process::id()));
    fs::write(&skip_file, "").with_context(|| format!("cannot write {}", skip_file.display()))?;

    let cargo_test = || {
        let mut cargo = process::host_cargo();
        cargo.current_dir(&workspace.root).args(["test", "--locked", "--workspace"]);
        cargo
    };
    let runner = runner();
    let set_up = |command: &mut Command| {
        command.env(SKIP_FILE, &skip_file);
        if args.long {
            command.env("LBX_LONG", "1");
        }
        command.args(&args.filter);
    };
    let command = |program: &Path| {
        let mut words = runner.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = process::command(words.next().unwrap_or_default());
        command.args(words);
        set_up(&mut command);
        command.env("RUST_TEST_THREADS", "1").args(&args.extra);
        command
    };
    let mut failed = Vec::new();
    let mut ended = |name: &str, again: &str, printed: &str, held: bool| {
        println!("     Running {name}\n{printed}");
        let before = tally.failed;
        printed.lines().for_each(|line| tally.add_line(line));
        if !held {
            failed.push(again.to_owned());
            // It may have died before it could say how its tests ended.
            tally.failed = tally.failed.max(before + 1);
        }
    };
    binaries::run(binaries::build(cargo_test())?, command, |binary, printed, held| {
        ended(&binary.name, &binary.again, printed, held);
    });
    let mut examples = cargo_test();
    examples.args(["--no-fail-fast", "--doc", "--"]);
    set_up(&mut examples);
    eprintln!("==> test ({})", process::line(&examples));
    let (printed, held) = binaries::output(examples)?;
    ended("examples in the documentation", "cargo test --workspace --doc", &printed, held);
    for again in &failed {
        eprintln!("error: tests failed; to run them again: {again}");
    }
    let skipped = take_lines(&skip_file)?;
    tally.skip_passed(u64::try_from(skipped.len())?);
    for line in &skipped {
        eprintln!("skipped: {line}");
    }
    let must_run = env::var_os("CI").is_some() && !skipped.is_empty();
    if must_run {
        eprintln!("error: in CI (the variable CI is set) a test that cannot run has failed");
    }
    Ok(failed.is_empty() && !must_run)
}

/// What a test binary is run by: network namespaces and kernel programs need root.
fn runner() -> &'static [&'static str] {
    match Privilege::now() {
        Privilege::Root => &[],
        Privilege::Sudo if sudo_is_silent() => &["sudo", "-n", "--preserve-env", "--"],
        Privilege::Sudo | Privilege::None => {
            eprintln!(
                "warning: the network tests need root: as this user they are skipped or fail. Run this as root, or \
                 with a sudo that asks for no password."
            );
            &[]
        }
    }
}

fn take_lines(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
