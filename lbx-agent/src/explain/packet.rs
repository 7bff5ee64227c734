//! The packet that is explained.

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use lbx_common::api::{ExplainRequest, Family, Protocol};

/// Hops that it may go: more than lbx takes off.
const HOPS: u8 = 64;

/// Client and service are not of the same family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{from} is {}, and {to} is {}: a packet has addresses of one family", Family::of(.from.ip()), Family::of(.to.ip()))]
pub struct Mismatch {
    from: SocketAddr,
    to: SocketAddr,
}

/// A frame with the packet in it.
pub fn frame(request: &ExplainRequest) -> Result<Vec<u8>, Mismatch> {
    let &ExplainRequest { from, to, protocol, established } = request;
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), HOPS)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet.ipv6(from.ip().octets(), to.ip().octets(), HOPS)
        }
        _ => return Err(Mismatch { from, to }),
    };
    let mut frame = Vec::new();
    let written = match protocol {
        Protocol::Tcp => {
            let tcp = ip.tcp(from.port(), to.port(), 1, u16::MAX);
            let tcp = if established { tcp.ack(1) } else { tcp.syn() };
            tcp.write(&mut frame, &[])
        }
        Protocol::Udp => ip.udp(from.port(), to.port()).write(&mut frame, &[]),
    };
    // A vector takes any number of bytes, and these are few.
    debug_assert!(written.is_ok());
    Ok(frame)
}
