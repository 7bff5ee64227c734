//! Packets that the programs tell of: one in how many, and those that nobody has read yet.

use std::{ptr, sync::atomic::Ordering};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
};
use lbx_common::abi::{SampleRecord, map_name, sampling_limit};

use super::{
    counters::{CountersError, total},
    programs::{LoadError, explain, per_cpu},
    word::Word,
};

/// How many the programs tell of.
pub struct Sampling(Word);

impl Sampling {
    pub(super) fn of(programs: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self(Word::of(programs, map_name::SAMPLING)?))
    }

    /// From now on one in so many, of listeners that are sampled; 0 = none.
    pub fn set(&self, one_in: u32) {
        if let Some(word) = self.0.get() {
            word.store(sampling_limit(one_in), Ordering::Release);
        }
    }
}

/// What they told.
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
