//! A GRE gateway in userspace, for kernels without a gre device.
//!
//! It does what `ip link add NAME type gre key KEY local L remote R` does: packets from the remote with
//! the right key come out of a TUN device, what is routed into the device leaves wrapped. RFC 2784 and
//! RFC 2890. Must never share code with lbx's own encapsulation, which it is there to check.

use std::{
    fs::{File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::OpenOptionsExt,
    },
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{netns::Netns, offload::interface_request};

const IPPROTO_GRE: i32 = 47;
const FLAG_CHECKSUM: u16 = 0x8000;
const FLAG_KEY: u16 = 0x2000;
const FLAG_SEQUENCE: u16 = 0x1000;
const PROTOCOL_IPV4: u16 = 0x0800;
/// Above any MTU of the test network.
const BUFFER_BYTES: usize = 65_536;

/// What the gateway has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets unwrapped and given to the TUN device.
    pub decapsulated: u64,
    /// Packets wrapped and sent to the remote.
    pub encapsulated: u64,
    /// Packets from the remote with another key, or none.
    pub wrong_key: u64,
    /// Packets from elsewhere.
    pub wrong_remote: u64,
    /// Packets that are no GRE of version 0 with IPv4 inside.
    pub malformed: u64,
}

#[derive(Default)]
struct Counters {
    decapsulated: AtomicU64,
    encapsulated: AtomicU64,
    wrong_key: AtomicU64,
    wrong_remote: AtomicU64,
    malformed: AtomicU64,
}

/// One GRE endpoint; stops when dropped.
pub struct GreGateway {
    counters: Arc<Counters>,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Ends of a tunnel and its key.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Outer address of the gateway.
    pub local: Ipv4Addr,
    /// Outer address of the peer.
    pub remote: Ipv4Addr,
    /// Key in both directions.
    pub key: u32,
}

