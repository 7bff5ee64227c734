//! What holds for every frame: what passes is untouched, what is dropped is counted once and with its reason, and
//! what is sent is a packet that others can read, from an address that may be seen there.

#![expect(clippy::indexing_slicing, reason = "a fuzz target fails by panicking")]

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{
    EtherType, IpSlice, Ipv4HeaderSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords,
};
use lbx_common::reason::Verdict;

use crate::{
    family::Family,
    lab::{HostOutcome, HostPipeline, On},
    packets::length_of,
    tunnel::{self, TunnelPacket},
    world::{Mode, Network, endpoints, lbx},
};

/// Runs the pipeline over a frame; panics when the outcome is not sound.
pub fn check(lab: &HostPipeline, on: On, frame: &[u8]) -> HostOutcome {
    let before: u64 = lab.drops().values().sum();
    let found = lab.run(on, frame);
    let drops = lab.drops();
    let counted = drops.values().sum::<u64>() - before;
    if let Err(error) = is_sound(on, frame, &found, counted) {
        panic!("on {on:?}: {error:#}\nframe {frame:02x?}\nbecame {found:02x?}\ndrops {drops:?}");
    }
    found
}

fn is_sound(on: On, frame: &[u8], found: &HostOutcome, counted: u64) -> Result<()> {
    let sent = &found.outcome.frame;
    match found.verdict {
        Verdict::Pass => {
            ensure!(sent == frame, "passed and changed");
            ensure!(counted == 0, "passed and counted as dropped");
            Ok(())
        }
        Verdict::Drop { .. } => {
            ensure!(counted == 1, "dropped and counted {counted} times");
            Ok(())
        }
        Verdict::Continue(_) => bail!("no verdict"),
        // What refuses a packet is sent for one that is dropped, back or into the tunnel it came by.
        Verdict::Back | Verdict::Transmit { .. } | Verdict::ToHost => {
            ensure!(counted <= 1, "sent and counted {counted} times");
            if found.verdict == Verdict::Back {
                ensure!(sent[..12] == [&frame[6..12], &frame[..6]].concat(), "back to another MAC");
            }
            may_leave(on, frame, found)
        }
    }
}

/// Whether a frame may leave.
fn may_leave(on: On, frame: &[u8], found: &HostOutcome) -> Result<()> {
    let came = came(frame);
    let packet = ip_of(&found.outcome.frame).context("no IP packet")?;
    if let Some(opened) = opened(packet)? {
        return readable(&opened.inner, &came).context("inside");
    }
    readable(packet, &came)?;
    let (source, destination) = ends(packet).context("no addresses")?;
    // What goes back goes to whoever the sender says that it is.
    if found.verdict != Verdict::Back && probe_sources().contains(&destination) {
        ensure!(matches!(on, On::Underlay | On::Both), "to a health checker from outside");
        return Ok(());
    }
    ensure!(!is_private(source), "from the private address {source}");
    Ok(())
}

/// What a packet was made of.
enum Came {
    /// It was in a tunnel, or in none.
    Packet(Vec<u8>),
    /// In a tunnel packet with something wrong in it that lbx need not look at, such as a checksum.
    Unreadable,
}

fn came(frame: &[u8]) -> Came {
    let Some(packet) = ip_of(frame) else { return Came::Unreadable };
    match opened(packet) {
        Ok(Some(opened)) => Came::Packet(opened.inner),
        Ok(None) => Came::Packet(packet.to_vec()),
        Err(_) => Came::Unreadable,
    }
}

/// What is in a tunnel packet of the world's; `Ok(None)` = the packet does not go between lbx and a gateway.
fn opened(packet: &[u8]) -> Result<Option<TunnelPacket>> {
    let ends = ends(packet);
    let between = |network: &Network| {
        let (lbx, gateway) = (lbx(network.outer), network.remote());
        ends == Some((lbx, gateway)) || ends == Some((gateway, lbx))
    };
    if !Network::all().iter().any(between) {
        return Ok(None);
    }
    let opened = tunnel::unwrap_ip(packet)?.context("no tunnel packet")?;
    let of_network = |network: &Network| (network.encap, network.vni()) == (opened.encap, opened.key);
    ensure!(Network::all().iter().any(of_network), "in a tunnel that is not there");
    Ok(Some(opened))
}

