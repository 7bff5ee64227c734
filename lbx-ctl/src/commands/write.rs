//! `create`, `set`, `delete`, and how the outcome of any write reads.

use std::fmt::Write as _;

use lbx_common::api::WriteReport;
use reqwest::Method;

use super::Context;
use crate::{
    args::{ObjectName, WriteFlags},
    client::Body,
    error::CliError,
};

/// Sends a change of one object and prints what changed.
pub async fn run(
    context: &Context,
    method: Method,
    path: &[&str],
    body: Body,
    flags: WriteFlags,
    object: &ObjectName,
) -> Result<(), CliError> {
    let report = context.client.write(method, path, body, flags).await?;
    let unchanged = || format!("{} `{}` is that way already", object.collection.singular(), object.full());
    context.show(&report, |report| render(report, unchanged))
}

/// What changed, one line an object, and the revision.
pub fn render(report: &WriteReport, unchanged: impl FnOnce() -> String) -> String {
    let mut text = String::new();
    for change in &report.changes {
        let _ = writeln!(text, "{}", change.line(report.dry_run));
    }
    let revision = report.revision;
    let summary = match (report.changes.is_empty(), report.dry_run) {
        (true, _) => format!("nothing to change: {} (revision {revision})", unchanged()),
        (false, true) => format!("dry run: valid, nothing was changed (revision {revision})"),
        (false, false) => format!("done (revision {revision})"),
    };
    let _ = writeln!(text, "{summary}");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(dry_run: bool) -> WriteReport {
        serde_json::from_value(json!({"revision": 8, "dry_run": dry_run, "changes": [
            {"action": "changed", "collection": "limits", "name": "",
             "fields": [{"field": "listeners", "before": 1, "after": 2}]},
            {"action": "changed", "collection": "pools", "name": ""},
            {"action": "deleted", "collection": "virtual_networks", "name": "west"},
            {"action": "created", "collection": "endpoints", "name": "web/a"},
            {"action": "changed", "collection": "endpoints", "name": "web/b", "fields": [
                {"field": "weight", "before": 1.0, "after": 0.3},
                {"field": "address", "before": "10.0.0.1", "after": "10.0.0.2"},
                {"field": "port", "before": 80}]},
        ]}))
        .unwrap()
    }

    #[test]
    fn every_changed_object_has_a_line() {
        assert_eq!(
            render(&report(false), String::new),
            "changed limits: listeners 1 -> 2\n\
             changed order of pools\n\
             deleted virtual network west\n\
             created endpoint web/a\n\
             changed endpoint web/b: weight 1.0 -> 0.3, address 10.0.0.1 -> 10.0.0.2, port no longer 80\n\
             done (revision 8)\n"
        );
    }

    #[test]
    fn a_dry_run_says_would() {
        let text = render(&report(true), String::new);
        assert!(text.contains("would create endpoint web/a\n"), "{text}");
        assert!(text.ends_with("dry run: valid, nothing was changed (revision 8)\n"), "{text}");
    }

    #[test]
    fn nothing_to_change_is_said() {
        let nothing = WriteReport { revision: 8, dry_run: false, changes: Vec::new() };
        let text = render(&nothing, || "pool `web` is that way already".to_owned());
        assert_eq!(text, "nothing to change: pool `web` is that way already (revision 8)\n");
    }
}
