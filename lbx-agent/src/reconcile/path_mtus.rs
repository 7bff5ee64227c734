//! What routers said of the tunnels' paths, for as long as it may be believed.
//!
//! Anybody can send such a message. So it must quote a packet of a tunnel that there is, it concerns that tunnel
//! alone, it never says less than every link must take, and it is forgotten in the end.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use lbx_common::api::PathMtuStatus;

use crate::{
    config::model::{Model, TunnelPath},
    net::path_mtu::TooBig,
};

/// RFC 1191 §6.3, RFC 8201 §4: the path may be another one by then.
const LIFETIME: Duration = Duration::from_mins(10);
/// RFC 791 §3.2: every host takes packets of this size. The least MTU itself, 68, leaves no room in a tunnel.
const FLOOR_V4: u16 = 576;
/// RFC 8200 §5
const FLOOR_V6: u16 = 1280;

/// Path MTUs of tunnels.
#[derive(Debug, Default)]
pub struct PathMtus {
    /// Largest outer IP packet in bytes.
    pub mtus: BTreeMap<TunnelPath, u16>,
    until: BTreeMap<TunnelPath, Instant>,
}

impl PathMtus {
    /// Takes what a router said. Returns whether it says anything new of a tunnel.
    pub fn learn(&mut self, message: &TooBig, model: &Model, now: Instant) -> bool {
        let (local, floor) = match message.destination {
            IpAddr::V4(_) => (model.tunnel_source.ipv4.map(IpAddr::V4), FLOOR_V4),
            IpAddr::V6(_) => (model.tunnel_source.ipv6.map(IpAddr::V6), FLOOR_V6),
        };
        let Some(local) = local else { return false };
        let mtu = message.mtu.max(floor);
        let mut news = false;
        for vnet in &model.vnets {
            for (tunnel, path) in vnet.paths().filter(|(_, path)| message.is_about(local, path)) {
                // A message that says more is about a packet of before.
                if self.mtus.get(&path).is_some_and(|known| *known < mtu) {
                    continue;
                }
                self.until.insert(path, now + LIFETIME);
                if self.mtus.insert(path, mtu) != Some(mtu) {
                    let (virtual_network, tunnel) = (&vnet.name, &tunnel.name);
                    tracing::info!(virtual_network, tunnel, mtu, "a router told the MTU of a tunnel's path");
                    news = true;
                }
            }
        }
        news
    }

    /// Forgets what is too old. Returns whether there was such.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        self.mtus.retain(|path, _| self.until.contains_key(path));
        self.until.len() < before
    }

    /// Forgets the paths of tunnels that are not there any more. Returns whether there was such.
    pub fn keep_of(&mut self, model: &Model) -> bool {
        let there = |path: &TunnelPath| {
            model.vnets.iter().any(|vnet| vnet.paths().any(|(_, existing)| existing == *path))
        };
        let before = self.until.len();
        self.until.retain(|path, _| there(path));
        self.mtus.retain(|path, _| there(path));
        self.until.len() < before
    }

    /// When there is something to forget.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// What is known of a path.
    pub fn status(&self, path: TunnelPath, now: Instant) -> Option<PathMtuStatus> {
        let left = self.until.get(&path)?.saturating_duration_since(now);
        Some(PathMtuStatus { mtu: *self.mtus.get(&path)?, expires_secs: left.as_secs() })
    }
}

#[cfg(test)]
mod tests;
