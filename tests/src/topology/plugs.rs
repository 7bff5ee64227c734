//! The two cables of lbx, which a test can pull out and plug in again: the devices at both ends go with it, and come
//! back with other indexes and MAC addresses.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use super::{
    Topology, Vnet,
    boxes::{address, cable, link_local, native},
    leaks::Leaks,
    plan::{
        CLIENT, CLIENT_V6, LBX_PUBLIC, LBX_PUBLIC_V6, LBX_UNDERLAY, LBX_UNDERLAY_V6, PUBLIC_DEVICE,
        PUBLIC_MTU, UNDERLAY_DEVICE,
    },
};
use crate::{netns::Netns, xdp::FixedVerdict};

/// What is there as long as a cable is plugged in.
pub(super) struct Plugs {
    underlay_mtu: u16,
    watched: bool,
    public: Mutex<Option<(FixedVerdict, Option<Leaks>)>>,
    underlay: Mutex<Option<FixedVerdict>>,
}

impl Plugs {
    /// Nothing plugged in yet. `watched`: what the client gets will be.
    pub(super) const fn new(underlay_mtu: u16, watched: bool) -> Self {
        Self { underlay_mtu, watched, public: Mutex::new(None), underlay: Mutex::new(None) }
    }

    /// Connects lbx with its client.
    pub(super) fn plug_public(&self, client: &Netns, lbx: &Netns) -> Result<()> {
        cable((client, PUBLIC_DEVICE), (lbx, PUBLIC_DEVICE), PUBLIC_MTU)?;
        for (netns, ipv4, ipv6, host) in [(client, CLIENT, CLIENT_V6, 2), (lbx, LBX_PUBLIC, LBX_PUBLIC_V6, 1)]
        {
            address(netns, PUBLIC_DEVICE, ipv4)?;
            address(netns, PUBLIC_DEVICE, ipv6)?;
            link_local(netns, PUBLIC_DEVICE, host)?;
        }
        client.ip(&format!("route add 203.0.113.0/24 via {LBX_PUBLIC}"))?;
        client.ip(&format!("route add 2001:db8:203::/64 via {LBX_PUBLIC_V6}"))?;
        let leaks = self.watched.then(|| Leaks::watch(client)).transpose()?;
        let plugged = (native(client, PUBLIC_DEVICE)?, leaks);
        *self.public.lock().unwrap_or_else(PoisonError::into_inner) = Some(plugged);
        Ok(())
    }

    /// Connects lbx with the switch of the gateways.
    pub(super) fn plug_underlay(&self, lbx: &Netns, switch: &Netns) -> Result<()> {
        cable((lbx, UNDERLAY_DEVICE), (switch, "lbx"), self.underlay_mtu)?;
        address(lbx, UNDERLAY_DEVICE, LBX_UNDERLAY)?;
        address(lbx, UNDERLAY_DEVICE, LBX_UNDERLAY_V6)?;
        link_local(lbx, UNDERLAY_DEVICE, 1)?;
        switch.ip("link set dev lbx master switch0")?;
        let plugged = native(switch, "lbx")?;
        *self.underlay.lock().unwrap_or_else(PoisonError::into_inner) = Some(plugged);
        Ok(())
    }

    fn forget(&self, device: &str) {
        if device == PUBLIC_DEVICE {
            drop(self.public.lock().unwrap_or_else(PoisonError::into_inner).take());
        } else {
            drop(self.underlay.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Topology {
    /// Takes the cable at a device of lbx away, with the devices at both ends.
    pub fn unplug(&self, device: &str) -> Result<()> {
        self.plugs.forget(device);
        self.lbx.ip(&format!("link delete {device}")).map(drop)
    }

    /// Connects it again.
    pub fn plug(&self, device: &str) -> Result<()> {
        match device {
            PUBLIC_DEVICE => self.plugs.plug_public(&self.client_netns, &self.lbx),
            UNDERLAY_DEVICE => self.plugs.plug_underlay(&self.lbx, &self.switch),
            _ => bail!("lbx has no cable at {device}"),
        }
    }

    /// A further cable from lbx to the gateway of a network, with the same device name and no addresses at both ends:
    /// whoever routes by it reaches the addresses that the boxes have. It takes tunnel packets while the value lives.
    pub fn second_cable(&self, vnet: &Vnet, device: &str) -> Result<FixedVerdict> {
        cable((&self.lbx, device), (&vnet.gateway, device), self.plugs.underlay_mtu)?;
        native(&vnet.gateway, device)
    }
}
