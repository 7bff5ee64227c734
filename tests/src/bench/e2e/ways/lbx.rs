//! lbx, as its users have it: a service on a VIP, address translation, one tunnel.

use anyhow::Result;
use lbx_common::api::{Config, Ports};

use super::{Balancer, Counted, Host};
use crate::{agent::Agent, config};

/// A running agent.
pub struct Lbx<'a> {
    agent: Agent,
    host: &'a Host<'a>,
    /// What the kernel had forwarded before.
    forwarded: u64,
}

impl<'a> Lbx<'a> {
    /// Starts it with TCP and UDP of `port` balanced.
    pub fn start(host: &'a Host<'a>, port: u16) -> Result<Self> {
        let forwarded = host.forwarded()?;
        Ok(Self { agent: Agent::start_with(host.topology, &configuration(port))?, host, forwarded })
    }
}

impl Balancer for Lbx<'_> {
    fn counted(&self) -> Result<Counted> {
        let mut counted = (0, 0);
        for service in self.agent.stats()?.services {
            counted.0 += service.traffic.tcp_syns;
            counted.1 += service.traffic.in_packets;
        }
        // A packet that the kernel had to send, for want of a next hop, was not forwarded by XDP.
        let packets = counted.1.saturating_sub(self.host.forwarded()? - self.forwarded);
        Ok(Counted { connections: Some(counted.0), packets: Some(packets) })
    }
}

fn configuration(port: u16) -> Config {
    let mut config = config::whole();
    config::remove_vnet(&mut config, "east");
    config.monitors.clear();
    for pool in &mut config.pools {
        pool.monitor = None;
        for endpoint in &mut pool.endpoints {
            endpoint.port = Some(port);
        }
    }
    for listen in config.services.iter_mut().flat_map(|service| &mut service.listen) {
        listen.ports = Ports::One(port);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid() {
        if let Err(problems) = lbx_agent::config::validate(configuration(7)) {
            panic!("{problems:?}");
        }
    }
}
