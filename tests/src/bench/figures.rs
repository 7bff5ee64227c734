//! Figures of a run: names, values, units, and whether they are what the project promises itself.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;

use super::report::machine;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
    met: Option<bool>,
}

impl Figure {
    /// A figure that nothing is promised of.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value: rounded(value), unit, target: None, met: None }
    }

    /// The same, which should be at most `target`.
    #[must_use]
    pub fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), met: Some(self.value <= target), ..self }
    }
}

/// Figures of one run.
#[derive(Debug, Clone, Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// `{"cases": […], "machine": …}`
    pub fn to_json(&self) -> serde_json::Value {
        json!({"cases": self.0, "machine": machine()})
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = plain_table(["CASE", "VALUE", "UNIT", "TARGET", "MET"]);
        for figure in &self.0 {
            table.add_row([
                figure.name.clone(),
                figure.value.to_string(),
                figure.unit.to_owned(),
                figure.target.map_or_else(|| "-".to_owned(), |target| target.to_string()),
                figure.met.map_or("-", |met| if met { "yes" } else { "no" }).to_owned(),
            ]);
        }
        for column in [1, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
        f.write_str(&table.trim_fmt())
    }
}

/// A table without lines.
pub fn plain_table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).force_no_tty();
    table.set_header(header);
    table
}

/// Something at a share of samples from the smallest on; 0 where there are none.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

/// Three digits, or all in front of the point: more is noise.
fn rounded(value: f64) -> f64 {
    let steps = match value.abs() {
        ..10.0 => 100.0,
        10.0..100.0 => 10.0,
        _ => 1.0,
    };
    (value * steps).round() / steps
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What `work` makes, and how many milliseconds that took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let made = work();
    (made, ms(begin.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_target_is_not_met() {
        let met = |value: f64| Figure::new("x", value, "ms").at_most(10.0).met;
        assert_eq!((met(10.0), met(10.06), met(3.0)), (Some(true), Some(false), Some(true)));
        assert_eq!(Figure::new("x", 3.0, "ms").met, None);
        let table = Figures(vec![Figure::new("one", 1234.4, "ms").at_most(5.0)]).to_string();
        assert!(
            table.lines().nth(1).unwrap().split_whitespace().eq(["one", "1234", "ms", "5", "no"]),
            "{table}"
        );
    }

    #[test]
    fn quantiles_are_samples() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&samples, share).to_string()), ["1", "3", "5"]);
        assert!(quantile(&[], 0.5) == 0.0);
    }
}
