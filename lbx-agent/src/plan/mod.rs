//! From a validated model to what the maps should hold. Pure: no I/O, no clock, no randomness.
//!
//! Ids are not stored anywhere: the planner finds them in what it observes in the kernel, by what an entry
//! says (a network by its VNI, a tunnel by its headers, an endpoint by network, address and name), and gives
//! the lowest free id to what is new. So an agent that starts again plans exactly what is there.

mod hosts;
mod ids;
pub mod maglev;
mod peers;
mod planner;
mod policies;
mod ports;
mod services;

pub use hosts::known_host;
pub use peers::known_tunnel;
pub use planner::{Environment, NodeFacts, PlanError, UP, endpoint_ids, plan};
pub use services::{ListenerIdentity, listener_identity, listener_ids};

#[cfg(test)]
mod tests;
