//! What an agent leaves on disk and in the BPF file system, and how it goes away.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::STOP_LIMIT;
use crate::{
    netns::Netns,
    process::{Finished, finish},
};

#[derive(Clone)]
pub struct Files {
    pub directory: PathBuf,
    pub bpffs: PathBuf,
}

impl Files {
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.directory.join("config.yaml")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }
}

/// `lbx-agent detach`
pub fn detach_command(program: &Path, files: &Files, netns: &Netns) -> Command {
    let mut command = netns.command(program);
    command.arg("detach").arg("--bpffs").arg(&files.bpffs).arg("--socket").arg(files.socket());
    command
}

/// What the guard does. Detaching by the agent comes first; what it leaves is removed by force.
pub fn remove(program: &Path, files: &Files, child: &Mutex<Option<Child>>, netns: &Netns) {
    if let Some(mut child) = lock(child).take() {
        // Fails only where the process has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    if files.bpffs.exists() {
        match finish(&mut detach_command(program, files, netns), STOP_LIMIT) {
            Ok(Finished { code: Some(0), .. }) => {}
            Ok(Finished { stderr, .. }) => eprintln!("lbx-tests: lbx-agent detach failed: {stderr}"),
            Err(error) => eprintln!("lbx-tests: {error:#}"),
        }
    }
    for directory in [&files.bpffs, &files.directory] {
        match fs::remove_dir_all(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("lbx-tests: {} stays behind: {error}", directory.display()),
        }
    }
}

pub fn lock(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
