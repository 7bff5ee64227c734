//! Tunnel packets, built and taken apart by hand and with `etherparse`: an account of page 2.5 of the design
//! that shares nothing with lbx's own encoder.
//!
//! | file | owns |
//! |---|---|
//! | `encap.rs` | the five kinds, their ports and lengths |
//! | `outer.rs` | outer IP and UDP headers, both families |
//! | `shim.rs` | what stands between those and the inner packet: GRE, VXLAN, Geneve, inner Ethernet |
//! | `send.rs` | putting a whole packet on the wire |

mod encap;
mod outer;
mod send;
mod shim;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use etherparse::{EtherType, Ethernet2Slice};

pub use self::{
    encap::{ENCAPSULATION_LIMIT_BYTES, Encap},
    outer::{Carrier, Outer, OuterUdp},
    send::{open_sender, send},
    shim::{Refused, Shim},
};
use crate::family::Family;

/// Inner MAC of lbx's end of a tunnel with Ethernet inside.
pub const LBX_INNER_MAC: &str = "02:6c:62:78:00:01";
/// Inner MAC of the gateway's end, unless configured: the MAC of the gateway's device.
pub const GATEWAY_INNER_MAC: &str = "02:6c:62:78:00:02";

/// RFC 2473 §4.1.1, as Linux sets it by default (`IPV6_DEFAULT_TNL_ENCAP_LIMIT`).
const DEFAULT_ENCAPSULATION_LIMIT: u8 = 4;

/// What stock Linux devices may add to a packet. lbx sends none of it, and must understand all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// GRE checksum (RFC 2784 §2.2); a wrong one is an error.
    pub gre_checksum: bool,
    /// GRE sequence number (RFC 2890 §2.2).
    pub gre_sequence: Option<u32>,
    /// The tunnel encapsulation limit in a destination-options header behind the outer IPv6 header
    /// (RFC 2473 §4.1.1).
    pub encapsulation_limit: Option<u8>,
}

/// The outer headers of a tunnel packet, and what is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPacket {
    /// How it is wrapped.
    pub encap: Encap,
    /// The outer IP header.
    pub outer: Outer,
    /// The outer UDP header, where there is one.
    pub udp: Option<OuterUdp>,
    /// Key or VNI.
    pub key: u32,
    /// What is there beyond the plain form.
    pub extras: Extras,
    /// Destination and source MAC of the inner frame, where there is one.
    pub inner_macs: Option<([u8; 6], [u8; 6])>,
    /// Type of what is inside: 0x0800 or 0x86dd; in Ethernet it may be another, such as ARP.
    pub protocol: u16,
    /// The inner packet.
    pub inner: Vec<u8>,
}

impl TunnelPacket {
    /// A packet of lbx to a gateway: the plain form, UDP checksum 0.
    pub fn plain(encap: Encap, from: IpAddr, to: IpAddr, key: u32, inner: &[u8]) -> Result<Self> {
        let family = Family::of(from);
        ensure!(family == Family::of(to), "a tunnel from {from} to {to}: addresses of two families");
        let protocol = Family::of_packet(inner).context("the inner packet is neither IPv4 nor IPv6")?;
        let udp =
            encap.udp_port().map(|destination| OuterUdp { source: 50_000, destination, checksummed: false });
        Ok(Self {
            encap,
            outer: Outer {
                source: from,
                destination: to,
                ttl: 64,
                tos: 0,
                dont_fragment: (family == Family::V4).then_some(true),
                packet_bytes: encap.overhead_bytes(family) + inner.len(),
            },
            udp,
            key,
            extras: Extras::default(),
            inner_macs: encap.has_ethernet().then_some((mac(GATEWAY_INNER_MAC)?, mac(LBX_INNER_MAC)?)),
            protocol: protocol.ethertype(),
            inner: inner.to_vec(),
        })
    }

    /// A packet of a gateway to lbx, in the form of a stock Linux device with a key and nothing else configured.
    pub fn stock(encap: Encap, from: IpAddr, to: IpAddr, key: u32, inner: &[u8]) -> Result<Self> {
        let mut packet = Self::plain(encap, from, to, key, inner)?;
        packet.inner_macs = packet.inner_macs.map(|(gateway, lbx)| (lbx, gateway));
        let over_ipv6 = Family::of(from) == Family::V6;
        if let Some(udp) = &mut packet.udp {
            // fou and geneve devices compute it over IPv4 only when told to, vxlan devices always.
            udp.checksummed = over_ipv6 || encap == Encap::Vxlan;
        }
        if over_ipv6 && encap.has_gre() {
            packet = packet.with_encapsulation_limit(DEFAULT_ENCAPSULATION_LIMIT);
        }
        Ok(packet)
    }

