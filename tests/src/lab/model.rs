//! The pipeline's questions, answered on the host: a copy of the maps, and routes that a test laid.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use lbx_agent::{
    dataplane::{MapId, Memory, PrefixLists},
    regions::RegionList,
};
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
    reason::DropReason,
    region::Place,
    tables::{Carry, Counted, Direction, Route, RouteQuery, Tables},
    track::Event,
    transport::Ports,
};

/// The way to the client; everybody else on its network is unresolved.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// Egress interface.
    pub ifindex: u32,
    /// MAC of that interface.
    pub source: [u8; 6],
    /// MAC of the client.
    pub destination: [u8; 6],
}

/// A copy of the maps.
pub struct ModelTables {
    node: NodeEntry,
    listeners: Vec<Bucket>,
    replies: Vec<Bucket>,
    peers: Vec<Bucket>,
    address_ids: Vec<Bucket>,
    addresses: Vec<Address>,
    slots: Vec<SlotLine>,
    endpoints: Vec<EndpointEntry>,
    tunnels: Vec<TunnelEntry>,
    vnets: Vec<VnetEntry>,
    policies: Vec<PolicyEntry>,
    prefixes: PrefixLists,
    regions: BTreeMap<u32, Arc<RegionList>>,
    limits: RefCell<BTreeMap<u32, u64>>,
    start: Instant,
    routes: Routes,
    carry: Cell<Carry>,
    drops: RefCell<BTreeMap<(u32, DropReason), u64>>,
    fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    tracking: Vec<TrackingEntry>,
    half_open: RefCell<BTreeMap<FlowKey, HalfOpen>>,
    affinity: RefCell<BTreeMap<AffinityKey, Affinity>>,
    flow: Cell<Option<&'static Flow>>,
    pins: [Vec<PinBucket>; 2],
    records: RefCell<BTreeMap<(bool, u32), PinRecord>>,
    clock: Option<u64>,
    delivered: Cell<Option<u32>>,
    samples: RefCell<Vec<SampleRecord>>,
}

impl ModelTables {
    /// Copies the maps as they are now.
    pub fn new(memory: &impl Memory, routes: Routes) -> Self {
        fn all<T: Words<N>, const N: usize>(memory: &impl Memory, map: MapId) -> Vec<T> {
            (0..memory.elements(map)).map(|element| memory.read(map, element)).collect()
        }
        Self {
            node: memory.read(MapId::Node, 0),
            listeners: all(memory, MapId::Listeners),
            replies: all(memory, MapId::Replies),
            peers: all(memory, MapId::Peers),
            address_ids: all(memory, MapId::AddressIds),
            addresses: all(memory, MapId::Addresses),
            slots: all(memory, MapId::Slots),
            endpoints: all(memory, MapId::Endpoints),
            tunnels: all(memory, MapId::Tunnels),
            vnets: all(memory, MapId::Vnets),
            policies: all(memory, MapId::Policies),
            prefixes: memory.prefix_lists().clone(),
            regions: BTreeMap::new(),
            limits: RefCell::default(),
            start: Instant::now(),
            routes,
            carry: Cell::default(),
            drops: RefCell::default(),
            fragments: RefCell::default(),
            tracking: all(memory, MapId::Tracking),
            half_open: RefCell::default(),
            affinity: RefCell::default(),
            flow: Cell::default(),
            pins: [MapId::PinsTcp, MapId::PinsUdp].map(|map| pins(memory, map)),
            records: RefCell::default(),
            clock: None,
            delivered: Cell::default(),
            samples: RefCell::default(),
        }
    }

    /// Copies the maps anew; what the programs alone know of stays.
    pub fn reload(&mut self, memory: &impl Memory) {
        let before = std::mem::replace(self, Self::new(memory, self.routes));
        self.clock = before.clock;
        self.regions = before.regions;
        self.half_open = before.half_open;
        self.fragments = before.fragments;
        self.limits = before.limits;
        self.drops = before.drops;
    }

    /// Writes what the packets so far pinned into maps.
    pub fn save_pins(&self, memory: &mut impl Memory) {
        for (map, buckets) in [MapId::PinsTcp, MapId::PinsUdp].into_iter().zip(&self.pins) {
            let pins = buckets.iter().flat_map(|bucket| (0..PINS_PER_BUCKET).map(|place| bucket.get(place)));
            for (place, pin) in pins.enumerate() {
                if memory.load(map, place) != pin.0 {
                    memory.store(map, place, pin.0);
                }
            }
        }
        for ((udp, place), record) in self.records.take() {
            let map = if udp { MapId::RecordsUdp } else { MapId::RecordsTcp };
            memory.write(map, place, record);
        }
    }

