//! Steering by what is measured: `endpoint_steering: least_connections` and `steering_policy: dynamic_latency`.
//!
//! Pure: no clock, no map, no task. What is decided here goes into lookup tables by a plan like any other; a packet pays
//! nothing for it.

pub mod connections;
pub mod latency;

use std::collections::BTreeMap;

/// What was decided by measuring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steered {
    /// Shares that endpoints are to have, by (pool, endpoint), see [`connections::shares`]. What is not named keeps what
    /// its entry says: a decision that was applied need not be remembered.
    pub shares: BTreeMap<(String, String), u8>,
    /// The order of a service's pools, by the names of both; one that is not named has that of the configuration.
    pub orders: BTreeMap<String, Vec<String>>,
}
