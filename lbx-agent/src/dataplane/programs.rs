//! Loads the object file: maps made or taken over from their pins, programs verified by the kernel.

use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{HashMap, LpmTrie, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use lbx_common::{
    abi::{
        ABI_VERSION, Affinity, AffinityKey, FlowKey, FragmentValue, HalfOpen, MAX_REASONS,
        MAX_REGION_PREFIXES, PINS_PER_BUCKET, SLOTS_PER_LINE, TrafficCounter, map_name, program_name,
        service_bucket,
    },
    api::Limits,
    track::Event,
};

use super::{
    buckets::buckets_for,
    counters::KernelCounters,
    mapped::{KernelMemory, MapError},
    memory::MapId,
    pins::Pins,
    prefixes::{KernelPrefixes, PrefixesError},
    regions::RegionMaps,
    renew::{Before, Pinned},
    routes::KnownRoutes,
    samples::{Samples, Sampling},
};
use crate::net::netlink::MAX_VLAN_DEVICES;

/// The kernel programs that this agent was built with; empty where there were none.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lbx-ebpf.o"));

/// The XDP programs of the object.
const XDP_PROGRAMS: [&str; 5] = [
    program_name::PUBLIC,
    program_name::UNDERLAY,
    program_name::BOTH,
    program_name::PROBE,
    program_name::ARRIVAL,
];

/// The data plane could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built without the object.
    #[error("this lbx-agent was built without its eBPF programs: build it with `cargo xtask build`")]
    NoObject,
    /// No privilege.
    #[error(
        "the kernel does not let this process load BPF programs: run lbx-agent as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    Permission,
    /// The kernel or the object file.
    #[error("cannot load the eBPF programs: {0}")]
    Ebpf(Box<EbpfError>),
    /// A program did not pass the verifier.
    #[error("the kernel refuses program {name}: {source}")]
    Program {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A pinned map is larger, or of another kind.
    #[error(
        "{pin} has {found} elements of {found_size} bytes where `limits` ask for {wanted} of {wanted_size}, and only larger limits can be taken on: run `lbx-agent detach` (forwarding stops until the next start), or set `limits` back"
    )]
    OtherSize {
        /// The pin.
        pin: String,
        /// Its elements.
        found: u32,
        /// Bytes of its elements.
        found_size: u32,
        /// Elements wanted.
        wanted: u32,
        /// Bytes of an element wanted.
        wanted_size: u32,
    },
    /// Pinned maps of another layout.
    #[error(
        "the pinned maps have layout {found}, this lbx-agent needs layout {ABI_VERSION}: run `lbx-agent detach` (forwarding stops until the next start), then start it again"
    )]
    OtherAbi {
        /// Version found.
        found: u32,
    },
    /// There is no folder for maps beside those that are there.
    #[error("cannot make maps beside those in use: {0}")]
    Beside(String),
    /// A map cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Prefixes cannot be read.
    #[error(transparent)]
    Prefixes(#[from] PrefixesError),
    /// The stages' programs cannot be kept.
    #[error("cannot pin the table of programs: {0}")]
    PinStages(String),
}

/// Elements of every map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<(&'static str, u32, usize)>);

impl Sizes {
    /// The sizes that limits ask for.
    pub fn new(limits: &Limits) -> Self {
        let mut sizes = Vec::new();
        let mut written = |map: MapId, elements| sizes.push((map.name(), elements, map.value_size()));
        written(MapId::Node, 1);
        // A listener may bring a VIP of its own; a tunnel is a peer, a known VNI, a known remote, a port and a
        // place of two probe sources, which have a way of their own for what names no place.
        written(MapId::Listeners, buckets_for(limits.listeners.saturating_mul(2)));
        written(MapId::Replies, buckets_for(limits.endpoints.saturating_mul(2)));
        let networks = limits.virtual_networks.saturating_mul(2);
        let peers =
            limits.tunnels.saturating_mul(6).saturating_add(networks).saturating_add(MAX_VLAN_DEVICES);
        written(MapId::Peers, buckets_for(peers));
        let addresses = addresses(limits);
        written(MapId::AddressIds, buckets_for(addresses));
        written(MapId::Addresses, addresses.saturating_add(1));
        written(MapId::Slots, limits.table_slots.div_ceil(SLOTS_PER_LINE));
        // Id 0 stands for "unset".
        written(MapId::Endpoints, limits.endpoints.saturating_add(1));
        written(MapId::Tunnels, limits.tunnels.saturating_add(1));
        written(MapId::Vnets, limits.virtual_networks.saturating_add(1));
        written(MapId::Policies, limits.listeners.saturating_add(1));
        written(MapId::Tracking, limits.listeners.saturating_add(1));
        for (pins, records, _) in MapId::PINS {
            let buckets = pin_buckets(limits);
            written(pins, buckets);
            written(records, buckets.saturating_mul(PINS_PER_BUCKET));
        }
        // A list has a prefix more than is configured, and for a moment the next one stands beside it. The kernel
        // takes memory only for what is there.
        let prefixes = limits.prefixes.saturating_add(limits.listeners).saturating_mul(2);
        sizes.push((map_name::PREFIXES_V4, prefixes, size_of::<u32>()));
        sizes.push((map_name::PREFIXES_V6, prefixes, size_of::<u32>()));
        // The list in use, the one before and the next one; likewise.
        for name in [map_name::REGIONS_V4, map_name::REGIONS_V6] {
            sizes.push((name, MAX_REGION_PREFIXES.saturating_mul(3), size_of::<u32>()));
        }
        sizes.push((map_name::LIMITS, service_bucket(limits.listeners).saturating_add(1), size_of::<u64>()));
        let traffic = size_of::<TrafficCounter>();
        sizes.push((map_name::LISTENER_TRAFFIC, limits.listeners.saturating_add(1), traffic));
        sizes.push((map_name::ENDPOINT_TRAFFIC, limits.endpoints.saturating_add(1), traffic));
        sizes.push((map_name::TUNNEL_TRAFFIC, limits.tunnels.saturating_add(1), traffic));
        let drops = limits.virtual_networks.saturating_add(1).saturating_mul(u32::from(MAX_REASONS));
        sizes.push((map_name::DROPS, drops, size_of::<u64>()));
        let events = u32::try_from(Event::ALL.len()).unwrap_or(u32::MAX);
        sizes.push((map_name::FLOWS, events, size_of::<u64>()));
        sizes.push((map_name::FRAGMENTS, limits.fragments, size_of::<FragmentValue>()));
        sizes.push((map_name::AFFINITY, limits.affinities, size_of::<Affinity>()));
        sizes.push((map_name::HALF_OPEN, limits.pins.div_ceil(4), size_of::<HalfOpen>()));
        Self(sizes)
    }

