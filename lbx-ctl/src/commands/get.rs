//! `get`: configured objects, as a list or one by name.

use lbx_common::api::{
    Collection, Endpoint, Family, ListedEndpoint, ListedTunnel, Monitor, Pool, Service, Tunnel,
    VirtualNetwork,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Context;
use crate::{
    args::ObjectName,
    error::CliError,
    output::{Table, cell, duration, maybe},
};

/// Lists a collection, or shows one object.
pub async fn run(context: &Context, collection: Collection, name: Option<&str>) -> Result<(), CliError> {
    let found: Value = match (name, collection.parent()) {
        (None, _) => context.client.get(&[collection.as_str()]).await?,
        // `get endpoints web`: those of one pool.
        (Some(parent), Some(outer)) if !parent.contains('/') => {
            ObjectName::parse(outer, parent)?;
            context.client.get(&[outer.as_str(), parent, collection.as_str()]).await?
        }
        (Some(name), _) => context.client.get(&ObjectName::parse(collection, name)?.path()).await?,
    };
    let parent = name.map(|name| name.split_once('/').map_or(name, |(parent, _)| parent));
    // Decoded even where JSON is wanted: an answer that is not understood should not pass silently.
    let table = table(collection, parent.unwrap_or_default(), found.clone())
        .map_err(|error| context.client.not_understood(&error))?;
    context.show(&found, |_| match (table.is_empty(), name) {
        (false, _) => table.render(context.width),
        (true, None) => format!("no {} configured\n", collection.as_str().replace('_', " ")),
        (true, Some(parent)) => format!("no {} in `{parent}`\n", collection.as_str().replace('_', " ")),
    })
}

/// The objects as a table. Those of one parent come without its name, which is `parent`.
fn table(collection: Collection, parent: &str, found: Value) -> Result<Table, serde_json::Error> {
    Ok(match collection {
        Collection::VirtualNetworks => vnets(&many(found)?),
        Collection::Monitors => monitors(&many(found)?),
        Collection::Pools => pools(&many(found)?),
        Collection::Services => services(&many(found)?),
        Collection::Tunnels => tunnels(&with_parent(found, "virtual_network", parent)?),
        Collection::Endpoints => endpoints(&with_parent(found, "pool", parent)?),
    })
}

fn many<T: DeserializeOwned>(found: Value) -> Result<Vec<T>, serde_json::Error> {
    if found.is_array() { serde_json::from_value(found) } else { Ok(vec![serde_json::from_value(found)?]) }
}

fn with_parent<T: DeserializeOwned>(
    found: Value,
    field: &str,
    parent: &str,
) -> Result<Vec<T>, serde_json::Error> {
    let mut objects: Vec<Value> = many(found)?;
    for object in objects.iter_mut().filter_map(Value::as_object_mut) {
        object.entry(field).or_insert_with(|| Value::String(parent.to_owned()));
    }
    serde_json::from_value(Value::Array(objects))
}

fn vnets(vnets: &[VirtualNetwork]) -> Table {
    let mut table = Table::new(["NAME", "VNI", "PROBE SOURCE", "TUNNELS"]);
    for vnet in vnets {
        let tunnels: Vec<_> = vnet.tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
        table.row([cell(&vnet.name), cell(vnet.vni), cell(probe_sources(vnet)), cell(tunnels.join(", "))]);
    }
    table
}

/// The probe sources of a network in one cell.
pub fn probe_sources(vnet: &VirtualNetwork) -> String {
    let sources = Family::ALL.into_iter().filter_map(|family| vnet.probe_source.of(family));
    sources.map(|source| source.to_string()).collect::<Vec<_>>().join(", ")
}

fn tunnels(tunnels: &[ListedTunnel]) -> Table {
    let mut table = Table::new(["NAME", "ENCAP", "INNER", "REMOTE", "PORT", "MTU", "ENABLED", "MONITOR"]);
    for ListedTunnel { virtual_network, tunnel } in tunnels {
        let Tunnel { name, encap, remote, port, mtu, enabled, monitor, .. } = tunnel;
        table.row([
            format!("{virtual_network}/{name}"),
            cell(encap.as_str()),
            cell(tunnel.inner().as_str()),
            cell(remote),
            maybe(port.or(encap.default_port())),
            mtu.map_or_else(|| "of route".to_owned(), cell),
            cell(enabled),
            maybe(monitor.as_ref()),
        ]);
    }
    table
}

fn monitors(monitors: &[Monitor]) -> Table {
    let mut table =
        Table::new(["NAME", "TYPE", "INTERVAL", "TIMEOUT", "RETRIES", "UP", "DOWN", "DETECTS IN"]);
    for monitor in monitors {
        table.row([
            cell(&monitor.name),
            cell(monitor.kind.as_str()),
            duration(monitor.interval),
            duration(monitor.timeout),
            cell(monitor.retries),
            cell(monitor.consecutive_up),
            cell(monitor.consecutive_down),
            duration(monitor.worst_case_detection()),
        ]);
    }
    table
}

fn pools(pools: &[Pool]) -> Table {
    let mut table = Table::new(["NAME", "MONITOR", "ENDPOINTS", "TABLE SIZE"]);
    for pool in pools {
        table.row([
            cell(&pool.name),
            cell(pool.monitors().collect::<Vec<_>>().join(", ")),
            cell(pool.endpoints.len()),
            pool.table_size.map_or_else(|| "auto".to_owned(), cell),
        ]);
    }
    table
}

fn endpoints(endpoints: &[ListedEndpoint]) -> Table {
    let mut table = Table::new(["NAME", "VNET", "ADDRESS", "PORT", "WEIGHT", "ENABLED", "TUNNELS"]);
    for ListedEndpoint { pool, endpoint } in endpoints {
        let Endpoint { name, virtual_network, address, port, weight, enabled, .. } = endpoint;
        table.row([
            format!("{pool}/{name}"),
            cell(virtual_network),
            cell(address),
            port.map_or_else(|| "kept".to_owned(), cell),
            cell(weight),
            if endpoint.drained { "drained".to_owned() } else { cell(enabled) },
            endpoint_tunnels(endpoint),
        ]);
    }
    table
}

/// The tunnels of an endpoint in one cell.
pub fn endpoint_tunnels(endpoint: &Endpoint) -> String {
    if endpoint.tunnels.is_empty() { "all".to_owned() } else { endpoint.tunnels.join(", ") }
}

fn services(services: &[Service]) -> Table {
    let mut table = Table::new(["NAME", "ADDRESS", "LISTEN", "FORWARDING", "POOLS"]);
    for service in services {
        table.row([
            cell(&service.name),
            cell(service.address),
            cell(listen(service)),
            cell(service.forwarding.as_str()),
            cell(service.pools.join(", ")),
        ]);
    }
    table
}

/// Names of all pools that a service may send to, each once.
pub fn pools_of(service: &Service) -> Vec<&String> {
    let mut pools: Vec<&String> = Vec::new();
    let of_regions = service.region_pools.values().flatten();
    for pool in service.pools.iter().chain(&service.fallback_pool).chain(of_regions) {
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    }
    pools
}

/// The listeners of a service in one cell.
pub fn listen(service: &Service) -> String {
    service.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::samples;

    fn rendered(collection: Collection, parent: &str, found: Value) -> String {
        table(collection, parent, found).unwrap().render(None)
    }

    #[test]
    fn lists_show_the_fields_that_matter() {
        let config = samples::config();
        assert_eq!(
            rendered(Collection::VirtualNetworks, "", json!(config.virtual_networks)),
            "NAME  VNI  PROBE SOURCE              TUNNELS\n\
             east   42  10.255.42.1               a\n\
             west   43  10.255.43.1, fd00:255::1  b\n\
             bare   44  -                         -\n"
        );
        assert_eq!(
            rendered(Collection::Monitors, "", json!(config.monitors)),
            "NAME  TYPE  INTERVAL  TIMEOUT  RETRIES  UP  DOWN  DETECTS IN\n\
             tcp1  tcp   1s        500ms          1   1     2  3s\n"
        );
        assert_eq!(
            rendered(Collection::Pools, "", json!(config.pools)),
            "NAME    MONITOR  ENDPOINTS  TABLE SIZE\n\
             web     tcp1             2  auto\n\
             web6    -                1  auto\n\
             direct  -                1  auto\n"
        );
        assert_eq!(
            rendered(Collection::Services, "", json!(config.services)),
            "NAME    ADDRESS         LISTEN              FORWARDING  POOLS\n\
             web     203.0.113.80    tcp/80, udp/53      nat         web\n\
             web6    2001:db8:80::1  tcp/80              nat         web6\n\
             direct  2001:db8:80::2  tcp/80-89, udp/any  dsr         direct\n"
        );
    }

    #[test]
    fn contained_objects_are_named_with_their_parent_however_they_were_asked_for() {
        let config = samples::config();
        assert_eq!(
            rendered(Collection::Endpoints, "web", json!(config.pools[0].endpoints)),
            "NAME   VNET  ADDRESS    PORT  WEIGHT  ENABLED  TUNNELS\n\
             web/a  east  10.0.0.10  80       0.5  true     all\n\
             web/b  east  10.0.0.11  kept       1  false    all\n"
        );
        let named = rendered(Collection::Endpoints, "direct", json!(config.pools[2].endpoints));
        assert!(named.contains("direct/a  west  fd00::2  kept       1  true     b"), "{named}");
        let all = json!([{"pool": "web", "name": "a", "virtual_network": "east", "address": "10.0.0.10"}]);
        assert!(rendered(Collection::Endpoints, "", all).contains("web/a"));
        assert_eq!(
            rendered(Collection::Tunnels, "east", json!(config.virtual_networks[0].tunnels[0])),
            "NAME    ENCAP  INNER  REMOTE        PORT  MTU       ENABLED  MONITOR\n\
             east/a  gre    ip     198.51.100.7  -     of route  true     -\n"
        );
        assert_eq!(
            rendered(Collection::Tunnels, "west", json!(config.virtual_networks[1].tunnels[0])),
            "NAME    ENCAP   INNER  REMOTE       PORT  MTU       ENABLED  MONITOR\n\
             west/b  geneve  ip     2001:db8::7  6081  of route  true     tcp1\n"
        );
    }
}
