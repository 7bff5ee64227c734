//! IP of either family, as far as both say the same: one description of a header, one trait for addresses.
//!
//! Code that handles packets is written once over [`IpAddress`]; where the families differ is in `v4` and `v6`.

pub mod v4;
pub mod v6;

use crate::{
    abi::Host,
    bytes::{Address, Be16, Be32},
    packet::Packet,
    tables::Tables,
};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of GRE.
pub const GRE: u8 = 47;
/// Protocol number of `ICMPv6`.
pub const ICMPV6: u8 = 58;

/// Ethernet type of IPv4.
pub const ETHER_IPV4: Be16 = Be16::new(0x0800);
/// Ethernet type of ARP.
pub const ETHER_ARP: Be16 = Be16::new(0x0806);
/// Ethernet type of IPv6.
pub const ETHER_IPV6: Be16 = Be16::new(0x86dd);

/// Offset at which an IP header may begin at most.
pub const MAX_OFFSET: usize = 0x1fff;
/// Bytes that a header and its extensions may have at most: four extensions of up to 2048 bytes each.
const MAX_HEADERS: usize = 0x3fff;

/// Whether a packet is a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The part with the header of layer 4.
    First,
    /// Another part.
    Later,
}

/// What an IP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip<A> {
    /// Offset of the header in the frame.
    pub at: usize,
    /// Bytes of the header, its options and its extension headers.
    pub header_length: usize,
    /// Length of the packet, header included; the frame holds at least as much.
    pub total_length: u16,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// Whether the packet may not be fragmented; always so for IPv6.
    pub dont_fragment: bool,
    /// Whether the packet is a fragment.
    pub fragment: Fragment,
    /// Identification, of fragments in IPv6; 0 where there is none.
    pub id: u32,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
}

impl<A> Ip<A> {
    /// Offset in the frame of what follows the headers.
    #[inline(always)]
    pub fn payload_at(&self) -> usize {
        self.at.wrapping_add(self.header_length)
    }

    /// The same header, with offsets of which the verifier knows no more than that they are small.
    #[inline(always)]
    #[must_use]
    pub fn settled<T: Tables>(self, tables: &T) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "offsets in a packet")]
        let both = tables.forget((self.at as u32) << 16 | self.header_length as u32);
        let (at, header_length) = ((both >> 16) as usize & MAX_OFFSET, both as usize & MAX_HEADERS);
        Self { at, header_length, ..self }
    }

    /// Bytes after the headers.
    #[inline(always)]
    pub fn payload_length(&self) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "headers end within the packet, whose length is u16"
        )]
        self.total_length.wrapping_sub(self.header_length as u16)
    }
}

/// Why there is no [`Ip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoIp<A> {
    /// Another protocol, or too short to tell.
    Other,
    /// A header that contradicts itself or the frame; the destination could still be read.
    Malformed {
        /// Where it was to go.
        destination: A,
    },
}

/// An address of either family, and what depends on it.
pub trait IpAddress: Copy + PartialEq {
    /// Whether the family is IPv6.
    const V6: bool;
    /// Ethernet type of the family.
    const ETHER: Be16;
    /// Bytes of a header without options.
    const HEADER_LEN: usize;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// The header at `at`.
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Ip<Self>, NoIp<Self>>;

    /// The header at `at` of a packet that an ICMP error quotes: its length is not that of anything in the frame.
    fn parse_quoted<P: Packet>(packet: &P, at: usize) -> Option<Ip<Self>>;

    /// The address as keys hold it; `None` where no table can know it.
    fn host<T: Tables>(self, tables: &T) -> Option<Host>;

    /// The address that a key's host stands for.
    fn from_host<T: Tables>(host: Host, tables: &T) -> Option<Self>;

    /// From the 16 bytes of an entry.
    fn from_entry(address: &Address) -> Self;

    /// Whether a host can have the address: an answer may be sent there. Not unset, loopback, or of a group.
    fn is_host_address(self) -> bool;

    /// As the two words that are hashed; those of IPv4 fill one.
    fn words(self) -> [u64; 2];

    /// The address of such words.
    fn of_words(words: [u64; 2]) -> Self;

    /// As four 32-bit words in memory order; those of IPv4 fill one.
    fn quads(self) -> [u32; 4];
}

impl IpAddress for Be32 {
    const V6: bool = false;
    const ETHER: Be16 = ETHER_IPV4;
    const HEADER_LEN: usize = v4::LEN;
    const ICMP: u8 = ICMP;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Ip<Self>, NoIp<Self>> {
        v4::parse(packet, at)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet>(packet: &P, at: usize) -> Option<Ip<Self>> {
        v4::parse_quoted(packet, at)
    }

    #[inline(always)]
    fn host<T: Tables>(self, _: &T) -> Option<Host> {
        Some(Host::v4(self))
    }

    #[inline(always)]
    fn from_host<T: Tables>(host: Host, _: &T) -> Option<Self> {
        Some(Self(host.raw))
    }

    #[inline(always)]
    fn from_entry(address: &Address) -> Self {
        address.v4()
    }

    #[inline(always)]
    fn is_host_address(self) -> bool {
        let [first, ..] = self.octets();
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half of the first word")]
    fn of_words([first, _]: [u64; 2]) -> Self {
        Self(first as u32)
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u64::from(self.0), 0]
    }

    #[inline(always)]
    fn quads(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }
}

impl IpAddress for Address {
    const V6: bool = true;
    const ETHER: Be16 = ETHER_IPV6;
    const HEADER_LEN: usize = v6::LEN;
    const ICMP: u8 = ICMPV6;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, at: usize) -> Result<Ip<Self>, NoIp<Self>> {
        v6::parse(packet, at)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet>(packet: &P, at: usize) -> Option<Ip<Self>> {
        v6::parse_quoted(packet, at)
    }

    #[inline(always)]
    fn host<T: Tables>(self, tables: &T) -> Option<Host> {
        tables.address_id(&self).map(Host::v6)
    }

    #[inline(always)]
    fn from_host<T: Tables>(host: Host, tables: &T) -> Option<Self> {
        tables.address(host.raw).copied()
    }

    #[inline(always)]
    fn from_entry(address: &Address) -> Self {
        *address
    }

    #[inline(always)]
    fn is_host_address(self) -> bool {
        // RFC 4291 §2.4: ::/8 has the unspecified and the loopback address, ff00::/8 the groups.
        let [first, ..] = self.0;
        first != 0 && first != 0xff
    }

    #[inline(always)]
    fn of_words(words: [u64; 2]) -> Self {
        Self::from_words(words)
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        Self::words(&self)
    }

    #[inline(always)]
    fn quads(self) -> [u32; 4] {
        Self::quads(&self)
    }
}
