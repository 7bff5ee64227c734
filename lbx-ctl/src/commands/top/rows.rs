//! What is in the tables of `top`: two looks at the agent, and what happened between them. Pure, but for the question
//! itself.

use std::{collections::BTreeMap, time::Instant};

use lbx_common::api::{
    EndpointHealth, HealthReport, HealthState, StatsReport, StatusReport, Traffic, TunnelHealth,
};

use crate::{
    args::TopView,
    client::Client,
    error::CliError,
    output::{NOTHING, cell, maybe, round_trip},
};

/// All that the agent says, at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was asked.
    pub at: Instant,
    /// Counters.
    pub stats: StatsReport,
    /// Verdicts.
    pub health: HealthReport,
    /// The agent itself.
    pub status: StatusReport,
}

impl Snapshot {
    /// Asks the agent.
    pub async fn fetch(client: &Client) -> Result<Self, CliError> {
        let at = Instant::now();
        let stats = client.get(&["stats"]).await?;
        Ok(Self { at, stats, health: client.get(&["health"]).await?, status: client.get(&["status"]).await? })
    }
}

/// What happens in a second. `None` = it is not known yet, or counters began anew meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Packets to endpoints.
    pub in_packets: Option<f64>,
    /// Bits to endpoints.
    pub in_bits: Option<f64>,
    /// Packets to clients.
    pub out_packets: Option<f64>,
    /// Bits to clients.
    pub out_bits: Option<f64>,
    /// Connection attempts.
    pub syns: Option<f64>,
}

impl Rates {
    fn between(before: Option<&Traffic>, now: &Traffic, secs: f64) -> Self {
        let of = |count: fn(&Traffic) -> u64| rate(before.map(count), count(now), secs);
        Self {
            in_packets: of(|traffic| traffic.in_packets),
            in_bits: of(|traffic| traffic.in_bytes).map(|bytes| bytes * 8.0),
            out_packets: of(|traffic| traffic.out_packets),
            out_bits: of(|traffic| traffic.out_bytes).map(|bytes| bytes * 8.0),
            syns: of(|traffic| traffic.tcp_syns),
        }
    }

    fn cells(&self) -> [String; 5] {
        [self.in_packets, self.in_bits, self.out_packets, self.out_bits, self.syns].map(amount)
    }
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As many as the table has columns.
    pub cells: Vec<String>,
    /// What sorting by traffic goes by.
    pub traffic: f64,
    /// Something is wrong with it.
    pub trouble: bool,
}

/// Columns of a table: title, narrowest width, and whether numbers are in it.
pub type Column = (&'static str, u16, bool);

/// The columns of a view. The last one takes what is left.
pub const fn columns(view: TopView) -> &'static [Column] {
    match view {
        TopView::Services => &[
            ("SERVICE", 16, false),
            ("IN PKT/S", 8, true),
            ("IN BIT/S", 8, true),
            ("OUT PKT/S", 9, true),
            ("OUT BIT/S", 9, true),
            ("SYN/S", 6, true),
            ("SERVED BY", 8, false),
        ],
        TopView::Endpoints => &[
            ("ENDPOINT", 16, false),
            ("STATE", 9, false),
            ("IN PKT/S", 8, true),
            ("IN BIT/S", 8, true),
            ("OUT BIT/S", 9, true),
            ("SYN/S", 6, true),
            ("REASON", 8, false),
        ],
        TopView::Drops => {
            &[("REASON", 22, false), ("PKT/S", 8, true), ("PACKETS", 12, true), ("VNET", 8, false)]
        }
        TopView::Tunnels => &[
            ("TUNNEL", 16, false),
            ("REMOTE", 15, false),
            ("STATE", 9, false),
            ("RTT", 7, true),
            ("IN BIT/S", 8, true),
            ("OUT BIT/S", 9, true),
            ("REASON", 8, false),
        ],
    }
}

