//! Figures: medians, and whether they are what the project promises itself.

use std::{fmt, fs};

use serde::Serialize;
use serde_json::json;

use super::{
    cases::{Case, Target},
    figures::{plain_table, quantile},
};

/// Samples of a case in nanoseconds per packet, each with the wrapper in it.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub case: Vec<f64>,
    pub floor: Vec<f64>,
    pub wrapper: Vec<f64>,
}

/// A case's figures in nanoseconds per packet, without the wrapper.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    name: String,
    ns: f64,
    floor_ns: f64,
    over_floor_ns: f64,
    p10_ns: f64,
    p90_ns: f64,
    target_ns: Option<f64>,
    met: Option<bool>,
    #[serde(skip)]
    target: Target,
}

fn tenths(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

impl Line {
    /// From the samples of a case. The wrapper is taken off sample by sample: both saw the same moment.
    pub fn new(case: &Case<'_>, measured: &Measured) -> Self {
        let less = |samples: &[f64], off: &[f64]| -> Vec<f64> {
            samples.iter().zip(off).map(|(sample, off)| sample - off).collect()
        };
        let alone = less(&measured.case, &measured.wrapper);
        let floor = less(&measured.floor, &measured.wrapper);
        let over = less(&measured.case, &measured.floor);
        Self {
            name: case.name.clone(),
            ns: tenths(quantile(&alone, 0.5)),
            floor_ns: tenths(quantile(&floor, 0.5)),
            over_floor_ns: tenths(quantile(&over, 0.5)),
            p10_ns: tenths(quantile(&alone, 0.1)),
            p90_ns: tenths(quantile(&alone, 0.9)),
            target_ns: None,
            met: None,
            target: case.aim,
        }
    }
}

/// All figures of a run.
#[derive(Debug, Clone)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Compares each line with its target, which may be that of another line.
    pub fn new(mut lines: Vec<Line>) -> Self {
        let over = lines.iter().map(|line| (line.name.clone(), line.over_floor_ns)).collect::<Vec<_>>();
        for line in &mut lines {
            let of = |name: &str| over.iter().find(|(other, _)| other == name).map(|(_, ns)| *ns);
            line.target_ns = match line.target {
                Target::None => None,
                Target::Ns(ns) => Some(ns),
                Target::Times(factor, name) => of(name).map(|ns| tenths(ns * factor)),
            };
            line.met = line.target_ns.map(|target| line.over_floor_ns <= target);
        }
        Self { lines }
    }

    /// `{"cases": […], "machine": …}`
    pub fn to_json(&self) -> serde_json::Value {
        json!({"cases": self.lines, "machine": machine()})
    }
}

/// What is measured on.
pub fn machine() -> serde_json::Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let hardened =
        fs::read_to_string("/sys/devices/system/cpu/vulnerabilities/spectre_v2").unwrap_or_default();
    json!({
        "cpu": model.map(|(_, model)| model),
        "cpus": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": kernel.trim(),
        "spectre_v2": hardened.trim(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = plain_table(["CASE", "NS", "P10", "P90", "FLOOR", "OVER FLOOR", "TARGET", "MET"]);
        for line in &self.lines {
            let ns = |ns: f64| format!("{ns:.1}");
            table.add_row([
                line.name.clone(),
                ns(line.ns),
                ns(line.p10_ns),
                ns(line.p90_ns),
                ns(line.floor_ns),
                ns(line.over_floor_ns),
                line.target_ns.map_or_else(|| "-".to_owned(), ns),
                line.met.map_or("-", |met| if met { "yes" } else { "no" }).to_owned(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        f.write_str(&table.trim_fmt())
    }
}