    /// Knows a list of regions.
    pub fn put_regions(&mut self, list: Arc<RegionList>) {
        self.regions.insert(list.id(), list);
    }

    /// Stops the clock at a time.
    pub fn set_clock(&mut self, now_ns: u64) {
        self.clock = Some(now_ns);
    }

    /// Id of the endpoint that a client's packet went to since the last question.
    pub fn delivered(&self) -> Option<u32> {
        self.delivered.take()
    }

    /// What the agent would be told of the packets since the last question, where it asks for each.
    pub fn samples(&self) -> Vec<SampleRecord> {
        self.samples.take()
    }

    /// Forgets what the packets so far left behind.
    pub fn forget_packets(&mut self) {
        self.carry.take();
        self.drops.take();
        self.fragments.take();
        self.half_open.take();
        self.affinity.take();
        self.limits.take();
    }

    /// Drops counted so far.
    pub fn drops(&self) -> BTreeMap<(u32, DropReason), u64> {
        self.drops.borrow().clone()
    }
}

fn pins(memory: &impl Memory, map: MapId) -> Vec<PinBucket> {
    let words = |bucket: u32| std::array::from_fn(|i| memory.load(map, bucket as usize * map.words() + i));
    (0..memory.elements(map)).map(|bucket| PinBucket::new(words(bucket))).collect()
}

/// An address that is given as its words.
fn ip_of<A: IpAddress>(words: [u64; 2]) -> IpAddr {
    let address = Address::from_words(words);
    let [first, ..] = address.quads();
    let v4 = Ipv4Addr::from(first.to_ne_bytes());
    if A::V6 { Ipv6Addr::from(address.0).into() } else { v4.into() }
}

impl Tables for ModelTables {
    fn node(&self) -> Option<&NodeEntry> {
        Some(&self.node)
    }

    fn listener_bucket(&self, index: u32) -> Option<&Bucket> {
        self.listeners.get(index as usize)
    }

    fn reply_bucket(&self, index: u32) -> Option<&Bucket> {
        self.replies.get(index as usize)
    }

    fn peer_bucket(&self, index: u32) -> Option<&Bucket> {
        self.peers.get(index as usize)
    }

    fn address_bucket(&self, index: u32) -> Option<&Bucket> {
        self.address_ids.get(index as usize)
    }

    fn address(&self, id: u32) -> Option<&Address> {
        self.addresses.get(id as usize)
    }

    fn slot_line(&self, index: u32) -> Option<&SlotLine> {
        self.slots.get(index as usize)
    }

    fn endpoint(&self, id: u32) -> Option<&EndpointEntry> {
        self.endpoints.get(id as usize)
    }

