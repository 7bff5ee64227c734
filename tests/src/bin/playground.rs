//! The playground behind `cargo xtask run`.

fn main() {}
