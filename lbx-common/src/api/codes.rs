//! Response codes of HTTP.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// Codes that are right (RFC 9110 §15), written as `200`, `2xx`, `200-206`, or several of these with commas between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Codes {
    text: String,
    ranges: Vec<RangeInclusive<u16>>,
}

impl Codes {
    /// Whether a code is among them.
    pub fn contains(&self, code: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&code))
    }
}

/// Code 200 alone.
impl Default for Codes {
    fn default() -> Self {
        Self { text: "200".to_owned(), ranges: vec![200..=200] }
    }
}

/// The text is no list of codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no HTTP code: write `200`, `2xx` or `200-206`, or several with commas between; they are 100 to 599"
)]
pub struct CodesError(String);

impl FromStr for Codes {
    type Err = CodesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| range(part).ok_or_else(|| CodesError(part.to_owned()));
        let ranges = text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), ranges })
    }
}

fn range(part: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = part.strip_suffix("xx") {
        let first = code(&format!("{class}00"))?;
        return Some(first..=first + 99);
    }
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (code(first)?, code(last)?);
    (first <= last).then_some(first..=last)
}

fn code(text: &str) -> Option<u16> {
    // Digits alone: `u16` would take a sign as well.
    let digits = text.len() == 3 && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|code| digits && (100..600).contains(code))
}

impl TryFrom<String> for Codes {
    type Error = CodesError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Codes> for String {
    fn from(codes: Codes) -> Self {
        codes.text
    }
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_classes_and_ranges_are_taken_and_kept_as_they_were_written() {
        let text = "200, 3xx,404-406";
        let codes: Codes = text.parse().unwrap();
        assert_eq!(codes.to_string(), text);
        let all: Vec<u16> = (0..1000).filter(|&code| codes.contains(code)).collect();
        assert_eq!(all, [200].into_iter().chain(300..400).chain(404..407).collect::<Vec<_>>());
        assert_eq!("200".parse(), Ok(Codes::default()));
    }

    #[test]
    fn what_is_no_code_is_named() {
        for (text, part) in [
            ("", ""),
            ("20", "20"),
            ("200,", ""),
            ("xx", "xx"),
            ("6xx", "6xx"),
            ("299-200", "299-200"),
            ("200,+20", "+20"),
            ("2xx-3xx", "2xx-3xx"),
            ("99", "99"),
            ("600", "600"),
        ] {
            assert_eq!(text.parse::<Codes>(), Err(CodesError(part.to_owned())), "{text}");
        }
    }
}
