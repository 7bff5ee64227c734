//! What stands between the outer headers and the inner packet: GRE, VXLAN or Geneve, and inner Ethernet.
//!
//! RFC 2784 and RFC 2890 (GRE), RFC 7348 §5 (VXLAN), RFC 8926 §3.4 (Geneve).

use std::fmt;

use anyhow::{Context, Result, ensure};

use super::{Encap, outer::Carrier};
use crate::family::Family;

const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
/// "Trans-Ether bridging": an Ethernet frame is inside.
const PROTOCOL_ETHERNET: u16 = 0x6558;
const MAC_BYTES: usize = 6;

/// The headers between, and what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shim<'a> {
    /// The kind.
    pub encap: Encap,
    /// Key or VNI; `None` in GRE without one.
    pub key: Option<u32>,
    /// Whether there is a GRE checksum.
    pub gre_checksum: bool,
    /// GRE sequence number.
    pub gre_sequence: Option<u32>,
    /// Destination and source MAC of the inner frame.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// Type of what is inside.
    pub protocol: u16,
    /// The inner packet.
    pub inner: &'a [u8],
}

/// What is wrong with such headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The bytes end within them.
    CutOff,
    /// Flags or a version that nobody sends.
    Flags,
    /// Bytes that must be zero are not.
    Reserved,
    /// The GRE checksum is wrong.
    Checksum,
    /// Something else is inside than the type says.
    Protocol,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutOff => "the tunnel header is cut off",
            Self::Flags => "unknown flags or version in the tunnel header",
            Self::Reserved => "reserved bits of the tunnel header are set",
            Self::Checksum => "the GRE checksum is wrong",
            Self::Protocol => "the inner packet is not of the type that its header says",
        })
    }
}

impl<'a> Shim<'a> {
    /// Takes the payload of the outer headers apart.
    pub fn read(carrier: Carrier, payload: &'a [u8]) -> Result<Self, Refused> {
        let shim = match carrier {
            Carrier::IpGre => Self::gre(Encap::Gre, payload),
            Carrier::UdpGre => Self::gre(Encap::GreUdp, payload),
            Carrier::UdpVxlan => Self::vxlan(payload),
            Carrier::UdpGeneve => Self::geneve(payload),
        }?;
        let said = Family::ALL.into_iter().find(|family| family.ethertype() == shim.protocol);
        let is = Family::of_packet(shim.inner);
        // In Ethernet there may be something else than IP, but what says it is IP must be.
        if said.map_or(shim.macs.is_some(), |said| is == Some(said)) {
            Ok(shim)
        } else {
            Err(Refused::Protocol)
        }
    }

    fn gre(encap: Encap, bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = bytes;
        let flags = take_u16(&mut rest)?;
        let protocol = take_u16(&mut rest)?;
        if flags & !(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE) != 0 {
            return Err(Refused::Flags);
        }
        let gre_checksum = flags & GRE_CHECKSUM != 0;
        if gre_checksum {
            let _checksum_and_reserved = take_u32(&mut rest)?;
            if internet_checksum(bytes) != 0 {
                return Err(Refused::Checksum);
            }
        }
        let key = if flags & GRE_KEY == 0 { None } else { Some(take_u32(&mut rest)?) };
        let gre_sequence = if flags & GRE_SEQUENCE == 0 { None } else { Some(take_u32(&mut rest)?) };
        Ok(Self { encap, key, gre_checksum, gre_sequence, macs: None, protocol, inner: rest })
    }

    fn vxlan(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = bytes;
        let [flags, reserved @ ..] = take_u32(&mut rest)?.to_be_bytes();
        let [vni @ .., last] = take_u32(&mut rest)?.to_be_bytes();
        if flags != 0x08 {
            return Err(Refused::Flags);
        }
        if reserved != [0; 3] || last != 0 {
            return Err(Refused::Reserved);
        }
        Self::ethernet(Encap::Vxlan, vni, rest)
    }

