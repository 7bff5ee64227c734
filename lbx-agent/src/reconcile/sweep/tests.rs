//! Rounds over pins in plain memory.

use lbx_common::{
    abi::{
        ENDPOINT_USABLE, EndpointEntry, ListenerKey, NodeEntry, PortBlock, TRACKING_CLOSING, TRACKING_ON,
        TrackingEntry, Words,
    },
    ip::TCP,
};

use super::*;
use crate::dataplane::{FakeMemory, Interfered, Write};

const SECOND: u64 = 1_000_000_000;
/// Units of age: of TCP, and of flows that are over.
const TCP_UNIT: u64 = 1 << 36;
const OVER_UNIT: u64 = 1 << 32;
/// A time that is none of a unit's ends.
const NOW: u64 = 1000 * TCP_UNIT + TCP_UNIT / 2;
const TCP_IDLE_SECS: u32 = 600;
const UDP_IDLE: u64 = 30 * SECOND;
/// Listener of the image, and the endpoint that its table names for every flow.
const LISTENER: u32 = 7;
const BASE: u16 = 1;
/// An endpoint that the table does not name.
const OTHER: u16 = 2;

/// One listener whose table has `BASE` in each slot; both endpoints take new flows.
fn image(flags: u32) -> Image {
    let endpoint = EndpointEntry { vnet: 1, state: ENDPOINT_TAKES_NEW | ENDPOINT_USABLE, ..<_>::default() };
    let vip = Host { v6: false, raw: u32::from_be_bytes([203, 0, 113, 1]) };
    let key = ListenerKey::Ports { vip, protocol: TCP, ports: PortBlock::one(Be16::new(80)) };
    let value = ListenerValue { target: Target::new(0, 1021), id: LISTENER, ..ListenerValue::default() };
    Image {
        node: NodeEntry {
            tcp_idle_secs: TCP_IDLE_SECS,
            udp_idle_ns: UDP_IDLE,
            pin_buckets: 4,
            ..NodeEntry::default()
        },
        endpoints: [(BASE, endpoint), (OTHER, endpoint)].into(),
        tables: [(0, vec![BASE; 1021].into())].into(),
        listeners: [(key, value.to_words())].into(),
        tracking: [(LISTENER, TrackingEntry { flags, ..TrackingEntry::default() })].into(),
        ..Image::default()
    }
}

/// Maps with so many buckets of pins, and nothing else.
fn memory(buckets: u32) -> FakeMemory {
    let places = buckets * PINS_PER_BUCKET;
    let sizes = MapId::PINS.map(|(pins, records, _)| [(pins, buckets), (records, places)]);
    FakeMemory::new(|map| sizes.as_flattened().iter().find(|(id, _)| *id == map).map_or(0, |&(_, size)| size))
}

/// Pins a flow; each place has one of its own.
fn pin(memory: &mut impl Memory, udp: bool, place: u32, endpoint: u16, seen_ns: u64) -> Pin {
    let hash = u64::from(place + 1) << 40;
    let [tcp, of_udp] = MapId::PINS;
    let (pins, records, _) = if udp { of_udp } else { tcp };
    let ports = [40_000_u16.to_be(), 80_u16.to_be()];
    memory.write(records, place, PinRecord { hash, listener: LISTENER, ports, ..PinRecord::default() });
    let pin = Pin::new(hash, endpoint, udp, seen_ns);
    memory.store(pins, place as usize, pin.0);
    pin
}

fn is_there(memory: &impl Memory, udp: bool, place: u32) -> bool {
    memory.load(if udp { MapId::PinsUdp } else { MapId::PinsTcp }, place as usize) != 0
}

/// One whole round.
fn round(sweeper: &mut Sweeper, memory: &mut impl Memory, image: &Image, now_ns: u64) {
    assert!(sweeper.step(memory, &Meaning::of(image), now_ns), "so few are looked at in one go");
}

/// Whether a pin to `OTHER` of a packet at `seen_ns` is there after a round at `now_ns`.
fn outlives(udp: bool, ended: bool, seen_ns: u64, now_ns: u64) -> bool {
    let mut memory = memory(4);
    let pin = pin(&mut memory, udp, 3, OTHER, seen_ns);
    if ended {
        let ended = pin.with(Pin::ENDED).touched(udp, seen_ns);
        memory.store(if udp { MapId::PinsUdp } else { MapId::PinsTcp }, 3, ended.0);
    }
    round(&mut Sweeper::default(), &mut memory, &image(TRACKING_OPEN | TRACKING_ON), now_ns);
    is_there(&memory, udp, 3)
}

