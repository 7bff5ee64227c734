//! What the agent has acknowledged is stored, whatever happens to it; and nobody overwrites what somebody else wrote.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lbx_common::api::{Config, ConfigDocument, Endpoint, Monitor, Problem, Revision, WriteReport};
use lbx_tests::{
    agent::{Agent, Source},
    config,
    http::{self, Request, Response},
    process::Finished,
    takes_long,
    topology::{EAST, Topology},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proptest::{
    prelude::RngExt as _,
    test_runner::{RngAlgorithm, TestRng},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);
/// The kill comes so long after the answer to some write at most; a write takes less.
const LONGEST_DELAY: Duration = Duration::from_millis(12);
/// More monitors than these, and one is deleted: a small configuration is written quickly.
const MONITORS: usize = 12;
const ENDPOINT: &str = "/v1/pools/east-web/endpoints/a";

/// How often the agent is killed, and how many writes each time would be made if it were not.
fn kills_and_writes() -> (usize, usize) {
    if takes_long() { (100, 1000) } else { (8, 150) }
}

/// Without health checks: what the maps hold follows from the configuration alone.
fn unmonitored() -> Config {
    let mut config = config::whole();
    config.pools.iter_mut().for_each(|pool| pool.monitor = None);
    config.monitors.clear();
    config
}

fn start_with_store(topology: &Topology, config: &Config) -> Agent {
    let agent = Agent::new(topology, Source::Store).unwrap();
    agent.start().unwrap();
    let answer = agent.request("PUT", "/v1/config", &serde_json::to_vec(config).unwrap()).unwrap();
    assert_eq!(answer.status, 200, "{}", text(&answer));
    agent
}

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// One write: what is asked for, and the configuration that it makes.
struct Write {
    method: &'static str,
    path: String,
    body: Value,
    after: Config,
}

impl Write {
    fn send(&self, stream: &mut UnixStream) -> anyhow::Result<Response> {
        let body = if self.body.is_null() { Vec::new() } else { serde_json::to_vec(&self.body)? };
        let (method, path) = (self.method, self.path.as_str());
        http::exchange(
            stream,
            Request { method, host: "lbx", path, keep_alive: true, if_match: None, body: &body },
        )
    }
}

/// A user who knows what the configuration must be now.
struct Writer {
    random: TestRng,
    count: usize,
    config: Config,
    revision: Revision,
}

impl Writer {
    /// Any write; each makes another configuration than there ever was, or deletes something.
    fn next_write(&mut self) -> Write {
        self.count += 1;
        let mut after = self.config.clone();
        let monitors = after.monitors.len();
        let any = |random: &mut TestRng| random.random_range(0..monitors.max(1));
        match self.random.random_range(0..4) {
            0 => {
                let endpoint = &mut after.pools[0].endpoints[0];
                let step: u32 = self.random.random_range(1..100);
                // Another one of 0.01 … 1.00.
                let hundredths = (hundredths(endpoint) + step - 1) % 100 + 1;
                endpoint.weight = f64::from(hundredths) / 100.0;
                let body = json!({"weight": endpoint.weight});
                Write { method: "PATCH", path: ENDPOINT.to_owned(), body, after }
            }
            1 if monitors > 0 => {
                let monitor = &mut after.monitors[any(&mut self.random)];
                monitor.interval += Duration::from_millis(1);
                let interval = format!("{}ms", monitor.interval.as_millis());
                let path = format!("/v1/monitors/{}", monitor.name);
                Write { method: "PATCH", path, body: json!({"interval": interval}), after }
            }
            2 if monitors > MONITORS => {
                let gone = after.monitors.remove(any(&mut self.random));
                Write {
                    method: "DELETE",
                    path: format!("/v1/monitors/{}", gone.name),
                    body: Value::Null,
                    after,
                }
            }
            _ => {
                let name = format!("m{}", self.count);
                let body = json!({"name": name});
                after.monitors.push(Monitor::new(name));
                Write { method: "POST", path: "/v1/monitors".to_owned(), body, after }
            }
        }
    }

    /// Writes until the connection breaks, and returns what was not answered; `None` where all was. Says when `tell_at`
    /// writes were answered.
    fn write(
        &mut self,
        mut stream: UnixStream,
        writes: usize,
        (tell_at, tell): (usize, mpsc::Sender<()>),
    ) -> Option<Write> {
        for answered in 0..writes {
            if answered == tell_at {
                tell.send(()).unwrap();
            }
            let write = self.next_write();
            let Ok(answer) = write.send(&mut stream) else { return Some(write) };
            assert!(
                [200, 201].contains(&answer.status),
                "{} {}: {}",
                write.method,
                write.path,
                text(&answer)
            );
            let report: WriteReport = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(report.revision, self.revision + 1, "each write has a revision of its own");
            (self.revision, self.config) = (report.revision, write.after);
        }
        None
    }
}

/// Writes, has the agent killed meanwhile, and returns the write that was cut off.
fn write_until_killed(agent: &Agent, writer: &mut Writer, count: usize) -> Option<Write> {
    let tell_at = writer.random.random_range(0..count);
    let delay = writer.random.random_range(Duration::ZERO..LONGEST_DELAY);
    let pid = Pid::from_raw(agent.pid().unwrap().cast_signed());
    let stream = agent.connect().unwrap();
    let (tell, told) = mpsc::channel();
    let cut_off = thread::scope(|scope| {
        scope.spawn(move || {
            told.recv().unwrap();
            let at = Instant::now() + delay;
            // A thread that sleeps wakes up at the scheduler's moments.
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            kill(pid, Signal::SIGKILL).unwrap();
        });
        writer.write(stream, count, (tell_at, tell))
    });
    // It is dead already: this is to collect it.
    agent.kill().unwrap();
    cut_off
}

/// Writes to the kernel since the agent started, once it knows the ways to its gateways.
fn map_writes(agent: &Agent) -> u64 {
    wait::until("every gateway is resolved", PATIENCE, || {
        let status = agent.status()?;
        assert!(status.adopted, "the maps are taken over");
        Ok(status.tunnels.iter().all(|tunnel| tunnel.next_hop.is_some()).then_some(status.map_writes))
    })
    .unwrap()
}

#[test]
fn kill_9_loses_no_acknowledged_write_and_leaves_no_other() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_le_bytes();
    println!("seed {seed:?}");
    let topology = Topology::new().unwrap();
    let agent = start_with_store(&topology, &unmonitored());
    let ConfigDocument { revision, config } = agent.get("/v1/config").unwrap();
    let random = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
    let mut writer = Writer { random, count: 0, config, revision };
    let (kills, per_kill) = kills_and_writes();
    let (began, mut outcomes) = (Instant::now(), BTreeMap::new());
    for round in 0..kills {
        let cut_off = write_until_killed(&agent, &mut writer, per_kill);
        agent.start().unwrap();
        let found: ConfigDocument = agent.get("/v1/config").unwrap();
        // The write whose answer was cut off is there with its revision and all that it said, or it never was.
        let outcome = match cut_off {
            Some(write) if found.revision == writer.revision + 1 => {
                (writer.revision, writer.config) = (found.revision, write.after);
                "there"
            }
            Some(_) => "not there",
            None => "none",
        };
        *outcomes.entry(outcome).or_insert(0_u32) += 1;
        assert_eq!(found.revision, writer.revision, "round {round}");
        assert_eq!(found.config, writer.config, "round {round}");
        if outcome == "there" {
            // What it changed in the kernel may have been cut off, too: the start has made up for it.
            map_writes(&agent);
            agent.kill().unwrap();
            agent.start().unwrap();
        }
        assert_eq!(map_writes(&agent), 0, "round {round}: the maps hold what the stored configuration wants");
    }
    let (written, took) = (writer.revision - revision, began.elapsed());
    println!("{kills} kills in {took:.0?}, {written} writes; the one cut off: {outcomes:?}");
    topology.client().http_get(EAST.vip, 0).unwrap();
}

