//! The gateway's thread: packets of one side, one after the other, to the other side.

use std::{
    fs::File,
    io::{self, PipeReader, Read, Write},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, Socket};

use super::{
    Counters, Ends, Replies,
    device::{open_receiver, open_tun},
};
use crate::{
    family::Family,
    tunnel::{Carrier, GATEWAY_INNER_MAC, Shim, mac, open_sender},
};

/// Above any MTU of the test network.
const BUFFER_BYTES: usize = 65_536;

pub struct Worker {
    tunnel: File,
    receiver: UdpSocket,
    sender: Socket,
    stopped: PipeReader,
    ends: Ends,
    replies: Replies,
    counters: Arc<Counters>,
    remote: SockAddr,
    own_mac: [u8; 6],
    sent: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Refused {
    WrongKey,
    WrongRemote,
    WrongMac,
    Malformed,
}

impl Worker {
    /// Opens everything in the namespace of the calling thread.
    pub fn open(
        device: &str,
        ends: Ends,
        replies: Replies,
        stopped: PipeReader,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        Ok(Self {
            tunnel: open_tun(device)?,
            receiver: open_receiver(ends)?,
            sender: open_sender(Family::of(ends.local))?,
            stopped,
            ends,
            replies,
            counters,
            // Packets bring their own header; the port means nothing, and IPv6 refuses any but 0.
            remote: SocketAddr::new(ends.remote, 0).into(),
            own_mac: mac(GATEWAY_INNER_MAC)?,
            sent: 0,
        })
    }

    /// Serves until the other end of `stopped` is closed.
    pub fn serve(mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (from_outer, from_tunnel) = {
                let mut waiting = [
                    PollFd::new(self.receiver.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.tunnel.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut waiting, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error).context("poll"),
                }
                let [outer, tunnel, stopped] = waiting.map(|one| one.any().unwrap_or(false));
                if stopped {
                    return Ok(());
                }
                (outer, tunnel)
            };
            if from_outer {
                self.unwrap_all(&mut buffer);
            }
            if from_tunnel {
                self.wrap_all(&mut buffer);
            }
        }
    }

