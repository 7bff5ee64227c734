//! The per-CPU counters of the kernel: read as sums, cleared when their owner is gone.

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use lbx_common::{
    abi::{MAX_REASONS, TrafficCounter, drop_index},
    api::Traffic,
    track::Event,
};

/// A counter map could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot access the counters: {0}")]
pub struct CountersError(#[from] MapError);

/// Whose packets are counted, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A listener.
    Listener(u32),
    /// An endpoint.
    Endpoint(u16),
    /// A tunnel.
    Tunnel(u32),
}

/// What is counted.
pub trait Counters {
    /// Sums over all CPUs.
    fn traffic(&self, of: Owner) -> Result<Traffic, CountersError>;
    /// Sum of a vnet's drops for a reason's number.
    fn drops(&self, vnet: u32, reason: u8) -> Result<u64, CountersError>;
    /// How often something happened to flows that may live elsewhere than hash and table say.
    fn flows(&self, event: Event) -> Result<u64, CountersError>;
    /// Starts somebody's counters anew.
    fn clear(&mut self, of: Owner) -> Result<(), CountersError>;
    /// Starts a vnet's drop counters anew.
    fn clear_drops(&mut self, vnet: u32) -> Result<(), CountersError>;
}

/// None: for planning without a kernel.
pub struct NoCounters;

impl Counters for NoCounters {
    fn traffic(&self, _: Owner) -> Result<Traffic, CountersError> {
        Ok(Traffic::default())
    }
    fn drops(&self, _: u32, _: u8) -> Result<u64, CountersError> {
        Ok(0)
    }
    fn flows(&self, _: Event) -> Result<u64, CountersError> {
        Ok(0)
    }
    fn clear(&mut self, _: Owner) -> Result<(), CountersError> {
        Ok(())
    }
    fn clear_drops(&mut self, _: u32) -> Result<(), CountersError> {
        Ok(())
    }
}

/// The counters in the kernel.
pub struct KernelCounters {
    /// By listener id.
    pub listeners: PerCpuArray<MapData, TrafficCounter>,
    /// By endpoint id.
    pub endpoints: PerCpuArray<MapData, TrafficCounter>,
    /// By tunnel id.
    pub tunnels: PerCpuArray<MapData, TrafficCounter>,
    /// By [`drop_index`].
    pub drops: PerCpuArray<MapData, u64>,
    /// By [`Event`].
    pub flows: PerCpuArray<MapData, u64>,
}

pub(super) fn total(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, CountersError> {
    Ok(map.get(&index, 0)?.iter().fold(0, |sum, cpu| sum.wrapping_add(*cpu)))
}

fn sum(values: &PerCpuValues<TrafficCounter>) -> Traffic {
    values.iter().fold(Traffic::default(), |sum, cpu| Traffic {
        in_packets: sum.in_packets.wrapping_add(cpu.in_packets),
        in_bytes: sum.in_bytes.wrapping_add(cpu.in_bytes),
        out_packets: sum.out_packets.wrapping_add(cpu.out_packets),
        out_bytes: sum.out_bytes.wrapping_add(cpu.out_bytes),
        tcp_syns: sum.tcp_syns.wrapping_add(cpu.tcp_syns),
    })
}

/// Zeroes an element if it is not zero already.
fn clear<T: aya::Pod + Default + PartialEq>(
    map: &mut PerCpuArray<MapData, T>,
    index: u32,
) -> Result<(), CountersError> {
    let values = map.get(&index, 0)?;
    if values.iter().any(|value| *value != T::default()) {
        let zeroes = values.iter().map(|_| T::default()).collect::<Vec<_>>();
        map.set(index, PerCpuValues::try_from(zeroes).map_err(MapError::IoError)?, 0)?;
    }
    Ok(())
}

impl Counters for KernelCounters {
    fn traffic(&self, of: Owner) -> Result<Traffic, CountersError> {
        let values = match of {
            Owner::Listener(id) => self.listeners.get(&id, 0)?,
            Owner::Endpoint(id) => self.endpoints.get(&u32::from(id), 0)?,
            Owner::Tunnel(id) => self.tunnels.get(&id, 0)?,
        };
        Ok(sum(&values))
    }

    fn drops(&self, vnet: u32, reason: u8) -> Result<u64, CountersError> {
        total(&self.drops, drop_index(vnet, reason))
    }

    fn flows(&self, event: Event) -> Result<u64, CountersError> {
        total(&self.flows, event as u32)
    }

    fn clear(&mut self, of: Owner) -> Result<(), CountersError> {
        match of {
            Owner::Listener(id) => clear(&mut self.listeners, id),
            Owner::Endpoint(id) => clear(&mut self.endpoints, u32::from(id)),
            Owner::Tunnel(id) => clear(&mut self.tunnels, id),
        }
    }

    fn clear_drops(&mut self, vnet: u32) -> Result<(), CountersError> {
        (0..MAX_REASONS).try_for_each(|reason| clear(&mut self.drops, drop_index(vnet, reason)))
    }
}
