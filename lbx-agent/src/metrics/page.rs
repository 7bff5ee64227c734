//! A page under construction.

use prometheus::{Encoder as _, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder, core::Collector};

/// All that one scrape gets.
pub(super) struct Page(Registry);

/// Values by labels that only grow.
pub(super) struct Counter(IntCounterVec);

/// Values by labels.
pub(super) struct Gauge(GaugeVec);

impl Page {
    pub(super) fn new() -> Self {
        Self(Registry::new())
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Counter> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add(Box::new(counter.clone()))?;
        Ok(Counter(counter))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Gauge> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.add(Box::new(gauge.clone()))?;
        Ok(Gauge(gauge))
    }

    pub(super) fn add(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.0.register(collector)
    }

    pub(super) fn text(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Counter {
    /// The labels are as many as the counter has.
    pub(super) fn add(&mut self, labels: &[&str], count: u64) {
        self.0.with_label_values(labels).inc_by(count);
    }
}

impl Gauge {
    /// The labels are as many as the gauge has.
    pub(super) fn set(&mut self, labels: &[&str], value: f64) {
        self.0.with_label_values(labels).set(value);
    }
}
