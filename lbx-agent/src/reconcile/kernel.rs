//! Everything in the kernel that belongs to one agent: programs, maps, links, the probe path.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use aya::maps::MapError;
use lbx_common::api::{AttachMode, Family, LinkState};
use nix::net::if_::if_nametoindex;

use crate::{
    config::model::{Model, Vnet},
    dataplane::{
        ApplyError, AttachError, Attachments, Before, Image, KernelCounters, KernelMemory, KnownRoutes,
        LoadError, Memory, PinError, Pins, RegionMaps, Remembered, Samples, Sampling, Sizes, apply, diff,
        load, mend,
    },
    net::{
        NetError, netlink, next_hop,
        probe_path::{self, ProbePath, ProbePathWanted},
    },
    plan::PlanError,
};

/// Something in the kernel is not as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The folder of pins.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Programs or maps.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Links.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Devices, routes, rules.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No room for the plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A write to the maps.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What flows need cannot be carried over.
    #[error("cannot carry over what is remembered of flows: {0}")]
    CarryOver(#[from] MapError),
}

/// What an agent finds in the kernel before it starts.
pub struct Found {
    links: Vec<String>,
    probe_path: bool,
}

impl Found {
    /// Looks.
    pub fn look(bpffs: &Path) -> Result<Self, PinError> {
        Ok(Self { links: Pins::links_in(bpffs)?, probe_path: if_nametoindex(probe_path::LBX0).is_ok() })
    }
}

/// The kernel's side of an agent.
pub struct Kernel {
    /// Maps that the agent writes.
    pub memory: KernelMemory,
    /// Lists of regions, for whoever writes them; taken once.
    pub regions: Option<RegionMaps>,
    /// Counters.
    pub counters: KernelCounters,
    /// Programs and their links.
    pub attachments: Attachments,
    remembered: Remembered,
    /// Which ways to clients count that programs know.
    pub known_routes: Arc<KnownRoutes>,
    /// How many packets programs tell of.
    pub sampling: Sampling,
    /// Those packets.
    pub samples: Samples,
    /// Whether there were maps already, whose content counts.
    pub adopted: bool,
    /// Those maps, where they have another layout or size and programs still use them.
    pub before: Option<Box<Before>>,
    netlink: rtnetlink::Handle,
    probe_path: ProbePath,
    vlans: BTreeMap<u32, (u32, u16)>,
}

impl Kernel {
    /// Loads the programs, takes over or makes the maps, and makes the probe path as the model needs it.
    pub async fn open(bpffs: &Path, model: &Model, netlink: rtnetlink::Handle) -> Result<Self, KernelError> {
        let pins = Pins::open(bpffs)?;
        let mut loaded = load(&pins, &Sizes::new(&model.limits))?;
        if let Some(before) = &loaded.before {
            before.copy_regions(&mut loaded.regions).map_err(ApplyError::from)?;
        }
        if mend(&mut loaded.memory) {
            tracing::warn!("the agent before this one was killed in the middle of a change: mended");
        }
        let probe_path = probe_path::ensure(&netlink, &wanted(model)).await?;
        let vlans = netlink::vlan_devices(&netlink).await?;
        let mut attachments = Attachments::new(loaded.programs, loaded.pins, loaded.stages);
        if loaded.before.is_none() {
            attachments.probe_path()?;
        }
        Ok(Self {
            memory: loaded.memory,
            regions: Some(loaded.regions),
            counters: loaded.counters,
            attachments,
            remembered: loaded.remembered,
            known_routes: Arc::new(loaded.known_routes),
            sampling: loaded.sampling,
            samples: loaded.samples,
            adopted: loaded.adopted,
            before: loaded.before,
            netlink,
            probe_path,
            vlans,
        })
    }

    /// What programs alone write.
    pub const fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Fills the maps with what `wanted` says and with what flows need of those before.
    pub fn fill_beside(&mut self, wanted: &Image) -> Result<(), KernelError> {
        tracing::info!(
            "other layout or limits: maps are made anew beside those in use, and flows carried over"
        );
        apply(&mut self.memory, &mut self.counters, &diff(&Image::default(), wanted))?;
        if let Some(before) = &mut self.before {
            before.copy_flows(&mut self.memory, &mut self.remembered)?;
            before.copy_counters(&mut self.counters)?;
        }
        Ok(())
    }

