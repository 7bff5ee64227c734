//! How answers look: aligned tables for people, JSON and YAML for programs. Makes strings and prints them;
//! never asks the agent anything.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};
use serde::Serialize;

use crate::error::CliError;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    Table,
    /// JSON for programs
    Json,
    /// YAML
    Yaml,
}

impl Format {
    /// `value` as JSON or YAML; `None` where a table is wanted.
    pub fn structured(self, value: &impl Serialize) -> Result<Option<String>, CliError> {
        match self {
            Self::Table => Ok(None),
            Self::Json => serde_json::to_string_pretty(value)
                .map(|text| Some(format!("{text}\n")))
                .map_err(|error| CliError::Local(format!("cannot write JSON: {error}"))),
            Self::Yaml => yaml(value).map(Some),
        }
    }
}

/// `value` as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, CliError> {
    serde_yaml::to_string(value).map_err(|error| CliError::Local(format!("cannot write YAML: {error}")))
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Local(format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether standard output shows colours, and nobody asked for none (see no-color.org).
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal; `None` when standard output is none.
pub fn terminal_width() -> Option<u16> {
    comfy_table::Table::new().width()
}

/// Rows below a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as the header has.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(Vec::from(cells));
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, cells wrapped between words to fit `width` columns; where even that does not fit, each row is
    /// a paragraph. Columns of numbers are aligned right.
    pub fn render(&self, width: Option<u16>) -> String {
        let narrowest: Vec<u16> = (0..self.header.len()).map(|index| self.longest_word(index)).collect();
        let needed: u16 = narrowest.iter().fold(0, |sum, word| sum.saturating_add(word.saturating_add(2)));
        if width.is_some_and(|width| width < needed.saturating_sub(2)) {
            return self.paragraphs();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).force_no_tty().set_header(self.header.clone());
        table.add_rows(self.rows.clone());
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if let Some(&word) = narrowest.get(index) {
                // With its padding.
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(word.saturating_add(2))));
            }
            let mut cells = self.rows.iter().filter_map(|row| row.get(index)).filter(|cell| *cell != NOTHING);
            if self.rows.iter().any(|row| row.get(index).is_some_and(|cell| cell != NOTHING))
                && cells.all(|cell| cell.parse::<f64>().is_ok())
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{}\n", table.trim_fmt())
    }

    /// Characters of the longest word in a column.
    fn longest_word(&self, index: usize) -> u16 {
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(String::as_str);
        let words = cells.chain(self.header.get(index).copied()).flat_map(str::split_whitespace);
        words.map(|word| u16::try_from(word.chars().count()).unwrap_or(u16::MAX)).max().unwrap_or(0)
    }

    /// Each row as lines of a title and what is there, without those that have nothing to say.
    fn paragraphs(&self) -> String {
        let titles = self.header.iter().map(|title| title.chars().count()).max().unwrap_or(0);
        let paragraph = |row: &Vec<String>| {
            let said = self.header.iter().zip(row).filter(|(_, cell)| *cell != NOTHING);
            let lines: Vec<_> = said.map(|(title, cell)| format!("{title:titles$}  {cell}\n")).collect();
            lines.concat()
        };
        self.rows.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }
}

/// A cell with nothing to say.
pub const NOTHING: &str = "-";

/// A cell.
pub fn cell(value: impl Display) -> String {
    let text = value.to_string();
    if text.is_empty() { NOTHING.to_owned() } else { text }
}

/// A cell that may have nothing to say.
pub fn maybe<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), cell)
}

/// A time span in at most its two largest units, as `2h 5m`.
pub fn span(secs: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = secs;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A configured time span, as `1s 500ms`.
pub fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A round trip in a unit that suits it.
pub fn round_trip(micros: u64) -> String {
    if micros < 1000 { format!("{micros}us") } else { format!("{}.{}ms", micros / 1000, micros % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "PORT", "REASON"]);
        table.row([cell("a"), cell(80), cell("connection refused by the endpoint")]);
        table.row([cell("endpoint-b"), maybe(None::<u16>), cell("")]);
        table
    }

    #[test]
    fn tables_are_aligned_and_end_without_blanks() {
        assert_eq!(
            table().render(None),
            "NAME        PORT  REASON\n\
             a             80  connection refused by the endpoint\n\
             endpoint-b     -  -\n"
        );
    }

    #[test]
    fn tables_fit_the_terminal() {
        let text = table().render(Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("endpoint-b"), "{text}");
    }

    #[test]
    fn long_names_and_reasons_break_no_word_and_piped_output_is_whole() {
        let mut table =
            Table::new(["ENDPOINT", "VNET", "ADDRESS", "STATE", "SINCE", "RTT", "DRAIN", "REASON"]);
        let reason = "connection refused by 10.0.0.10:8080 over the tunnel east/gre";
        table.row(
            ["production-web/frontend-1", "east", "10.0.0.10:8080", "unhealthy", "1h 1m", "-", "-", reason]
                .map(cell),
        );
        let text = table.render(Some(110));
        assert!(text.lines().all(|line| line.chars().count() <= 110) && text.lines().count() > 2, "{text}");
        for word in ["ENDPOINT ", "production-web/frontend-1 ", "refused", "10.0.0.10:8080", "unhealthy"] {
            assert!(text.contains(word), "{text}");
        }
        let text = table.render(Some(60));
        assert!(text.starts_with("ENDPOINT  production-web/frontend-1\nVNET      east\nADDRESS "), "{text}");
        assert!(text.ends_with(&format!("SINCE     1h 1m\nREASON    {reason}\n")), "{text}");
        assert!(table.render(None).lines().nth(1).unwrap().ends_with(reason));
    }

    #[test]
    fn times_are_short() {
        let spans: Vec<_> = [0, 59, 61, 3600, 3661, 90_000].map(span).into();
        assert_eq!(spans, ["0s", "59s", "1m 1s", "1h", "1h 1m", "1d 1h"]);
        assert_eq!((round_trip(250), round_trip(12_340)), ("250us".to_owned(), "12.3ms".to_owned()));
    }
}
