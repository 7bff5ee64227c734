//! Maps of another layout or size: the new ones are made and filled beside those that are in use, and take their place
//! when the new programs are attached. What flows need is carried over: the planner carries what is under way, and
//! pins, flows about to be pinned, sources with an affinity and counters are copied here.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, MapInfo, PerCpuArray};
use lbx_common::{
    abi::{
        ABI_VERSION, Affinity, AffinityKey, FlowKey, HalfOpen, NodeEntry, Pin, PinRecord, Words as _,
        map_name,
    },
    pins::places_of,
};
use nix::sys::mman::ProtFlags;

use super::{
    counters::KernelCounters,
    image::Image,
    mapped::{KernelMemory, Region},
    memory::{MapId, Memory},
    pins::Pins,
    prefixes::{KernelPrefixes, PrefixesError},
    programs::{LoadError, Remembered, Sizes, explain},
    regions::RegionMaps,
};

/// Older layouts that are read as the present one: what differs are words that they have as 0, and maps that they lack.
const READABLE: [u32; 3] = [3, 4, 5];

/// What is pinned.
pub enum Pinned {
    /// Nothing.
    Nothing,
    /// Maps just as they are wanted.
    Fitting,
    /// Maps that flows must be carried over from.
    Other(Box<Before>),
}

/// The maps in use before.
pub struct Before {
    memory: KernelMemory,
    regions: Option<RegionMaps>,
    counters: BTreeMap<&'static str, MapData>,
    half_open: Option<HashMap<MapData, FlowKey, HalfOpen>>,
    affinity: Option<HashMap<MapData, AffinityKey, Affinity>>,
}

impl Pinned {
    /// Looks at the pins. An error where what is there can be neither used nor read.
    pub fn look(pins: &Pins, sizes: &Sizes) -> Result<Self, LoadError> {
        let (mut found, mut differs) = (0, false);
        for (name, elements, size) in sizes.all() {
            let Some(info) = info(pins, name)? else { continue };
            found += 1;
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            // The node's entry has grown at its end. It fills a page, whose rest is 0.
            let is_shorter = name == MapId::Node.name() && info.value_size() < size;
            differs |= info.max_entries() != elements || is_shorter;
            // What is there may not fit into less.
            if info.max_entries() > elements || (info.value_size() != size && !is_shorter) {
                return Err(LoadError::OtherSize {
                    pin: pins.map(name).display().to_string(),
                    found: info.max_entries(),
                    found_size: info.value_size(),
                    wanted: elements,
                    wanted_size: size,
                });
            }
        }
        match abi(pins)? {
            0 => {
                // Of a start that was cut off before it had filled anything.
                if differs {
                    sizes.all().for_each(|(name, ..)| pins.forget_map(name));
                }
                Ok(Self::Nothing)
            }
            ABI_VERSION if !differs => {
                Ok(if found == sizes.all().count() { Self::Fitting } else { Self::Nothing })
            }
            abi if abi == ABI_VERSION || READABLE.contains(&abi) => {
                Ok(Self::Other(Box::new(Before::open(pins)?)))
            }
            found => Err(LoadError::OtherAbi { found }),
        }
    }
}

impl Before {
    fn open(pins: &Pins) -> Result<Self, LoadError> {
        let mut maps = Vec::new();
        for map in MapId::ALL {
            let data = open(pins, map.name())?;
            let elements = data.info().map_err(|error| explain(error.into()))?.max_entries();
            maps.push((map, data, elements));
        }
        let v4 = LpmTrie::try_from(Map::LpmTrie(open(pins, map_name::PREFIXES_V4)?));
        let v6 = LpmTrie::try_from(Map::LpmTrie(open(pins, map_name::PREFIXES_V6)?));
        let wrong = |error: MapError| explain(error.into());
        let prefixes = KernelPrefixes::read(v4.map_err(wrong)?, v6.map_err(wrong)?)?;
        let names = [
            map_name::LISTENER_TRAFFIC,
            map_name::ENDPOINT_TRAFFIC,
            map_name::TUNNEL_TRAFFIC,
            map_name::DROPS,
            map_name::FLOWS,
        ];
        let there = names.into_iter().filter(|name| pins.map(name).exists());
        let counters = there.map(|name| Ok((name, open(pins, name)?))).collect::<Result<_, LoadError>>()?;
        Ok(Self {
            memory: KernelMemory::new(maps, prefixes, None)?,
            regions: RegionMaps::pinned(pins),
            counters,
            half_open: hash_map(pins, map_name::HALF_OPEN),
            affinity: hash_map(pins, map_name::AFFINITY),
        })
    }

    /// What the planner goes on from.
    pub fn image(&self) -> Image {
        Image::observe(&self.memory)
    }

