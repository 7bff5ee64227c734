//! Sockets of the host.

use aya_ebpf::{
    bindings::{
        BPF_F_CURRENT_NETNS, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2, xdp_md,
    },
    helpers::{bpf_sk_lookup_udp, bpf_sk_release},
};
use lbx_common::{abi::PROBE_MARK, ip::IpAddress, transport::Ports};

/// Whether the socket that the kernel would give a datagram to is the health checker's, by its mark.
#[inline(always)]
pub fn is_asked<A: IpAddress>(ctx: *mut xdp_md, source: A, destination: A, ports: Ports) -> bool {
    let (sport, dport) = (ports.source.0, ports.destination.0);
    let (source, destination) = (source.quads(), destination.quads());
    let (addresses, size) = if A::V6 {
        let (saddr, daddr) = (source, destination);
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr, daddr, sport, dport };
        (bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of_val(&ipv6))
    } else {
        let ([saddr, ..], [daddr, ..]) = (source, destination);
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr, daddr, sport, dport };
        (bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of_val(&ipv4))
    };
    let mut tuple = bpf_sock_tuple { __bindgen_anon_1: addresses };
    #[expect(clippy::cast_possible_truncation, reason = "12 or 36")]
    let size = size as u32;
    let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
    // SAFETY: the context is the program's own, and the tuple has `size` bytes. What the helper gives is null or a
    // socket that stays until it is released, which happens once and after the last look at it.
    unsafe {
        let socket = bpf_sk_lookup_udp(ctx.cast(), &raw mut tuple, size, netns, 0);
        if socket.is_null() {
            return false;
        }
        let mark = (*socket).mark;
        bpf_sk_release(socket.cast());
        mark == PROBE_MARK
    }
}
