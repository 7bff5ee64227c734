//! Connections that must survive: busy ones, and idle ones that are used only when the test says so. Each must be
//! answered by the same origin as long as it lives.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    busy::Busy,
    client::{Client, Connection},
    servers::HTTP_PORT,
    topology::VnetPlan,
};

/// Requests that each busy connection has answered before the crowd goes on: where time does not matter, 30 s, in which
/// the idle ones are silent.
fn a_while() -> usize {
    if crate::takes_long() { 150 } else { 6 }
}

/// An open connection, and who answers on it.
struct Idle {
    connection: Connection,
    origin: String,
}

/// Busy and idle connections to one VIP.
pub struct Crowd {
    busy: Vec<Busy>,
    idle: Vec<Idle>,
}

impl Crowd {
    /// Opens `count` of each kind.
    pub fn gather(client: &Client, plan: VnetPlan, count: usize) -> Result<Self> {
        let busy = (0..count).map(|_| Busy::start(client, plan.vip)).collect::<Result<_>>()?;
        let mut crowd = Self { busy, idle: Vec::new() };
        crowd.open_idle(client, plan, count)?;
        Ok(crowd)
    }

    /// Opens more idle connections.
    pub fn open_idle(&mut self, client: &Client, plan: VnetPlan, count: usize) -> Result<()> {
        for _ in 0..count {
            let mut connection = client.connect(plan.vip, HTTP_PORT, 0)?;
            let origin = connection.get()?.origin;
            self.idle.push(Idle { connection, origin });
        }
        Ok(())
    }

    /// Idle connections that an origin answers.
    pub fn idle_on(&self, origin: &str) -> usize {
        self.idle.iter().filter(|idle| idle.origin == origin).count()
    }

    /// Ports of the client that idle connections have.
    pub fn ports(&self) -> Result<Vec<u16>> {
        let ports = self.idle.iter().map(|idle| Ok(idle.connection.stream().local_addr()?.port()));
        ports.collect()
    }

    /// The client's end of each idle connection, and the origin that answers there.
    pub fn homes(&self) -> Result<BTreeMap<SocketAddr, String>> {
        let homes =
            self.idle.iter().map(|idle| Ok((idle.connection.stream().local_addr()?, idle.origin.clone())));
        homes.collect()
    }

    /// Closes the idle connections that an origin answers.
    pub fn leave(&mut self, origin: &str) {
        self.idle.retain(|idle| idle.origin != origin);
    }

    /// Waits until every busy connection has been used for a while.
    pub fn go_on(&self) -> Result<()> {
        let wanted: Vec<usize> = self.busy.iter().map(|busy| busy.answered() + a_while()).collect();
        self.busy.iter().zip(wanted).try_for_each(|(busy, wanted)| busy.wait_until(wanted))
    }

    /// Uses every idle connection once: the same origin must answer.
    pub fn wake(&mut self, after: &str) -> Result<()> {
        for Idle { connection, origin } in &mut self.idle {
            let answer = connection.get().with_context(|| format!("an idle connection after: {after}"))?;
            ensure!(
                answer.origin == *origin,
                "{origin} had a connection that {} has after: {after}",
                answer.origin
            );
        }
        Ok(())
    }

    /// Uses every idle connection once; how many of those on `origin` still work. All others must.
    pub fn count_alive_on(&mut self, origin: &str) -> Result<usize> {
        let mut alive = 0;
        for idle in &mut self.idle {
            match idle.connection.get() {
                Ok(answer) => {
                    ensure!(answer.origin == idle.origin, "a connection moved from {}", idle.origin);
                    alive += usize::from(idle.origin == origin);
                }
                Err(error) => {
                    ensure!(idle.origin == origin, "a connection to {} broke: {error:#}", idle.origin);
                }
            }
        }
        Ok(alive)
    }

    /// Ends the busy connections; the longest time that a request on any took.
    pub fn disperse(self) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for busy in self.busy {
            longest = longest.max(busy.stop()?);
        }
        Ok(longest)
    }
}
