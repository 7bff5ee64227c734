//! Verdicts on endpoints, from their arrival at the agent's own task to the state bits in the kernel. The task runs in this process: a
//! verdict has no outside that a clock could see.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use lbx_agent::{
    config::{self, model::Model},
    control::Control as _,
    dataplane::{MapId, Pins},
    events::Events,
    health::{Observation, Target},
    net::netlink,
    reconcile::{Handle, Inputs, Kernel, Outputs, Reconciler, Start},
    regions::Reader,
    store::Store,
};
use lbx_common::api::{Config, HealthState};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Size,
    pinned::{Mapping, read},
};
use crate::{
    agent::mount_bpffs,
    bench::figures::{Figure, ms, quantile},
    cleanup::Guard,
    netns::{self, Netns},
};

/// Milliseconds from a verdict to its bits, of all but a hundredth.
const TARGET: f64 = 10.0;
/// Of one verdict; beyond it something is broken.
const LIMIT: Duration = Duration::from_secs(30);
/// Time between verdicts that come one upon the other: 200 a second.
const APART: Duration = Duration::from_millis(5);

/// Runs the task in `netns` and sends it verdicts.
pub fn verdicts(netns: &Netns, size: Size, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    tell("verdicts");
    mount_bpffs()?;
    let root = Path::new("/sys/fs/bpf").join(netns::name_of(&netns::unique_run_name(), "task"));
    let _removal = Guard::new({
        let root = root.clone();
        move || drop(Pins::remove_all(&root))
    });
    let state = tempfile::tempdir()?;
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(measure(&root, state.path().to_owned(), &size.dsr(), size.verdicts));
        runtime.block_on(async { Kernel::detach(&root, &netlink::connect()?).await })?;
        outcome
    })
}

async fn measure(root: &Path, state_dir: PathBuf, config: &Config, count: u32) -> Result<Vec<Figure>> {
    let model = config::validate(config.clone()).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
    let mut kernel = Kernel::open(root, &model, netlink::connect()?).await?;
    let mut figures = vec![prepared(&mut kernel, &model).await?];
    let store = Store::open(None, &state_dir)?;
    let (targets, targets_seen) = watch::channel(Arc::default());
    let (remotes, _remotes) = watch::channel(Vec::new());
    let (doubts, _doubted) = mpsc::channel(1);
    let events = Events::default();
    let (handle, commands) = Handle::new(events.clone());
    let token = CancellationToken::new();
    let (read, regions_read) = mpsc::unbounded_channel();
    let (regions, _reader) = Reader::spawn(kernel.regions.take(), token.clone(), read);
    let start = Start { store, revision: 1, model, kernel, state_dir, seed: [1, 2], events, regions };
    let reconciler = Reconciler::start(start, Outputs { targets, remotes, doubts }).await?;
    let (verdicts, observations) = mpsc::channel(1024);
    let (_next_hops, next_hops) = mpsc::channel(1);
    let (_too_big, too_big) = mpsc::channel(1);
    let (_reload, reload) = mpsc::channel(1);
    let (_devices, devices) = mpsc::channel(1);
    let regions = regions_read;
    let inputs = Inputs { commands, observations, next_hops, too_big, devices, regions, reload };
    let task = tokio::spawn(reconciler.run(token.clone(), inputs));

    let known = targets_seen.borrow().clone();
    let endpoints = Mapping::open(root, MapId::Endpoints)?;
    let feed = Feed { verdicts, endpoints, handle };
    // All healthy, in one go as far as the channel has it.
    for target in known.iter() {
        feed.verdicts.send(observation(target, HealthState::Healthy)).await?;
    }
    feed.settled().await?;
    ensure!(feed.endpoints.healthy() == known.len(), "{} endpoints are healthy", feed.endpoints.healthy());
    figures.extend(feed.alone(&known, config, count).await?);
    figures.extend(feed.crowded(&known, config, count).await?);
    token.cancel();
    task.await.context("the task failed")?;
    Ok(figures)
}

/// What a change of the configuration asks of the host's network, where that is as it should be.
async fn prepared(kernel: &mut Kernel, model: &Model) -> Result<Figure> {
    let mut samples = Vec::new();
    // The first one makes it so.
    for _ in 0..4 {
        let begin = Instant::now();
        kernel.prepare(model).await?;
        samples.push(ms(begin.elapsed()));
    }
    let name = "change: interfaces, addresses, routes and rules looked at";
    Ok(Figure::new(name, quantile(samples.get(1..).unwrap_or_default(), 0.5), "ms"))
}

