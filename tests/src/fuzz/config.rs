//! Any text as a configuration: it is refused with mistakes that can be shown, or it is one that comes out the same
//! when it is written down and read again, and that the planner brings into the maps in one pass.

use std::collections::BTreeMap;

use lbx_agent::{
    config,
    dataplane::{FakeMemory, Image, NoCounters, Sizes, apply, diff},
};
use lbx_common::api::{Limits, Mistake};

use crate::lab::{Devices, planned};

/// As many as texts of a few kilobytes can ask for. What the text says of them counts for nothing here: memory
/// follows from it and no more.
const SMALL: Limits = Limits {
    listeners: 256,
    endpoints: 256,
    tunnels: 64,
    virtual_networks: 64,
    table_slots: 65_536,
    prefixes: 256,
    fragments: 1,
    pins: 64,
    affinities: 64,
};

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match config::load_yaml(text) {
        Ok(config) => config,
        Err(mistakes) => return shown(text, &mistakes),
    };
    let written = serde_yaml::to_string(&config).unwrap_or_else(|error| panic!("cannot be written: {error}"));
    match config::load_yaml(&written) {
        Ok(again) => assert!(again == config, "{config:?}\nwritten as\n{written}\nis read as\n{again:?}"),
        Err(mistakes) => panic!("{config:?}\nwritten as\n{written}\nis refused: {mistakes:?}"),
    }
    let mut model = match config::load_model(text) {
        Ok(model) => model,
        Err(mistakes) => return shown(text, &mistakes),
    };
    model.limits = SMALL;
    let devices = Devices::imagined();
    // What does not fit is said; where it does, there is nothing left to do after one pass.
    let Ok(image) = planned(&model, &devices, &[], &BTreeMap::new(), &Image::default()) else { return };
    let sizes = Sizes::new(&model.limits);
    let mut memory = FakeMemory::new(|map| sizes.of(map));
    let steps = diff(&Image::observe(&memory), &image);
    apply(&mut memory, &mut NoCounters, &steps).unwrap_or_else(|error| panic!("not applied: {error}"));
    let left = diff(&Image::observe(&memory), &image);
    assert!(left.is_empty(), "after one pass is left {left:?}");
}

/// Mistakes have a text, and a place that is in the file.
fn shown(text: &str, mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty(), "refused without a word");
    // YAML 1.2 §5.4
    let lines = 1 + text.chars().filter(|c| matches!(c, '\n' | '\r')).count();
    for mistake in mistakes {
        assert!(!mistake.message.trim().is_empty(), "{mistake:?}");
        assert!(
            mistake.line.is_none_or(|line| (1..=lines).contains(&(line as usize))),
            "{mistake:?} in {lines} lines"
        );
    }
}
