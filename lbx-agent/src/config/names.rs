//! Names and paths: the form of names, look-up of references, and how a place is written.

use std::{cell::Cell, collections::HashMap};

/// Longest name.
const MAX_CHARS: usize = 63;
/// How many names a message lists at most.
const MAX_LISTED: usize = 10;
/// How many names a wrong one is compared with, and how often, at most.
const MAX_COMPARED: usize = 1000;
const MAX_HINTS: usize = 100;

/// `path.field`, or `field` at the top.
pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Whether `name` is one that an object may have; else what is wrong with it.
pub fn check(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && name.chars().all(inner) && name.len() <= MAX_CHARS {
        return Ok(());
    }
    let problem = if name.is_empty() {
        "the name is empty".to_owned()
    } else if name.len() > MAX_CHARS {
        format!("the name has {} characters", name.len())
    } else {
        format!("`{name}` is not a name")
    };
    Err(format!(
        "{problem}: write 1 to {MAX_CHARS} of a-z, 0-9, `.`, `_` and `-`, with a letter or digit in front"
    ))
}

/// The names of one collection.
pub(super) struct Index<'a> {
    places: HashMap<&'a str, usize>,
    names: Vec<&'a str>,
    /// Hints still to be given: the search for one is slow.
    hints: Cell<usize>,
}

impl<'a> Index<'a> {
    /// Of equal names the first counts.
    pub(super) fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        let mut places = HashMap::with_capacity(names.len());
        for (place, name) in names.iter().enumerate() {
            places.entry(*name).or_insert(place);
        }
        Self { places, names, hints: Cell::new(MAX_HINTS) }
    }

    /// Place of the object called `name`; else a message that lists what there is.
    pub(super) fn find(&self, kind: &str, name: &str) -> Result<usize, String> {
        self.places.get(name).copied().ok_or_else(|| self.missing(kind, name))
    }

    fn missing(&self, kind: &str, name: &str) -> String {
        if self.names.is_empty() {
            return format!("there is no {kind} `{name}`: none is configured");
        }
        let near = (self.hints.get() > 0).then(|| closest(name, &self.names)).flatten();
        self.hints.set(self.hints.get().saturating_sub(1));
        let hint = near.map(|near| format!(" Did you mean `{near}`?"));
        format!("there is no {kind} `{name}`, only {}.{}", list(&self.names), hint.unwrap_or_default())
    }
}

/// The candidate that `word` may be a slip for.
pub(super) fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Words from outside may be of any length, and the comparison takes the product of both.
    if word.len() > MAX_CHARS {
        return None;
    }
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let near = candidates.iter().take(MAX_COMPARED).map(|candidate| (distance(candidate), *candidate));
    let nearest = near.min()?;
    (nearest.0 <= 2 && nearest.0 < word.len()).then_some(nearest.1)
}

/// The names, quoted, with an end to a long list.
pub(super) fn list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    let mut text = shown.join(", ");
    if names.len() > MAX_LISTED {
        text = format!("{text} and {} more", names.len() - MAX_LISTED);
    }
    text
}