    /// Both directions read until nothing is left. An error of one packet (an ICMP error that came back,
    /// a device that is down) is that packet's loss, as it would be on a real gateway.
    fn unwrap_all(&mut self, buffer: &mut [u8]) {
        loop {
            match self.receiver.recv_from(buffer) {
                Ok((length, from)) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    let counter = match unwrap(packet, from.ip(), self.ends, self.own_mac) {
                        Ok(inner) => {
                            if self.tunnel.write_all(inner).is_err() {
                                continue;
                            }
                            &self.counters.decapsulated
                        }
                        Err(Refused::WrongKey) => &self.counters.wrong_key,
                        Err(Refused::WrongRemote) => &self.counters.wrong_remote,
                        Err(Refused::WrongMac) => &self.counters.wrong_mac,
                        Err(Refused::Malformed) => &self.counters.malformed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn wrap_all(&mut self, buffer: &mut [u8]) {
        loop {
            match self.tunnel.read(buffer) {
                Ok(length) => {
                    let inner = buffer.get(..length).unwrap_or_default();
                    // Fails only on what is neither IPv4 nor IPv6.
                    let Ok(packet) = self.replies.wrap(self.ends, self.sent, inner) else { continue };
                    if self.sender.send_to(&packet, &self.remote).is_ok() {
                        self.sent = self.sent.wrapping_add(1);
                        self.counters.encapsulated.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // EAGAIN: nothing left. EIO: the device is down.
                Err(_) => return,
            }
        }
    }
}

/// The inner packet of what a socket of [`open_receiver`] delivered.
fn unwrap(packet: &[u8], from: IpAddr, ends: Ends, own_mac: [u8; 6]) -> Result<&[u8], Refused> {
    if from != ends.remote {
        return Err(Refused::WrongRemote);
    }
    let header_bytes = match (ends.encap.udp_port(), ends.local) {
        (None, IpAddr::V4(_)) => packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4),
        (None, IpAddr::V6(_)) | (Some(_), _) => 0,
    };
    let payload = packet.get(header_bytes..).ok_or(Refused::Malformed)?;
    let shim = Shim::read(Carrier::of(ends.encap), payload).map_err(|_| Refused::Malformed)?;
    if shim.encap != ends.encap {
        return Err(Refused::Malformed);
    }
    if shim.key != Some(ends.key) {
        return Err(Refused::WrongKey);
    }
    if shim.macs.is_some_and(|(destination, _)| destination != own_mac) {
        return Err(Refused::WrongMac);
    }
    let family = Family::of_packet(shim.inner).ok_or(Refused::Malformed)?;
    if shim.inner.len() < family.header_bytes() { Err(Refused::Malformed) } else { Ok(shim.inner) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::PacketBuilder;

    use super::*;
    use crate::tunnel::{Encap, TunnelPacket};

    const OWN_MAC: [u8; 6] = [2, 0x6c, 0x62, 0x78, 0, 2];

    fn ends(encap: Encap, over: Family) -> Ends {
        let address = |host: u8| match over {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, host)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, host.into())),
        };
        Ends { encap, local: address(7), remote: address(1), key: 42 }
    }

    fn inner(family: Family) -> Vec<u8> {
        let mut packet = Vec::new();
        match family {
            Family::V4 => {
                PacketBuilder::ipv4([192, 0, 2, 2], [10, 0, 0, 10], 64).udp(1, 2).write(&mut packet, b"x")
            }
            Family::V6 => PacketBuilder::ipv6([0x20; 16], [0xfd; 16], 64).udp(1, 2).write(&mut packet, b"x"),
        }
        .unwrap();
        packet
    }

    fn from_lbx(ends: Ends, inner: &[u8]) -> TunnelPacket {
        TunnelPacket::plain(ends.encap, ends.remote, ends.local, ends.key, inner).unwrap()
    }

    /// What the socket delivers of a packet.
    fn delivered(packet: &TunnelPacket) -> Vec<u8> {
        let family = Family::of(packet.outer.source);
        let cut = match (packet.udp, family) {
            (Some(_), family) => family.header_bytes() + 8,
            (None, Family::V4) => 0,
            (None, Family::V6) => 40,
        };
        packet.to_bytes().unwrap()[cut..].to_vec()
    }

    fn all_ends() -> impl Iterator<Item = Ends> {
        Encap::ALL.into_iter().flat_map(|encap| Family::ALL.map(|over| ends(encap, over)))
    }

    #[test]
    fn both_families_come_out_of_every_encapsulation_over_both_families() {
        for ends in all_ends() {
            for family in Family::ALL {
                let packet = delivered(&from_lbx(ends, &inner(family)));
                let found = unwrap(&packet, ends.remote, ends, OWN_MAC);
                assert_eq!(found, Ok(&inner(family)[..]), "{ends:?} {family}");
            }
        }
    }

    #[test]
    fn the_key_is_found_with_and_without_checksum_and_sequence_number() {
        for ends in all_ends().filter(|ends| ends.encap.has_gre()) {
            let plain = from_lbx(ends, &inner(Family::V4));
            for packet in [
                plain.clone().with_gre_sequence(7),
                plain.clone().with_gre_checksum(),
                plain.clone().with_gre_checksum().with_gre_sequence(7),
            ] {
                let found = delivered(&packet);
                assert_eq!(unwrap(&found, ends.remote, ends, OWN_MAC), Ok(&plain.inner[..]), "{packet:?}");
            }
        }
    }

    #[test]
    fn other_keys_remotes_macs_and_versions_are_refused() {
        for ends in all_ends() {
            let right = from_lbx(ends, &inner(Family::V6));
            let refused = |packet: &TunnelPacket, from| {
                unwrap(&delivered(packet), from, ends, OWN_MAC).map(<[u8]>::to_vec).unwrap_err()
            };
            assert_eq!(refused(&right, ends.local), Refused::WrongRemote);
            let other_key = TunnelPacket { key: 43, ..right.clone() };
            assert_eq!(refused(&other_key, ends.remote), Refused::WrongKey);
            if let Some((gateway, lbx)) = right.inner_macs {
                let swapped = TunnelPacket { inner_macs: Some((lbx, gateway)), ..right.clone() };
                assert_eq!(refused(&swapped, ends.remote), Refused::WrongMac);
            }
            let mut version = delivered(&right);
            let at = if ends.encap == Encap::Gre && ends.local.is_ipv4() { 20 } else { 0 };
            version[at..at + 2].copy_from_slice(&[0xff, 0xff]);
            assert_eq!(unwrap(&version, ends.remote, ends, OWN_MAC), Err(Refused::Malformed), "{ends:?}");
        }
    }

    #[test]
    fn every_truncation_of_the_headers_is_refused() {
        for ends in all_ends() {
            let whole = delivered(&from_lbx(ends, &inner(Family::V4)));
            // What is behind the inner IP header is not the gateway's business.
            for length in 0..whole.len() - (8 + 1) {
                let found = unwrap(&whole[..length], ends.remote, ends, OWN_MAC);
                assert!(found.is_err(), "accepted {length} bytes of {ends:?}");
            }
        }
    }
}
