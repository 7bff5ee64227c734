//! The pipeline's questions, answered by maps and helpers: one look-up a method.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    programs::XdpContext,
};
use lbx_common::{
    abi::{
        Affinity, AffinityKey, Bucket, EndpointEntry, FlowKey, FragmentKey, FragmentValue, HalfOpen,
        NodeEntry, PinBucket, PinRecord, PolicyEntry, SampleRecord, SlotLine, TrackingEntry, TrafficCounter,
        TunnelEntry, VnetEntry, drop_index,
    },
    bytes::Address,
    ip::IpAddress,
    pins::Flow,
    reason::DropReason,
    region::Place,
    tables::{Carry, Counted, Direction, Route, RouteQuery, Tables},
    track::Event,
    transport::Ports,
};

use crate::{fib, maps, prefixes, sockets};

/// Answers that may be sent at once where none was for a while.
const ANSWER_BURST: u64 = 64;
/// Nanoseconds between two pins of a CPU that nothing but clients' packets speaks for, and how many may come at once.
const PROOF_INTERVAL: u64 = 100_000;
const PROOF_BURST: u64 = 10_000;
/// Time in nanoseconds for which later fragments may follow the first one: half of what receivers wait for them
/// (RFC 8200 §4.5: 60 s; Linux: 30 s), and less than identifications take to come around.
const FRAGMENT_LIFETIME: u64 = 15_000_000_000;

/// State in the kernel.
pub struct KernelTables {
    ctx: *mut xdp_md,
}

impl KernelTables {
    /// Tables for a program that runs on `ctx`.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx }
    }

    /// Whether something that may come every `interval` nanoseconds, and `burst` times at once, is due; by the generic
    /// cell rate algorithm (ITU-T I.371 Annex A). `due` has the time of the next one.
    #[inline(always)]
    fn is_due(&self, due: Option<*mut u64>, interval: u64, burst: u64) -> bool {
        let Some(due) = due else { return false };
        let now = self.now_ns();
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        let due = unsafe { &mut *due };
        if *due > now.wrapping_add(interval.wrapping_mul(burst)) {
            return false;
        }
        *due = if *due > now { *due } else { now }.wrapping_add(interval);
        true
    }

    /// Counts a packet that is dropped before it belongs to any network.
    #[inline(always)]
    pub fn count_drop_of_host(reason: DropReason) {
        count_drop(0, reason as u8);
    }
}

