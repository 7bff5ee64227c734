//! The client, and the origins' part in the conversation: one after the other, on one thread.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::origins::Origins;
use crate::client::TIMEOUT;

/// Connections that are open at a time. A balancer with a process gets so many to do at once.
const TOGETHER: u32 = 32;
/// Connections that requests take turns on.
const OPEN: u32 = 16;
/// Source ports of the packets.
const FLOWS: u32 = 256;
/// Packets after which the origins take what has arrived: they hold so many, even when all are for the same.
const BURST: u32 = 32;

/// The client of one way.
pub struct Client<'a> {
    pub origins: &'a Origins,
    /// Where it finds them: the VIP twice, where something balances.
    pub targets: [SocketAddr; 2],
}

/// What became of UDP packets.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    /// Time of a packet that arrived.
    pub packet_us: f64,
    /// Share of those that did not.
    pub lost: f64,
}

impl Client<'_> {
    /// Connections with a request of a byte and an answer of a byte, which the origin closes: microseconds that each
    /// takes, and how many each origin had.
    pub fn connections(&self, count: u32) -> Result<(f64, [u64; 2])> {
        let mut reached = [0; 2];
        let begin = Instant::now();
        let mut targets = self.targets.iter().cycle();
        let mut left = count;
        while left > 0 {
            let now = left.min(TOGETHER);
            left -= now;
            let clients: Vec<TcpStream> =
                targets.by_ref().take(now as usize).map(connect).collect::<Result<_>>()?;
            for mut client in &clients {
                client.write_all(b"?")?;
            }
            for _ in &clients {
                let (place, mut origin) = self.origins.accept()?;
                answer(&mut origin)?;
                *reached.get_mut(place).context("there are two")? += 1;
            }
            for mut client in clients {
                let mut all = Vec::new();
                client.read_to_end(&mut all).context("the answer of an origin")?;
                ensure!(all == b"!", "an origin answered {all:?}");
            }
        }
        Ok((begin.elapsed().as_secs_f64() * 1e6 / f64::from(count), reached))
    }

    /// Requests one at a time, on connections that are open: microseconds that each took.
    pub fn latencies(&self, count: u32) -> Result<Vec<f64>> {
        let pairs: Vec<(TcpStream, TcpStream)> = (0..OPEN)
            .zip(self.targets.iter().cycle())
            .map(|(_, target)| Ok((connect(target)?, self.origins.accept()?.1)))
            .collect::<Result<_>>()?;
        let mut latencies = Vec::new();
        for (client, origin) in pairs.iter().cycle().take(count as usize) {
            let (mut client, mut origin) = (client, origin);
            let begin = Instant::now();
            client.write_all(b"?")?;
            answer(&mut origin)?;
            client.read_exact(&mut [0]).context("the answer of an origin")?;
            latencies.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        Ok(latencies)
    }

    /// Packets in one direction: what became of them, and how many each origin got.
    pub fn datagrams(&self, count: u32) -> Result<(Datagrams, [u64; 2])> {
        let flows: Vec<UdpSocket> = (0..FLOWS)
            .zip(self.targets.iter().cycle())
            .map(|(_, target)| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(target)?;
                Ok(socket)
            })
            .collect::<Result<_>>()?;
        let mut received = [0; 2];
        let begin = Instant::now();
        for (number, flow) in (1..=count).zip(flows.iter().cycle()) {
            flow.send(&[0; 18]).context("sending a packet")?;
            if number % BURST == 0 {
                self.origins.drain(&mut received)?;
            }
        }
        let mut end = Instant::now();
        while received.iter().sum::<u64>() < u64::from(count) && self.origins.more()? {
            self.origins.drain(&mut received)?;
            end = Instant::now();
        }
        let arrived = u32::try_from(received.iter().sum::<u64>())?;
        ensure!(arrived > 0, "no packet reached an origin");
        let packet_us = (end - begin).as_secs_f64() * 1e6 / f64::from(arrived);
        Ok((Datagrams { packet_us, lost: 1.0 - f64::from(arrived) / f64::from(count) }, received))
    }
}

fn connect(target: &SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(target, TIMEOUT).with_context(|| format!("connecting to {target}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The origin's part: it answers one request.
fn answer(mut origin: impl std::io::Read + std::io::Write) -> Result<()> {
    origin.read_exact(&mut [0]).context("a request at an origin")?;
    origin.write_all(b"!").context("an answer of an origin")
}
