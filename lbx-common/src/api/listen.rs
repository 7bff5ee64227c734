//! What a service listens on: a protocol and ports.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A protocol of layer 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Ports of a listener. Where several contain a port, one port goes before a range, and a range before any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// One port, not 0.
    One(u16),
    /// From the first to the last, which is larger; not 0.
    Range(u16, u16),
    /// All of 1 to 65535.
    Any,
}

impl Ports {
    /// The first port.
    pub const fn first(self) -> u16 {
        match self {
            Self::One(port) => port,
            Self::Range(first, _) => first,
            Self::Any => 1,
        }
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        match self {
            Self::One(port) => port,
            Self::Range(_, last) => last,
            Self::Any => u16::MAX,
        }
    }

    /// All of them.
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first()..=self.last()
    }

    /// Whether there is a port in both.
    pub const fn overlap(self, other: Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(f, "{port}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Any => f.write_str("any"),
        }
    }
}

/// A protocol and its ports, written `tcp/443`, `tcp/8000-8999` or `udp/any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: Ports,
}

/// The text is no listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// It has another form.
    #[error(
        "`{0}` is not a listener: write `tcp/PORT`, `tcp/FIRST-LAST` or `tcp/any`, or the same with `udp`, with \
         ports from 1 to 65535"
    )]
    Form(String),
    /// Its range runs backwards or has one port only.
    #[error("`{text}` is not a range of ports: write `{right}`")]
    Range {
        /// The text.
        text: String,
        /// What would be right.
        right: Listen,
    },
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ListenError::Form(text.to_owned());
        // Digits alone: `u16` would take a sign as well.
        let port = |digits: &str| {
            let port =
                digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
            port.filter(|&port: &u16| port != 0).ok_or_else(wrong)
        };
        let (protocol, ports) = text.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        let right = |ports| ListenError::Range { text: text.to_owned(), right: Self { protocol, ports } };
        let ports = match ports.split_once('-') {
            None if ports == "any" => Ports::Any,
            None => Ports::One(port(ports)?),
            Some((first, last)) => match (port(first)?, port(last)?) {
                (first, last) if first < last => Ports::Range(first, last),
                (first, last) if first > last => return Err(right(Ports::Range(last, first))),
                (only, _) => return Err(right(Ports::One(only))),
            },
        };
        Ok(Self { protocol, ports })
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol.as_str(), self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for (text, protocol, ports) in [
            ("tcp/1", Protocol::Tcp, Ports::One(1)),
            ("udp/65535", Protocol::Udp, Ports::One(65_535)),
            ("tcp/8000-8999", Protocol::Tcp, Ports::Range(8000, 8999)),
            // Not the same as `any`, which goes behind every range.
            ("tcp/1-65535", Protocol::Tcp, Ports::Range(1, 65_535)),
            ("udp/any", Protocol::Udp, Ports::Any),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen, Listen { protocol, ports });
            assert_eq!(listen.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_listener_is_told_what_would_be_one() {
        for text in ["", "tcp", "tcp/", "tcp/0", "tcp/65536", "tcp/+1", "tcp/ 1", "sctp/1", "TCP/1", "80"] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a listener: write `tcp/PORT`, ")), "{error}");
        }
        for text in ["tcp/-", "tcp/1-", "tcp/-1", "tcp/0-1", "tcp/1-65536", "tcp/1-2-3", "tcp/any-1", "tcp/*"]
        {
            assert_eq!(text.parse::<Listen>(), Err(ListenError::Form(text.to_owned())));
        }
        for (text, right) in [("tcp/2-1", "tcp/1-2"), ("udp/7-7", "udp/7")] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a range of ports: write `{right}`"));
        }
    }

    #[test]
    fn ports_overlap_where_they_share_one() {
        let range = Ports::Range(10, 20);
        for (other, shared) in [
            (Ports::One(9), false),
            (Ports::One(10), true),
            (Ports::One(20), true),
            (Ports::One(21), false),
            (Ports::Range(1, 9), false),
            (Ports::Range(1, 10), true),
            (Ports::Range(12, 13), true),
            (Ports::Range(20, 30), true),
            (Ports::Range(21, 30), false),
            (Ports::Any, true),
        ] {
            assert_eq!((range.overlap(other), other.overlap(range)), (shared, shared), "{other}");
        }
    }
}