impl GreGateway {
    /// Makes the TUN device `device` in `netns` (still down, without routes) and serves it.
    pub fn start(netns: &Netns, device: &str, ends: Ends) -> Result<Self> {
        let (tunnel, outer) = netns.run(|| Ok((open_tun(device)?, open_raw(ends.local)?)))?;
        let (stopped, stop) = io::pipe().context("cannot make a pipe")?;
        let counters = Arc::new(Counters::default());
        let worker = Worker { tunnel, outer, stopped, ends, counters: Arc::clone(&counters) };
        // The descriptors stay in the namespace they were made in; the thread need not be there.
        let thread = std::thread::Builder::new().name("gre-gateway".to_owned()).spawn(move || worker.serve());
        let thread = thread.context("cannot start the thread of the GRE gateway")?;
        Ok(Self { counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            decapsulated: read(&self.counters.decapsulated),
            encapsulated: read(&self.counters.encapsulated),
            wrong_key: read(&self.counters.wrong_key),
            wrong_remote: read(&self.counters.wrong_remote),
            malformed: read(&self.counters.malformed),
        }
    }
}

impl Drop for GreGateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("lbx-tests: the GRE gateway had stopped: {error:#}"),
            Some(Err(_)) => eprintln!("lbx-tests: the GRE gateway had panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

struct Worker {
    tunnel: File,
    outer: Socket,
    stopped: PipeReader,
    ends: Ends,
    counters: Arc<Counters>,
}

impl Worker {
    fn serve(mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (from_outer, from_tunnel) = {
                let mut waiting = [
                    PollFd::new(self.outer.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.tunnel.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut waiting, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error).context("poll"),
                }
                let [outer, tunnel, stopped] = waiting.map(|one| one.any().unwrap_or(false));
                if stopped {
                    return Ok(());
                }
                (outer, tunnel)
            };
            if from_outer {
                self.unwrap_all(&mut buffer);
            }
            if from_tunnel {
                self.wrap_all(&mut buffer);
            }
        }
    }

    /// Both directions read until nothing is left. An error of one packet (an ICMP error that came back,
    /// a device that is down) is that packet's loss, as it would be on a real gateway.
    fn unwrap_all(&mut self, buffer: &mut [u8]) {
        loop {
            match (&self.outer).read(buffer) {
                Ok(length) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    let counter = match unwrap(packet, self.ends) {
                        Ok(inner) => {
                            if self.tunnel.write_all(inner).is_err() {
                                continue;
                            }
                            &self.counters.decapsulated
                        }
                        Err(Refused::WrongKey) => &self.counters.wrong_key,
                        Err(Refused::WrongRemote) => &self.counters.wrong_remote,
                        Err(Refused::Malformed) => &self.counters.malformed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn wrap_all(&mut self, buffer: &mut [u8]) {
        let to = SocketAddr::from((self.ends.remote, 0)).into();
        loop {
            match self.tunnel.read(buffer) {
                Ok(length) => {
                    let inner = buffer.get(..length).unwrap_or_default();
                    if inner.first().is_none_or(|first| first >> 4 != 4) {
                        continue;
                    }
                    let packet = wrap(inner, self.ends.key);
                    if self.outer.send_to(&packet, &to).is_ok() {
                        self.counters.encapsulated.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // EAGAIN: nothing left. EIO: the device is down.
                Err(_) => return,
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refused {
    WrongKey,
    WrongRemote,
    Malformed,
}

/// The inner packet of an IPv4 packet as a raw socket delivers it.
fn unwrap(packet: &[u8], ends: Ends) -> Result<&[u8], Refused> {
    let header_bytes = packet.first().map(|first| usize::from(first & 0x0f) * 4).ok_or(Refused::Malformed)?;
    let source: [u8; 4] = take(packet, 12)?;
    if Ipv4Addr::from(source) != ends.remote {
        return Err(Refused::WrongRemote);
    }
    let gre = packet.get(header_bytes..).ok_or(Refused::Malformed)?;
    let flags = u16::from_be_bytes(take(gre, 0)?);
    let protocol = u16::from_be_bytes(take(gre, 2)?);
    if flags & !(FLAG_CHECKSUM | FLAG_KEY | FLAG_SEQUENCE) != 0 || protocol != PROTOCOL_IPV4 {
        return Err(Refused::Malformed);
    }
    // RFC 2890 §2: checksum, key and sequence number follow in this order, four bytes each.
    let mut offset = 4;
    if flags & FLAG_CHECKSUM != 0 {
        offset += 4;
    }
    if flags & FLAG_KEY == 0 {
        return Err(Refused::WrongKey);
    }
    if u32::from_be_bytes(take(gre, offset)?) != ends.key {
        return Err(Refused::WrongKey);
    }
    offset += 4;
    if flags & FLAG_SEQUENCE != 0 {
        offset += 4;
    }
    gre.get(offset..).filter(|inner| inner.len() >= 20).ok_or(Refused::Malformed)
}

fn take<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Refused> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(Refused::Malformed)
}

fn wrap(inner: &[u8], key: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(8 + inner.len());
    packet.extend(FLAG_KEY.to_be_bytes());
    packet.extend(PROTOCOL_IPV4.to_be_bytes());
    packet.extend(key.to_be_bytes());
    packet.extend(inner);
    packet
}

fn open_tun(device: &str) -> Result<File> {
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

fn open_raw(local: Ipv4Addr) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_GRE)))?;
        socket.bind(&SocketAddrV4::new(local, 0).into())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().with_context(|| format!("cannot open a raw GRE socket on {}", IpAddr::V4(local)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends =
        Ends { local: Ipv4Addr::new(198, 51, 100, 7), remote: Ipv4Addr::new(198, 51, 100, 1), key: 42 };

    fn outer(flags: u16, fields: &[u32], inner: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&ENDS.remote.octets());
        packet.extend(flags.to_be_bytes());
        packet.extend([0x08, 0x00]);
        packet.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
        packet.extend(inner);
        packet
    }

    #[test]
    fn key_is_found_with_and_without_checksum_and_sequence_number() {
        let inner = [0x45; 40];
        for (flags, fields) in [
            (0x2000, &[42][..]),
            (0x3000, &[42, 7][..]),
            (0xa000, &[0xffff_0000, 42][..]),
            (0xb000, &[0xffff_0000, 42, 7][..]),
        ] {
            assert_eq!(unwrap(&outer(flags, fields, &inner), ENDS), Ok(&inner[..]), "flags {flags:#06x}");
        }
    }

    #[test]
    fn other_keys_remotes_and_versions_are_refused() {
        let inner = [0x45; 40];
        assert_eq!(unwrap(&outer(0x2000, &[43], &inner), ENDS), Err(Refused::WrongKey));
        assert_eq!(unwrap(&outer(0x0000, &[], &inner), ENDS), Err(Refused::WrongKey));
        assert_eq!(unwrap(&outer(0x2001, &[42], &inner), ENDS), Err(Refused::Malformed));
        let elsewhere = Ends { remote: Ipv4Addr::LOCALHOST, ..ENDS };
        assert_eq!(unwrap(&outer(0x2000, &[42], &inner), elsewhere), Err(Refused::WrongRemote));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = outer(0x3000, &[42, 7], &[0x45; 20]);
        for length in 0..whole.len() {
            assert!(unwrap(&whole[..length], ENDS).is_err(), "accepted {length} bytes");
        }
    }
}
