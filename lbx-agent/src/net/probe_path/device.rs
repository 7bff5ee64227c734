//! The two devices themselves: made, adopted, set up, taken away.

use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{LBX0, LBX0_MAC, LBX1, LBX1_MAC, Link, MTU, ProbePath};
use crate::net::{
    NetError,
    ethtool::{Offloads, set_offloads},
    netlink::link_by_name,
    sysctl,
};

/// Finds or makes the pair and sets both ends up.
pub(super) async fn ensure(handle: &Handle) -> Result<ProbePath, NetError> {
    let (lbx0, lbx1) = if let Some(pair) = find(handle).await? {
        pair
    } else {
        create(handle).await?;
        find(handle)
            .await?
            .ok_or(NetError::Answer { what: LBX0.to_owned(), lacks: "the device just made" })?
    };
    let ends = [(LBX0, LBX0_MAC, &lbx0), (LBX1, LBX1_MAC, &lbx1)];
    for (name, mac, observed) in ends {
        // Before IPv6, which a device has only with an MTU that is large enough.
        shape(handle, name, mac, observed).await?;
    }
    let forwards_ipv6 = set_up_ipv6()?;
    for (name, _, observed) in ends {
        // XDP on the other end would see unfinished checksums and segments that are none.
        let off = Some(false);
        let offloads = Offloads { tx_checksum: off, tso: off, gso: off, ..Offloads::default() };
        set_offloads(name, offloads)?;
        raise(handle, name, observed).await?;
    }
    // A veth takes redirected frames only where its other end polls, which it does with an XDP program or
    // with GRO (`veth_xdp_xmit` in drivers/net/veth.c). lbx0 has none until the agent has attached.
    set_offloads(LBX0, Offloads { gro: Some(true), ..Offloads::default() })?;
    for (device, key, value) in [
        // The host's own ip_forward may stay off: only the device that a packet arrived on counts.
        (LBX0, "forwarding", "1"),
        // Loose: sources are VIPs, tunnel addresses and private addresses that the host routes elsewhere.
        // The stricter of this and conf.all counts, by number, so 2 also beats a strict host.
        (LBX0, "rp_filter", "2"),
        // Sources may be the host's own: its tunnel address, its VIPs, an overlapping private address.
        (LBX0, "accept_local", "1"),
        // What an XDP program passes on lbx1 must go nowhere.
        (LBX1, "forwarding", "0"),
        (LBX1, "rp_filter", "1"),
        (LBX1, "accept_local", "0"),
    ] {
        sysctl::set_ipv4(device, key, value)?;
    }
    Ok(ProbePath {
        lbx0: Link { ifindex: lbx0.header.index, mac: LBX0_MAC },
        lbx1: Link { ifindex: lbx1.header.index, mac: LBX1_MAC },
        forwards_ipv6,
    })
}

/// Readies the two ends for IPv6, before they are up. Says whether packets that arrive on lbx0 are forwarded.
///
/// Tried on Linux 6.18 with `conf.all.forwarding` 0: `bpf_fib_lookup` asks for `conf.lbx0.forwarding` alone
/// (`bpf_ipv6_fib_lookup` in `net/core/filter.c`), while the kernel forwards a packet that arrived on lbx0 only
/// with `conf.lbx0.force_forwarding` or `conf.all.forwarding` (`ip6_forward` in `net/ipv6/ip6_output.c`), so
/// that the former without the latter would lose the slow path in silence. The source of such a packet may be
/// anything but link-local: IPv6 has neither `rp_filter` nor `accept_local`, and a VIP or another address of
/// the host itself passes.
fn set_up_ipv6() -> Result<bool, NetError> {
    if !sysctl::has_ipv6() {
        return Ok(false);
    }
    for (device, key, value) in [
        // lbx1 receives probes, and XDP takes all of them. What it passes must go nowhere.
        (LBX1, "disable_ipv6", "1"),
        // No link-local address: nobody on this link is to be talked to.
        (LBX0, "addr_gen_mode", "1"),
        (LBX0, "accept_ra", "0"),
        (LBX0, "router_solicitations", "0"),
        (LBX0, "disable_ipv6", "0"),
        (LBX0, "forwarding", "1"),
    ] {
        sysctl::set_ipv6(device, key, value)?;
    }
    if sysctl::has_ipv6_key(LBX0, "force_forwarding") {
        sysctl::set_ipv6(LBX0, "force_forwarding", "1")?;
        return Ok(true);
    }
    // All of the host's devices: not ours to switch on.
    Ok(sysctl::get_ipv6("all", "forwarding")? == "1")
}

