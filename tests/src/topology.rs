//! The test network: boxes, cables, addresses, gateways and servers. Knows nothing of lbx's processes.
//!
//! ```text
//! client ──(public)── lbx ──(underlay)── switch ─┬─ gw-east ── 10.0.0.0/24 ── origin a .10, origin b .11
//!                                                └─ gw-west ── 10.0.0.0/24 ── origin a .10, origin b .11
//! ```
//!
//! Each box is a network namespace; no route leads out of them. Both virtual networks use the same private
//! addresses. Devices have the same short names in every run: they are made inside their namespaces.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, ensure};
use lbx_common::api::Encap;
use nix::unistd::geteuid;

use crate::{
    client::Client,
    gre_gateway::{Ends, GreGateway},
    netns::{self, Netns},
    offload,
    servers::{Identity, OriginServers},
    xdp::{FixedVerdict, Verdict},
};

/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// lbx on the client's network.
pub const LBX_PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// lbx on the gateways' network: the outer source of tunnel packets.
pub const LBX_UNDERLAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Device of lbx, and of the client, on the client's network.
pub const PUBLIC_DEVICE: &str = "public0";
/// Device of lbx, and of each gateway, on the gateways' network.
pub const UNDERLAY_DEVICE: &str = "underlay0";
/// MTU of the gateways' network: 1500 bytes and the tunnel headers.
pub const UNDERLAY_MTU: u16 = 1600;
/// Inner source MAC of lbx's VXLAN packets.
pub const LBX_INNER_MAC: &str = "02:6c:62:78:00:01";
/// Inner destination MAC of lbx's VXLAN packets, unless configured: the MAC of the gateway's device.
pub const GATEWAY_INNER_MAC: &str = "02:6c:62:78:00:02";
/// UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;

const LAN_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PUBLIC_MTU: u16 = 1500;

/// What distinguishes one virtual network from the other.
#[derive(Debug, Clone, Copy)]
pub struct VnetPlan {
    /// Name in configuration and answers.
    pub name: &'static str,
    /// Key on the wire.
    pub vni: u32,
    /// Kind of tunnel.
    pub encap: Encap,
    /// VIP of its services.
    pub vip: Ipv4Addr,
    /// Outer address of its gateway.
    pub gateway_address: Ipv4Addr,
    /// Inner source address of lbx's health checks.
    pub probe_source: Ipv4Addr,
}

/// The virtual network behind GRE.
pub const EAST: VnetPlan = VnetPlan {
    name: "east",
    vni: 42,
    encap: Encap::Gre,
    vip: Ipv4Addr::new(203, 0, 113, 80),
    gateway_address: Ipv4Addr::new(198, 51, 100, 7),
    probe_source: Ipv4Addr::new(10, 255, 42, 1),
};

/// The virtual network behind VXLAN.
pub const WEST: VnetPlan = VnetPlan {
    name: "west",
    vni: 43,
    encap: Encap::Vxlan,
    vip: Ipv4Addr::new(203, 0, 113, 81),
    gateway_address: Ipv4Addr::new(198, 51, 100, 8),
    probe_source: Ipv4Addr::new(10, 255, 43, 1),
};

/// Names and addresses of the origins of each virtual network.
pub const ORIGINS: [(&str, Ipv4Addr); 2] =
    [("a", Ipv4Addr::new(10, 0, 0, 10)), ("b", Ipv4Addr::new(10, 0, 0, 11))];

/// The whole network, running. Everything is removed when it is dropped.
pub struct Topology {
    run: String,
    // In this order: what uses a namespace is dropped before it.
    /// The virtual network behind GRE.
    pub east: Vnet,
    /// The virtual network behind VXLAN.
    pub west: Vnet,
    _native: Vec<FixedVerdict>,
    /// The client's namespace.
    pub client_netns: Netns,
    /// The namespace that lbx runs in: strict `rp_filter`, no `ip_forward`.
    pub lbx: Netns,
    switch: Netns,
}

