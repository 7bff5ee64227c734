//! Rules for `limits`, and whether everything fits into them.

use std::collections::HashMap;

use lbx_common::api::{Config, Forwarding, Limits, Service};

use super::{Report, pool::table_size, steering};

/// Largest values: numbers of endpoints, tunnels and networks are 16 bits wide in the kernel's maps.
const MAX_IDS: u32 = 65_535;
const MAX_LISTENERS: u32 = 1_048_576;
const MAX_TABLE_SLOTS: u32 = 16_777_216;
const MAX_PREFIXES: u32 = 1_048_576;
const MAX_FRAGMENTS: u32 = 1_048_576;
const MAX_PINS: u32 = 4_194_304;
const MAX_AFFINITIES: u32 = 4_194_304;

pub(super) fn check(config: &Config, report: &mut Report) {
    let Limits {
        listeners,
        endpoints,
        tunnels,
        virtual_networks,
        table_slots,
        prefixes,
        fragments,
        pins,
        affinities,
    } = config.limits;
    let listeners_of = |service: &Service| {
        (service.listen.len() as u64).saturating_mul(1 + steering::tables_by_region(config, service))
    };
    let listener_count = config.services.iter().map(listeners_of).sum();
    let endpoint_count = config.pools.iter().map(|pool| pool.endpoints.len() as u64).sum();
    let tunnel_count = config.virtual_networks.iter().map(|network| network.tunnels.len() as u64).sum();
    let network_count = config.virtual_networks.len() as u64;
    let prefix_count =
        config.services.iter().map(|service| (service.allow.len() + service.deny.len()) as u64).sum();
    let of_pools = config.pools.iter().map(|pool| u64::from(table_size(pool)));
    let slot_count = of_pools.chain(steering::mixed_tables(config)).sum();
    for (name, limit, max, used, what) in [
        (
            "listeners",
            listeners,
            MAX_LISTENERS,
            listener_count,
            "listeners in all services, their regions included",
        ),
        ("endpoints", endpoints, MAX_IDS, endpoint_count, "endpoints in all pools"),
        ("tunnels", tunnels, MAX_IDS, tunnel_count, "tunnels"),
        ("virtual_networks", virtual_networks, MAX_IDS, network_count, "virtual networks"),
        (
            "table_slots",
            table_slots,
            MAX_TABLE_SLOTS,
            slot_count,
            "slots in the lookup tables of all pools and services",
        ),
        ("prefixes", prefixes, MAX_PREFIXES, prefix_count, "prefixes in `allow` and `deny` of all services"),
        ("fragments", fragments, MAX_FRAGMENTS, 0, "fragments"),
        ("pins", pins, MAX_PINS, 0, "pins"),
        ("affinities", affinities, MAX_AFFINITIES, 0, "sources"),
    ] {
        if limit == 0 || limit > max {
            report.note(format!("limits.{name}"), format!("found {limit}, expected 1 to {max}"));
        } else if used > u64::from(limit) {
            let message = if used > u64::from(max) {
                format!("there are {used} {what}, and lbx takes {max} at most")
            } else {
                format!("there are {used} {what}: raise this limit, which is {limit}, or configure fewer")
            };
            report.note(format!("limits.{name}"), message);
        }
    }
    let (used, limit) = (reply_entries(config), max_reply_entries(config));
    if used > limit {
        let message = format!(
            "the services need {used} entries to recognise replies (listeners × endpoints of their pools), and \
             this limit allows twice its value, {limit}: raise it, or configure fewer"
        );
        report.note("limits.endpoints", message);
    }
}

/// Entries that match replies to listeners: one for each listener and endpoint of its pool, where replies come
/// back through lbx.
pub(super) fn reply_entries(config: &Config) -> u64 {
    let sizes: HashMap<&str, u64> =
        config.pools.iter().map(|pool| (pool.name.as_str(), pool.endpoints.len() as u64)).collect();
    let size = |name: &String| sizes.get(name.as_str()).copied().unwrap_or(0);
    let nat = config.services.iter().filter(|service| service.forwarding == Forwarding::Nat);
    let entries = nat.map(|service| {
        let endpoints: u64 = steering::all_pools(service).map(size).sum();
        endpoints.saturating_mul(service.listen.len() as u64)
    });
    entries.fold(0, u64::saturating_add)
}

/// How many of them fit.
pub(super) fn max_reply_entries(config: &Config) -> u64 {
    2 * u64::from(config.limits.endpoints)
}