/// Where the store is damaged, the agent says so and leaves it alone.
fn assert_refused(agent: &Agent, topology: &Topology, database: &Path, damage: &str) {
    let before = fs::read(database).unwrap();
    let Finished { code, stderr, .. } = agent.run_to_end().unwrap();
    assert_eq!(code, Some(1), "{damage}: {stderr}");
    let named = format!("{} is damaged", database.display());
    assert!(stderr.contains(&named) && stderr.contains("lbx-ctl apply -f"), "{damage}: {stderr}");
    assert!(fs::read(database).unwrap() == before, "{damage}: the file is as it was");
    topology.client().http_get(EAST.vip, 0).unwrap();
}

#[test]
fn a_damaged_store_is_told_with_a_remedy_and_never_replaced() {
    let topology = Topology::new().unwrap();
    let agent = start_with_store(&topology, &unmonitored());
    let exported = agent.ctl(&["export"]).unwrap().stdout;
    assert!(agent.terminate().unwrap().success());
    let database = agent.state_dir().join("lbx.redb");
    let sound = fs::read(&database).unwrap();
    let in_half = sound.len() / 2;
    let garbled: Vec<u8> =
        sound.iter().enumerate().map(|(at, byte)| if at < 4096 { *byte } else { byte ^ 0x55 }).collect();
    let zeroed = [vec![0; 4096], sound[4096..].to_vec()].concat();
    for (damage, content) in [
        ("empty", Vec::new()),
        ("cut off in its first page", sound[..1000].to_vec()),
        ("cut off in half", sound[..in_half].to_vec()),
        ("garbled", garbled),
        ("first page lost", zeroed),
    ] {
        fs::write(&database, content).unwrap();
        assert_refused(&agent, &topology, &database, damage);
    }
    // The remedy that was named.
    fs::rename(&database, agent.directory().join("damaged.redb")).unwrap();
    let file = agent.directory().join("exported.yaml");
    fs::write(&file, exported).unwrap();
    agent.start().unwrap();
    assert_eq!(agent.ctl(&["apply", "-f", file.to_str().unwrap()]).unwrap().code, Some(0));
    let found: ConfigDocument = agent.get("/v1/config").unwrap();
    assert_eq!(found.config, unmonitored());
    topology.client().http_get(EAST.vip, 0).unwrap();
}

