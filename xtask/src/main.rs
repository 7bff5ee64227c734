//! `cargo xtask`: set-up, build, run, test and checks.

fn main() {}
