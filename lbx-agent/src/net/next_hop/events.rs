//! What the kernel tells about links, addresses, routes, rules and neighbours, reduced to which remotes must
//! be resolved again.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::{StreamExt, stream::BoxStream};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAttribute, RouteMessage},
    },
};

use super::{
    neighbour::via_of,
    resolve::{Via, Way},
};
use crate::net::{
    NetError,
    netlink::{self, ip},
};

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A neighbour entry came, went or changed.
    Neighbour(Via),
    /// A device came, went or changed.
    Link(u32),
    /// A route to this prefix came or went.
    Route(IpAddr, u8),
    /// Something that may change any way, or events were lost.
    Anything,
    /// Something that changes none.
    Nothing,
}

/// The stream of events.
pub(super) struct Events(BoxStream<'static, Event>);

impl Events {
    /// Begins to listen.
    pub(super) fn subscribe() -> Result<Self, NetError> {
        // A nexthop object that changes is told by the routes that use it too (`nexthop_compat_mode`).
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
        ];
        Ok(Self(netlink::listen(&groups)?.map(|payload| event_of(&payload)).boxed()))
    }

    /// The next event; fails when the socket did.
    pub(super) async fn next(&mut self) -> Result<Event, NetError> {
        let closed = || NetError::Open(io::Error::other("the one for events was closed"));
        self.0.next().await.ok_or_else(closed)
    }
}

fn event_of(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Event {
    use RouteNetlinkMessage as Message;
    // Addresses and rules are rare. A lost message may have been anything.
    let NetlinkPayload::InnerMessage(message) = payload else { return Event::Anything };
    if let Message::NewNeighbour(entry) | Message::DelNeighbour(entry) = message {
        via_of(entry).map_or(Event::Nothing, Event::Neighbour)
    } else if let Message::NewLink(link) | Message::DelLink(link) = message {
        Event::Link(link.header.index)
    } else if let Message::NewRoute(route) | Message::DelRoute(route) = message {
        route_event(route)
    } else {
        Event::Anything
    }
}

fn route_event(route: &RouteMessage) -> Event {
    // A default route names no destination.
    let default: IpAddr = if route.header.address_family == AddressFamily::Inet {
        Ipv4Addr::UNSPECIFIED.into()
    } else if route.header.address_family == AddressFamily::Inet6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        return Event::Nothing;
    };
    let destination = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(address) = attribute { ip(address) } else { None }
    });
    Event::Route(destination.unwrap_or(default), route.header.destination_prefix_length)
}

/// What has changed since the last round.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    everything: bool,
    links: BTreeSet<u32>,
    neighbours: BTreeSet<Via>,
    routes: BTreeSet<(IpAddr, u8)>,
}

impl Dirty {
    /// All of it may have.
    pub(super) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds an event.
    pub(super) fn add(&mut self, event: Event) {
        match event {
            Event::Neighbour(via) => drop(self.neighbours.insert(via)),
            Event::Link(ifindex) => drop(self.links.insert(ifindex)),
            Event::Route(destination, length) => drop(self.routes.insert((destination, length))),
            Event::Anything => self.everything = true,
            Event::Nothing => {}
        }
    }

    /// Whether the way to a remote may be another one now.
    pub(super) fn touches(&self, remote: IpAddr, way: &Way) -> bool {
        self.everything
            || way.via.is_some_and(|via| self.neighbours.contains(&via))
            || way.ifindex.is_some_and(|ifindex| self.links.contains(&ifindex))
            || self.routes.iter().any(|(destination, length)| covers(*destination, *length, remote))
    }
}

fn covers(destination: IpAddr, length: u8, address: IpAddr) -> bool {
    // As if both were IPv6: the bits that are compared then stand at the upper end of the number.
    let differing = match (destination, address) {
        (IpAddr::V4(destination), IpAddr::V4(address)) => {
            u128::from(destination.to_bits() ^ address.to_bits()) << 96
        }
        (IpAddr::V6(destination), IpAddr::V6(address)) => destination.to_bits() ^ address.to_bits(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    u32::from(length) <= differing.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::{Dirty, Event, Via, Way, covers};

    #[test]
    fn a_prefix_covers_its_addresses_only() {
        for (destination, length, address, expected) in [
            ("10.1.0.0", 16, "10.1.2.3", true),
            ("10.1.0.0", 16, "10.2.2.3", false),
            ("0.0.0.0", 0, "10.2.2.3", true),
            ("10.2.2.3", 32, "10.2.2.3", true),
            ("10.2.2.3", 32, "10.2.2.2", false),
            ("2001:db8:1::", 48, "2001:db8:1:ffff::3", true),
            ("2001:db8:1::", 48, "2001:db8:2::3", false),
            ("::", 0, "2001:db8::3", true),
            ("2001:db8::3", 128, "2001:db8::3", true),
            ("2001:db8::3", 128, "2001:db8::2", false),
            ("0.0.0.0", 0, "2001:db8::3", false),
            ("::", 0, "10.2.2.3", false),
        ] {
            let covered = covers(destination.parse().unwrap(), length, address.parse().unwrap());
            assert_eq!(covered, expected, "{address} in {destination}/{length}");
        }
    }

    #[test]
    fn only_events_about_a_way_touch_it() {
        let remote = [198, 51, 100, 7].into();
        let via = Via { ifindex: 3, address: [192, 0, 2, 1].into() };
        let way = Way { ifindex: Some(3), egress: None, via: Some(via) };
        for (event, touches) in [
            (Event::Neighbour(via), true),
            (Event::Neighbour(Via { ifindex: 4, ..via }), false),
            (Event::Link(3), true),
            (Event::Link(4), false),
            (Event::Route([198, 51, 100, 0].into(), 24), true),
            (Event::Route([198, 51, 101, 0].into(), 24), false),
            (Event::Anything, true),
            (Event::Nothing, false),
        ] {
            let mut dirty = Dirty::default();
            dirty.add(event);
            assert_eq!(dirty.touches(remote, &way), touches, "{event:?}");
        }
    }
}
