//! Asks the kernel for the way to one remote.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkMessage},
        route::{RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
    },
};

use super::neighbour;
use crate::net::{
    NetError,
    netlink::{family, found, ip, link_by_index},
    port::{Leaves, Port, leaves},
    probe_path::{mac, mtu},
};

/// A neighbour: the one whose MAC address is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Via {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// What does not depend on the neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Egress {
    /// `None` where only the kernel can send by this device.
    pub(super) port: Option<Port>,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u16,
}

/// What the answer rests on; an event about one of these asks for a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) ifindex: Option<u32>,
    pub(super) egress: Option<Egress>,
    pub(super) via: Option<Via>,
}

/// The way to a remote, and the MAC address of its neighbour once known. The kernel is asked to resolve
/// the neighbour and to keep it fresh.
pub(super) async fn resolve(handle: &Handle, remote: IpAddr) -> Result<(Way, Option<[u8; 6]>), NetError> {
    let Some(route) = route_to(handle, remote).await? else {
        return Ok((Way::default(), None));
    };
    let mut way = Way { ifindex: Some(route.ifindex), ..Way::default() };
    // A device that vanished meanwhile makes an event of its own.
    let Some(link) = link_by_index(handle, route.ifindex).await? else {
        return Ok((way, None));
    };
    let (Some(mac), Some(link_mtu)) = (mac(&link), mtu_for(remote, &link)) else {
        return Ok((way, None));
    };
    let mtu = route.mtu.unwrap_or(link_mtu).min(link_mtu);
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let via = Via { ifindex: route.ifindex, address: route.gateway.unwrap_or(remote) };
    way.egress = Some(Egress { port: port(handle, &link).await?, mac, mtu });
    way.via = Some(via);
    Ok((way, neighbour::keep(handle, via).await?))
}

/// The MTU of a device for the family of an address: a router may have advertised a smaller one for IPv6
/// (RFC 4861 §4.6.4).
fn mtu_for(remote: IpAddr, link: &LinkMessage) -> Option<u32> {
    let device = mtu(link);
    let IpAddr::V6(_) = remote else { return device };
    let advertised = link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::AfSpecUnspec(families) = attribute else { return None };
        families.iter().find_map(|family| {
            let AfSpecUnspec::Inet6(parts) = family else { return None };
            parts.iter().find_map(|part| {
                if let AfSpecInet6::DevConf(switches) = part {
                    u32::try_from(switches.mtu6).ok()
                } else {
                    None
                }
            })
        })
    });
    device.map(|device| advertised.map_or(device, |advertised| advertised.min(device)))
}

/// The port that frames of a device leave by, unless only the kernel can send them.
async fn port(handle: &Handle, link: &LinkMessage) -> Result<Option<Port>, NetError> {
    match leaves(link) {
        Leaves::Untagged => Ok(Some(Port { ifindex: link.header.index, vlan: None })),
        Leaves::Tagged { parent, vlan } => {
            let parent = link_by_index(handle, parent).await?;
            // A VLAN device on a VLAN device adds a second tag.
            let parent = parent.filter(|parent| leaves(parent) == Leaves::Untagged);
            Ok(parent.map(|parent| Port { ifindex: parent.header.index, vlan: Some(vlan) }))
        }
        Leaves::ByKernel => Ok(None),
    }
}

struct Route {
    ifindex: u32,
    gateway: Option<IpAddr>,
    mtu: Option<u32>,
}

/// The route that the kernel would take, unless it leads nowhere or to this host itself.
async fn route_to(handle: &Handle, remote: IpAddr) -> Result<Option<Route>, NetError> {
    // By hand: the builder fills in a table and a type, which strict sockets refuse in a question.
    let mut question = RouteMessage::default();
    question.header.address_family = family(remote);
    question.header.destination_prefix_length = match remote {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    question.attributes.push(RouteAttribute::Destination(remote.into()));
    let answer = handle.route().get(question).execute().try_next().await;
    // No route; unreachable; prohibit (EACCES); blackhole (EINVAL); a kernel without IPv6 (the last two).
    let absent = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
        libc::ENETDOWN,
        libc::EOPNOTSUPP,
        libc::EAFNOSUPPORT,
    ];
    let answer = found(answer, &absent).map_err(NetError::netlink(format!("find the route to {remote}")))?;
    let Some(answer) = answer.filter(|route| route.header.kind == RouteType::Unicast) else {
        return Ok(None);
    };
    let mut route = Route { ifindex: 0, gateway: None, mtu: None };
    for attribute in answer.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            route.ifindex = index;
        } else if let RouteAttribute::Gateway(gateway) = attribute {
            route.gateway = ip(&gateway);
        } else if let RouteAttribute::Via(RouteVia::Inet6(gateway)) = attribute {
            // The way to an IPv4 destination by an IPv6 neighbour is told as this.
            route.gateway = Some(gateway.into());
        } else if let RouteAttribute::Metrics(metrics) = attribute {
            route.mtu = metrics
                .into_iter()
                .find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(mtu) } else { None });
        }
    }
    Ok((route.ifindex != 0).then_some(route))
}
