//! One function a program: context in, action code out.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lbx_common::{
    abi::PROBE_MARK,
    pipeline::{self, Roles},
    reason::{DropReason, Verdict},
    tables::Tables,
};

use crate::{context::XdpPacket, tables::KernelTables};

/// Interfaces where clients' packets arrive.
#[xdp(frags)]
pub fn lbx_public(ctx: XdpContext) -> u32 {
    ingress(ctx, Roles { public: true, underlay: false })
}

/// Interfaces where gateways' packets arrive.
#[xdp(frags)]
pub fn lbx_underlay(ctx: XdpContext) -> u32 {
    ingress(ctx, Roles { public: false, underlay: true })
}

/// Interfaces where both arrive.
#[xdp(frags)]
pub fn lbx_both(ctx: XdpContext) -> u32 {
    ingress(ctx, Roles { public: true, underlay: true })
}

/// `lbx1`: what came out of `lbx0`, health checks on their way to an endpoint.
#[xdp(frags)]
pub fn lbx_probe(ctx: XdpContext) -> u32 {
    let tables = KernelTables::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let verdict = pipeline::probe(&mut XdpPacket::new(ctx), &tables);
    action(verdict, ifindex, &tables)
}

/// `lbx0`: passes all. A veth delivers redirected frames only where its end has a native program.
#[xdp(frags)]
pub fn lbx_pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
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

#[inline(always)]
fn ingress(ctx: XdpContext, roles: Roles) -> u32 {
    let tables = KernelTables::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let verdict = pipeline::ingress(&mut XdpPacket::new(ctx), &tables, roles);
    action(verdict, ifindex, &tables)
}

#[inline(always)]
fn action(verdict: Verdict, ingress: u32, tables: &KernelTables) -> u32 {
    let egress = match verdict {
        Verdict::Pass => return xdp_action::XDP_PASS,
        Verdict::Drop { .. } => return xdp_action::XDP_DROP,
        Verdict::Transmit { ifindex } => ifindex,
        Verdict::ToHost => match tables.node() {
            Some(node) => node.lbx1,
            None => return xdp_action::XDP_DROP,
        },
    };
    if egress == ingress {
        return xdp_action::XDP_TX;
    }
    // SAFETY: the helper takes any number and answers XDP_ABORTED where it does not like it.
    (unsafe { bpf_redirect(egress, 0) }) as u32
}
