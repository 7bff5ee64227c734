//! `create` and `set`: which object, and the body of the request. Which flags `create` insists on stands at its
//! variants.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ObjectName,
    fields::{EndpointFields, Fields, MonitorFields, PoolFields, TunnelFields, VnetFields},
    service_fields::ServiceFields,
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
        after_help = "Examples:\n  lbx-ctl create monitor tcp1 --type tcp --interval 1s --timeout 500ms\n  lbx-ctl create monitor \
                      http1 --type http --path /healthz --header 'Host: www.example.org' --expected-codes 2xx"
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
    #[command(alias = "tunnels", after_help = "Example:\n  lbx-ctl set tunnel east/a --enabled false")]
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
