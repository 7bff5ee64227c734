//! `flows`: what is remembered of flows, one by one.

use std::fmt::Write as _;

use lbx_common::api::{FlowQuery, FlowsReport};

use super::Context;
use crate::{
    error::CliError,
    output::{Table, cell, span},
};

/// Prints the flows that match.
pub async fn run(context: &Context, query: FlowQuery) -> Result<(), CliError> {
    let report: FlowsReport = context.client.query(&["flows"], &query).await?;
    context.show(&report, |report| render(report, context.width))
}

fn render(report: &FlowsReport, width: Option<u16>) -> String {
    let FlowsReport { matching, flows } = report;
    if *matching == 0 {
        return "no flows remembered: all go by hash and table\n".to_owned();
    }
    let mut table =
        Table::new(["SERVICE", "PROTOCOL", "CLIENT", "VIP", "ENDPOINT", "VNET", "ADDRESS", "STATE", "IDLE"]);
    for flow in flows {
        table.row([
            cell(&flow.service),
            cell(flow.protocol.as_str()),
            cell(flow.client),
            cell(flow.vip),
            flow.endpoint.clone().unwrap_or_else(|| "removed".to_owned()),
            flow.virtual_network.clone().unwrap_or_else(|| "removed".to_owned()),
            cell(flow.address),
            cell(flow.state.as_str()),
            span(flow.idle_secs),
        ]);
    }
    let mut text = if table.is_empty() { String::new() } else { table.render(width) };
    let rest = matching.saturating_sub(flows.len() as u64);
    if rest > 0 {
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "and {rest} more: see --limit, or narrow it by --service, --endpoint, --client");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(matching: u64) -> FlowsReport {
        serde_json::from_value(json!({"matching": matching, "flows": [
            {"service": "db", "protocol": "tcp", "client": "203.0.113.5:40000", "vip": "198.51.100.9:5432",
             "endpoint": "pg/a", "virtual_network": "east", "address": "10.0.0.10:5432", "state": "open",
             "idle_secs": 0},
            {"service": "dns", "protocol": "udp", "client": "[2001:db8::5]:53", "vip": "[2001:db8::9]:53",
             "address": "[fd00::1]:53", "state": "ended", "idle_secs": 68},
        ]}))
        .unwrap()
    }

    #[test]
    fn each_flow_has_a_line() {
        assert_eq!(
            render(&report(2), None),
            "SERVICE  PROTOCOL  CLIENT             VIP                ENDPOINT  VNET     ADDRESS         STATE  IDLE\n\
             db       tcp       203.0.113.5:40000  198.51.100.9:5432  pg/a      east     10.0.0.10:5432  open   0s\n\
             dns      udp       [2001:db8::5]:53   [2001:db8::9]:53   removed   removed  [fd00::1]:53    ended  1m 8s\n"
        );
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        assert!(
            render(&report(7), None)
                .ends_with("and 5 more: see --limit, or narrow it by --service, --endpoint, --client\n")
        );
        assert!(render(&FlowsReport::default(), None).starts_with("no flows remembered"));
        let counted = FlowsReport { flows: Vec::new(), ..report(7) };
        assert!(render(&counted, None).starts_with("and 7 more"), "--limit 0");
    }
}
