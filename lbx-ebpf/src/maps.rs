//! Every map of the data plane but the tries, which are in `prefixes`. Private to this file but for the getters.
//!
//! The sizes here are placeholders: the agent sets them from the configuration's limits when it loads the
//! object. Maps that the agent writes are mappable into its memory, which also aligns their elements to
//! cache lines.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
    macros::btf_map,
    programs::XdpContext,
};
use lbx_common::{
    abi::{
        Affinity, AffinityKey, Bucket, EndpointEntry, FlowKey, FragmentKey, FragmentValue, HalfOpen,
        NodeEntry, PinBucket, PinRecord, PolicyEntry, SampleRecord, SlotLine, TrackingEntry, TrafficCounter,
        TunnelEntry, VnetEntry,
    },
    bytes::Address,
    pins::Flow,
    reason::Stage,
    routes::{KnownRoute, RouteTerm},
    tables::Carry,
    track::Event,
};

use crate::fib::Asking;

const MAPPED: usize = BPF_F_MMAPABLE as usize;
/// An element of a map per CPU is memory of its own, so few large ones are better than many small ones.
const ROUTES_PER_PAGE: usize = 64;
const ROUTE_PAGES: usize = 128;
/// Room for four thousand samples.
const SAMPLES_BYTES: usize = 256 << 10;

#[btf_map]
static NODE: Array<NodeEntry, 1, MAPPED> = Array::new();
#[btf_map]
static LISTENERS: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static REPLIES: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static PEERS: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static ADDRESS_IDS: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static ADDRESSES: Array<Address, 1, MAPPED> = Array::new();
#[btf_map]
static SLOTS: Array<SlotLine, 1, MAPPED> = Array::new();
#[btf_map]
static ENDPOINTS: Array<EndpointEntry, 1, MAPPED> = Array::new();
#[btf_map]
static TUNNELS: Array<TunnelEntry, 1, MAPPED> = Array::new();
#[btf_map]
static VNETS: Array<VnetEntry, 1, MAPPED> = Array::new();
#[btf_map]
static POLICIES: Array<PolicyEntry, 1, MAPPED> = Array::new();
/// Written by the programs alone, on all CPUs.
#[btf_map]
static LIMITS: Array<u64, 1> = Array::new();
#[btf_map]
static LISTENER_TRAFFIC: PerCpuArray<TrafficCounter, 1> = PerCpuArray::new();
#[btf_map]
static ENDPOINT_TRAFFIC: PerCpuArray<TrafficCounter, 1> = PerCpuArray::new();
#[btf_map]
static TUNNEL_TRAFFIC: PerCpuArray<TrafficCounter, 1> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What one stage keeps for the next, on the same CPU.
#[btf_map]
static CARRY: PerCpuArray<Carry, 1> = PerCpuArray::new();
/// A number that the verifier is to forget.
#[btf_map]
static SCRATCH: PerCpuArray<u32, 1> = PerCpuArray::new();
/// A question to the kernel's FIB.
#[btf_map]
static FIB: PerCpuArray<Asking, 1> = PerCpuArray::new();
/// Answers of it that may be used again, by hash: 64 in a page, 8192 in all. Nobody needs them longer than the programs.
#[btf_map]
static ROUTES: PerCpuArray<[KnownRoute; ROUTES_PER_PAGE], ROUTE_PAGES> = PerCpuArray::new();
/// Which of them count: the agent says, and it is not pinned either.
#[btf_map]
static ROUTE_TERM: Array<RouteTerm, 1, MAPPED> = Array::new();
/// Which way the fragments of a packet take. The oldest entries go when it is full.
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, 1> = LruHashMap::new();
/// Room for a key and a value of it. Not on the stack.
#[btf_map]
static FRAGMENT: PerCpuArray<(FragmentKey, FragmentValue), 1> = PerCpuArray::new();
/// When the next packet of lbx's own is due, and the next pin that a client's packet alone speaks for: nanoseconds
/// since boot.
#[btf_map]
static DUE: PerCpuArray<u64, 2> = PerCpuArray::new();
#[btf_map]
static TRACKING: Array<TrackingEntry, 1, MAPPED> = Array::new();
/// Pins and whose they are: written by the programs, looked after by the agent.
#[btf_map]
static PINS_TCP: Array<PinBucket, 1, MAPPED> = Array::new();
#[btf_map]
static PINS_UDP: Array<PinBucket, 1, MAPPED> = Array::new();
#[btf_map]
static RECORDS_TCP: Array<PinRecord, 1, MAPPED> = Array::new();
#[btf_map]
static RECORDS_UDP: Array<PinRecord, 1, MAPPED> = Array::new();
/// Flows that have proved nothing yet. Whoever sends many can push out nothing else.
#[btf_map]
static HALF_OPEN: LruHashMap<FlowKey, HalfOpen, 1> = LruHashMap::new();
/// Where the last flow of each source began, of services with such an affinity.
#[btf_map]
static AFFINITY: LruHashMap<AffinityKey, Affinity, 1> = LruHashMap::new();
/// What a packet says of its flow, and room for a key and a value of `HALF_OPEN`. Not on the stack.
#[btf_map]
static FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();
#[btf_map]
static HALF: PerCpuArray<(FlowKey, HalfOpen), 1> = PerCpuArray::new();
#[btf_map]
static FLOWS: PerCpuArray<u64, { Event::ALL.len() }> = PerCpuArray::new();
/// How many of 2³² packets the agent is told of: it says. Like the next two it is not pinned.
#[btf_map]
static SAMPLING: Array<u64, 1, MAPPED> = Array::new();
/// Packets that were told of.
#[btf_map]
static SAMPLES: RingBuf<SampleRecord, SAMPLES_BYTES> = RingBuf::new();
/// How many found no room there.
#[btf_map]
static SAMPLES_LOST: PerCpuArray<u64, 1> = PerCpuArray::new();
/// The programs of the stages.
#[btf_map]
static STAGES: ProgramArray<{ Stage::ALL.len() }> = ProgramArray::new();

