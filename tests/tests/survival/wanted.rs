//! What the configuration says, and what a user may expect of each endpoint by that: written from README's account of
//! changes, sharing nothing with the planner.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use lbx_common::api::{
    AffinityKind, Config, ConnectionTracking, Endpoint, Forwarding, Limits, Listen, Monitor, Node,
    OnEndpointDown, Pool, Ports, Protocol, Region, Service, SessionAffinity, SteeringPolicy, Timers,
};
use lbx_tests::{
    family::Family,
    tunnel::Encap,
    world::{self, Network},
};

/// Endpoints that a pool may have.
pub const PLACES: usize = 5;
/// The network of all endpoints.
pub const NETWORK: Network = Network { encap: Encap::Gre, outer: Family::V4 };
/// VIPs of the two services: with address translation, and with direct return.
pub const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 1)),
];

/// An endpoint: its pool and its place there. The first two pools are for the first service, the third one is that of
/// the second.
pub type Name = (usize, usize);

/// What is configured of an endpoint, and what is known of it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "as in the configuration")]
pub struct Origin {
    pub there: bool,
    pub enabled: bool,
    pub drained: bool,
    /// In tenths.
    pub weight: u8,
    /// The last verdict.
    pub up: bool,
    /// Until when it keeps flows, where it is drained or not there.
    pub until_ns: Option<u64>,
}

/// Times of a run, which stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub transition: Duration,
    pub tcp_idle: Duration,
    pub udp_idle: Duration,
    pub drain: Duration,
}

/// What two pools do for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// There is no second one.
    Alone,
    /// It waits for the first one to fail.
    Standby,
    /// It is the last resort.
    Fallback,
    /// It takes a part.
    Random,
    /// It takes what the first one sheds.
    Shedding,
    /// It goes before the first one for clients of a region.
    Near,
    /// The same, and another region is told apart that has them in the order of all others.
    NearAndFar,
}

impl Sharing {
    pub const ALL: [Self; 7] = [
        Self::Alone,
        Self::Standby,
        Self::Fallback,
        Self::Random,
        Self::Shedding,
        Self::Near,
        Self::NearAndFar,
    ];

    /// The regions that the first service tells apart.
    const fn regions(self) -> &'static [&'static str] {
        match self {
            Self::Near => &["near"],
            Self::NearAndFar => &["near", "far"],
            Self::Alone | Self::Standby | Self::Fallback | Self::Random | Self::Shedding => &[],
        }
    }
}

/// Files of regions. Clients have the addresses from 192.0.2.2 to 192.0.2.6.
pub const REGIONS: [&str; 4] = [
    "192.0.2.2/31,near\n192.0.2.4/31,far\n",
    "192.0.2.0/29,near\n192.0.2.2/32,far\n",
    "192.0.2.4/30,near\n192.0.2.3/32,elsewhere\n",
    "",
];

/// The configuration.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub times: Times,
    pub origins: [[Origin; PLACES]; 3],
    pub table_sizes: [u32; 3],
    /// First pool of the first service.
    pub pool: usize,
    /// How that shares the flows with the other one.
    pub sharing: Sharing,
    /// Which of [`REGIONS`] counts.
    pub regions: usize,
    pub seed: u64,
    pub tracking: [ConnectionTracking; 2],
    pub keep: [bool; 2],
    pub by_source: [bool; 2],
}

impl Wanted {
    /// Three endpoints in each pool, all up.
    pub fn new(times: Times) -> Self {
        let origin = |place| Origin {
            there: place < 3,
            enabled: true,
            drained: false,
            weight: 10,
            up: true,
            until_ns: None,
        };
        Self {
            times,
            origins: [std::array::from_fn(origin); 3],
            table_sizes: [1021; 3],
            pool: 0,
            sharing: Sharing::Alone,
            regions: 0,
            seed: 1,
            tracking: [ConnectionTracking::Auto; 2],
            keep: [true; 2],
            by_source: [false; 2],
        }
    }

    pub fn origin(&self, (pool, place): Name) -> &Origin {
        &self.origins[pool][place]
    }

    pub fn origin_mut(&mut self, (pool, place): Name) -> &mut Origin {
        &mut self.origins[pool][place]
    }

    /// The pools of a service.
    pub fn pools_of(&self, service: usize) -> Vec<usize> {
        match (service, self.sharing) {
            (0, Sharing::Alone) => vec![self.pool],
            (0, _) => vec![self.pool, 1 - self.pool],
            _ => vec![2],
        }
    }

    /// Whether new flows may go to an endpoint.
    pub fn takes_new(&self, name: Name) -> bool {
        let Origin { there, enabled, drained, weight, up, .. } = *self.origin(name);
        there && enabled && !drained && weight > 0 && up
    }

