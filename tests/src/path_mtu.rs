//! Path MTU discovery of a client's sockets: whether it takes place, and what it has found.

use std::{io, os::fd::AsRawFd};

use anyhow::{Context, Result};

use crate::family::Family;

/// What a client does about the MTU of the path (`IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// It believes in its interface alone: IPv4 without DF, IPv6 deaf to packet-too-big.
    Off,
    /// The kernel's default: DF on what fits, fragments of what does not.
    On,
    /// Nothing is ever fragmented: what is known not to fit is refused to the application.
    Strict,
}

impl Discovery {
    /// Sets it on a socket.
    pub fn apply(self, socket: &impl AsRawFd, family: Family) -> Result<()> {
        let value = match (self, family) {
            (Self::Off, Family::V4) => libc::IP_PMTUDISC_DONT,
            (Self::Off, Family::V6) => libc::IPV6_PMTUDISC_OMIT,
            (Self::On, Family::V4) => libc::IP_PMTUDISC_WANT,
            (Self::On, Family::V6) => libc::IPV6_PMTUDISC_WANT,
            (Self::Strict, Family::V4) => libc::IP_PMTUDISC_DO,
            (Self::Strict, Family::V6) => libc::IPV6_PMTUDISC_DO,
        };
        let (level, option) = match family {
            Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        };
        // SAFETY: both options read one c_int from `value`.
        let status = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size()?)
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("setting MTU discovery") }
    }
}

/// What the kernel knows of the path of a connected socket.
pub fn known(socket: &impl AsRawFd, family: Family) -> Result<usize> {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut value, mut length): (libc::c_int, _) = (0, size()?);
    // SAFETY: both options write one c_int to `value`, at most `length` bytes.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length)
    };
    if status != 0 {
        return Err(io::Error::last_os_error()).context("asking for the MTU of a path");
    }
    usize::try_from(value).with_context(|| format!("the MTU of a path is {value}"))
}

fn size() -> Result<libc::socklen_t> {
    Ok(libc::socklen_t::try_from(size_of::<libc::c_int>())?)
}