/// The lines of a view, in the order of the agent's answers.
pub fn rows(view: TopView, before: Option<&Snapshot>, now: &Snapshot) -> Vec<Row> {
    let secs = before.map_or(0.0, |before| now.at.duration_since(before.at).as_secs_f64());
    match view {
        TopView::Services => services(before, now, secs),
        TopView::Endpoints => endpoints(before, now, secs),
        TopView::Drops => drops(before, now, secs),
        TopView::Tunnels => tunnels(before, now, secs),
    }
}

/// Traffic of all services together, and dropped packets.
pub fn totals(before: Option<&Snapshot>, now: &Snapshot) -> (Rates, Option<f64>) {
    let secs = before.map_or(0.0, |before| now.at.duration_since(before.at).as_secs_f64());
    let sum = |snapshot: &Snapshot| {
        snapshot.stats.services.iter().fold(Traffic::default(), |mut sum, service| {
            sum += service.traffic;
            sum
        })
    };
    let dropped = |snapshot: &Snapshot| snapshot.stats.drops.iter().map(|drop| drop.packets).sum();
    let traffic = Rates::between(before.map(sum).as_ref(), &sum(now), secs);
    (traffic, rate(before.map(dropped), dropped(now), secs))
}

fn services(before: Option<&Snapshot>, now: &Snapshot, secs: f64) -> Vec<Row> {
    let earlier: BTreeMap<_, _> = before
        .iter()
        .flat_map(|before| before.stats.services.iter().map(|one| (one.service.as_str(), &one.traffic)))
        .collect();
    let each = now.stats.services.iter().map(|one| {
        let rates = Rates::between(earlier.get(one.service.as_str()).copied(), &one.traffic, secs);
        let health = now.health.services.iter().find(|health| health.service == one.service);
        let serving = health.map(|health| health.serving.join(", ")).unwrap_or_default();
        let fallback = health.is_some_and(|health| health.fallback);
        let [in_packets, in_bits, out_packets, out_bits, syns] = rates.cells();
        let served_by = cell(serving.as_str()) + if fallback { " (fallback)" } else { "" };
        Row {
            cells: vec![one.service.clone(), in_packets, in_bits, out_packets, out_bits, syns, served_by],
            traffic: traffic_of(&rates),
            trouble: serving.is_empty() || fallback,
        }
    });
    each.collect()
}

fn endpoints(before: Option<&Snapshot>, now: &Snapshot, secs: f64) -> Vec<Row> {
    let earlier: BTreeMap<_, _> = before
        .iter()
        .flat_map(|before| &before.stats.endpoints)
        .map(|one| ((one.pool.as_str(), one.endpoint.as_str()), &one.traffic))
        .collect();
    let healths: BTreeMap<_, &EndpointHealth> = now
        .health
        .pools
        .iter()
        .flat_map(|pool| pool.endpoints.iter().map(|one| ((pool.pool.as_str(), one.endpoint.as_str()), one)))
        .collect();
    let each = now.stats.endpoints.iter().map(|one| {
        let name = (one.pool.as_str(), one.endpoint.as_str());
        let rates = Rates::between(earlier.get(&name).copied(), &one.traffic, secs);
        let health = healths.get(&name);
        let [in_packets, in_bits, _, out_bits, syns] = rates.cells();
        let state = health.map(|health| health.state.as_str());
        let drained = health.is_some_and(|health| health.drain.is_some());
        Row {
            cells: vec![
                format!("{}/{}", one.pool, one.endpoint),
                if drained { "drained".to_owned() } else { maybe(state) },
                in_packets,
                in_bits,
                out_bits,
                syns,
                health.map_or_else(|| NOTHING.to_owned(), |health| cell(&health.reason)),
            ],
            traffic: traffic_of(&rates),
            trouble: health.is_some_and(|health| health.state == HealthState::Unhealthy),
        }
    });
    each.collect()
}

