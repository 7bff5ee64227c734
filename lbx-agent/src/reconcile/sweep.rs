//! Looks after pins: takes out those whose time is over or that say what hash and table say, and finds out what the
//! rest still makes necessary.
//!
//! A round looks at every pin, a part at a time, so that nothing else waits for long. Kernel programs change pins
//! meanwhile; a pin is only taken out if it is still the one that was looked at.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use lbx_common::{
    abi::{
        ENDPOINT_TAKES_NEW, Host, ListenerValue, PINS_PER_BUCKET, Pin, PinRecord, TRACKING_AFFINITY,
        TRACKING_ALWAYS, TRACKING_OPEN, Target,
    },
    bytes::{Address, Be16, Be32},
    hash::{flow_hash, scale},
    ip::IpAddress,
    pins::{NANOSECONDS, lifetime},
    select::table_hash,
    transport::Ports,
};

use super::{Reconciler, now_ns};
use crate::{
    dataplane::{Image, MapId, Memory},
    plan::{self, FlowFacts, regions_change_is_open},
};

/// Time from the start of one look at all pins to that of the next.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Buckets that are looked at in one go: some milliseconds where all are full.
const PART: u32 = 4096;

/// What pins are about, by listener id.
struct Listener {
    value: ListenerValue,
    vip: Address,
    v6: bool,
    protocol: u8,
    tracking: u32,
    /// What it is to clients of regions, by the region's id.
    regions: BTreeMap<u32, Regional>,
}

/// What a listener is to clients: its index in `TRACKING`, what is under way there, and its table.
#[derive(Clone, Copy)]
struct Regional {
    id: u32,
    tracking: u32,
    target: Target,
}

/// What pins mean under an image of the maps.
pub struct Meaning {
    listeners: BTreeMap<u32, Listener>,
    /// Whether each endpoint takes new flows.
    takes_new: BTreeMap<u16, bool>,
    tables: BTreeMap<u32, std::sync::Arc<[u16]>>,
    /// Id of the list of regions,
    list: u32,
    /// and whether flows may live where the one before says.
    regions_change: bool,
    seed: [u64; 2],
    /// For TCP and UDP.
    idle_ns: [u64; 2],
    share: u64,
}

impl Meaning {
    /// Under this image.
    pub fn of(image: &Image) -> Self {
        let addresses: BTreeMap<u32, Address> = image.addresses.iter().map(|(&a, &id)| (id, a)).collect();
        let address = |host: Host| {
            if host.v6 { addresses.get(&host.raw).copied() } else { Some(Address::from_v4(Be32(host.raw))) }
        };
        let tracking = |id: u32| image.tracking.get(&id).map_or(0, |entry| entry.flags);
        let mut listeners = BTreeMap::new();
        for (vip, protocol, value) in image.listener_values() {
            let Some(address) = address(vip) else { continue };
            let (tracking, regions) = (tracking(value.id), BTreeMap::new());
            listeners
                .insert(value.id, Listener { value, vip: address, v6: vip.v6, protocol, tracking, regions });
        }
        for (listener, region, ListenerValue { id, target, .. }) in image.regional_values() {
            if let Some(listener) = listeners.get_mut(&listener) {
                listener.regions.insert(region, Regional { id, tracking: tracking(id), target });
            }
        }
        let node = &image.node;
        let takes_new = image.endpoints.iter().map(|(&id, e)| (id, e.state & ENDPOINT_TAKES_NEW != 0));
        Self {
            listeners,
            takes_new: takes_new.collect(),
            tables: image.tables.clone(),
            list: node.regions,
            regions_change: regions_change_is_open(node),
            seed: node.seed,
            idle_ns: [u64::from(node.tcp_idle_secs).saturating_mul(NANOSECONDS), node.udp_idle_ns],
            share: u64::from(node.pin_buckets) * u64::from(PINS_PER_BUCKET) / 2,
        }
    }

    /// What the listener is to the client of a record.
    fn of_client(&self, memory: &impl Memory, listener: &Listener, record: &PinRecord) -> Regional {
        let own =
            Regional { id: listener.value.id, tracking: listener.tracking, target: listener.value.target };
        if listener.regions.is_empty() {
            return own;
        }
        let address = Address::from_words(record.client);
        let [first, ..] = address.quads();
        let client = if listener.v6 { IpAddr::from(address.0) } else { IpAddr::from(first.to_ne_bytes()) };
        let region = memory.region(self.list, client);
        region.and_then(|region| listener.regions.get(&region)).copied().unwrap_or(own)
    }

