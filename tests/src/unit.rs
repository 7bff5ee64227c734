//! The unit file of the agent, and its limits put on a process without systemd: capabilities by `setpriv`, the
//! read-only file system in a mount namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{agent::Agent, netns::Netns};

/// The file in the repository.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lbx-agent/systemd/lbx-agent.service")
}

/// The unit file, read.
pub struct Unit(String);

impl Unit {
    /// Reads it.
    pub fn read() -> Result<Self> {
        Ok(Self(fs::read_to_string(path()).context("the unit file of the agent")?))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The words of a setting; none where it is missing.
    pub fn words(&self, setting: &str) -> Vec<&str> {
        let values = self.0.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
        values.flat_map(str::split_whitespace).collect()
    }

    /// The agent of a test with what this unit leaves it, of which `without` can be taken away, too.
    pub fn confined(&self, agent: &Agent, netns: &Netns, without: Option<&str>) -> Result<Command> {
        let run = agent.run_command()?;
        let capabilities = |setting: &str| {
            let names = self.words(setting).into_iter().filter(|name| Some(*name) != without);
            let names = names.filter_map(|name| name.strip_prefix("CAP_")).map(str::to_lowercase);
            ["-all".to_owned()]
                .into_iter()
                .chain(names.map(|name| format!("+{name}")))
                .collect::<Vec<_>>()
                .join(",")
        };
        let ambient = capabilities("AmbientCapabilities");
        let mut command = netns.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", READ_ONLY, "sh"]);
        // What the unit's StateDirectory and RuntimeDirectory are to a service.
        command.arg(agent.directory());
        command.args(self.words("ReadWritePaths").iter().map(|path| path.trim_start_matches('-')));
        command.args(["--", "setpriv", "--no-new-privs"]);
        command.arg(format!("--bounding-set={}", capabilities("CapabilityBoundingSet")));
        command.args([format!("--inh-caps={ambient}"), format!("--ambient-caps={ambient}")]);
        command.arg("--").arg(run.get_program()).args(run.get_args());
        Ok(command)
    }
}

/// `ProtectSystem=strict`, `ProtectKernelTunables=yes` and `ReadWritePaths=`, in the words of mount(8): all mounts
/// become read-only, then a mount of its own is writable for each of the paths before `--`. What follows is run.
const READ_ONLY: &str = r#"
    mount --bind /proc/sys /proc/sys
    findmnt --raw --noheadings --output TARGET | while read -r target; do
        # Of another test, whose namespace has gone with it meanwhile.
        mount --options remount,bind,ro "$target" || [ ! -e "$target" ]
    done
    while [ "$1" != -- ]; do
        mount --bind "$1" "$1"
        mount --options remount,bind,rw "$1"
        shift
    done
    shift
    exec "$@"
"#;
