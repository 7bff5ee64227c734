//! Whether a configuration makes sense as a whole, and the model of one that does.
//!
//! Each check also resolves what it checked, and leaves out what it cannot resolve after noting why: the
//! pieces are complete exactly when no mistake was noted. All checks run, whatever the others found.

mod address;
mod endpoint;
mod limits;
mod listen;
mod monitor;
mod monitor_fields;
mod node;
mod overlap;
mod policy;
mod pool;
mod region;
mod service;
mod steering;
mod timers;
mod tunnel;
mod vnet;

use std::collections::HashMap;

use lbx_common::api::{Config, Mistake};

use self::address::unicast;
use super::{MAX_MISTAKES, model::Model, names};

/// Checks `config`; returns the model, or every mistake.
pub fn validate(config: Config) -> Result<Model, Vec<Mistake>> {
    let mut report = Report::default();
    node::check(&config, &mut report);
    let monitors = monitor::check(&config, &mut report);
    let vnets = vnet::check(&config, &monitors, &mut report);
    region::check(&config, &mut report);
    let pools = pool::check(&config, &monitors, &mut report);
    let services = service::check(&config, &mut report);
    limits::check(&config, &mut report);
    timers::check(&config, &mut report);
    overlap::check(&config, &mut report);
    if !report.mistakes.is_empty() {
        return Err(report.mistakes);
    }
    Ok(Model {
        interfaces: config.node.interfaces.clone(),
        tunnel_source: config.node.tunnel_source,
        limits: config.limits.clone(),
        timers: config.timers.clone(),
        sampled_one_in: config.node.flow_samples.one_in,
        vnets,
        pools,
        services,
        config,
    })
}

/// The mistakes found so far.
#[derive(Default)]
struct Report {
    mistakes: Vec<Mistake>,
}

impl Report {
    fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(Mistake::new(path, message));
        }
    }

    /// Notes a failed check at `path`; returns what a passed one found.
    fn take<T>(&mut self, path: impl FnOnce() -> String, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.note(path(), message)).ok()
    }

    /// Checks form and uniqueness of the names of the collection at `path`.
    fn names<'a>(&mut self, path: &str, kind: &str, all: impl Iterator<Item = &'a str>) {
        let mut seen = Seen::default();
        for (index, name) in all.enumerate() {
            let here = || format!("{path}[{index}].name");
            match names::check(name) {
                Err(message) => self.note(here(), message),
                Ok(()) => {
                    if let Some(first) = seen.before(name, index) {
                        let message = format!(
                            "the name `{name}` is taken by {path}[{first}]: give each {kind} its own"
                        );
                        self.note(here(), message);
                    }
                }
            }
        }
    }
}

/// Finds what comes twice, and where it came first.
struct Seen<K, P = String>(HashMap<K, P>);

impl<K, P> Default for Seen<K, P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq, P> Seen<K, P> {
    /// Where `key` was seen before; else remembers that it is at `place`.
    fn before(&mut self, key: K, place: P) -> Option<&P> {
        match self.0.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
