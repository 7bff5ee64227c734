//! Medians of all rounds, and differences to the way without a balancer, which saw the same moment.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::{Sample, load::Datagrams, ways::Way};
use crate::bench::{
    figures::{plain_table, quantile},
    report::machine,
};

/// Median of a figure in all rounds, and how far its rounds are apart.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    p10: f64,
    p90: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let [p10, median, p90] = [0.1, 0.5, 0.9].map(|share| hundredths(quantile(samples, share)));
        Self { median, p10, p90 }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Something that each round has a time of.
#[derive(Debug, Clone, Serialize)]
struct Rate {
    per_second: Spread,
    /// Microseconds that each takes.
    us: Spread,
    /// The same, without what `direct` took in the same round.
    over_direct_us: Spread,
    /// How many times as long as with lbx in the same round.
    times_lbx: Spread,
}

impl Rate {
    /// From the times of one way, of `direct` and of lbx, by round.
    fn of(own: &[f64], direct: &[f64], lbx: &[f64]) -> Self {
        let with = |other: &[f64], both: fn(f64, f64) -> f64| -> Spread {
            Spread::of(&own.iter().zip(other).map(|(own, other)| both(*own, *other)).collect::<Vec<_>>())
        };
        Self {
            per_second: Spread::of(&own.iter().map(|us| 1e6 / us).collect::<Vec<_>>()),
            us: Spread::of(own),
            over_direct_us: with(direct, |own, direct| own - direct),
            times_lbx: with(lbx, |own, lbx| own / lbx),
        }
    }

    fn cells(&self) -> [String; 6] {
        let Self { per_second, us, over_direct_us, times_lbx } = self;
        let whole = |value: f64| format!("{value:.0}");
        let exact = |value: f64| format!("{value:.2}");
        [
            whole(per_second.median),
            exact(us.median),
            exact(over_direct_us.median),
            exact(times_lbx.median),
            exact(times_lbx.p10),
            exact(times_lbx.p90),
        ]
    }
}

/// Figures of one way.
#[derive(Debug, Clone, Serialize)]
struct Line {
    name: &'static str,
    connections: Rate,
    latency_p50_us: Spread,
    latency_p99_us: Spread,
    /// Absent where the way has no UDP.
    packets: Option<Rate>,
    /// Share of packets that did not arrive.
    packets_lost: Option<f64>,
    /// What reached each origin in all rounds: connections and packets.
    origin_connections: [u64; 2],
    origin_packets: [u64; 2],
    /// What the way itself counted of both.
    counted_connections: Option<u64>,
    counted_packets: Option<u64>,
}

/// All figures of a run.
#[derive(Debug, Clone)]
pub struct Comparison(Vec<Line>);

type Samples = (Way, Vec<Sample>);

impl Comparison {
    /// From the rounds of all ways.
    pub(super) fn of(all: &[Samples]) -> Result<Self> {
        let rounds = |way: Way| -> Result<&[Sample]> {
            let found = all.iter().find(|(one, _)| *one == way);
            Ok(&found.with_context(|| format!("{} was not measured", way.name()))?.1)
        };
        let (direct, lbx) = (rounds(Way::Direct)?, rounds(Way::Lbx)?);
        Ok(Self(all.iter().map(|(way, own)| Line::of(*way, own, direct, lbx)).collect()))
    }

    /// `{"ways": […], "machine": …}`
    pub fn to_json(&self) -> serde_json::Value {
        json!({"ways": self.0, "machine": machine()})
    }
}

impl Line {
    fn of(way: Way, own: &[Sample], direct: &[Sample], lbx: &[Sample]) -> Self {
        let connection = |samples: &[Sample]| samples.iter().map(|one| one.connection_us).collect::<Vec<_>>();
        let datagrams = |samples: &[Sample], of: fn(Datagrams) -> f64| {
            samples.iter().filter_map(|one| one.datagrams.map(of)).collect::<Vec<_>>()
        };
        let packet = |samples: &[Sample]| datagrams(samples, |all| all.packet_us);
        let latency = |share: f64| {
            Spread::of(&own.iter().map(|one| quantile(&one.latencies_us, share)).collect::<Vec<_>>())
        };
        let both = |of: fn(&Sample) -> [u64; 2]| {
            own.iter().map(of).fold([0; 2], |[a, b], [more_a, more_b]| [a + more_a, b + more_b])
        };
        Self {
            name: way.name(),
            connections: Rate::of(&connection(own), &connection(direct), &connection(lbx)),
            latency_p50_us: latency(0.5),
            latency_p99_us: latency(0.99),
            packets: way.has_udp().then(|| Rate::of(&packet(own), &packet(direct), &packet(lbx))),
            packets_lost: way.has_udp().then(|| quantile(&datagrams(own, |all| all.lost), 0.5)),
            origin_connections: both(|one| one.connections),
            origin_packets: both(|one| one.packets),
            counted_connections: own.iter().map(|one| one.counted.connections).sum(),
            counted_packets: own.iter().map(|one| one.counted.packets).sum(),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RATE: [&str; 6] = ["PER SECOND", "US", "OVER DIRECT", "TIMES LBX", "P10", "P90"];
        let [rate, us, over, times, p10, p90] = RATE;
        let mut tcp =
            plain_table(["TCP CONNECTIONS", rate, us, over, times, p10, p90, "REQUEST P50 US", "P99 US"]);
        let mut udp = plain_table(["UDP PACKETS", rate, us, over, times, p10, p90, "LOST"]);
        for line in &self.0 {
            let latencies = [line.latency_p50_us, line.latency_p99_us].map(|us| format!("{:.1}", us.median));
            tcp.add_row([line.name.to_owned()].into_iter().chain(line.connections.cells()).chain(latencies));
            let none = || ["-"; 6].map(str::to_owned);
            let cells = line.packets.as_ref().map_or_else(none, Rate::cells);
            let lost =
                line.packets_lost.map_or_else(|| "-".to_owned(), |lost| format!("{:.2} %", lost * 100.0));
            udp.add_row([line.name.to_owned()].into_iter().chain(cells).chain([lost]));
        }
        for column in tcp.column_iter_mut().skip(1).chain(udp.column_iter_mut().skip(1)) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        write!(f, "{}\n\n{}", tcp.trim_fmt(), udp.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_compared_with_what_saw_the_same_moment() {
        let rate = Rate::of(&[5.0, 20.0, 7.0], &[2.0, 14.0, 3.0], &[4.0, 10.0, 7.0]);
        let medians = [rate.us, rate.over_direct_us, rate.times_lbx].map(|spread| spread.median.to_string());
        assert_eq!(medians, ["7", "4", "1.25"]);
        assert_eq!(rate.cells(), ["142857", "7.00", "4.00", "1.25", "1.00", "2.00"]);
    }
}
