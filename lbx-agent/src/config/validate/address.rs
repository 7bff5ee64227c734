//! Which addresses can belong to one host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` can be that of one host on a network.
pub(super) fn unicast(address: IpAddr) -> Result<(), String> {
    match address {
        IpAddr::V4(address) => unicast_ipv4(address),
        IpAddr::V6(address) => unicast_ipv6(address),
    }
}

fn unicast_ipv4(address: Ipv4Addr) -> Result<(), String> {
    // RFC 6890 §2.2.2: "this network" and class E are never the source or destination of a packet.
    let [first, ..] = address.octets();
    let what = if address.is_broadcast() {
        "the broadcast address"
    } else if address.is_multicast() {
        "a multicast address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if first == 0 || first >= 240 {
        "a reserved address"
    } else {
        return Ok(());
    };
    Err(format!("{address} is {what}: write the address of one host"))
}

fn unicast_ipv6(address: Ipv6Addr) -> Result<(), String> {
    if let Some(ipv4) = address.to_ipv4_mapped() {
        return Err(format!(
            "{address} is an IPv4-mapped address: write {ipv4} where an IPv4 address may stand"
        ));
    }
    let what = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_multicast() {
        "a multicast address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if address.is_unicast_link_local() {
        "a link-local address, which is another host on each link"
    } else {
        return Ok(());
    };
    Err(format!("{address} is {what}: write the address of one host"))
}