    /// Whether flows that an endpoint has may stay there; of UDP not while it is down.
    pub fn is_usable(&self, name: Name, service: usize, udp: bool, now_ns: u64) -> bool {
        let origin = self.origin(name);
        let released = origin.until_ns.is_some_and(|until_ns| until_ns <= now_ns);
        origin.enabled && !released && (origin.up || !udp && self.keep[service])
    }

    /// Whether an endpoint is gone for good: what it had is over, also when it comes back.
    pub fn is_over(&self, name: Name, now_ns: u64) -> bool {
        let origin = self.origin(name);
        !origin.enabled || !origin.there && origin.until_ns.is_none_or(|until_ns| until_ns <= now_ns)
    }

    pub fn config(&self) -> Config {
        let Times { transition, tcp_idle, udp_idle, .. } = self.times;
        Config {
            node: Node { regions_file: Some("/of/the/test".into()), ..world::node() },
            regions: ["near", "far"].map(|name| Region { name: name.to_owned(), location: None }).into(),
            limits: Limits {
                listeners: 32,
                endpoints: 64,
                tunnels: 4,
                virtual_networks: 2,
                table_slots: 32_768,
                prefixes: 8,
                pins: 512,
                ..Limits::default()
            },
            timers: Timers { transition, tcp_idle, udp_idle, ..Timers::default() },
            virtual_networks: vec![world::virtual_network(NETWORK)],
            monitors: vec![Monitor::new("m".to_owned())],
            pools: (0..3).map(|pool| self.pool_config(pool)).collect(),
            services: (0..2).map(|service| self.service_config(service)).collect(),
            ..Config::default()
        }
    }

    fn pool_config(&self, pool: usize) -> Pool {
        let there = (0..PLACES).filter(|&place| self.origins[pool][place].there);
        let endpoint = |place| {
            let Origin { enabled, drained, weight, .. } = self.origins[pool][place];
            Endpoint {
                port: (pool < 2).then_some(8080),
                tunnels: if pool < 2 { Vec::new() } else { vec!["only".to_owned()] },
                weight: f64::from(weight) / 10.0,
                enabled,
                drained,
                ..Endpoint::new(endpoint_name(place), NETWORK.name(), address((pool, place)))
            }
        };
        let sheds = self.sharing == Sharing::Shedding && pool == self.pool;
        Pool {
            monitor: Some("m".to_owned()),
            load_shedding: if sheds { 30 } else { 0 },
            table_size: Some(self.table_sizes[pool]),
            endpoints: there.map(endpoint).collect(),
            ..Pool::new(pool_name(pool))
        }
    }

    fn service_config(&self, service: usize) -> Service {
        let listen = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];
        let listen = listen.map(|(protocol, port)| Listen { protocol, ports: Ports::One(port) }).into();
        let remembers = service == 0 && self.tracking[service] != ConnectionTracking::Off;
        let affinity = SessionAffinity {
            kind: AffinityKind::default(),
            prefix_ipv4: 32,
            prefix_ipv6: 128,
            ttl: remembers.then_some(Duration::from_mins(2)),
        };
        let mut pools: Vec<String> = self.pools_of(service).into_iter().map(pool_name).collect();
        let has_fallback = service == 0 && self.sharing == Sharing::Fallback;
        let fallback_pool = has_fallback.then(|| pools.pop()).flatten();
        let regions = if service == 0 { self.sharing.regions() } else { &[] };
        let region_pools = regions.iter().map(|&region| {
            let mut pools = pools.clone();
            if region == "near" {
                pools.reverse();
            }
            (region.to_owned(), pools)
        });
        Service {
            fallback_pool,
            region_pools: region_pools.collect(),
            steering_policy: if !regions.is_empty() {
                SteeringPolicy::Geo
            } else if service == 0 && self.sharing == Sharing::Random {
                SteeringPolicy::Random
            } else {
                SteeringPolicy::Failover
            },
            forwarding: if service == 0 { Forwarding::Nat } else { Forwarding::Dsr },
            drain: self.times.drain,
            on_endpoint_down: if self.keep[service] { OnEndpointDown::Keep } else { OnEndpointDown::Reset },
            connection_tracking: self.tracking[service],
            session_affinity: self.by_source[service].then_some(affinity),
            ..Service::new(format!("s{service}"), VIPS[service], listen, pools)
        }
    }
}

pub fn pool_name(pool: usize) -> String {
    format!("p{pool}")
}

pub fn endpoint_name(place: usize) -> String {
    format!("e{place}")
}

/// Private address of an endpoint. No two have the same.
pub fn address((pool, place): Name) -> IpAddr {
    let last = u8::try_from(pool * 10 + place + 10).unwrap();
    if pool < 2 {
        Ipv4Addr::new(10, 0, 0, last).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into()
    }
}
