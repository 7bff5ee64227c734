//! What the API answers when it refuses something: RFC 9457 problem documents.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One mistake in a configuration: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mistake {
    /// Place in the configuration, as `pools[0].endpoints[1].address`. Empty = the whole document.
    pub path: String,
    /// Line in the file, from 1, where the configuration came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Mistake {
    /// A mistake at `path`, not yet located in a file.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, column: None, message: message.into() }
    }
}

impl Mistake {
    /// The mistake at its place in a file, as `FILE:LINE:COLUMN: …`, which editors and terminals know how to
    /// open.
    pub fn in_file(&self, file: &str) -> String {
        let numbers = [self.line, self.column].into_iter().flatten().map(|number| format!(":{number}"));
        let place = numbers.collect::<String>();
        let unplaced = Self { line: None, column: None, ..self.clone() };
        format!("{file}{place}: {unplaced}")
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// RFC 9457 problem document (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Kind of problem, stable: `invalid`, `not_found`, `exists`, `referenced`, `conflict`, `read_only`,
    /// `not_allowed` (no such method here), `failed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text for a person.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here and what would be right.
    pub detail: String,
    /// Every mistake, where the problem is an invalid configuration; every referrer, where it is `referenced`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}
