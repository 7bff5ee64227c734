//! Flags of `create` and `set`, one struct a kind; each serializes to the JSON that the API takes. Which flags
//! `create` insists on stands at its variants.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand, ValueEnum};
use lbx_common::api::{Collection, Listen};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    ObjectName,
    unset::{EndpointOptional, MonitorOptional, PoolOptional, ServiceOptional, TunnelOptional, VnetOptional},
};
use crate::error::CliError;

/// `create KIND`
#[derive(Debug, Subcommand)]
pub enum Create {
    /// A virtual network
    #[command(alias = "vnets", mut_arg("vni", |arg| arg.required(true)))]
    #[command(after_help = "Example:\n  lbx-ctl create vnet east --vni 42 --probe-source 10.255.42.1")]
    Vnet(Named<VnetFields>),
    /// A tunnel to a virtual network
    #[command(alias = "tunnels", mut_arg("encap", |arg| arg.required(true)))]
    #[command(mut_arg("remote", |arg| arg.required(true)))]
    #[command(after_help = "Example:\n  lbx-ctl create tunnel east/a --encap gre --remote 198.51.100.7")]
    Tunnel(Named<TunnelFields>),
    /// A health check definition
    #[command(alias = "monitors")]
    #[command(
        after_help = "Example:\n  lbx-ctl create monitor tcp1 --type tcp --interval 1s --timeout 500ms"
    )]
    Monitor(Named<MonitorFields>),
    /// A pool, at first without endpoints
    #[command(alias = "pools")]
    #[command(after_help = "Example:\n  lbx-ctl create pool web --monitor tcp1")]
    Pool(Named<PoolFields>),
    /// An endpoint of a pool
    #[command(alias = "endpoints", mut_arg("virtual_network", |arg| arg.required(true)))]
    #[command(mut_arg("address", |arg| arg.required(true)))]
    #[command(
        after_help = "Example:\n  lbx-ctl create endpoint web/a --vnet east --address 10.0.0.10 --port 80"
    )]
    Endpoint(Named<EndpointFields>),
    /// A service
    #[command(alias = "services", mut_arg("address", |arg| arg.required(true)))]
    #[command(mut_arg("listen", |arg| arg.required(true)), mut_arg("pools", |arg| arg.required(true)))]
    #[command(
        after_help = "Example:\n  lbx-ctl create service web --address 203.0.113.80 --listen tcp/80 --pool web"
    )]
    Service(Named<ServiceFields>),
}

/// `set KIND`
#[derive(Debug, Subcommand)]
pub enum Set {
    /// A virtual network
    #[command(alias = "vnets", after_help = "Example:\n  lbx-ctl set vnet east --probe-source 10.255.42.9")]
    Vnet(Changed<VnetFields, VnetOptional>),
    /// A tunnel to a virtual network
    #[command(alias = "tunnels", after_help = "Example:\n  lbx-ctl set tunnel east/a --remote 198.51.100.8")]
    Tunnel(Changed<TunnelFields, TunnelOptional>),
    /// A health check definition
    #[command(alias = "monitors", after_help = "Example:\n  lbx-ctl set monitor tcp1 --interval 2s")]
    Monitor(Changed<MonitorFields, MonitorOptional>),
    /// A pool
    #[command(alias = "pools", after_help = "Example:\n  lbx-ctl set pool web --unset monitor")]
    Pool(Changed<PoolFields, PoolOptional>),
    /// An endpoint of a pool
    #[command(alias = "endpoints", after_help = "Example:\n  lbx-ctl set endpoint web/a --weight 0.3")]
    Endpoint(Changed<EndpointFields, EndpointOptional>),
    /// A service
    #[command(
        alias = "services",
        after_help = "Example:\n  lbx-ctl set service web --listen tcp/80 --listen tcp/443"
    )]
    Service(Changed<ServiceFields, ServiceOptional>),
}

impl Create {
    /// Which object, and the body of the request.
    pub fn request(&self) -> Result<(ObjectName, Value), CliError> {
        match self {
            Self::Vnet(named) => named.request(),
            Self::Tunnel(named) => named.request(),
            Self::Monitor(named) => named.request(),
            Self::Pool(named) => named.request(),
            Self::Endpoint(named) => named.request(),
            Self::Service(named) => named.request(),
        }
    }
}

impl Set {
    /// Which object, and the merge patch.
    pub fn request(&self) -> Result<(ObjectName, Value), CliError> {
        match self {
            Self::Vnet(changed) => changed.request(),
            Self::Tunnel(changed) => changed.request(),
            Self::Monitor(changed) => changed.request(),
            Self::Pool(changed) => changed.request(),
            Self::Endpoint(changed) => changed.request(),
            Self::Service(changed) => changed.request(),
        }
    }
}

/// Flags that are fields of a kind of object.
pub trait Fields: Args + Serialize {
    /// The kind.
    const COLLECTION: Collection;
}

/// A name and flags.
#[derive(Debug, Args)]
pub struct Named<F: Args> {
    /// Its name; tunnels are VNET/NAME, endpoints POOL/NAME
    name: String,
    #[command(flatten)]
    fields: F,
}