    fn tunnel(&self, id: u32) -> Option<&TunnelEntry> {
        self.tunnels.get(id as usize)
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

    fn tracking(&self, listener: u32) -> Option<&TrackingEntry> {
        self.tracking.get(listener as usize)
    }

    fn look_into(&self, flow: &Flow) -> Option<&Flow> {
        // A few bytes for each packet of a test that is tracked.
        let hash = flow.key.hash(&self.node.pin_seed);
        let flow: &Flow = Box::leak(Box::new(Flow { hash, now_ns: self.now_ns(), ..*flow }));
        self.flow.set(Some(flow));
        Some(flow)
    }

    fn place_flow(&self, place: Place) {
        let Some(flow) = self.flow.get() else { return };
        let listener = ListenerValue { target: place.target, ..flow.listener };
        let (tracking, tracking_before) = (place.tracking, place.before);
        self.flow.set(Some(Box::leak(Box::new(Flow { listener, tracking, tracking_before, ..*flow }))));
    }

    fn looked_into(&self) -> Option<&Flow> {
        self.flow.get()
    }

    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen> {
        self.half_open.borrow().get(flow).copied()
    }

    fn set_half_open(&self, flow: &FlowKey, half: HalfOpen) {
        self.half_open.borrow_mut().insert(*flow, half);
    }

    fn affinity(&self, source: &AffinityKey) -> Option<Affinity> {
        self.affinity.borrow().get(source).copied()
    }

    fn set_affinity(&self, source: &AffinityKey, affinity: Affinity) {
        self.affinity.borrow_mut().insert(*source, affinity);
    }

    fn pin_bucket(&self, udp: bool, index: u32) -> Option<&PinBucket> {
        let [tcp, of_udp] = &self.pins;
        if udp { of_udp } else { tcp }.get(index as usize)
    }

    fn set_pin_record(&self, udp: bool, place: u32, record: PinRecord) {
        self.records.borrow_mut().insert((udp, place), record);
    }

    fn may_pin(&self) -> bool {
        true
    }

    fn count_flow(&self, _: Event) {}

    fn samples(&self) -> bool {
        true
    }

    fn tell_sample(&self, fill: impl FnOnce(&mut SampleRecord)) {
        let mut record = SampleRecord::default();
        fill(&mut record);
        self.samples.borrow_mut().push(record);
    }

    fn is_asked<A: IpAddress>(&self, _: A, _: A, _: Ports) -> bool {
        false
    }

    fn remember(&self, key: &FragmentKey, first: FragmentValue) {
        self.fragments.borrow_mut().insert(*key, first);
    }

    fn recall(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.fragments.borrow().get(key).copied()
    }

    fn vnet(&self, id: u32) -> Option<&VnetEntry> {
        self.vnets.get(id as usize)
    }

    fn policy(&self, listener: u32) -> Option<&PolicyEntry> {
        self.policies.get(listener as usize)
    }

    fn verdict<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        let address = ip_of::<A>(address);
        let list = self.prefixes.get(&list)?;
        // Every one is asked, which is another way than the kernel's.
        let matching = list.iter().filter(|(prefix, _)| Prefix::around(address, prefix.length()) == **prefix);
        matching.max_by_key(|(prefix, _)| prefix.length()).map(|(_, verdict)| *verdict)
    }

    fn region<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        self.regions.get(&list)?.find(ip_of::<A>(address)).map(|(_, region)| region)
    }

    fn limit(&self, index: u32) -> Option<u64> {
        Some(self.limits.borrow().get(&index).copied().unwrap_or(0))
    }

    fn set_limit(&self, index: u32, bucket: u64) {
        self.limits.borrow_mut().insert(index, bucket);
    }

    fn now_ns(&self) -> u64 {
        if let Some(now_ns) = self.clock {
            return now_ns;
        }
        // The first packet does not come at the time that an unused bucket has.
        1 + u64::try_from(self.start.elapsed().as_nanos()).expect("tests take less than 584 years")
    }

    fn route<A: IpAddress>(&self, query: &RouteQuery<A>) -> Route {
        let [first, second, third, last] = query.destination.quads().map(u32::to_ne_bytes);
        // The subnets of the public device. All hosts but the client are alike, so one number stands for most of
        // the many that a subnet of IPv6 has; no address of those is for broadcasts.
        let number =
            if let (false, [192, 0, 2, number], ..)
            | (true, [0x20, 0x01, 0x0d, 0xb8], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, number @ (1 | 2)]) =
                (A::V6, first, second, third, last)
            {
                number
            } else if let (true, [0x20, 0x01, 0x0d, 0xb8], [0, 2, 0, 0]) = (A::V6, first, second) {
                3
            } else {
                return Route::Unreachable;
            };
        let Routes { ifindex, source, destination } = self.routes;
        match number {
            // Its own and, of IPv4, its broadcast address. The lowest one is an address like any other since
            // Linux 5.14 (58fee5fc8365, "Merge branch 'ipv4-unicast'").
            1 | 255 => Route::Unreachable,
            _ if query.length > 1500 => Route::TooBig { mtu: 1500 },
            2 => Route::Direct { ifindex, source, destination },
            _ => Route::ByHost,
        }
    }

    fn count(&self, of: Counted, direction: Direction, _: u64) {
        if let Direction::In { .. } = direction {
            self.delivered.set(Some(of.endpoint));
        }
    }

    fn count_drop(&self, vnet: u32, reason: u8) {
        let reason = DropReason::from_number(reason).expect("reasons have numbers that there are");
        *self.drops.borrow_mut().entry((vnet, reason)).or_default() += 1;
    }
}
