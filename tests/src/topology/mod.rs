//! The test network: boxes, cables, addresses, gateways and servers. Knows nothing of lbx's processes.
//!
//! ```text
//! client ──(public)── lbx ──(underlay)── switch ─┬─ gw-east ── 10.0.0.0/24 ── origin a .10, origin b .11
//!                                                └─ gw-west ── 10.0.0.0/24 ── origin a .10, origin b .11
//! ```
//!
//! Each box is a network namespace; no route leads out of them. Both virtual networks use the same private
//! addresses. Devices have the same short names in every run: they are made inside their namespaces. Every box
//! speaks IPv4 and IPv6: where the picture has 10.0.0.10, there is `fd00::10`, too. The families of the
//! tunnels and of what is inside are chosen independently.

mod boxes;
mod extra;
mod far_end;
mod leaks;
mod plan;
mod plugs;
mod resets;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use self::{
    boxes::{address, bridge, cable, ip_sysctls, link_local, native},
    plugs::Plugs,
};
pub use self::{
    extra::ExtraTunnel,
    far_end::{DEVICE as TUNNEL_DEVICE, FarEnd},
    plan::{
        CLIENT, CLIENT_V6, EAST, LBX_PUBLIC, LBX_PUBLIC_V6, LBX_UNDERLAY, LBX_UNDERLAY_V6, ORIGINS,
        ORIGINS_V6, PUBLIC_DEVICE, PUBLIC_MTU, UNDERLAY_DEVICE, UNDERLAY_MTU, VnetPlan, WEST, client_address,
        lbx_underlay, origins,
    },
};
pub use crate::tunnel::{GATEWAY_INNER_MAC, LBX_INNER_MAC};
use crate::{
    client::Client,
    family::Family,
    netns::{self, Netns},
    servers::{Identity, OriginServers},
    xdp::FixedVerdict,
};

/// The gateway of each virtual network, inside.
pub const LAN_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The same in IPv6.
pub const LAN_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// The whole network, running. Everything is removed when it is dropped.
pub struct Topology {
    run: String,
    // In this order: what uses a namespace is dropped before it.
    /// The first virtual network.
    pub east: Vnet,
    /// The second virtual network.
    pub west: Vnet,
    _native: Vec<FixedVerdict>,
    plugs: Plugs,
    /// The client's namespace.
    pub client_netns: Netns,
    /// The namespace that lbx runs in: strict `rp_filter`, no `ip_forward`.
    pub lbx: Netns,
    switch: Netns,
}

/// A virtual network: its gateway and origins.
pub struct Vnet {
    /// Its addresses and its tunnel.
    pub plan: VnetPlan,
    /// The origins, in the order of [`ORIGINS`].
    pub origins: Vec<Origin>,
    /// What terminates its tunnel.
    pub far_end: FarEnd,
    /// The gateway's namespace.
    pub gateway: Netns,
}

/// An origin.
pub struct Origin {
    identity: Identity,
    servers: Mutex<Option<OriginServers>>,
    /// Its namespace.
    pub netns: Netns,
}

impl Topology {
    /// Builds the network and starts the servers: east behind GRE, west behind VXLAN, both over IPv4.
    pub fn new() -> Result<Self> {
        Self::with(EAST, WEST)
    }

    /// The same with other tunnels; see [`VnetPlan::through`].
    pub fn with(east: VnetPlan, west: VnetPlan) -> Result<Self> {
        Self::with_underlay_mtu(east, west, UNDERLAY_MTU)
    }

    /// The same as [`Topology::new`] without the watch for private addresses, which takes time of every packet that
    /// the client gets.
    pub fn unwatched() -> Result<Self> {
        Self::build(EAST, WEST, UNDERLAY_MTU, false)
    }

    /// The same with another MTU between lbx and the gateways, whose devices have what is left of it.
    pub fn with_underlay_mtu(east: VnetPlan, west: VnetPlan, underlay_mtu: u16) -> Result<Self> {
        Self::build(east, west, underlay_mtu, true)
    }

