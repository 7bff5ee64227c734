//! Start and stop of the agent, in a written order.
//!
//! Start: store → configuration → seed → kernel (pins, maps, programs, probe path) → task → health checker
//! and next-hop watcher → API. Stop: API first (no new changes), then the checkers, then the task. What is
//! in the kernel stays and goes on forwarding, unless asked otherwise.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use lbx_common::api::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Remote, TlsFiles, YamlLoader},
    config::{self, model::Model},
    events::Events,
    health::HealthChecker,
    metrics,
    net::{devices, netlink, next_hop, path_mtu, probe_path::LBX0},
    privileges,
    reconcile::{Found, Handle, Inputs, Kernel, KernelError, Outputs, Reconciler, Start},
    regions::Reader as RegionReader,
    service_manager,
    store::{ConfigFile, Store, seed},
};

/// How long each part may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(6);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configuration file; without one the embedded store is used.
    pub config: Option<PathBuf>,
    /// Folder of the embedded store and the hash seed.
    pub state_dir: PathBuf,
    /// Folder of pins.
    pub bpffs: PathBuf,
    /// Socket of the API.
    pub socket: PathBuf,
    /// Port of this machine for metrics, beside the socket.
    pub metrics: Option<SocketAddr>,
    /// Port for other machines, with its certificates.
    pub listen: Option<(SocketAddr, TlsFiles)>,
    /// Remove everything from the kernel at the end.
    pub detach_on_exit: bool,
}

/// Runs the agent until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    privileges::check()?;
    raise_descriptor_limit();
    let socket = api::bind(&options.socket)?;
    let metrics_port = match options.metrics {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let reread = Arc::new(Notify::new());
    let remote = match options.listen.clone() {
        Some((address, files)) => Some(Remote::listen(address, files, Arc::clone(&reread)).await?),
        None => None,
    };
    let (store, revision, model) = open_store(&options)?;
    let seed = seed::load_or_make(model.config.node.hash_seed.as_deref(), &options.state_dir)?;
    let netlink = netlink::connect()?;
    let (targets, targets_seen) = watch::channel(Arc::default());
    let (remotes, remotes_seen) = watch::channel(Vec::new());
    let (doubts, doubted) = mpsc::channel(64);
    let outputs = Outputs { targets, remotes, doubts };
    let found = Found::look(&options.bpffs)?;
    let events = Events::default();
    let (handle, commands) = Handle::new(events.clone());
    let stop = Stop::default();
    let (read, changed_regions) = mpsc::unbounded_channel();
    let started = async {
        let mut kernel = Kernel::open(&options.bpffs, &model, netlink.clone()).await?;
        let maps = kernel.regions.take();
        let (regions, reader) = RegionReader::spawn(maps, stop.checkers.clone(), read);
        let (adopted, known_routes) = (kernel.adopted, Arc::clone(&kernel.known_routes));
        let state_dir = options.state_dir.clone();
        let start = Start { store, revision, model, kernel, state_dir, seed, events, regions };
        Ok::<_, KernelError>((Reconciler::start(start, outputs).await?, reader, adopted, known_routes))
    };
    let (reconciler, mut regions, adopted, known_routes) = match started.await {
        Ok(started) => started,
        Err(error) => {
            // A start that fails leaves the kernel as it found it.
            if let Err(left) = Kernel::take_back(&options.bpffs, &found, &netlink).await {
                tracing::error!(error = %left, "cannot take back what this start did: run `lbx-agent detach`");
            }
            return Err(error.into());
        }
    };

    let (observed, observations) = mpsc::channel(1024);
    let (resolved, next_hops) = mpsc::channel(1024);
    let (reload, reloads) = mpsc::channel(1);
    let (heard, too_big) = mpsc::channel(64);
    let (told, changed_devices) = mpsc::channel(64);
    let inputs = Inputs {
        commands,
        observations,
        next_hops,
        too_big,
        devices: changed_devices,
        regions: changed_regions,
        reload: reloads,
    };
    let mut task = tokio::spawn(reconciler.run(stop.task.clone(), inputs));
    let mut health =
        HealthChecker::new(Some(LBX0.to_owned())).spawn(stop.checkers.clone(), targets_seen, observed);
    let mut watcher = next_hop::spawn(stop.checkers.clone(), remotes_seen, doubted, resolved)?;
    // Answers count from here on: whatever happens to routes is heard now.
    known_routes.keep_answers(true);
    let mut routes = next_hop::watch_all(stop.checkers.clone(), move || known_routes.forget())?;
    let mut listener = path_mtu::spawn(stop.checkers.clone(), heard)?;
    let mut devices = devices::spawn(stop.checkers.clone(), told)?;
    let yaml = YamlLoader { load: config::load_yaml, locate: config::locate };
    let mut server = tokio::spawn(answer((socket, remote), metrics_port, handle, yaml, stop.api.clone()));
    tracing::info!(adopted, revision, socket = %options.socket.display(), "ready");
    service_manager::ready(revision);

    let result = tokio::select! {
        signal = until_signal(reload, &reread) => signal.map(|name| tracing::info!("{name}: stopping")),
        ended = &mut task => Err(unexpected("the data plane task", ended)),
        ended = &mut health => Err(unexpected("the health checker", ended)),
        ended = &mut watcher => Err(unexpected("the next-hop watcher", ended)),
        ended = &mut routes => Err(unexpected("the watcher of routes", ended)),
        ended = &mut listener => Err(unexpected("the listener for what routers say", ended)),
        ended = &mut regions => Err(unexpected("the reader of regions", ended)),
        ended = &mut devices => Err(unexpected("the watcher of devices", ended)),
        ended = &mut server => Err(unexpected("the API", ended)),
    };
    service_manager::stopping();
    stop.api.cancel();
    finish("the API", server).await;
    stop.checkers.cancel();
    finish("the health checker", health).await;
    finish("the next-hop watcher", watcher).await;
    finish("the watcher of routes", routes).await;
    finish("the listener for what routers say", listener).await;
    finish("the watcher of devices", devices).await;
    finish("the reader of regions", regions).await;
    stop.task.cancel();
    finish("the data plane task", task).await;
    if options.detach_on_exit {
        Kernel::detach(&options.bpffs, &netlink).await?;
        tracing::info!("detached");
    }
    result
}

