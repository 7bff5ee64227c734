//! `describe`: one object, with its health, its counters and who uses it. Joins what the API reports separately;
//! how each kind is laid out stands in `describe/kinds`.

mod kinds;
mod service;

use std::fmt::Write as _;

use lbx_common::api::{Config, ConfigDocument, HealthReport, StatsReport, StatusReport};
use serde_json::{Map, Value, json};

use super::Context;
use crate::{args::ObjectName, error::CliError, output::Table};

/// What the agent knows.
struct Facts {
    config: Config,
    health: HealthReport,
    stats: StatsReport,
    status: StatusReport,
}

/// What there is to say about one object.
#[derive(Default)]
struct Description {
    /// Label and value, one line each.
    lines: Vec<(&'static str, String)>,
    /// Heading and table.
    tables: Vec<(&'static str, Table)>,
    /// Further members of the JSON form, beside `kind`, `name` and `config`.
    members: Map<String, Value>,
}

impl Description {
    fn line(&mut self, label: &'static str, value: impl Into<String>) {
        self.lines.push((label, value.into()));
    }

    fn table(&mut self, heading: &'static str, table: Table) {
        if !table.is_empty() {
            self.tables.push((heading, table));
        }
    }

    fn member(&mut self, name: &str, value: impl serde::Serialize) {
        self.members.insert(name.to_owned(), json!(value));
    }

    /// Says who refers to the object, in both forms.
    fn used_by(&mut self, users: Vec<String>) {
        let text = if users.is_empty() { "nothing".to_owned() } else { users.join(", ") };
        self.line("Used by", text);
        self.member("used_by", users);
    }

    fn render(&self, width: Option<u16>) -> String {
        let longest = self.lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
        let mut text = String::new();
        // Writing to a string cannot fail.
        for (label, value) in &self.lines {
            let _ = writeln!(text, "{:<1$} {value}", format!("{label}:"), longest + 1);
        }
        for (heading, table) in &self.tables {
            let _ = write!(text, "\n{heading}:\n{}", table.render(width));
        }
        text
    }
}

/// Prints everything about one object.
pub async fn run(context: &Context, object: &ObjectName) -> Result<(), CliError> {
    // First, because the agent says best what is wrong with a name.
    let found: Value = context.client.get(&object.path()).await?;
    let document: ConfigDocument = context.client.get(&["config"]).await?;
    let facts = Facts {
        config: document.config,
        health: context.client.get(&["health"]).await?,
        stats: context.client.get(&["stats"]).await?,
        status: context.client.get(&["status"]).await?,
    };
    let description = kinds::describe(object, found.clone(), &facts)
        .map_err(|error| context.client.not_understood(&error))?;
    let mut json = Map::new();
    json.insert("kind".to_owned(), json!(object.collection.singular()));
    json.insert("name".to_owned(), json!(object.full()));
    json.insert("config".to_owned(), found);
    json.extend(description.members.clone());
    context.show(&json, |_| description.render(context.width))
}

#[cfg(test)]
mod tests {
    use lbx_common::api::Collection::{self, Endpoints, Monitors, Pools, Services, Tunnels, VirtualNetworks};

    use super::*;
    use crate::samples;

    fn described(collection: Collection, name: &str, found: impl serde::Serialize) -> (String, Value) {
        let facts = Facts {
            config: samples::config(),
            health: samples::health(),
            stats: samples::stats(),
            status: samples::status(),
        };
        let object = ObjectName::parse(collection, name).unwrap();
        let description = kinds::describe(&object, json!(found), &facts).unwrap();
        (description.render(None), Value::Object(description.members))
    }

    #[test]
    fn a_monitor_shows_its_detection_time_and_who_uses_it() {
        let (text, json) = described(Monitors, "tcp1", &samples::config().monitors[0]);
        assert!(text.contains("Worst-case detection: 3s"), "{text}");
        assert!(text.contains("Used by:              pool web, tunnel west/b"), "{text}");
        assert_eq!(json["used_by"], json!(["pool web", "tunnel west/b"]));
        assert_eq!(json["worst_case_detection"], "3s");
    }

    #[test]
    fn a_pool_shows_its_endpoints_with_health_and_its_services() {
        let (text, json) = described(Pools, "web", &samples::config().pools[0]);
        for part in ["State:", "critical, 0/1 healthy", "service web", "connection refused", "web/b"] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert_eq!(json["health"]["state"], "critical");
        let (text, _) = described(Pools, "web6", &samples::config().pools[1]);
        assert!(text.contains("web6/a    west  [fd00::1]:80       1  100%"), "{text}");
    }

    #[test]
    fn an_endpoint_shows_its_health_counters_and_way() {
        let (text, json) = described(Endpoints, "web/a", &samples::config().pools[0].endpoints[0]);
        for part in
            ["unhealthy for 1h 1m: connection refused", "10.0.0.10", "90000", "east/a", "198.51.100.7"]
        {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert_eq!(json["stats"]["out_bytes"], 90_000);
        let (text, _) = described(Endpoints, "web/b", &samples::config().pools[0].endpoints[1]);
        assert!(text.contains("the client's destination port"), "{text}");
    }

    #[test]
    fn a_network_shows_tunnels_endpoints_and_drops() {
        let (text, json) = described(VirtualNetworks, "east", &samples::config().virtual_networks[0]);
        for part in ["42", "10.255.42.1", "02:00:00:00:00:01", "web/a", "unknown_remote"] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert!(!text.contains("no_listener"), "drops of no network belong to none:\n{text}");
        assert_eq!(json["used_by"], json!(["endpoint web/a", "endpoint web/b"]));
        let (text, _) = described(VirtualNetworks, "west", &samples::config().virtual_networks[1]);
        assert!(text.contains("Probe source:    10.255.43.1, fd00:255::1"), "{text}");
        let (text, _) = described(VirtualNetworks, "bare", &samples::config().virtual_networks[2]);
        assert!(text.contains("none: no health checks"), "{text}");
    }

    #[test]
    fn a_tunnel_shows_its_next_hop() {
        let (text, _) = described(Tunnels, "east/a", &samples::config().virtual_networks[0].tunnels[0]);
        for part in ["gre", "1472", "02:00:00:00:00:01 by eth1"] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert!(!text.contains("UDP port"), "{text}");
        let (text, _) = described(Tunnels, "west/b", &samples::config().virtual_networks[1].tunnels[0]);
        for part in [
            "geneve",
            "Carries:       ip",
            "UDP port:      6081",
            "2001:db8::7",
            "unresolved",
            "Enabled:       true",
            "Monitor:       tcp1",
            "Checked at:    [fd00::254]:22",
            "Health:        healthy for 1m 1s",
            "Used by:       endpoint web6/a, endpoint direct/a",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    fn a_service_shows_its_pools_state_and_counters() {
        let (text, json) = described(Services, "web", &samples::config().services[0]);
        for part in ["203.0.113.80", "tcp/80, udp/53", "critical", "90000"] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert_eq!(json["stats"]["tcp_syns"], 2);
        for part in [
            "Affinity:         none",
            "Drain:            5m",
            "On endpoint down: keep",
            "Tracking:         auto",
            "Table change:     open since 1m: flows from before stay; closes in 2h 9m",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        assert_eq!(json["table_change"]["state"], "open");
        let (text, _) = described(Services, "direct", &samples::config().services[2]);
        for part in [
            "tcp/80-89, udp/any",
            "Forwarding:       dsr",
            "Answers pings:    false",
            "Without endpoint: reject",
            "Allows:           2001:db8::/32, fd00::/8",
            "Denies:           2001:db8:bad::/48",
            "New flows:        1000 a second",
            "Of one source:    any number",
            "Table change:     none under way",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
        let mut service = samples::config().services[2].clone();
        service.allow = (0..14).map(|i| format!("fd00:{i}::/32").parse().unwrap()).collect();
        let (text, _) = described(Services, "direct", &service);
        assert!(text.contains("fd00:9::/32 and 4 more\n"), "{text}");
    }
}
