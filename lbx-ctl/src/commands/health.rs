//! `health`: verdicts on pools and endpoints, once or as they change.

use std::{io::IsTerminal, time::Duration};

use lbx_common::api::{
    Drain, EndpointHealth, HealthReport, HealthState, PoolHealth, Problem, RegionServing, RemovedEndpoint,
    ServiceHealth, TunnelHealth,
};
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::{
    error::CliError,
    output::{self, Format, NOTHING, Table, cell, maybe, round_trip, span},
};

/// How often `--watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Clears the terminal and goes to its top left corner (ECMA-48 ED and CUP).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the health of all pools or one.
pub async fn run(context: &Context, pool: Option<&str>, watch: bool) -> Result<(), CliError> {
    if !watch {
        let report = fetch(context, pool).await?;
        return context.show(&report, |report| render(report, context.width));
    }
    let in_place = context.format == Format::Table && std::io::stdout().is_terminal();
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = None;
    loop {
        ticks.tick().await;
        let report = fetch(context, pool).await?;
        let verdicts = verdicts(&report);
        if shown.as_ref() != Some(&verdicts) {
            if in_place {
                output::print(CLEAR)?;
            } else if shown.is_some() && context.format == Format::Table {
                output::print("\n")?;
            }
            context.show(&report, |report| render(report, context.width))?;
            shown = Some(verdicts);
        }
    }
}

async fn fetch(context: &Context, pool: Option<&str>) -> Result<HealthReport, CliError> {
    let mut report: HealthReport = context.client.get(&["health"]).await?;
    if let Some(name) = pool {
        let names: Vec<_> = report.pools.iter().map(|pool| pool.pool.clone()).collect();
        report.pools.retain(|pool| pool.pool == name);
        report
            .services
            .retain(|service| service.is_served_by(name) || service.standby.iter().any(|pool| pool == name));
        report.tunnels.clear();
        if report.pools.is_empty() {
            return Err(CliError::Refused { problem: Box::new(no_such_pool(name, &names)), file: None });
        }
    }
    Ok(report)
}

fn no_such_pool(name: &str, known: &[String]) -> Problem {
    let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
    Problem {
        kind: "not_found".to_owned(),
        title: "There is no such thing".to_owned(),
        status: 404,
        detail: format!("there is no pool `{name}`; pools: {known}"),
        mistakes: Vec::new(),
    }
}

/// The report without what changes all the time: how long ago, and how fast.
fn verdicts(report: &HealthReport) -> HealthReport {
    let mut report = report.clone();
    report.pools.iter_mut().for_each(|pool| pool.latency_us = None);
    for endpoint in report.pools.iter_mut().flat_map(|pool| &mut pool.endpoints) {
        endpoint.since_secs = None;
        endpoint.round_trip_us = None;
        (endpoint.live_flows, endpoint.share_percent) = (None, None);
        endpoint.monitors.iter_mut().for_each(|monitor| monitor.round_trip_us = None);
        endpoint.drain.as_mut().into_iter().for_each(hide_progress);
    }
    report.removed.iter_mut().map(|removed| &mut removed.drain).for_each(hide_progress);
    for tunnel in &mut report.tunnels {
        tunnel.since_secs = None;
        tunnel.round_trip_us = None;
    }
    report
}

fn hide_progress(drain: &mut Drain) {
    *drain = Drain { secs_left: drain.secs_left.min(1), pinned_flows: 0 };
}

fn render(report: &HealthReport, width: Option<u16>) -> String {
    if report.pools.is_empty() && report.tunnels.is_empty() {
        return "no pools configured\n".to_owned();
    }
    let mut pools = Table::new(["POOL", "STATE", "HEALTHY", "MONITOR"]);
    for pool in &report.pools {
        pools.row([
            cell(&pool.pool),
            pool.state.as_str().to_owned() + if pool.panic { " (panic: health ignored)" } else { "" },
            healthy_of_enabled(pool),
            pool.monitor.clone().unwrap_or_else(|| "none".to_owned()),
        ]);
    }
    let endpoints = report.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |e| (pool, e)));
    let endpoints = endpoint_table(endpoints.map(|(pool, endpoint)| (pool.pool.as_str(), endpoint)));
    let (removed, tunnels) = (removed_table(&report.removed), tunnel_table(&report.tunnels));
    let regions = region_table(&report.services);
    let tables = [pools, service_table(&report.services), regions, endpoints, removed, tunnels];
    let shown = tables.iter().filter(|table| !table.is_empty());
    shown.map(|table| table.render(width)).collect::<Vec<_>>().join("\n")
}

/// Services that have a choice of pools.
fn service_table(services: &[ServiceHealth]) -> Table {
    let mut table = Table::new(["SERVICE", "SERVED BY", "STANDBY"]);
    for service in services.iter().filter(|one| one.serving.len() + one.standby.len() > 1) {
        let fallback = if service.fallback { " (fallback)" } else { "" };
        table.row([
            cell(&service.service),
            service.serving.join(", ") + fallback,
            maybe((!service.standby.is_empty()).then(|| service.standby.join(", "))),
        ]);
    }
    table
}