/// Serves the API, and the page of metrics where it has a port.
async fn answer(
    (socket, remote): (api::Socket, Option<Remote>),
    metrics_port: Option<TcpListener>,
    handle: Handle,
    yaml: YamlLoader,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let Some(port) = metrics_port else { return api::serve(socket, remote, handle, yaml, shutdown).await };
    let page = metrics::serve(port, handle.clone(), shutdown.clone());
    tokio::try_join!(api::serve(socket, remote, handle, yaml, shutdown), page).map(drop)
}

/// Removes everything that lbx put into the kernel.
pub async fn detach(bpffs: &Path, socket: &Path) -> anyhow::Result<()> {
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        bail!(
            "an agent is running (it answers on {}): stop it first, it would attach again",
            socket.display()
        );
    }
    let netlink = netlink::connect()?;
    let found = Kernel::detach(bpffs, &netlink).await?;
    println!(
        "{}",
        if found { "detached: nothing of lbx is left in the kernel" } else { "nothing was attached" }
    );
    Ok(())
}

/// Checks a configuration file and changes nothing.
pub fn check(file: &Path) -> anyhow::Result<()> {
    ConfigFile::open(file)?.load()?;
    println!("{}: no mistakes", file.display());
    Ok(())
}

/// A probe under way has a socket, and thousands may be: the usual soft limit of 1024 is for programs that use
/// select(2).
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files: many probes at once may fail");
    }
}

/// One token a stage of the stop.
#[derive(Default)]
struct Stop {
    api: CancellationToken,
    checkers: CancellationToken,
    task: CancellationToken,
}

fn open_store(options: &Options) -> anyhow::Result<(Store, u64, Model)> {
    let mut store = Store::open(options.config.as_deref(), &options.state_dir)?;
    let (revision, config) = store.load()?.unwrap_or_else(|| (0, Config::default()));
    let model = config::validate(config).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow!("{} holds a configuration with mistakes:\n{}", store.describe(), lines.join("\n"))
    })?;
    Ok((store, revision, model))
}

/// Waits for SIGTERM or SIGINT; SIGHUP asks for a reload, and that certificates be read again.
async fn until_signal(reload: mpsc::Sender<()>, reread: &Notify) -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => {
                reread.notify_one();
                // A reload that is already asked for covers this one.
                let _ = reload.try_send(());
            }
        }
    }
}

fn unexpected<T: std::fmt::Debug>(part: &str, ended: Result<T, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(result) => anyhow!("{part} ended by itself: {result:?}; what is in the kernel goes on forwarding"),
        Err(error) => anyhow!("{part} failed: {error}; what is in the kernel goes on forwarding"),
    }
}

async fn finish<T>(part: &str, task: JoinHandle<T>) {
    if task.is_finished() {
        return;
    }
    let abort = task.abort_handle();
    if tokio::time::timeout(STOP_DEADLINE, task).await.is_err() {
        tracing::warn!("{part} did not stop in time");
        abort.abort();
    }
}
