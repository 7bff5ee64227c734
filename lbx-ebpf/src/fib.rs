//! The way to a client: known from the packets before, or asked of the kernel's FIB.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as FibLookup, xdp_md,
    },
    helpers::{bpf_fib_lookup, bpf_jiffies64},
};
use lbx_common::{
    ip::IpAddress,
    routes::KnownRoute,
    tables::{Route, RouteQuery},
};

use crate::maps;

/// Address families of `bpf_fib_lookup`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A question, and how the kernel wants it. Not on the stack, where it would take a quarter of what there is.
#[repr(C)]
pub struct Asking {
    fib: FibLookup,
    /// How many times the kernel was asked: a test looks.
    asked: u64,
    question: KnownRoute,
}

/// The way of a packet.
#[inline(always)]
pub fn route<A: IpAddress>(ctx: *mut xdp_md, query: &RouteQuery<A>) -> Route {
    let Some(asking) = maps::asking() else { return Route::Unreachable };
    // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other.
    let asking = unsafe { &mut *asking };
    asking.question.ask(query);
    let answer = find(ctx, asking);
    match (answer >> 16) as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => asking.question.route(),
        BPF_FIB_LKUP_RET_NO_NEIGH => Route::ByHost,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Route::TooBig { mtu: answer as u16 },
        _ => Route::Unreachable,
    }
}

/// Finds the answer to a question. Returns what `bpf_fib_lookup` does, and below it the MTU of the way.
///
/// A function of its own, because its callers have no stack left.
#[inline(never)]
fn find(ctx: *mut xdp_md, asking: &mut Asking) -> u64 {
    let question = &mut asking.question;
    // Before the kernel is asked: what changes after that must make the answer void.
    let term = maps::route_term();
    question.generation = term.generation();
    question.asked = ticks();
    let Some(node) = maps::node() else { return u64::MAX };
    let Some(known) = maps::known_route(question.hash(&node.seed)) else { return u64::MAX };
    // SAFETY: as above.
    let known = unsafe { &mut *known };
    if known.answers(question, term.ticks()) {
        question.ifindex = known.ifindex;
        question.macs = known.macs;
        return u64::from(BPF_FIB_LKUP_RET_SUCCESS) << 16;
    }
    let answer = ask(ctx, asking, node.lbx0);
    if answer >> 16 == u64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        *known = asking.question;
    }
    answer
}

/// Asks the kernel's FIB as if the packet had arrived on `lbx0`, the only device whose forwarding is on.
#[inline(always)]
fn ask(ctx: *mut xdp_md, asking: &mut Asking, lbx0: u32) -> u64 {
    let Asking { fib, asked, question } = asking;
    *asked = asked.wrapping_add(1);
    // SAFETY: a struct of numbers and unions of numbers; all-zero is a value.
    unsafe { ptr::write_bytes(&raw mut *fib, 0, 1) };
    fib.l4_protocol = question.protocol;
    fib.ifindex = lbx0;
    fib.__bindgen_anon_1.tot_len = question.mtu;
    if question.family == 6 {
        fib.family = AF_INET6;
        fib.__bindgen_anon_2.flowinfo = (u32::from(question.tos) << 20).to_be();
        let Some(source) = maps::address(question.source) else { return u64::MAX };
        fib.__bindgen_anon_3.ipv6_src = halves(source.words());
        fib.__bindgen_anon_4.ipv6_dst = halves(question.destination);
    } else {
        fib.family = AF_INET;
        fib.__bindgen_anon_2.tos = question.tos;
        fib.__bindgen_anon_3.ipv4_src = question.source;
        fib.__bindgen_anon_4.ipv4_dst = question.destination[0] as u32;
    }
    let place = &raw mut *fib;
    // SAFETY: the context is valid while the program runs, and the size is that of the struct.
    let result = unsafe { bpf_fib_lookup(ctx.cast(), place, mem::size_of::<FibLookup>() as i32, 0) };
    // SAFETY: of the union the helper writes this member, the MTU of the way, where it finds one; before Linux 5.12 it
    // leaves the packet's length there where that fits, and the answer is true for that as well.
    question.mtu = unsafe { fib.__bindgen_anon_1.mtu_result };
    question.ifindex = fib.ifindex;
    question.macs = [fib.smac, fib.dmac];
    (result as u64) << 16 | u64::from(question.mtu)
}

/// The kernel's ticks since it began to count.
#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: the helper takes nothing and reads a number.
    unsafe { bpf_jiffies64() }
}

/// The half words of words, in memory order.
#[inline(always)]
const fn halves([first, second]: [u64; 2]) -> [u32; 4] {
    [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32]
}
