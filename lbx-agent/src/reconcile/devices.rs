//! Devices that come, go or change while the agent runs: the node's interfaces are attached again, the probe path is
//! mended, and VLAN devices are told to the data plane. The ways to gateways are the next-hop watcher's.

use std::time::Instant;

use nix::net::if_::if_nametoindex;

use super::{Reconciler, pass::RETRY};
use crate::net::{
    devices::Changed,
    probe_path::{LBX0, LBX1},
};

/// What stands in the way of the devices that are wanted.
#[derive(Default)]
pub(super) struct Devices {
    /// When to try again.
    pub(super) retry: Option<Instant>,
    /// What was said of it last.
    said: Option<String>,
}

impl Reconciler {
    /// Takes what the kernel tells of devices. Returns whether the plan may be another one now.
    pub(super) async fn devices_changed(&mut self, changed: &Changed) -> bool {
        self.concerned(changed) && self.renew_devices().await
    }

    /// Whether lbx has, or wants to have, something to do with one of these devices.
    fn concerned(&self, changed: &Changed) -> bool {
        if changed.any || changed.vlans {
            return true;
        }
        let names = self.model.interfaces.iter().map(|interface| interface.name.as_str());
        let mut indexes = names.chain([LBX0, LBX1]).flat_map(if_nametoindex);
        indexes.any(|index| changed.indexes.contains(&index))
            || self.kernel.attachments.devices().any(|index| changed.indexes.contains(&index))
    }

    /// Attaches where that is missing. Returns whether the plan may be another one now.
    pub(super) async fn renew_devices(&mut self) -> bool {
        let facts = |this: &Self| (this.kernel.lbx0(), this.kernel.lbx1(), this.kernel.vlans().clone());
        let before = facts(self);
        let trouble = self.kernel.renew(&self.model).await.err().map(|error| error.to_string());
        if let Some(error) = &trouble
            && self.devices.said != trouble
        {
            tracing::error!("devices are not as they should be: {error}; trying again");
        }
        let again = trouble.is_some() || self.kernel.attachments.any_refused();
        self.devices = Devices { retry: again.then(|| Instant::now() + RETRY), said: trouble };
        self.tell_interfaces().await;
        facts(self) != before
    }
}