    /// The same with a GRE sequence number (`oseq`).
    #[must_use]
    pub fn with_gre_sequence(mut self, number: u32) -> Self {
        self.extras.gre_sequence = Some(number);
        self.outer.packet_bytes += 4;
        self
    }

    /// The same with a GRE checksum (`ocsum`).
    #[must_use]
    pub fn with_gre_checksum(mut self) -> Self {
        self.extras.gre_checksum = true;
        self.outer.packet_bytes += 4;
        self
    }

    /// The same with a tunnel encapsulation limit (`encaplimit`); only over IPv6.
    #[must_use]
    pub fn with_encapsulation_limit(mut self, limit: u8) -> Self {
        self.extras.encapsulation_limit = Some(limit);
        self.outer.packet_bytes += ENCAPSULATION_LIMIT_BYTES;
        self
    }

    /// The same with or without an outer UDP checksum (`udpcsum`, `udp6zerocsumtx`).
    #[must_use]
    pub fn with_udp_checksum(mut self, checksummed: bool) -> Self {
        if let Some(udp) = &mut self.udp {
            udp.checksummed = checksummed;
        }
        self
    }

    /// The whole outer IP packet. Lengths and checksums are computed; [`Outer::packet_bytes`] is not looked at.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let shim = Shim {
            encap: self.encap,
            key: Some(self.key),
            gre_checksum: self.extras.gre_checksum,
            gre_sequence: self.extras.gre_sequence,
            macs: self.inner_macs,
            protocol: self.protocol,
            inner: &self.inner,
        };
        outer::write(&self.outer, self.extras.encapsulation_limit, self.udp, &shim.to_bytes()?)
    }
}

/// Takes a frame apart as a tunnel packet; an error says what is not as the documents have it. `Ok(None)` =
/// it is none, or a fragment of one (see [`is_fragment`]).
pub fn unwrap(frame: &[u8]) -> Result<Option<TunnelPacket>> {
    match ip_packet(frame) {
        Some(packet) => unwrap_ip(packet),
        None => Ok(None),
    }
}

/// The same without Ethernet in front.
pub fn unwrap_ip(packet: &[u8]) -> Result<Option<TunnelPacket>> {
    let Some(opened) = outer::read(packet)? else { return Ok(None) };
    let shim = Shim::read(opened.carrier, opened.payload)
        .map_err(|refused| anyhow::anyhow!("{refused}: {:02x?}", opened.payload))?;
    Ok(Some(TunnelPacket {
        encap: shim.encap,
        outer: opened.outer,
        udp: opened.udp,
        key: shim.key.context("a GRE header without a key")?,
        extras: Extras {
            gre_checksum: shim.gre_checksum,
            gre_sequence: shim.gre_sequence,
            encapsulation_limit: opened.encapsulation_limit,
        },
        inner_macs: shim.macs,
        protocol: shim.protocol,
        inner: shim.inner.to_vec(),
    }))
}

/// Whether a frame is a fragment of an IP packet.
pub fn is_fragment(frame: &[u8]) -> bool {
    ip_packet(frame).is_some_and(outer::is_fragment)
}

/// The outer IP packet of a stock gateway around `inner`.
pub fn wrap(
    encap: Encap,
    from: impl Into<IpAddr>,
    to: impl Into<IpAddr>,
    key: u32,
    inner: &[u8],
) -> Result<Vec<u8>> {
    TunnelPacket::stock(encap, from.into(), to.into(), key, inner)?.to_bytes()
}

/// The bytes of a MAC address written `02:…`.
pub fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().with_context(|| format!("{text} is no MAC address"))
}

/// What is in an untagged Ethernet frame, where that is IP.
fn ip_packet(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let is_ip = [EtherType::IPV4, EtherType::IPV6].contains(&ethernet.ether_type());
    is_ip.then(|| ethernet.payload_slice())
}
