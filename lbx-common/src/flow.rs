//! What makes two packets belong together.

use crate::bytes::{Be16, Be32};

/// The 5-tuple of a packet over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowV4 {
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Protocol number.
    pub protocol: u8,
}
