//! Flags of `create` and `set`, one struct a kind; each serializes to the JSON that the API takes.

use std::{collections::BTreeMap, net::IpAddr};

use clap::Args;
use lbx_common::api::{Codes, Collection, Escaped, Family, GroupMonitor};
use serde::{Serialize, Serializer, ser::Error as _};

/// Flags that are fields of a kind of object.
pub trait Fields: Args + Serialize {
    /// The kind.
    const COLLECTION: Collection;
}

/// Fields of a virtual network.
#[derive(Debug, Args, Serialize)]
pub struct VnetFields {
    /// Key on the wire: 1 to 4294967295 with gre and gre-udp, to 16777215 with vxlan and geneve
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    vni: Option<u32>,
    /// Inner source address of health checks, IPv4 or IPv6; repeat for both. The far end must route it back into
    /// the tunnel
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_family")]
    probe_source: Vec<IpAddr>,
}

impl Fields for VnetFields {
    const COLLECTION: Collection = Collection::VirtualNetworks;
}

/// One address of each family at most, each under the name of its family.
fn by_family<S: Serializer>(addresses: &[IpAddr], serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = BTreeMap::new();
    for &address in addresses {
        let family = Family::of(address);
        if let Some(other) = fields.insert(family.field(), address) {
            return Err(S::Error::custom(format!(
                "--probe-source {other} and {address} are both {family}: give one of each family"
            )));
        }
    }
    serializer.collect_map(fields)
}

/// Fields of a tunnel.
#[derive(Debug, Args, Serialize)]
pub struct TunnelFields {
    /// How packets are wrapped
    #[arg(long, value_parser = ["gre", "gre-udp", "vxlan", "geneve"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    encap: Option<String>,
    /// What geneve carries; default ip
    #[arg(long, value_parser = ["ip", "ethernet"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    inner: Option<String>,
    /// Outer address of the gateway, IPv4 or IPv6
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<IpAddr>,
    /// UDP destination port; default 4754 (gre-udp), 4789 (vxlan), 6081 (geneve)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Largest outer IP packet in bytes; default: that of the route to the gateway
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    /// Inner destination MAC, the gateway's, where the tunnel carries Ethernet
    #[arg(long, value_name = "MAC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_mac: Option<String>,
    /// false = no flows and no probes; default true
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// Monitor that checks the tunnel; without one it counts as healthy
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
    /// What the monitor checks: the gateway's address inside
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_address: Option<IpAddr>,
    /// Port there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_port: Option<u16>,
}

impl Fields for TunnelFields {
    const COLLECTION: Collection = Collection::Tunnels;
}