/// Services that tell regions apart: who serves clients of each.
pub fn region_table(services: &[ServiceHealth]) -> Table {
    let mut table = Table::new(["SERVICE", "REGION", "POOLS", "SERVED BY"]);
    for service in services {
        for RegionServing { region, pools, serving, fallback } in &service.regions {
            let fallback = if *fallback { " (fallback)" } else { "" };
            table.row([
                cell(&service.service),
                cell(region),
                cell(pools.join(", ")),
                serving.join(", ") + fallback,
            ]);
        }
    }
    table
}

/// Verdicts on tunnels.
pub fn tunnel_table<'a>(tunnels: impl IntoIterator<Item = &'a TunnelHealth>) -> Table {
    let mut table = Table::new(["TUNNEL", "GATEWAY", "MONITOR", "STATE", "SINCE", "RTT", "REASON"]);
    for tunnel in tunnels {
        table.row([
            format!("{}/{}", tunnel.virtual_network, tunnel.tunnel),
            cell(&tunnel.address),
            cell(&tunnel.monitor),
            cell(tunnel.state.as_str()),
            maybe(tunnel.since_secs.map(span)),
            maybe(tunnel.round_trip_us.map(round_trip)),
            cell(&tunnel.reason),
        ]);
    }
    table
}

/// `2/3`: healthy endpoints of the enabled ones.
pub fn healthy_of_enabled(pool: &PoolHealth) -> String {
    let count = |wanted: &[HealthState]| pool.endpoints.iter().filter(|e| wanted.contains(&e.state)).count();
    let disabled = count(&[HealthState::Disabled]);
    format!("{}/{}", count(&[HealthState::Healthy]), pool.endpoints.len().saturating_sub(disabled))
}

/// Endpoints that are not configured any more.
fn removed_table(removed: &[RemovedEndpoint]) -> Table {
    let mut table = Table::new(["REMOVED ENDPOINT", "VNET", "DRAIN", "PINNED FLOWS"]);
    for RemovedEndpoint { virtual_network, address, drain } in removed {
        table.row([
            cell(address),
            maybe(virtual_network.as_ref()),
            drain_left(*drain),
            cell(drain.pinned_flows),
        ]);
    }
    table
}

/// How long an endpoint keeps its flows.
pub fn drain_left(drain: Drain) -> String {
    if drain.secs_left == 0 { "over".to_owned() } else { format!("{} left", span(drain.secs_left)) }
}

/// Verdicts on endpoints, each with its pool's name.
pub fn endpoint_table<'a>(endpoints: impl Iterator<Item = (&'a str, &'a EndpointHealth)>) -> Table {
    let mut table = Table::new(["ENDPOINT", "VNET", "ADDRESS", "STATE", "SINCE", "RTT", "DRAIN", "REASON"]);
    for (pool, endpoint) in endpoints {
        table.row([
            format!("{pool}/{}", endpoint.endpoint),
            cell(&endpoint.virtual_network),
            cell(&endpoint.address),
            cell(endpoint.state.as_str()),
            endpoint.since_secs.map_or_else(|| NOTHING.to_owned(), span),
            maybe(endpoint.round_trip_us.map(round_trip)),
            maybe(endpoint.drain.map(drain_left)),
            cell(&endpoint.reason),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn pools_come_first_then_endpoints_with_reasons() {
        assert_eq!(
            render(&samples::health(), None),
            "POOL  STATE     HEALTHY  MONITOR\n\
             web   critical  0/1      tcp1\n\
             web6  healthy   1/1      none\n\
             \n\
             ENDPOINT  VNET  ADDRESS       STATE      SINCE  RTT    DRAIN        REASON\n\
             web/a     east  10.0.0.10:80  unhealthy  1h 1m  1.2ms  -            connection refused\n\
             web/b     east  10.0.0.11     disabled   -      -      -            -\n\
             web6/a    west  [fd00::1]:80  healthy    -      -      4m 50s left  -\n\
             \n\
             REMOVED ENDPOINT  VNET  DRAIN    PINNED FLOWS\n\
             [fd00::9]:80      west  9s left             2\n\
             \n\
             TUNNEL  GATEWAY         MONITOR  STATE    SINCE  RTT    REASON\n\
             west/b  [fd00::254]:22  tcp1     healthy  1m 1s  250us  -\n"
        );
        assert_eq!(render(&HealthReport::default(), None), "no pools configured\n");
    }

    #[test]
    fn only_a_new_verdict_counts_as_a_change() {
        let mut later = samples::health();
        later.pools[0].endpoints[0].since_secs = Some(3662);
        later.tunnels[0].since_secs = Some(62);
        assert_eq!(verdicts(&later), verdicts(&samples::health()));
        later.pools[0].endpoints[0].state = HealthState::Healthy;
        assert_ne!(verdicts(&later), verdicts(&samples::health()));
    }
}