#[test]
fn pins_that_were_idle_for_too_long_go_and_no_others() {
    let tcp_idle = u64::from(TCP_IDLE_SECS) * SECOND;
    assert!(outlives(false, false, NOW, NOW + tcp_idle));
    assert!(!outlives(false, false, NOW, NOW + tcp_idle + 2 * TCP_UNIT));
    assert!(outlives(true, false, NOW, NOW + UDP_IDLE));
    assert!(!outlives(true, false, NOW, NOW + UDP_IDLE + 5 * SECOND));
    // A packet at the end of a unit is not older for the next one having begun.
    let ends = NOW + TCP_UNIT / 2;
    assert!(outlives(false, false, ends - 1, ends - 1 + tcp_idle));
    assert!(outlives(true, false, ends - 1, ends - 1 + UDP_IDLE));
    // Both sides are done: some seconds are enough.
    assert!(outlives(false, true, NOW, NOW + 2 * OVER_UNIT));
    assert!(!outlives(false, true, NOW, NOW + 5 * OVER_UNIT));
}

#[test]
fn a_pin_that_says_what_the_table_says_goes_when_nothing_needs_it() {
    let is_kept = |image: &Image, endpoint| {
        let mut memory = memory(4);
        pin(&mut memory, false, 0, endpoint, NOW);
        round(&mut Sweeper::default(), &mut memory, image, NOW);
        is_there(&memory, false, 0)
    };
    assert!(!is_kept(&image(TRACKING_CLOSING | TRACKING_ON), BASE));
    assert!(!is_kept(&image(0), BASE));
    assert!(is_kept(&image(TRACKING_CLOSING | TRACKING_ON), OTHER), "an exception");
    assert!(is_kept(&image(TRACKING_OPEN | TRACKING_ON), BASE), "the table before may say something else");
    assert!(is_kept(&image(TRACKING_ALWAYS | TRACKING_ON), BASE));
    // New flows go elsewhere, and a SYN that is sent again must not.
    let mut closed = image(0);
    closed.endpoints.get_mut(&BASE).unwrap().state = ENDPOINT_USABLE;
    assert!(is_kept(&closed, BASE));
    // Nothing says what a table would, where there is none any more.
    assert!(is_kept(&Image { listeners: <_>::default(), ..image(0) }, BASE));
}

#[test]
fn a_pin_whose_record_is_of_another_flow_names_its_endpoint_alone() {
    let mut memory = memory(4);
    let pinned = pin(&mut memory, false, 0, BASE, NOW);
    memory.store(MapId::PinsTcp, 0, pinned.0 ^ 1 << 50);
    let mut sweeper = Sweeper::default();
    round(&mut sweeper, &mut memory, &image(0), NOW);
    assert!(is_there(&memory, false, 0));
    assert_eq!((sweeper.found.pins(), sweeper.facts.endpoints), (1, [BASE].into()));
    assert!(sweeper.facts.listeners.is_empty() && sweeper.facts.bases.is_empty());
}

#[test]
fn a_pin_that_is_replaced_meanwhile_stays_and_counts() {
    let mut memory = memory(4);
    let old = pin(&mut memory, false, 5, OTHER, NOW);
    let now_ns = NOW + u64::from(TCP_IDLE_SECS) * SECOND + 2 * TCP_UNIT;
    let newer = old.touched(false, now_ns);
    // A kernel program puts another pin just when this one is to be taken out.
    let before = |memory: &mut FakeMemory, write: Write| {
        if let Write::Replace(map, index) = write {
            memory.store(map, index, newer.0);
        }
        true
    };
    let mut raced = Interfered { memory, before };
    let mut sweeper = Sweeper::default();
    round(&mut sweeper, &mut raced, &image(TRACKING_CLOSING | TRACKING_ON), now_ns);
    assert_eq!(Pin(raced.load(MapId::PinsTcp, 5)), newer);
    assert_eq!((sweeper.found.pins(), sweeper.facts.endpoints.contains(&OTHER)), (1, true));
    assert!(sweeper.facts.listeners.contains(&LISTENER));
}

#[test]
fn facts_are_those_of_two_rounds() {
    let closing = image(TRACKING_CLOSING | TRACKING_ON);
    let mut memory = memory(4);
    let mut sweeper = Sweeper::default();
    pin(&mut memory, true, 1, OTHER, NOW);
    round(&mut sweeper, &mut memory, &closing, NOW);
    let expected = FlowFacts {
        since_ns: 0,
        listeners: [LISTENER].into(),
        bases: [BASE].into(),
        endpoints: [OTHER].into(),
        ..FlowFacts::default()
    };
    assert_eq!(
        (&sweeper.facts, sweeper.found.pins()),
        (&expected, 1),
        "one look alone says nothing of a time"
    );
    memory.store(MapId::PinsUdp, 1, 0);
    round(&mut sweeper, &mut memory, &closing, NOW + SECOND);
    // A pin that moves while a round goes on may be where that has been, so the round before counts as well.
    assert_eq!((&sweeper.facts, sweeper.found.pins()), (&FlowFacts { since_ns: NOW, ..expected }, 0));
    round(&mut sweeper, &mut memory, &closing, NOW + 2 * SECOND);
    assert_eq!(sweeper.facts, FlowFacts { since_ns: NOW + SECOND, ..FlowFacts::default() });
}