    /// Lets go of the maps before, which no program uses any more.
    pub fn leave_before(&mut self) -> Result<(), KernelError> {
        if let Some(before) = self.before.take() {
            // Packets under way may pin a flow there.
            self.memory.grace();
            before.copy_flows(&mut self.memory, &mut self.remembered)?;
        }
        Ok(())
    }

    /// Interface index and MAC of `lbx0`.
    pub fn lbx0(&self) -> (u32, [u8; 6]) {
        (self.probe_path.lbx0.ifindex, self.probe_path.lbx0.mac)
    }

    /// Interface index and MAC of `lbx1`.
    pub fn lbx1(&self) -> (u32, [u8; 6]) {
        (self.probe_path.lbx1.ifindex, self.probe_path.lbx1.mac)
    }

    /// The host's VLAN devices as of the last change: parent and tag by interface index.
    pub fn vlans(&self) -> &BTreeMap<u32, (u32, u16)> {
        &self.vlans
    }

    /// Attaches to the model's interfaces, and makes the host's addresses, routes and rules those that the
    /// model needs. Interfaces of an earlier model stay attached until they are released.
    pub async fn prepare(&mut self, model: &Model) -> Result<(), KernelError> {
        self.attachments.interfaces(&model.interfaces)?;
        self.probe_path = probe_path::ensure(&self.netlink, &wanted(model)).await?;
        self.attachments.probe_path()?;
        self.vlans = netlink::vlan_devices(&self.netlink).await?;
        Ok(())
    }

    /// The same after devices came or went. An interface that is refused is tried again, see
    /// [`Attachments::any_refused`], and keeps nothing else from being done.
    pub async fn renew(&mut self, model: &Model) -> Result<(), KernelError> {
        self.attachments.renew(&model.interfaces);
        self.probe_path = probe_path::ensure(&self.netlink, &wanted(model)).await?;
        self.attachments.probe_path()?;
        self.vlans = netlink::vlan_devices(&self.netlink).await?;
        Ok(())
    }

    /// State of an interface, and how the kernel runs its XDP program.
    pub async fn link(&self, interface: &str) -> (LinkState, Option<AttachMode>) {
        netlink::link_state(&self.netlink, interface).await.unwrap_or_else(|error| {
            tracing::warn!(interface, %error, "cannot see how XDP is attached");
            (LinkState::Missing, None)
        })
    }

    /// Undoes a start that failed: what `found` does not name was made by it.
    pub async fn take_back(
        bpffs: &Path,
        found: &Found,
        netlink: &rtnetlink::Handle,
    ) -> Result<(), KernelError> {
        if found.links.is_empty() {
            Pins::remove_all(bpffs)?;
        } else {
            let pins = Pins::open(bpffs)?;
            pins.remove_links_but(&found.links)?;
        }
        if !found.probe_path {
            probe_path::remove(netlink).await?;
        }
        Ok(())
    }

    /// Removes everything that lbx ever put into the kernel under this folder, and its devices and rules.
    /// Returns whether there was anything pinned.
    pub async fn detach(bpffs: &Path, netlink: &rtnetlink::Handle) -> Result<bool, KernelError> {
        let found = Pins::remove_all(bpffs)?;
        probe_path::remove(netlink).await?;
        next_hop::release_all(netlink).await?;
        Ok(found)
    }
}

fn wanted(model: &Model) -> ProbePathWanted {
    let mut vips: Vec<IpAddr> = model.services.iter().map(|service| service.address).collect();
    vips.sort_unstable();
    vips.dedup();
    let sources = |vnet: &Vnet| Family::ALL.map(|family| vnet.probe_source.of(family));
    let probe_sources = model.vnets.iter().flat_map(sources).flatten().collect();
    ProbePathWanted { probe_sources, vips }
}
