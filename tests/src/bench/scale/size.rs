//! How large the configuration is, and how often each thing is done.

use std::time::Duration;

use lbx_common::api::{Config, Encap, Forwarding, Monitor, MonitorKind};

use crate::{bench::services::services, topology::WEST};

/// Size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Services, each with a VIP.
    pub services: u32,
    /// Pools that they share with direct server return.
    pub pools: u32,
    /// Endpoints of a pool.
    pub members: u32,
    /// Time between two probes of an endpoint.
    pub interval: Duration,
    /// Changes of one pool by the API.
    pub changes: u32,
    /// Verdicts, each alone, and then as many one upon the other.
    pub verdicts: u32,
    /// How often what is computed is computed.
    pub passes: u32,
    /// Time in which the processor is watched.
    pub watch: Duration,
    /// Pools whose endpoints are all probed every second.
    pub pools_each_second: u32,
}

impl Size {
    /// What the project promises itself something of.
    pub const FULL: Self = Self {
        services: 4096,
        pools: 256,
        members: 64,
        interval: Duration::from_secs(5),
        changes: 60,
        verdicts: 200,
        passes: 15,
        watch: Duration::from_secs(10),
        pools_each_second: 157,
    };

    /// Enough to see that each figure comes out.
    pub const SHORT: Self = Self {
        services: 8,
        pools: 2,
        members: 4,
        interval: Duration::from_millis(500),
        changes: 2,
        verdicts: 3,
        passes: 1,
        watch: Duration::from_millis(100),
        pools_each_second: 2,
    };

    /// Endpoints in all.
    pub const fn endpoints(self) -> u32 {
        self.pools * self.members
    }

    /// Services with direct server return that share the pools, all probed through the tunnel of [`WEST`].
    pub fn dsr(self) -> Config {
        self.probed(services(self.services, self.pools, self.members, Forwarding::Dsr))
    }

    /// The same, with so many endpoints as are to be probed every second.
    pub fn each_second(self) -> Config {
        let pools = self.pools_each_second;
        Self { services: pools, pools, interval: Duration::from_secs(1), ..self }.dsr()
    }

    /// Services with address translation. They cannot share a pool, so each has one, and all together have as many
    /// endpoints as above.
    pub fn nat(self) -> Config {
        let members = (self.endpoints() / self.services).max(1);
        self.probed(services(self.services, self.services, members, Forwarding::Nat))
    }

    fn probed(self, mut config: Config) -> Config {
        for vnet in &mut config.virtual_networks {
            vnet.vni = WEST.vni;
            for tunnel in &mut vnet.tunnels {
                (tunnel.encap, tunnel.remote) = (Encap::Vxlan, WEST.remote());
            }
        }
        config.monitors = vec![Monitor {
            name: "tcp".to_owned(),
            kind: MonitorKind::Tcp,
            interval: self.interval,
            timeout: self.interval / 2,
            retries: 0,
            consecutive_up: 1,
            // A busy machine must not look like a broken endpoint.
            consecutive_down: 3,
            ..Monitor::new(String::new())
        }];
        for pool in &mut config.pools {
            pool.monitor = Some("tcp".to_owned());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_configurations_are_valid() {
        for config in [Size::FULL.dsr(), Size::FULL.nat(), Size::SHORT.dsr(), Size::SHORT.nat()] {
            let model = lbx_agent::config::validate(config).unwrap();
            let endpoints: usize = model.pools.iter().map(|pool| pool.endpoints.len()).sum();
            assert!([8, 16_384].contains(&endpoints), "{endpoints}");
        }
    }
}