    /// Name, elements and size of an element, of all maps that are pinned.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u32, usize)> {
        self.0.iter().copied()
    }

    /// Elements of a map that the agent writes.
    pub fn of(&self, map: MapId) -> u32 {
        self.of_name(map.name())
    }

    /// Elements of any map; 0 where its size is fixed.
    pub fn of_name(&self, map: &str) -> u32 {
        self.0.iter().find(|(name, ..)| *name == map).map_or(0, |&(_, elements, _)| elements)
    }
}

/// Buckets for pins: a quarter more places than pins, so that hardly ever both buckets of a flow are full.
fn pin_buckets(limits: &Limits) -> u32 {
    limits.pins.saturating_add(limits.pins / 4).div_ceil(PINS_PER_BUCKET)
}

/// IPv6 addresses that may be in use at once: VIPs, endpoints, gateways, probe sources, the tunnel source.
fn addresses(limits: &Limits) -> u32 {
    [limits.endpoints, limits.tunnels, limits.virtual_networks, 1]
        .into_iter()
        .fold(limits.listeners, u32::saturating_add)
}

/// Maps that programs write and read, and the agent only copies.
pub struct Remembered {
    /// Flows that have proved nothing yet.
    pub half_open: HashMap<MapData, FlowKey, HalfOpen>,
    /// Where the last flow of a source began.
    pub affinity: HashMap<MapData, AffinityKey, Affinity>,
}

/// Programs and maps in the kernel.
pub struct Loaded {
    /// The programs, loaded and not attached.
    pub programs: Ebpf,
    /// The maps that the agent writes.
    pub memory: KernelMemory,
    /// The lists of regions, for whoever writes them.
    pub regions: RegionMaps,
    /// The counters.
    pub counters: KernelCounters,
    /// What programs alone use.
    pub remembered: Remembered,
    /// Which ways to clients count that programs know.
    pub known_routes: KnownRoutes,
    /// How many packets programs tell of.
    pub sampling: Sampling,
    /// Those packets.
    pub samples: Samples,
    /// Whether there were maps already, whose content counts.
    pub adopted: bool,
    /// Those maps, where they have another layout or size: to be carried over.
    pub before: Option<Box<Before>>,
    /// Where the maps are pinned.
    pub pins: Pins,
    /// Name of the pin of the stages' programs. The kernel forgets them when nothing but programs refers to
    /// their table, so its pin goes only when no attached program uses it any more.
    pub stages: String,
}

