//! From text to a validated model, with every mistake reported at once.
//!
//! Three steps: [`load_yaml`] (or [`decode`] for a JSON body) reads the shape, [`validate`] checks that
//! the whole makes sense, and [`locate`] gives mistakes their place in the file. Nothing here opens a
//! file or talks to the kernel.

mod decode;
mod diff;
mod explain;
mod names;
mod object;
mod sources;
mod tree;
mod validate;

pub mod model;

use lbx_common::api::{Config, Mistake};

pub use decode::{decode, decode_object};
pub use diff::diff;
pub(crate) use explain::shorten;
pub(crate) use names::check as check_name;
pub use object::Object;
pub use sources::{Sources, sources_of};
pub use validate::validate;

use model::Model;

/// Longest configuration that is read, in bytes: three times what 65,535 endpoints take.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most mistakes that are reported at once. Nobody reads more, and hostile input must not cost memory.
const MAX_MISTAKES: usize = 1000;

/// Reads a configuration file. Reports every mistake of shape, sorted by line.
pub fn load_yaml(text: &str) -> Result<Config, Vec<Mistake>> {
    load_tree(text).map(|(config, _)| config)
}

/// Reads and validates a configuration file: all mistakes of shape, else all mistakes of meaning, with
/// their lines.
pub fn load_model(text: &str) -> Result<Model, Vec<Mistake>> {
    let (config, tree) = load_tree(text)?;
    validate(config).map_err(|mut mistakes| {
        tree.locate(&mut mistakes);
        mistakes
    })
}

/// Fills in line and column of mistakes that were found after `text` was read. A mistake about something
/// that is absent gets the place of what it is absent from. Without effect when `text` is no YAML.
pub fn locate(text: &str, mistakes: &mut [Mistake]) {
    if let Ok(tree) = tree::parse(text) {
        tree.locate(mistakes);
    }
}

fn load_tree(text: &str) -> Result<(Config, tree::Node), Vec<Mistake>> {
    let tree = tree::parse(text).map_err(|mistake| vec![mistake])?;
    let mut mistakes = tree.duplicates();
    match decode(tree.to_json()) {
        Ok(config) if mistakes.is_empty() => Ok((config, tree)),
        Ok(_) => Err(mistakes),
        Err(more) => {
            mistakes.extend(more);
            tree.locate(&mut mistakes);
            mistakes.truncate(MAX_MISTAKES);
            Err(mistakes)
        }
    }
}

#[cfg(test)]
mod tests;
