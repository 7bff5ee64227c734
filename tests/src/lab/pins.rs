//! Pins that a test sets, where the programs look for them.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::Result;
use lbx_agent::dataplane::{MapId, Memory as _};
use lbx_common::{
    abi::{FlowKey, NodeEntry, Pin},
    bytes::{Be16, Be32},
    ip::{IpAddress as _, TCP},
    pins::places_of,
};
use nix::time::{ClockId, clock_gettime};

use super::Lab;

impl Lab {
    /// Pins flows of TCP over IPv4 to an endpoint. How many found a place.
    pub fn pin(
        &mut self,
        flows: impl Iterator<Item = (SocketAddrV4, SocketAddrV4)>,
        (pool, endpoint): (&str, &str),
    ) -> Result<usize> {
        let endpoint = self.endpoint_id(pool, endpoint)?;
        let memory = &mut self.loaded.memory;
        let node: NodeEntry = memory.read(MapId::Node, 0);
        let buckets = memory.elements(MapId::PinsTcp);
        // The clock of the kernel programs.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from)?;
        let now_ns = u64::try_from(now.as_nanos())?;
        let mut count = 0;
        for (client, vip) in flows {
            let words = |address: &Ipv4Addr| Be32::from_octets(address.octets());
            let key = FlowKey {
                client: words(client.ip()).words(),
                vip: words(vip.ip()).0,
                ports: [client, vip].map(|end| Be16::new(end.port()).0),
                protocol: u32::from(TCP),
                v6: 0,
            };
            let hash = key.hash(&node.pin_seed);
            let mut places = places_of(hash, buckets);
            if let Some(free) = places.find(|&place| memory.load(MapId::PinsTcp, place as usize) == 0) {
                let pin = Pin::new(hash, endpoint, false, now_ns);
                memory.store(MapId::PinsTcp, free as usize, pin.0);
                count += 1;
            }
        }
        Ok(count)
    }
}
