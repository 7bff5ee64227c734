//! Lists pins. All places are looked at in one go, while the task does nothing else: tens of milliseconds at default
//! limits.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use lbx_common::{
    abi::{Pin, PinRecord},
    api::{FlowQuery, FlowState, FlowsReport, MAX_FLOWS, PinnedFlow, Protocol},
    bytes::{Address, Be16, Be32},
    ip::IpAddress as _,
    pins::NANOSECONDS,
};

use super::{
    super::{Reconciler, now_ns},
    endpoint_address,
};
use crate::{
    config::model::Model,
    dataplane::{Image, MapId, Memory},
    plan::{listener_ids, listeners_of},
};

impl Reconciler {
    pub(in super::super) fn flows_report(&self, query: &FlowQuery) -> FlowsReport {
        let endpoints = self.ids.iter().map(|((pool, name), &id)| (id, format!("{pool}/{name}"))).collect();
        let vnets = self.vnet_names(&self.image);
        let names = Names { model: &self.model, image: &self.image, endpoints, vnets };
        names.flows(&self.kernel.memory, query, now_ns())
    }
}

/// What the numbers in a pin stand for.
struct Names<'a> {
    model: &'a Model,
    image: &'a Image,
    /// `POOL/NAME` by id.
    endpoints: HashMap<u16, String>,
    vnets: BTreeMap<u32, &'a str>,
}

impl Names<'_> {
    fn flows(&self, memory: &impl Memory, query: &FlowQuery, now_ns: u64) -> FlowsReport {
        let ids = listener_ids(self.image);
        let first_ports: HashMap<u32, u16> =
            self.image.listener_values().map(|(.., value)| (value.id, value.first_port)).collect();
        let mut listeners = HashMap::new();
        for service in &self.model.services {
            if query.service.as_ref().is_none_or(|name| *name == service.name) {
                let of_service = listeners_of(service, self.image, &ids);
                let first_port = |id: u32| first_ports.get(&id).copied().unwrap_or_default();
                listeners.extend(of_service.map(|id| (id, (service, first_port(id)))));
            }
        }
        let wanted = |pin: Pin| {
            query.endpoint.as_ref().is_none_or(|name| self.endpoints.get(&pin.endpoint()) == Some(name))
        };
        let mut report = FlowsReport::default();
        for (pins, records, udp) in MapId::PINS {
            let places = memory.elements(records);
            for place in 0..places {
                let pin = Pin(memory.load(pins, place as usize));
                if pin.is_free() || !wanted(pin) {
                    continue;
                }
                let record: PinRecord = memory.read(records, place);
                // The record of another flow: the pin was set a moment ago.
                let Some(&(service, first_port)) =
                    listeners.get(&record.listener).filter(|_| pin.is_of(record.hash))
                else {
                    continue;
                };
                let [client_port, vip_port] = record.ports.map(Be16);
                let client = client_of(&record, service.address.is_ipv6());
                if query.client.is_some_and(|prefix| !prefix.contains(client)) {
                    continue;
                }
                report.matching += 1;
                if report.flows.len() >= query.limit.min(MAX_FLOWS) as usize {
                    continue;
                }
                let Some(entry) = self.image.endpoints.get(&pin.endpoint()) else { continue };
                report.flows.push(PinnedFlow {
                    service: service.name.clone(),
                    protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                    client: SocketAddr::new(client, client_port.to_host()),
                    vip: SocketAddr::new(service.address, vip_port.to_host()),
                    endpoint: self.endpoints.get(&pin.endpoint()).cloned(),
                    virtual_network: self.vnets.get(&entry.vnet).map(|&name| name.to_owned()),
                    address: SocketAddr::new(
                        endpoint_address(entry).ip(),
                        entry.port_for(first_port, vip_port).to_host(),
                    ),
                    state: state_of(pin),
                    idle_secs: pin.idle_ns(udp, now_ns) / NANOSECONDS,
                });
            }
        }
        report
    }
}

fn client_of(record: &PinRecord, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::from(Address::of_words(record.client).0).into()
    } else {
        Ipv4Addr::from(Be32::of_words(record.client).octets()).into()
    }
}

fn state_of(pin: Pin) -> FlowState {
    if pin.has(Pin::ENDED) {
        FlowState::Ended
    } else if pin.has(Pin::CLIENT_ENDED) || pin.has(Pin::ENDPOINT_ENDED) {
        FlowState::Closing
    } else {
        FlowState::Open
    }
}
