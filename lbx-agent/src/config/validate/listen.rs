//! Rules for what services listen on: each port of an address belongs to one listener of its kind.
//!
//! One port goes before a range, and a range before any, so those may lie in one another. Of one kind, two
//! listeners may not share a port.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lbx_common::api::{Forwarding, Listen, Pool, Ports, Protocol, Service};

use super::{Report, Seen};

/// The listeners seen so far.
#[derive(Default)]
pub(super) struct Listeners {
    /// One port, and any.
    single: Seen<(IpAddr, Listen)>,
    /// Ranges by their first port: last port, and where it is.
    ranges: HashMap<(IpAddr, Protocol), BTreeMap<u16, (Listen, String)>>,
}

impl Listeners {
    pub(super) fn check(&mut self, service: &Service, path: &str, report: &mut Report) {
        if service.listen.is_empty() {
            report.note(format!("{path}.listen"), "the list is empty: write what is served, as `[tcp/443]`");
        }
        let address = service.address;
        for (index, &listener) in service.listen.iter().enumerate() {
            let here = format!("{path}.listen[{index}]");
            let described = format!("`{}` ({here})", service.name);
            let message = match listener.ports {
                Ports::One(_) | Ports::Any => {
                    self.single.before((address, listener), described.clone()).map(|first| {
                        format!(
                            "service `{}` and service {first} both listen on {address} {listener}: a listener \
                             belongs to one",
                            service.name,
                        )
                    })
                }
                Ports::Range(..) => self.overlapping(address, listener, &described).map(|(other, first)| {
                    format!(
                        "service `{}` listens on {address} {listener}, and service {first} on {other}: two ranges \
                         may not share a port",
                        service.name,
                    )
                }),
            };
            if let Some(message) = message {
                report.note(here, message);
            }
        }
    }

    /// A range that shares a port with this one, and where it is; else remembers this one.
    fn overlapping(
        &mut self,
        address: IpAddr,
        listener: Listen,
        described: &str,
    ) -> Option<(Listen, String)> {
        let known = self.ranges.entry((address, listener.protocol)).or_default();
        // Those that are known share no port, so only the last that begins early enough can.
        let nearest = known.range(..=listener.ports.last()).next_back();
        if let Some((_, (other, first))) =
            nearest.filter(|(_, (other, _))| other.ports.overlap(listener.ports))
        {
            return Some((*other, first.clone()));
        }
        known.insert(listener.ports.first(), (listener, described.to_owned()));
        None
    }
}

/// Whether the two may not stand on one address.
pub(super) fn collide(one: Listen, other: Listen) -> bool {
    let both_ranges = matches!((one.ports, other.ports), (Ports::Range(..), Ports::Range(..)));
    one == other || both_ranges && one.protocol == other.protocol && one.ports.overlap(other.ports)
}

/// The ports of an endpoint that a listener's packets arrive on; `None` = they do not all exist.
pub(super) fn endpoint_ports(listener: Listen, port: Option<u16>) -> Option<(u16, u16)> {
    let (first, last) = (listener.ports.first(), listener.ports.last());
    let Some(port) = port else { return Some((first, last)) };
    Some((port, port.checked_add(last - first)?))
}

/// An endpoint's port is the first of as many as the listener has: all of them must exist.
pub(super) fn room(service: &Service, pool: &Pool, path: &str, report: &mut Report) {
    if service.forwarding == Forwarding::Dsr {
        return;
    }
    for (index, &listener) in service.listen.iter().enumerate() {
        // One mistake says it for all endpoints.
        let outside =
            pool.endpoints.iter().find(|endpoint| endpoint_ports(listener, endpoint.port).is_none());
        if let Some((endpoint, port)) = outside.and_then(|endpoint| Some((endpoint, endpoint.port?))) {
            let more = listener.ports.last() - listener.ports.first();
            let message = format!(
                "{listener} needs as many ports at endpoint `{}` of pool `{}`, from {port} to {}, and 65535 is the \
                 last: write {} or less there, or leave the port out to keep the client's",
                endpoint.name,
                pool.name,
                u32::from(port) + u32::from(more),
                u16::MAX - more,
            );
            report.note(format!("{path}.listen[{index}]"), message);
        }
    }
}
