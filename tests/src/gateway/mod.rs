//! A gateway in userspace, for kernels that lack a device of its kind.
//!
//! It does what a stock Linux device with a key (or VNI), a local and a remote address does: packets from the
//! remote with the right key come out of a TUN device, what is routed into the device leaves wrapped. Inner
//! Ethernet headers are added and taken off here. Must never share code with lbx's own encapsulation, which it is
//! there to check.

mod device;
mod form;
mod worker;

use std::{
    io::{self, PipeWriter},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};

pub use self::form::Replies;
use self::worker::Worker;
use crate::{netns::Netns, tunnel::Encap};

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
    /// Frames from the remote for another MAC address.
    pub wrong_mac: u64,
    /// Packets that are not of the encapsulation, with IPv4 or IPv6 inside.
    pub malformed: u64,
}

#[derive(Default)]
struct Counters {
    decapsulated: AtomicU64,
    encapsulated: AtomicU64,
    wrong_key: AtomicU64,
    wrong_remote: AtomicU64,
    wrong_mac: AtomicU64,
    malformed: AtomicU64,
}

/// Ends of a tunnel, its kind and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer address of the gateway.
    pub local: IpAddr,
    /// Outer address of the peer, of the same family.
    pub remote: IpAddr,
    /// Key or VNI in both directions.
    pub key: u32,
}

/// One gateway; stops when dropped.
pub struct Gateway {
    counters: Arc<Counters>,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Gateway {
    /// Makes the TUN device `device` in `netns` (still down, without routes) and serves it.
    pub fn start(netns: &Netns, device: &str, ends: Ends, replies: Replies) -> Result<Self> {
        let (stopped, stop) = io::pipe().context("cannot make a pipe")?;
        let counters = Arc::new(Counters::default());
        let worker = netns.run(|| Worker::open(device, ends, replies, stopped, Arc::clone(&counters)))?;
        // The descriptors stay in the namespace they were made in; the thread need not be there.
        let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(move || worker.serve());
        let thread = thread.context("cannot start the thread of a gateway")?;
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
            wrong_mac: read(&self.counters.wrong_mac),
            malformed: read(&self.counters.malformed),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("lbx-tests: a gateway had stopped: {error:#}"),
            Some(Err(_)) => eprintln!("lbx-tests: a gateway had panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}