#[test]
fn a_listener_with_half_of_all_places_is_full_until_it_has_fewer() {
    let open = image(TRACKING_OPEN | TRACKING_ON);
    let mut memory = memory(4);
    let mut sweeper = Sweeper::default();
    for place in 0..16 {
        assert!(sweeper.facts.full.is_empty(), "with {place} of 32 places");
        pin(&mut memory, false, place, OTHER, NOW);
        round(&mut sweeper, &mut memory, &open, NOW);
    }
    assert_eq!((sweeper.facts.full.clone(), sweeper.found.pins()), ([LISTENER].into(), 16));
    memory.store(MapId::PinsTcp, 0, 0);
    round(&mut sweeper, &mut memory, &open, NOW);
    assert!(sweeper.facts.full.is_empty());
}

#[test]
fn a_round_over_many_pins_takes_several_steps_and_leaves_out_none() {
    let closing = image(TRACKING_CLOSING | TRACKING_ON);
    let buckets = PART + 1;
    let mut memory = memory(buckets);
    let places = [0, PART * PINS_PER_BUCKET, buckets * PINS_PER_BUCKET - 1];
    for (udp, place) in places.iter().flat_map(|&place| [(false, place), (true, place)]) {
        pin(&mut memory, udp, place, BASE, NOW);
    }
    let mut sweeper = Sweeper::default();
    let meaning = Meaning::of(&closing);
    let over = [0, 1, 2].map(|step| sweeper.step(&mut memory, &meaning, NOW + step * SECOND));
    assert_eq!(over, [false, false, true]);
    for place in places {
        assert!(!is_there(&memory, false, place) && !is_there(&memory, true, place), "{place}");
    }
    round_of_several(&mut sweeper, &mut memory, &meaning, NOW + 9 * SECOND);
    assert_eq!(sweeper.facts.since_ns, NOW, "a round begins with its first step");
}

fn round_of_several(sweeper: &mut Sweeper, memory: &mut FakeMemory, meaning: &Meaning, now_ns: u64) {
    while !sweeper.step(memory, meaning, now_ns) {}
}

#[test]
fn new_flows_are_counted_once_and_live_ones_while_they_last() {
    let (mut memory, image) = (memory(4), image(TRACKING_ALWAYS | TRACKING_ON));
    let mut sweeper = Sweeper::default();
    pin(&mut memory, false, 1, BASE, NOW);
    sweeper.count_arrivals(true);
    let counts = |sweeper: &mut Sweeper, memory: &mut FakeMemory| {
        round(sweeper, memory, &image, NOW);
        let of = |map: &BTreeMap<u16, u32>| [BASE, OTHER].map(|id| map.get(&id).copied().unwrap_or_default());
        (of(&sweeper.found.arrived), of(&sweeper.found.live))
    };
    // What is there already did not come now.
    assert_eq!(counts(&mut sweeper, &mut memory), ([0, 0], [1, 0]));
    pin(&mut memory, false, 2, BASE, NOW);
    let first = pin(&mut memory, true, 2, OTHER, NOW);
    assert_eq!(counts(&mut sweeper, &mut memory), ([1, 1], [2, 1]));
    assert_eq!(counts(&mut sweeper, &mut memory), ([0, 0], [2, 1]));
    // A packet is no flow, and one that ends is none that is live.
    memory.store(MapId::PinsUdp, 2, first.touched(true, NOW + 4 * SECOND).0);
    let short = pin(&mut memory, false, 3, OTHER, NOW).with(Pin::ENDED).touched(false, NOW);
    memory.store(MapId::PinsTcp, 3, short.0);
    assert_eq!(counts(&mut sweeper, &mut memory), ([0, 1], [2, 1]));
    // Another flow in the place of one that is gone.
    memory.store(MapId::PinsTcp, 3, Pin::new(7 << 50, OTHER, false, NOW).0);
    assert_eq!(counts(&mut sweeper, &mut memory), ([0, 1], [2, 2]));
    sweeper.count_arrivals(false);
    pin(&mut memory, false, 5, BASE, NOW);
    assert_eq!(counts(&mut sweeper, &mut memory), ([0, 0], [3, 2]));
}
