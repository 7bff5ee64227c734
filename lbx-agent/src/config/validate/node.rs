//! Rules for the version and for `node`.

use lbx_common::api::{Config, Family, Interface, Role};

use crate::{
    net::probe_path::{LBX0, LBX1},
    store::seed::SeedSource,
};

use super::{Report, Seen, unicast};

/// Version of the configuration format that this agent reads.
const VERSION: u32 = 1;
/// `IFNAMSIZ` without its terminating zero.
const MAX_INTERFACE_NAME: usize = 15;
/// Fewer samples than these are none.
const MAX_ONE_IN: u32 = 1_000_000_000;

pub(super) fn check(config: &Config, report: &mut Report) {
    if config.version != VERSION {
        let message = format!("this agent reads version {VERSION}, not {}", config.version);
        report.note("version", message);
    }
    interfaces(config, report);
    tunnel_source(config, report);
    if let Some(seed) = &config.node.hash_seed
        && let Err(error) = seed.parse::<SeedSource>()
    {
        report.note("node.hash_seed", error.to_string());
    }
    let one_in = config.node.flow_samples.one_in;
    if one_in > MAX_ONE_IN {
        let message = format!("found {one_in}, expected 0 (no samples) to {MAX_ONE_IN}");
        report.note("node.flow_samples.one_in", message);
    }
}

fn interfaces(config: &Config, report: &mut Report) {
    let mut seen = Seen::default();
    for (index, Interface { name, .. }) in config.node.interfaces.iter().enumerate() {
        let here = format!("node.interfaces[{index}]");
        // The kernel's own rule, dev_valid_name() in net/core/dev.c.
        let wrong = name.is_empty()
            || name.len() > MAX_INTERFACE_NAME
            || matches!(name.as_str(), "." | "..")
            || name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if wrong {
            let message = format!(
                "`{name}` is not an interface name: write it as `ip link` shows it, 1 to {MAX_INTERFACE_NAME} \
                 characters"
            );
            report.note(format!("{here}.name"), message);
        } else if [LBX0, LBX1].contains(&name.as_str()) {
            let message =
                format!("`{name}` is a device of lbx's own: list the interfaces that carry traffic");
            report.note(format!("{here}.name"), message);
        } else if let Some(first) = seen.before(name.as_str(), here.clone()) {
            let message = format!(
                "interface `{name}` is listed by {first} already: list it once, with role `both` for both"
            );
            report.note(format!("{here}.name"), message);
        }
    }
    if config.services.is_empty() {
        return;
    }
    for (role, carries) in [(Role::Public, "packets of clients"), (Role::Underlay, "tunnel packets")] {
        if !config.node.interfaces.iter().any(|interface| [role, Role::Both].contains(&interface.role)) {
            let word = if role == Role::Public { "public" } else { "underlay" };
            let message = format!(
                "there are services, but no interface takes {carries}: list one with role `{word}` or `both`"
            );
            report.note("node.interfaces", message);
        }
    }
}

fn tunnel_source(config: &Config, report: &mut Report) {
    let tunnels = || config.virtual_networks.iter().flat_map(|network| &network.tunnels);
    for family in Family::ALL {
        let path = || format!("node.tunnel_source.{}", family.field());
        if let Some(address) = config.node.tunnel_source.of(family) {
            report.take(path, unicast(address));
        } else if let Some(tunnel) = tunnels().find(|tunnel| Family::of(tunnel.remote) == family) {
            let message = format!(
                "missing: tunnel `{}` leads to {}, so give the {family} address of this machine that it starts \
                 from",
                tunnel.name, tunnel.remote,
            );
            report.note(path(), message);
        }
    }
}
