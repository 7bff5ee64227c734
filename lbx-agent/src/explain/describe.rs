//! What a packet met, in words.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use lbx_common::{
    abi::{
        ENDPOINT_CLOSED, ENDPOINT_FORCED, ENDPOINT_TAKES_NEW, EndpointEntry, LISTENER_DSR, ListenerValue,
        TRACKING_ALWAYS, TRACKING_CLOSING, TRACKING_OPEN, TrackingEntry,
    },
    api::{ExplainReport, ExplainRequest, ExplainVerdict, HealthState},
    bytes::{Address, Be16, Be32},
    hash::{flow_hash, scale},
    ip::IpAddress,
    pins,
    reason::{DropReason, Verdict},
    region::{Place, place},
    select::table_hash,
    tables::Tables,
    transport::Ports,
};

use super::{LiveTables, Outcome, tables::Remembered};
use crate::{
    config::model::{Model, Service},
    dataplane::{Image, Memory},
    plan::{
        Known, address_in, health_of, known_host, known_tunnel, listener_identity, listener_ids, pools_named,
    },
    regions::RegionList,
};

/// What is known beside the packet.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The configuration.
    pub model: &'a Model,
    /// What the maps hold.
    pub image: &'a Image,
    /// What is known by names.
    pub known: Known<'a>,
    /// The list of regions, where it is known.
    pub regions: Option<&'a RegionList>,
}

/// Puts an outcome into words. The tables are those that it comes from.
pub fn describe<M: Memory, R: Remembered>(
    facts: Facts<'_>,
    request: &ExplainRequest,
    tables: &LiveTables<'_, M, R>,
    outcome: &Outcome,
) -> ExplainReport {
    let mut report = ExplainReport {
        verdict: match outcome.verdict {
            Verdict::Pass => ExplainVerdict::Passed,
            Verdict::Transmit { .. } | Verdict::ToHost => ExplainVerdict::Forwarded,
            Verdict::Back => ExplainVerdict::Refused,
            Verdict::Drop { .. } | Verdict::Continue(_) => ExplainVerdict::Dropped,
        },
        reason: outcome.dropped.map(|reason| reason.as_str().to_owned()),
        ..ExplainReport::default()
    };
    let mut found = facts.listener(request, tables);
    let mut tracking = None;
    if let Some((listener, service, listen)) = &mut found {
        report.service = Some(service.name.clone());
        report.listener = Some(listen.clone());
        let place = place_of(request, tables, listener);
        (listener.target, tracking) = (place.target, tables.tracking(place.tracking).copied());
        let region = facts.region(request, service, outcome, &mut report);
        facts.steering(service, region, &mut report.why);
        facts.slot(request, tables, listener, &mut report);
    }
    let service = found.as_ref().map(|(_, service, _)| *service);
    if let Some(reason) = outcome.dropped {
        facts.drop(request, service, reason, &mut report);
        return report;
    }
    let Some((listener, ..)) = found else {
        report.why.push(format!("no service has the address {}", request.to.ip()));
        return report;
    };
    let Some(id) = outcome.met.endpoint else { return report };
    facts.choice(tables, outcome, id, (&listener, tracking.unwrap_or_default()), &mut report);
    facts.way(request, outcome, id, &listener, &mut report);
    report
}

impl<'a> Facts<'a> {
    /// The listener that a packet is for, with its service and what that calls it.
    fn listener<M: Memory, R: Remembered>(
        self,
        request: &ExplainRequest,
        tables: &LiveTables<'_, M, R>,
    ) -> Option<(ListenerValue, &'a Service, String)> {
        let vip = known_host(request.to.ip(), self.image)?;
        let port = Be16::new(request.to.port());
        let listener = tables.listener_on(vip, request.protocol.number(), port)?;
        let ids = listener_ids(self.image);
        let of_vip = self.model.services.iter().filter(|service| service.address == request.to.ip());
        of_vip.into_iter().find_map(|service| {
            let is_it = |listen: &&_| ids.get(&listener_identity(vip, **listen)) == Some(&listener.id);
            let listen = service.listen.iter().find(is_it)?;
            Some((listener, service, listen.to_string()))
        })
    }

    /// The id of the client's region, where the service tells regions apart; 0 = of none that it does.
    fn region(
        self,
        request: &ExplainRequest,
        service: &Service,
        outcome: &Outcome,
        report: &mut ExplainReport,
    ) -> u32 {
        if service.steering.regions.is_empty() {
            return 0;
        }
        let id = outcome.met.region.unwrap_or_default();
        if let Some(list) = self.regions {
            report.region_prefix = list.find(request.from.ip()).map(|(prefix, _)| prefix);
            report.region = list.regions().get(&id).map(|(name, _)| name.clone());
        }
        if !service.steering.regions.contains_key(&id) {
            report.why.push("the client is in no region that the service tells apart".to_owned());
            return 0;
        }
        id
    }

