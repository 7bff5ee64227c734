//! Sockets without connections: UDP, and raw ones of ICMP.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
};

use socket2::{Protocol, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Path, ProbeError,
    socket::{bind, host, judge, open, turn_on},
};

/// A socket that sends to one address, and takes what comes from there alone.
pub(super) struct Datagrams<'a> {
    socket: AsyncFd<Socket>,
    path: Path<'a>,
    target: SocketAddr,
}

impl<'a> Datagrams<'a> {
    /// Of UDP.
    pub(super) fn udp(path: Path<'a>, target: SocketAddr) -> Result<Self, ProbeError> {
        Self::new(path, target, Type::DGRAM, Protocol::UDP, None)
    }

    /// Of the family's ICMP, for the echo replies with this identifier.
    pub(super) fn icmp(path: Path<'a>, target: SocketAddr, id: u16) -> Result<Self, ProbeError> {
        let protocol = if target.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        Self::new(path, target, Type::RAW, protocol, Some(&echo_filter(target, id)))
    }

    fn new(
        path: Path<'a>,
        target: SocketAddr,
        kind: Type,
        protocol: Protocol,
        filter: Option<&[SockFilter]>,
    ) -> Result<Self, ProbeError> {
        let socket = open(path, kind, protocol)?;
        // ICMP errors that come back are errors of the socket then.
        let option = if target.is_ipv4() {
            (libc::SOL_IP, libc::IP_RECVERR)
        } else {
            (libc::SOL_IPV6, libc::IPV6_RECVERR)
        };
        turn_on(&socket, option)
            .and_then(|()| filter.map_or(Ok(()), |filter| socket.attach_filter(filter)))
            .map_err(|error| host("cannot set up a socket", &error))?;
        let socket = bind(socket, path.source)?;
        socket.connect(&target.into()).map_err(|error| judge(&error, target, path.device))?;
        // SAFETY: the socket keeps its descriptor until it is dropped, and nobody takes it out before that.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Self {
            socket: socket.map_err(|error| host("cannot wait for a socket", &error.into()))?,
            path,
            target,
        })
    }

    pub(super) async fn send(&self, payload: &[u8]) -> Result<(), ProbeError> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| socket.send(payload)).await;
        sent.map(|_| ()).map_err(|error| judge(&error, self.target, self.path.device))
    }

    /// The length of what came. A raw socket of IPv4 gives the IP header, too.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Result<usize, ProbeError> {
        let interest = Interest::READABLE.add(Interest::ERROR);
        let received = self.socket.async_io(interest, |mut socket| socket.read(buffer)).await;
        received.map_err(|error| came_back(&error, self.target))
    }
}

/// Echo replies with an identifier; a raw socket gets those to all pings of the host otherwise. The program sees what
/// the socket would give.
fn echo_filter(target: SocketAddr, id: u16) -> [SockFilter; 7] {
    let instruction = |code: u32, jf: u8, k: u32| SockFilter::new(u16::try_from(code).unwrap_or(0), 0, jf, k);
    // Length of the IP header: that of IPv6 is not there.
    let header = if target.is_ipv4() { libc::BPF_B | libc::BPF_MSH } else { libc::BPF_IMM };
    let reply = if target.is_ipv4() { 0 } else { 129 };
    [
        instruction(libc::BPF_LDX | header, 0, 0),
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ, 3, reply),
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ, 1, id.into()),
        instruction(libc::BPF_RET, 0, u32::from(u16::MAX)),
        instruction(libc::BPF_RET, 0, 0),
    ]
}

/// What an error says that came back as ICMP.
fn came_back(error: &io::Error, target: SocketAddr) -> ProbeError {
    ProbeError::Endpoint(match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => format!("port unreachable, says {target}"),
        Some(libc::ENETUNREACH) => format!("no route to {}: a router on the way says so", target.ip()),
        Some(libc::EACCES | libc::EPERM) => {
            format!("{} may not be reached: a firewall on the way says so", target.ip())
        }
        _ => return judge(error, target, None),
    })
}
