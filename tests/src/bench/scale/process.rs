//! What a wall clock sees of the agent as a process: its start, its memory, changes by its API.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lbx_agent::dataplane::MapId;
use lbx_common::api::{Config, Endpoint};

use super::{
    Size,
    pinned::{Mapping, map_bytes, process_number, ticks, ticks_per_second},
};
use crate::{
    agent::{Agent, Source},
    bench::figures::{Figure, ms, quantile, timed},
    topology::Topology,
    wait,
};

/// Of all endpoints, while the machine is busy with other things, too.
const HEALTHY_LIMIT: Duration = Duration::from_mins(2);
/// Milliseconds from the start of a process to its first answer.
const START_TARGET: f64 = 5000.0;
const MEMORY_TARGET: f64 = 256.0;
const MAPS_TARGET: f64 = 128.0;
/// Percent.
const WHOLE_CPU: f64 = 100.0;
/// How exactly the time of a store is known.
const LOOK: Duration = Duration::from_millis(2);
/// The agent waits for a second without changes before it gives memory back.
const GIVEN_BACK: Duration = Duration::from_millis(1500);
/// Milliseconds from a change to the last store to the maps, of all but a hundredth.
const CHANGE_TARGET: f64 = 50.0;

/// Measures an agent with its own store.
pub fn with_store(topology: &Topology, size: Size, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let config = size.dsr();
    let body = serde_json::to_vec(&config)?;
    let agent = Agent::new(topology, Source::Store)?;

    tell("the whole configuration by the API");
    agent.start()?;
    let (answer, took) = timed(|| agent.request("PUT", "/v1/config", &body));
    let answer = answer?;
    ensure!(answer.status == 200, "PUT: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    figures.push(Figure::new("dsr: whole configuration by the API, to the answer", took, "ms"));

    tell("starts");
    agent.terminate()?;
    ensure!(agent.detach()?.code == Some(0), "detach failed");
    let (started, took) = timed(|| agent.start());
    started?;
    let begin = Instant::now();
    figures.push(Figure::new("dsr: start from the store, maps made anew", took, "ms").at_most(START_TARGET));
    healthy(&agent, &config)?;
    figures.push(Figure::new("dsr: after that, until all endpoints are healthy", ms(begin.elapsed()), "ms"));
    figures.extend(memory(&agent, "dsr")?);
    figures.push(processor(&agent, "dsr", size.watch)?);

    tell("changes by the API");
    figures.extend(changes(&agent, &config, size.changes)?);
    a_while_passes(GIVEN_BACK)?;
    figures.extend(memory(&agent, "dsr, after changes")?);

    tell("a start that takes over");
    agent.kill()?;
    let (started, took) = timed(|| agent.start());
    started?;
    figures.push(Figure::new("dsr: start after a kill, maps taken over", took, "ms").at_most(START_TARGET));
    Ok(figures)
}

/// Measures an agent with a file.
pub fn with_file(
    topology: &Topology,
    name: &str,
    config: &Config,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    tell(&format!("{name}: a start from a file"));
    let agent = Agent::new(topology, Source::File)?;
    agent.write_config(config)?;
    let (started, took) = timed(|| agent.start());
    started?;
    let mut figures = vec![
        Figure::new(format!("{name}: start from a file, maps made anew"), took, "ms").at_most(START_TARGET),
    ];
    healthy(&agent, config)?;
    figures.extend(memory(&agent, name)?);
    Ok(figures)
}

/// Measures an agent whose endpoints are all probed every second: how many probes it makes, and by what of a CPU.
pub fn probes(topology: &Topology, size: Size, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    tell("probes every second");
    let config = size.each_second();
    let agent = Agent::new(topology, Source::File)?;
    agent.write_config(&config)?;
    agent.start()?;
    healthy(&agent, &config)?;
    let all: usize = config.pools.iter().map(|pool| pool.endpoints.len()).sum();
    let name = format!("{all} endpoints, every second");
    // A page takes a while to be made: both are looked at when they have come.
    let (before, begin) = (successful_probes(&agent)?, Instant::now());
    let share = processor(&agent, &name, size.watch)?.at_most(WHOLE_CPU);
    let rate = (successful_probes(&agent)? - before) / begin.elapsed().as_secs_f64();
    Ok(vec![Figure::new(format!("{name}: successful probes a second"), rate, ""), share])
}

/// Probes that were answered so far.
fn successful_probes(agent: &Agent) -> Result<f64> {
    let page = String::from_utf8(agent.request("GET", "/metrics", &[])?.body)?;
    let line =
        page.lines().find_map(|line| line.strip_prefix(r#"lbx_probes_total{result="success",type="tcp"} "#));
    Ok(line.context("no probes are counted")?.parse()?)
}

/// Waits until all endpoints take flows. The maps are asked: health by the API would be work for the agent.
fn healthy(agent: &Agent, config: &Config) -> Result<()> {
    let endpoints = Mapping::open(agent.bpffs(), MapId::Endpoints)?;
    let all: usize = config.pools.iter().map(|pool| pool.endpoints.len()).sum();
    let mut last = 0;
    let waited = wait::until("all endpoints are healthy", HEALTHY_LIMIT, || {
        last = endpoints.healthy();
        Ok((last == all).then_some(()))
    });
    waited.with_context(|| format!("{last} of {all} are; agent log:\n{}", tail(&agent.log())))
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

fn memory(agent: &Agent, name: &str) -> Result<Vec<Figure>> {
    let pid = agent.pid().context("the agent runs")?;
    let mib = |key: &str| -> Result<f64> {
        // "kB" of proc(5) are KiB.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        process_number(pid, "status", key).map(|kib| kib as f64 / 1024.0)
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let maps = map_bytes(agent.bpffs())? as f64 / 1024.0 / 1024.0;
    Ok(vec![
        Figure::new(format!("{name}: memory of the agent (RSS)"), mib("VmRSS:")?, "MiB")
            .at_most(MEMORY_TARGET),
        Figure::new(
            format!("{name}: of that its own (without mapped maps and program)"),
            mib("RssAnon:")?,
            "MiB",
        ),
        Figure::new(format!("{name}: the most it ever was"), mib("VmHWM:")?, "MiB"),
        Figure::new(format!("{name}: memory of all maps, default limits"), maps, "MiB").at_most(MAPS_TARGET),
    ])
}

/// What the agent does all the time: probes.
fn processor(agent: &Agent, name: &str, watch: Duration) -> Result<Figure> {
    let pid = agent.pid().context("the agent runs")?;
    let (begin, before) = (Instant::now(), ticks(pid)?);
    a_while_passes(watch)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let used = (ticks(pid)? - before) as f64 / ticks_per_second()?;
    let share = used / begin.elapsed().as_secs_f64() * 100.0;
    Ok(Figure::new(format!("{name}: processor while all is well, of one CPU"), share, "%"))
}

fn a_while_passes(time: Duration) -> Result<()> {
    let begin = Instant::now();
    wait::until("a while passes", time * 2, || Ok((begin.elapsed() >= time).then_some(())))
}

/// Takes an endpoint out of a pool and puts it back, again and again.
fn changes(agent: &Agent, config: &Config, count: u32) -> Result<Vec<Figure>> {
    let pool = config.pools.first().context("a pool")?;
    let endpoint: &Endpoint = pool.endpoints.last().context("an endpoint")?;
    let (collection, body) = (format!("/v1/pools/{}/endpoints", pool.name), serde_json::to_vec(endpoint)?);
    let one = format!("{collection}/{}", endpoint.name);
    // Listeners are written after tables; an endpoint is cleared last of all.
    let maps =
        [Mapping::open(agent.bpffs(), MapId::Listeners)?, Mapping::open(agent.bpffs(), MapId::Endpoints)?];
    let (mut written, mut answered) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (method, path, body) =
            if number % 2 == 0 { ("DELETE", &one, &[][..]) } else { ("POST", &collection, body.as_slice()) };
        let watch = Watch::new(&maps);
        let begin = Instant::now();
        let (response, last) = watch.during(|| agent.request(method, path, body));
        answered.push(ms(begin.elapsed()));
        let response = response?;
        ensure!(
            (200..300).contains(&response.status),
            "{method} {path}: {}: {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        );
        written.push(ms(last.context("nothing was written")?.saturating_duration_since(begin)));
    }
    Ok(vec![
        Figure::new("table change by the API, to the last store: median", quantile(&written, 0.5), "ms"),
        Figure::new("table change by the API, to the last store: p99", quantile(&written, 0.99), "ms")
            .at_most(CHANGE_TARGET),
        Figure::new("table change by the API, to the answer: median", quantile(&answered, 0.5), "ms"),
        Figure::new("table change by the API, to the answer: p99", quantile(&answered, 0.99), "ms"),
    ])
}

/// Notices stores to maps.
struct Watch<'a> {
    maps: &'a [Mapping],
    seen: Vec<u64>,
}

impl<'a> Watch<'a> {
    fn new(maps: &'a [Mapping]) -> Self {
        let words = maps.iter().flat_map(Mapping::words);
        Self { maps, seen: words.map(|word| word.load(Ordering::Relaxed)).collect() }
    }

    /// Does `work`; when the last store meanwhile was seen. One look at all takes less than a millisecond
    /// per four MiB, and who looked all the time would have a CPU that the agent needs.
    fn during<T>(mut self, work: impl FnOnce() -> T) -> (T, Option<Instant>) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut last = None;
                wait::every(LOOK, || {
                    let over = done.load(Ordering::Acquire);
                    if self.look() {
                        last = Some(Instant::now());
                    }
                    over.then_some(last)
                })
            });
            let made = work();
            done.store(true, Ordering::Release);
            (made, watcher.join().unwrap_or_default())
        })
    }

    /// Whether something is different now.
    fn look(&mut self) -> bool {
        let words = self.maps.iter().flat_map(Mapping::words);
        let mut changed = false;
        for (seen, word) in self.seen.iter_mut().zip(words) {
            let now = word.load(Ordering::Relaxed);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}