/// The place for what is kept.
#[inline(always)]
pub fn carry() -> Option<*mut Carry> {
    CARRY.get_ptr_mut(0)
}

/// The place for a number to forget.
#[inline(always)]
pub fn scratch() -> Option<*mut u32> {
    SCRATCH.get_ptr_mut(0)
}

/// The place for a question to the FIB.
#[inline(always)]
pub fn asking() -> Option<*mut Asking> {
    FIB.get_ptr_mut(0)
}

/// The place for an answer of it.
#[inline(always)]
pub fn known_route(hash: u32) -> Option<*mut KnownRoute> {
    let page = ROUTES.get_ptr_mut(hash >> 16 & (ROUTE_PAGES as u32 - 1))?;
    // SAFETY: the place lies in the page.
    Some(unsafe { page.cast::<KnownRoute>().add(hash as usize & (ROUTES_PER_PAGE - 1)) })
}

/// Which answers count.
#[inline(always)]
pub fn route_term() -> RouteTerm {
    // SAFETY: an element is eight bytes, aligned to eight; volatile because the agent changes it meanwhile.
    ROUTE_TERM.get_ptr(0).map_or(RouteTerm(0), |term| unsafe { ptr::read_volatile(term) })
}

/// What is kept under a key.
#[inline(always)]
pub fn fragment_of(key: &FragmentKey) -> Option<FragmentValue> {
    // SAFETY: another CPU may write the entry meanwhile; a packet then goes a wrong way, as it would if another one
    // had the same identification.
    unsafe { FRAGMENTS.get(key) }.copied()
}

/// Keeps a value; where there is no room, the later fragments are dropped.
#[inline(always)]
pub fn keep_fragment(key: &FragmentKey, value: &FragmentValue) {
    let _ = FRAGMENTS.insert(key, value, 0);
}

/// The place for a key and a value of `FRAGMENTS`.
#[inline(always)]
pub fn fragment() -> Option<*mut (FragmentKey, FragmentValue)> {
    FRAGMENT.get_ptr_mut(0)
}

/// When the next packet of lbx's own is due on this CPU.
#[inline(always)]
pub fn answers() -> Option<*mut u64> {
    DUE.get_ptr_mut(0)
}

/// When the next pin by a client's packet is due on this CPU.
#[inline(always)]
pub fn proofs() -> Option<*mut u64> {
    DUE.get_ptr_mut(1)
}

#[inline(always)]
pub fn tracking(listener: u32) -> Option<&'static TrackingEntry> {
    TRACKING.get(listener)
}

/// A bucket of pins of UDP or of TCP.
#[inline(always)]
pub fn pin_bucket(udp: bool, index: u32) -> Option<&'static PinBucket> {
    if udp { PINS_UDP.get(index) } else { PINS_TCP.get(index) }
}

/// The place for whose pin it is.
#[inline(always)]
pub fn pin_record(udp: bool, place: u32) -> Option<*mut PinRecord> {
    if udp { RECORDS_UDP.get_ptr_mut(place) } else { RECORDS_TCP.get_ptr_mut(place) }
}

/// A half-open flow.
#[inline(always)]
pub fn half_open_of(key: &FlowKey) -> Option<HalfOpen> {
    // SAFETY: another CPU may write the entry meanwhile; packets of a flow are the business of one at a time.
    unsafe { HALF_OPEN.get(key) }.copied()
}

/// Remembers a half-open flow; where there is no room, its packets go where those of unknown flows go.
#[inline(always)]
pub fn keep_half_open(key: &FlowKey, value: &HalfOpen) {
    let _ = HALF_OPEN.insert(key, value, 0);
}

/// Where the last flow of a source began.
#[inline(always)]
pub fn affinity_of(key: &AffinityKey) -> Option<Affinity> {
    // SAFETY: another CPU may write the entry meanwhile; what is read then is one of two endpoints, or an older time.
    unsafe { AFFINITY.get(key) }.copied()
}

/// Remembers where a flow of a source began, where there is room.
#[inline(always)]
pub fn keep_affinity(key: &AffinityKey, value: &Affinity) {
    let _ = AFFINITY.insert(key, value, 0);
}

