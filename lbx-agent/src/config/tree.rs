//! A YAML document as a tree that knows the line and column of everything in it.
//!
//! Bounded: size, depth, number of nodes and the growth by aliases are limited before memory is spent.

use std::{collections::HashMap, fmt};

use lbx_common::api::Mistake;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_yaml::{
    Error, Location, SnippetMode, Spanned,
    budget::BudgetBreach,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

use super::{MAX_BYTES, MAX_MISTAKES, explain::shorten, names::join};

/// 65,535 endpoints with every field written out are 850,000 nodes.
const MAX_NODES: usize = 1_000_000;
/// The configuration is 4 levels deep; merge keys and mistakes may add some.
const MAX_DEPTH: usize = 24;
/// What aliases may add to the document.
const MAX_ALIASED_EVENTS: usize = 100_000;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: u32,
    column: u32,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: narrow(location.line()), column: narrow(location.column()) }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    place: Place,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Field>),
}

#[derive(Debug)]
struct Field {
    name: String,
    place: Place,
    value: Node,
}

/// One step from a node to one inside it.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

fn write(path: &[Step<'_>]) -> String {
    path.iter().fold(String::new(), |path, step| match step {
        Step::Field(name) => join(&path, &shorten(name)),
        Step::Item(index) => format!("{path}[{index}]"),
    })
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    parse_bounded(text, MAX_NODES)
}

/// Reads one YAML document of at most `max_nodes` values.
pub(super) fn parse_bounded(text: &str, max_nodes: usize) -> Result<Node, Mistake> {
    if text.len() > MAX_BYTES {
        let message = format!("the document has {} bytes; {MAX_BYTES} is the most that is read", text.len());
        return Err(Mistake::new("", message));
    }
    let budget = serde_yaml::budget! {
        max_nodes: max_nodes,
        max_events: max_nodes.saturating_mul(2),
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_documents: 1,
        max_total_scalar_bytes: MAX_BYTES,
        max_total_comment_bytes: MAX_BYTES,
    };
    let alias_limits = serde_yaml::alias_limits! { max_total_replayed_events: MAX_ALIASED_EVENTS };
    let options = serde_yaml::options! {
        budget: budget,
        alias_limits: alias_limits,
        // Duplicates are found below, all of them and not only the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        // No field takes them; as text they get a mistake of their own.
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(Place::from).filter(|place| place.line != 0);
        let message = if let Error::Budget { breach, .. } = error.without_snippet() {
            if let BudgetBreach::Documents { .. } = breach {
                "`---` begins a second document: keep one".to_owned()
            } else {
                "the document is larger or deeper than any configuration can be".to_owned()
            }
        } else {
            let plain = serde_yaml::render_options! { snippets: SnippetMode::Off };
            let rendered = error.render_with_options(plain);
            format!("this is not YAML that can be read: {}", without_place(&rendered))
        };
        Mistake {
            path: String::new(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            message,
        }
    })
}

/// The parser ends its messages with ` at line N, column M`, which the mistake carries already.
fn without_place(message: &str) -> &str {
    match message.rsplit_once(" at line ") {
        Some((before, after)) if after.chars().all(|c| c.is_ascii_digit() || ", column".contains(c)) => {
            before
        }
        _ => message,
    }
}

impl Node {
    /// The same without places. Of duplicate fields the first counts.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Mapping(fields) => {
                let mut map = Map::with_capacity(fields.len());
                for field in fields {
                    map.entry(&field.name).or_insert_with(|| field.value.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// A mistake for each field that is given more than once, located.
    pub(super) fn duplicates(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        self.collect_duplicates(&mut Vec::new(), &mut mistakes);
        mistakes
    }

    /// `path` is written out for a mistake only: hostile names may be long and nodes many.
    fn collect_duplicates<'a>(&'a self, path: &mut Vec<Step<'a>>, mistakes: &mut Vec<Mistake>) {
        match &self.content {
            Content::Scalar(_) => {}
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Item(index));
                    item.collect_duplicates(path, mistakes);
                    path.pop();
                }
            }
            Content::Mapping(fields) => {
                let mut first: HashMap<&str, u32> = HashMap::with_capacity(fields.len());
                for field in fields {
                    path.push(Step::Field(&field.name));
                    if let Some(line) = first.get(field.name.as_str()) {
                        if mistakes.len() < MAX_MISTAKES {
                            let name = shorten(&field.name);
                            mistakes.push(Mistake {
                                path: write(path),
                                line: Some(field.place.line),
                                column: Some(field.place.column),
                                message: format!("`{name}` was given before, in line {line}: keep one"),
                            });
                        }
                    } else {
                        first.insert(&field.name, field.place.line);
                        field.value.collect_duplicates(path, mistakes);
                    }
                    path.pop();
                }
            }
        }
    }

    /// Fills in the place of each mistake that has none and sorts them as a reader meets them.
    pub(super) fn locate(&self, mistakes: &mut [Mistake]) {
        for mistake in mistakes.iter_mut().filter(|mistake| mistake.line.is_none()) {
            let place = self.place_of(&mistake.path);
            mistake.line = Some(place.line);
            mistake.column = Some(place.column);
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    }

    /// Place of what `path` names, else of the nearest thing around it that exists. The place of a field
    /// is that of its name.
    fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let found = match &node.content {
                Content::Scalar(_) => None,
                Content::List(items) => {
                    let index = step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok());
                    index.and_then(|index| items.get(index)).map(|item| (item.place, item))
                }
                Content::Mapping(fields) => {
                    fields.iter().find(|field| field.name == step).map(|field| (field.place, &field.value))
                }
            };
            let Some(found) = found else { break };
            (place, node) = found;
        }
        place
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { place: referenced.into(), content: value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    // Numbers that JSON cannot hold stay text: no field takes them, and the message then shows them.
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Content, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Content, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).map(Value::Number);
        Ok(Content::Scalar(number.unwrap_or_else(|| Value::String(value.to_string()))))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Content, E> {
        Ok(Content::Scalar(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(Spanned { value: name, referenced, .. }) = access.next_key::<Spanned<String>>()? {
            let value = access.next_value()?;
            fields.push(Field { name, place: referenced.into(), value });
        }
        Ok(Content::Mapping(fields))
    }
}
