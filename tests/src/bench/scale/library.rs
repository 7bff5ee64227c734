//! What the agent computes in a pass, part by part, over maps in plain memory: where the time of a change goes.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, anyhow, ensure};
use lbx_agent::{
    config::{self, model::Model},
    dataplane::{FakeMemory, Image, NoCounters, Sizes, apply, diff},
    plan::{
        Built, Environment, FlowFacts, NodeFacts, endpoint_ids,
        maglev::{self, Member},
        plan,
    },
    steer::Steered,
    store::Store,
};
use lbx_common::{abi::TABLE_SIZES, api::HealthState};

use super::Size;
use crate::bench::figures::{Figure, quantile, timed};

/// Milliseconds of each part, run by run.
#[derive(Default)]
struct Parts(BTreeMap<&'static str, Vec<f64>>);

impl Parts {
    fn part<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let (made, took) = timed(work);
        self.0.entry(name).or_default().push(took);
        made
    }
}

/// Measures the parts of a pass that changes nothing, which is what most passes are, of the first one, and of a change
/// by the API, which plans twice.
pub fn passes(size: Size, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    tell("parts of a pass");
    let config = size.dsr();
    let mut parts = Parts::default();
    for _ in 0..size.passes {
        let copy = parts.part("change: copy of the configuration", || config.clone());
        let model = parts.part("change: validation", || config::validate(copy));
        let model = model.map_err(|mistakes| anyhow!("{mistakes:?}"))?;
        let facts = Facts::new(&model);
        let mut memory = FakeMemory::new(|map| facts.sizes.of(map));
        let wanted = parts
            .part("start: plan on empty maps", || plan(&model, &facts.environment(), &Image::default()))?;
        let steps = parts.part("start: differences", || diff(&Image::default(), &wanted));
        parts.part("start: stores to plain memory", || apply(&mut memory, &mut NoCounters, &steps))?;

        let observed = parts.part("pass: read all maps", || Image::observe(&memory));
        let again = parts.part("pass: plan", || plan(&model, &facts.environment(), &observed))?;
        parts.part("pass: ids of endpoints by name", || endpoint_ids(&model, &again));
        let steps = parts.part("pass: differences", || diff(&observed, &again));
        ensure!(steps.is_empty(), "a pass over what is there changes nothing");
        parts.part("pass: freeing both images", || drop((observed, again)));

        let json = parts.part("change: configuration as JSON", || serde_json::to_value(&config))?;
        let read = parts.part("change: configuration from JSON", || config::decode(json));
        ensure!(read.is_ok_and(|read| read == config), "a configuration is the same in JSON");
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(None, folder.path())?;
        parts.part("change: stored durably", || store.save(1, &config))?;
    }
    let whole: f64 =
        parts.0.iter().filter(|(name, _)| name.starts_with("pass:")).map(|(_, ms)| quantile(ms, 0.5)).sum();
    let mut figures: Vec<Figure> =
        parts.0.iter().map(|(name, samples)| Figure::new(*name, quantile(samples, 0.5), "ms")).collect();
    figures.push(Figure::new("pass: all of that", whole, "ms"));
    figures.push(table(size));
    Ok(figures)
}

/// One lookup table of a pool, of the size that its endpoints ask for.
fn table(size: Size) -> Figure {
    let slots = TABLE_SIZES.into_iter().find(|slots| *slots >= size.members * 100);
    let slots = slots.unwrap_or(TABLE_SIZES[0]);
    let members: Vec<Member> = (1..=size.members)
        .map(|number| Member {
            identity: maglev::identity([u64::from(number)]),
            weight: 100,
            id: u16::try_from(number).unwrap_or(u16::MAX),
        })
        .collect();
    let samples: Vec<f64> = (0..size.passes.saturating_mul(10))
        .map(|_| timed(|| std::hint::black_box(maglev::build(&members, slots))).1)
        .collect();
    Figure::new(format!("table of {} endpoints, {slots} slots", size.members), quantile(&samples, 0.5), "ms")
}

/// What the planner is told: everything is healthy.
struct Facts {
    sizes: Sizes,
    verdicts: BTreeMap<(String, String), HealthState>,
    next_hops: BTreeMap<IpAddr, (Option<lbx_agent::net::next_hop::NextHop>, Option<u16>)>,
    flows: FlowFacts,
    steered: Steered,
    built: Built,
}

impl Facts {
    fn new(model: &Model) -> Self {
        let endpoints = model.pools.iter().flat_map(|pool| {
            pool.endpoints.iter().map(|endpoint| (pool.name.clone(), endpoint.name.clone()))
        });
        Self {
            sizes: Sizes::new(&model.limits),
            verdicts: endpoints.map(|name| (name, HealthState::Healthy)).collect(),
            next_hops: BTreeMap::new(),
            flows: FlowFacts::default(),
            steered: Steered::default(),
            built: Built::default(),
        }
    }

    fn environment(&self) -> Environment<'_> {
        const NONE: &BTreeMap<u32, (u32, u16)> = &BTreeMap::new();
        Environment {
            node: NodeFacts { lbx0: (4, [2; 6]), lbx1: (5, [4; 6]), seed: [1, 2], answer_interval: 0 },
            vlans: NONE,
            sizes: &self.sizes,
            next_hops: &self.next_hops,
            path_mtus: const { &BTreeMap::new() },
            verdicts: &self.verdicts,
            tunnel_verdicts: const { &BTreeMap::new() },
            regions: 0,
            now_ns: 1,
            flows: &self.flows,
            steered: &self.steered,
            built: &self.built,
        }
    }
}