/// Fields of a monitor.
#[derive(Debug, Args, Serialize)]
pub struct MonitorFields {
    /// What a probe does; default tcp
    #[arg(long = "type", value_parser = ["tcp", "http", "https", "icmp_ping", "udp_icmp", "udp", "smtp"])]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Port that is probed; default: the endpoint's, else the usual one of http, https and smtp
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Time between two probes, as 500ms, 5s, 2m; default 5s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    /// Time after which one attempt has failed; default 1s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    /// Further attempts, at once, before a probe counts as failed; default 0
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u8>,
    /// Successful probes in a row that make an endpoint healthy; default 1
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_up: Option<u8>,
    /// Failed probes in a row that make an endpoint unhealthy; default 1
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_down: Option<u8>,
    /// HTTP: method of the request; default GET
    #[arg(long, value_parser = ["GET", "HEAD", "OPTIONS"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// HTTP: path of the request; default /
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// HTTP: header of the request; repeat for several; `set` replaces them all. Host is also the name that a
    /// certificate must have
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_name")]
    header: Vec<(String, String)>,
    /// HTTP: codes of the response that are right, as 200, 2xx or 200-299,304; default 200
    #[arg(long, value_name = "CODES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_codes: Option<Codes>,
    /// HTTP: what must occur in the response's body, in small or capital letters; default: anything
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_body: Option<String>,
    /// HTTP: whether a redirect is followed, at the same endpoint; default false
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    follow_redirects: Option<bool>,
    /// HTTPS: whether any certificate is right; default false
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_insecure: Option<bool>,
    /// UDP: the datagram, in which \xNN is any byte; default: an empty one
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Escaped>,
    /// UDP: what must occur in the answer, written likewise; default: anything
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Escaped>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `NAME: VALUE`")?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// All values of each name.
fn by_name<S: Serializer>(header: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in header {
        fields.entry(name).or_default().push(value);
    }
    serializer.collect_map(fields)
}

impl Fields for MonitorFields {
    const COLLECTION: Collection = Collection::Monitors;
}

/// Where something is.
#[derive(Debug, Args, Serialize)]
struct LocationFields {
    /// Where it is, for services with --steering-policy proximity: degrees north, -90 to 90
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    /// The same: degrees east, -180 to 180
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
}

impl LocationFields {
    const fn is_empty(&self) -> bool {
        self.latitude.is_none() && self.longitude.is_none()
    }
}

/// Fields of a pool.
#[derive(Debug, Args, Serialize)]
pub struct PoolFields {
    /// Monitor that checks the endpoints; without one they count as healthy
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
    /// One of several monitors, as `a`, `a=must_be_healthy` or `a=monitoring_only`; repeat for each. More than half of them
    /// take an endpoint down, or one that must be healthy
    #[arg(long, value_name = "NAME", value_parser = group_monitor, value_delimiter = ',', conflicts_with = "monitor")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    monitor_group: Vec<GroupMonitor>,
    /// The pool is up while so many of its endpoints take new flows; default 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_endpoints: Option<u32>,
    /// Percent of its new flows that go to the next pool of their service that is up; default 0
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    load_shedding: Option<u8>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "LocationFields::is_empty")]
    location: LocationFields,
    /// Percent of the endpoints that may be unhealthy; where more are, all take flows; default 0: any share may be
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    panic_threshold: Option<u8>,
    /// How flows find an endpoint: each for itself, all of a client together, or so that all have as many; default random
    #[arg(long, value_parser = ["random", "hash", "least_connections"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_steering: Option<String>,
    /// Slots of the lookup table, a prime that the agent knows; default: by the number of endpoints
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    table_size: Option<u32>,
}

fn group_monitor(text: &str) -> Result<GroupMonitor, String> {
    let (name, voice) = text.split_once('=').map_or((text, None), |(name, voice)| (name, Some(voice)));
    let (must_be_healthy, monitoring_only) = match voice {
        None => (false, false),
        Some("must_be_healthy") => (true, false),
        Some("monitoring_only") => (false, true),
        Some(_) => return Err("write NAME, NAME=must_be_healthy or NAME=monitoring_only".to_owned()),
    };
    Ok(GroupMonitor { monitor: name.to_owned(), must_be_healthy, monitoring_only })
}

impl Fields for PoolFields {
    const COLLECTION: Collection = Collection::Pools;
}

/// Fields of an endpoint.
#[derive(Debug, Args, Serialize)]
pub struct EndpointFields {
    /// Virtual network it lives in
    #[arg(long = "vnet", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_network: Option<String>,
    /// Private address there, of the family of the services' addresses
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// Port, for a range the first of as many; without one the client's destination port is kept
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Share of new flows, 0 to 1 in steps of 0.01; 0 = no new ones; default 1
    #[arg(long, value_name = "0..1", value_parser = weight)]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    /// false = no traffic and no probes; default true
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// Tunnel of the network that leads there; repeat for several, default all; `set` replaces them all
    #[arg(long = "tunnel", value_name = "NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tunnels: Vec<String>,
}

impl Fields for EndpointFields {
    const COLLECTION: Collection = Collection::Endpoints;
}

pub(super) fn duration(text: &str) -> Result<String, String> {
    match humantime::parse_duration(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}: write a time as 500ms, 5s or 2m")),
    }
}

pub(super) fn weight(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => Ok(weight),
        Ok(_) | Err(_) => Err("write a number from 0 to 1 in steps of 0.01".to_owned()),
    }
}
