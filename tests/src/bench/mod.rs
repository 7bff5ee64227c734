//! Nanoseconds per packet of the loaded programs (`cargo xtask bench datapath`), by the method of the design's
//! page on measuring: each run begins with the same frame, the wrapper that sees to it is taken off, and beside each
//! case stands the least that a program of its size of outer headers can take, measured in turn with it.

mod cases;
mod e2e;
pub mod figures;
mod report;
mod scale;
mod services;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use lbx_common::{api::Traffic, track::Event};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{
    cases::{Asks, Case, Counted, Labs, PINNED, REFERENCE},
    report::{Line, Measured},
};
pub use self::{
    e2e::{Comparison, Load, e2e},
    report::{Report, machine},
    scale::{Size, scale},
};

/// Runs in a sample: one takes some 10 ms, in which an interrupt counts for little.
pub const RUNS: u32 = 100_000;
/// Bytes at the start of a frame that the wrapper makes anew.
const HEAD: usize = 96;
/// Does nothing: what is measured with it behind the wrapper is the wrapper.
const EMPTY: &str = "bench_empty";
const WRAPPER: &str = "bench_wrap";

/// Measures the cases whose name has `only` in it, and the one that others are compared with; `samples` times in
/// turn, on the CPU that this runs on first.
pub fn datapath(samples: usize, only: &str, progress: &mut dyn FnMut(usize)) -> Result<Report> {
    ensure!(samples > 0, "there is nothing to measure in 0 samples");
    stay_on_one_cpu()?;
    let labs = Labs::new()?;
    let mut cases = cases::all(&labs)?;
    if !cases.iter().any(|case| case.name.contains(only)) {
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        bail!("no case has `{only}` in its name; there are\n  {}", names.join("\n  "));
    }
    cases.retain(|case| case.name.contains(only) || case.name == REFERENCE);
    let mut harness = Harness::load(&cases)?;
    let mut measured = vec![Measured::default(); cases.len()];
    for sample in 0..samples {
        progress(sample);
        for (case, measured) in cases.iter().zip(&mut measured) {
            // What is measured first finds the caches of another case.
            harness.run(case, &case.target, RUNS / 10)?;
            let before = Counts::of(case)?;
            measured.case.push(harness.run(case, &case.target, RUNS)?);
            case.took_its_path(before, Counts::of(case)?, RUNS)?;
            measured.floor.push(harness.run(case, case.floor, RUNS)?);
            measured.wrapper.push(harness.run(case, EMPTY, RUNS)?);
        }
    }
    let lines = cases.iter().zip(&measured).map(|(case, measured)| Line::new(case, measured)).collect();
    Ok(Report::new(lines))
}

/// Keeps this thread, and what it starts from now on, on the CPU that it runs on.
fn stay_on_one_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(nix::sched::sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}

/// The wrapper and what it may call.
struct Harness {
    programs: Ebpf,
    run: Array<aya::maps::MapData, [u64; 16]>,
    /// Names of the programs under test and of the floors, at their places in the array.
    targets: Vec<String>,
    _array: ProgramArray<aya::maps::MapData>,
}

