//! The kernel's maps, mapped into the agent's memory.
//!
//! A write is a plain store: no system call, atomic per word, and as fast as memory. Maps are mapped
//! read-only until the first write, so an agent that finds nothing to do cannot change anything.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use lbx_common::api::Prefix;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{
    memory::{MapId, Memory},
    prefixes::{KernelPrefixes, PrefixLists, PrefixesError},
    regions::RegionMaps,
};

/// A map could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot map {map} into memory: {source}")]
pub struct MapError {
    map: &'static str,
    source: io::Error,
}

/// All maps that the agent writes.
pub struct KernelMemory {
    maps: BTreeMap<MapId, Mapping>,
    prefixes: KernelPrefixes,
    regions: Option<RegionMaps>,
    writes: u64,
}

struct Mapping {
    data: MapData,
    region: Region,
    elements: u32,
    writable: bool,
}

/// A mapping of a whole map.
pub struct Region {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the region is owned by one value and its words are atomics.
unsafe impl Send for Region {}
// SAFETY: a shared region gives out atomics only.
unsafe impl Sync for Region {}

impl Region {
    /// Maps a map of so many words.
    pub fn map(data: &MapData, words: usize, protection: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(words * 8).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, data.fd().as_fd(), 0) }?;
        Ok(Self { start: start.cast(), words })
    }

    /// Its words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that many words, page-aligned, until it is dropped; others change them
        // only as atomics do, word by word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, and nothing borrows from it any more.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.words * 8) } {
            tracing::warn!(%error, "cannot unmap a map");
        }
    }
}

impl KernelMemory {
    /// Maps the given maps, read-only. An older layout has no regions.
    pub fn new(
        maps: Vec<(MapId, MapData, u32)>,
        prefixes: KernelPrefixes,
        regions: Option<RegionMaps>,
    ) -> Result<Self, MapError> {
        let mut mapped = BTreeMap::new();
        for (id, data, elements) in maps {
            let words = elements as usize * id.words();
            let region = Region::map(&data, words, ProtFlags::PROT_READ)
                .map_err(|source| MapError { map: id.name(), source })?;
            mapped.insert(id, Mapping { data, region, elements, writable: false });
        }
        Ok(Self { maps: mapped, prefixes, regions, writes: 0 })
    }
}

impl KernelMemory {
    /// A word for writing.
    fn word(&mut self, map: MapId, index: usize) -> Option<&AtomicU64> {
        let mapping = self.maps.get_mut(&map)?;
        if let Err(error) = mapping.make_writable() {
            // The kernel refuses that only for frozen maps, which lbx never makes, or without memory.
            panic!("cannot map {} for writing: {error}", map.name());
        }
        mapping.region.words().get(index)
    }
}

impl Mapping {
    /// Maps the map anew for writing: a read-only mapping of a BPF map stays read-only for good
    /// (`bpf_map_mmap` in kernel/bpf/syscall.c clears `VM_MAYWRITE`).
    fn make_writable(&mut self) -> io::Result<()> {
        if !self.writable {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            self.region = Region::map(&self.data, self.region.words, protection)?;
            self.writable = true;
        }
        Ok(())
    }
}

impl Memory for KernelMemory {
    fn elements(&self, map: MapId) -> u32 {
        self.maps.get(&map).map_or(0, |mapping| mapping.elements)
    }

    fn load(&self, map: MapId, index: usize) -> u64 {
        let word = self.maps.get(&map).and_then(|mapping| mapping.region.words().get(index));
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&mut self, map: MapId, index: usize, value: u64) {
        if let Some(word) = self.word(map, index) {
            word.store(value, Ordering::Release);
            self.writes += 1;
        }
    }

    fn replace(&mut self, map: MapId, index: usize, old: u64, new: u64) -> bool {
        let Some(word) = self.word(map, index) else { return false };
        let replaced = word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        self.writes += u64::from(replaced);
        replaced
    }

    fn grace(&mut self) {
        // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c), and XDP programs run
        // inside an RCU read section (net/core/dev.c), so every packet that began before has ended.
        // SAFETY: the call takes three integers and touches no memory of ours.
        let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if result != 0 {
            let error = io::Error::last_os_error();
            tracing::warn!(%error, "membarrier failed: waiting instead");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn writes(&self) -> u64 {
        self.writes
    }

    fn prefix_lists(&self) -> &PrefixLists {
        self.prefixes.lists()
    }

    fn put_prefix(&mut self, list: u32, prefix: Prefix, verdict: u32) -> Result<(), PrefixesError> {
        self.writes += 1;
        self.prefixes.put(list, prefix, verdict)
    }

    fn remove_prefix(&mut self, list: u32, prefix: Prefix) -> Result<(), PrefixesError> {
        self.writes += 1;
        self.prefixes.remove(list, prefix)
    }

    fn region(&self, list: u32, address: IpAddr) -> Option<u32> {
        self.regions.as_ref()?.region(list, address)
    }
}
