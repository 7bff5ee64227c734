//! JSON Schema (draft 2020-12) of these types: of what is written as text, and of the configuration as a whole.
//!
//! A schema knows one value at a time, and of texts no more than a pattern says. It refuses what can never be right, and
//! leaves to the agent what depends on other values (references, overlaps), and what a pattern cannot tell: bounds of
//! times, ranges that run backwards, bits behind the length of a prefix. Those are in the descriptions.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;

use super::{Codes, Config, Escaped, Listen, Prefix};

/// Schema of the configuration file, for editors.
pub fn configuration_schema() -> Schema {
    let mut schema = schema_settings().into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), "Configuration of lbx".into());
    schema
}

/// How schemas of these types are made.
pub fn schema_settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with_transform(schemars::transform::RecursiveTransform(tidy))
}

/// Makes descriptions one line, as they are shown, and gives numbers the bounds of their type instead of its name.
fn tidy(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    let format = schema.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| format.starts_with("uint") || format == "double") {
        if format == Some("uint32") && schema.get("maximum").is_none() {
            schema.insert("maximum".to_owned(), u32::MAX.into());
        }
        schema.remove("format");
    }
}

/// Decimal form of 1 to 65535.
const PORT: &str = "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
const NAME: &str = "[a-z0-9][a-z0-9._-]{0,62}";
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])";
const UNIT: &str = "(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|\
                    hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)";

/// Types whose values are texts of a form, each with its description, pattern and examples.
macro_rules! texts {
    ($($(#[$attribute:meta])* $type:ident: $description:literal, $pattern:expr, $examples:expr;)*) => {
        $(
            $(#[$attribute])*
            impl JsonSchema for $type {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({
                        "type": "string",
                        "description": $description,
                        "pattern": format!("^{}$", $pattern),
                        "examples": $examples,
                    })
                }
            }
        )*
    };
}

/// Name of an object.
pub(super) struct Name;
/// Name of an object in another one.
pub(super) struct FullName;
/// A span of time.
pub(super) struct Time;
/// Path of a file on the agent's machine.
pub(super) struct AbsolutePath;
/// Hash seed.
pub(super) struct HashSeed;
/// Name of a network interface.
pub(super) struct InterfaceName;
/// Hardware address of one interface.
pub(super) struct Mac;
/// Path and query of an HTTP request.
pub(super) struct HttpPath;
/// Name of a header of HTTP.
pub(super) struct HeaderName;
/// Address and port.
pub(super) struct SocketAddress;

texts! {
    Name: "1 to 63 of a-z, 0-9, `.`, `_` and `-`, with a letter or digit in front", NAME, ["web"];
    FullName: "Name of an object in another one: POOL/NAME or VNET/NAME", format!("{NAME}/{NAME}"), ["web/a"];
    Time: "A span of time, as `500ms`, `5s` or `2m`",
        format!("\\s*(0|([0-9]+(\\.[0-9]+)?\\s*{UNIT}\\s*)+)"), ["500ms", "5s", "2m"];
    Listen: "A protocol and ports: `tcp/443`, `tcp/8000-8999` or `udp/any`",
        format!("(tcp|udp)/(any|{PORT}(-{PORT})?)"), ["tcp/443", "tcp/8000-8999", "udp/any"];
    Prefix: "All addresses that begin with the same bits, as `192.0.2.0/24` or `2001:db8::/32`; those behind the length \
             are 0",
        format!("(({OCTET}\\.){{3}}{OCTET}/0*(3[0-2]|[12]?[0-9])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/0*(12[0-8]|1[01][0-9]|[1-9]?[0-9]))"),
        ["192.0.2.0/24", "2001:db8::/32"];
    Codes: "Codes of HTTP: `200`, `2xx`, `200-206`, or several with commas between",
        "\\s*[1-5](xx|[0-9]{2}(-[1-5][0-9]{2})?)\\s*(,\\s*[1-5](xx|[0-9]{2}(-[1-5][0-9]{2})?)\\s*)*",
        ["200", "2xx,304"];
    Escaped: "Text, in which `\\xNN` is any byte, and `\\r`, `\\n`, `\\t`, `\\0` and `\\\\` are what they are in C",
        "([^\\\\]|\\\\([rnt0\\\\]|x[0-9A-Fa-f]{2}))*", ["\\x00ping\\r\\n"];
    AbsolutePath: "The whole path of a file, from `/` on", "/.*", ["/etc/lbx/regions.csv"];
    HashSeed: "`file:PATH` or 32 hexadecimal digits", "(file:.+|[0-9A-Fa-f]{32})", ["file:/etc/lbx/seed"];
    InterfaceName: "Name of a network interface, as `ip link` shows it", "[^/:\\s\\x00-\\x1f\\x7f]{1,15}", ["eth0"];
    Mac: "Hardware address of one interface", "[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}", ["02:6c:62:78:00:02"];
    HttpPath: "Path and query of a request", "/[^#\\s\\x00-\\x1f\\x7f]*", ["/healthz"];
    HeaderName: "Name of a header", "[!#$%&'*+.^_`|~0-9A-Za-z-]+", ["Host"];
    SocketAddress: "Address and port, as `192.0.2.1:5555` or `[2001:db8::1]:5555`",
        format!("(({OCTET}\\.){{3}}{OCTET}|\\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\\]):(0+|{PORT})"),
        ["192.0.2.1:5555", "[2001:db8::1]:5555"];
}

/// Values of a header of HTTP.
pub(super) struct HeaderValues;

impl JsonSchema for HeaderValues {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HeaderValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = json_schema!({"type": "string", "pattern": "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$"});
        json_schema!({"type": "array", "items": value, "minItems": 1})
    }
}

/// An address of either family.
pub(super) struct Address;

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An IPv4 or IPv6 address",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
            "examples": ["192.0.2.10", "2001:db8::10"],
        })
    }
}

/// A share, in hundredths.
pub(super) struct Weight;

impl JsonSchema for Weight {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}
