//! Network namespaces for this crate's tests. They have no name and no route outside, and vanish with the
//! value.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace with `lo` up.
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    /// Makes one; needs `CAP_SYS_ADMIN`.
    pub(crate) fn new() -> Self {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("network tests need root");
            Self(File::open("/proc/thread-self/ns/net").unwrap().into())
        });
        let namespace = namespace.join().unwrap();
        // Link-local addresses need no second of waiting for somebody who has them, too.
        for scope in ["all", "default"] {
            namespace.run(|| fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")).unwrap();
        }
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something on a thread of its own inside.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            action()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs something asynchronous inside.
    pub(crate) fn block_on<T: Send>(&self, action: impl AsyncFnOnce() -> T + Send) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(action())
        })
    }

    /// Runs `ip` inside and returns what it printed.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let output = self.run(|| Command::new("ip").args(arguments.split_whitespace()).output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Gives a device an address (with prefix length), which can be used at once.
    pub(crate) fn address(&self, address: &str, device: &str) {
        if address.contains(':') {
            self.ip(&format!("address add {address} dev {device} nodad"));
            // The kernel adds the same a moment later.
            let (host, _) = address.split_once('/').unwrap_or((address, ""));
            self.ip(&format!("route add local {host} dev {device} table local metric 1"));
        } else {
            self.ip(&format!("address add {address} dev {device}"));
        }
    }

    /// Connects two namespaces by a veth pair; both ends are up and have an address.
    pub(crate) fn connect(
        &self,
        device: &str,
        address: &str,
        peer: &Self,
        peer_device: &str,
        peer_address: &str,
    ) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        self.ip(&format!("link add {device} type veth peer name {peer_device} netns {path}"));
        for (namespace, device, address) in [(self, device, address), (peer, peer_device, peer_address)] {
            namespace.address(address, device);
            namespace.ip(&format!("link set {device} up"));
        }
    }
}
