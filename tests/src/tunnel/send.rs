//! Sending packets that bring their own IP header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{family::Family, netns::Netns};

/// Sends a whole IP packet from a namespace, by its routes.
pub fn send(netns: &Netns, packet: &[u8]) -> Result<()> {
    let destination = destination(packet).context("an IP header")?;
    let socket = netns.run(|| open_sender(Family::of(destination)))?;
    // The port means nothing here, and IPv6 refuses any but 0.
    let sent = socket.send_to(packet, &SocketAddr::new(destination, 0).into())?;
    if sent != packet.len() {
        bail!("only {sent} of {} bytes were sent", packet.len());
    }
    Ok(())
}

/// A socket for whole IP packets of a family. Acts in the namespace of the calling thread.
pub fn open_sender(family: Family) -> Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    // IPPROTO_RAW implies IP_HDRINCL: the packet brings its own header.
    Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        .context("cannot open a raw socket")
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match Family::of_packet(packet)? {
        Family::V4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        Family::V6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
    }
}