    fn build(east: VnetPlan, west: VnetPlan, underlay_mtu: u16, watched: bool) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "network namespaces need root: run this again as root (sudo -E cargo xtask …)"
        );
        netns::remove_stale();
        let run = netns::unique_run_name();
        let make = |role: &str| Netns::create(&netns::name_of(&run, role));

        let client = make("client")?;
        ip_sysctls(&client, 0, 0)?;
        // A source port may be used again although its last connection is in TIME_WAIT.
        client.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let lbx = make("lbx")?;
        ip_sysctls(&lbx, 0, 1)?;
        let switch = make("switch")?;
        bridge(&switch, "switch0")?;

        let plugs = Plugs::new(underlay_mtu, watched);
        plugs.plug_public(&client, &lbx)?;
        plugs.plug_underlay(&lbx, &switch)?;

        let mut all_native = Vec::new();
        let mut vnet = |plan: VnetPlan, host: u16| -> Result<Vnet> {
            let gateway = make(&format!("gw-{}", plan.name))?;
            ip_sysctls(&gateway, 1, 0)?;
            let port = format!("gw-{}", plan.name);
            cable((&gateway, UNDERLAY_DEVICE), (&switch, &port), underlay_mtu)?;
            switch.ip(&format!("link set dev {port} master switch0"))?;
            address(&gateway, UNDERLAY_DEVICE, plan.gateway_address)?;
            address(&gateway, UNDERLAY_DEVICE, plan.gateway_address_v6)?;
            link_local(&gateway, UNDERLAY_DEVICE, host)?;
            all_native.push(native(&gateway, UNDERLAY_DEVICE)?);
            let far_end = far_end::make(&gateway, &plan, underlay_mtu)?;
            let origins = lan(&run, &gateway, &plan)?;
            Ok(Vnet { plan, origins, far_end, gateway })
        };
        let east = vnet(east, 7)?;
        let west = vnet(west, 8)?;
        Ok(Self { run, east, west, _native: all_native, plugs, client_netns: client, lbx, switch })
    }

    /// Name of this run, unique on this machine; part of the names of its namespaces.
    pub fn run_name(&self) -> &str {
        &self.run
    }

    /// The client.
    pub fn client(&self) -> Client {
        Client::new(&self.client_netns)
    }

    /// Names of all namespaces.
    pub fn namespaces(&self) -> Vec<&str> {
        let mut all = vec![self.client_netns.name(), self.lbx.name(), self.switch.name()];
        for vnet in self.vnets() {
            all.push(vnet.gateway.name());
            all.extend(vnet.origins.iter().map(|origin| origin.netns.name()));
        }
        all
    }

    /// The virtual network `name`.
    pub fn vnet(&self, name: &str) -> Result<&Vnet> {
        let vnet = self.vnets().into_iter().find(|vnet| vnet.plan.name == name);
        vnet.with_context(|| format!("there is no virtual network `{name}`: there are east and west"))
    }

    /// Both virtual networks.
    pub fn vnets(&self) -> [&Vnet; 2] {
        [&self.east, &self.west]
    }
}

impl Vnet {
    /// The origin `name`.
    pub fn origin(&self, name: &str) -> Result<&Origin> {
        let vnet = self.plan.name;
        let origin = self.origins.iter().find(|origin| origin.identity.origin == name);
        origin.with_context(|| format!("{vnet} has no origin `{name}`: there are a and b"))
    }
}

impl Origin {
    /// Name of the origin.
    pub fn name(&self) -> &str {
        &self.identity.origin
    }

    /// Private address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        self.identity.address(family)
    }

    /// Stops the servers: their ports refuse, open connections end. Nothing happens where they are stopped.
    pub fn stop_servers(&self) {
        *self.servers() = None;
    }

    /// Starts the servers where they are stopped.
    pub fn start_servers(&self) -> Result<()> {
        let mut servers = self.servers();
        if servers.is_none() {
            *servers = Some(OriginServers::start(&self.netns, self.identity.clone())?);
        }
        Ok(())
    }

    /// From now on its `GET /far` is answered after this time. Stopped servers come back near.
    pub fn be_far(&self, distance: Duration) {
        if let Some(servers) = &*self.servers() {
            servers.be_far(distance);
        }
    }

    fn servers(&self) -> MutexGuard<'_, Option<OriginServers>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The private network behind a gateway, with its origins.
fn lan(run: &str, gateway: &Netns, plan: &VnetPlan) -> Result<Vec<Origin>> {
    bridge(gateway, "lan0")?;
    address(gateway, "lan0", LAN_GATEWAY)?;
    address(gateway, "lan0", LAN_GATEWAY_V6)?;
    link_local(gateway, "lan0", 1)?;
    let mut origins = Vec::new();
    for ((host, (name, ipv4)), (_, ipv6)) in (0x10..).zip(ORIGINS).zip(ORIGINS_V6) {
        let netns = Netns::create(&netns::name_of(run, &format!("{}-{name}", plan.name)))?;
        let port = format!("origin-{name}");
        cable((&netns, "lan0"), (gateway, &port), PUBLIC_MTU)?;
        gateway.ip(&format!("link set dev {port} master lan0"))?;
        address(&netns, "lan0", ipv4)?;
        address(&netns, "lan0", ipv6)?;
        link_local(&netns, "lan0", host)?;
        netns.ip(&format!("route add default via {LAN_GATEWAY}"))?;
        netns.ip(&format!("route add default via {LAN_GATEWAY_V6}"))?;
        let identity = Identity { vnet: plan.name.to_owned(), origin: name.to_owned(), ipv4, ipv6 };
        let origin = Origin { identity, servers: Mutex::new(None), netns };
        origin.start_servers()?;
        origins.push(origin);
    }
    Ok(origins)
}
