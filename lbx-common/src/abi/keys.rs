//! Keys of the bucket maps, as the two words that the kernel compares.

use crate::bytes::{Be16, Be32};

/// A key as words; all-zero is no key.
pub type KeyWords = [u64; 2];

/// Kinds of keys: in the lowest byte of the first word, so that no key has a zero there.
const LISTENER: u8 = 1;
const VIP: u8 = 2;
const REPLY: u8 = 3;
const ORIGIN: u8 = 4;
const PEER: u8 = 5;
const KNOWN_VNI: u8 = 6;
const KNOWN_REMOTE: u8 = 7;
const PROBE_SOURCE: u8 = 8;
const VLAN_DEVICE: u8 = 9;
const UDP_PORT: u8 = 10;
const REGION: u8 = 11;
/// Bit in the kind: the address is the id of an IPv6 address.
const V6: u8 = 0x80;

/// An address as keys and values hold it: an IPv4 address itself, or the id of an IPv6 address, which the map
/// `ADDRESSES` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// Whether it is the id of an IPv6 address.
    pub v6: bool,
    /// The address as on the wire, or the id.
    pub raw: u32,
}

impl Host {
    /// An IPv4 address.
    #[inline(always)]
    pub const fn v4(address: Be32) -> Self {
        Self { v6: false, raw: address.0 }
    }

    /// The id of an IPv6 address.
    #[inline(always)]
    pub const fn v6(id: u32) -> Self {
        Self { v6: true, raw: id }
    }
}

/// Ports that a listener has or an origin answers from: those that agree with `port` in their first `length`
/// bits. A range is made of such blocks; 16 bits are one port, 0 are all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortBlock {
    /// The first port of the block, host order.
    pub port: u16,
    /// Leading bits that count, 0 to 16.
    pub length: u8,
}

impl PortBlock {
    /// Bits of a port.
    pub const WHOLE: u8 = 16;

    /// One port.
    #[inline(always)]
    pub const fn one(port: Be16) -> Self {
        Self { port: port.to_host(), length: Self::WHOLE }
    }

    /// The block of `length` leading bits that `port` lies in.
    #[inline(always)]
    pub const fn around(port: Be16, length: u8) -> Self {
        // In 32 bits, where a shift by 16 is defined.
        let mask = 0xffff_u32.wrapping_shl(Self::WHOLE.wrapping_sub(length) as u32);
        #[expect(clippy::cast_possible_truncation, reason = "the sixteen bits of a port")]
        let mask = mask as u16;
        Self { port: port.to_host() & mask, length }
    }
}

#[inline(always)]
const fn word(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

/// Port, protocol and kind in one half word.
#[inline(always)]
const fn tail(port: u16, protocol: u8, kind: u8) -> u32 {
    ((port as u32) << 16) | ((protocol as u32) << 8) | kind as u32
}

/// The first word of a key about a host.
#[inline(always)]
const fn about(host: Host, port: u16, protocol: u8, kind: u8) -> u64 {
    word(tail(port, protocol, if host.v6 { kind | V6 } else { kind }), host.raw)
}

/// Key of `LISTENERS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenerKey {
    /// A listener's ports.
    Ports {
        /// The VIP.
        vip: Host,
        /// Protocol number.
        protocol: u8,
        /// Destination ports.
        ports: PortBlock,
    },
    /// Says that the address is a VIP, whatever the port.
    Vip(Host),
    /// What a listener is to clients of a region, where it is not the same to all.
    Region {
        /// Listener id.
        listener: u32,
        /// Region id.
        region: u32,
    },
}