    /// Copies the lists of regions that are in use.
    pub fn copy_regions(&self, to: &mut RegionMaps) -> Result<(), PrefixesError> {
        let NodeEntry { regions, regions_before, .. } = self.memory.read(MapId::Node, 0);
        self.regions.as_ref().map_or(Ok(()), |from| to.copy(from, [regions, regions_before]))
    }

    /// Copies counters.
    pub fn copy_counters(&mut self, to: &mut KernelCounters) -> Result<(), MapError> {
        let mut take = |name: &str| self.counters.remove(name);
        copy(take(map_name::LISTENER_TRAFFIC), &mut to.listeners)?;
        copy(take(map_name::ENDPOINT_TRAFFIC), &mut to.endpoints)?;
        copy(take(map_name::TUNNEL_TRAFFIC), &mut to.tunnels)?;
        copy(take(map_name::DROPS), &mut to.drops)?;
        copy(take(map_name::FLOWS), &mut to.flows)
    }

    /// Copies what is remembered of flows. Done before the new programs are attached, and again afterwards, for what
    /// came meanwhile.
    pub fn copy_flows(&self, to: &mut KernelMemory, remembered: &mut Remembered) -> Result<(), MapError> {
        for (pins, records, _) in MapId::PINS {
            for place in 0..self.memory.elements(records) {
                let pin = Pin(self.memory.load(pins, place as usize));
                let record: PinRecord = self.memory.read(records, place);
                if pin.is_of(record.hash) {
                    put(to, (pins, records), pin, record);
                }
            }
        }
        copy_entries(self.half_open.as_ref(), &mut remembered.half_open)?;
        copy_entries(self.affinity.as_ref(), &mut remembered.affinity)?;
        Ok(())
    }
}

/// Puts a pin where its flow is looked for: in its place where it has one, else in a free one. Without any, its flow goes
/// by its hash, as when there was no room for it in the first place.
fn put(memory: &mut impl Memory, (pins, records): (MapId, MapId), pin: Pin, record: PinRecord) {
    let buckets = memory.elements(pins);
    let places = || places_of(record.hash, buckets);
    let at = |place: &u32| Pin(memory.load(pins, *place as usize));
    let place = places().find(|place| at(place).is_of(record.hash));
    let Some(place) = place.or_else(|| places().find(|place| at(place).is_free())) else { return };
    memory.write(records, place, record);
    memory.store(pins, place as usize, pin.0);
}

fn copy_entries<K: aya::Pod, V: aya::Pod>(
    from: Option<&HashMap<MapData, K, V>>,
    to: &mut HashMap<MapData, K, V>,
) -> Result<(), MapError> {
    for entry in from.into_iter().flat_map(HashMap::iter) {
        // One that goes while all are walked through is over.
        let Ok((key, value)) = entry else { continue };
        to.insert(key, value, 0)?;
    }
    Ok(())
}

fn copy<T: aya::Pod + Default + PartialEq>(
    from: Option<MapData>,
    to: &mut PerCpuArray<MapData, T>,
) -> Result<(), MapError> {
    let Some(from) = from else { return Ok(()) };
    let from: PerCpuArray<MapData, T> = PerCpuArray::try_from(Map::PerCpuArray(from))?;
    for index in 0..from.len().min(to.len()) {
        let values = from.get(&index, 0)?;
        if values.iter().any(|value| *value != T::default()) {
            to.set(index, values, 0)?;
        }
    }
    Ok(())
}

/// Layout of the maps; 0 where they say nothing yet.
fn abi(pins: &Pins) -> Result<u32, LoadError> {
    if !pins.map(MapId::Node.name()).exists() {
        return Ok(0);
    }
    let node = open(pins, MapId::Node.name())?;
    let region = Region::map(&node, MapId::Node.words(), ProtFlags::PROT_READ)
        .map_err(|error| explain(MapError::IoError(error).into()))?;
    let mut words = [0; MapId::Node.words()];
    for (to, from) in words.iter_mut().zip(region.words()) {
        *to = from.load(Ordering::Acquire);
    }
    Ok(NodeEntry::from_words(words).abi)
}

fn info(pins: &Pins, name: &str) -> Result<Option<MapInfo>, LoadError> {
    let pin = pins.map(name);
    pin.exists().then(|| MapInfo::from_pin(&pin).map_err(|error| explain(error.into()))).transpose()
}

/// A map that an older layout need not have.
fn hash_map<K: aya::Pod, V: aya::Pod>(pins: &Pins, name: &str) -> Option<HashMap<MapData, K, V>> {
    let data = open(pins, name).ok()?;
    HashMap::try_from(Map::LruHashMap(data)).ok()
}

fn open(pins: &Pins, name: &str) -> Result<MapData, LoadError> {
    MapData::from_pin(pins.map(name)).map_err(|error| explain(error.into()))
}