/// Deletes the pair if it is there and ours.
pub(super) async fn remove(handle: &Handle) -> Result<(), NetError> {
    match find(handle).await {
        Ok(Some((lbx0, _))) => handle
            .link()
            .del(lbx0.header.index)
            .execute()
            .await
            .map_err(NetError::netlink(format!("delete device {LBX0}"))),
        Ok(None) | Err(NetError::NotOurs { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The pair, or `None` when neither name is taken.
async fn find(handle: &Handle) -> Result<Option<(LinkMessage, LinkMessage)>, NetError> {
    let not_ours = |device, finding: &str| Err(NetError::NotOurs { device, finding: finding.to_owned() });
    match (link_by_name(handle, LBX0).await?, link_by_name(handle, LBX1).await?) {
        (None, None) => Ok(None),
        (Some(lbx0), Some(lbx1)) => {
            for (device, link, peer) in [(LBX0, &lbx0, &lbx1), (LBX1, &lbx1, &lbx0)] {
                if !is_veth(link) {
                    return not_ours(device, "is no veth device");
                }
                if peer_index(link) != Some(peer.header.index) {
                    return not_ours(device, "is the end of another veth pair");
                }
            }
            Ok(Some((lbx0, lbx1)))
        }
        (Some(link), None) => not_ours(LBX0, lone(&link, LBX1)),
        (None, Some(link)) => not_ours(LBX1, lone(&link, LBX0)),
    }
}

fn lone(link: &LinkMessage, missing: &str) -> &'static str {
    match (is_veth(link), missing == LBX0) {
        (false, _) => "is no veth device",
        (true, true) => "its other end is not lbx0",
        (true, false) => "its other end is not lbx1",
    }
}

async fn create(handle: &Handle) -> Result<(), NetError> {
    // The builder takes no attributes for the peer; `shape` gives them to both ends before they are up.
    let message = LinkVeth::new(LBX0, LBX1).build();
    let what = format!("make the veth pair {LBX0}/{LBX1}");
    handle.link().add(message).execute().await.map_err(NetError::netlink(what))
}

/// Gives one end its MAC, MTU and flags, as far as it has others; whether it is up stays.
async fn shape(handle: &Handle, name: &str, wanted: [u8; 6], observed: &LinkMessage) -> Result<(), NetError> {
    let mut message = LinkMessageBuilder::<LinkUnspec>::new().index(observed.header.index);
    let mut differs = false;
    if mac(observed) != Some(wanted) {
        message = message.address(wanted.to_vec());
        differs = true;
    }
    if mtu(observed) != Some(MTU) {
        message = message.mtu(MTU);
        differs = true;
    }
    let flags = observed.header.flags;
    if !flags.contains(LinkFlags::Noarp) || flags.contains(LinkFlags::Multicast) {
        // No multicast, because an IPv6 router joins groups and reports them.
        message = message.arp(false).multicast(false);
        differs = true;
    }
    if differs { change(handle, name, message).await } else { Ok(()) }
}

/// Sets one end up, where it is not.
async fn raise(handle: &Handle, name: &str, observed: &LinkMessage) -> Result<(), NetError> {
    if observed.header.flags.contains(LinkFlags::Up) {
        return Ok(());
    }
    change(handle, name, LinkMessageBuilder::<LinkUnspec>::new().index(observed.header.index).up()).await
}

async fn change(
    handle: &Handle,
    name: &str,
    message: LinkMessageBuilder<LinkUnspec>,
) -> Result<(), NetError> {
    handle
        .link()
        .change(message.build())
        .execute()
        .await
        .map_err(NetError::netlink(format!("set up device {name}")))
}

fn is_veth(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Veth)))
    })
}

/// Index of the other end, where that is in this namespace.
fn peer_index(link: &LinkMessage) -> Option<u32> {
    let elsewhere = |attribute: &_| matches!(attribute, LinkAttribute::LinkNetNsId(_));
    if link.attributes.iter().any(elsewhere) {
        return None;
    }
    link.attributes
        .iter()
        .find_map(|attribute| if let LinkAttribute::Link(index) = attribute { Some(*index) } else { None })
}

/// MAC address of a device, if it has one of six bytes.
pub(in crate::net) fn mac(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(bytes) = attribute { bytes.as_slice().try_into().ok() } else { None }
    })
}

/// MTU of a device.
pub(in crate::net) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None })
}
