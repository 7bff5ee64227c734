//! Samples of flows: what the programs tell of some packets, put into names for those who follow the events.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lbx_common::{
    abi::SampleRecord,
    api::{FlowSample, Happening, Protocol},
    bytes::{Address, Be16, Be32},
    ip::{IpAddress as _, TCP},
};

use super::{Reconciler, findings::Name};
use crate::{
    metrics::own::count_lost_samples,
    plan::{known_host, known_tunnel_id, listener_identity, listener_ids},
};

/// Samples are read so often, and not as each of them comes: a flood is no reason to do nothing else.
const GATHERED: Duration = Duration::from_millis(100);
/// So many become events in that time: 1,000 a second.
const TOLD: usize = 100;
/// So many are read in one go at most: more than the programs have room for.
const READ: usize = 8192;

/// What is sampled, and who that is.
#[derive(Default)]
pub struct Sampler {
    one_in: u32,
    /// When to read what was told; `None` where nothing is sampled.
    pub next: Option<Instant>,
    /// How many more may become events until then.
    left: usize,
    /// Since the last pass; made when it is needed.
    names: Option<Names>,
    /// How many found no room, up to the last look.
    lost: u64,
}

impl Reconciler {
    /// Has the programs sample what the configuration says. What they told before a pass is of the names before it.
    pub(super) fn sample_from_now_on(&mut self) {
        let one_in = self.model.sampled_one_in;
        if self.sampler.next.is_none() {
            // Of programs that were told to stop, and did a moment later.
            self.kernel.samples.by_ref().take(READ).for_each(drop);
        }
        self.kernel.sampling.set(one_in);
        let next = self.sampler.next.unwrap_or_else(|| Instant::now() + GATHERED);
        self.sampler.next = (one_in != 0).then_some(next);
        (self.sampler.one_in, self.sampler.names) = (one_in, None);
    }

    /// Reads what there is when its time has come.
    pub(super) fn samples_due(&mut self) {
        self.sampler.left = TOLD;
        self.take_samples();
        self.sampler.next = Some(Instant::now() + GATHERED);
        match self.kernel.samples.lost() {
            Ok(lost) => count_lost_samples(lost - std::mem::replace(&mut self.sampler.lost, lost)),
            Err(error) => tracing::error!(%error, "cannot read how many samples were lost"),
        }
    }

    /// Reads what there is.
    pub(super) fn take_samples(&mut self) {
        if self.sampler.next.is_none() {
            return;
        }
        let records: Vec<SampleRecord> = self.kernel.samples.by_ref().take(READ).collect();
        if records.is_empty() {
            return;
        }
        let names = self.sampler.names.take().unwrap_or_else(|| self.names_in_samples());
        let told = records.len().min(self.sampler.left);
        self.sampler.left -= told;
        let mut lost = (records.len() - told) as u64;
        for record in records.iter().take(told) {
            match names.sample(record, self.sampler.one_in) {
                Some(sample) => self.events.sample(Happening::FlowSample(sample)),
                // Something of it was removed since.
                None => lost += 1,
            }
        }
        self.sampler.names = Some(names);
        count_lost_samples(lost);
    }

    fn names_in_samples(&self) -> Names {
        let (model, image) = (&self.model, &self.image);
        let by_identity = listener_ids(image);
        let mut listeners = HashMap::new();
        for service in &model.services {
            let Some(vip) = known_host(service.address, image) else { continue };
            for listen in &service.listen {
                if let Some(&id) = by_identity.get(&listener_identity(vip, *listen)) {
                    listeners.insert(id, (service.name.clone(), listen.to_string()));
                }
            }
        }
        let tunnels = self
            .configured_tunnels()
            .filter_map(|(vnet, tunnel)| Some((known_tunnel_id(vnet, tunnel, image)?, tunnel.name.clone())));
        let vnets = self.vnet_names(image).into_iter();
        Names {
            listeners,
            endpoints: self.ids.iter().map(|(name, &id)| (u32::from(id), name.clone())).collect(),
            tunnels: tunnels.collect(),
            vnets: vnets.map(|(id, name)| (id, name.to_owned())).collect(),
        }
    }
}

/// What numbers in a record stand for.
struct Names {
    /// Service, and what it listens on.
    listeners: HashMap<u32, (String, String)>,
    endpoints: HashMap<u32, Name>,
    tunnels: HashMap<u32, String>,
    vnets: HashMap<u32, String>,
}

impl Names {
    /// A record in names; `None` where something has none any more.
    fn sample(&self, record: &SampleRecord, one_in: u32) -> Option<FlowSample> {
        let (service, listener) = self.listeners.get(&record.listener)?.clone();
        let (pool, endpoint) = self.endpoints.get(&record.endpoint)?.clone();
        let tunnel = self.tunnels.get(&record.tunnel)?.clone();
        let virtual_network = self.vnets.get(&record.vnet)?.clone();
        let address = |words| {
            if record.v6 == 0 {
                IpAddr::from(Be32::of_words(words).octets())
            } else {
                IpAddr::from(Address::of_words(words).0)
            }
        };
        let [client_port, vip_port] = record.ports.map(|port| Be16(port).to_host());
        Some(FlowSample {
            service,
            listener,
            protocol: if record.protocol == TCP { Protocol::Tcp } else { Protocol::Udp },
            client: SocketAddr::new(address(record.client), client_port),
            vip: SocketAddr::new(address(record.vip), vip_port),
            pool,
            endpoint,
            virtual_network,
            tunnel,
            bytes: record.length,
            one_in,
        })
    }
}
