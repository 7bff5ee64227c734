//! Flags of `create service` and `set service`.

use std::net::IpAddr;

use clap::Args;
use lbx_common::api::{Collection, Listen, Prefix};
use serde::{Serialize, Serializer};

use super::fields::{Fields, duration, weight};

/// Fields of a service.
#[derive(Debug, Args, Serialize)]
pub struct ServiceFields {
    /// The virtual IP (VIP), IPv4 or IPv6
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// What is served, as tcp/443, tcp/8000-8999 or udp/any; repeat for several; `set` replaces them all
    #[arg(long, value_name = "PROTOCOL/PORTS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<Listen>,
    /// How packets reach the endpoint
    #[arg(long, value_parser = ["nat", "dsr"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarding: Option<String>,
    /// Pool that takes the traffic; repeat for several, in order; `set` replaces them all
    #[arg(long = "pool", value_name = "NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<String>,
    /// Pool that serves while no other is up, whatever its own health
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_pool: Option<String>,
    /// How pools share the flows: of those that are up the first one takes all, or all by weight, or the one that answers
    /// probes soonest, or the first one of the client's region, or the nearest one; default failover
    #[arg(long, value_parser = ["failover", "random", "dynamic_latency", "geo", "proximity"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    steering_policy: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "RandomFields::is_empty")]
    random_steering: RandomFields,
    /// With --steering-policy geo: pools of a region's clients, in order, with `+` between them; repeat for several;
    /// `set` replaces them all
    #[arg(long = "region-pools", value_name = "REGION=POOL+POOL", value_delimiter = ',', value_parser = region_pools)]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    region_pools: Vec<(String, Vec<String>)>,
    /// Whether echo requests to the VIP are answered; default true
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_echo: Option<bool>,
    /// What happens to packets while no endpoint takes them; default drop
    #[arg(long, value_parser = ["drop", "reject"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    no_endpoint: Option<String>,
    /// Clients that may connect, as 192.0.2.0/24; default all; repeat for several; `set` replaces them all
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Prefix>,
    /// Clients that may not, also where --allow has them; repeat for several; `set` replaces them all
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<Prefix>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "RateLimitFields::is_empty")]
    rate_limit: RateLimitFields,
    /// How long a drained or removed endpoint keeps its flows, as 30s, 5m, 2h; default 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<String>,
    /// What becomes of established TCP connections when their endpoint is down: they wait for it, or are reset;
    /// default keep
    #[arg(long, value_parser = ["keep", "reset"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    on_endpoint_down: Option<String>,
    /// Which flows are remembered: those that a change would move, all, or none; default auto
    #[arg(long, value_parser = ["auto", "always", "off"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_tracking: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "AffinityFields::is_empty")]
    session_affinity: AffinityFields,
}

/// Shares of pools.
#[derive(Debug, Args, Serialize)]
struct RandomFields {
    /// With --steering-policy random: share of pools without a --pool-weight, 0 to 1 in steps of 0.01; default 1
    #[arg(long = "default-pool-weight", value_name = "0..1", value_parser = weight)]
    #[serde(skip_serializing_if = "Option::is_none")]
    default_weight: Option<f64>,
    /// With --steering-policy random: share of a pool; repeat for several
    #[arg(long = "pool-weight", value_name = "NAME=0..1", value_delimiter = ',', value_parser = pool_weight)]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pool_weights: Vec<(String, f64)>,
}

impl RandomFields {
    const fn is_empty(&self) -> bool {
        self.default_weight.is_none() && self.pool_weights.is_empty()
    }
}

fn pool_weight(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.split_once('=').ok_or("write it as NAME=WEIGHT, as web=0.5")?;
    Ok((name.to_owned(), weight(share)?))
}

fn region_pools(text: &str) -> Result<(String, Vec<String>), String> {
    let (region, pools) = text.split_once('=').ok_or("write it as REGION=POOL, as eu=web-eu+web-us")?;
    Ok((region.to_owned(), pools.split('+').map(str::to_owned).collect()))
}

fn as_map<T: Serialize, S: Serializer>(fields: &[(String, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

/// What keeps flows of one client together.
#[derive(Debug, Args, Serialize)]
struct AffinityFields {
    /// Keeps flows of one client together; default: each goes its own way
    #[arg(long = "affinity", value_parser = ["source_ip"])]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// With --affinity: leading bits of an IPv4 source that count, 1 to 32; default 32
    #[arg(long = "affinity-ipv4", value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_ipv4: Option<u8>,
    /// With --affinity: leading bits of an IPv6 source that count, 1 to 128; default 64
    #[arg(long = "affinity-ipv6", value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_ipv6: Option<u8>,
    /// With --affinity: for how long after its last flow a client keeps its endpoint when the pool changes, as 30m, 1h;
    /// default: not at all
    #[arg(long = "affinity-ttl", value_name = "TIME", value_parser = duration)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

impl AffinityFields {
    fn is_empty(&self) -> bool {
        let Self { kind, prefix_ipv4, prefix_ipv6, ttl } = self;
        kind.is_none() && prefix_ipv4.is_none() && prefix_ipv6.is_none() && ttl.is_none()
    }
}

/// How many flows may begin.
#[derive(Debug, Args, Serialize)]
struct RateLimitFields {
    /// Flows that may begin each second; 0 = any number, the default
    #[arg(long = "rate-limit", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    new_flows_per_second: Option<u32>,
    /// The same from one source address
    #[arg(long = "rate-limit-per-source", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    per_source: Option<u32>,
}

impl RateLimitFields {
    fn is_empty(&self) -> bool {
        self.new_flows_per_second.is_none() && self.per_source.is_none()
    }
}

impl Fields for ServiceFields {
    const COLLECTION: Collection = Collection::Services;
}
