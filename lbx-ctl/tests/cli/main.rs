//! The binary against a fake agent on a Unix socket: what it asks, prints and exits with.

// `cfg(test)` tells clippy that the helpers, too, are tests.
#[cfg(test)]
mod common;

mod commands;
mod events;
mod failures;