impl Harness {
    fn load(cases: &[Case<'_>]) -> Result<Self> {
        let object =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpfel-unknown-none/release/lbx-bench-ebpf");
        let bytes = fs::read(&object)
            .with_context(|| format!("cannot read {}: build it with `cargo xtask bpf`", object.display()))?;
        let mut programs = EbpfLoader::new().load(&bytes).context("the programs of the bench")?;
        let mut array = ProgramArray::try_from(programs.take_map("TARGETS").context("the map TARGETS")?)?;
        let run = Array::try_from(programs.take_map("RUN").context("the map RUN")?)?;
        let mut targets: Vec<String> = Vec::new();
        let mut place = |name: &str, program: &ProgramFd| -> Result<()> {
            array
                .set(u32::try_from(targets.len())?, program, 0)
                .with_context(|| format!("placing {name}"))?;
            targets.push(name.to_owned());
            Ok(())
        };
        // `bench_hop` calls what is at the first place.
        let mut names: Vec<String> = programs.programs().map(|(name, _)| name.to_owned()).collect();
        names.sort_by_key(|name| name != EMPTY);
        for name in &names {
            let program: &mut Xdp =
                programs.program_mut(name).context("a program that was listed")?.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
            if name != WRAPPER {
                place(name, program.fd()?)?;
            }
        }
        for case in cases.iter().filter(|case| !names.contains(&case.target)) {
            place(&case.target, case.lab.xdp(case.on.program())?.fd()?)?;
        }
        Ok(Self { programs, run, targets, _array: array })
    }

    /// Nanoseconds per run of the wrapper with `target` behind it.
    fn run(&mut self, case: &Case<'_>, target: &str, runs: u32) -> Result<f64> {
        let place =
            self.targets.iter().position(|name| name == target).context("a target that was placed")?;
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(case.frame.get(..HEAD).context("a longer frame")?.chunks(8))
        {
            *word = u64::from_le_bytes(bytes.try_into()?);
        }
        words[12] = case.frame.len() as u64 | (place as u64) << 32;
        words[13] = u64::from(case.flows) | u64::from(case.vips) << 32;
        words[15] = case.flow_at.to_word();
        case.lab.known_routes().keep_answers(case.counted != Counted::Out(Asks::Each));
        self.run.set(0, words, 0)?;
        let wrapper: &Xdp = self.programs.program(WRAPPER).context("the wrapper")?.try_into()?;
        let (netns, frame) = (case.lab.netns(), &case.frame);
        // Inside, so that the FIB is that of the lab.
        let result = netns.run(|| {
            let options = TestRunOptions { data_in: Some(frame), repeat: runs, ..TestRunOptions::default() };
            Ok(wrapper.test_run(options)?)
        })?;
        let expected = if target == case.target { case.returns } else { cases::returns_of(target) };
        ensure!(
            result.return_value == expected,
            "{}: {target} answered {} instead of {expected}",
            case.name,
            result.return_value
        );
        Ok(result.duration.as_secs_f64() * 1e9)
    }
}

/// What the programs have counted.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// By listeners.
    listeners: Traffic,
    /// Packets to the endpoint with pins, and those that were looked up in what is remembered.
    pinned: (u64, u64),
    /// Questions to the kernel's FIB.
    asked: u64,
}

impl Counts {
    fn of(case: &Case<'_>) -> Result<Self> {
        let (pool, endpoint) = PINNED;
        let pinned = if case.counted == Counted::Pinned {
            let to_endpoint = case.lab.endpoint_traffic(pool, endpoint)?.in_packets;
            (to_endpoint, case.lab.flows(Event::Tracked)?)
        } else {
            (0, 0)
        };
        let asked = case.lab.fib_questions()?;
        Ok(Self { listeners: case.lab.traffic()?, pinned, asked })
    }
}

impl Case<'_> {
    /// Each packet was counted where it should be, and nowhere else.
    fn took_its_path(&self, before: Counts, after: Counts, runs: u32) -> Result<()> {
        let (new, old) = (after.listeners, before.listeners);
        let came = (new.in_packets - old.in_packets, new.out_packets - old.out_packets);
        let pinned = (after.pinned.0 - before.pinned.0, after.pinned.1 - before.pinned.1);
        let runs = u64::from(runs);
        let expected = match self.counted {
            Counted::In => ((runs, 0), (0, 0)),
            Counted::Pinned => ((runs, 0), (runs, runs)),
            Counted::Out(_) => ((0, runs), (0, 0)),
            Counted::Nowhere => ((0, 0), (0, 0)),
        };
        ensure!(
            (came, pinned) == expected,
            "{}: of {runs} packets {} were counted on their way in and {} out, {} to the endpoint with pins and {} \
             as tracked: the figure is void",
            self.name,
            came.0,
            came.1,
            pinned.0,
            pinned.1
        );
        let asked = after.asked - before.asked;
        let right = match self.counted {
            // One answer counts for a second, and the first packet of a sample finds none.
            Counted::Out(Asks::Seldom) => 1..=2 + runs / 1000,
            Counted::Out(Asks::Mostly) => runs / 2..=runs,
            Counted::Out(Asks::Any) => 1..=runs,
            Counted::Out(Asks::Each) => runs..=runs,
            Counted::In | Counted::Pinned | Counted::Nowhere => 0..=0,
        };
        ensure!(
            right.contains(&asked),
            "{}: the FIB was asked {asked} times by {runs} packets: the figure is void",
            self.name
        );
        Ok(())
    }
}