/// Loads the object. Maps that are pinned are taken over if they are just what is wanted; beside others that can be read,
/// new ones are made.
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let pinned = Pinned::look(pins, sizes)?;
    let pins = &match pinned {
        Pinned::Other(_) => pins.beside().map_err(|error| LoadError::Beside(error.to_string()))?,
        Pinned::Nothing | Pinned::Fitting => pins.clone(),
    };
    let mut loader = EbpfLoader::new();
    for (name, elements, _) in &sizes.0 {
        loader.map_max_entries(name, *elements).map_pin_path(name, pins.map(name));
    }
    let mut programs = loader.load(OBJECT).map_err(explain)?;
    let counters = KernelCounters {
        listeners: per_cpu(&mut programs, map_name::LISTENER_TRAFFIC)?,
        endpoints: per_cpu(&mut programs, map_name::ENDPOINT_TRAFFIC)?,
        tunnels: per_cpu(&mut programs, map_name::TUNNEL_TRAFFIC)?,
        drops: per_cpu(&mut programs, map_name::DROPS)?,
        flows: per_cpu(&mut programs, map_name::FLOWS)?,
    };
    let remembered = Remembered {
        half_open: hash_map(&mut programs, map_name::HALF_OPEN)?,
        affinity: hash_map(&mut programs, map_name::AFFINITY)?,
    };
    let known_routes = KnownRoutes::of(&mut programs)?;
    let (sampling, samples) = (Sampling::of(&mut programs)?, Samples::of(&mut programs)?);
    let mut maps = Vec::new();
    for map in MapId::ALL {
        let Some(aya::maps::Map::Array(data)) = programs.take_map(map.name()) else {
            return Err(LoadError::NoObject);
        };
        maps.push((map, data, sizes.of(map)));
    }
    let prefixes = prefixes(&mut programs)?;
    let [asked, regions] = RegionMaps::take(&mut programs).map_err(explain)?;
    let memory = KernelMemory::new(maps, prefixes, Some(asked))?;
    for name in XDP_PROGRAMS {
        verify::<Xdp>(&mut programs, name, Xdp::load)?;
    }
    verify::<SchedClassifier>(&mut programs, program_name::GUARD, SchedClassifier::load)?;
    let stages = place_stages(&mut programs, pins)?;
    let adopted = !matches!(pinned, Pinned::Nothing);
    let before = match pinned {
        Pinned::Other(before) => Some(before),
        Pinned::Nothing | Pinned::Fitting => None,
    };
    let pins = pins.clone();
    Ok(Loaded {
        programs,
        memory,
        regions,
        counters,
        remembered,
        known_routes,
        sampling,
        samples,
        adopted,
        before,
        pins,
        stages,
    })
}

/// Puts the programs of the stages where the others find them. Returns the name of the pin.
fn place_stages(programs: &mut Ebpf, pins: &Pins) -> Result<String, LoadError> {
    let mut map = programs.take_map(map_name::STAGES).ok_or(LoadError::NoObject)?;
    let mut stages = ProgramArray::try_from(&mut map).map_err(|error| explain(error.into()))?;
    for (index, name) in (0..).zip(program_name::STAGES) {
        verify::<Xdp>(programs, name, Xdp::load)?;
        let fail = |source: ProgramError| LoadError::Program { name, source: Box::new(source) };
        let program = programs.program(name).ok_or(LoadError::NoObject)?;
        let program = program.fd().map_err(fail)?;
        stages.set(index, program, 0).map_err(|error| explain(error.into()))?;
    }
    let name = format!("{}{}", Pins::STAGES_PREFIX, std::process::id());
    pins.forget_map(&name);
    map.pin(pins.map(&name)).map_err(|error| LoadError::PinStages(error.to_string()))?;
    Ok(name)
}

fn prefixes(programs: &mut Ebpf) -> Result<KernelPrefixes, LoadError> {
    let v4 = programs.take_map(map_name::PREFIXES_V4).ok_or(LoadError::NoObject)?;
    let v6 = programs.take_map(map_name::PREFIXES_V6).ok_or(LoadError::NoObject)?;
    let v4 = LpmTrie::try_from(v4).map_err(|error| explain(error.into()))?;
    let v6 = LpmTrie::try_from(v6).map_err(|error| explain(error.into()))?;
    Ok(KernelPrefixes::read(v4, v6)?)
}

fn hash_map<K: aya::Pod, V: aya::Pod>(
    programs: &mut Ebpf,
    name: &str,
) -> Result<HashMap<MapData, K, V>, LoadError> {
    let map = programs.take_map(name).ok_or(LoadError::NoObject)?;
    HashMap::try_from(map).map_err(|error| explain(error.into()))
}

pub(super) fn per_cpu<T: aya::Pod>(
    programs: &mut Ebpf,
    name: &str,
) -> Result<PerCpuArray<MapData, T>, LoadError> {
    let map = programs.take_map(name).ok_or(LoadError::NoObject)?;
    PerCpuArray::try_from(map).map_err(|error| explain(error.into()))
}

fn verify<'a, P>(
    programs: &'a mut Ebpf,
    name: &'static str,
    load: impl Fn(&mut P) -> Result<(), ProgramError>,
) -> Result<(), LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    P: 'a,
{
    let fail = |source: ProgramError| LoadError::Program { name, source: Box::new(source) };
    let program = programs.program_mut(name).ok_or(LoadError::NoObject)?;
    load(program.try_into().map_err(fail)?).map_err(fail)
}

/// Names the one cause that every first-time user meets.
pub(super) fn explain(error: EbpfError) -> LoadError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return LoadError::Permission;
        }
        cause = current.source();
    }
    LoadError::Ebpf(Box::new(error))
}