/// Source and destination of a packet.
fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match Family::of_packet(packet)? {
        Family::V4 => {
            let at = |place: usize| packet.get(place..)?.first_chunk::<4>().map(|octets| (*octets).into());
            Some((at(12)?, at(16)?))
        }
        Family::V6 => {
            let at = |place: usize| packet.get(place..)?.first_chunk::<16>().map(|octets| (*octets).into());
            Some((at(8)?, at(24)?))
        }
    }
}

/// The IP packet of an untagged or tagged frame, without what follows it.
pub fn ip_of(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        let kind = EtherType(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        match kind {
            EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING => at += 4,
            EtherType::IPV4 | EtherType::IPV6 => {
                let packet = frame.get(at + 2..).filter(|packet| packet.len() >= 6)?;
                return packet.get(..length_of(packet).min(packet.len()));
            }
            _ => return None,
        }
    }
}

/// Whether headers and checksums are right, those at least that were right in the packet it was made of.
fn readable(packet: &[u8], came: &Came) -> Result<()> {
    let Came::Packet(came) = came else { return Ok(()) };
    if IpSlice::from_slice(came).is_ok() {
        IpSlice::from_slice(packet).context("made unreadable")?;
    }
    if header_is_right(came) {
        ensure!(header_is_right(packet), "the header checksum is wrong");
    }
    if checksum_is_right(came) != Some(false) {
        ensure!(checksum_is_right(packet) != Some(false), "a checksum was made wrong");
    }
    Ok(())
}

fn header_is_right(packet: &[u8]) -> bool {
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else { return true };
    header.header_checksum() == header.to_header().calc_header_checksum()
}

/// Whether the checksum of layer 4 is right; `None` where there is none to tell by.
fn checksum_is_right(packet: &[u8]) -> Option<bool> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let ip = IpSlice::from_slice(packet).ok()?;
    if ip.payload().fragmented {
        return None;
    }
    match (sliced.transport?, ip.source_addr(), ip.destination_addr()) {
        (TransportSlice::Tcp(tcp), IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(tcp.calc_checksum_ipv4(from.octets(), to.octets()).ok()? == tcp.checksum())
        }
        (TransportSlice::Tcp(tcp), IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(tcp.calc_checksum_ipv6(from.octets(), to.octets()).ok()? == tcp.checksum())
        }
        (TransportSlice::Udp(udp), from, to) => {
            let header = udp.to_header();
            let right = match (from, to) {
                _ if header.checksum == 0 => return None,
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())
                }
                _ => return None,
            };
            Some(right.ok()? == header.checksum)
        }
        // The slice's own sum leaves out the bytes of a header that mean nothing.
        (TransportSlice::Icmpv4(icmp), ..) => {
            Some(Sum16BitWords::new().add_slice(icmp.slice()).ones_complement() == 0)
        }
        (TransportSlice::Icmpv6(icmp), IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(icmp.is_checksum_valid(from.octets(), to.octets()))
        }
        _ => None,
    }
}

/// Whether nobody outside may see an address.
fn is_private(address: IpAddr) -> bool {
    let family = Family::of(address);
    probe_sources().contains(&address)
        || Mode::ALL
            .into_iter()
            .filter(|mode| *mode != Mode::Dsr)
            .any(|mode| endpoints(family, mode).contains(&address))
}

pub fn probe_sources() -> Vec<IpAddr> {
    let networks = Network::all().into_iter();
    networks.flat_map(|network| Family::ALL.map(|family| network.probe_source(family))).collect()
}