/// The way in, and what comes of it.
struct Feed {
    verdicts: mpsc::Sender<Observation>,
    endpoints: Mapping,
    handle: Handle,
}

impl Feed {
    /// Returns when the task has done all that it was given.
    async fn settled(&self) -> Result<()> {
        while self.verdicts.capacity() < self.verdicts.max_capacity() {
            tokio::task::yield_now().await;
        }
        // It answers between two passes.
        self.handle.status().await.map(drop).map_err(|error| anyhow!("{error}"))
    }

    /// Endpoints go down one by one, each when the one before is dealt with.
    async fn alone(&self, known: &[Target], config: &Config, count: u32) -> Result<Vec<Figure>> {
        let (mut bits, mut passes) = (Vec::new(), Vec::new());
        for target in spread(known, count) {
            let entry = self.endpoints.endpoint(endpoint_address(config, target)?)?;
            let before = read(entry);
            let begin = Instant::now();
            self.verdicts.send(observation(target, HealthState::Unhealthy)).await?;
            while read(entry) == before {
                ensure!(begin.elapsed() < LIMIT, "the verdict on {:?} came to nothing", target.key);
                std::thread::yield_now();
            }
            bits.push(ms(begin.elapsed()));
            self.settled().await?;
            passes.push(ms(begin.elapsed()));
            self.verdicts.send(observation(target, HealthState::Healthy)).await?;
            self.settled().await?;
        }
        Ok(vec![
            Figure::new("endpoint down, verdict to state bits: median", quantile(&bits, 0.5), "ms"),
            Figure::new("endpoint down, verdict to state bits: p99", quantile(&bits, 0.99), "ms")
                .at_most(TARGET),
            Figure::new("endpoint down, until the task is free again: median", quantile(&passes, 0.5), "ms"),
        ])
    }

    /// Endpoints go down while the task is still busy with others.
    async fn crowded(&self, known: &[Target], config: &Config, count: u32) -> Result<Vec<Figure>> {
        let chosen: Vec<&Target> = spread(known, count).collect();
        let words = chosen.iter().map(|target| self.endpoints.endpoint(endpoint_address(config, target)?));
        let words = words.collect::<Result<Vec<_>>>()?;
        let before: Vec<_> = words.iter().map(|entry| read(entry)).collect();
        let begin = Instant::now();
        let mut sent = Vec::new();
        let mut seen = vec![None; chosen.len()];
        while seen.iter().any(Option::is_none) {
            ensure!(begin.elapsed() < LIMIT, "some verdicts came to nothing");
            let due = APART.saturating_mul(u32::try_from(sent.len())?);
            if let (Some(target), true) = (chosen.get(sent.len()), begin.elapsed() >= due) {
                sent.push(Instant::now());
                self.verdicts.send(observation(target, HealthState::Unhealthy)).await?;
            }
            std::thread::yield_now();
            for (((entry, before), sent), seen) in words.iter().zip(&before).zip(&sent).zip(&mut seen) {
                if seen.is_none() && read(entry) != *before {
                    *seen = Some(ms(sent.elapsed()));
                }
            }
        }
        let bits: Vec<f64> = seen.into_iter().flatten().collect();
        let name = "endpoints down, 200 a second, verdict to state bits";
        Ok(vec![
            Figure::new(format!("{name}: median"), quantile(&bits, 0.5), "ms"),
            Figure::new(format!("{name}: p99"), quantile(&bits, 0.99), "ms").at_most(TARGET),
        ])
    }
}

/// Some of all, as far apart as may be.
fn spread(known: &[Target], count: u32) -> impl Iterator<Item = &Target> {
    let step = (known.len() / count.max(1) as usize).max(1);
    known.iter().step_by(step).take(count as usize)
}

/// What the checker would say of a target.
fn observation(target: &Target, state: HealthState) -> Observation {
    Observation {
        key: target.key.clone(),
        source: target.source,
        address: target.address,
        state,
        reason: "measured".to_owned(),
        round_trip: (state == HealthState::Healthy).then_some(Duration::from_millis(1)),
        changed: true,
        at: Instant::now(),
    }
}

/// Where an endpoint is; it is probed elsewhere.
fn endpoint_address(config: &Config, target: &Target) -> Result<IpAddr> {
    let (pool, endpoint) = target.key.name();
    let pool = config.pools.iter().find(|one| one.name == pool);
    let found = pool.and_then(|pool| pool.endpoints.iter().find(|one| one.name == endpoint));
    Ok(found.with_context(|| format!("{:?} is not configured", target.key))?.address)
}
