//! Fields that `set --unset` can take away, one enum a kind: a value's name is the field's, with `-` for `_`; its
//! help is what holds without the field.

use clap::ValueEnum;

/// Fields of a virtual network that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum VnetOptional {
    /// No health checks there
    ProbeSource,
}

/// Fields of a tunnel that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TunnelOptional {
    /// 4789
    Port,
    /// That of the route
    Mtu,
    /// The default of lbx
    InnerMac,
}

/// Fields of a monitor that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MonitorOptional {
    /// 5s
    Interval,
    /// 1s
    Timeout,
    /// 0
    Retries,
    /// 1
    ConsecutiveUp,
    /// 1
    ConsecutiveDown,
}

/// Fields of a pool that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PoolOptional {
    /// Endpoints count as healthy
    Monitor,
    /// By the number of endpoints
    TableSize,
}

/// Fields of an endpoint that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EndpointOptional {
    /// The client's destination port is kept
    Port,
    /// 1
    Weight,
    /// true
    Enabled,
}

/// Fields of a service that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ServiceOptional {
    /// nat
    Forwarding,
}
