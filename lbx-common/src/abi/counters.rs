//! Per-CPU counters.

/// Reasons that the drop counters have room for, per virtual network.
pub const MAX_REASONS: u8 = 64;

/// Index of a drop counter. Vnet 0 stands for packets that belong to no virtual network.
#[inline(always)]
pub const fn drop_index(vnet: u32, reason: u8) -> u32 {
    vnet.wrapping_mul(MAX_REASONS as u32).wrapping_add(reason as u32)
}

/// Packets and bytes of inner IP packets, per direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrafficCounter {
    /// Packets towards endpoints.
    pub in_packets: u64,
    /// Bytes towards endpoints.
    pub in_bytes: u64,
    /// Packets towards clients.
    pub out_packets: u64,
    /// Bytes towards clients.
    pub out_bytes: u64,
    /// TCP connection attempts (SYN without ACK).
    pub tcp_syns: u64,
}

// SAFETY: repr(C), five u64, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for TrafficCounter {}
