//! Sockets that send by the probe path: from the network's probe source, by `lbx0`, marked, with the tunnel's place as
//! DSCP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    time::Duration,
};

use lbx_common::abi::PROBE_MARK;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Path, ProbeError};

/// Largest segments of TCP, by family: what fits into the smallest tunnels that the configuration may have, so that no
/// probe depends on path MTU discovery.
const MAX_SEGMENT_V4: u32 = 536;
const MAX_SEGMENT_V6: u32 = 1220;

/// A TCP socket, not connected yet.
pub(super) fn tcp(path: Path<'_>) -> Result<Socket, ProbeError> {
    let socket = open(path, Type::STREAM, Protocol::TCP)?;
    let max_segment = if path.source.is_ipv4() { MAX_SEGMENT_V4 } else { MAX_SEGMENT_V6 };
    // Close with a reset: with a plain close, ports stay in TIME_WAIT until there are none left.
    socket
        .set_linger(Some(Duration::ZERO))
        .and_then(|()| socket.set_tcp_nodelay(true))
        .and_then(|()| socket.set_tcp_mss(max_segment))
        .and_then(|()| choose_port_late(&socket))
        .map_err(|error| host("cannot set up a socket", &error))?;
    bind(socket, path.source)
}

pub(super) fn open(
    Path { device, source, place, .. }: Path<'_>,
    kind: Type,
    protocol: Protocol,
) -> Result<Socket, ProbeError> {
    let domain = Domain::for_address(SocketAddr::new(source, 0));
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))
        .map_err(|error| host("cannot open a socket", &error))?;
    if let Some(device) = device {
        socket
            .bind_device(Some(device.as_bytes()))
            .and_then(|()| socket.set_mark(PROBE_MARK))
            .map_err(|error| host(&format!("cannot send by device {device}"), &error))?;
    }
    set_dscp(&socket, source, place).map_err(|error| host("cannot set up a socket", &error))?;
    Ok(socket)
}

pub(super) fn bind(socket: Socket, source: IpAddr) -> Result<Socket, ProbeError> {
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .map_err(|error| host(&format!("cannot send from the probe source {source}"), &error))?;
    Ok(socket)
}

pub(super) fn host(what: &str, error: &io::Error) -> ProbeError {
    ProbeError::Host(format!("{what}: {error}"))
}

/// Leaves the choice of the port to `connect()`, which may use one port for several destinations at a time;
/// one chosen by `bind()` belongs to its socket alone. The option of IPv4 counts for IPv6 sockets, too
/// (`ipv6_setsockopt` hands level `SOL_IP` on, `__inet6_bind` asks for it).
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    turn_on(socket, (libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT))
}

pub(super) fn turn_on(socket: &Socket, (level, option): (libc::c_int, libc::c_int)) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; the pointer and the length are those of `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on).try_into().unwrap_or(4),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The DSCP of all that the socket sends. The ECN bits below it stay with TCP (`__ip_sock_set_tos`,
/// `do_ipv6_setsockopt`).
fn set_dscp(socket: &Socket, source: IpAddr, dscp: u8) -> io::Result<()> {
    let tos = u32::from(dscp) << 2;
    match source {
        IpAddr::V4(_) => socket.set_tos_v4(tos),
        IpAddr::V6(_) => socket.set_tclass_v6(tos),
    }
}

/// What an error of a socket says, and about whom.
pub(super) fn judge(error: &io::Error, target: SocketAddr, device: Option<&str>) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => ProbeError::Endpoint(format!("connection refused by {target}")),
        Some(libc::ECONNRESET | libc::EPIPE) => ProbeError::Endpoint(format!("connection reset by {target}")),
        Some(libc::ETIMEDOUT) => ProbeError::Endpoint(format!("no answer from {target}")),
        Some(libc::EHOSTUNREACH) => {
            ProbeError::Endpoint(format!("host {} unreachable: a router on the way says so", target.ip()))
        }
        // Everything lies behind the probe device, so only the device itself can be in the way.
        Some(libc::ENETUNREACH) => ProbeError::Host(format!(
            "no route to {} by {}: is the device up?",
            target.ip(),
            device.unwrap_or("any device")
        )),
        Some(libc::EACCES | libc::EPERM) => {
            ProbeError::Host("a firewall rule of this host refused the probe".to_owned())
        }
        Some(libc::EADDRNOTAVAIL) => {
            ProbeError::Host(format!("no local port left for {target}, see net.ipv4.ip_local_port_range"))
        }
        // An answer that ends too early, or that is none.
        None => ProbeError::Endpoint(error.to_string()),
        Some(_) => ProbeError::Host(error.to_string()),
    }
}
