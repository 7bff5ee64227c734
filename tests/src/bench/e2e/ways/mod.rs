//! The ways that are compared.
//!
//! | way | what the host does with a packet |
//! |---|---|
//! | `direct` | routes it to the gateway as it is; clients address origins: the least of all |
//! | `tunnel` | routes it into the kernel's VXLAN device, likewise |
//! | `lbx` | lbx, native XDP, address translation, without health checks |
//! | `nftables` | DNAT by a table of slots and a hash of the flow, connection tracking, then as `tunnel` |
//! | `haproxy` | HAProxy in TCP mode, one thread, without health checks; its connections to origins go as `tunnel` |

mod haproxy;
mod host;
mod lbx;
mod nftables;

use anyhow::Result;

pub use self::host::Host;
use self::{haproxy::Haproxy, lbx::Lbx, nftables::Nftables};

/// A way to the origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    Tunnel,
    Lbx,
    Nftables,
    Haproxy,
}

/// What a balancer has counted. `None`: it keeps no such count.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub connections: Option<u64>,
    pub packets: Option<u64>,
}

impl Counted {
    /// What came since an earlier count.
    pub fn since(self, before: Self) -> Self {
        let since = |now: Option<u64>, before: Option<u64>| now.zip(before).map(|(now, before)| now - before);
        Self {
            connections: since(self.connections, before.connections),
            packets: since(self.packets, before.packets),
        }
    }
}

/// What does a way's work on the host; gone when dropped.
pub trait Balancer: Sync {
    /// What it has counted.
    fn counted(&self) -> Result<Counted>;
}

impl Way {
    /// In the order of the report; what others are compared with comes first.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Tunnel, Self::Lbx, Self::Nftables, Self::Haproxy];

    /// Name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
            Self::Lbx => "lbx",
            Self::Nftables => "nftables",
            Self::Haproxy => "haproxy",
        }
    }

    /// Port of the VIP and of the origins. Each way has its own, so that it never meets a connection of another in
    /// `TIME_WAIT`, whose sequence numbers and timestamps would be of another pair of addresses.
    pub const fn port(self) -> u16 {
        match self {
            Self::Direct => 7001,
            Self::Tunnel => 7002,
            Self::Lbx => 7003,
            Self::Nftables => 7004,
            Self::Haproxy => 7005,
        }
    }

    /// Whether it takes UDP.
    pub fn has_udp(self) -> bool {
        self != Self::Haproxy
    }

    /// Whether clients address the VIP.
    pub fn balances(self) -> bool {
        !matches!(self, Self::Direct | Self::Tunnel)
    }

    /// Sets the host up for it.
    pub fn start<'a>(self, host: &'a Host<'a>) -> Result<Box<dyn Balancer + 'a>> {
        if self == Self::Direct {
            host.route_plainly()?;
        } else {
            host.route_into_tunnel()?;
        }
        Ok(match self {
            Self::Direct | Self::Tunnel => Box::new(host),
            Self::Lbx => Box::new(Lbx::start(host, self.port())?),
            Self::Nftables => Box::new(Nftables::start(host, self.port())?),
            Self::Haproxy => Box::new(Haproxy::start(host, self.port())?),
        })
    }
}

impl Balancer for &Host<'_> {
    fn counted(&self) -> Result<Counted> {
        Ok(Counted { connections: None, packets: Some(self.forwarded()?) })
    }
}
