//! Every map of the data plane. Private to this file but for the getters.
//!
//! The sizes here are placeholders: the agent sets them from the configuration's limits when it loads the
//! object. Maps that the agent writes are mappable into its memory, which also aligns their elements to
//! cache lines.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use lbx_common::abi::{Bucket, EndpointEntry, NodeEntry, SlotLine, TrafficCounter, TunnelEntry, VnetEntry};

const MAPPED: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
static NODE: Array<NodeEntry, 1, MAPPED> = Array::new();
#[btf_map]
static LISTENERS_V4: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static REPLIES_V4: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static PEERS_V4: Array<Bucket, 1, MAPPED> = Array::new();
#[btf_map]
static SLOTS: Array<SlotLine, 1, MAPPED> = Array::new();
#[btf_map]
static ENDPOINTS: Array<EndpointEntry, 1, MAPPED> = Array::new();
#[btf_map]
static TUNNELS: Array<TunnelEntry, 1, MAPPED> = Array::new();
#[btf_map]
static VNETS: Array<VnetEntry, 1, MAPPED> = Array::new();
#[btf_map]
static LISTENER_TRAFFIC: PerCpuArray<TrafficCounter, 1> = PerCpuArray::new();
#[btf_map]
static ENDPOINT_TRAFFIC: PerCpuArray<TrafficCounter, 1> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, 1> = PerCpuArray::new();

#[inline(always)]
pub fn node() -> Option<&'static NodeEntry> {
    NODE.get(0)
}

#[inline(always)]
pub fn listener_bucket(index: u32) -> Option<&'static Bucket> {
    LISTENERS_V4.get(index)
}

#[inline(always)]
pub fn reply_bucket(index: u32) -> Option<&'static Bucket> {
    REPLIES_V4.get(index)
}

#[inline(always)]
pub fn peer_bucket(index: u32) -> Option<&'static Bucket> {
    PEERS_V4.get(index)
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

/// A drop counter on this CPU.
#[inline(always)]
pub fn drops(index: u32) -> Option<*mut u64> {
    DROPS.get_ptr_mut(index)
}
