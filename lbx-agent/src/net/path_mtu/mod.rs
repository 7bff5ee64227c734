//! Hears what routers say of tunnel packets that are too big for a link (RFC 1191, RFC 8201).
//!
//! The kernel keeps such news for its own sockets, and lbx's packets have none. So raw sockets get every message of
//! the kind that reaches this host. Anybody can send them: they are read at a limited rate, and whoever is told
//! must not believe more than what fits a tunnel that there is.

mod message;
#[cfg(test)]
mod tests;

use std::{io, os::fd::AsRawFd, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use self::message::TooBig;
use super::NetError;

/// After so many messages the next ones wait, or are lost: 6,400 a second are read at most.
const BATCH: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);
/// RFC 4443 §3.2: a message is not longer than the least MTU of IPv6; nobody sends longer ones over IPv4.
const MESSAGE_BYTES: usize = 1280;

/// `struct icmp_filter` of include/uapi/linux/icmp.h: types whose bit is set are kept away.
const ICMP_FILTER: libc::c_int = 1;
const DESTINATION_UNREACHABLE: u32 = 3;
/// `struct icmp6_filter` of include/uapi/linux/icmpv6.h.
const ICMPV6_FILTER: libc::c_int = 1;
const PACKET_TOO_BIG: u32 = 2;

/// Listens until `token` is cancelled or nobody wants to hear any more.
pub fn spawn(
    token: CancellationToken,
    tx: mpsc::Sender<TooBig>,
) -> Result<JoinHandle<Result<(), NetError>>, NetError> {
    let v4 = open(Domain::IPV4, Protocol::ICMPV4).map_err(NetError::Icmp)?;
    let v6 = open(Domain::IPV6, Protocol::ICMPV6).map_err(NetError::Icmp)?;
    Ok(tokio::spawn(async move {
        let both = async {
            tokio::try_join!(listen(v4, &tx, TooBig::read_v4), listen(v6, &tx, TooBig::read_v6)).map(drop)
        };
        token.run_until_cancelled(both).await.unwrap_or(Ok(()))
    }))
}

/// A raw socket that gets only the messages in question; `None` where the kernel has no such family.
fn open(domain: Domain, protocol: Protocol) -> io::Result<Option<UdpSocket>> {
    let socket = match Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)) {
        Ok(socket) => socket,
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
        Err(error) => return Err(error),
    };
    if domain == Domain::IPV4 {
        set(&socket, libc::SOL_RAW, ICMP_FILTER, !(1_u32 << DESTINATION_UNREACHABLE))?;
    } else {
        let mut kept_away = [u32::MAX; 8];
        kept_away[0] = !(1 << PACKET_TOO_BIG);
        set(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, kept_away)?;
    }
    // Tokio has no raw sockets, and receives from this one all the same.
    UdpSocket::from_std(socket.into()).map(Some)
}

fn set<T: Copy>(socket: &Socket, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of `value`.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

async fn listen(
    socket: Option<UdpSocket>,
    tx: &mpsc::Sender<TooBig>,
    read: fn(&[u8]) -> Option<TooBig>,
) -> Result<(), NetError> {
    let Some(socket) = socket else { return Ok(()) };
    let mut buffer = [0; MESSAGE_BYTES];
    loop {
        for _ in 0..BATCH {
            let length = socket.recv(&mut buffer).await.map_err(NetError::Icmp)?;
            let Some(too_big) = buffer.get(..length).and_then(read) else { continue };
            // One that is lost is said again for the next packet.
            if let Err(TrySendError::Closed(_)) = tx.try_send(too_big) {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