/// The place for a key and a value of `HALF_OPEN`.
#[inline(always)]
pub fn half() -> Option<*mut (FlowKey, HalfOpen)> {
    HALF.get_ptr_mut(0)
}

/// The place for what a packet says of its flow.
#[inline(always)]
pub fn flow() -> Option<*mut Flow> {
    FLOW.get_ptr_mut(0)
}

/// Counter of an event on this CPU.
#[inline(always)]
pub fn flows(event: Event) -> Option<*mut u64> {
    FLOWS.get_ptr_mut(event as u32)
}

/// Goes on in the program of a stage; returns only where there is none.
///
/// Where the number is a constant the kernel compiles a direct jump (`bpf_tail_call_direct_fixup` of
/// kernel/bpf/verifier.c, `emit_bpf_tail_call_direct` of arch/x86/net/bpf_jit_comp.c); else an indirect one, which
/// on a CPU with retpolines takes longer than all the rest of a packet's way. So the stages of most packets have
/// calls of their own. The number is read anew for each: a compiler that knew it would make one call of all.
#[inline(always)]
pub fn run(ctx: &XdpContext, stage: u32) {
    const OFTEN: [Stage; 8] = [
        Stage::V6,
        Stage::V4,
        Stage::ReplyV6,
        Stage::ReplyV4,
        Stage::TrackedV4,
        Stage::DeliverV4,
        Stage::TrackedV6,
        Stage::DeliverV6,
    ];
    for often in OFTEN {
        let often = often as u32;
        // SAFETY: a local variable can be read.
        if unsafe { ptr::read_volatile(&raw const stage) } == often {
            // SAFETY: what this program holds is plain data, and the program called begins anew.
            unsafe { STAGES.tail_call(ctx, often) };
        }
    }
    // SAFETY: as above.
    unsafe { STAGES.tail_call(ctx, stage) };
}

#[inline(always)]
pub fn node() -> Option<&'static NodeEntry> {
    NODE.get(0)
}

#[inline(always)]
pub fn listener_bucket(index: u32) -> Option<&'static Bucket> {
    LISTENERS.get(index)
}

#[inline(always)]
pub fn reply_bucket(index: u32) -> Option<&'static Bucket> {
    REPLIES.get(index)
}

#[inline(always)]
pub fn peer_bucket(index: u32) -> Option<&'static Bucket> {
    PEERS.get(index)
}

#[inline(always)]
pub fn address_bucket(index: u32) -> Option<&'static Bucket> {
    ADDRESS_IDS.get(index)
}

#[inline(always)]
pub fn address(id: u32) -> Option<&'static Address> {
    ADDRESSES.get(id)
}

#[inline(always)]
pub fn slot_line(index: u32) -> Option<&'static SlotLine> {
    SLOTS.get(index)
}

#[inline(always)]
pub fn endpoint(id: u32) -> Option<&'static EndpointEntry> {
    ENDPOINTS.get(id)
}

#[inline(always)]
pub fn tunnel(id: u32) -> Option<&'static TunnelEntry> {
    TUNNELS.get(id)
}

#[inline(always)]
pub fn vnet(id: u32) -> Option<&'static VnetEntry> {
    VNETS.get(id)
}

#[inline(always)]
pub fn policy(listener: u32) -> Option<&'static PolicyEntry> {
    POLICIES.get(listener)
}

/// A bucket of flows that may begin.
#[inline(always)]
pub fn limit(index: u32) -> Option<*mut u64> {
    LIMITS.get_ptr_mut(index)
}

/// How many of 2³² packets are told of.
#[inline(always)]
pub fn sampling() -> u64 {
    // SAFETY: an element is eight bytes, aligned to eight; volatile because the agent changes it meanwhile.
    SAMPLING.get_ptr(0).map_or(0, |limit| unsafe { ptr::read_volatile(limit) })
}

/// Tells of a packet where there is room.
#[inline(always)]
pub fn tell_sample(fill: impl FnOnce(&mut SampleRecord)) {
    if let Some(mut entry) = SAMPLES.reserve(0) {
        // SAFETY: the place has the size and alignment of a record, of which any bits are one.
        fill(unsafe { &mut *entry.as_mut_ptr() });
        entry.submit(0);
    } else if let Some(lost) = SAMPLES_LOST.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
        unsafe { *lost = (*lost).wrapping_add(1) };
    }
}

/// Counters of a listener on this CPU.
#[inline(always)]
pub fn listener_traffic(id: u32) -> Option<*mut TrafficCounter> {
    LISTENER_TRAFFIC.get_ptr_mut(id)
}

/// Counters of an endpoint on this CPU.
#[inline(always)]
pub fn endpoint_traffic(id: u32) -> Option<*mut TrafficCounter> {
    ENDPOINT_TRAFFIC.get_ptr_mut(id)
}

/// Counters of a tunnel on this CPU.
#[inline(always)]
pub fn tunnel_traffic(id: u32) -> Option<*mut TrafficCounter> {
    TUNNEL_TRAFFIC.get_ptr_mut(id)
}

/// A drop counter on this CPU.
#[inline(always)]
pub fn drops(index: u32) -> Option<*mut u64> {
    DROPS.get_ptr_mut(index)
}