/// A virtual network: its gateway and origins.
pub struct Vnet {
    /// Its addresses.
    pub plan: VnetPlan,
    /// The origins, in the order of [`ORIGINS`].
    pub origins: Vec<Origin>,
    /// The GRE endpoint, where the kernel has no gre device.
    pub gre: Option<GreGateway>,
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
    /// Builds the network and starts the servers.
    pub fn new() -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "network namespaces need root: run this again as root (sudo -E cargo xtask …)"
        );
        netns::remove_stale();
        let run = netns::unique_run_name();
        let make = |role: &str| Netns::create(&netns::name_of(&run, role));

        let client = make("client")?;
        ipv4_sysctls(&client, 0, 0)?;
        // A source port may be used again although its last connection is in TIME_WAIT.
        client.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let lbx = make("lbx")?;
        ipv4_sysctls(&lbx, 0, 1)?;
        let switch = make("switch")?;
        switch.ip("link add switch0 type bridge").context("the kernel needs bridges (CONFIG_BRIDGE)")?;
        switch.ip("link set dev switch0 up")?;

        cable((&client, PUBLIC_DEVICE), (&lbx, PUBLIC_DEVICE), PUBLIC_MTU)?;
        client.ip(&format!("addr add {CLIENT}/24 dev {PUBLIC_DEVICE}"))?;
        lbx.ip(&format!("addr add {LBX_PUBLIC}/24 dev {PUBLIC_DEVICE}"))?;
        client.ip(&format!("route add 203.0.113.0/24 via {LBX_PUBLIC}"))?;
        cable((&lbx, UNDERLAY_DEVICE), (&switch, "lbx"), UNDERLAY_MTU)?;
        lbx.ip(&format!("addr add {LBX_UNDERLAY}/24 dev {UNDERLAY_DEVICE}"))?;
        switch.ip("link set dev lbx master switch0")?;

        let mut native = vec![native(&client, PUBLIC_DEVICE)?, native(&switch, "lbx")?];
        let mut vnet = |plan: VnetPlan| -> Result<Vnet> {
            let gateway = make(&format!("gw-{}", plan.name))?;
            ipv4_sysctls(&gateway, 1, 0)?;
            let port = format!("gw-{}", plan.name);
            cable((&gateway, UNDERLAY_DEVICE), (&switch, &port), UNDERLAY_MTU)?;
            switch.ip(&format!("link set dev {port} master switch0"))?;
            gateway.ip(&format!("addr add {}/24 dev {UNDERLAY_DEVICE}", plan.gateway_address))?;
            native.push(self::native(&gateway, UNDERLAY_DEVICE)?);
            let gre = tunnel(&gateway, plan)?;
            let origins = lan(&run, &gateway, plan)?;
            Ok(Vnet { plan, origins, gre, gateway })
        };
        let east = vnet(EAST)?;
        let west = vnet(WEST)?;
        Ok(Self { run, east, west, _native: native, client_netns: client, lbx, switch })
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

    /// Private address.
    pub fn address(&self) -> Ipv4Addr {
        self.identity.address
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

    fn servers(&self) -> MutexGuard<'_, Option<OriginServers>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Written before any device exists, so that every device takes the defaults.
fn ipv4_sysctls(netns: &Netns, forwarding: u8, rp_filter: u8) -> Result<()> {
    netns.sysctl("net/ipv4/ip_forward", &forwarding.to_string())?;
    for scope in ["all", "default"] {
        netns.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), &rp_filter.to_string())?;
    }
    Ok(())
}

/// A veth pair with its ends in two boxes, both up, all offloads off.
fn cable(one: (&Netns, &str), other: (&Netns, &str), mtu: u16) -> Result<()> {
    let (netns, device) = one;
    let (peer_netns, peer) = other;
    let peer_name = peer_netns.name();
    netns
        .ip(&format!("link add {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {peer_name}"))
        .context("the kernel needs veth pairs (CONFIG_VETH)")?;
    for (netns, device) in [one, other] {
        netns.run(|| offload::disable(device))?;
        netns.ip(&format!("link set dev {device} up"))?;
    }
    Ok(())
}

