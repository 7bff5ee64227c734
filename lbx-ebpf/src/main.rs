//! Entry points of the kernel programs.

#[cfg(not(target_arch = "bpf"))]
fn main() {}
