//! What the agent asks of the host's network: the veth pair of the probe path, the way to each tunnel's gateway, and
//! what routers on it have to say.
//!
//! Everything here acts in the network namespace of the calling thread, touches only what belongs to
//! lbx (its two devices, its routing tables, its rule priorities, the neighbour entries of gateways) and
//! never a map or a program.

pub mod devices;
pub mod ethtool;
pub mod netlink;
pub mod next_hop;
pub mod path_mtu;
mod port;
pub mod probe_path;
pub mod sysctl;
#[cfg(test)]
pub(crate) mod testing;

use std::{io, net::IpAddr, path::PathBuf};

/// Why the host's network could not be read or set up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// No socket for what routers say, or it failed.
    #[error(
        "cannot listen for what routers say of packets that are too big: {0}; the agent needs CAP_NET_RAW"
    )]
    Icmp(#[source] io::Error),
    /// The kernel refused a request.
    #[error("cannot {what}: {reason}{}", remedy(.source))]
    Netlink {
        /// What was wanted, as the end of "cannot …".
        what: String,
        /// The kernel's reason, for a person.
        reason: String,
        /// The whole error.
        source: rtnetlink::Error,
    },
    /// The kernel answered with something that makes no sense here.
    #[error("the kernel's answer about {what} lacks {lacks}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What was missing.
        lacks: &'static str,
    },
    /// A file below `/proc/sys`.
    #[error("cannot {verb} {}: {source}; the agent needs CAP_NET_ADMIN and a writable /proc/sys/net", path.display())]
    Sysctl {
        /// `read` or `set`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An offload of a device.
    #[error("cannot {verb} {feature} of device {device}: {source}")]
    Offload {
        /// `read`, `switch on` or `switch off`.
        verb: &'static str,
        /// Name as `ethtool -K` has it.
        feature: &'static str,
        /// Name of the device.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// A probe source is somebody else's.
    #[error(
        "the probe source {address} is an address of this host's device {device} already: what the host sends \
         from it would go into the tunnel. Choose another `probe_source`"
    )]
    ProbeSourceTaken {
        /// The address.
        address: IpAddr,
        /// Name of the device that has it.
        device: String,
    },
    /// IPv6 is wanted where there is none.
    #[error(
        "the configuration has the address {address}, but this kernel has no IPv6 (/proc/sys/net/ipv6 is \
         missing): boot it without `ipv6.disable=1` or load the module `ipv6`, or use IPv4 addresses"
    )]
    NoIpv6 {
        /// One of the addresses that need it.
        address: IpAddr,
    },
    /// A device has one of our names but is not ours.
    #[error(
        "device {device} exists but {finding}; lbx needs lbx0 and lbx1 as the two ends of one veth pair: \
         rename or delete that device (`ip link delete {device}`), the agent then makes its own"
    )]
    NotOurs {
        /// Name of the device.
        device: &'static str,
        /// What it is instead.
        finding: String,
    },
}

impl NetError {
    /// Wraps an error of netlink. `what` ends the sentence "cannot …".
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        |source| Self::Netlink { what, reason: reason(&source), source }
    }
}

/// The error number of a netlink error, if the kernel gave one.
pub(crate) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    let rtnetlink::Error::NetlinkError(message) = error else { return None };
    message.code.map(|code| code.get().saturating_neg())
}

fn reason(error: &rtnetlink::Error) -> String {
    errno(error).map_or_else(|| error.to_string(), |number| io::Error::from_raw_os_error(number).to_string())
}

fn remedy(error: &rtnetlink::Error) -> &'static str {
    if errno(error) == Some(libc::EPERM) { "; the agent needs CAP_NET_ADMIN" } else { "" }
}
