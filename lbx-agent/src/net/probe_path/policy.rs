//! Addresses, routes and rules of the probe path.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope},
        rule::{RuleAction, RuleAttribute},
    },
};

use super::{LBX0, PROBE_TABLE, ProbePathWanted, ROUTE_PROTOCOL, Rule, VIP_TABLE};
use crate::net::{NetError, netlink::link_by_index};

/// lbx0 has exactly these addresses afterwards.
pub(super) async fn ensure_addresses(
    handle: &Handle,
    lbx0: u32,
    wanted: &[Ipv4Addr],
) -> Result<(), NetError> {
    let mut missing: BTreeSet<Ipv4Addr> = wanted.iter().copied().collect();
    let mut get = handle.address().get();
    get.message_mut().header.family = AddressFamily::Inet;
    let observed: Vec<_> =
        get.execute().try_collect().await.map_err(NetError::netlink("list the addresses of this host"))?;
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
        if message.header.prefix_len != 32 || !missing.remove(&address) {
            let what = format!("remove address {address} from {LBX0}");
            handle.address().del(message).execute().await.map_err(NetError::netlink(what))?;
        }
    }
    for address in missing {
        let mut request = handle.address().add(lbx0, address.into(), 32);
        // Scope link: the kernel must never pick it as the source of anybody else's packets.
        request.message_mut().header.scope = AddressScope::Link;
        let what = format!("add the probe source {address} to {LBX0}");
        request.execute().await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}

fn local_address(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute { Some(*address) } else { None }
    })
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
    })
}

/// The two tables hold exactly the wanted routes afterwards.
pub(super) async fn ensure_routes(
    handle: &Handle,
    lbx0: u32,
    wanted: &ProbePathWanted,
) -> Result<(), NetError> {
    let everything = (!wanted.probe_sources.is_empty()).then_some((Ipv4Addr::UNSPECIFIED, 0));
    let vips = wanted.vips.iter().map(|vip| (*vip, 32));
    for (table, prefixes) in [
        (PROBE_TABLE, everything.into_iter().collect::<BTreeSet<_>>()),
        (VIP_TABLE, vips.collect::<BTreeSet<_>>()),
    ] {
        ensure_table(handle, lbx0, table, prefixes).await?;
    }
    Ok(())
}

async fn ensure_table(
    handle: &Handle,
    lbx0: u32,
    table: u32,
    mut missing: BTreeSet<(Ipv4Addr, u8)>,
) -> Result<(), NetError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = AddressFamily::Inet;
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
        let prefix = prefix_of(&message);
        let via_lbx0 = message.attributes.contains(&RouteAttribute::Oif(lbx0));
        if !via_lbx0 || !missing.remove(&prefix) {
            let what = format!("remove the route to {}/{} from table {table}", prefix.0, prefix.1);
            handle.route().del(message).execute().await.map_err(NetError::netlink(what))?;
        }
    }
    for (address, length) in missing {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(table)
            .destination_prefix(address, length)
            .output_interface(lbx0)
            .scope(RouteScope::Link)
            .protocol(ROUTE_PROTOCOL)
            .build();
        let what = format!("add a route to {address}/{length} by {LBX0} to table {table}");
        handle.route().add(route).execute().await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}

fn table_of(message: &RouteMessage) -> u32 {
    let attribute = message
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None });
    attribute.unwrap_or_else(|| message.header.table.into())
}

fn prefix_of(message: &RouteMessage) -> (Ipv4Addr, u8) {
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            Some(*address)
        } else {
            None
        }
    });
    (address.unwrap_or(Ipv4Addr::UNSPECIFIED), message.header.destination_prefix_length)
}

/// Of our priorities, exactly the wanted rules exist afterwards.
pub(super) async fn ensure_rules(handle: &Handle, wanted: &[Rule]) -> Result<(), NetError> {
    let mut missing = wanted.to_vec();
    let observed: Vec<_> = handle
        .rule()
        .get(IpVersion::V4)
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
        let mut request =
            handle.rule().add().v4().action(RuleAction::ToTable).priority(rule.priority).table_id(rule.table);
        // The builder's default table; one above 255 is told by attribute alone.
        request.message_mut().header.table = 0;
        request.message_mut().attributes.push(RuleAttribute::Protocol(ROUTE_PROTOCOL));
        if let Some(source) = rule.source {
            request = request.source_prefix(source, 32);
        }
        let what = format!("add the routing rule with priority {}", rule.priority);
        request.execute().await.map_err(NetError::netlink(what))?;
    }
    Ok(())
}
