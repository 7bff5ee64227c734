//! XDP programs of two instructions, `return VERDICT`, attached natively.
//!
//! Frames that native XDP sends over a veth pair arrive only when the receiving end has a native program
//! too (drivers/net/veth.c, `veth_xdp_xmit`), so the ends that face lbx pass everything. The instructions
//! are written out here: the network comes up without an eBPF tool chain.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::wait;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// Lets the program attach to devices with a large MTU.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What the program does with every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `XDP_PASS`: on to the network stack.
    Pass,
    /// `XDP_TX`: back to where it came from.
    Return,
}

/// Head of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is missing as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Longest wait for a device whose last program was just detached.
const BUSY: Duration = Duration::from_secs(5);

/// An attached program; detached when dropped.
#[derive(Debug)]
pub struct FixedVerdict {
    _link: OwnedFd,
}

impl FixedVerdict {
    /// Attaches to `device` in native mode. Acts in the namespace of the calling thread.
    pub fn attach(device: &str, verdict: Verdict) -> Result<Self> {
        let ifindex = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
        let program =
            load(verdict).context("cannot load an XDP program: needs root and a kernel with BPF")?;
        let attributes = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        let attach = || {
            // SAFETY: `LinkCreate` is the head of the attributes of BPF_LINK_CREATE and holds no pointers.
            match unsafe { bpf(BPF_LINK_CREATE, &attributes) } {
                Ok(link) => Ok(Some(link)),
                // A process that is just being started may hold the one before for a moment longer.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let link = wait::until(&format!("{device} has no other XDP program"), BUSY, attach);
        let link = link.with_context(|| format!("cannot attach a native XDP program to {device}"))?;
        Ok(Self { _link: link })
    }
}

fn load(verdict: Verdict) -> io::Result<OwnedFd> {
    let action = match verdict {
        Verdict::Pass => 2,
        Verdict::Return => 3,
    };
    // r0 = action; exit
    let program: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, action, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: BPF_F_XDP_HAS_FRAGS,
    };
    // SAFETY: `ProgLoad` is the head of the attributes of BPF_PROG_LOAD; `insns` points at `insn_cnt`
    // instructions and `license` at a string with a final zero; both outlive the call.
    unsafe { bpf(BPF_PROG_LOAD, &attributes) }
}

/// bpf(2) with a command that answers with a descriptor.
///
/// # Safety
/// `T` is the head of the attributes that `command` reads, and its pointers are valid for the command.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    let descriptor = i32::try_from(result).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands used here return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
