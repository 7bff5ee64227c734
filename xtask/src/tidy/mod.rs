//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! Names all findings at once, each with its place and its remedy; changes no file.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

mod edges;
mod sources;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root of the workspace.
    file: String,
    /// Line in the file, counted from 1.
    line: usize,
    /// What is wrong.
    what: String,
    /// What would be right.
    remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.what, self.remedy)
    }
}

/// The verb.
pub fn run(workspace: &Workspace) -> Result<()> {
    eprintln!("==> tidy (crate edges, file sizes, words)");
    let mut findings = edges::check(workspace)?;
    let files = files(workspace)?;
    for name in &files {
        let path = workspace.root.join(name);
        // A file that is deleted and not yet committed is still in git's list; a link is its target's business.
        if !path.symlink_metadata().is_ok_and(|data| data.is_file()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        findings.extend(sources::check(name, &bytes));
    }
    findings.extend(sources::stale_exceptions(&files));
    if findings.is_empty() {
        eprintln!("    tidy: {} files, nothing found", files.len());
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    bail!("{} findings, listed above", findings.len())
}

/// All files that are in git or would be added by `git add --all`.
fn files(workspace: &Workspace) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    // In a container the checkout often belongs to another user, which git refuses to read without this.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list =
        process::output(git.current_dir(&workspace.root)).context("tidy takes the list of files from git")?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}
