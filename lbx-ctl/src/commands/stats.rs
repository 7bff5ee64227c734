//! `stats`: packet and byte counters.

use lbx_common::api::{DropCount, EndpointStats, FlowCount, ServiceStats, StatsReport, Traffic, TunnelStats};

use super::Context;
use crate::{
    args::StatsSection,
    error::CliError,
    output::{Table, cell, maybe},
};

/// Prints all counters or one part of them.
pub async fn run(context: &Context, which: Option<StatsSection>) -> Result<(), CliError> {
    let report: StatsReport = context.client.get(&["stats"]).await?;
    match which {
        None => context.show(&report, |report| render(report, context.width)),
        Some(StatsSection::Services) => {
            context.show(&report.services, |services| service_table(services).render(context.width))
        }
        Some(StatsSection::Endpoints) => {
            context.show(&report.endpoints, |endpoints| endpoint_table(endpoints).render(context.width))
        }
        Some(StatsSection::Tunnels) => {
            context.show(&report.tunnels, |tunnels| tunnel_table(tunnels).render(context.width))
        }
        Some(StatsSection::Flows) => {
            context.show(&report.flows, |flows| flow_table(flows).render(context.width))
        }
        Some(StatsSection::Drops) => context.show(&report.drops, |drops| drop_text(drops, context.width)),
    }
}

fn render(report: &StatsReport, width: Option<u16>) -> String {
    let services = service_table(&report.services).render(width);
    let endpoints = endpoint_table(&report.endpoints).render(width);
    let tunnels = tunnel_table(&report.tunnels).render(width);
    let flows = flow_table(&report.flows).render(width);
    format!("{services}\n{endpoints}\n{tunnels}\n{}\n{flows}", drop_text(&report.drops, width))
}

fn drop_text(drops: &[DropCount], width: Option<u16>) -> String {
    if drops.is_empty() { "no packets dropped\n".to_owned() } else { drop_table(drops).render(width) }
}

/// Counters of services.
pub fn service_table<'a>(services: impl IntoIterator<Item = &'a ServiceStats>) -> Table {
    traffic_table("SERVICE", services.into_iter().map(|one| (cell(&one.service), &one.traffic)))
}

/// Counters of endpoints.
pub fn endpoint_table<'a>(endpoints: impl IntoIterator<Item = &'a EndpointStats>) -> Table {
    let mut table =
        Table::new(["ENDPOINT", "VNET", "IN PACKETS", "IN BYTES", "OUT PACKETS", "OUT BYTES", "TCP SYNS"]);
    for EndpointStats { pool, endpoint, virtual_network, traffic } in endpoints {
        let [in_packets, in_bytes, out_packets, out_bytes, tcp_syns] = counters(traffic);
        let name = format!("{pool}/{endpoint}");
        table.row([name, cell(virtual_network), in_packets, in_bytes, out_packets, out_bytes, tcp_syns]);
    }
    table
}

/// Counters of tunnels.
pub fn tunnel_table<'a>(tunnels: impl IntoIterator<Item = &'a TunnelStats>) -> Table {
    let name = |one: &TunnelStats| format!("{}/{}", one.virtual_network, one.tunnel);
    traffic_table("TUNNEL", tunnels.into_iter().map(|one| (name(one), &one.traffic)))
}

fn traffic_table<'a>(of: &'static str, each: impl Iterator<Item = (String, &'a Traffic)>) -> Table {
    let mut table = Table::new([of, "IN PACKETS", "IN BYTES", "OUT PACKETS", "OUT BYTES", "TCP SYNS"]);
    for (name, traffic) in each {
        let [in_packets, in_bytes, out_packets, out_bytes, tcp_syns] = counters(traffic);
        table.row([name, in_packets, in_bytes, out_packets, out_bytes, tcp_syns]);
    }
    table
}

/// Dropped packets.
pub fn drop_table<'a>(drops: impl IntoIterator<Item = &'a DropCount>) -> Table {
    let mut table = Table::new(["VNET", "DROP REASON", "PACKETS"]);
    for DropCount { virtual_network, reason, packets } in drops {
        table.row([maybe(virtual_network.as_ref()), cell(reason), cell(packets)]);
    }
    table
}

fn flow_table(flows: &[FlowCount]) -> Table {
    let mut table = Table::new(["FLOWS", "COUNT"]);
    for FlowCount { event, count } in flows {
        table.row([cell(event), cell(count)]);
    }
    table
}

fn counters(traffic: &Traffic) -> [String; 5] {
    let Traffic { in_packets, in_bytes, out_packets, out_bytes, tcp_syns } = traffic;
    [in_packets, in_bytes, out_packets, out_bytes, tcp_syns].map(cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn all_counters_are_shown() {
        assert_eq!(
            render(&samples::stats(), None),
            "SERVICE  IN PACKETS  IN BYTES  OUT PACKETS  OUT BYTES  TCP SYNS\n\
             web              10      1000            9      90000         2\n\
             \n\
             ENDPOINT  VNET  IN PACKETS  IN BYTES  OUT PACKETS  OUT BYTES  TCP SYNS\n\
             web/a     east          10      1000            9      90000         2\n\
             \n\
             TUNNEL  IN PACKETS  IN BYTES  OUT PACKETS  OUT BYTES  TCP SYNS\n\
             east/a          10      1000            9      90000         2\n\
             \n\
             VNET  DROP REASON     PACKETS\n\
             east  unknown_remote        3\n\
             -     no_listener           7\n\
             \n\
             FLOWS      COUNT\n\
             half_open      5\n\
             pinned         4\n"
        );
        assert_eq!(drop_text(&[], None), "no packets dropped\n");
    }
}
