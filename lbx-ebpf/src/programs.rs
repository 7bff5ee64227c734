//! One function a program: context in, action code out.
//!
//! Each is inlined into the entry that the macro makes around it. Of a large one the compiler would else make a function
//! of its own: one more call for each packet, and a frame on the stack that the budgets do not see.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lbx_common::{
    abi::PROBE_MARK,
    pipeline::{self, PUBLIC, UNDERLAY},
    reason::{DropReason, Packed, Stage},
    tables::Tables,
};

use crate::{context::XdpPacket, maps, tables::KernelTables};

/// Interfaces where clients' packets arrive.
#[xdp(frags)]
#[inline(always)]
pub fn lbx_public(ctx: XdpContext) -> u32 {
    ingress(ctx, PUBLIC)
}

/// Interfaces where gateways' packets arrive.
#[xdp(frags)]
#[inline(always)]
pub fn lbx_underlay(ctx: XdpContext) -> u32 {
    ingress(ctx, UNDERLAY)
}

/// Interfaces where both arrive.
#[xdp(frags)]
#[inline(always)]
pub fn lbx_both(ctx: XdpContext) -> u32 {
    ingress(ctx, PUBLIC | UNDERLAY)
}

/// `lbx1`: what came out of `lbx0`, health checks on their way to an endpoint.
#[xdp(frags)]
#[inline(always)]
pub fn lbx_probe(ctx: XdpContext) -> u32 {
    let tables = KernelTables::new(&ctx);
    let verdict = pipeline::probe(&mut XdpPacket::new(&ctx), &tables);
    action(&ctx, verdict, &tables)
}

/// `lbx0`: what was redirected into `lbx1`. A veth delivers such frames only where its other end has a native program.
#[xdp(frags)]
#[inline(always)]
pub fn lbx_arrival(ctx: XdpContext) -> u32 {
    let tables = KernelTables::new(&ctx);
    let verdict = pipeline::arrival(&mut XdpPacket::new(&ctx), &tables);
    action(&ctx, verdict, &tables)
}

/// Egress of `lbx0`: only the agent's health checks may pass, so that nobody else on the host reaches a
/// private network.
#[classifier]
pub fn lbx_guard(ctx: TcContext) -> i32 {
    // SAFETY: the kernel hands a valid context to the program; `mark` is readable in TC programs.
    if unsafe { (*ctx.skb.skb).mark } == PROBE_MARK {
        return TC_ACT_OK;
    }
    KernelTables::count_drop_of_host(DropReason::ProbeUnmarked);
    TC_ACT_SHOT
}

/// [`Stage::V4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::V4)
}

/// [`Stage::V6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::V6)
}

/// [`Stage::ReplyV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_reply_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::ReplyV4)
}

/// [`Stage::ReplyV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_reply_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::ReplyV6)
}

/// [`Stage::IcmpV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_icmp_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::IcmpV4)
}

/// [`Stage::IcmpV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_icmp_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::IcmpV6)
}

/// [`Stage::IcmpReplyV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_icmp_reply4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::IcmpReplyV4)
}

/// [`Stage::IcmpReplyV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_icmp_reply6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::IcmpReplyV6)
}

/// [`Stage::RefuseV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_refuse_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::RefuseV4)
}

/// [`Stage::RefuseV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_refuse_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::RefuseV6)
}

/// [`Stage::RelayV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_relay_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::RelayV4)
}

/// [`Stage::RelayV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_relay_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::RelayV6)
}

/// [`Stage::FragmentV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_fragment_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::FragmentV4)
}

/// [`Stage::FragmentV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_fragment_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::FragmentV6)
}

/// [`Stage::FragmentReplyV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_frag_reply4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::FragmentReplyV4)
}

/// [`Stage::FragmentReplyV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_frag_reply6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::FragmentReplyV6)
}

/// [`Stage::NeighbourV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_neighbour4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::NeighbourV4)
}

/// [`Stage::NeighbourV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_neighbour6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::NeighbourV6)
}

/// [`Stage::TrackedV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_tracked_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::TrackedV4)
}

/// [`Stage::TrackedV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_tracked_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::TrackedV6)
}

/// [`Stage::ConfirmV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_confirm_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::ConfirmV4)
}

/// [`Stage::ConfirmV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_confirm_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::ConfirmV6)
}

/// [`Stage::DeliverV4`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_deliver_v4(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::DeliverV4)
}

/// [`Stage::DeliverV6`]
#[xdp(frags)]
#[inline(always)]
pub fn lbx_deliver_v6(ctx: XdpContext) -> u32 {
    stage(ctx, Stage::DeliverV6)
}

#[inline(always)]
fn ingress(ctx: XdpContext, roles: u8) -> u32 {
    let tables = KernelTables::new(&ctx);
    let verdict = pipeline::ingress(&mut XdpPacket::new(&ctx), &tables, roles);
    action(&ctx, verdict, &tables)
}

#[inline(always)]
fn stage(ctx: XdpContext, stage: Stage) -> u32 {
    let tables = KernelTables::new(&ctx);
    let verdict = pipeline::stage(&mut XdpPacket::new(&ctx), &tables, stage);
    action(&ctx, verdict, &tables)
}

#[inline(always)]
fn action(ctx: &XdpContext, verdict: Packed, tables: &KernelTables) -> u32 {
    if let Some(stage) = verdict.next_stage() {
        maps::run(ctx, stage);
        // Only where the agent has not put the program there, which it does before it attaches any.
        KernelTables::count_drop_of_host(DropReason::Inconsistent);
        return xdp_action::XDP_DROP;
    }
    let egress = match (verdict, verdict.egress(), tables.node()) {
        (_, Some(ifindex), _) => ifindex,
        (Packed::PASS, ..) => return xdp_action::XDP_PASS,
        (Packed::BACK, ..) => return xdp_action::XDP_TX,
        (Packed::TO_HOST, _, Some(node)) => node.lbx1,
        _ => return xdp_action::XDP_DROP,
    };
    if egress == ctx.ingress_ifindex() as u32 {
        return xdp_action::XDP_TX;
    }
    // SAFETY: the helper takes any number and answers XDP_ABORTED where it does not like it.
    (unsafe { bpf_redirect(egress, 0) }) as u32
}