impl<F: Fields> Named<F> {
    fn request(&self) -> Result<(ObjectName, Value), CliError> {
        let object = ObjectName::parse(F::COLLECTION, &self.name)?;
        let mut body = Map::new();
        body.insert("name".to_owned(), Value::String(object.name.clone()));
        body.extend(to_map(&self.fields)?);
        Ok((object, Value::Object(body)))
    }
}

/// A name, flags, and fields to take away.
#[derive(Debug, Args)]
pub struct Changed<F: Args, U: ValueEnum + Send + Sync + 'static> {
    #[command(flatten)]
    named: Named<F>,
    /// Take this field away: back to its default
    #[arg(long, value_enum, value_name = "FIELD", value_delimiter = ',')]
    unset: Vec<U>,
}

impl<F: Fields, U: ValueEnum + Send + Sync + 'static> Changed<F, U> {
    fn request(&self) -> Result<(ObjectName, Value), CliError> {
        let object = ObjectName::parse(F::COLLECTION, &self.named.name)?;
        let mut patch = to_map(&self.named.fields)?;
        for field in &self.unset {
            let Some(flag) = field.to_possible_value() else { continue };
            let field = flag.get_name().replace('-', "_");
            if patch.insert(field, Value::Null).is_some() {
                return Err(CliError::Usage(format!(
                    "--{0} and --unset {0} contradict each other",
                    flag.get_name()
                )));
            }
        }
        if patch.is_empty() {
            return Err(CliError::Usage(format!(
                "nothing to set: name a field, as with --help; `lbx-ctl describe` shows what {} `{}` has now",
                F::COLLECTION.singular(),
                object.full()
            )));
        }
        Ok((object, Value::Object(patch)))
    }
}

fn to_map<T: Serialize>(fields: &T) -> Result<Map<String, Value>, CliError> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(CliError::Usage(format!("not a set of fields: {other}"))),
        Err(error) => Err(CliError::Usage(error.to_string())),
    }
}

/// Fields of a virtual network.
#[derive(Debug, Args, Serialize)]
pub struct VnetFields {
    /// Key on the wire: 1 to 4294967295 with gre, to 16777215 with vxlan
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    vni: Option<u32>,
    /// Inner source address of health checks; the far end must route it back into the tunnel
    #[arg(long, value_name = "IPV4")]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_ipv4")]
    probe_source: Option<Ipv4Addr>,
}

impl Fields for VnetFields {
    const COLLECTION: Collection = Collection::VirtualNetworks;
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn as_ipv4<S: Serializer>(address: &Option<Ipv4Addr>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([("ipv4", address)])
}

/// Fields of a tunnel.
#[derive(Debug, Args, Serialize)]
pub struct TunnelFields {
    /// How packets are wrapped
    #[arg(long, value_parser = ["gre", "vxlan"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    encap: Option<String>,
    /// Outer address of the gateway
    #[arg(long, value_name = "IPV4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Ipv4Addr>,
    /// UDP destination port of vxlan; default 4789
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Largest outer IP packet in bytes; default: that of the route to the gateway
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    /// Inner destination MAC of vxlan: the gateway's
    #[arg(long, value_name = "MAC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_mac: Option<String>,
}

impl Fields for TunnelFields {
    const COLLECTION: Collection = Collection::Tunnels;
}

/// Fields of a monitor.
#[derive(Debug, Args, Serialize)]
pub struct MonitorFields {
    /// What a probe does
    #[arg(long = "type", value_parser = ["tcp"])]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
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
}

impl Fields for MonitorFields {
    const COLLECTION: Collection = Collection::Monitors;
}

/// Fields of a pool.
#[derive(Debug, Args, Serialize)]
pub struct PoolFields {
    /// Monitor that checks the endpoints; without one they count as healthy
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<String>,
    /// Slots of the lookup table, a prime that the agent knows; default: by the number of endpoints
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    table_size: Option<u32>,
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
    /// Private address there
    #[arg(long, value_name = "IPV4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Addr>,
    /// Port; without one the client's destination port is kept
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
}

impl Fields for EndpointFields {
    const COLLECTION: Collection = Collection::Endpoints;
}

/// Fields of a service.
#[derive(Debug, Args, Serialize)]
pub struct ServiceFields {
    /// The virtual IP (VIP)
    #[arg(long, value_name = "IPV4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Addr>,
    /// What is served, as tcp/443; repeat for several; `set` replaces them all
    #[arg(long, value_name = "PROTOCOL/PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<Listen>,
    /// How packets reach the endpoint
    #[arg(long, value_parser = ["nat"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarding: Option<String>,
    /// Pool that takes the traffic
    #[arg(long = "pool", value_name = "NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<String>,
}

impl Fields for ServiceFields {
    const COLLECTION: Collection = Collection::Services;
}

fn duration(text: &str) -> Result<String, String> {
    match humantime::parse_duration(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}: write a time as 500ms, 5s or 2m")),
    }
}

fn weight(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => Ok(weight),
        Ok(_) | Err(_) => Err("write a number from 0 to 1 in steps of 0.01".to_owned()),
    }
}
