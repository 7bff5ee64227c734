//! The lbx agent as a library; `main.rs` is a thin binary around it.

pub mod api;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod events;
pub mod explain;
pub mod health;
mod heap;
pub mod lifecycle;
pub mod metrics;
pub mod net;
pub mod plan;
pub mod privileges;
pub mod reconcile;
pub mod regions;
pub mod service_manager;
pub mod steer;
pub mod store;
