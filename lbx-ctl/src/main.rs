//! The command line of lbx.

fn main() {}
