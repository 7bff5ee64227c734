//! From a validated model to what the maps should hold. Pure: no I/O, no clock, no randomness.
//!
//! Ids are not stored anywhere: the planner finds them in what it observes in the kernel, by what an entry
//! says (a network by its VNI, a tunnel by its headers, an endpoint by network, address and name), and gives
//! the lowest free id to what is new. So an agent that starts again plans exactly what is there.

mod ids;
pub mod maglev;
mod peers;
mod planner;
mod services;

pub use planner::{Environment, NodeFacts, PlanError, UP, endpoint_ids, plan};

#[cfg(test)]
mod tests;
