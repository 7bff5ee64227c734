//! Turns what serde says about a wrong value into what a user can act on.

use std::net::{IpAddr, SocketAddr};

use lbx_common::api::Family;
use serde_json::Value;

use super::names;

/// Longest piece of a wrong value that a message repeats, in characters.
const MAX_QUOTED: usize = 40;

/// Message for the error text `raw` about `found`, the value at the place of the error.
pub(super) fn explain(raw: &str, found: Option<&Value>) -> String {
    if let Some(rest) = raw.strip_prefix("unknown field ") {
        return unknown("field", rest, "this object has ");
    }
    if let Some(rest) = raw.strip_prefix("unknown variant ") {
        return unknown("value", rest, "write ");
    }
    if let Some(wanted) = raw.strip_prefix("invalid ").and_then(|rest| rest.strip_suffix(" address syntax")) {
        return address(found, wanted);
    }
    let expected = raw.rsplit_once(", expected ").map(|(_, expected)| expected);
    if let (Some(found), Some(expected)) = (found, expected) {
        return wrong_type(found, expected);
    }
    raw.to_owned()
}

/// Message for a list or an object that something else stands in for.
pub(super) fn not_a(wanted: &str, found: &Value) -> String {
    format!("found {}, expected {wanted}", describe(found))
}

/// `rest` is "`NAME`, expected one of `A`, `B`".
fn unknown(kind: &str, rest: &str, intro: &str) -> String {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let name = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let hint = names::closest(name, &known).map(|near| format!(" Did you mean `{near}`?"));
    let known: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    let choice = match known.split_last() {
        Some((last, rest)) if kind == "value" && !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => known.join(", "),
    };
    format!("unknown {kind} `{}`: {intro}{choice}.{}", shorten(name), hint.unwrap_or_default())
}

/// `wanted` is `IP`, `IPv4` or `IPv6`.
fn address(found: Option<&Value>, wanted: &str) -> String {
    let text = found.and_then(Value::as_str).unwrap_or_default();
    let example = match wanted {
        "IPv4" => "`192.0.2.10`",
        "IPv6" => "`2001:db8::10`",
        _ => "`192.0.2.10` or `2001:db8::10`",
    };
    if let Ok(other) = text.parse::<IpAddr>() {
        let family = Family::of(other);
        return format!(
            "`{other}` is an {family} address, which goes into `{}`: write an {wanted} address here, as {example}",
            family.field()
        );
    }
    let message = format!("`{}` is not an {wanted} address: write it as {example}", shorten(text));
    surplus(text).map_or_else(|| message.clone(), |surplus| format!("{message}, {surplus}"))
}

/// What stands around an address that would be right.
fn surplus(text: &str) -> Option<&'static str> {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if text.parse::<SocketAddr>().is_ok() {
        Some("without a port")
    } else if text.split_once('/').is_some_and(|(address, _)| is_address(address)) {
        Some("without a prefix length")
    } else if text.split_once('%').is_some_and(|(address, _)| is_address(address)) {
        Some("without a zone")
    } else if text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_address) {
        Some("without brackets")
    } else {
        (text.trim() != text && is_address(text.trim())).then_some("without spaces around it")
    }
}

fn wrong_type(found: &Value, expected: &str) -> String {
    let wanted = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "f64" => "a number, as 0.5",
        "a boolean" => "`true` or `false`",
        "a duration" => "a duration, as `500ms`, `5s` or `2m`",
        "IP address" => "an IP address, as `192.0.2.10` or `2001:db8::10`",
        "IPv4 address" => "an IPv4 address, as `192.0.2.10`",
        "IPv6 address" => "an IPv6 address, as `2001:db8::10`",
        "a string" => "text",
        "a sequence" => "a list",
        "a map" => "an object, as `{NAME: VALUE}`",
        other => other,
    };
    let hint =
        if wanted == "text" && (found.is_number() || found.is_boolean()) { ": put it in quotes" } else { "" };
    format!("{}{hint}", not_a(wanted, found))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// `text`, cut where it is too long for a message.
pub fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTED {
        return text.to_owned();
    }
    text.chars().take(MAX_QUOTED).chain(['…']).collect()
}
