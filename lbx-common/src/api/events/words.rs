//! What happened, in one line for a person: in the agent's log, and on a terminal.

use std::fmt;

use super::{DrainEnd, Drained, FlowSample, Happening, PoolCondition};
use crate::api::HealthState;

/// Changes of the configuration that fit into a line.
const CHANGES_SHOWN: usize = 8;

impl fmt::Display for Happening {
    /// One line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentStarted { version, revision, adopted } => {
                let how = if *adopted { "took over what was in the kernel" } else { "new in the kernel" };
                write!(f, "agent {version} started with configuration revision {revision}, {how}")
            }
            Self::ConfigurationChanged { revision, changes } => {
                write!(f, "configuration revision {revision}: ")?;
                let shown: Vec<String> =
                    changes.iter().take(CHANGES_SHOWN).map(|change| change.line(false)).collect();
                let more = changes.len().saturating_sub(CHANGES_SHOWN);
                match (shown.is_empty(), more) {
                    (true, _) => f.write_str("nothing differs"),
                    (false, 0) => f.write_str(&shown.join("; ")),
                    (false, more) => write!(f, "{}; and {more} more", shown.join("; ")),
                }
            }
            Self::ConfigurationRefused { error } => {
                write!(f, "configuration not reloaded, the one before stays in force: {error}")
            }
            Self::EndpointHealth { pool, endpoint, virtual_network, address, from, to, reason } => {
                write!(f, "endpoint {pool}/{endpoint} ({address} in {virtual_network}) ")?;
                verdict(f, *from, *to, reason)
            }
            Self::TunnelHealth { virtual_network, tunnel, from, to, reason } => {
                write!(f, "tunnel {virtual_network}/{tunnel} ")?;
                verdict(f, *from, *to, reason)
            }
            Self::PoolState { pool, from, now } => {
                write!(f, "pool {pool} is {}, was {}: {now}", now.to.as_str(), from.as_str())
            }
            Self::ServicePools { service, region, from, to, fallback, cause } => {
                let region = region.as_ref().map_or_else(String::new, |name| format!(" in region {name}"));
                let fallback = if *fallback { " (fallback)" } else { "" };
                let (to, from) = (to.join(", "), from.join(", "));
                write!(f, "service {service}{region} is served by {to}{fallback}, before by {from}: {cause}")
            }
            Self::DrainBegun { endpoint, removed, secs } => {
                let how = if *removed { "removed" } else { "drained" };
                write!(f, "{endpoint} is {how}: it keeps its flows for {secs} s at most")
            }
            Self::DrainEnded { endpoint, why } => {
                write!(f, "{endpoint} is not drained any more: {}", why.in_words())
            }
            Self::TableChangeBegun { service, closes_in_secs } => {
                write!(
                    f,
                    "service {service} has another table; flows from before may be there for {closes_in_secs} s"
                )
            }
            Self::TableChangeEnded { service } => {
                write!(f, "service {service}: all flows go by its table again")
            }
            Self::InterfaceState { interface, role, from, to, mode } => {
                write!(
                    f,
                    "interface {interface} ({}) is {}, was {}",
                    role.as_str(),
                    to.as_str(),
                    from.as_str()
                )?;
                match mode {
                    Some(mode) => write!(f, "; attached ({})", mode.as_str()),
                    None => f.write_str("; not attached"),
                }
            }
            Self::FlowSample(sample) => sample.fmt(f),
            Self::EventsLost { count: Some(count) } => write!(f, "{count} events are not kept any more"),
            Self::EventsLost { count: None } => f.write_str("some events are not kept any more"),
        }
    }
}

fn verdict(f: &mut fmt::Formatter<'_>, from: HealthState, to: HealthState, reason: &str) -> fmt::Result {
    write!(f, "is {}, was {}", to.as_str(), from.as_str())?;
    if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
}

impl fmt::Display for FlowSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, listener, protocol, client, vip, pool, endpoint, .. } = self;
        write!(
            f,
            "{} {client} -> {vip} ({service}, {listener}) to {pool}/{endpoint} by tunnel {}/{}, {} bytes; one in {}",
            protocol.as_str(),
            self.virtual_network,
            self.tunnel,
            self.bytes,
            self.one_in
        )
    }
}

impl fmt::Display for PoolCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { healthy, endpoints, closed, needed, .. } = self;
        write!(f, "{healthy} of {endpoints} endpoints healthy")?;
        if *closed > 0 {
            write!(f, " ({closed} drained or without weight)")?;
        }
        write!(f, ", {needed} needed")?;
        if self.panic { f.write_str("; panic: health is ignored") } else { Ok(()) }
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pool, &self.endpoint) {
            (Some(pool), Some(endpoint)) => write!(f, "endpoint {pool}/{endpoint} ({}", self.address)?,
            (_, _) => write!(f, "an endpoint that was removed ({}", self.address)?,
        }
        match &self.virtual_network {
            Some(name) => write!(f, " in {name})"),
            None => f.write_str(")"),
        }
    }
}

impl DrainEnd {
    const fn in_words(self) -> &'static str {
        match self {
            Self::TimeOver => "its time is over",
            Self::NoFlowsLeft => "its last flow has gone",
            Self::Undrained => "it takes new flows again",
            Self::Disabled => "it was disabled",
            Self::NoTunnel => "no tunnel leads there any more",
        }
    }
}