/// Makes `device` receive what native XDP sends from its peer.
fn native(netns: &Netns, device: &str) -> Result<FixedVerdict> {
    netns.run(|| {
        let program = FixedVerdict::attach(device, Verdict::Pass)?;
        // veth switches GRO on for a device with XDP (drivers/net/veth.c, `veth_xdp_set`).
        offload::disable(device)?;
        Ok(program)
    })
}

/// The far end of the tunnel. Everything that is not local goes back into it: clients, probe sources.
fn tunnel(gateway: &Netns, plan: VnetPlan) -> Result<Option<GreGateway>> {
    let VnetPlan { vni, gateway_address: local, .. } = plan;
    match plan.encap {
        Encap::Gre => {
            let ends = Ends { local, remote: LBX_UNDERLAY, key: vni };
            let own = if kernel_gre(gateway, ends)? {
                None
            } else {
                Some(GreGateway::start(gateway, "gre1", ends)?)
            };
            gateway.ip(&format!("link set dev gre1 mtu {PUBLIC_MTU} up"))?;
            gateway.ip("route add default dev gre1")?;
            Ok(own)
        }
        Encap::Vxlan => {
            let device = format!("vx{vni}");
            gateway
                .ip(&format!(
                    "link add {device} address {GATEWAY_INNER_MAC} mtu {PUBLIC_MTU} type vxlan id {vni} \
                     local {local} remote {LBX_UNDERLAY} dstport {VXLAN_PORT} nolearning"
                ))
                .context("the kernel needs vxlan devices (CONFIG_VXLAN; modprobe vxlan)")?;
            gateway.run(|| offload::disable(&device))?;
            gateway.ip(&format!("link set dev {device} up"))?;
            // A next hop that is always resolved, so that nothing depends on ARP inside the tunnel.
            gateway
                .ip(&format!("neigh add 169.254.1.1 lladdr {LBX_INNER_MAC} dev {device} nud permanent"))?;
            gateway.ip(&format!("route add default via 169.254.1.1 dev {device} onlink"))?;
            Ok(None)
        }
    }
}

/// Makes the kernel's own gre device; false where the kernel has none.
fn kernel_gre(gateway: &Netns, ends: Ends) -> Result<bool> {
    let Ends { local, remote, key } = ends;
    match gateway.ip(&format!("link add gre1 type gre local {local} remote {remote} key {key} ttl 64")) {
        Ok(_) => Ok(true),
        Err(error) => {
            let message = error.to_string();
            if message.contains("Unknown device type") || message.contains("not supported") {
                Ok(false)
            } else {
                Err(error)
            }
        }
    }
}

/// The private network behind a gateway, with its origins.
fn lan(run: &str, gateway: &Netns, plan: VnetPlan) -> Result<Vec<Origin>> {
    gateway.ip("link add lan0 type bridge")?;
    gateway.ip("link set dev lan0 up")?;
    gateway.ip(&format!("addr add {LAN_GATEWAY}/24 dev lan0"))?;
    let mut origins = Vec::new();
    for (name, address) in ORIGINS {
        let netns = Netns::create(&netns::name_of(run, &format!("{}-{name}", plan.name)))?;
        let port = format!("origin-{name}");
        cable((&netns, "lan0"), (gateway, &port), PUBLIC_MTU)?;
        gateway.ip(&format!("link set dev {port} master lan0"))?;
        netns.ip(&format!("addr add {address}/24 dev lan0"))?;
        netns.ip(&format!("route add default via {LAN_GATEWAY}"))?;
        let identity = Identity { vnet: plan.name.to_owned(), origin: name.to_owned(), address };
        let origin = Origin { identity, servers: Mutex::new(None), netns };
        origin.start_servers()?;
        origins.push(origin);
    }
    Ok(origins)
}
