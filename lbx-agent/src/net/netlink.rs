//! Opens route netlink sockets and asks the kernel for single objects where rtnetlink only dumps.

use std::net::Ipv4Addr;

use futures_util::{StreamExt, TryStreamExt};
use lbx_common::api::AttachMode;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    },
};

use super::{NetError, errno};

/// Opens a route netlink socket. Its task ends when the last clone of the handle is gone.
///
/// Strict checks let the kernel filter dumps: without them a look at one routing table would carry all
/// routes of a host that holds the Internet's.
pub fn connect() -> Result<Handle, NetError> {
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(NetError::Open)?;
    tokio::spawn(connection);
    Ok(handle)
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
    address: Ipv4Addr,
) -> Result<Option<NeighbourMessage>, NetError> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
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

/// How the XDP program of a device runs; `None` where there is none.
pub(crate) async fn xdp_mode(handle: &Handle, name: &str) -> Result<Option<AttachMode>, NetError> {
    for attribute in link_by_name(handle, name).await?.into_iter().flat_map(|link| link.attributes) {
        let LinkAttribute::Xdp(xdp) = attribute else { continue };
        for attribute in xdp {
            if let LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) = attribute {
                return Ok(Some(AttachMode::Native));
            } else if let LinkXdp::Attached(XdpAttached::SocketBuffer) = attribute {
                return Ok(Some(AttachMode::Generic));
            }
        }
    }
    Ok(None)
}
