//! Offloads of network devices, by the ethtool ioctl.
//!
//! veth hands packets on with checksums that nobody has computed and with segments far above the MTU.
//! With offloads off every frame is what a real cable would carry, so a wrong checksum is found.

use std::io;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// One offload: its name and its get and set commands (`linux/ethtool.h`).
struct Offload {
    name: &'static str,
    get: u32,
    set: u32,
}

/// In an order in which each can be switched off: segmentation needs checksums.
const OFFLOADS: [Offload; 5] = [
    Offload { name: "gro", get: 0x2b, set: 0x2c },
    Offload { name: "gso", get: 0x23, set: 0x24 },
    Offload { name: "tso", get: 0x1e, set: 0x1f },
    Offload { name: "tx checksum", get: 0x16, set: 0x17 },
    Offload { name: "rx checksum", get: 0x14, set: 0x15 },
];

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches all offloads of `device` off. Acts in the namespace of the calling thread.
pub fn disable(device: &str) -> Result<()> {
    for offload in &OFFLOADS {
        match ethtool(device, EthtoolValue { command: offload.set, data: 0 }) {
            Ok(_) => {}
            // A device that cannot change it is fine as long as it is off.
            Err(error) => {
                let on = ethtool(device, EthtoolValue { command: offload.get, data: 0 }).unwrap_or(0) != 0;
                if on {
                    return Err(error)
                        .with_context(|| format!("cannot switch {} of {device} off", offload.name));
                }
            }
        }
    }
    Ok(())
}

/// Names of the offloads of `device` that are on. Acts in the namespace of the calling thread.
pub fn enabled(device: &str) -> Result<Vec<&'static str>> {
    let mut on = Vec::new();
    for offload in &OFFLOADS {
        let value = ethtool(device, EthtoolValue { command: offload.get, data: 0 })
            .with_context(|| format!("cannot read {} of {device}", offload.name))?;
        if value != 0 {
            on.push(offload.name);
        }
    }
    Ok(on)
}

fn ethtool(device: &str, mut value: EthtoolValue) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut request = interface_request(device)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name from `request` and reads and writes the `EthtoolValue` behind
    // `ifru_data`; both outlive the call.
    let status =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCETHTOOL, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

/// A zeroed `struct ifreq` with the name filled in.
pub(crate) fn interface_request(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data; all zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.is_empty() || device.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{device}` is no device name: it must have 1 to 15 bytes"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}
