//! Addresses, routes and rules of the probe path, of both families.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo},
        link::{LinkAttribute, LinkMessage},
        route::{RouteAttribute, RouteMessage, RouteScope},
        rule::{RuleAction, RuleAttribute},
    },
};

use super::{Family, LBX0, PROBE_TABLE, ProbePathWanted, ROUTE_PROTOCOL, Rule, VIP_TABLE, host_bits};
use crate::net::{
    NetError,
    netlink::{ip, link_by_index},
};

/// lbx0 has exactly these addresses afterwards.
pub(super) async fn ensure_addresses(handle: &Handle, lbx0: u32, wanted: &[IpAddr]) -> Result<(), NetError> {
    let mut missing: BTreeSet<IpAddr> = wanted.iter().copied().collect();
    // Of no family, which is of all.
    let observed: Vec<_> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(NetError::netlink("list the addresses of this host"))?;
    let (ours, others): (Vec<_>, Vec<_>) = observed.into_iter().partition(|m| m.header.index == lbx0);
    for message in &others {
        if let Some(address) = local_address(message).filter(|address| missing.contains(address)) {
            let link = link_by_index(handle, message.header.index).await?;
            let device =
                link.and_then(|link| name(&link)).unwrap_or_else(|| message.header.index.to_string());
            return Err(NetError::ProbeSourceTaken { address, device });
        }
    }
    for message in ours {
        let Some(address) = local_address(&message) else { continue };
        if message.header.prefix_len != host_bits(address) || !missing.remove(&address) {
            let what = format!("remove address {address} from {LBX0}");
            handle.address().del(message).execute().await.map_err(NetError::netlink(what))?;
        }
    }
    for address in missing {
        let mut request = handle.address().add(lbx0, address, host_bits(address));
        unattractive(request.message_mut(), address);
        let what = format!("add the probe source {address} to {LBX0}");
        request.execute().await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}

/// The kernel must never pick a probe source for anybody else's packets.
fn unattractive(message: &mut AddressMessage, address: IpAddr) {
    match address {
        IpAddr::V4(_) => message.header.scope = AddressScope::Link,
        // The scope of an IPv6 address is in its bits. A deprecated one comes after all others (RFC 6724 §5,
        // rule 3), and serves those who bind to it.
        IpAddr::V6(_) => {
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::MAX;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
            // No route in the main table, and nobody on lbx0 who could hold it, too.
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
    }
}

/// An address of this host: `IFA_LOCAL`, which IPv6 gives only where there is a peer as well.
fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(value) = attribute {
            local = Some(*value);
        } else if let AddressAttribute::Address(value) = attribute {
            address = Some(*value);
        }
    }
    local.or(address)
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
    })
}

/// The two tables of a family hold exactly the wanted routes afterwards.
pub(super) async fn ensure_routes(
    handle: &Handle,
    family: Family,
    lbx0: u32,
    wanted: &ProbePathWanted,
) -> Result<(), NetError> {
    let everything = wanted.probe_sources.iter().any(|source| Family::of(*source) == family);
    let everything = everything.then(|| (family.unspecified(), 0));
    let vips = wanted.vips.iter().filter(|vip| Family::of(**vip) == family);
    let vips = vips.map(|vip| (*vip, host_bits(*vip)));
    for (table, prefixes) in [
        (PROBE_TABLE, everything.into_iter().collect::<BTreeSet<_>>()),
        (VIP_TABLE, vips.collect::<BTreeSet<_>>()),
    ] {
        ensure_table(handle, family, lbx0, table, prefixes).await?;
    }
    Ok(())
}

async fn ensure_table(
    handle: &Handle,
    family: Family,
    lbx0: u32,
    table: u32,
    mut missing: BTreeSet<(IpAddr, u8)>,
) -> Result<(), NetError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    filter.attributes.push(RouteAttribute::Table(table));
    let observed: Result<Vec<_>, _> = handle.route().get(filter).execute().try_collect().await;
    // A table that was never used does not exist, which strict sockets are told.
    let observed = match observed {
        Err(error) if crate::net::errno(&error) == Some(libc::ENOENT) => Vec::new(),
        other => other.map_err(NetError::netlink(format!("list routing table {table}")))?,
    };
    for message in observed {
        // Sockets without strict checks get all tables.
        if table_of(&message) != table {
            continue;
        }
        let prefix = prefix_of(&message, family);
        let via_lbx0 = message.attributes.contains(&RouteAttribute::Oif(lbx0));
        if !via_lbx0 || !missing.remove(&prefix) {
            let what = format!("remove the route to {}/{} from table {table}", prefix.0, prefix.1);
            handle.route().del(message).execute().await.map_err(NetError::netlink(what))?;
        }
    }
    for (address, length) in missing {
        let route = route(address, length, lbx0, table);
        let what = format!("add a route to {address}/{length} by {LBX0} to table {table}");
        handle.route().add(route).execute().await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}

fn route(address: IpAddr, length: u8, lbx0: u32, table: u32) -> RouteMessage {
    // One expression each: the builder's type is that of the family.
    match address {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, length)
            .table_id(table)
            .output_interface(lbx0)
            .scope(RouteScope::Link)
            .protocol(ROUTE_PROTOCOL)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, length)
            .table_id(table)
            .output_interface(lbx0)
            .protocol(ROUTE_PROTOCOL)
            .build(),
    }
}

fn table_of(message: &RouteMessage) -> u32 {
    let attribute = message
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None });
    attribute.unwrap_or_else(|| message.header.table.into())
}

fn prefix_of(message: &RouteMessage, family: Family) -> (IpAddr, u8) {
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(address) = attribute { ip(address) } else { None }
    });
    (address.unwrap_or(family.unspecified()), message.header.destination_prefix_length)
}

/// Of our priorities, exactly the wanted rules of a family exist afterwards.
pub(super) async fn ensure_rules(handle: &Handle, family: Family, wanted: &[Rule]) -> Result<(), NetError> {
    let mut missing = wanted.to_vec();
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    let observed: Vec<_> = handle
        .rule()
        .get(version)
        .execute()
        .try_collect()
        .await
        .map_err(NetError::netlink("list routing rules"))?;
    for message in observed {
        let Some(rule) = Rule::of(&message) else { continue };
        if let Some(place) = missing.iter().position(|candidate| *candidate == rule) {
            missing.swap_remove(place);
        } else {
            let what = format!("remove the routing rule with priority {}", rule.priority);
            handle.rule().del(message).execute().await.map_err(NetError::netlink(what))?;
        }
    }
    for rule in missing {
        let what = format!("add the routing rule with priority {}", rule.priority);
        add_rule(handle, family, rule).await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}

async fn add_rule(handle: &Handle, family: Family, rule: Rule) -> Result<(), rtnetlink::Error> {
    let mut request =
        handle.rule().add().action(RuleAction::ToTable).priority(rule.priority).table_id(rule.table);
    // The builder's default table; one above 255 is told by attribute alone.
    request.message_mut().header.table = 0;
    request.message_mut().attributes.push(RuleAttribute::Protocol(ROUTE_PROTOCOL));
    if let Some(source) = rule.source {
        request.message_mut().header.src_len = host_bits(source);
        request.message_mut().attributes.push(RuleAttribute::Source(source));
    }
    match family {
        Family::V4 => request.v4().execute().await,
        Family::V6 => request.v6().execute().await,
    }
}
