//! The gateway's two sides: the TUN device, and the sockets for outer packets.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::Ends;
use crate::offload::interface_request;

const IPPROTO_GRE: i32 = 47;
/// `linux/udp.h`
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// Makes a TUN device. Acts in the namespace of the calling thread.
pub fn open_tun(device: &str) -> Result<File> {
    let tunnel =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let tunnel = tunnel.context("cannot open /dev/net/tun: the kernel needs CONFIG_TUN (modprobe tun)")?;
    let mut request = interface_request(device)?;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    // SAFETY: TUNSETIFF reads name and flags from `request` and writes the name back; it outlives the call.
    let status = unsafe { libc::ioctl(tunnel.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot make the TUN device {device}"));
    }
    Ok(tunnel)
}

/// What receives outer packets: a raw socket for GRE, a UDP socket for what is in UDP. Both deliver by
/// `recv_from`; only IPv4's raw socket delivers the IP header, too.
pub fn open_receiver(ends: Ends) -> Result<UdpSocket> {
    let domain = match ends.local {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let open = || -> io::Result<Socket> {
        let socket = match ends.encap.udp_port() {
            Some(_) => Socket::new(domain, Type::DGRAM, None)?,
            None => Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_GRE)))?,
        };
        if ends.encap.udp_port().is_some() && ends.local.is_ipv6() {
            accept_without_checksum(&socket)?;
        }
        socket.bind(&SocketAddr::new(ends.local, ends.encap.udp_port().unwrap_or(0)).into())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let socket =
        open().with_context(|| format!("cannot open a socket for {} on {}", ends.encap.as_str(), ends.local));
    // For a raw socket as well: recvfrom(2) fills in the same address, with port 0.
    socket.map(UdpSocket::from)
}

/// RFC 6935 §5: a zero UDP checksum over IPv6, where configured (`udp6zerocsumrx`).
fn accept_without_checksum(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: UDP_NO_CHECK6_RX reads one c_int from `on`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            length,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
