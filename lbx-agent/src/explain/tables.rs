//! The pipeline's questions, answered from the live maps: each element is read when it is asked for, and nothing is
//! written. What the packet would leave behind (a pin, a half-open flow) stays in this packet's tables.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use elsa::FrozenVec;
use lbx_common::{
    abi::{
        Affinity, AffinityKey, Bucket, EndpointEntry, FlowKey, FragmentKey, FragmentValue, HalfOpen,
        ListenerValue, NodeEntry, PINS_PER_BUCKET, PinBucket, PinRecord, PolicyEntry, SampleRecord, SlotLine,
        TrackingEntry, TunnelEntry, VnetEntry, Words,
    },
    api::Prefix,
    bytes::Address,
    ip::IpAddress,
    pins::Flow,
    region::Place,
    tables::{Carry, Counted, Direction, Route, RouteQuery, Tables},
    track::Event,
    transport::Ports,
};

use crate::dataplane::{self, MapId, Memory};

/// What stands in maps that no memory of the agent shows.
pub trait Remembered {
    /// A half-open flow.
    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen>;
    /// Where the last flow of a source began.
    fn affinity(&self, source: &AffinityKey) -> Option<Affinity>;
}

impl Remembered for dataplane::Remembered {
    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen> {
        self.half_open.get(flow, 0).ok()
    }

    fn affinity(&self, source: &AffinityKey) -> Option<Affinity> {
        self.affinity.get(source, 0).ok()
    }
}

/// What the packet met on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Met {
    /// Number of the reason why it was dropped.
    pub dropped: Option<u8>,
    /// Endpoint that it was sent to.
    pub endpoint: Option<u32>,
    /// The last tunnel that was looked at.
    pub tunnel: Option<TunnelEntry>,
    /// Whether it had to be looked up.
    pub tracked: bool,
    /// The endpoint that it is remembered with as half-open.
    pub half_open: Option<u32>,
    /// Id of the region that its source is in, where somebody asked.
    pub region: Option<u32>,
    /// The endpoint that its source is remembered with.
    pub affinity: Option<u32>,
}

/// Tables of one packet.
pub struct LiveTables<'a, M, R> {
    memory: &'a M,
    remembered: &'a R,
    now_ns: u64,
    node: NodeEntry,
    read: Read,
    carry: Cell<Carry>,
    met: RefCell<Met>,
}

/// Elements that were read; they stay where they are, for the answers point at them.
#[derive(Default)]
struct Read {
    buckets: FrozenVec<Box<Bucket>>,
    addresses: FrozenVec<Box<Address>>,
    lines: FrozenVec<Box<SlotLine>>,
    endpoints: FrozenVec<Box<EndpointEntry>>,
    tunnels: FrozenVec<Box<TunnelEntry>>,
    tracking: FrozenVec<Box<TrackingEntry>>,
    vnets: FrozenVec<Box<VnetEntry>>,
    policies: FrozenVec<Box<PolicyEntry>>,
    pins: FrozenVec<Box<PinBucket>>,
    flows: FrozenVec<Box<Flow>>,
}

impl<'a, M: Memory, R: Remembered> LiveTables<'a, M, R> {
    /// Over the maps as they are, at a time.
    pub fn new(memory: &'a M, remembered: &'a R, now_ns: u64) -> Self {
        Self {
            memory,
            remembered,
            now_ns,
            node: memory.read(MapId::Node, 0),
            read: Read::default(),
            carry: Cell::default(),
            met: RefCell::default(),
        }
    }

    /// What the packet met.
    pub fn met(&self) -> Met {
        self.met.borrow().clone()
    }

    fn element<'s, T: Words<N>, const N: usize>(
        &self,
        kept: &'s FrozenVec<Box<T>>,
        map: MapId,
        index: u32,
    ) -> Option<&'s T> {
        (index < self.memory.elements(map)).then(|| kept.push_get(Box::new(self.memory.read(map, index))))
    }
}

/// An address that is given as its words.
fn ip_of<A: IpAddress>(words: [u64; 2]) -> IpAddr {
    let address = Address::from_words(words);
    let [first, ..] = address.quads();
    if A::V6 { IpAddr::from(address.0) } else { IpAddr::from(first.to_ne_bytes()) }
}

