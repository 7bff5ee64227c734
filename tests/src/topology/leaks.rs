//! Watches what the client gets for private addresses, as long as the network stands: every run of every test is one
//! of "private addresses are never seen".

use std::{net::IpAddr, slice, thread};

use anyhow::Result;

use super::PUBLIC_DEVICE;
use crate::{
    capture::{Capture, Frame},
    netns::Netns,
    traffic::private_addresses,
};

/// The watch. Where a private address was seen, it panics when it is dropped.
pub struct Leaks(Option<Capture>);

impl Leaks {
    /// Begins to watch a client.
    pub fn watch(client: &Netns) -> Result<Self> {
        Ok(Self(Some(Capture::start_keeping(client, PUBLIC_DEVICE, shows_private)?)))
    }

    /// Ends the watch; the addresses that were seen.
    fn take(&mut self) -> Result<Vec<IpAddr>> {
        let frames = self.0.take().map(Capture::stop).transpose()?;
        Ok(private_addresses(&frames.unwrap_or_default()))
    }
}

fn shows_private(frame: &Frame) -> bool {
    !frame.outgoing && !private_addresses(slice::from_ref(frame)).is_empty()
}

impl Drop for Leaks {
    fn drop(&mut self) {
        let found = self.take();
        if thread::panicking() {
            return;
        }
        match found {
            Ok(found) => assert!(found.is_empty(), "the client has seen private addresses: {found:?}"),
            // A flood may be more than can be looked at; it has been captured by its test.
            Err(error) => eprintln!("not all frames at the client were looked at: {error:#}"),
        }
    }
}
