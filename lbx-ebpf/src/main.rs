//! Entry points of the kernel programs.
//!
//! Each program in `programs` wraps its context, runs the pipeline of `lbx-common` over it, and turns the
//! verdict into an action code; no other file names one. On the host the crate is an empty program, so that
//! the workspace builds and is checked without any BPF tool.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", warn(clippy::arithmetic_side_effects))]

#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod fib;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod prefixes;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod runtime;
#[cfg(target_arch = "bpf")]
mod sockets;
#[cfg(target_arch = "bpf")]
mod tables;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
