//! What passes a device: frames as a packet socket (`AF_PACKET`) sees them.
//!
//! Frames that an XDP program consumes (transmits, redirects, drops) are not seen on their device; watch
//! the other end of the cable.

use std::{
    io::{self, PipeReader, PipeWriter},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use crate::netns::Netns;

/// Room for the packets of a whole test between two turns of the reader.
const RECEIVE_BUFFER_BYTES: libc::c_int = 64 * 1024 * 1024;
const FRAME_BYTES: usize = 65_536;

/// One frame, from its Ethernet header on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// True when the captured box sent it, false when it received it.
    pub outgoing: bool,
    /// The bytes, without checksum trailer.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Seen {
    frames: Mutex<Vec<Frame>>,
    more: Condvar,
}

/// A running capture.
pub struct Capture {
    seen: Arc<Seen>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Starts to capture on `device` of `netns`; every frame after this returns is seen.
    pub fn start(netns: &Netns, device: &str) -> Result<Self> {
        Self::start_keeping(netns, device, |_| true)
    }

    /// The same, but of all frames only these are kept.
    pub fn start_keeping(netns: &Netns, device: &str, keep: fn(&Frame) -> bool) -> Result<Self> {
        let socket = netns.run(|| open(device))?;
        let (stopped, stop) = io::pipe()?;
        let seen = Arc::new(Seen::default());
        let writer = Arc::clone(&seen);
        let thread = thread::Builder::new()
            .name(format!("capture-{device}"))
            .spawn(move || read_all(&socket, &stopped, &writer, keep))?;
        Ok(Self { seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until `found` answers for one of the frames, past or coming.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Frame) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut frames = lock(&self.seen);
        let mut looked_at = 0;
        loop {
            if let Some(answer) = frames.iter().skip(looked_at).find_map(&mut found) {
                return Ok(answer);
            }
            looked_at = frames.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("waited {limit:?} in vain for {what}; {looked_at} other frames were captured");
            }
            frames = self.seen.more.wait_timeout(frames, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the capture and returns all frames. An error when the kernel had to leave some out.
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|_| Err(anyhow!("the capture thread panicked")))?;
        }
        Ok(std::mem::take(&mut *lock(&self.seen)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Nobody asks for the frames any more, so neither for what went wrong.
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Seen) -> MutexGuard<'_, Vec<Frame>> {
    seen.frames.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(device: &str) -> Result<Socket> {
    let ifindex = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    // Protocol 0 receives nothing until it is bound to a device.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("cannot open a packet socket")?;
    let size = RECEIVE_BUFFER_BYTES;
    // SAFETY: SO_RCVBUFFORCE reads one c_int from `size`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            socklen::<libc::c_int>(),
        )
    };
    ensure!(status == 0, "cannot enlarge a receive buffer: {}", io::Error::last_os_error());
    socket.bind(&device_address(ifindex)?).with_context(|| format!("cannot capture on {device}"))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn device_address(ifindex: u32) -> Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is plain data that fits into `sockaddr_storage`, as every socket address.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(ifindex)?;
    // SAFETY: `storage` holds an initialised `sockaddr_ll` and the length is that of it.
    Ok(unsafe { SockAddr::new(storage, socklen::<libc::sockaddr_ll>()) })
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

fn read_all(socket: &Socket, stopped: &PipeReader, seen: &Seen, keep: fn(&Frame) -> bool) -> Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); FRAME_BYTES];
    loop {
        let mut waiting =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let [_, stop] = waiting.map(|one| one.any().unwrap_or(false));
        // Also once more after the stop: what came before it belongs to the capture.
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let bytes = initialised(&buffer, length);
                    let frame = Frame { outgoing: is_outgoing(&from), bytes };
                    if keep(&frame) {
                        lock(seen).push(frame);
                        seen.more.notify_all();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading captured frames"),
            }
        }
        if stop {
            let dropped = dropped(socket)?;
            ensure!(dropped == 0, "the capture is incomplete: the kernel dropped {dropped} frames");
            return Ok(());
        }
    }
}

fn initialised(buffer: &[MaybeUninit<u8>], length: usize) -> Vec<u8> {
    // SAFETY: recv_from has written the first `length` bytes.
    buffer.iter().take(length).map(|byte| unsafe { byte.assume_init() }).collect()
}

fn is_outgoing(from: &SockAddr) -> bool {
    // SAFETY: a packet socket fills in a `sockaddr_ll`; the storage behind `from` is larger.
    let address = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() };
    address.sll_pkttype == libc::PACKET_OUTGOING
}

fn dropped(socket: &Socket) -> Result<u32> {
    /// `struct tpacket_stats`.
    #[repr(C)]
    #[derive(Default)]
    struct Statistics {
        packets: u32,
        drops: u32,
    }
    let mut statistics = Statistics::default();
    let mut length = socklen::<Statistics>();
    // SAFETY: PACKET_STATISTICS writes at most `length` bytes, the size of `statistics`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    ensure!(status == 0, "cannot read the statistics of a capture: {}", io::Error::last_os_error());
    Ok(statistics.drops)
}
