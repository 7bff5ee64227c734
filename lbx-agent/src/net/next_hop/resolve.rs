//! Asks the kernel for the way to one remote.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};

use super::neighbour;
use crate::net::{
    NetError,
    netlink::{found, link_by_index},
    probe_path::{mac, mtu},
};

/// A neighbour: the one whose MAC address is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Via {
    pub(super) ifindex: u32,
    pub(super) address: Ipv4Addr,
}

/// What does not depend on the neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Egress {
    pub(super) ifindex: u32,
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
pub(super) async fn resolve(handle: &Handle, remote: Ipv4Addr) -> Result<(Way, Option<[u8; 6]>), NetError> {
    let Some(route) = route_to(handle, remote).await? else {
        return Ok((Way::default(), None));
    };
    let mut way = Way { ifindex: Some(route.ifindex), ..Way::default() };
    // A device that vanished meanwhile makes an event of its own.
    let Some(link) = link_by_index(handle, route.ifindex).await? else {
        return Ok((way, None));
    };
    let (Some(mac), Some(link_mtu)) = (mac(&link), mtu(&link)) else {
        return Ok((way, None));
    };
    let mtu = route.mtu.unwrap_or(link_mtu).min(link_mtu);
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let via = Via { ifindex: route.ifindex, address: route.gateway.unwrap_or(remote) };
    way.egress = Some(Egress { ifindex: route.ifindex, mac, mtu });
    way.via = Some(via);
    Ok((way, neighbour::keep(handle, via).await?))
}

struct Route {
    ifindex: u32,
    gateway: Option<Ipv4Addr>,
    mtu: Option<u32>,
}

/// The route that the kernel would take, unless it leads nowhere or to this host itself.
async fn route_to(handle: &Handle, remote: Ipv4Addr) -> Result<Option<Route>, NetError> {
    // By hand: the builder fills in a table and a type, which strict sockets refuse in a question.
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    question.header.destination_prefix_length = 32;
    question.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(remote)));
    let answer = handle.route().get(question).execute().try_next().await;
    // No route; unreachable; prohibit (EACCES); blackhole (EINVAL).
    let absent = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::ENETDOWN];
    let answer = found(answer, &absent).map_err(NetError::netlink(format!("find the route to {remote}")))?;
    let Some(answer) = answer.filter(|route| route.header.kind == RouteType::Unicast) else {
        return Ok(None);
    };
    let mut route = Route { ifindex: 0, gateway: None, mtu: None };
    for attribute in answer.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            route.ifindex = index;
        } else if let RouteAttribute::Gateway(RouteAddress::Inet(gateway)) = attribute {
            route.gateway = Some(gateway);
        } else if let RouteAttribute::Metrics(metrics) = attribute {
            route.mtu = metrics
                .into_iter()
                .find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(mtu) } else { None });
        }
    }
    Ok((route.ifindex != 0).then_some(route))
}
