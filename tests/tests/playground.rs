//! What `cargo xtask run --check` starts: it shows lbx at work, says so, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use lbx_tests::process::finish;

/// Everything on this machine that a playground makes: namespaces, pins, files, processes, under the names
/// of its run. A run is known by its process id, in hex.
fn traces_of(pid: u32) -> BTreeSet<String> {
    let prefix = format!("lbx-{pid:x}-");
    let folders = ["/run/netns", "/sys/fs/bpf", "/tmp"];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(Path::new(folder)).ok()).flatten();
    let names = entries.map(|entry| entry.unwrap().path().to_string_lossy().into_owned());
    names.filter(|path| path.contains(&prefix)).collect()
}

/// Command lines of processes that name a run.
fn processes_of(pid: u32) -> Vec<String> {
    let needle = format!("lbx-{pid:x}-");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(&needle))
        .collect()
}

#[test]
fn the_playground_checks_itself_and_leaves_nothing_behind() {
    let mut command = Command::new("sh");
    // The shell says its id and becomes the playground: a run is named by it.
    command.args(["-c", "echo pid $$; exec \"$0\" --check", env!("CARGO_BIN_EXE_lbx-playground")]);
    let finished = finish(&mut command, Duration::from_secs(90)).unwrap();
    assert_eq!(finished.code, Some(0), "{}{}", finished.stdout, finished.stderr);
    let pid = finished.stdout.lines().find_map(|line| line.strip_prefix("pid ")).unwrap().parse().unwrap();
    for said in ["a answered", "of 20 requests", "POOL", "no private address reached the client"] {
        assert!(finished.stdout.contains(said), "`{said}` is not in\n{}", finished.stdout);
    }
    assert_eq!(traces_of(pid), BTreeSet::new());
    assert_eq!(processes_of(pid), Vec::<String>::new());
}
