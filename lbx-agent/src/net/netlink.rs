//! Opens route netlink sockets and asks the kernel for single objects where rtnetlink only dumps.

use std::{collections::BTreeMap, net::IpAddr};

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use lbx_common::api::{AttachMode, LinkState};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourAttribute, NeighbourMessage},
        route::RouteAddress,
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    NetError, errno,
    port::{Leaves, leaves},
};

/// VLAN devices that are told to the data plane; replies by further ones are lost.
pub(crate) const MAX_VLAN_DEVICES: u32 = 1024;

/// Opens a route netlink socket. Its task ends when the last clone of the handle is gone.
///
/// Strict checks let the kernel filter dumps: without them a look at one routing table would carry all
/// routes of a host that holds the Internet's.
pub fn connect() -> Result<Handle, NetError> {
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(NetError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// What the kernel tells these groups, on a socket of its own: one that overflows loses messages, and a question whose
/// answer is lost would wait forever. Ends when the socket fails, and closes it when dropped.
pub(crate) fn listen(
    groups: &[MulticastGroup],
) -> Result<BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>, NetError> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(groups).map_err(NetError::Open)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let payload = move |(message, _): (NetlinkMessage<RouteNetlinkMessage>, _)| {
        let _open = &connection;
        message.payload
    };
    Ok(messages.map(payload).boxed())
}

/// The device of that name, if there is one.
pub(crate) async fn link_by_name(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, NetError> {
    found(handle.link().get().match_name(name).execute().try_next().await, &[libc::ENODEV])
        .map_err(NetError::netlink(format!("look at device {name}")))
}

/// The device of that index, if there is one.
pub(crate) async fn link_by_index(handle: &Handle, index: u32) -> Result<Option<LinkMessage>, NetError> {
    found(handle.link().get().match_index(index).execute().try_next().await, &[libc::ENODEV])
        .map_err(NetError::netlink(format!("look at the device with index {index}")))
}

/// The neighbour entry of an address on a device, if there is one.
pub(crate) async fn neighbour(
    handle: &Handle,
    ifindex: u32,
    address: IpAddr,
) -> Result<Option<NeighbourMessage>, NetError> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
    request.header.flags = NLM_F_REQUEST;

    let what = || format!("look at neighbour {address}");
    let mut answers = handle.clone().request(request).map_err(NetError::netlink(what()))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) = answer.payload {
            return Ok(Some(entry));
        } else if let NetlinkPayload::Error(error) = answer.payload {
            let none: Result<Option<NeighbourMessage>, _> = Err(rtnetlink::Error::NetlinkError(error));
            return found(none, &[libc::ENOENT, libc::ENODEV]).map_err(NetError::netlink(what()));
        }
    }
    Ok(None)
}

/// The family of an address.
pub(crate) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A route's address, if it is one of IP.
pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some((*address).into())
    } else if let RouteAddress::Inet6(address) = address {
        Some((*address).into())
    } else {
        None
    }
}

/// Turns the kernel's ways to say "there is none" into `None`.
pub(crate) fn found<T>(
    answer: Result<Option<T>, rtnetlink::Error>,
    absent: &[i32],
) -> Result<Option<T>, rtnetlink::Error> {
    match answer {
        Err(error) if errno(&error).is_some_and(|number| absent.contains(&number)) => Ok(None),
        other => other,
    }
}

/// The VLAN devices of this namespace, each with its parent and its tag, as many as a host may sensibly have.
pub(crate) async fn vlan_devices(handle: &Handle) -> Result<BTreeMap<u32, (u32, u16)>, NetError> {
    let mut links = handle.link().get().execute();
    let mut found = BTreeMap::new();
    let mut places = 0..MAX_VLAN_DEVICES;
    while let Some(link) = links.try_next().await.map_err(NetError::netlink("list the devices".to_owned()))? {
        if let Leaves::Tagged { parent, vlan } = leaves(&link)
            && places.next().is_some()
        {
            found.insert(link.header.index, (parent, vlan));
        }
    }
    Ok(found)
}

/// The state of a device, and how its XDP program runs; `None` where there is none.
pub async fn link_state(handle: &Handle, name: &str) -> Result<(LinkState, Option<AttachMode>), NetError> {
    let Some(link) = link_by_name(handle, name).await? else { return Ok((LinkState::Missing, None)) };
    let state = if !link.header.flags.contains(LinkFlags::Up) {
        LinkState::Down
    } else if !link.header.flags.contains(LinkFlags::LowerUp) {
        LinkState::NoCarrier
    } else {
        LinkState::Up
    };
    Ok((state, xdp_mode(&link)))
}

fn xdp_mode(link: &LinkMessage) -> Option<AttachMode> {
    for attribute in &link.attributes {
        let LinkAttribute::Xdp(xdp) = attribute else { continue };
        for attribute in xdp {
            if let LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) = attribute {
                return Some(AttachMode::Native);
            } else if let LinkXdp::Attached(XdpAttached::SocketBuffer) = attribute {
                return Some(AttachMode::Generic);
            }
        }
    }
    None
}
