//! Packets that the programs tell of: one in how many, and those that nobody has read yet.

use std::{
    os::fd::{AsRawFd, RawFd},
    ptr,
    sync::atomic::Ordering,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray, RingBuf},
};
use lbx_common::abi::{SampleRecord, map_name, sampling_limit};
use nix::sys::mman::ProtFlags;

use super::{
    counters::{CountersError, total},
    mapped::Region,
    programs::{LoadError, explain, per_cpu},
};

/// How many the programs tell of.
pub struct Sampling {
    word: Region,
    /// The programs are loaded with its descriptor.
    _map: MapData,
}

impl Sampling {
    pub(super) fn of(programs: &mut Ebpf) -> Result<Self, LoadError> {
        let Some(Map::Array(data)) = programs.take_map(map_name::SAMPLING) else {
            return Err(LoadError::NoObject);
        };
        let word = Region::map(&data, 1, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
            .map_err(|error| explain(MapError::IoError(error).into()))?;
        Ok(Self { word, _map: data })
    }

    /// From now on one in so many, of listeners that are sampled; 0 = none.
    pub fn set(&self, one_in: u32) {
        if let Some(word) = self.word.words().first() {
            word.store(sampling_limit(one_in), Ordering::Release);
        }
    }
}

/// What they told. Its descriptor can be read from when there is something new.
pub struct Samples {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
}

impl Samples {
    pub(super) fn of(programs: &mut Ebpf) -> Result<Self, LoadError> {
        let ring = programs.take_map(map_name::SAMPLES).ok_or(LoadError::NoObject)?;
        let ring = RingBuf::try_from(ring).map_err(|error| explain(error.into()))?;
        Ok(Self { ring, lost: per_cpu(programs, map_name::SAMPLES_LOST)? })
    }

    /// How many found no room, since the programs were loaded.
    pub fn lost(&self) -> Result<u64, CountersError> {
        total(&self.lost, 0)
    }
}

impl Iterator for Samples {
    type Item = SampleRecord;

    /// The oldest one that was not read yet. After `None` there may be more later.
    fn next(&mut self) -> Option<SampleRecord> {
        let item = self.ring.next()?;
        (item.len() >= size_of::<SampleRecord>()).then(|| {
            // SAFETY: so many bytes are there, and any are a record.
            unsafe { ptr::read_unaligned(item.as_ptr().cast()) }
        })
    }
}

impl AsRawFd for Samples {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
