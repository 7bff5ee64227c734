//! lbx itself: the agent as a process in lbx's namespace, and `lbx-ctl` beside it.
//!
//! Speaks to the agent only as a user would: command line, signals, socket.

mod files;

use std::{
    env, fs,
    fs::File,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lbx_common::api::{Config, FlowsReport, HealthReport, HealthState, StatsReport, StatusReport};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        signal::{Signal, kill},
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use self::files::{Files, detach_command, lock, remove};
use crate::{
    cleanup::Guard,
    config,
    http::{self, Request, Response},
    netns::Netns,
    process::{Finished, finish, wait_for_exit},
    topology::Topology,
    wait,
};

const BPFFS: &str = "/sys/fs/bpf";
/// Loading and verifying the programs on a busy machine included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// A few rounds of health checks.
const HEALTHY_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the agent takes its configuration from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--config FILE`; see [`Agent::write_config`].
    File,
    /// Its own store; empty at first. Configure it with [`Agent::ctl`].
    Store,
}

/// The agent of one topology, running or not. When dropped it is killed and everything it pinned removed.
pub struct Agent {
    source: Source,
    netns: Netns,
    files: Files,
    child: Arc<Mutex<Option<Child>>>,
    _removal: Guard,
}

impl Agent {
    /// Prepares files for an agent in the `lbx` box of `topology`; nothing runs yet.
    pub fn new(topology: &Topology, source: Source) -> Result<Self> {
        let program = binary("lbx-agent")?;
        mount_bpffs()?;
        let name = format!("lbx-{}", topology.run_name());
        let files = Files { directory: env::temp_dir().join(&name), bpffs: Path::new(BPFFS).join(&name) };
        let child = Arc::new(Mutex::new(None));
        let removal = Guard::new({
            let (files, child, netns) = (files.clone(), Arc::clone(&child), topology.lbx.clone());
            move || remove(&program, &files, &child, &netns)
        });
        for directory in [&files.directory, &files.state()] {
            fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Ok(Self { source, netns: topology.lbx.clone(), files, child, _removal: removal })
    }

    /// An agent that runs with `config` from a file, ready.
    pub fn start_with(topology: &Topology, config: &Config) -> Result<Self> {
        let agent = Self::new(topology, Source::File)?;
        agent.write_config(config)?;
        agent.start()?;
        Ok(agent)
    }

    /// Writes the configuration file. A running agent notices by itself.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        self.write_config_text(&config::to_yaml(config)?)
    }

    /// The same, and waits until it is in force.
    pub fn change(&self, config: &Config, limit: Duration) -> Result<()> {
        let before = self.status()?.revision;
        self.write_config(config)?;
        wait::until("the change is in force", limit, || Ok((self.status()?.revision > before).then_some(())))
    }

    /// Writes the configuration file, right or wrong.
    pub fn write_config_text(&self, text: &str) -> Result<()> {
        // Renamed into place, so that nobody reads half of it.
        let path = self.files.config();
        let new = path.with_extension("new");
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Starts the agent and waits until it answers on its socket.
    pub fn start(&self) -> Result<()> {
        self.start_as(self.run_command()?)
    }

    /// The same with further arguments for `lbx-agent run`.
    pub fn start_with_arguments(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.run_command()?;
        command.args(arguments);
        self.start_as(command)
    }

    /// Starts the agent by a command that ends up as [`Agent::run_command`], and waits until it answers.
    pub fn start_as(&self, mut command: Command) -> Result<()> {
        ensure!(self.pid().is_none(), "the agent is running already");
        let log = File::options().create(true).append(true).open(self.files.log()).context("agent.log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A process group of its own: Ctrl-C is for the harness, which ends the agent when it is time.
        let child = command.process_group(0).spawn().context("cannot start lbx-agent")?;
        *self.child() = Some(child);
        wait::until("the agent answers on its socket", START_LIMIT, || {
            if let Some(status) = self.child().as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the agent ended ({status}):\n{}", self.log());
            }
            Ok(self.get::<StatusReport>("/v1/status").ok())
        })
        .map(drop)
        .with_context(|| format!("agent log:\n{}", self.log()))
    }

    /// Runs `lbx-agent run` until it ends by itself, as it should when something is wrong.
    pub fn run_to_end(&self) -> Result<Finished> {
        finish(&mut self.run_command()?, STOP_LIMIT)
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child().take().context("the agent is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&self) -> Result<ExitStatus> {
        let mut child = self.child().take().context("the agent is not running")?;
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        match wait_for_exit(&mut child, STOP_LIMIT) {
            Ok(status) => Ok(status),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.context("after SIGTERM to the agent"))
            }
        }
    }

    /// SIGHUP: the configuration file is read again.
    pub fn hang_up(&self) -> Result<()> {
        let pid = self.pid().context("the agent is not running")?;
        Ok(kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP)?)
    }

    /// Process id while the agent runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// `lbx-agent detach`.
    pub fn detach(&self) -> Result<Finished> {
        finish(&mut detach_command(&binary("lbx-agent")?, &self.files, &self.netns), STOP_LIMIT)
    }

    /// `lbx-ctl --socket SOCKET ARGUMENTS`.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Finished> {
        self.ctl_within(arguments, STOP_LIMIT)
    }

    /// The same, of a command that waits for something.
    pub fn ctl_within(&self, arguments: &[&str], limit: Duration) -> Result<Finished> {
        let mut command = Command::new(binary("lbx-ctl")?);
        command.arg("--socket").arg(self.files.socket()).args(arguments);
        finish(&mut command, limit)
    }

    /// A request to the API.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<Response> {
        let request = Request { method, host: "lbx", path, keep_alive: false, if_match: None, body };
        http::exchange(&mut self.connect()?, request).with_context(|| format!("{method} {path}"))
    }

    /// A connection to the API, for requests of a test's own.
    pub fn connect(&self) -> Result<UnixStream> {
        let socket = self.files.socket();
        let stream = UnixStream::connect(&socket)
            .with_context(|| format!("the agent is not listening on {}", socket.display()))?;
        stream.set_read_timeout(Some(API_TIMEOUT))?;
        stream.set_write_timeout(Some(API_TIMEOUT))?;
        Ok(stream)
    }

    /// Reads an object from the API.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let Response { status, body } = self.request("GET", path, &[])?;
        let text = || String::from_utf8_lossy(&body);
        ensure!(status == 200, "GET {path}: status {status}: {}", text());
        serde_json::from_slice(&body).with_context(|| format!("GET {path} answered {}", text()))
    }

    /// `GET /v1/status`
    pub fn status(&self) -> Result<StatusReport> {
        self.get("/v1/status")
    }

    /// `GET /v1/health`
    pub fn health(&self) -> Result<HealthReport> {
        self.get("/v1/health")
    }

    /// `GET /v1/stats`
    pub fn stats(&self) -> Result<StatsReport> {
        self.get("/v1/stats")
    }

    /// `GET /v1/flows?QUERY`
    pub fn flows(&self, query: &str) -> Result<FlowsReport> {
        self.get(&format!("/v1/flows?{query}"))
    }

    /// Health of one endpoint.
    pub fn health_of(&self, pool: &str, endpoint: &str) -> Result<HealthState> {
        let report = self.health()?;
        let pools = report.pools.iter().filter(|one| one.pool == pool);
        let found = pools.flat_map(|one| &one.endpoints).find(|one| one.endpoint == endpoint);
        found.map(|one| one.state).with_context(|| format!("no health of endpoint {pool}/{endpoint}"))
    }

    /// Waits until one endpoint is in `state`.
    pub fn wait_for_health(
        &self,
        pool: &str,
        endpoint: &str,
        state: HealthState,
        limit: Duration,
    ) -> Result<()> {
        wait::until(&format!("{pool}/{endpoint} is {}", state.as_str()), limit, || {
            Ok((self.health_of(pool, endpoint)? == state).then_some(()))
        })
    }

    /// Waits until there are endpoints and all of them are healthy.
    pub fn wait_until_healthy(&self, limit: Duration) -> Result<()> {
        let mut last = HealthReport::default();
        let outcome = wait::until("all endpoints are healthy", limit, || {
            last = self.health()?;
            let mut states = last.pools.iter().flat_map(|pool| &pool.endpoints).map(|one| one.state);
            let any = last.pools.iter().any(|pool| !pool.endpoints.is_empty());
            Ok((any && states.all(|state| state == HealthState::Healthy)).then_some(()))
        });
        outcome.with_context(|| format!("last health: {last:#?}\nagent log:\n{}", self.log()))
    }

    /// What the agent has printed, in all its runs.
    pub fn log(&self) -> String {
        fs::read(self.files.log()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Path of the API's socket.
    pub fn socket(&self) -> PathBuf {
        self.files.socket()
    }

    /// Path of the configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.files.config()
    }

    /// Directory of all its files but the pins.
    pub fn directory(&self) -> &Path {
        &self.files.directory
    }

    /// Directory of the stored configuration.
    pub fn state_dir(&self) -> PathBuf {
        self.files.state()
    }

    /// Directory of the pins.
    pub fn bpffs(&self) -> &Path {
        &self.files.bpffs
    }

    /// The command line that [`Agent::start`] runs, for tests that change it.
    pub fn run_command(&self) -> Result<Command> {
        let mut command = self.netns.command(binary("lbx-agent")?);
        command.arg("run");
        if self.source == Source::File {
            command.arg("--config").arg(self.files.config());
        }
        command.arg("--state-dir").arg(self.files.state());
        command.arg("--bpffs").arg(&self.files.bpffs).arg("--socket").arg(self.files.socket());
        Ok(command)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        lock(&self.child)
    }
}

/// A network with lbx in it, all endpoints healthy. The topology is dropped last.
pub fn start_healthy(config: &Config) -> Result<(Topology, Agent)> {
    let topology = Topology::new()?;
    let agent = start_healthy_in(&topology, config)?;
    Ok((topology, agent))
}

/// lbx in `topology`, all endpoints healthy.
pub fn start_healthy_in(topology: &Topology, config: &Config) -> Result<Agent> {
    let agent = Agent::start_with(topology, config)?;
    agent.wait_until_healthy(HEALTHY_LIMIT)?;
    Ok(agent)
}

/// Path of a program of the workspace, built beside the one that runs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    // Tests run from `deps/`, one below the programs.
    let directories = own.ancestors().skip(1).take(2);
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not built: run `cargo xtask build` (looked beside {})", own.display())
    })
}

/// Makes sure that pins have a file system to be on.
pub fn mount_bpffs() -> Result<()> {
    if statfs(BPFFS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount the BPF file system on {BPFFS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let error = binary("lbx-nonsense").unwrap_err().to_string();
        assert!(error.contains("lbx-nonsense") && error.contains("cargo xtask build"), "{error}");
    }
}
