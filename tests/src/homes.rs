//! Which endpoint each flow lives on, by what arrives at a gateway.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Result, ensure};
use etherparse::{SlicedPacket, TransportSlice};

use crate::{capture::Frame, traffic::addresses, tunnel};

/// Looks at a gateway's frames in their order: every packet of a TCP connection must go where its SYN went. Returns
/// how many connections and packets there were. Health checks, which come from `probe_source`, are not counted.
pub fn check(frames: &[Frame], probe_source: IpAddr) -> Result<(usize, usize)> {
    let mut homes: HashMap<SocketAddr, IpAddr> = HashMap::new();
    let (mut connections, mut packets) = (0, 0);
    for frame in frames.iter().filter(|frame| !frame.outgoing) {
        let Some(packet) = tunnel::unwrap(&frame.bytes)? else { continue };
        let inner = SlicedPacket::from_ip(&packet.inner)?;
        let Some(TransportSlice::Tcp(tcp)) = &inner.transport else { continue };
        let [source, endpoint] = addresses(inner.net.as_ref())[..] else { continue };
        if source == probe_source {
            continue;
        }
        let client = SocketAddr::new(source, tcp.source_port());
        packets += 1;
        if tcp.syn() {
            // Whoever has the port now.
            homes.insert(client, endpoint);
            connections += 1;
        }
        let home = *homes.entry(client).or_insert(endpoint);
        ensure!(
            endpoint == home,
            "a packet of {client} went to {endpoint}, while its connection began on {home}: {tcp:?}"
        );
    }
    Ok((connections, packets))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::{
        packets::frame,
        tunnel::{Encap, TunnelPacket},
    };

    const CLIENT: [u8; 4] = [192, 0, 2, 2];
    const ENDS: [[u8; 4]; 2] = [[198, 51, 100, 1], [198, 51, 100, 7]];

    fn wrapped(source: [u8; 4], port: u16, endpoint: u8, syn: bool) -> Frame {
        let mut inner = Vec::new();
        let tcp = PacketBuilder::ipv4(source, [10, 0, 0, endpoint], 64).tcp(port, 80, 1, 1);
        let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
        tcp.write(&mut inner, &[]).unwrap();
        let [from, to] = ENDS.map(|end| IpAddr::from(Ipv4Addr::from(end)));
        let packet = TunnelPacket::plain(Encap::Gre, from, to, 42, &inner).unwrap();
        Frame { outgoing: false, bytes: frame(&packet.to_bytes().unwrap()) }
    }

    #[test]
    fn a_connection_that_moves_is_found_and_a_new_one_of_its_port_may_go_elsewhere() {
        let probe = IpAddr::from([10, 255, 0, 1]);
        let mut frames = vec![
            wrapped(CLIENT, 1000, 1, true),
            wrapped(CLIENT, 1000, 1, false),
            wrapped(CLIENT, 1001, 2, false),
            wrapped(CLIENT, 1000, 2, true),
            wrapped(CLIENT, 1000, 2, false),
            wrapped([10, 255, 0, 1], 1000, 1, false),
        ];
        assert_eq!(check(&frames, probe).unwrap(), (2, 5));
        frames.push(wrapped(CLIENT, 1001, 1, false));
        let error = check(&frames, probe).unwrap_err().to_string();
        assert!(error.starts_with("a packet of 192.0.2.2:1001 went to 10.0.0.1, while its"), "{error}");
    }
}
