//! Keys of the bucket maps, as the two words that the kernel compares.

use crate::bytes::{Be16, Be32};

/// A key as words; all-zero is no key.
pub type KeyWords = [u64; 2];

/// Last byte of each key: what kind of key it is, so that no key is all-zero.
const LISTENER: u8 = 1;
const VIP: u8 = 2;
const REPLY: u8 = 3;
const PEER: u8 = 4;
const KNOWN_VNI: u8 = 5;
const KNOWN_REMOTE: u8 = 6;
const PROBE_SOURCE: u8 = 7;

#[inline(always)]
const fn word(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

/// Port, protocol and kind in one half word.
#[inline(always)]
const fn tail(port: Be16, protocol: u8, kind: u8) -> u32 {
    ((port.0 as u32) << 16) | ((protocol as u32) << 8) | kind as u32
}

/// Key of `LISTENERS_V4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenerKey {
    /// A listener.
    Exact {
        /// The VIP.
        vip: Be32,
        /// Protocol number.
        protocol: u8,
        /// Destination port.
        port: Be16,
    },
    /// Says that the address is a VIP, whatever the port.
    Vip(Be32),
}

impl ListenerKey {
    /// The words that are hashed and compared. The second word has room for the ingress network.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        match self {
            Self::Exact { vip, protocol, port } => [word(tail(port, protocol, LISTENER), vip.0), 0],
            Self::Vip(vip) => [word(tail(Be16(0), 0, VIP), vip.0), 0],
        }
    }

    /// The key that has these words.
    pub fn from_words([first, _]: KeyWords) -> Option<Self> {
        let (vip, port, protocol, kind) = split(first);
        match kind {
            LISTENER => Some(Self::Exact { vip, protocol, port }),
            VIP => Some(Self::Vip(vip)),
            _ => None,
        }
    }
}

/// Key of `REPLIES_V4`: where a packet out of a virtual network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyKey {
    /// Vnet id.
    pub vnet: u32,
    /// Private address of the endpoint.
    pub address: Be32,
    /// Protocol number.
    pub protocol: u8,
    /// Source port.
    pub port: Be16,
}

impl ReplyKey {
    /// The words that are hashed and compared.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        [word(tail(self.port, self.protocol, REPLY), self.address.0), self.vnet as u64]
    }

    /// The key that has these words.
    pub fn from_words([first, second]: KeyWords) -> Option<Self> {
        let (address, port, protocol, kind) = split(first);
        let vnet = u32::try_from(second).ok()?;
        (kind == REPLY).then_some(Self { vnet, address, protocol, port })
    }
}

/// Key of `PEERS_V4`: who may send what through which tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKey {
    /// A configured tunnel.
    Peer {
        /// Outer source address.
        remote: Be32,
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
        remote: Be32,
        /// Encapsulation.
        encap: u8,
        /// UDP destination port; 0 for GRE.
        port: Be16,
    },
    /// Inner source address of a vnet's health checks, on `lbx1`.
    ProbeSource(Be32),
}

impl PeerKey {
    /// The words that are hashed and compared.
    #[inline(always)]
    pub const fn words(self) -> KeyWords {
        match self {
            Self::Peer { remote, encap, port, vni } => [word(tail(port, encap, PEER), remote.0), vni as u64],
            Self::KnownVni { encap, port, vni } => [word(tail(port, encap, KNOWN_VNI), 0), vni as u64],
            Self::KnownRemote { remote, encap, port } => [word(tail(port, encap, KNOWN_REMOTE), remote.0), 0],
            Self::ProbeSource(source) => [word(tail(Be16(0), 0, PROBE_SOURCE), source.0), 0],
        }
    }

    /// The key that has these words.
    pub fn from_words([first, second]: KeyWords) -> Option<Self> {
        let (remote, port, encap, kind) = split(first);
        let vni = u32::try_from(second).ok()?;
        match kind {
            PEER => Some(Self::Peer { remote, encap, port, vni }),
            KNOWN_VNI => Some(Self::KnownVni { encap, port, vni }),
            KNOWN_REMOTE => Some(Self::KnownRemote { remote, encap, port }),
            PROBE_SOURCE => Some(Self::ProbeSource(remote)),
            _ => None,
        }
    }
}

/// Takes apart what [`word`] and [`tail`] made.
#[expect(clippy::cast_possible_truncation, reason = "each field is cut out of the word on purpose")]
const fn split(first: u64) -> (Be32, Be16, u8, u8) {
    let tail = (first >> 32) as u32;
    (Be32(first as u32), Be16((tail >> 16) as u16), (tail >> 8) as u8, tail as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_survives_the_way_through_words_and_none_is_zero() {
        let (ip, port) = (Be32::from_octets([203, 0, 113, 80]), Be16::new(443));
        for key in [ListenerKey::Exact { vip: ip, protocol: 6, port }, ListenerKey::Vip(ip)] {
            assert_eq!(ListenerKey::from_words(key.words()), Some(key));
        }
        let reply = ReplyKey { vnet: 7, address: ip, protocol: 17, port };
        assert_eq!(ReplyKey::from_words(reply.words()), Some(reply));
        for key in [
            PeerKey::Peer { remote: ip, encap: 2, port, vni: 0xffff_ffff },
            PeerKey::KnownVni { encap: 1, port: Be16(0), vni: 42 },
            PeerKey::KnownRemote { remote: ip, encap: 2, port },
            PeerKey::ProbeSource(ip),
        ] {
            assert_eq!(PeerKey::from_words(key.words()), Some(key));
            assert_ne!(key.words(), [0, 0]);
        }
        assert_eq!(ListenerKey::from_words([0, 0]), None);
    }
}
