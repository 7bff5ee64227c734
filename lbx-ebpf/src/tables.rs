//! The pipeline's questions, answered by maps and helpers: one look-up a method.

use core::mem;

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as FibLookup, xdp_md,
    },
    helpers::bpf_fib_lookup,
    programs::XdpContext,
};
use lbx_common::{
    abi::{Bucket, EndpointEntry, NodeEntry, SlotLine, TrafficCounter, TunnelEntry, VnetEntry, drop_index},
    reason::DropReason,
    tables::{Direction, Route, RouteQuery, Tables},
};

use crate::maps;

/// Address family of `bpf_fib_lookup`.
const AF_INET: u8 = 2;

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

    /// Counts a packet that is dropped before it belongs to any network.
    #[inline(always)]
    pub fn count_drop_of_host(reason: DropReason) {
        count_drop(0, reason);
    }
}

#[inline(always)]
fn count_drop(vnet: u32, reason: DropReason) {
    if let Some(counter) = maps::drops(drop_index(vnet, reason as u8)) {
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
    fn vnet(&self, id: u32) -> Option<&VnetEntry> {
        maps::vnet(id)
    }

    /// Asks the kernel's FIB as if the packet had arrived on `lbx0`, the only device whose forwarding is on.
    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        let Some(node) = maps::node() else { return Route::Unreachable };
        // SAFETY: a struct of numbers and unions of numbers; all-zero is a value.
        let mut fib: FibLookup = unsafe { mem::zeroed() };
        fib.family = AF_INET;
        fib.l4_protocol = query.protocol;
        fib.ifindex = node.lbx0;
        fib.__bindgen_anon_1.tot_len = query.length;
        fib.__bindgen_anon_2.tos = query.tos;
        fib.__bindgen_anon_3.ipv4_src = query.source.0;
        fib.__bindgen_anon_4.ipv4_dst = query.destination.0;
        // SAFETY: the context is valid while the program runs, and the size is that of the struct.
        let result =
            unsafe { bpf_fib_lookup(self.ctx.cast(), &raw mut fib, mem::size_of::<FibLookup>() as i32, 0) };
        match u32::try_from(result) {
            Ok(BPF_FIB_LKUP_RET_SUCCESS) => {
                Route::Direct { ifindex: fib.ifindex, source: fib.smac, destination: fib.dmac }
            }
            Ok(BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED) => Route::ByHost,
            _ => Route::Unreachable,
        }
    }

    #[inline(always)]
    fn count_listener(&self, id: u32, direction: Direction, bytes: u64) {
        count(maps::listener_traffic(id), direction, bytes);
    }

    #[inline(always)]
    fn count_endpoint(&self, id: u32, direction: Direction, bytes: u64) {
        count(maps::endpoint_traffic(id), direction, bytes);
    }

    #[inline(always)]
    fn count_drop(&self, vnet: u32, reason: DropReason) {
        count_drop(vnet, reason);
    }
}