    /// The endpoint that hash and current table name for the flow of a record.
    fn base(&self, listener: &Listener, target: Target, record: &PinRecord) -> Option<u16> {
        if listener.v6 {
            let (client, vip) = (Address::from_words(record.client), listener.vip);
            self.owner(listener.protocol, target, (client, vip), record.ports)
        } else {
            let (client, vip) = (Be32::of_words(record.client), Be32::from_entry(&listener.vip));
            self.owner(listener.protocol, target, (client, vip), record.ports)
        }
    }

    fn owner<A: IpAddress>(
        &self,
        protocol: u8,
        target: Target,
        (client, vip): (A, A),
        ports: [u16; 2],
    ) -> Option<u16> {
        let [source, destination] = ports.map(Be16);
        let flow = flow_hash(client, vip, Ports { source, destination }, protocol, &self.seed);
        let hash = table_hash(target, client, flow, &self.seed);
        self.tables.get(&target.line())?.get(scale(hash, target.slots()) as usize).copied()
    }
}

/// What one round found.
#[derive(Default)]
struct Round {
    facts: FlowFacts,
    by_listener: BTreeMap<u32, u64>,
    found: Found,
    /// Whether it is the first one that counts arrivals.
    is_first: bool,
}

/// How many pins there are.
#[derive(Default)]
pub struct Found {
    /// Of TCP.
    pub tcp: usize,
    /// Of UDP.
    pub udp: usize,
    /// By the endpoint's id.
    pub by_endpoint: BTreeMap<u16, u64>,
    /// Those of them that are not over, likewise.
    pub live: BTreeMap<u16, u32>,
    /// Flows that were pinned since the round before, likewise; also those that are over. Only where that is
    /// [counted](Sweeper::count_arrivals), and not before the second round.
    pub arrived: BTreeMap<u16, u32>,
}

impl Found {
    /// All of them.
    pub const fn pins(&self) -> usize {
        self.tcp + self.udp
    }
}

/// Goes round all pins.
#[derive(Default)]
pub struct Sweeper {
    /// Next bucket: of TCP, then of UDP.
    next: u32,
    round: Round,
    last: Option<FlowFacts>,
    /// What the last two rounds found.
    pub facts: FlowFacts,
    /// Pins that the last round left.
    pub found: Found,
    /// Where arrivals are counted, the pins of the last round by place: of TCP, then of UDP.
    seen: Option<Vec<Pin>>,
}

impl Sweeper {
    /// Whether to count the flows that are new: it takes as much memory as the pins themselves.
    pub fn count_arrivals(&mut self, wanted: bool) {
        if wanted != self.seen.is_some() {
            self.seen = wanted.then(Vec::new);
        }
    }

    /// Looks at the next part of all pins. Returns whether a round is over.
    pub fn step(&mut self, memory: &mut impl Memory, meaning: &Meaning, now_ns: u64) -> bool {
        if self.next == 0 {
            self.round = Round::default();
            self.round.facts.since_ns = now_ns;
        }
        let buckets = memory.elements(MapId::PinsTcp);
        let places = buckets as usize * PINS_PER_BUCKET as usize * 2;
        if let Some(seen) = self.seen.as_mut().filter(|seen| self.next == 0 && seen.len() != places) {
            *seen = vec![Pin::default(); places];
            self.round.is_first = true;
        }
        let end = self.next.saturating_add(PART).min(buckets.saturating_mul(2));
        for bucket in self.next..end {
            let [tcp, udp] = MapId::PINS;
            let (map, bucket) = if bucket < buckets { (tcp, bucket) } else { (udp, bucket - buckets) };
            let first = bucket * PINS_PER_BUCKET;
            for place in first..first + PINS_PER_BUCKET {
                self.look_at(memory, meaning, map, place, now_ns);
            }
        }
        self.next = end;
        if end < buckets.saturating_mul(2) {
            return false;
        }
        self.end_round(meaning);
        true
    }