fn drops(before: Option<&Snapshot>, now: &Snapshot, secs: f64) -> Vec<Row> {
    let earlier: BTreeMap<_, u64> = before
        .iter()
        .flat_map(|before| &before.stats.drops)
        .map(|one| ((one.virtual_network.as_ref(), one.reason.as_str()), one.packets))
        .collect();
    let each = now.stats.drops.iter().map(|one| {
        // What was not there before had dropped nothing.
        let count =
            before.map(|_| earlier.get(&(one.virtual_network.as_ref(), &one.reason)).copied().unwrap_or(0));
        let per_second = rate(count, one.packets, secs);
        let vnet = maybe(one.virtual_network.as_ref());
        Row {
            cells: vec![one.reason.clone(), amount(per_second), one.packets.to_string(), vnet],
            traffic: per_second.unwrap_or(0.0),
            trouble: per_second.is_some_and(|rate| rate > 0.0),
        }
    });
    each.collect()
}

fn tunnels(before: Option<&Snapshot>, now: &Snapshot, secs: f64) -> Vec<Row> {
    let (earlier, later) = (before.map(traffic_by_tunnel).unwrap_or_default(), traffic_by_tunnel(now));
    let each = now.status.tunnels.iter().map(|one| {
        let is_its = |health: &&TunnelHealth| {
            (&health.virtual_network, &health.tunnel) == (&one.virtual_network, &one.tunnel)
        };
        let health = now.health.tunnels.iter().find(is_its);
        let reason = match health {
            Some(health) if !health.reason.is_empty() => health.reason.clone(),
            _ if one.next_hop.is_none() => "no next hop".to_owned(),
            _ => NOTHING.to_owned(),
        };
        let down = health.is_some_and(|health| health.state == HealthState::Unhealthy);
        let name = (one.virtual_network.as_str(), one.tunnel.as_str());
        let traffic = later.get(&name).copied().unwrap_or_default();
        let rates = Rates::between(earlier.get(&name), &traffic, secs);
        let [_, in_bits, _, out_bits, _] = rates.cells();
        Row {
            cells: vec![
                format!("{}/{}", one.virtual_network, one.tunnel),
                one.remote.clone(),
                maybe(health.map(|health| health.state.as_str())),
                maybe(health.and_then(|health| health.round_trip_us).map(round_trip)),
                in_bits,
                out_bits,
                reason,
            ],
            traffic: traffic_of(&rates),
            trouble: down || one.next_hop.is_none(),
        }
    });
    each.collect()
}

fn traffic_by_tunnel(snapshot: &Snapshot) -> BTreeMap<(&str, &str), Traffic> {
    let each = snapshot.stats.tunnels.iter();
    each.map(|one| ((one.virtual_network.as_str(), one.tunnel.as_str()), one.traffic)).collect()
}

fn traffic_of(rates: &Rates) -> f64 {
    rates.in_bits.unwrap_or(0.0) + rates.out_bits.unwrap_or(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "rounded for people anyway")]
fn rate(before: Option<u64>, now: u64, secs: f64) -> Option<f64> {
    let difference = now.checked_sub(before?)?;
    (secs > 0.0).then(|| difference as f64 / secs)
}

/// A rate in few characters, as `12`, `1.2k` or `345M`.
pub fn amount(rate: Option<f64>) -> String {
    let Some(mut rest) = rate else { return NOTHING.to_owned() };
    for unit in ["", "k", "M", "G"] {
        if rest < 999.5 {
            let digits = usize::from(rest > 0.0 && rest < 99.95 && (!unit.is_empty() || rest < 9.95));
            return format!("{rest:.digits$}{unit}");
        }
        rest /= 1000.0;
    }
    format!("{rest:.0}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short_and_tell_nothing_from_unknown() {
        let shown = [0.0, 0.25, 9.96, 12.3, 999.4, 999.6, 1234.0, 99_960.0, 345e6, 1e10, 2e12]
            .map(|rate| amount(Some(rate)));
        assert_eq!(shown, ["0", "0.2", "10", "12", "999", "1.0k", "1.2k", "100k", "345M", "10.0G", "2T"]);
        assert_eq!(amount(None), "-");
    }

    #[test]
    fn counters_that_began_anew_have_no_rate() {
        assert_eq!(rate(Some(10), 30, 2.0), Some(10.0));
        assert_eq!((rate(Some(10), 9, 2.0), rate(None, 9, 2.0), rate(Some(1), 9, 0.0)), (None, None, None));
    }
}
