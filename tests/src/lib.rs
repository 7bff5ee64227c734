//! Harness of the tests and of the playground: network namespaces, real servers, real clients.
//!
//! | module | owns |
//! |---|---|
//! | [`topology`] | the boxes and cables of the test network; start reading here |
//! | [`netns`] | one network namespace: entering it, running `ip`, threads and processes inside |
//! | [`offload`], [`xdp`] | devices that behave like real ones: real checksums, native XDP transmission |
//! | [`gre_gateway`] | a GRE endpoint for kernels without a gre device |
//! | [`servers`], [`client`], [`http`] | what sends and answers |
//! | [`capture`], [`traffic`] | what was on the wire; what must be true of it |
//! | [`agent`], [`config`] | lbx itself, as processes |
//! | [`lab`] | the programs alone, run on single packets |
//! | [`tunnel`] | tunnel packets, built and taken apart independently of lbx |
//! | [`process`] | running a command to its end |
//! | [`cleanup`], [`wait`] | nothing left behind; waiting without guessing |
//!
//! The harness never uses lbx's own packet code, so that a mistake there cannot hide itself here.

pub mod agent;
pub mod capture;
pub mod cleanup;
pub mod client;
pub mod config;
pub mod gre_gateway;
pub mod http;
pub mod lab;
pub mod netns;
pub mod offload;
pub mod process;
pub mod servers;
pub mod topology;
pub mod traffic;
pub mod tunnel;
pub mod wait;
pub mod xdp;
