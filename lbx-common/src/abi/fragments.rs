//! Which way the fragments of a packet take.

/// What the fragments of one packet have in common (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address, as [`crate::ip::IpAddress::words`] has it.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Identification.
    pub id: u32,
    /// Vnet id of a reply; 0 for what clients send.
    pub vnet: u32,
    /// Protocol number.
    pub protocol: u32,
    /// 1 for IPv6.
    pub v6: u32,
}

/// What the first fragment found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FragmentValue {
    /// When it passed: nanoseconds since boot, set by who keeps it.
    pub time: u64,
    /// Endpoint id.
    pub endpoint: u32,
    /// To an endpoint: the tunnel's id. To a client: address or id of the VIP.
    pub way: u32,
    /// Listener id.
    pub listener: u32,
    /// `LISTENER_…`
    pub flags: u32,
    /// Hash of the flow.
    pub hash: u32,
    /// 0.
    pub spare: u32,
}
