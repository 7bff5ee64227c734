//! The origins' sockets, which nobody serves but the thread that measures.

use std::{
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{client::TIMEOUT, topology::Vnet};

/// Without a packet for so long there will be none.
const SILENCE: Duration = Duration::from_millis(50);

/// One origin: where it takes connections, and packets.
struct Origin {
    listener: TcpListener,
    sink: UdpSocket,
}

/// Both origins of a network, at one port of each.
pub struct Origins([Origin; 2]);

impl Origins {
    /// Opens the sockets.
    pub fn open(vnet: &Vnet, port: u16) -> Result<Self> {
        let [a, b] = vnet.origins.as_slice() else { bail!("there are two origins in {}", vnet.plan.name) };
        let open = |origin: &crate::topology::Origin| {
            let address = (origin.address(crate::family::Family::V4), port);
            origin.netns.run(|| {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let sink = UdpSocket::bind(address)?;
                sink.set_nonblocking(true)?;
                Ok(Origin { listener, sink })
            })
        };
        Ok(Self([open(a)?, open(b)?]))
    }

    /// The next connection, with the place of the origin that it reached.
    pub fn accept(&self) -> Result<(usize, TcpStream)> {
        loop {
            for (place, origin) in self.0.iter().enumerate() {
                match origin.listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_read_timeout(Some(TIMEOUT))?;
                        return Ok((place, stream));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("an origin's listener"),
                }
            }
            let ready = wait(self.0.each_ref().map(|origin| origin.listener.as_fd()), TIMEOUT)?;
            ensure!(ready, "no connection reached an origin within {TIMEOUT:?}");
        }
    }

    /// Takes the packets that are there and counts them by origin.
    pub fn drain(&self, received: &mut [u64; 2]) -> Result<()> {
        for (origin, received) in self.0.iter().zip(received) {
            loop {
                match origin.sink.recv(&mut [0; 2048]) {
                    Ok(_) => *received += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("an origin's UDP socket"),
                }
            }
        }
        Ok(())
    }

    /// Whether there will be packets.
    pub fn more(&self) -> Result<bool> {
        wait(self.0.each_ref().map(|origin| origin.sink.as_fd()), SILENCE)
    }
}

/// Waits for one of two sockets; false when `limit` has passed.
fn wait(sockets: [std::os::fd::BorrowedFd<'_>; 2], limit: Duration) -> Result<bool> {
    let mut ready = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN));
    let count = poll(&mut ready, PollTimeout::try_from(limit)?).map_err(io::Error::from)?;
    Ok(count > 0)
}
