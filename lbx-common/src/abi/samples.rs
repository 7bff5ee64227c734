//! What programs tell the agent of some packets.
//!
//! Neither this nor the maps for it outlive the programs: a change here raises no version.

/// A packet on its way to an endpoint: one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SampleRecord {
    /// The client, as [`crate::ip::IpAddress::words`] has it.
    pub client: [u64; 2],
    /// The VIP, likewise.
    pub vip: [u64; 2],
    /// Port of the client and of the VIP, as on the wire.
    pub ports: [u16; 2],
    /// Length of the IP packet in bytes, host order.
    pub length: u16,
    /// Protocol number.
    pub protocol: u8,
    /// 1 = the addresses are IPv6.
    pub v6: u8,
    /// Listener id.
    pub listener: u32,
    /// Endpoint id.
    pub endpoint: u32,
    /// Tunnel id.
    pub tunnel: u32,
    /// Vnet id.
    pub vnet: u32,
}

// SAFETY: repr(C), numbers without padding between or after them, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for SampleRecord {}

/// How many of 2³² packets are told of, where one in so many is; 0 = none.
pub const fn sampling_limit(one_in: u32) -> u64 {
    match (1_u64 << 32).checked_div(one_in as u64) {
        Some(limit) => limit,
        None => 0,
    }
}
