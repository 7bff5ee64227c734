//! Tunnel packets, built and taken apart by hand and with `etherparse`: an account of page 2.5 of the design
//! that shares nothing with lbx's own encoder.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use etherparse::{IpNumber, Ipv4Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lbx_common::api::Encap;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    netns::Netns,
    topology::{GATEWAY_INNER_MAC, LBX_INNER_MAC, VXLAN_PORT},
};

/// The outer headers of a tunnel packet, and what is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPacket {
    /// How it is wrapped.
    pub encap: Encap,
    /// The outer IP header.
    pub outer: Ipv4Header,
    /// Source port, destination port and checksum of the outer UDP header.
    pub udp: Option<(u16, u16, u16)>,
    /// Key or VNI.
    pub key: u32,
    /// Destination and source MAC of the inner frame, where there is one.
    pub inner_macs: Option<([u8; 6], [u8; 6])>,
    /// The inner IP packet.
    pub inner: Vec<u8>,
}

/// Takes a frame apart as a tunnel packet; an error says what is not as the documents have it. `Ok(None)` =
/// it is none.
pub fn unwrap(frame: &[u8]) -> Result<Option<TunnelPacket>> {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Ok(None) };
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return Ok(None) };
    let outer = ip.header().to_header();
    let payload = ip.payload().payload;
    if outer.protocol == IpNumber::GRE {
        let (head, inner) = payload.split_at_checked(8).context("a GRE header is cut off")?;
        // RFC 2890: the key flag alone, version 0, then the type of what is inside.
        ensure!(head.starts_with(&[0x20, 0x00, 0x08, 0x00]), "GRE header {head:02x?}");
        let key = be32(head, 4)?;
        let inner = inner.to_vec();
        return Ok(Some(TunnelPacket { encap: Encap::Gre, outer, udp: None, key, inner_macs: None, inner }));
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return Ok(None) };
    if udp.destination_port() != VXLAN_PORT {
        return Ok(None);
    }
    let (head, frame) = udp.payload().split_at_checked(8).context("a VXLAN header is cut off")?;
    // RFC 7348 §5: only the I flag is set, the reserved bytes are 0.
    ensure!(head.starts_with(&[0x08, 0, 0, 0]) && head.ends_with(&[0]), "VXLAN header {head:02x?}");
    let (ethernet, inner) = frame.split_at_checked(14).context("an inner frame is cut off")?;
    ensure!(ethernet.ends_with(&[0x08, 0x00]), "inner frame {ethernet:02x?} is not IPv4");
    let mac = |at| ethernet.get(at..at + 6).and_then(|mac| mac.try_into().ok()).context("a MAC");
    Ok(Some(TunnelPacket {
        encap: Encap::Vxlan,
        outer,
        udp: Some((udp.source_port(), udp.destination_port(), udp.checksum())),
        key: be32(head, 4)? >> 8,
        inner_macs: Some((mac(0)?, mac(6)?)),
        inner: inner.to_vec(),
    }))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("four bytes")?;
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

/// An outer IPv4 packet around `inner`.
pub fn wrap(encap: Encap, from: Ipv4Addr, to: Ipv4Addr, key: u32, inner: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = (from.octets(), to.octets());
    let mut packet = Vec::new();
    let mut payload = Vec::new();
    match encap {
        Encap::Gre => {
            payload.extend([0x20, 0x00, 0x08, 0x00]);
            payload.extend(key.to_be_bytes());
            payload.extend(inner);
            Ipv4Header::new(payload.len().try_into()?, 64, IpNumber::GRE, from, to)?.write(&mut packet)?;
            packet.extend(payload);
        }
        Encap::Vxlan => {
            payload.extend([0x08, 0, 0, 0]);
            payload.extend((key << 8).to_be_bytes());
            payload.extend(mac(GATEWAY_INNER_MAC)?);
            payload.extend(mac(LBX_INNER_MAC)?);
            payload.extend([0x08, 0x00]);
            payload.extend(inner);
            PacketBuilder::ipv4(from, to, 64).udp(50_000, VXLAN_PORT).write(&mut packet, &payload)?;
        }
    }
    Ok(packet)
}

/// The bytes of a MAC address written `02:…`.
pub fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().with_context(|| format!("{text} is no MAC address"))
}

/// Sends a whole IPv4 packet from a namespace, by its routes.
pub fn send(netns: &Netns, packet: &[u8]) -> Result<()> {
    let destination = packet.get(16..20).context("an IPv4 header")?;
    let destination = Ipv4Addr::from(<[u8; 4]>::try_from(destination)?);
    let socket = netns.run(|| {
        // IPPROTO_RAW implies IP_HDRINCL: the packet brings its own header.
        Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?)
    })?;
    let sent = socket.send_to(packet, &SocketAddrV4::new(destination, 0).into())?;
    if sent != packet.len() {
        bail!("only {sent} of {} bytes were sent", packet.len());
    }
    Ok(())
}
