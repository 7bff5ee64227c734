//! A word that the agent sets and programs read, those alone that were loaded with it.

use std::sync::atomic::AtomicU64;

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};
use nix::sys::mman::ProtFlags;

use super::{
    mapped::Region,
    programs::{LoadError, explain},
};

/// The only word of a map.
pub struct Word {
    region: Region,
    /// The programs are loaded with its descriptor.
    _map: MapData,
}

impl Word {
    /// That of a map of loaded programs.
    pub fn of(programs: &mut Ebpf, map: &str) -> Result<Self, LoadError> {
        let Some(Map::Array(data)) = programs.take_map(map) else {
            return Err(LoadError::NoObject);
        };
        let region = Region::map(&data, 1, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
            .map_err(|error| explain(MapError::IoError(error).into()))?;
        Ok(Self { region, _map: data })
    }

    /// The word.
    pub fn get(&self) -> Option<&AtomicU64> {
        self.region.words().first()
    }
}
