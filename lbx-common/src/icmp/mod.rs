//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): what is answered, translated and made here.
//!
//! | file | owns |
//! |---|---|
//! | `echo` | answers to pings |
//! | `quoted` | the packet that an error is about |
//! | `answer` | errors that lbx makes |
//! | `reset` | the refusal of a TCP connection, which is no ICMP |

pub mod answer;
pub mod echo;
pub mod quoted;
pub mod reset;

use crate::{
    bytes::{Address, Be32},
    ip::IpAddress,
};

/// Bytes of an ICMP header.
pub const ICMP_LEN: usize = 8;
/// Offset of the checksum in it.
pub const CHECK: usize = 2;

/// Type of a neighbour solicitation (RFC 4861 §4.3).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;

/// `ICMPv6` that is between neighbours, never about a service: groups, routers, neighbours (RFC 2710, 3810, 4861).
#[inline(always)]
pub const fn is_host_matter(kind: u8) -> bool {
    matches!(kind, 130..=137 | 143)
}

/// The numbers of a family's messages.
pub trait Messages: IpAddress {
    /// Type of an echo request.
    const ECHO_REQUEST: u8;
    /// Type of an echo reply.
    const ECHO_REPLY: u8;
    /// Type and code: the hop limit was exceeded.
    const TIME_EXCEEDED: (u8, u8);
    /// Type and code: too big, with the MTU in the second word of the header.
    const TOO_BIG: (u8, u8);
    /// Type and code: nobody listens on the port.
    const PORT_UNREACHABLE: (u8, u8);

    /// Whether a type is that of an error about a packet.
    fn is_error(kind: u8) -> bool;
}

impl Messages for Be32 {
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const TIME_EXCEEDED: (u8, u8) = (11, 0);
    const TOO_BIG: (u8, u8) = (3, 4);
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, time exceeded, parameter problem. Redirects and source quench are not for end hosts.
        matches!(kind, 3 | 11 | 12)
    }
}

impl Messages for Address {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const TIME_EXCEEDED: (u8, u8) = (3, 0);
    const TOO_BIG: (u8, u8) = (2, 0);
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }
}
