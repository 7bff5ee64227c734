//! nftables: a hash of the flow is looked up in a table of slots, as lbx has one, and connection tracking keeps what
//! came of it. Replies come back through the tunnel and are translated by what is tracked.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Balancer, Counted, Host};
use crate::{
    process::{Finished, finish},
    topology::ORIGINS,
};

/// Slots of the table: a prime, of the size of lbx's for small pools.
const SLOTS: usize = 1021;
const PATIENCE: Duration = Duration::from_secs(10);

/// The rules, in force.
pub struct Nftables<'a>(&'a Host<'a>);

impl<'a> Nftables<'a> {
    /// Loads them for TCP and UDP of `port`.
    pub fn start(host: &'a Host<'a>, port: u16) -> Result<Self> {
        let mut slots = String::new();
        for (slot, (_, origin)) in (0..SLOTS).zip(ORIGINS.iter().cycle()) {
            write!(slots, "{slot} : {origin}, ")?;
        }
        let vip = host.vnet().plan.vip;
        host.netns().firewall(&format!(
            "table ip bench {{
                counter flows {{ }}
                chain in {{
                    type nat hook prerouting priority dstnat;
                    meta l4proto {{ tcp, udp }} ip daddr {vip} th dport {port} counter name flows \
                        dnat to jhash ip saddr . th sport mod {SLOTS} map {{ {slots} }}
                }}
            }}"
        ))?;
        Ok(Self(host))
    }
}

impl Balancer for Nftables<'_> {
    fn counted(&self) -> Result<Counted> {
        let mut command = self.0.netns().command("nft");
        let Finished { code, stdout, stderr } =
            finish(command.args(["-j", "list", "counter", "ip", "bench", "flows"]), PATIENCE)?;
        ensure!(code == Some(0), "nft: {stderr}");
        let json: serde_json::Value = serde_json::from_str(&stdout)?;
        let flows = json.pointer("/nftables/1/counter/packets").and_then(serde_json::Value::as_u64);
        let flows = flows.with_context(|| format!("no counter in {stdout}"))?;
        Ok(Counted { connections: Some(flows), packets: Some(self.0.forwarded()?) })
    }
}

impl Drop for Nftables<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.netns().firewall("delete table ip bench") {
            eprintln!("lbx-tests: rules stay behind: {error:#}");
        }
    }
}
