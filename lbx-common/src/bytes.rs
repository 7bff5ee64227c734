//! Numbers in network byte order, as they stand in packets and maps.
//!
//! This module settles endianness once: a `Be16` or `Be32` holds the bytes as they were loaded, so that
//! comparing, hashing and copying cost nothing; only [`Be16::to_host`] and its kin swap.

/// A 16-bit number in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Be16(pub u16);

impl Be16 {
    /// From a host-order number.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// As a host-order number.
    #[inline(always)]
    pub const fn to_host(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// A 32-bit number in network byte order: an IPv4 address, a GRE key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Be32(pub u32);

impl Be32 {
    /// From a host-order number.
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// As a host-order number.
    #[inline(always)]
    pub const fn to_host(self) -> u32 {
        u32::from_be(self.0)
    }

    /// From the four bytes on the wire.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four bytes on the wire.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

/// A 16-byte address; IPv4 stands there as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct Address(pub [u8; 16]);

#[expect(clippy::many_single_char_names, reason = "sixteen bytes in their order")]
impl Address {
    /// An IPv4 address.
    pub const fn from_v4(address: Be32) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// As two words, in memory order.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
    }

    /// As four half words, in memory order.
    #[inline(always)]
    pub const fn quads(&self) -> [u32; 4] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
    }

    /// From two words, in memory order.
    #[inline(always)]
    pub const fn from_words([first, second]: [u64; 2]) -> Self {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
            (first.to_ne_bytes(), second.to_ne_bytes());
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Whether no byte is set: no address.
    #[inline(always)]
    pub const fn is_unset(&self) -> bool {
        let [first, second] = self.words();
        first | second == 0
    }

    /// The IPv4 address in it; of an IPv6 address the last four bytes, so ask only where IPv4 is known.
    #[inline(always)]
    pub const fn v4(&self) -> Be32 {
        let [.., a, b, c, d] = self.0;
        Be32::from_octets([a, b, c, d])
    }
}