impl<M: Memory, R: Remembered> Tables for LiveTables<'_, M, R> {
    fn node(&self) -> Option<&NodeEntry> {
        Some(&self.node)
    }

    fn listener_bucket(&self, index: u32) -> Option<&Bucket> {
        self.element(&self.read.buckets, MapId::Listeners, index)
    }

    fn reply_bucket(&self, index: u32) -> Option<&Bucket> {
        self.element(&self.read.buckets, MapId::Replies, index)
    }

    fn peer_bucket(&self, index: u32) -> Option<&Bucket> {
        self.element(&self.read.buckets, MapId::Peers, index)
    }

    fn address_bucket(&self, index: u32) -> Option<&Bucket> {
        self.element(&self.read.buckets, MapId::AddressIds, index)
    }

    fn address(&self, id: u32) -> Option<&Address> {
        self.element(&self.read.addresses, MapId::Addresses, id)
    }

    fn slot_line(&self, index: u32) -> Option<&SlotLine> {
        self.element(&self.read.lines, MapId::Slots, index)
    }

    fn endpoint(&self, id: u32) -> Option<&EndpointEntry> {
        self.element(&self.read.endpoints, MapId::Endpoints, id)
    }

    fn tunnel(&self, id: u32) -> Option<&TunnelEntry> {
        let tunnel = self.element(&self.read.tunnels, MapId::Tunnels, id);
        self.met.borrow_mut().tunnel = tunnel.copied();
        tunnel
    }

    fn tracking(&self, listener: u32) -> Option<&TrackingEntry> {
        self.element(&self.read.tracking, MapId::Tracking, listener)
    }

    fn place_flow(&self, place: Place) {
        if let Some(flow) = self.read.flows.last() {
            let listener = ListenerValue { target: place.target, ..flow.listener };
            let (tracking, tracking_before) = (place.tracking, place.before);
            self.read.flows.push(Box::new(Flow { listener, tracking, tracking_before, ..*flow }));
        }
    }

    fn look_into(&self, flow: &Flow) -> Option<&Flow> {
        let hash = flow.key.hash(&self.node.pin_seed);
        Some(self.read.flows.push_get(Box::new(Flow { hash, now_ns: self.now_ns, ..*flow })))
    }

    fn looked_into(&self) -> Option<&Flow> {
        self.read.flows.last()
    }

    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen> {
        let found = self.remembered.half_open(flow);
        self.met.borrow_mut().half_open = found.map(|half| half.endpoint.into());
        found
    }

    fn set_half_open(&self, _: &FlowKey, _: HalfOpen) {}

    fn affinity(&self, source: &AffinityKey) -> Option<Affinity> {
        let found = self.remembered.affinity(source);
        self.met.borrow_mut().affinity = found.map(|affinity| affinity.endpoint);
        found
    }

    fn set_affinity(&self, _: &AffinityKey, _: Affinity) {}

    fn pin_bucket(&self, udp: bool, index: u32) -> Option<&PinBucket> {
        let map = if udp { MapId::PinsUdp } else { MapId::PinsTcp };
        let first = (index * PINS_PER_BUCKET) as usize;
        let words = std::array::from_fn(|i| self.memory.load(map, first + i));
        (index < self.memory.elements(map)).then(|| self.read.pins.push_get(Box::new(PinBucket::new(words))))
    }

    fn set_pin_record(&self, _: bool, _: u32, _: PinRecord) {}

    fn may_pin(&self) -> bool {
        true
    }

    fn samples(&self) -> bool {
        false
    }

    fn tell_sample(&self, _: impl FnOnce(&mut SampleRecord)) {}

    fn count_flow(&self, event: Event) {
        self.met.borrow_mut().tracked |= event == Event::Tracked;
    }

    fn keep(&self, carry: Carry) {
        self.carry.set(carry);
    }

    fn kept(&self) -> Carry {
        self.carry.get()
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    fn may_answer(&self) -> bool {
        true
    }

    fn remember(&self, _: &FragmentKey, _: FragmentValue) {}

    fn recall(&self, _: &FragmentKey) -> Option<FragmentValue> {
        None
    }

    fn vnet(&self, id: u32) -> Option<&VnetEntry> {
        self.element(&self.read.vnets, MapId::Vnets, id)
    }

    fn policy(&self, listener: u32) -> Option<&PolicyEntry> {
        self.element(&self.read.policies, MapId::Policies, listener)
    }

    fn verdict<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        let address = ip_of::<A>(address);
        let list = self.memory.prefix_lists().get(&list)?;
        // From the longest on.
        (0..=128).rev().find_map(|length| {
            let prefix = Prefix::around(address, length);
            (prefix.length() == length).then(|| list.get(&prefix).copied()).flatten()
        })
    }

    fn region<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        let region = self.memory.region(list, ip_of::<A>(address));
        if list == self.node.regions {
            self.met.borrow_mut().region = region;
        }
        region
    }

    /// Nothing is limited here: the limits are those of real packets.
    fn limit(&self, _: u32) -> Option<u64> {
        Some(0)
    }

    fn set_limit(&self, _: u32, _: u64) {}

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// A client's packet needs none but those of tunnels.
    fn route<A: IpAddress>(&self, _: &RouteQuery<A>) -> Route {
        Route::Unreachable
    }

    fn is_asked<A: IpAddress>(&self, _: A, _: A, _: Ports) -> bool {
        false
    }

    fn count(&self, of: Counted, _: Direction, _: u64) {
        self.met.borrow_mut().endpoint = Some(of.endpoint);
    }

    fn count_drop(&self, _: u32, reason: u8) {
        self.met.borrow_mut().dropped = Some(reason);
    }
}