    fn geneve(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = bytes;
        let [version_and_options, control] = take_u16(&mut rest)?.to_be_bytes();
        let protocol = take_u16(&mut rest)?;
        let [vni @ .., last] = take_u32(&mut rest)?.to_be_bytes();
        // Neither options nor control packets nor critical options.
        if version_and_options != 0 || control & 0xc0 != 0 {
            return Err(Refused::Flags);
        }
        if control != 0 || last != 0 {
            return Err(Refused::Reserved);
        }
        if protocol == PROTOCOL_ETHERNET {
            return Self::ethernet(Encap::GeneveEthernet, vni, rest);
        }
        Ok(Self {
            encap: Encap::GeneveIp,
            key: Some(from_vni(vni)),
            gre_checksum: false,
            gre_sequence: None,
            macs: None,
            protocol,
            inner: rest,
        })
    }

    fn ethernet(encap: Encap, vni: [u8; 3], frame: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = frame;
        let destination = take::<MAC_BYTES>(&mut rest)?;
        let source = take::<MAC_BYTES>(&mut rest)?;
        let protocol = take_u16(&mut rest)?;
        Ok(Self {
            encap,
            key: Some(from_vni(vni)),
            gre_checksum: false,
            gre_sequence: None,
            macs: Some((destination, source)),
            protocol,
            inner: rest,
        })
    }

    /// The headers and the inner packet.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(32 + self.inner.len());
        match self.encap {
            Encap::Gre | Encap::GreUdp => return Ok(self.gre_bytes()),
            Encap::Vxlan => bytes.extend([0x08, 0, 0, 0]),
            Encap::GeneveIp => {
                bytes.extend([0, 0]);
                bytes.extend(self.protocol.to_be_bytes());
            }
            Encap::GeneveEthernet => {
                bytes.extend([0, 0]);
                bytes.extend(PROTOCOL_ETHERNET.to_be_bytes());
            }
        }
        let vni = self.key.context("a VNI")?;
        ensure!(vni < 1 << 24, "VNI {vni} has more than 24 bits");
        bytes.extend((vni << 8).to_be_bytes());
        if self.encap.has_ethernet() {
            let (destination, source) = self.macs.context("inner MACs")?;
            bytes.extend(destination);
            bytes.extend(source);
            bytes.extend(self.protocol.to_be_bytes());
        }
        bytes.extend(self.inner);
        Ok(bytes)
    }

    fn gre_bytes(&self) -> Vec<u8> {
        let flag = |is_there: bool, flag: u16| if is_there { flag } else { 0 };
        let flags = flag(self.gre_checksum, GRE_CHECKSUM)
            | flag(self.key.is_some(), GRE_KEY)
            | flag(self.gre_sequence.is_some(), GRE_SEQUENCE);
        let [flags_high, flags_low] = flags.to_be_bytes();
        let [protocol_high, protocol_low] = self.protocol.to_be_bytes();
        // RFC 2890 §2: key and sequence number follow the checksum, in this order.
        let mut after_checksum = Vec::with_capacity(8 + self.inner.len());
        after_checksum.extend(self.key.into_iter().flat_map(u32::to_be_bytes));
        after_checksum.extend(self.gre_sequence.into_iter().flat_map(u32::to_be_bytes));
        after_checksum.extend(self.inner);
        let mut bytes = vec![flags_high, flags_low, protocol_high, protocol_low];
        if self.gre_checksum {
            let with_zero = [&bytes[..], &[0; 4], &after_checksum].concat();
            bytes.extend(internet_checksum(&with_zero).to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes.extend(after_checksum);
        bytes
    }
}

fn from_vni([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Refused> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Refused::CutOff)?;
    *bytes = rest;
    Ok(*first)
}

fn take_u16(bytes: &mut &[u8]) -> Result<u16, Refused> {
    take(bytes).map(u16::from_be_bytes)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, Refused> {
    take(bytes).map(u32::from_be_bytes)
}

/// RFC 1071; 0 over bytes that hold their own right checksum.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    // At most 0xffff by now.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
