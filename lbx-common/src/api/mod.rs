//! The objects of configuration and API. The YAML file and the HTTP/JSON API carry the same types.
//!
//! These types hold what a user wrote. Whether it makes sense as a whole (references, overlaps, limits)
//! is decided by the agent's validator, never here.

mod change;
mod codes;
mod config;
mod escaped;
mod events;
mod explain;
mod family;
mod flows;
mod health;
mod listen;
mod monitor;
mod node;
mod pool;
mod prefix;
mod problem;
mod region;
mod schema;
mod service;
mod stats;
mod status;
mod trial;
mod vnet;

pub use change::{Change, ChangeAction, FieldChange, ListedEndpoint, ListedTunnel, WriteReport};
pub use codes::{Codes, CodesError};
pub use config::{Collection, Config, ConfigDocument, NoSuchCollection, Revision};
pub use escaped::{Escaped, EscapedError};
pub use events::{
    DrainEnd, Drained, Event, EventType, FlowSample, Happening, NoSuchEventType, PoolCondition,
};
pub use explain::{ExplainReport, ExplainRequest, ExplainVerdict};
pub use family::Family;
pub use flows::{DEFAULT_FLOWS, FlowQuery, FlowState, FlowsReport, MAX_FLOWS, PinnedFlow};
pub use health::{
    Drain, EndpointHealth, HealthReport, HealthState, MonitorHealth, PoolHealth, PoolState, RegionServing,
    RemovedEndpoint, ServiceHealth, TunnelHealth,
};
pub use listen::{Listen, ListenError, Ports, Protocol};
pub use monitor::{Method, Monitor, MonitorKind};
pub use node::{AttachMode, FlowSamples, Interface, Limits, Node, Role, Timers, TunnelSource};
pub use pool::{Endpoint, EndpointSteering, GroupMonitor, Pool};
pub use prefix::{Prefix, PrefixError};
pub use problem::{Mistake, Problem};
pub use region::{Location, Region};
pub use schema::{configuration_schema, schema_settings};
pub use service::{
    AffinityKind, ConnectionTracking, Forwarding, NoEndpoint, OnEndpointDown, RandomSteering, RateLimit,
    Service, SessionAffinity, SteeringPolicy,
};
pub use stats::{DropCount, EndpointStats, FlowCount, ServiceStats, StatsReport, Traffic, TunnelStats};
pub use status::{
    ChangeState, InterfaceStatus, LinkState, MapFill, NextHopStatus, PathMtuStatus, RegionPrefixes,
    RegionsStatus, StatusReport, TableChange, TunnelStatus,
};
pub use trial::{TrialReport, TrialRequest, TrialStep};
pub use vnet::{Encap, Inner, ProbeSource, Tunnel, VirtualNetwork};
