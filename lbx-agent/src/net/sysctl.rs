//! Reads and sets the switches that a device has below `/proc/sys/net`.
//!
//! `/proc/sys/net` shows the namespace of the task that looks, so this acts where the caller is. It
//! writes only what differs: a write is an event for whoever watches the host.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::NetError;

/// Sets `/proc/sys/net/ipv4/conf/DEVICE/KEY`. Says whether it had to change.
pub fn set_ipv4(device: &str, key: &str, value: &str) -> Result<bool, NetError> {
    set(&path("ipv4", device, key), value)
}

/// Reads `/proc/sys/net/ipv4/conf/DEVICE/KEY`.
pub fn get_ipv4(device: &str, key: &str) -> Result<String, NetError> {
    get(path("ipv4", device, key))
}

/// Whether this kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// Whether this kernel has `/proc/sys/net/ipv6/conf/DEVICE/KEY`.
pub fn has_ipv6_key(device: &str, key: &str) -> bool {
    path("ipv6", device, key).exists()
}

/// Sets `/proc/sys/net/ipv6/conf/DEVICE/KEY`. Says whether it had to change.
pub fn set_ipv6(device: &str, key: &str, value: &str) -> Result<bool, NetError> {
    set(&path("ipv6", device, key), value)
}

/// Reads `/proc/sys/net/ipv6/conf/DEVICE/KEY`.
pub fn get_ipv6(device: &str, key: &str) -> Result<String, NetError> {
    get(path("ipv6", device, key))
}

fn path(family: &str, device: &str, key: &str) -> PathBuf {
    // A device name may hold a dot but no slash, so it stays one component.
    ["/proc/sys/net", family, "conf", device, key].iter().collect()
}

fn get(path: PathBuf) -> Result<String, NetError> {
    read(&path).map_err(|source| NetError::Sysctl { verb: "read", path, source })
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned())
}

fn set(path: &Path, value: &str) -> Result<bool, NetError> {
    let fail = |verb| move |source| NetError::Sysctl { verb, path: path.to_owned(), source };
    if read(path).map_err(fail("read"))? == value {
        return Ok(false);
    }
    fs::write(path, value).map_err(fail("set"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{get_ipv4, set_ipv4};
    use crate::net::testing::Namespace;

    #[test]
    fn a_value_is_written_only_when_it_differs() {
        Namespace::new().run(|| {
            assert_eq!(get_ipv4("lo", "accept_local").unwrap(), "0");
            assert!(set_ipv4("lo", "accept_local", "1").unwrap());
            assert!(!set_ipv4("lo", "accept_local", "1").unwrap());
            assert_eq!(get_ipv4("lo", "accept_local").unwrap(), "1");
        });
    }

    #[test]
    fn an_unknown_device_is_named_in_the_error() {
        Namespace::new().run(|| {
            let error = set_ipv4("nosuch", "rp_filter", "2").unwrap_err().to_string();
            assert!(error.contains("/proc/sys/net/ipv4/conf/nosuch/rp_filter"), "{error}");
        });
    }
}
