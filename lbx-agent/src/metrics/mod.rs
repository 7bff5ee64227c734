//! `GET /metrics`: what the agent and its data plane count, for Prometheus (text format 0.0.4).
//!
//! Everything comes from the reports that the API gives as well, but what only the agent itself can count ([`own`]).
//! A page is made for each scrape; names and units follow Prometheus' conventions.

pub mod own;
mod page;
mod server;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use lbx_common::api::{
    ChangeState, HealthReport, HealthState, LinkState, PoolHealth, PoolState, StatsReport, StatusReport,
    Traffic,
};

use self::page::Page;
pub use self::server::{ListenError, listen, serve};
use crate::control::{Control, RefusedError};

/// What the `Content-Type` of a page says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asks the agent, and makes the page.
pub async fn scrape(control: &impl Control) -> Result<String, RefusedError> {
    let (stats, health) = (control.stats().await?, control.health().await?);
    let node = control.status().await?;
    // A second of work where endpoints are ten thousand: not on a thread that probes are waiting for.
    let page = tokio::task::spawn_blocking(move || render(&stats, &health, &node)).await;
    let failed = |error: &dyn Display| RefusedError::Failed(format!("no page of metrics: {error}"));
    page.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// The page of three reports.
fn render(stats: &StatsReport, health: &HealthReport, node: &StatusReport) -> prometheus::Result<String> {
    let mut page = Page::new();
    agent(&mut page, node)?;
    traffic(&mut page, stats)?;
    verdicts(&mut page, health)?;
    kernel(&mut page, node)?;
    own::add_to(&page)?;
    page.text()
}

fn agent(page: &mut Page, status: &StatusReport) -> prometheus::Result<()> {
    let abi = status.abi_version.to_string();
    page.gauge("lbx_build_info", "Version of the agent and of its map layout.", &["version", "abi"])?
        .set(&[&status.version, &abi], 1.0);
    page.gauge("lbx_uptime_seconds", "Time since the agent started.", &[])?
        .set(&[], as_f64(status.uptime_secs));
    page.gauge("lbx_config_revision", "Revision of the configuration in force.", &[])?
        .set(&[], as_f64(status.revision));
    page.counter("lbx_map_writes_total", "Writes to kernel maps since the agent started.", &[])?
        .add(&[], status.map_writes);
    let mut interfaces = page.gauge(
        "lbx_interface_up",
        "Whether an interface is up and lbx attached to it.",
        &["interface", "role"],
    )?;
    for one in &status.interfaces {
        let up = one.link == LinkState::Up && one.mode.is_some();
        interfaces.set(&[&one.name, one.role.as_str()], truth(up));
    }
    Ok(())
}

fn traffic(page: &mut Page, stats: &StatsReport) -> prometheus::Result<()> {
    let names = ["service"];
    let mut of_services = Counted::new(page, "service", "of a service", &names)?;
    for one in &stats.services {
        of_services.add(&[&one.service], &one.traffic);
    }
    let names = ["pool", "endpoint", "virtual_network"];
    let mut of_endpoints = Counted::new(page, "endpoint", "of an endpoint", &names)?;
    for one in &stats.endpoints {
        of_endpoints.add(&[&one.pool, &one.endpoint, &one.virtual_network], &one.traffic);
    }
    let names = ["virtual_network", "tunnel"];
    let mut of_tunnels = Counted::new(page, "tunnel", "of services by a tunnel", &names)?;
    for one in &stats.tunnels {
        of_tunnels.add(&[&one.virtual_network, &one.tunnel], &one.traffic);
    }
    let help = "Packets that were dropped, by reason; without a virtual network where they belong to none.";
    let mut drops = page.counter("lbx_dropped_packets_total", help, &["virtual_network", "reason"])?;
    for one in &stats.drops {
        drops.add(&[one.virtual_network.as_deref().unwrap_or_default(), &one.reason], one.packets);
    }
    let help = "What happened to flows that may live elsewhere than their hash says.";
    let mut flows = page.counter("lbx_flow_events_total", help, &["event"])?;
    for one in &stats.flows {
        flows.add(&[&one.event], one.count);
    }
    Ok(())
}

/// Packets, bytes and connection attempts.
struct Counted {
    packets: page::Counter,
    bytes: page::Counter,
    syns: page::Counter,
}

impl Counted {
    fn new(page: &mut Page, what: &str, of: &str, names: &[&str]) -> prometheus::Result<Self> {
        let directed: Vec<&str> = names.iter().copied().chain(["direction"]).collect();
        let counter = |page: &mut Page, unit: &str, help: &str, names: &[&str]| {
            page.counter(&format!("lbx_{what}_{unit}_total"), &format!("{help} {of}."), names)
        };
        Ok(Self {
            packets: counter(page, "packets", "Packets in (to endpoints) and out (to clients)", &directed)?,
            bytes: counter(page, "bytes", "Bytes of inner IP packets in and out", &directed)?,
            syns: counter(page, "tcp_syns", "TCP connection attempts", names)?,
        })
    }

    fn add(&mut self, labels: &[&str], traffic: &Traffic) {
        for (direction, packets, bytes) in
            [("in", traffic.in_packets, traffic.in_bytes), ("out", traffic.out_packets, traffic.out_bytes)]
        {
            let labels: Vec<&str> = labels.iter().copied().chain([direction]).collect();
            self.packets.add(&labels, packets);
            self.bytes.add(&labels, bytes);
        }
        self.syns.add(labels, traffic.tcp_syns);
    }
}

fn verdicts(page: &mut Page, health: &HealthReport) -> prometheus::Result<()> {
    let names = ["pool", "endpoint", "virtual_network"];
    let mut healthy = page.gauge("lbx_endpoint_healthy", "Whether an endpoint is healthy.", &names)?;
    let help = "Round trip of an endpoint's last successful probe.";
    let mut round_trips = page.gauge("lbx_endpoint_probe_round_trip_seconds", help, &names)?;
    let help = "Flows on an endpoint that is drained, and have a pin.";
    let mut draining = page.gauge("lbx_endpoint_draining_flows", help, &names)?;
    let help = "Live flows on an endpoint of a pool with least_connections.";
    let mut live = page.gauge("lbx_endpoint_live_flows", help, &names)?;
    let help = "Mean round trip of probes to a pool's endpoints that take flows.";
    let mut latencies = page.gauge("lbx_pool_probe_round_trip_seconds", help, &["pool"])?;
    let mut up = page.gauge("lbx_pool_up", "Whether a pool is up: healthy or degraded.", &["pool"])?;
    let mut endpoints =
        page.gauge("lbx_pool_endpoints", "Endpoints of a pool by health.", &["pool", "state"])?;
    for pool in &health.pools {
        let is_up = matches!(pool.state, PoolState::Healthy | PoolState::Degraded);
        up.set(&[&pool.pool], truth(is_up));
        if let Some(micros) = pool.latency_us {
            latencies.set(&[&pool.pool], as_f64(micros) / 1e6);
        }
        for (state, count) in by_state(pool) {
            endpoints.set(&[&pool.pool, state.as_str()], count);
        }
        for one in &pool.endpoints {
            let labels = [pool.pool.as_str(), &one.endpoint, &one.virtual_network];
            healthy.set(&labels, truth(one.state == HealthState::Healthy));
            if let Some(micros) = one.round_trip_us {
                round_trips.set(&labels, as_f64(micros) / 1e6);
            }
            if let Some(flows) = one.live_flows {
                live.set(&labels, flows.into());
            }
            if let Some(drain) = one.drain {
                draining.set(&labels, as_f64(drain.pinned_flows));
            }
        }
    }
    let help = "Whether a pool gets new flows of a service.";
    let mut serving = page.gauge("lbx_service_pool_serving", help, &["service", "pool"])?;
    for service in &health.services {
        let of_regions = service.regions.iter().flat_map(|region| &region.serving);
        for pool in service.serving.iter().chain(of_regions) {
            serving.set(&[&service.service, pool], 1.0);
        }
        for pool in &service.standby {
            serving.set(&[&service.service, pool], 0.0);
        }
    }
    let names = ["virtual_network", "tunnel"];
    let mut tunnels =
        page.gauge("lbx_tunnel_healthy", "Whether a tunnel with a monitor is not down.", &names)?;
    for one in &health.tunnels {
        tunnels.set(&[&one.virtual_network, &one.tunnel], truth(one.state != HealthState::Unhealthy));
    }
    Ok(())
}

fn by_state(pool: &PoolHealth) -> [(HealthState, f64); 4] {
    [HealthState::Healthy, HealthState::Unhealthy, HealthState::Unknown, HealthState::Disabled].map(|state| {
        let count = pool.endpoints.iter().filter(|endpoint| endpoint.state == state).count();
        (state, as_f64(u64::try_from(count).unwrap_or(u64::MAX)))
    })
}

fn kernel(page: &mut Page, status: &StatusReport) -> prometheus::Result<()> {
    let mut used = page.gauge("lbx_map_entries", "Entries of a kernel map that are in use.", &["map"])?;
    let mut capacity = page.gauge("lbx_map_capacity", "Entries that a kernel map has room for.", &["map"])?;
    for map in &status.maps {
        used.set(&[&map.map], as_f64(map.used));
        capacity.set(&[&map.map], as_f64(map.capacity));
    }
    let help = "Services whose lookup table is being changed.";
    let mut changes = page.gauge("lbx_table_changes", help, &["state"])?;
    for state in [ChangeState::Open, ChangeState::Closing] {
        let count = status.changes.iter().filter(|change| change.state == state).count();
        changes.set(&[state.as_str()], as_f64(u64::try_from(count).unwrap_or(u64::MAX)));
    }
    let help = "Prefixes of clients that are in a configured region.";
    let mut prefixes = page.gauge("lbx_region_prefixes", help, &["region"])?;
    for one in status.regions.iter().flat_map(|regions| &regions.regions) {
        prefixes.set(&[&one.region], as_f64(one.prefixes));
    }
    let help = "Whether the file of regions counts as it is now.";
    let mut valid = page.gauge("lbx_regions_file_valid", help, &[])?;
    if let Some(regions) = &status.regions {
        valid.set(&[], truth(regions.mistake.is_none()));
    }
    let names = ["virtual_network", "tunnel"];
    let help = "Whether the next hop to a tunnel's gateway is known.";
    let mut resolved = page.gauge("lbx_tunnel_resolved", help, &names)?;
    let mut mtus = page.gauge("lbx_tunnel_inner_mtu_bytes", "Largest inner packet of a tunnel.", &names)?;
    for one in &status.tunnels {
        let labels = [one.virtual_network.as_str(), &one.tunnel];
        resolved.set(&labels, truth(one.next_hop.is_some()));
        mtus.set(&labels, f64::from(one.inner_mtu));
    }
    Ok(())
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Prometheus has no integers but in counters.
#[expect(clippy::cast_precision_loss, reason = "above 2^53 nobody counts single ones")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}