/// Two weights in hundredths that the endpoint has not in this round, nor had in the one before.
fn weights(round: u32) -> [u32; 2] {
    [0, 50].map(|offset| round % 50 + offset)
}

fn weight(agent: &Agent) -> u32 {
    let endpoint: Endpoint = agent.get(ENDPOINT).unwrap();
    hundredths(&endpoint)
}

fn hundredths(endpoint: &Endpoint) -> u32 {
    format!("{:.0}", endpoint.weight * 100.0).parse().unwrap()
}

#[test]
fn of_two_writers_with_the_same_revision_one_wins_and_the_other_is_told() {
    let topology = Topology::new().unwrap();
    let agent = start_with_store(&topology, &unmonitored());
    let mut winners = [0; 2];
    for round in 1..=100 {
        let revision = agent.status().unwrap().revision;
        let barrier = Barrier::new(2);
        let streams = [(); 2].map(|()| agent.connect().unwrap());
        let write = |mut stream: UnixStream, hundredths: u32| {
            let body = serde_json::to_vec(&json!({ "weight": f64::from(hundredths) / 100.0 })).unwrap();
            let if_match = Some(revision);
            let request = Request {
                method: "PATCH",
                host: "lbx",
                path: ENDPOINT,
                keep_alive: false,
                if_match,
                body: &body,
            };
            barrier.wait();
            http::exchange(&mut stream, request).unwrap()
        };
        let weights = weights(round);
        let [one, other] = streams;
        let answers = thread::scope(|scope| {
            let one = scope.spawn(|| write(one, weights[0]));
            let other = scope.spawn(|| write(other, weights[1]));
            [one.join().unwrap(), other.join().unwrap()]
        });
        let winner = answers.iter().position(|answer| answer.status == 200).unwrap();
        let report: WriteReport = serde_json::from_slice(&answers[winner].body).unwrap();
        assert_eq!((report.revision, weight(&agent)), (revision + 1, weights[winner]), "round {round}");
        let problem: Problem = serde_json::from_slice(&answers[1 - winner].body).unwrap();
        assert_eq!((problem.status, problem.kind.as_str()), (412, "conflict"), "round {round}");
        let told = format!("at revision {} now, not {revision}", revision + 1);
        assert!(problem.detail.contains(&told), "{}", problem.detail);
        winners[winner] += 1;
    }
    println!("API: {winners:?} won");
}

#[test]
fn of_two_users_with_the_same_revision_one_wins_and_the_other_is_told() {
    let topology = Topology::new().unwrap();
    let agent = start_with_store(&topology, &unmonitored());
    for round in 1..=if takes_long() { 100 } else { 10 } {
        let revision = agent.status().unwrap().revision;
        let weights = weights(round);
        let set = |hundredths: u32| {
            let (weight, revision) = (format!("0.{hundredths:02}"), revision.to_string());
            agent
                .ctl(&["set", "endpoint", "east-web/a", "--weight", &weight, "--revision", &revision])
                .unwrap()
        };
        let users = thread::scope(|scope| {
            weights.map(|weight| scope.spawn(move || set(weight))).map(|user| user.join().unwrap())
        });
        let winner = users.iter().position(|user| user.code == Some(0));
        let winner = winner.unwrap_or_else(|| panic!("nobody won round {round}: {users:?}"));
        assert_eq!(weight(&agent), weights[winner], "round {round}");
        let Finished { code, stderr, .. } = &users[1 - winner];
        let told = format!("error: the configuration is at revision {} now, not {revision}", revision + 1);
        assert!(*code == Some(1) && stderr.starts_with(&told), "round {round}: {code:?}: {stderr}");
    }
}
