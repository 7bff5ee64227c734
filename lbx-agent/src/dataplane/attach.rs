//! Attaches programs to interfaces by pinned links, which outlive the agent.

use std::{collections::BTreeMap, io, path::Path};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, SchedClassifierLink},
        xdp::{XdpLink, XdpLinkId},
    },
};
use lbx_common::{
    abi::program_name,
    api::{AttachMode, Interface, Role},
};
use nix::net::if_::if_nametoindex;

use super::{
    link,
    pins::{PinError, Pins},
};

/// Name of the pinned link of the guard on `lbx0`.
const GUARD_LINK: &str = "lbx0%guard";

/// A program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface.
    #[error("interface {0} does not exist: see `ip link`")]
    NoInterface(String),
    /// Another program is there.
    #[error(
        "interface {0} is busy: another XDP program is attached; see `ip link show {0}`, remove it with `ip link set {0} xdp off`"
    )]
    Busy(String),
    /// Native mode was asked for and is not to be had.
    #[error("interface {interface} has no native XDP ({reason}): use `mode: auto` or `mode: generic`")]
    NoNative {
        /// The interface.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// The kernel attached without a link, which cannot be pinned.
    #[error("the kernel cannot attach XDP to {0} by a BPF link: Linux 5.9 or newer is needed")]
    NoLink(String),
    /// Anything else.
    #[error("cannot attach to {interface}: {source}")]
    Program {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A link could not be read or pinned.
    #[error("cannot keep the link of {interface}: {reason}")]
    Link {
        /// The interface.
        interface: String,
        /// What happened.
        reason: String,
    },
    /// The folder of pins.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// What this agent attached where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attached {
    program: &'static str,
    ifindex: u32,
    /// What was asked for.
    mode: AttachMode,
}

/// The programs and where they are attached.
pub struct Attachments {
    programs: Ebpf,
    pins: Pins,
    /// Name of the pin of the programs' stages.
    stages: String,
    attached: BTreeMap<String, Attached>,
    /// Interfaces of the node that are not attached, and why.
    waiting: BTreeMap<String, Waiting>,
}

/// Why an interface of the node is not attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// It does not exist: it is attached when it appears.
    Absent,
    /// It was refused: it is tried again.
    Refused(String),
}

