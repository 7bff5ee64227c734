//! Switches offloads of a device, by the ethtool ioctl.
//!
//! It uses the one-value commands (`ETHTOOL_GTXCSUM` and its like): they exist since before any kernel
//! that lbx runs on, need no table of feature names, and cover all that lbx asks for.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetError;

/// Wanted offloads; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums of sent packets are left to the device.
    pub tx_checksum: Option<bool>,
    /// Checksums of received packets are checked by the device.
    pub rx_checksum: Option<bool>,
    /// TCP segmentation is left to the device.
    pub tso: Option<bool>,
    /// Segmentation is left to the last step before the device.
    pub gso: Option<bool>,
    /// Received segments are merged.
    pub gro: Option<bool>,
}

/// An offload: a one-value command pair of `include/uapi/linux/ethtool.h`.
pub struct Feature {
    name: &'static str,
    get: u32,
    set: u32,
}

const TX_CHECKSUM: Feature = Feature { name: "tx", get: 0x16, set: 0x17 };
const RX_CHECKSUM: Feature = Feature { name: "rx", get: 0x14, set: 0x15 };
const TSO: Feature = Feature { name: "tso", get: 0x1e, set: 0x1f };
const GSO: Feature = Feature { name: "gso", get: 0x23, set: 0x24 };
/// Received segments are merged by the kernel.
pub const GRO: Feature = Feature { name: "gro", get: 0x2b, set: 0x2c };

/// `ETHTOOL_GFLAGS`, and its bit `ETH_FLAG_LRO`.
const GET_FLAGS: u32 = 0x25;
const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches offloads of a device in the namespace of the calling thread. Says whether any had to change.
pub fn set_offloads(device: &str, wanted: Offloads) -> Result<bool, NetError> {
    // TSO depends on checksums, so it goes first and its own answer is seen.
    let wanted = [
        (TSO, wanted.tso),
        (GSO, wanted.gso),
        (GRO, wanted.gro),
        (TX_CHECKSUM, wanted.tx_checksum),
        (RX_CHECKSUM, wanted.rx_checksum),
    ];
    let fail = |verb, feature: &Feature| {
        let (device, feature) = (device.to_owned(), feature.name);
        move |source| NetError::Offload { verb, feature, device, source }
    };
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| NetError::Open(errno.into()))?;
    let mut changed = false;
    for (feature, on) in wanted {
        let Some(on) = on else { continue };
        let is_on = call(&socket, device, feature.get, 0).map_err(fail("read", &feature))? != 0;
        if is_on != on {
            let verb = if on { "switch on" } else { "switch off" };
            call(&socket, device, feature.set, on.into()).map_err(fail(verb, &feature))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Whether an offload is on; false also where the device cannot say.
pub fn is_on(device: &str, feature: &Feature) -> bool {
    read(device, feature.get).is_some_and(|value| value != 0)
}

/// Whether the device merges received packets itself.
pub fn has_lro(device: &str) -> bool {
    read(device, GET_FLAGS).is_some_and(|flags| flags & FLAG_LRO != 0)
}

fn read(device: &str, command: u32) -> Option<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    call(&socket, device, command, 0).ok()
}

fn call(socket: &OwnedFd, device: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if device.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let mut value = Value { command, data };
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    // SAFETY: SIOCETHTOOL reads an ifreq whose ifru_data points to a struct that starts with a command;
    // the commands used here read and write one ethtool_value, which is what `value` is; both live until
    // the call returns.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } == 0 {
        Ok(value.data)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::{Offloads, set_offloads};
    use crate::net::testing::Namespace;

    #[test]
    fn offloads_go_off_and_on_and_a_second_call_changes_nothing() {
        let host = Namespace::new();
        host.ip("link add veth-a type veth peer name veth-b");
        host.run(|| {
            let off = Offloads {
                tx_checksum: Some(false),
                rx_checksum: Some(false),
                tso: Some(false),
                gso: Some(false),
                gro: Some(false),
            };
            assert!(set_offloads("veth-a", off).unwrap());
            assert!(!set_offloads("veth-a", off).unwrap());
            assert!(
                set_offloads("veth-a", Offloads { tx_checksum: Some(true), ..Offloads::default() }).unwrap()
            );
            assert!(!set_offloads("veth-a", Offloads::default()).unwrap());
        });
    }

    #[test]
    fn an_unknown_device_is_named_in_the_error() {
        Namespace::new().run(|| {
            for device in ["nosuch", "a-name-that-is-too-long-for-a-device"] {
                let wanted = Offloads { tso: Some(false), ..Offloads::default() };
                let error = set_offloads(device, wanted).unwrap_err().to_string();
                assert!(error.contains(device) && error.contains("tso"), "{error}");
            }
        });
    }
}
