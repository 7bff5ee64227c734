//! `explain`: what would become of a packet, and why.

use lbx_common::api::{ExplainReport, ExplainRequest};

use super::Context;
use crate::error::CliError;

/// Asks the agent.
pub async fn run(context: &Context, request: ExplainRequest) -> Result<(), CliError> {
    let report: ExplainReport = context.client.post(&["explain"], &request).await?;
    context.show(&report, |report| text(&request, report))
}

fn text(request: &ExplainRequest, report: &ExplainReport) -> String {
    let ExplainRequest { from, to, protocol, established } = request;
    let verdict = report.verdict.as_str();
    let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let kind = if *established { ", established" } else { "" };
    let mut lines = vec![format!("{from} to {to}/{}{kind}: {verdict}{reason}", protocol.as_str())];
    let mut line = |label: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{:<11}{value}", format!("{label}:"))));
    };
    let listener = report.service.as_ref().zip(report.listener.as_ref());
    line("Service", listener.map(|(service, listener)| format!("{service} ({listener})")));
    let prefix = report.region_prefix.map_or_else(String::new, |prefix| format!(" ({prefix})"));
    line("Region", report.region.as_ref().map(|region| format!("{region}{prefix}")));
    let slot = report.slot.zip(report.slots);
    let owner = report.owner.as_ref().map_or_else(String::new, |owner| format!(", of {owner}"));
    line("Slot", slot.map(|(slot, slots)| format!("{slot} of {slots}{owner}")));
    let endpoint = report.endpoint.as_ref().map(|endpoint| {
        report.destination.map_or_else(|| endpoint.clone(), |address| format!("{endpoint} at {address}"))
    });
    line("Endpoint", endpoint);
    line("Tunnel", report.tunnel.clone());
    lines.extend(report.why.iter().map(|why| format!("- {why}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(established: bool, report: &serde_json::Value) -> String {
        let request = json!({"from": "192.0.2.7:5555", "to": "203.0.113.80:80", "protocol": "tcp",
                             "established": established});
        let report = serde_json::from_value(report.clone()).unwrap();
        text(&serde_json::from_value(request).unwrap(), &report)
    }

    #[test]
    fn a_packet_that_is_forwarded_shows_its_way() {
        let report = json!({"verdict": "forwarded", "service": "web", "listener": "tcp/80", "region": "eu",
                            "region_prefix": "192.0.2.0/24", "slot": 5, "slots": 1021,
                            "owner": "web/a", "endpoint": "web/b", "destination": "10.0.0.11:8080", "tunnel": "east/gre",
                            "why": ["one", "two"]});
        assert_eq!(
            shown(false, &report),
            "192.0.2.7:5555 to 203.0.113.80:80/tcp: forwarded\n\
             Service:   web (tcp/80)\n\
             Region:    eu (192.0.2.0/24)\n\
             Slot:      5 of 1021, of web/a\n\
             Endpoint:  web/b at 10.0.0.11:8080\n\
             Tunnel:    east/gre\n\
             - one\n- two\n"
        );
    }

    #[test]
    fn a_packet_that_is_dropped_shows_why() {
        let report = json!({"verdict": "dropped", "reason": "vip_no_service", "why": ["nobody listens"]});
        assert_eq!(
            shown(true, &report),
            "192.0.2.7:5555 to 203.0.113.80:80/tcp, established: dropped (vip_no_service)\n- nobody listens\n"
        );
    }
}