    fn look_at(
        &mut self,
        memory: &mut impl Memory,
        meaning: &Meaning,
        (pins, records, udp): (MapId, MapId, bool),
        place: u32,
        now_ns: u64,
    ) {
        let pin = Pin(memory.load(pins, place as usize));
        self.note_arrival(pin, udp, place);
        if pin.is_free() {
            return;
        }
        let [tcp_ns, udp_ns] = meaning.idle_ns;
        let idle_ns = if udp { udp_ns } else { tcp_ns };
        let mut is_over = pin.idle_ns(udp, now_ns) > lifetime(pin, udp, idle_ns);
        let record: PinRecord = memory.read(records, place);
        let listener = meaning.listeners.get(&record.listener).filter(|_| pin.is_of(record.hash));
        let regional = listener.map(|listener| meaning.of_client(memory, listener, &record));
        let base =
            listener.zip(regional).and_then(|(listener, of)| meaning.base(listener, of.target, &record));
        let exception = base != Some(pin.endpoint());
        if let (Some(regional), Some(base), false) = (regional, base, exception) {
            let moves = meaning.regions_change && listener.is_some_and(|one| !one.regions.is_empty());
            let needed =
                moves || regional.tracking & (TRACKING_OPEN | TRACKING_ALWAYS | TRACKING_AFFINITY) != 0;
            is_over |= !needed && meaning.takes_new.get(&base).copied().unwrap_or(false);
        }
        if is_over && memory.replace(pins, place as usize, pin.0, 0) {
            return;
        }
        let Round { facts, by_listener, found, .. } = &mut self.round;
        *if udp { &mut found.udp } else { &mut found.tcp } += 1;
        *found.by_endpoint.entry(pin.endpoint()).or_default() += 1;
        if !pin.has(Pin::ENDED) {
            *found.live.entry(pin.endpoint()).or_default() += 1;
        }
        if pin.is_of(record.hash) {
            *by_listener.entry(record.listener).or_default() += 1;
            if exception {
                facts.listeners.insert(regional.map_or(record.listener, |regional| regional.id));
                facts.bases.extend(base);
            }
        }
    }

    /// Counts a pin where the last round saw another one in its place, or none.
    fn note_arrival(&mut self, pin: Pin, udp: bool, place: u32) {
        let Some(seen) = &mut self.seen else { return };
        let half = seen.len() / 2;
        let (tcp, of_udp) = seen.split_at_mut(half);
        let Some(seen) = if udp { of_udp } else { tcp }.get_mut(place as usize) else { return };
        let flow = pin.flow();
        if *seen != flow && !pin.is_free() {
            *self.round.found.arrived.entry(pin.endpoint()).or_default() += 1;
        }
        *seen = flow;
    }

    fn end_round(&mut self, meaning: &Meaning) {
        self.next = 0;
        let Round { mut facts, by_listener, mut found, is_first } = std::mem::take(&mut self.round);
        if is_first {
            // They were there before anybody looked.
            found.arrived.clear();
        }
        let full = by_listener.into_iter().filter(|&(_, pins)| pins >= meaning.share);
        facts.full = full.map(|(id, _)| id).collect();
        facts.endpoints = found.by_endpoint.keys().copied().collect();
        self.found = found;
        if let Some(last) = self.last.replace(facts.clone()) {
            let both = FlowFacts {
                since_ns: last.since_ns,
                listeners: last.listeners.union(&facts.listeners).copied().collect(),
                bases: last.bases.union(&facts.bases).copied().collect(),
                endpoints: last.endpoints.union(&facts.endpoints).copied().collect(),
                full: facts.full,
            };
            self.facts = both;
        } else {
            self.facts = FlowFacts { since_ns: 0, ..facts };
        }
    }
}

impl Reconciler {
    /// Looks at some pins. Returns whether something waited for what was found out.
    pub(super) fn sweep(&mut self) -> bool {
        if self.meaning.is_none() {
            self.sweep_began = Instant::now();
        }
        let meaning = self.meaning.take().unwrap_or_else(|| Meaning::of(&self.image));
        let full = self.sweeper.facts.full.clone();
        if !self.sweeper.step(&mut self.kernel.memory, &meaning, now_ns()) {
            self.meaning = Some(meaning);
            self.next_sweep = Some(Instant::now());
            return false;
        }
        self.schedule_sweep();
        self.look_at_connections() || plan::waits_for_flows(&self.image) || full != self.sweeper.facts.full
    }

    /// Pins are looked at while there may be any that matter.
    pub(super) fn schedule_sweep(&mut self) {
        if self.meaning.is_none() {
            let needed = plan::needs_sweeps(&self.image) || self.sweeper.found.pins() > 0;
            self.next_sweep = needed.then(|| self.sweep_began + SWEEP_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests;
