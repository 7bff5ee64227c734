//! `status`: the agent, and how lbx is attached.

use std::fmt::Write as _;

use lbx_common::api::{AttachMode, RegionsStatus, StatusReport, TunnelStatus};

use super::Context;
use crate::{
    error::CliError,
    output::{Table, cell, maybe, span},
};

/// Prints the state of the agent and its data plane.
pub async fn run(context: &Context) -> Result<(), CliError> {
    let report: StatusReport = context.client.get(&["status"]).await?;
    context.show(&report, |report| render(report, context.width))
}

fn render(report: &StatusReport, width: Option<u16>) -> String {
    let mut text = String::new();
    let StatusReport { version, abi_version, pid, uptime_secs, store, revision, adopted, map_writes, .. } =
        report;
    let maps = if *adopted { "adopted from an earlier agent" } else { "made by this agent" };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "agent      {version}, pid {pid}, up {}\n\
         config     revision {revision}, {store}\n\
         data plane map layout {abi_version}, maps {maps}, {map_writes} writes since\n",
        span(*uptime_secs)
    );
    let mut interfaces = Table::new(["INTERFACE", "ROLE", "LINK", "XDP", "WARNINGS"]);
    for interface in &report.interfaces {
        let warnings = cell(interface.warnings.join("; "));
        interfaces.row([
            cell(&interface.name),
            cell(interface.role.as_str()),
            cell(interface.link.as_str()),
            cell(interface.mode.map_or("none", AttachMode::as_str)),
            warnings,
        ]);
    }
    if let Some(regions) = &report.regions {
        let _ = writeln!(text, "regions    {}", regions_line(regions));
    }
    let mut regions = Table::new(["REGION", "PREFIXES"]);
    for region in report.regions.iter().flat_map(|regions| &regions.regions) {
        regions.row([cell(&region.region), cell(region.prefixes)]);
    }
    let mut maps = Table::new(["MAP", "USED", "CAPACITY"]);
    for map in &report.maps {
        maps.row([cell(&map.map), cell(map.used), cell(map.capacity)]);
    }
    let mut changes = Table::new(["TABLE CHANGE", "STATE", "SINCE", "CLOSES IN"]);
    for change in &report.changes {
        changes.row([
            cell(&change.service),
            cell(change.state.as_str()),
            span(change.since_secs),
            maybe(change.closes_in_secs.map(span)),
        ]);
    }
    for table in [interfaces, tunnel_table(&report.tunnels), regions, changes, maps] {
        if !table.is_empty() {
            let _ = write!(text, "\n{}", table.render(width));
        }
    }
    text
}

/// The file of regions in words.
fn regions_line(regions: &RegionsStatus) -> String {
    let RegionsStatus { file, prefixes, read_secs_ago, mistake, closes_in_secs, .. } = regions;
    let mut text = match read_secs_ago {
        Some(secs) => format!("{file}, {prefixes} prefixes, read {} ago", span(*secs)),
        None => format!("{file}, not read by this agent"),
    };
    if let Some(secs) = closes_in_secs {
        let _ = write!(text, "; flows from before stay for {}", span(*secs));
    }
    if let Some(mistake) = mistake {
        let _ = write!(text, "\n           the file as it is now does not count: {mistake}");
    }
    text
}

/// Tunnels and the way to their gateways.
pub fn tunnel_table<'a>(tunnels: impl IntoIterator<Item = &'a TunnelStatus>) -> Table {
    let mut table = Table::new(["TUNNEL", "ENCAP", "REMOTE", "INNER MTU", "PATH MTU", "NEXT HOP"]);
    for tunnel in tunnels {
        table.row([
            format!("{}/{}", tunnel.virtual_network, tunnel.tunnel),
            cell(tunnel.encap.as_str()),
            cell(&tunnel.remote),
            cell(tunnel.inner_mtu),
            maybe(tunnel.path_mtu.map(|path| path.mtu)),
            next_hop(tunnel),
        ]);
    }
    table
}

/// The next hop in words.
pub fn next_hop(tunnel: &TunnelStatus) -> String {
    tunnel.next_hop.as_ref().map_or_else(
        || "unresolved (slow path)".to_owned(),
        |hop| format!("{} by {}", hop.mac, hop.interface),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn everything_is_shown_and_warnings_too() {
        assert_eq!(
            render(&samples::status(), None),
            "agent      0.1.0, pid 77, up 1m 1s\n\
             config     revision 8, embedded /var/lib/lbx\n\
             data plane map layout 1, maps adopted from an earlier agent, 12 writes since\n\
             \n\
             INTERFACE  ROLE  LINK     XDP      WARNINGS\n\
             eth0       both  up       generic  the driver has no XDP\n\
             eth9       both  missing  none     it does not exist\n\
             \n\
             TUNNEL  ENCAP   REMOTE        INNER MTU  PATH MTU  NEXT HOP\n\
             east/a  gre     198.51.100.7       1472         -  02:00:00:00:00:01 by eth1\n\
             west/b  geneve  2001:db8::7        1344      1400  unresolved (slow path)\n\
             \n\
             TABLE CHANGE  STATE  SINCE  CLOSES IN\n\
             web           open   1m     2h 9m\n\
             \n\
             MAP        USED  CAPACITY\n\
             endpoints     2     16384\n"
        );
    }

    #[test]
    fn an_unresolved_next_hop_says_where_packets_go() {
        let mut tunnel = samples::status().tunnels.remove(0);
        tunnel.next_hop = None;
        assert_eq!(next_hop(&tunnel), "unresolved (slow path)");
    }
}
