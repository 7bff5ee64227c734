//! Bytes, written as text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bytes of a datagram: text, in which `\xNN` is any byte, and `\r`, `\n`, `\t`, `\0` and `\\` are what they are in C.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Escaped {
    text: String,
    bytes: Vec<u8>,
}

impl Escaped {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The text has an escape that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no escape: write `\\xNN` with two hexadecimal digits, `\\r`, `\\n`, `\\t`, `\\0`, or `\\\\` for a backslash"
)]
pub struct EscapedError(String);

impl FromStr for Escaped {
    type Err = EscapedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend(before.bytes());
            let wrong = || EscapedError(format!("\\{}", escape.chars().take(3).collect::<String>()));
            let mut chars = escape.chars();
            bytes.push(match chars.next() {
                Some('r') => b'\r',
                Some('n') => b'\n',
                Some('t') => b'\t',
                Some('0') => 0,
                Some('\\') => b'\\',
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    let hexadecimal =
                        digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| hexadecimal);
                    byte.ok_or_else(wrong)?
                }
                _ => return Err(wrong()),
            });
            rest = chars.as_str();
        }
        bytes.extend(rest.bytes());
        Ok(Self { text: text.to_owned(), bytes })
    }
}

impl TryFrom<String> for Escaped {
    type Error = EscapedError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Escaped> for String {
    fn from(escaped: Escaped) -> Self {
        escaped.text
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_and_the_text_is_kept() {
        let text = r"a\x00\xFf\r\n\t\0\\x41ä";
        let escaped: Escaped = text.parse().unwrap();
        assert_eq!(escaped.to_string(), text);
        assert_eq!(escaped.bytes(), b"a\x00\xff\r\n\t\x00\\x41\xc3\xa4");
    }

    #[test]
    fn what_is_no_escape_is_named() {
        for (text, escape) in [
            (r"a\", r"\"),
            (r"\q", r"\q"),
            (r"\xg0", r"\xg0"),
            (r"\x1", r"\x1"),
            (r"\x+1", r"\x+1"),
            (r"\xä1", r"\xä1"),
        ] {
            assert_eq!(text.parse::<Escaped>(), Err(EscapedError(escape.to_owned())), "{text}");
        }
    }
}