    /// Which of several pools serve.
    fn steering(self, service: &Service, region: u32, why: &mut Vec<String>) {
        if service.steering.all().nth(1).is_none() {
            return;
        }
        let serving = pools_named(self.model, self.known, self.image).serving_in(service, region);
        let names: Vec<String> =
            serving.names(self.model).into_iter().map(|name| format!("`{name}`")).collect();
        let text = if serving.is_last_resort(service) {
            "no pool is up, so the fallback serves"
        } else {
            "of its pools that are up, these serve"
        };
        why.push(format!("{text}: {}", names.join(", ")));
    }

    fn slot<M: Memory, R: Remembered>(
        self,
        request: &ExplainRequest,
        tables: &LiveTables<'_, M, R>,
        listener: &ListenerValue,
        report: &mut ExplainReport,
    ) {
        let slots = listener.target.slots();
        if slots == 0 {
            report.why.push("no endpoint has any weight, so there is no table".to_owned());
            return;
        }
        let slot = match (request.from.ip(), request.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [from, to] = [from, to].map(|address| Be32::from_octets(address.octets()));
                slot_of(request, tables, listener, from, to)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                slot_of(request, tables, listener, Address(from.octets()), Address(to.octets()))
            }
            _ => return,
        };
        (report.slot, report.slots) = (Some(slot), Some(slots));
        report.owner = tables.slot(listener.target, slot).map(|id| self.name(id.into()));
    }

    /// An endpoint by its id.
    fn name(self, id: u32) -> String {
        let configured = self.known.ids.iter().find(|&(_, &one)| u32::from(one) == id);
        if let Some(((pool, endpoint), _)) = configured {
            return format!("{pool}/{endpoint}");
        }
        let removed = |entry: &EndpointEntry| format!("{} (removed)", address_in(&entry.address));
        self.entry(id).map_or_else(|| format!("endpoint {id}"), removed)
    }

    fn entry(self, id: u32) -> Option<&'a EndpointEntry> {
        self.image.endpoints.get(&u16::try_from(id).ok()?)
    }

    /// Why an endpoint takes no new flows.
    fn closed(self, id: u32) -> Option<&'static str> {
        let entry = self.entry(id)?;
        if entry.state & ENDPOINT_TAKES_NEW != 0 {
            return None;
        }
        Some(match health_of(entry) {
            _ if entry.state & ENDPOINT_CLOSED != 0 => "drained, or without weight",
            HealthState::Unhealthy => "unhealthy",
            HealthState::Unknown => "not probed yet",
            HealthState::Healthy | HealthState::Disabled => "removed",
        })
    }

    fn drop(
        self,
        request: &ExplainRequest,
        service: Option<&Service>,
        reason: DropReason,
        report: &mut ExplainReport,
    ) {
        let meaning = reason.meaning().trim();
        report.why.push(meaning.trim_end_matches('.').to_owned());
        let vip = request.to.ip();
        match (reason, service) {
            (DropReason::VipNoService, _) => {
                let of_vip = self.model.services.iter().filter(|service| service.address == vip);
                let listens = of_vip.flat_map(|service| {
                    service.listen.iter().map(move |listen| format!("{listen} (`{}`)", service.name))
                });
                report.why.push(format!("on {vip} there are {}", listens.collect::<Vec<_>>().join(", ")));
            }
            (DropReason::Denied, Some(service)) => {
                let text = format!(
                    "`allow` and `deny` of service `{}` keep {} out",
                    service.name,
                    request.from.ip()
                );
                report.why.push(text);
            }
            (DropReason::NoEndpoint, Some(service)) => {
                let pools: BTreeSet<_> = service.steering.all().collect();
                let pools = pools.into_iter().filter_map(|pool| self.model.pools.get(pool));
                for (pool, endpoint) in
                    pools.flat_map(|pool| pool.endpoints.iter().map(move |one| (pool, one)))
                {
                    let name = format!("{}/{}", pool.name, endpoint.name);
                    let id = self.known.ids.get(&(pool.name.clone(), endpoint.name.clone()));
                    let why = id.map_or(Some("disabled"), |&id| self.closed(id.into()));
                    report.why.extend(why.map(|why| format!("{name} takes no new flows: {why}")));
                }
            }
            _ => {}
        }
    }

    /// Why it is this endpoint.
    fn choice<M: Memory, R: Remembered>(
        self,
        tables: &LiveTables<'_, M, R>,
        outcome: &Outcome,
        id: u32,
        (listener, tracking): (&ListenerValue, TrackingEntry),
        report: &mut ExplainReport,
    ) {
        let name = self.name(id);
        report.endpoint = Some(name.clone());
        let why = &mut report.why;
        let owner = report.owner.clone().unwrap_or_default();
        if !outcome.met.tracked {
            why.push(format!(
                "{owner} is the slot's, and takes new flows; nothing about the slot is changing"
            ));
            return;
        }
        why.push(
            if tracking.flags & TRACKING_ALWAYS != 0 {
                "`connection_tracking: always`: it was looked up whether the flow is remembered"
            } else if tracking.flags & (TRACKING_OPEN | TRACKING_CLOSING) != 0 {
                "the table is being changed: it was looked up whether the flow is remembered"
            } else {
                "flows of this slot may live elsewhere: it was looked up whether this one is remembered"
            }
            .to_owned(),
        );
        let pinned = tables.looked_into().map(|flow| {
            let place = pins::find(tables, flow.udp(), flow.hash);
            u32::from(pins::at(tables, flow.udp(), place).endpoint())
        });
        let of_slot = report.slot.and_then(|slot| tables.slot(listener.target, slot)).map(u32::from);
        if pinned == Some(id) {
            why.push(format!("it has a pin on {name}"));
        } else if outcome.met.half_open == Some(id) {
            why.push(format!("its connection began on {name} a moment ago"));
        } else if outcome.met.affinity == Some(id) {
            why.push(format!("its source is remembered with {name} (`session_affinity`)"));
        } else if of_slot == Some(id) {
            why.push(format!("it is not, so it goes to the slot's owner, {name}"));
        } else if let Some(closed) = of_slot.and_then(|owner| self.closed(owner)) {
            why.push(format!(
                "{owner} takes no new flows ({closed}): {name} is the next that the slot's sequence names"
            ));
        } else {
            why.push(format!("it is not: what is established goes by the table before, to {name}"));
        }
        if self.entry(id).is_some_and(|entry| entry.state & ENDPOINT_FORCED != 0) {
            why.push(format!("the health of {name} is ignored, as a last resort"));
        }
    }

    fn way(
        self,
        request: &ExplainRequest,
        outcome: &Outcome,
        id: u32,
        listener: &ListenerValue,
        report: &mut ExplainReport,
    ) {
        report.destination = self.entry(id).map(|entry| {
            if listener.flags & LISTENER_DSR != 0 {
                return request.to;
            }
            let port = entry.port_for(listener.first_port, Be16::new(request.to.port()));
            SocketAddr::new(address_in(&entry.address), port.to_host())
        });
        let Some(entry) = outcome.met.tunnel else { return };
        let all = self.model.vnets.iter().flat_map(|vnet| vnet.tunnels.iter().map(move |one| (vnet, one)));
        let found =
            all.into_iter().find(|(vnet, tunnel)| known_tunnel(vnet, tunnel, self.image) == Some(&entry));
        report.tunnel = found.map(|(vnet, tunnel)| format!("{}/{}", vnet.name, tunnel.name));
        if outcome.verdict == Verdict::ToHost {
            report.why.push(
                "the host sends it on: the next hop is not known, or the packet has to be fragmented"
                    .to_owned(),
            );
        }
    }
}

fn slot_of<A: IpAddress, M: Memory, R: Remembered>(
    request: &ExplainRequest,
    tables: &LiveTables<'_, M, R>,
    listener: &ListenerValue,
    from: A,
    to: A,
) -> u32 {
    let ports = Ports { source: Be16::new(request.from.port()), destination: Be16::new(request.to.port()) };
    let seed = tables.node().map(|node| node.seed).unwrap_or_default();
    let hash = flow_hash(from, to, ports, request.protocol.number(), &seed);
    scale(table_hash(listener.target, from, hash, &seed), listener.target.slots())
}

/// What a listener is to the client.
fn place_of<M: Memory, R: Remembered>(
    request: &ExplainRequest,
    tables: &LiveTables<'_, M, R>,
    listener: &ListenerValue,
) -> Place {
    match request.from.ip() {
        IpAddr::V4(from) => place(tables, listener, Be32::from_octets(from.octets())),
        IpAddr::V6(from) => place(tables, listener, Address(from.octets())),
    }
}
