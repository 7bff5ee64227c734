//! `monitor test`: one probe now, step by step.

use lbx_common::api::{Collection, TrialReport, TrialRequest};

use super::Context;
use crate::{
    args::{ObjectName, TrialTarget},
    error::CliError,
    output::{Table, cell, round_trip},
};

/// Lets the agent make a probe.
pub async fn run(context: &Context, monitor: &str, target: TrialTarget) -> Result<(), CliError> {
    let full = |collection, name: &str| ObjectName::parse(collection, name).map(|object| object.full());
    let endpoint = target.endpoint.map(|name| full(Collection::Endpoints, &name)).transpose()?;
    let tunnel = target.tunnel.map(|name| full(Collection::Tunnels, &name)).transpose()?;
    let name = endpoint.clone().or_else(|| tunnel.clone()).unwrap_or_default();
    let request = TrialRequest { endpoint, tunnel };
    let report: TrialReport = context.client.post(&["monitors", monitor, "test"], &request).await?;
    context.show(&report, |report| text(&name, report, context.width))?;
    if report.success { Ok(()) } else { Err(CliError::ProbeFailed(report.reason)) }
}

fn text(name: &str, report: &TrialReport, width: Option<u16>) -> String {
    let TrialReport { source, target, tunnel, .. } = report;
    let target = if target.port() == 0 { target.ip().to_string() } else { target.to_string() };
    let way = tunnel.as_ref().map_or_else(|| "no tunnel".to_owned(), |tunnel| format!("tunnel {tunnel}"));
    let took =
        report.round_trip_us.map_or_else(String::new, |took| format!(": success in {}", round_trip(took)));
    let mut table = Table::new(["STEP", "TOOK", "DETAIL"]);
    for step in &report.steps {
        table.row([cell(&step.name), round_trip(step.took_us), cell(&step.detail)]);
    }
    let steps = if table.is_empty() { String::new() } else { table.render(width) };
    format!("{name} at {target} from {source} by {way}{took}\n{steps}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(changes: &serde_json::Value) -> TrialReport {
        let mut report = json!({"monitor": "m", "source": "10.255.42.1", "target": "10.0.0.10:80", "tunnel": "a",
                                "success": true, "round_trip_us": 1500, "steps": [
            {"name": "connect", "took_us": 500, "detail": "10.0.0.10:80 from 10.255.42.1"},
            {"name": "response", "took_us": 1000, "detail": "200 OK for http://a/"},
        ]});
        report.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_success_shows_its_steps() {
        assert_eq!(
            text("web/a", &report(&json!({})), None),
            "web/a at 10.0.0.10:80 from 10.255.42.1 by tunnel a: success in 1.5ms\n\
             STEP      TOOK   DETAIL\n\
             connect   500us  10.0.0.10:80 from 10.255.42.1\n\
             response  1.0ms  200 OK for http://a/\n"
        );
    }

    #[test]
    fn a_failure_shows_how_far_it_came() {
        let failed = json!({"success": false, "round_trip_us": null, "steps": [], "target": "[fd00::1]:0",
                            "tunnel": null});
        assert_eq!(text("web/a", &report(&failed), None), "web/a at fd00::1 from 10.255.42.1 by no tunnel\n");
    }
}
