//! Neighbour entries of gateways: read, resolved, kept fresh, let go.
//!
//! XDP traffic does not refresh an entry, so the kernel is asked to probe it forever (`NTF_EXT_MANAGED`,
//! since Linux 5.16). Older kernels ignore that attribute; there an entry that went stale is used once
//! (`NTF_USE`), which makes the kernel probe it.
//!
//! The kernel's own neighbour solicitations have a link-local source (`ndisc_ns_create` in
//! `net/ipv6/ndisc.c`), so an IPv6 gateway is resolved only by a device with a link-local address, which
//! RFC 4291 §2.1 asks of every interface.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
            NeighbourState,
        },
        route::RouteProtocol,
    },
};

use super::resolve::Via;
use crate::net::{NetError, netlink, netlink::found, probe_path::ROUTE_PROTOCOL};

/// The MAC address of a neighbour, if known. Asks the kernel to find it out and keep it fresh.
pub(super) async fn keep(handle: &Handle, via: Via) -> Result<Option<[u8; 6]>, NetError> {
    let entry = netlink::neighbour(handle, via.ifindex, via.address).await?;
    let state = entry.as_ref().map_or(NeighbourState::None, |entry| entry.header.state);
    let mac = entry.as_ref().and_then(mac);
    // Static, or on a device that needs no resolution: there is nothing to ask for.
    if matches!(state, NeighbourState::Permanent | NeighbourState::Noarp) {
        return Ok(mac);
    }
    let working = matches!(state, NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe);
    // NUD_VALID of include/net/neighbour.h.
    let valid = working || state == NeighbourState::Stale;
    // The kernel is at it already. A managed entry that failed it tries again by itself.
    let settled = working || state == NeighbourState::Incomplete;
    let (managed, ours) = entry.as_ref().map_or((false, false), |entry| (is_managed(entry), is_ours(entry)));
    // `ours` says that this kernel was asked before, so an entry that is not managed then means that it
    // does not know the flag, and only a kick helps.
    if !managed && (!ours || !settled) {
        request(handle, via, Ask::Use, NeighbourExtFlags::Managed, ROUTE_PROTOCOL, NLM_F_CREATE).await?;
    }
    Ok(mac.filter(|_| valid))
}

/// Has the kernel find out at once whether an entry that lbx asked for still holds: it asks the neighbour, and
/// where that does not answer, everybody. The entry is used meanwhile.
pub(super) async fn doubt(handle: &Handle, via: Via) -> Result<(), NetError> {
    let Some(entry) = netlink::neighbour(handle, via.ifindex, via.address).await? else { return Ok(()) };
    if !is_ours(&entry) {
        return Ok(());
    }
    let state = entry.header.state;
    if matches!(state, NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay) {
        // The kernel sets no state of an entry that is managed, so that is taken away for a moment.
        request(handle, via, Ask::Probe, NeighbourExtFlags::empty(), ROUTE_PROTOCOL, 0).await?;
    } else if state != NeighbourState::Failed {
        return Ok(());
    }
    // One that failed, the kernel would ask for again only at its next turn, in up to five seconds.
    let ext_flags = if is_managed(&entry) { NeighbourExtFlags::Managed } else { NeighbourExtFlags::empty() };
    request(handle, via, Ask::Use, ext_flags, ROUTE_PROTOCOL, 0).await
}

/// Takes back what [`keep`] asked for; the entry ages as any other then.
pub(super) async fn release(handle: &Handle, via: Via) -> Result<(), NetError> {
    let entry = netlink::neighbour(handle, via.ifindex, via.address).await?;
    if entry.is_some_and(|entry| is_managed(&entry) && is_ours(&entry)) {
        // The protocol cannot be unset, but handed back.
        request(handle, via, Ask::Use, NeighbourExtFlags::empty(), RouteProtocol::Kernel, 0).await?;
    }
    Ok(())
}

/// Lets go of all neighbour entries that lbx asked the kernel to keep fresh; part of a clean detach.
pub async fn release_all(handle: &Handle) -> Result<(), NetError> {
    for via in kept_by_lbx(handle).await? {
        release(handle, via).await?;
    }
    Ok(())
}

/// The neighbours that lbx asked the kernel to keep fresh.
pub(super) async fn kept_by_lbx(handle: &Handle) -> Result<BTreeSet<Via>, NetError> {
    // Of no family, which is of all.
    let entries: Vec<NeighbourMessage> = handle
        .neighbours()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(NetError::netlink("list neighbours"))?;
    let kept = entries.iter().filter(|entry| is_managed(entry) && is_ours(entry));
    Ok(kept.filter_map(via_of).collect())
}

/// Which neighbour an entry is about.
pub(super) fn via_of(entry: &NeighbourMessage) -> Option<Via> {
    let address = entry.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) = attribute {
            Some(IpAddr::V4(*address))
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) = attribute {
            Some(IpAddr::V6(*address))
        } else {
            None
        }
    })?;
    Some(Via { ifindex: entry.header.ifindex, address })
}

fn mac(entry: &NeighbourMessage) -> Option<[u8; 6]> {
    entry.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            bytes.as_slice().try_into().ok()
        } else {
            None
        }
    })
}

fn is_managed(entry: &NeighbourMessage) -> bool {
    entry.attributes.iter().any(|attribute| {
        matches!(attribute, NeighbourAttribute::ExtFlags(flags) if flags.contains(NeighbourExtFlags::Managed))
    })
}

fn is_ours(entry: &NeighbourMessage) -> bool {
    entry.attributes.contains(&NeighbourAttribute::Protocol(ROUTE_PROTOCOL))
}

/// What makes the kernel look after an entry.
#[derive(Clone, Copy)]
enum Ask {
    /// It is used: the kernel resolves it, or checks it when it is old (`NTF_USE`).
    Use,
    /// It is in doubt, however fresh it is (`NUD_PROBE`).
    Probe,
}

/// Asks the kernel, and sets the extended flags. A device that is down or gone, or an entry that is gone, is no
/// error: an event will tell.
async fn request(
    handle: &Handle,
    via: Via,
    ask: Ask,
    ext_flags: NeighbourExtFlags,
    protocol: RouteProtocol,
    create: u16,
) -> Result<(), NetError> {
    let Via { ifindex, address } = via;
    let what = |address: IpAddr| format!("ask the kernel to resolve neighbour {address}");
    let mut message = NeighbourMessage::default();
    message.header.family = netlink::family(address);
    message.header.ifindex = ifindex;
    match ask {
        Ask::Use => message.header.flags = NeighbourFlags::Use,
        Ask::Probe => message.header.state = NeighbourState::Probe,
    }
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::Protocol(protocol),
        NeighbourAttribute::ExtFlags(ext_flags),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | create;
    let mut answers = handle.clone().request(request).map_err(NetError::netlink(what(address)))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            let gone = [libc::ENODEV, libc::ENETDOWN, libc::ENOENT, libc::EINVAL];
            let answer: Result<Option<()>, _> = Err(rtnetlink::Error::NetlinkError(error));
            found(answer, &gone).map_err(NetError::netlink(what(address)))?;
        }
    }
    Ok(())
}
