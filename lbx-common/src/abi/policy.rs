//! Who may send to a service, and how many flows may begin there.

use super::Words;

/// What a listener with [`super::LISTENER_HAS_POLICY`] asks of its packets. Listeners of one service have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct PolicyEntry {
    /// Id of the list of prefixes in `PREFIXES_V4` or `PREFIXES_V6`; 0 = every source may send.
    pub list: u32,
    /// Listener id whose bucket in `LIMITS` the service has; 0 = the entry is unset.
    pub bucket: u32,
    /// Time that a flow takes of the service's bucket, in nanoseconds; 0 = flows are not limited.
    pub flow_interval_ns: u32,
    /// The same of its source's bucket.
    pub source_interval_ns: u32,
}

/// Key of `PREFIXES_V4`, behind its length in bits, which counts those of the list as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixV4 {
    /// Id of the list.
    pub list: u32,
    /// The address, as on the wire.
    pub address: [u8; 4],
}

/// Key of `PREFIXES_V6`, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixV6 {
    /// Id of the list.
    pub list: u32,
    /// The address, as on the wire.
    pub address: [u8; 16],
}

/// Bits of a list's id in front of every prefix.
pub const LIST_BITS: u32 = u32::BITS;

/// Verdict of a prefix: its sources may send. Whatever else is found, and where nothing is found, they may not.
pub const PREFIX_ALLOWED: u32 = 1;
/// Verdict of a prefix: its sources may not send.
pub const PREFIX_DENIED: u32 = 2;

/// Buckets of sources: the first elements of `LIMITS`. Sources that share one share its rate.
pub const SOURCE_BUCKETS: u32 = 1 << 18;

/// Index in `LIMITS` of the bucket of a service.
#[inline(always)]
pub const fn service_bucket(listener: u32) -> u32 {
    SOURCE_BUCKETS.wrapping_add(listener)
}

// SAFETY: repr(C), 4 × 4 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for PolicyEntry {}
// SAFETY: repr(C), 4 + 4 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for PrefixV4 {}
// SAFETY: repr(C), 4 + 16 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for PrefixV6 {}
