//! `monitors`: how endpoints are checked.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Codes, Escaped, Protocol,
    schema::{HeaderName, HeaderValues, HttpPath, Name, Time},
};

/// Definition of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// Name, unique among monitors.
    #[schemars(with = "Name")]
    pub name: String,
    /// What a probe does.
    #[serde(rename = "type", default)]
    pub kind: MonitorKind,
    /// Port that is probed, instead of the endpoint's; not with `icmp_ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Time between two probes of an endpoint; 100ms … 1h.
    #[serde(with = "humantime_serde", default = "default_interval")]
    #[schemars(with = "Time")]
    pub interval: Duration,
    /// Time after which one attempt has failed; at most `interval`.
    #[serde(with = "humantime_serde", default = "default_timeout")]
    #[schemars(with = "Time")]
    pub timeout: Duration,
    /// Further attempts, at once, before a probe counts as failed.
    #[serde(default)]
    #[schemars(range(max = 10))]
    pub retries: u8,
    /// Successful probes in a row that make an endpoint healthy.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub consecutive_up: u8,
    /// Failed probes in a row that make an endpoint unhealthy.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub consecutive_down: u8,
    /// HTTP: method of the request; default `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "GET"))]
    pub method: Option<Method>,
    /// HTTP: path of the request, with its query where it has one; default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HttpPath>", extend("default" = "/"))]
    pub path: Option<String>,
    /// HTTP: headers of the request; `Host` is also the name that a certificate is asked for and must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<HeaderName, HeaderValues>")]
    pub header: BTreeMap<String, Vec<String>>,
    /// HTTP: codes of the response that are right; default `200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "200"))]
    pub expected_codes: Option<Codes>,
    /// HTTP: what must occur in the response's body, in small or capital letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub expected_body: Option<String>,
    /// HTTP: whether a redirect is followed, at the same endpoint.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub follow_redirects: bool,
    /// HTTPS: whether any certificate is right.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub allow_insecure: bool,
    /// UDP: the datagram that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Escaped>,
    /// UDP: what must occur in the datagram that comes back; default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Escaped>,
}

impl Monitor {
    /// A monitor of which no more is said than its name: all else has its default.
    pub fn new(name: String) -> Self {
        Self {
            name,
            kind: MonitorKind::default(),
            port: None,
            interval: default_interval(),
            timeout: default_timeout(),
            retries: 0,
            consecutive_up: one(),
            consecutive_down: one(),
            method: None,
            path: None,
            header: BTreeMap::new(),
            expected_codes: None,
            expected_body: None,
            follow_redirects: false,
            allow_insecure: false,
            payload: None,
            expect: None,
        }
    }

    /// Longest time from the first packet that would fail a probe to the verdict:
    /// `consecutive_down` probes, one `interval` apart, each failing after all its attempts.
    pub fn worst_case_detection(&self) -> Duration {
        let attempts = self.timeout.saturating_mul(u32::from(self.retries).saturating_add(1));
        self.interval.saturating_mul(u32::from(self.consecutive_down)).saturating_add(attempts)
    }
}

/// What a probe does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MonitorKind {
    /// Opens a TCP connection and closes it.
    #[default]
    Tcp,
    /// Sends an HTTP/1.1 request.
    Http,
    /// The same through TLS.
    Https,
    /// Sends an echo request.
    IcmpPing,
    /// Sends an echo request, then a datagram, which must not be answered by "port unreachable".
    UdpIcmp,
    /// Sends a datagram, which must be answered.
    Udp,
    /// Opens an SMTP session and closes it.
    Smtp,
}

impl MonitorKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Tcp, Self::Http, Self::Https, Self::IcmpPing, Self::UdpIcmp, Self::Udp, Self::Smtp];

    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::IcmpPing => "icmp_ping",
            Self::UdpIcmp => "udp_icmp",
            Self::Udp => "udp",
            Self::Smtp => "smtp",
        }
    }

    /// Whether it is about a port.
    pub const fn has_port(self) -> bool {
        !matches!(self, Self::IcmpPing)
    }

    /// Whether that is a port of UDP.
    pub const fn is_udp(self) -> bool {
        matches!(self, Self::UdpIcmp | Self::Udp)
    }

    /// The protocol of its port.
    pub const fn protocol(self) -> Protocol {
        if self.is_udp() { Protocol::Udp } else { Protocol::Tcp }
    }

    /// The port that is probed where nobody says which.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Smtp => Some(25),
            Self::Tcp | Self::IcmpPing | Self::UdpIcmp | Self::Udp => None,
        }
    }
}

/// Methods of a request that change nothing (RFC 9110 §9.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Asks for a resource.
    #[default]
    Get,
    /// Asks for its header.
    Head,
    /// Asks what is possible.
    Options,
}

impl Method {
    /// Name in the configuration and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

const fn default_interval() -> Duration {
    Duration::from_secs(5)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_what_the_least_text_says() {
        let least: Monitor = serde_json::from_str(r#"{"name": "m"}"#).unwrap();
        assert_eq!(Monitor::new("m".into()), least);
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for kind in MonitorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for method in [Method::Get, Method::Head, Method::Options] {
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        }
    }
}