impl Attachments {
    /// Nothing attached yet by this agent; pinned links of an earlier one are taken over when their
    /// interface is asked for.
    pub fn new(programs: Ebpf, pins: Pins, stages: String) -> Self {
        Self { programs, pins, stages, attached: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// Attaches to the node's interfaces. What is right already stays untouched; one that does not exist is waited
    /// for.
    pub fn interfaces(&mut self, wanted: &[Interface]) -> Result<(), AttachError> {
        self.waiting.retain(|name, _| wanted.iter().any(|interface| interface.name == *name));
        wanted.iter().try_for_each(|interface| self.interface(interface))
    }

    /// The same after devices came or went: one that is refused keeps none of the others from being attached, and is
    /// told by [`Self::waiting`].
    pub fn renew(&mut self, wanted: &[Interface]) {
        for interface in wanted {
            if let Err(error) = self.interface(interface) {
                self.wait_for(&interface.name, Waiting::Refused(error.to_string()));
            }
        }
    }

    /// Why an interface of the node is not attached.
    pub fn waiting(&self, name: &str) -> Option<&Waiting> {
        self.waiting.get(name)
    }

    /// Whether trying again may attach an interface that was refused.
    pub fn any_refused(&self) -> bool {
        self.waiting.values().any(|waiting| *waiting != Waiting::Absent)
    }

    /// Indexes of all devices that are attached.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.attached.values().map(|attached| attached.ifindex)
    }

    fn interface(&mut self, interface: &Interface) -> Result<(), AttachError> {
        let Interface { name, role, mode } = interface;
        let program = match role {
            Role::Public => program_name::PUBLIC,
            Role::Underlay => program_name::UNDERLAY,
            Role::Both => program_name::BOTH,
        };
        match self.xdp(name, program, *mode) {
            Ok(()) => {
                self.waiting.remove(name);
                Ok(())
            }
            Err(AttachError::NoInterface(_)) => {
                // The link of a device that goes by another name now must not stay: the name is what counts.
                self.attached.remove(name);
                if self.pins.link(name).exists() {
                    self.unpin(name)?;
                }
                self.wait_for(name, Waiting::Absent);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps in mind why an interface is not attached, and says it once.
    fn wait_for(&mut self, interface: &str, why: Waiting) {
        if self.waiting.get(interface) == Some(&why) {
            return;
        }
        match &why {
            Waiting::Absent => {
                tracing::warn!(interface, "the interface does not exist: it is attached when it appears");
            }
            Waiting::Refused(reason) => tracing::error!(interface, "{reason}; trying again"),
        }
        self.waiting.insert(interface.to_owned(), why);
    }

    /// Detaches from interfaces that are no longer wanted.
    pub fn release_others(&mut self, wanted: &[Interface]) -> Result<(), AttachError> {
        for name in self.pins.link_names()? {
            let ours = ["lbx0", "lbx1", GUARD_LINK].contains(&name.as_str());
            if !ours && !wanted.iter().any(|interface| interface.name == name) {
                self.unpin(&name)?;
                tracing::info!(interface = name, "detached");
            }
        }
        // Every link has a program of this agent now.
        self.pins.settle()?;
        Ok(self.pins.forget_other_stages(&self.stages)?)
    }

    /// Attaches to the probe path: both ends of the veth pair, and the guard on the egress of `lbx0`.
    pub fn probe_path(&mut self) -> Result<(), AttachError> {
        self.xdp("lbx0", program_name::ARRIVAL, AttachMode::Native)?;
        // Before anything that lbx0 lets out can reach a tunnel.
        self.guard()?;
        self.xdp("lbx1", program_name::PROBE, AttachMode::Native)
    }

    /// Attaches an XDP program to an interface.
    fn xdp(&mut self, name: &str, program: &'static str, mode: AttachMode) -> Result<(), AttachError> {
        let ifindex = if_nametoindex(name).map_err(|_| AttachError::NoInterface(name.to_owned()))?;
        let wanted = Attached { program, ifindex, mode };
        let current = self.attached.get(name);
        let pin = self.pins.link(name);
        // Not where the interface was made anew under its name, or got the name of another one.
        let leads_there = leads_to(&pin, ifindex);
        if leads_there && current == Some(&wanted) {
            return Ok(());
        }
        // A link cannot change its mode: it is made anew.
        let same_mode = current.is_none_or(|current| current.mode == mode);
        if pin.exists() {
            if leads_there && same_mode && self.replace(name, program)? {
                self.attached.insert(name.to_owned(), wanted);
                return Ok(());
            }
            self.unpin(name)?;
        }
        let id = match mode {
            AttachMode::Generic => self.attach(name, program, XdpMode::Skb),
            AttachMode::Native => self.attach(name, program, XdpMode::Driver),
            AttachMode::Auto => match self.attach(name, program, XdpMode::Driver) {
                Err(AttachError::NoNative { reason, .. }) => {
                    tracing::warn!(interface = name, reason, "no native XDP: attaching in generic mode");
                    self.attach(name, program, XdpMode::Skb)
                }
                other => other,
            },
        }?;
        let link = self.program(name, program)?.take_link(id).map_err(|e| wrong(name, e))?;
        let link = FdLink::try_from(link).map_err(|_| AttachError::NoLink(name.to_owned()))?;
        link.pin(&pin).map_err(|e| broken(name, &e))?;
        self.attached.insert(name.to_owned(), wanted);
        tracing::info!(interface = name, program, "attached");
        Ok(())
    }

    fn program(&mut self, interface: &str, name: &str) -> Result<&mut Xdp, AttachError> {
        let program = self.programs.program_mut(name).ok_or_else(|| AttachError::Link {
            interface: interface.to_owned(),
            reason: format!("the object file has no program {name}"),
        })?;
        program.try_into().map_err(|e| wrong(interface, e))
    }

    fn attach(&mut self, name: &str, program: &str, mode: XdpMode) -> Result<XdpLinkId, AttachError> {
        let native = matches!(mode, XdpMode::Driver);
        self.program(name, program)?.attach(name, mode).map_err(|error| match os_error(&error) {
            Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(name.to_owned()),
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOTSUP) if native => {
                AttachError::NoNative { interface: name.to_owned(), reason: cause(&error) }
            }
            _ => wrong(name, error),
        })
    }

    /// Puts this agent's program into a pinned link. Returns false where the link's interface is gone.
    fn replace(&mut self, name: &str, program: &'static str) -> Result<bool, AttachError> {
        let pinned = PinnedLink::from_pin(self.pins.link(name)).map_err(|e| broken(name, &e))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|e: LinkError| broken(name, &e))?;
        let xdp = self.program(name, program)?;
        match xdp.attach_to_link(link) {
            Ok(id) => {
                // The pin keeps the link; this descriptor of it may go.
                drop(xdp.take_link(id).map_err(|e| wrong(name, e))?);
                Ok(true)
            }
            Err(error) if os_error(&error) == Some(libc::ENOLINK) => Ok(false),
            Err(error) => Err(wrong(name, error)),
        }
    }

    fn guard(&mut self) -> Result<(), AttachError> {
        let name = "lbx0";
        let ifindex = if_nametoindex(name).map_err(|_| AttachError::NoInterface(name.to_owned()))?;
        let wanted = Attached { program: program_name::GUARD, ifindex, mode: AttachMode::Auto };
        let pin = self.pins.link(GUARD_LINK);
        if leads_to(&pin, ifindex) && self.attached.get(GUARD_LINK) == Some(&wanted) {
            return Ok(());
        }
        let pinned =
            if pin.exists() { Some(PinnedLink::from_pin(&pin).map_err(|e| broken(name, &e))?) } else { None };
        let program = self.programs.program_mut(program_name::GUARD).ok_or_else(|| AttachError::Link {
            interface: name.to_owned(),
            reason: format!("the object file has no program {}", program_name::GUARD),
        })?;
        let program: &mut SchedClassifier = program.try_into().map_err(|e| wrong(name, e))?;
        if let Some(pinned) = pinned {
            // Replaced in one step: without a guard, everybody on the host could reach private networks.
            let link = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(|e| broken(name, &e))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    // The pin keeps the link; this descriptor of it may go.
                    drop(program.take_link(id).map_err(|e| wrong(name, e))?);
                    self.attached.insert(GUARD_LINK.to_owned(), wanted);
                    return Ok(());
                }
                // lbx0 was made anew: the old link leads nowhere.
                Err(error) if os_error(&error) == Some(libc::ENOLINK) => self.pins.remove_link(GUARD_LINK)?,
                Err(error) => return Err(wrong(name, error)),
            }
        }
        let _ = tc::qdisc_add_clsact(name);
        let id = program.attach(name, TcAttachType::Egress).map_err(|e| wrong(name, e))?;
        let link = program.take_link(id).map_err(|e| wrong(name, e))?;
        match FdLink::try_from(link) {
            Ok(link) => drop(link.pin(&pin).map_err(|e| broken(name, &e))?),
            Err(error) => return Err(broken(name, &error)),
        }
        self.attached.insert(GUARD_LINK.to_owned(), wanted);
        Ok(())
    }

    fn unpin(&mut self, name: &str) -> Result<(), AttachError> {
        self.attached.remove(name);
        Ok(self.pins.remove_link(name)?)
    }
}

/// Whether the link pinned there is one of this device.
fn leads_to(pin: &Path, ifindex: u32) -> bool {
    link::device(pin).is_ok_and(|device| device == Some(ifindex))
}

fn wrong(interface: &str, source: ProgramError) -> AttachError {
    AttachError::Program { interface: interface.to_owned(), source: Box::new(source) }
}

fn broken(interface: &str, error: &dyn std::error::Error) -> AttachError {
    AttachError::Link { interface: interface.to_owned(), reason: cause(error) }
}

/// The innermost cause of an error.
fn cause(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// The error number at the bottom of an error.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        current = error.source();
    }
    None
}