impl ListenerKey {
    /// The words that are hashed and compared. The second word has room for the ingress network.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        match self {
            Self::Ports { vip, protocol, ports } => {
                [about(vip, ports.port, protocol, LISTENER), ports.length as u64]
            }
            Self::Vip(vip) => [about(vip, 0, 0, VIP), 0],
            Self::Region { listener, region } => [word(tail(0, 0, REGION), listener), region as u64],
        }
    }

    /// The key that has these words.
    pub fn from_words([first, second]: KeyWords) -> Option<Self> {
        let (vip, port, protocol, kind) = split(first);
        let second = u32::try_from(second).ok()?;
        match kind {
            LISTENER => {
                let ports = PortBlock { port, length: u8::try_from(second).ok()? };
                Some(Self::Ports { vip, protocol, ports })
            }
            VIP => Some(Self::Vip(vip)),
            REGION => Some(Self::Region { listener: vip.raw, region: second }),
            _ => None,
        }
    }
}

/// Key of `REPLIES`: where a packet out of a virtual network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplyKey {
    /// Ports that an origin answers from.
    Ports {
        /// Vnet id.
        vnet: u32,
        /// Private address.
        address: Host,
        /// Protocol number.
        protocol: u8,
        /// Source ports.
        ports: PortBlock,
    },
    /// Says that the address is an origin of more than single ports.
    Origin {
        /// Vnet id.
        vnet: u32,
        /// Private address.
        address: Host,
    },
}

impl ReplyKey {
    /// The words that are hashed and compared.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        match self {
            Self::Ports { vnet, address, protocol, ports } => {
                [about(address, ports.port, protocol, REPLY), word(ports.length as u32, vnet)]
            }
            Self::Origin { vnet, address } => [about(address, 0, 0, ORIGIN), word(0, vnet)],
        }
    }

    /// The key that has these words.
    #[expect(clippy::cast_possible_truncation, reason = "two halves of the word")]
    pub fn from_words([first, second]: KeyWords) -> Option<Self> {
        let (address, port, protocol, kind) = split(first);
        let (length, vnet) = (u8::try_from(second >> 32).ok()?, second as u32);
        match kind {
            REPLY => Some(Self::Ports { vnet, address, protocol, ports: PortBlock { port, length } }),
            ORIGIN => Some(Self::Origin { vnet, address }),
            _ => None,
        }
    }
}

/// Places that a probe can name: a DSCP has six bits (RFC 2474 §3).
pub const PROBE_PLACES: u8 = 64;

/// Key of `PEERS`: who may send what through which tunnel, and the few other things that are looked up by an
/// address or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKey {
    /// A configured tunnel.
    Peer {
        /// Outer source address.
        remote: Host,
        /// Encapsulation, a number of [`crate::encap::Encap`].
        encap: u8,
        /// UDP destination port; 0 for GRE.
        port: Be16,
        /// Key on the wire.
        vni: u32,
    },
    /// Says that some tunnel has this key.
    KnownVni {
        /// Encapsulation.
        encap: u8,
        /// UDP destination port; 0 for GRE.
        port: Be16,
        /// Key on the wire.
        vni: u32,
    },
    /// Says that some tunnel has this remote.
    KnownRemote {
        /// Outer source address.
        remote: Host,
        /// Encapsulation.
        encap: u8,
        /// UDP destination port; 0 for GRE.
        port: Be16,
    },
    /// Inner source address of a vnet's health checks, on `lbx1`, and the way that they ask for.
    ProbeSource {
        /// The address.
        source: Host,
        /// Place of a tunnel among those of the vnet: the DSCP of the probe, below [`PROBE_PLACES`].
        place: u8,
    },
    /// A device that is a VLAN of another one.
    VlanDevice(u32),
    /// UDP port of tunnels; [`super::PeerValue::vnet`] is then the number of their encapsulation.
    UdpPort(Be16),
}

