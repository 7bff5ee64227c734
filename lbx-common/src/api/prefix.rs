//! Prefixes of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Family;

/// All addresses that begin with the same bits, written `192.0.2.0/24` or `2001:db8::/32`. The bits behind
/// the length are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that an address is in; of all its bits where it has fewer.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let length = length.min(bits_of(address));
        Self { address: masked(address, length), length }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && masked(address, self.length) == self.address
    }

    /// The first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The family of its addresses.
    pub const fn family(self) -> Family {
        Family::of(self.address)
    }
}

/// The text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It has another form.
    #[error("`{0}` is not a prefix: write it as `192.0.2.0/24` or `2001:db8::/32`")]
    Form(String),
    /// It is an address.
    #[error("`{0}` has no length: write `{0}/{1}` for this one address")]
    NoLength(IpAddr, u8),
    /// Its length is larger than an address.
    #[error("`{0}` is longer than an address: {1} addresses have {2} bits")]
    TooLong(String, Family, u8),
    /// It has bits behind its length.
    #[error(
        "`{text}` has bits set behind the length: write `{right}`, or `{address}/{bits}` for this one address"
    )]
    HostBits {
        /// The text.
        text: String,
        /// What would be right.
        right: Prefix,
        /// The address.
        address: IpAddr,
        /// Bits of an address.
        bits: u8,
    },
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || PrefixError::Form(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = bits_of(address);
        let length = length.ok_or(PrefixError::NoLength(address, bits))?;
        // Digits alone: `u8` would take a sign as well.
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let length = length.parse().ok().filter(|&length: &u8| length <= bits);
        let length =
            length.ok_or_else(|| PrefixError::TooLong(text.to_owned(), Family::of(address), bits))?;
        let right = Self::around(address, length);
        if right.address == address {
            return Ok(right);
        }
        Err(PrefixError::HostBits { text: text.to_owned(), right, address, bits })
    }
}

const fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with only its first bits.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & !u32::MAX.checked_shr(length).unwrap_or(0)).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::MAX.checked_shr(length).unwrap_or(0)).into()),
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_every_length_are_read_and_shown() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.7/32", "::/0", "2001:db8::/32", "2001:db8::7/128"]
        {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        let prefix: Prefix = "128.0.0.0/1".parse().unwrap();
        assert_eq!((prefix.address().to_string().as_str(), prefix.length()), ("128.0.0.0", 1));
        assert_eq!("2001:DB8:0::/32".parse::<Prefix>().unwrap().to_string(), "2001:db8::/32");
    }

    #[test]
    fn addresses_are_in_prefixes_of_their_family() {
        let contains = |prefix: &str, address: &str| {
            prefix.parse::<Prefix>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("192.0.2.0/25", "192.0.2.127") && !contains("192.0.2.0/25", "192.0.2.128"));
        assert!(contains("::/0", "2001:db8::1") && !contains("::/0", "192.0.2.1"));
        assert!(contains("2001:db8::7/128", "2001:db8::7") && !contains("2001:db8::7/128", "2001:db8::8"));
    }

    #[test]
    fn what_is_no_prefix_is_told_what_would_be_one() {
        let form =
            |text: &str| format!("`{text}` is not a prefix: write it as `192.0.2.0/24` or `2001:db8::/32`");
        for text in
            ["", "/", "/24", "all", "192.0.2/24", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/x", "::/1/2"]
        {
            assert_eq!(text.parse::<Prefix>().unwrap_err().to_string(), form(text));
        }
        for (text, expected) in [
            ("192.0.2.7", "`192.0.2.7` has no length: write `192.0.2.7/32` for this one address"),
            ("2001:db8::7", "`2001:db8::7` has no length: write `2001:db8::7/128` for this one address"),
            ("192.0.2.0/33", "`192.0.2.0/33` is longer than an address: IPv4 addresses have 32 bits"),
            ("192.0.2.0/999", "`192.0.2.0/999` is longer than an address: IPv4 addresses have 32 bits"),
            ("::/129", "`::/129` is longer than an address: IPv6 addresses have 128 bits"),
            (
                "192.0.2.7/24",
                "`192.0.2.7/24` has bits set behind the length: write `192.0.2.0/24`, or `192.0.2.7/32` for this one \
                 address",
            ),
            (
                "2001:db8::7/64",
                "`2001:db8::7/64` has bits set behind the length: write `2001:db8::/64`, or `2001:db8::7/128` for this \
                 one address",
            ),
            (
                "10.0.0.1/0",
                "`10.0.0.1/0` has bits set behind the length: write `0.0.0.0/0`, or `10.0.0.1/32`",
            ),
        ] {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