#[inline(always)]
fn count_drop(vnet: u32, reason: u8) {
    if let Some(counter) = maps::drops(drop_index(vnet, reason)) {
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

#[inline(always)]
fn count(counter: Option<*mut TrafficCounter>, direction: Direction, bytes: u64) {
    let Some(counter) = counter else { return };
    // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
    let counter = unsafe { &mut *counter };
    match direction {
        Direction::In { syn } => {
            counter.in_packets = counter.in_packets.wrapping_add(1);
            counter.in_bytes = counter.in_bytes.wrapping_add(bytes);
            if syn {
                counter.tcp_syns = counter.tcp_syns.wrapping_add(1);
            }
        }
        Direction::Out => {
            counter.out_packets = counter.out_packets.wrapping_add(1);
            counter.out_bytes = counter.out_bytes.wrapping_add(bytes);
        }
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn node(&self) -> Option<&NodeEntry> {
        maps::node()
    }

    #[inline(always)]
    fn listener_bucket(&self, index: u32) -> Option<&Bucket> {
        maps::listener_bucket(index)
    }

    #[inline(always)]
    fn reply_bucket(&self, index: u32) -> Option<&Bucket> {
        maps::reply_bucket(index)
    }

    #[inline(always)]
    fn peer_bucket(&self, index: u32) -> Option<&Bucket> {
        maps::peer_bucket(index)
    }

    #[inline(always)]
    fn address_bucket(&self, index: u32) -> Option<&Bucket> {
        maps::address_bucket(index)
    }

    #[inline(always)]
    fn address(&self, id: u32) -> Option<&Address> {
        maps::address(id)
    }

    #[inline(always)]
    fn slot_line(&self, index: u32) -> Option<&SlotLine> {
        maps::slot_line(index)
    }

    #[inline(always)]
    fn endpoint(&self, id: u32) -> Option<&EndpointEntry> {
        maps::endpoint(id)
    }

    #[inline(always)]
    fn tunnel(&self, id: u32) -> Option<&TunnelEntry> {
        maps::tunnel(id)
    }

    #[inline(always)]
    fn keep(&self, carry: Carry) {
        if let Some(place) = maps::carry() {
            // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
            unsafe { *place = carry };
        }
    }

    #[inline(always)]
    fn kept(&self) -> Carry {
        // SAFETY: as above.
        maps::carry().map_or(Carry::default(), |place| unsafe { *place })
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        let Some(place) = maps::scratch() else { return 0 };
        // SAFETY: the element is this CPU's own; volatile, or the compiler would see through it.
        unsafe {
            core::ptr::write_volatile(place, number);
            core::ptr::read_volatile(place)
        }
    }

    #[inline(always)]
    fn may_answer(&self) -> bool {
        maps::node()
            .is_some_and(|node| self.is_due(maps::answers(), u64::from(node.answer_interval), ANSWER_BURST))
    }

    #[inline(always)]
    fn may_pin(&self) -> bool {
        self.is_due(maps::proofs(), PROOF_INTERVAL, PROOF_BURST)
    }

    #[inline(always)]
    fn tracking(&self, listener: u32) -> Option<&TrackingEntry> {
        maps::tracking(listener)
    }

    #[inline(always)]
    fn look_into(&self, flow: &Flow) -> Option<&Flow> {
        let place = maps::flow()?;
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        let place = unsafe { &mut *place };
        // Field by field, or the compiler makes a copy on the stack first.
        place.key.client = flow.key.client;
        place.key.vip = flow.key.vip;
        place.key.ports = flow.key.ports;
        place.key.protocol = flow.key.protocol;
        place.key.v6 = flow.key.v6;
        place.numbers = flow.numbers;
        place.listener.target = flow.listener.target;
        place.listener.id = flow.listener.id;
        place.listener.flags = flow.listener.flags;
        place.listener.first_port = flow.listener.first_port;
        place.more = flow.more;
        place.flags = flow.flags;
        place.quoted = flow.quoted;
        place.sampled = flow.sampled;
        place.tracking = flow.tracking;
        place.tracking_before = flow.tracking_before;
        place.now_ns = self.now_ns();
        place.hash = place.key.hash(&maps::node()?.pin_seed);
        Some(place)
    }

    #[inline(always)]
    fn looked_into(&self) -> Option<&Flow> {
        // SAFETY: as above.
        maps::flow().map(|place| unsafe { &*place })
    }

    #[inline(always)]
    fn place_flow(&self, at: Place) {
        let Some(place) = maps::flow() else { return };
        // SAFETY: as above; nobody holds what was kept while this is said of it.
        let place = unsafe { &mut *place };
        place.listener.target = at.target;
        place.tracking = at.tracking;
        place.tracking_before = at.before;
    }

    #[inline(always)]
    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen> {
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        let place = unsafe { &mut *maps::half()? };
        place.0 = *flow;
        maps::half_open_of(&place.0)
    }

    #[inline(always)]
    fn set_half_open(&self, flow: &FlowKey, half: HalfOpen) {
        let Some(place) = maps::half() else { return };
        // SAFETY: as above.
        let place = unsafe { &mut *place };
        place.0 = *flow;
        place.1 = half;
        maps::keep_half_open(&place.0, &place.1);
    }

    #[inline(always)]
    fn affinity(&self, source: &AffinityKey) -> Option<Affinity> {
        maps::affinity_of(source)
    }

    #[inline(always)]
    fn set_affinity(&self, source: &AffinityKey, affinity: Affinity) {
        maps::keep_affinity(source, &affinity);
    }

    #[inline(always)]
    fn pin_bucket(&self, udp: bool, index: u32) -> Option<&PinBucket> {
        maps::pin_bucket(udp, index)
    }

    #[inline(always)]
    fn set_pin_record(&self, udp: bool, place: u32, record: PinRecord) {
        if let Some(place) = maps::pin_record(udp, place) {
            // SAFETY: an element is aligned to eight; who reads it meanwhile sees by the hash that it does not fit.
            unsafe { place.write(record) };
        }
    }

    #[inline(always)]
    fn count_flow(&self, event: Event) {
        if let Some(counter) = maps::flows(event) {
            // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
            unsafe { *counter = (*counter).wrapping_add(1) };
        }
    }

    #[inline(always)]
    fn remember(&self, key: &FragmentKey, first: FragmentValue) {
        let time = self.now_ns();
        let Some(place) = maps::fragment() else { return };
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        let place = unsafe { &mut *place };
        *place = (*key, FragmentValue { time, ..first });
        maps::keep_fragment(&place.0, &place.1);
    }

    #[inline(always)]
    fn recall(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: as above.
        let place = unsafe { &mut *maps::fragment()? };
        place.0 = *key;
        let first = maps::fragment_of(&place.0)?;
        let age = self.now_ns().wrapping_sub(first.time);
        (age < FRAGMENT_LIFETIME).then_some(first)
    }

    #[inline(always)]
    fn vnet(&self, id: u32) -> Option<&VnetEntry> {
        maps::vnet(id)
    }

    #[inline(always)]
    fn policy(&self, listener: u32) -> Option<&PolicyEntry> {
        maps::policy(listener)
    }

    #[inline(always)]
    fn verdict<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        prefixes::verdict::<A>(list, address)
    }

    #[inline(always)]
    fn region<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32> {
        prefixes::region::<A>(list, address)
    }

    #[inline(always)]
    fn limit(&self, index: u32) -> Option<u64> {
        // SAFETY: an element is eight bytes, aligned to eight; volatile because other CPUs change it meanwhile.
        maps::limit(index).map(|bucket| unsafe { core::ptr::read_volatile(bucket) })
    }

    #[inline(always)]
    fn set_limit(&self, index: u32, bucket: u64) {
        if let Some(place) = maps::limit(index) {
            // SAFETY: as above.
            unsafe { core::ptr::write_volatile(place, bucket) };
        }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper takes nothing and reads a clock.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn route<A: IpAddress>(&self, query: &RouteQuery<A>) -> Route {
        fib::route(self.ctx, query)
    }

    #[inline(always)]
    fn is_asked<A: IpAddress>(&self, source: A, destination: A, ports: Ports) -> bool {
        sockets::is_asked(self.ctx, source, destination, ports)
    }

    #[inline(always)]
    fn count(&self, of: Counted, direction: Direction, bytes: u64) {
        count(maps::listener_traffic(of.listener), direction, bytes);
        count(maps::endpoint_traffic(of.endpoint), direction, bytes);
        count(maps::tunnel_traffic(of.tunnel), direction, bytes);
    }

    #[inline(always)]
    fn samples(&self) -> bool {
        // SAFETY: the helper takes nothing and returns a number.
        u64::from(unsafe { bpf_get_prandom_u32() }) < maps::sampling()
    }

    #[inline(always)]
    fn tell_sample(&self, fill: impl FnOnce(&mut SampleRecord)) {
        maps::tell_sample(fill);
    }

    #[inline(always)]
    fn count_drop(&self, vnet: u32, reason: u8) {
        count_drop(vnet, reason);
    }
}
