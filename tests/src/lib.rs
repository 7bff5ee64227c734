//! Harness of the tests and of the playground: network namespaces, real servers, real clients.
//!
//! | module | owns |
//! |---|---|
//! | [`topology`] | the boxes and cables of the test network; start reading here |
//! | [`netns`] | one network namespace: entering it, running `ip`, threads and processes inside |
//! | [`offload`], [`xdp`] | devices that behave like real ones: real checksums, native XDP transmission |
//! | [`gateway`] | the far end of a tunnel for kernels without a device of its kind |
//! | [`family`] | IPv4 or IPv6 |
//! | [`servers`], [`client`], [`busy`], [`http`], [`path_mtu`] | what sends and answers |
//! | [`capture`], [`traffic`], [`documented`] | what was on the wire; what must be true of it |
//! | [`agent`], [`config`], [`strace`] | lbx itself, as processes |
//! | [`notify`], [`unit`] | what a service manager hears and allows |
//! | [`lab`] | the programs alone, run on single packets |
//! | [`world`] | the configuration that they are run with: every kind of network and service |
//! | [`fuzz`] | what must hold whatever arrives |
//! | [`bench`] | what is measured: nanoseconds per packet, the agent at scale, lbx beside other balancers |
//! | [`packets`] | packets of clients and origins, and what becomes of them |
//! | [`tunnel`] | tunnel packets, built and taken apart independently of lbx |
//! | [`process`] | running a command to its end |
//! | [`follower`] | what happens, as the agent tells it |
//! | [`homes`] | where the packets of each connection went |
//! | [`cleanup`], [`wait`] | nothing left behind; waiting without guessing |
//!
//! The harness never uses lbx's own packet code, so that a mistake there cannot hide itself here.

pub mod agent;
pub mod bench;
pub mod busy;
pub mod capture;
pub mod cleanup;
pub mod client;
pub mod config;
pub mod crowd;
pub mod documented;
pub mod family;
pub mod follower;
pub mod fuzz;
pub mod gateway;
pub mod homes;
pub mod http;
pub mod lab;
pub mod netns;
pub mod notify;
pub mod offload;
pub mod packets;
pub mod path_mtu;
pub mod process;
pub mod servers;
pub mod strace;
pub mod topology;
pub mod traffic;
pub mod tunnel;
pub mod unit;
pub mod wait;
pub mod world;
pub mod xdp;

/// Whether what takes long is wanted: `cargo xtask test --long`.
pub fn takes_long() -> bool {
    std::env::var_os("LBX_LONG").is_some()
}
