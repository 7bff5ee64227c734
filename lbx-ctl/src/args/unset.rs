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
    /// ip
    Inner,
    /// That of the encapsulation
    Port,
    /// That of the route
    Mtu,
    /// The default of lbx
    InnerMac,
    /// true
    Enabled,
    /// The tunnel counts as healthy
    Monitor,
    /// Nothing is probed
    ProbeAddress,
    /// Nothing is probed
    ProbePort,
}

/// Fields of a monitor that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MonitorOptional {
    /// That of the endpoint
    Port,
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
    /// GET
    Method,
    /// /
    Path,
    /// None but those that lbx sends itself
    Header,
    /// 200
    ExpectedCodes,
    /// Any body
    ExpectedBody,
    /// false
    FollowRedirects,
    /// false
    AllowInsecure,
    /// Empty
    Payload,
    /// Any answer
    Expect,
}

/// Fields of a pool that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PoolOptional {
    /// Endpoints count as healthy
    Monitor,
    /// Likewise
    MonitorGroup,
    /// 1
    MinimumEndpoints,
    /// 0
    LoadShedding,
    /// 0
    PanicThreshold,
    /// random
    EndpointSteering,
    /// Nobody knows how far it is
    Location,
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
    /// All tunnels of the network
    Tunnels,
}

/// Fields of a service that need not be set.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ServiceOptional {
    /// While no pool is up, flows go to what is left of them
    FallbackPool,
    /// failover
    SteeringPolicy,
    /// All pools alike
    RandomSteering,
    /// The same pools for all clients
    RegionPools,
    /// nat
    Forwarding,
    /// true
    IcmpEcho,
    /// drop
    NoEndpoint,
    /// All clients
    Allow,
    /// No client
    Deny,
    /// Any number of flows
    RateLimit,
    /// 5m
    Drain,
    /// keep
    OnEndpointDown,
    /// auto
    ConnectionTracking,
    /// Each flow goes its own way
    SessionAffinity,
}