impl PeerKey {
    /// The words that are hashed and compared.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        match self {
            Self::Peer { remote, encap, port, vni } => {
                [about(remote, port.to_host(), encap, PEER), vni as u64]
            }
            Self::KnownVni { encap, port, vni } => {
                [word(tail(port.to_host(), encap, KNOWN_VNI), 0), vni as u64]
            }
            Self::KnownRemote { remote, encap, port } => {
                [about(remote, port.to_host(), encap, KNOWN_REMOTE), 0]
            }
            Self::ProbeSource { source, place } => [about(source, 0, place, PROBE_SOURCE), 0],
            Self::UdpPort(port) => [word(tail(port.to_host(), 0, UDP_PORT), 0), 0],
            Self::VlanDevice(ifindex) => [word(tail(0, 0, VLAN_DEVICE), ifindex), 0],
        }
    }

    /// The key that has these words.
    pub fn from_words([first, second]: KeyWords) -> Option<Self> {
        let (remote, port, encap, kind) = split(first);
        let (port, vni) = (Be16::new(port), u32::try_from(second).ok()?);
        match kind {
            PEER => Some(Self::Peer { remote, encap, port, vni }),
            KNOWN_VNI => Some(Self::KnownVni { encap, port, vni }),
            KNOWN_REMOTE => Some(Self::KnownRemote { remote, encap, port }),
            PROBE_SOURCE => Some(Self::ProbeSource { source: remote, place: encap }),
            UDP_PORT => Some(Self::UdpPort(port)),
            VLAN_DEVICE => Some(Self::VlanDevice(remote.raw)),
            _ => None,
        }
    }
}

/// Takes apart what [`about`] made.
#[expect(clippy::cast_possible_truncation, reason = "each field is cut out of the word on purpose")]
const fn split(first: u64) -> (Host, u16, u8, u8) {
    let tail = (first >> 32) as u32;
    let kind = tail as u8;
    let host = Host { v6: kind & V6 != 0, raw: first as u32 };
    (host, (tail >> 16) as u16, (tail >> 8) as u8, kind & !V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_survives_the_way_through_words_and_none_is_zero() {
        let port = Be16::new(443);
        for host in [Host::v4(Be32::from_octets([203, 0, 113, 80])), Host::v6(7)] {
            for ports in [PortBlock::one(port), PortBlock::around(port, 9), PortBlock::around(port, 0)] {
                let key = ListenerKey::Ports { vip: host, protocol: 6, ports };
                assert_eq!(ListenerKey::from_words(key.words()), Some(key));
                let key = ReplyKey::Ports { vnet: 7, address: host, protocol: 17, ports };
                assert_eq!(ReplyKey::from_words(key.words()), Some(key));
            }
            let key = ListenerKey::Vip(host);
            assert_eq!(ListenerKey::from_words(key.words()), Some(key));
            let key = ReplyKey::Origin { vnet: 0xffff, address: host };
            assert_eq!(ReplyKey::from_words(key.words()), Some(key));
            for key in [
                PeerKey::Peer { remote: host, encap: 2, port, vni: 0xffff_ffff },
                PeerKey::KnownVni { encap: 1, port: Be16(0), vni: 42 },
                PeerKey::KnownRemote { remote: host, encap: 2, port },
                PeerKey::ProbeSource { source: host, place: 0 },
                PeerKey::ProbeSource { source: host, place: PROBE_PLACES - 1 },
                PeerKey::VlanDevice(5),
                PeerKey::UdpPort(port),
            ] {
                assert_eq!(PeerKey::from_words(key.words()), Some(key));
                assert_ne!(key.words()[0], 0);
            }
        }
        let key = ListenerKey::Region { listener: 0xffff_ffff, region: 0x8000_0000 };
        assert_eq!(ListenerKey::from_words(key.words()), Some(key));
        assert_eq!(ListenerKey::from_words([0, 0]), None);
    }

    #[test]
    fn a_block_holds_the_ports_that_agree_in_its_bits() {
        let around = |port: u16, length| PortBlock::around(Be16::new(port), length);
        assert_eq!(around(8080, 16), PortBlock { port: 8080, length: 16 });
        assert_eq!(around(8080, 8), PortBlock { port: 0x1f00, length: 8 });
        assert_eq!(around(8080, 0), PortBlock { port: 0, length: 0 });
        assert_eq!(around(65_535, 1), PortBlock { port: 0x8000, length: 1 });
    }
}
