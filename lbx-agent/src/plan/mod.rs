//! From a validated model to what the maps should hold. Pure: no I/O, no clock, no randomness.
//!
//! Ids are not stored anywhere: the planner finds them in what it observes in the kernel, by what an entry
//! says (a network by its VNI, a tunnel by its headers, an endpoint by network, address and name), and gives
//! the lowest free id to what is new. So an agent that starts again plans exactly what is there.

mod changes;
mod endpoints;
mod hosts;
mod ids;
pub mod maglev;
mod peers;
mod planner;
mod policies;
mod ports;
mod reach;
mod regions;
mod services;
mod steering;
mod tables;
mod uses;

use std::time::Duration;

pub use changes::{FlowFacts, needs_sweeps, next_deadline_ns, waits_for_flows};
pub use endpoints::{endpoint_ids, health_of, is_released, share_of, with_health};
pub use hosts::{address_in, entry_address, known_host};
pub use peers::{known_tunnel, known_tunnel_id};
pub use planner::{Environment, NodeFacts, PlanError, plan};
pub use reach::Reach;
pub use regions::is_open as regions_change_is_open;
pub use services::{ListenerIdentity, listener_identity, listener_ids, listeners_of};
pub use steering::{Pools, Serving};
pub use tables::{Built, Known, pools_named, tables_stay, takes_new};

/// A time as the maps have it.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
