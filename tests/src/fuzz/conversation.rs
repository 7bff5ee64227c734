//! A packet of a client, and its mirror image from the endpoint: it must come back to the client as the mirror
//! image of what the client sent.

#![expect(clippy::indexing_slicing, reason = "a fuzz target fails by panicking")]

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpNumber, IpSlice};
use lbx_common::reason::{DropReason, Verdict};

use super::{Target, sound};
use crate::{
    lab::{HostOutcome, HostPipeline, On},
    packets::{frame, transport_at, with_ipv4},
    tunnel::{self, TunnelPacket},
};

/// Time to live of the endpoint's answer.
const TTL: u8 = 64;

pub fn check(lab: &HostPipeline, input: &[u8]) {
    for (on, request) in Target::Conversation.frames(input) {
        let there = sound::check(lab, on, request);
        let Some(packet) = answerable(&there) else { return };
        let answer = frame(&wrapped(&packet, &mirrored(&packet.inner)));
        let back = sound::check(lab, On::Underlay, &answer);
        if let Err(error) = returns(request, &packet, &back) {
            panic!(
                "{error:#}\nrequest {request:02x?}\nthere {there:02x?}\nanswer {answer:02x?}\nback {back:02x?}"
            );
        }
    }
}

/// The tunnel packet for an endpoint, where it is a whole one of TCP or UDP.
fn answerable(there: &HostOutcome) -> Option<TunnelPacket> {
    let Verdict::Transmit { .. } = there.verdict else { return None };
    let packet = tunnel::unwrap(&there.outcome.frame).ok().flatten()?;
    let ip = IpSlice::from_slice(&packet.inner).ok()?;
    let has_ports = [IpNumber::TCP, IpNumber::UDP].contains(&ip.payload_ip_number());
    (has_ports && !ip.payload().fragmented).then_some(packet)
}

/// The same packet the other way: ends exchanged, which leaves the checksum of layer 4 as it is, and fresh.
fn mirrored(packet: &[u8]) -> Vec<u8> {
    let at = transport_at(packet);
    let mut mirrored = packet.to_vec();
    let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
    let half = addresses.len() / 2;
    mirrored[addresses].rotate_left(half);
    mirrored[at..at + 4].rotate_left(2);
    if packet[0] >> 4 == 4 {
        with_ipv4(&mirrored, |header| header.time_to_live = TTL)
    } else {
        mirrored[7] = TTL;
        mirrored
    }
}

/// An answer as the gateway sends it.
fn wrapped(packet: &TunnelPacket, answer: &[u8]) -> Vec<u8> {
    let outer = &packet.outer;
    tunnel::wrap(packet.encap, outer.destination, outer.source, packet.key, answer)
        .unwrap_or_else(|error| panic!("an answer cannot be wrapped: {error:#}"))
}

/// Whether the answer reached the client as from whom it had asked, or could not for a reason of the client's.
fn returns(request: &[u8], packet: &TunnelPacket, back: &HostOutcome) -> Result<()> {
    let request = sound::ip_of(request).context("the request")?;
    let request = IpSlice::from_slice(request).context("the request")?;
    let inner = IpSlice::from_slice(&packet.inner)?;
    let segment = inner.payload().payload;
    if inner.destination_addr() == request.destination_addr() {
        // Direct return: the endpoint answers past lbx.
        return Ok(());
    }
    if sound::probe_sources().contains(&request.source_addr()) {
        // Forged: the answer goes to the health checker, who knows nothing of it.
        return Ok(());
    }
    let too_big = packet.inner.len() > 1500;
    let is_syn = inner.payload_ip_number() == IpNumber::TCP && segment[13] & 0x12 == 0x02;
    match back.verdict {
        Verdict::Drop { reason: DropReason::NoRoute, .. } => return Ok(()),
        Verdict::Drop { reason: DropReason::ReplySyn, .. } if is_syn => return Ok(()),
        // The endpoint is told, or fragments.
        Verdict::Drop { reason: DropReason::TooBig, .. } | Verdict::Transmit { .. } if too_big => {
            return Ok(());
        }
        Verdict::Transmit { .. } | Verdict::ToHost => {}
        Verdict::Drop { .. } | Verdict::Back | Verdict::Pass | Verdict::Continue(_) => {
            anyhow::bail!("the answer does not come back")
        }
    }
    let answer = IpSlice::from_slice(sound::ip_of(&back.outcome.frame).context("the answer")?)?;
    ensure!(answer.source_addr() == request.destination_addr(), "from {}", answer.source_addr());
    ensure!(answer.destination_addr() == request.source_addr(), "to {}", answer.destination_addr());
    let (asked, answered) = (request.payload().payload, answer.payload().payload);
    ensure!(answered[..2] == asked[2..4] && answered[2..4] == asked[..2], "other ports");
    let checksum = if inner.payload_ip_number() == IpNumber::TCP { 16 } else { 6 };
    ensure!(
        answered[4..checksum] == segment[4..checksum] && answered[checksum + 2..] == segment[checksum + 2..],
        "other data"
    );
    Ok(())
}
