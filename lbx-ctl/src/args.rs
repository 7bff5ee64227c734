//! What the user may type. Parsing only: nothing here talks to the agent.

mod fields;
mod names;
mod place;
mod service_fields;
mod top;
mod unset;
mod verbs;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
use lbx_common::api::{
    DEFAULT_FLOWS, EventType, FlowQuery, MAX_FLOWS, Prefix, PrefixError, Protocol, Revision,
};

pub use self::{
    names::{Kind, ObjectName},
    place::{Place, PlaceArgs},
    top::{TopFlags, TopView},
    verbs::{Create, Set},
};
use crate::{error::EXIT_CODES, output::Format};

const EXAMPLES: &str = "\
Examples:
  lbx-ctl status
  lbx-ctl create vnet east --vni 42 --probe-source 10.255.42.1
  lbx-ctl create tunnel east/a --encap gre --remote 198.51.100.7
  lbx-ctl create monitor tcp1 --type tcp --interval 1s --timeout 500ms
  lbx-ctl create pool web --monitor tcp1
  lbx-ctl create endpoint web/a --vnet east --address 10.0.0.10 --port 80
  lbx-ctl create service web --address 203.0.113.80 --listen tcp/80 --pool web
  lbx-ctl health --watch
  lbx-ctl explain --from 192.0.2.7:5555 --to 203.0.113.80:80/tcp
  lbx-ctl set endpoint web/a --weight 0.3
  lbx-ctl endpoint drain web/a --wait
  lbx-ctl export > lbx.yaml && lbx-ctl apply -f lbx.yaml --dry-run";

/// Configure and watch the lbx load balancer on this machine.
#[derive(Debug, Parser)]
#[command(name = "lbx-ctl", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Args {
    /// Where the agent is
    #[command(flatten)]
    pub place: PlaceArgs,

    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,

    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List objects, or show one
    #[command(after_help = "\
Examples:
  lbx-ctl get pools
  lbx-ctl get endpoints web        all endpoints of the pool `web`
  lbx-ctl get endpoint web/a -o yaml")]
    Get {
        /// Kind of object; the plural is fine too
        kind: Kind,
        /// Name of one; tunnels are VNET/NAME, endpoints POOL/NAME
        name: Option<String>,
    },
    /// Show everything about one object: configuration, health, counters, who uses it
    #[command(after_help = "\
Examples:
  lbx-ctl describe monitor tcp1    with the worst-case detection time
  lbx-ctl describe endpoint web/a")]
    Describe {
        /// Kind of object
        kind: Kind,
        /// Its name; tunnels are VNET/NAME, endpoints POOL/NAME
        name: String,
    },
    /// Create an object
    #[command(after_help = "\
Example:
  lbx-ctl create endpoint web/a --vnet east --address 10.0.0.10 --port 80 --weight 0.5")]
    Create {
        #[command(subcommand)]
        object: Create,
        #[command(flatten)]
        write: WriteFlags,
    },
    /// Change fields of an object; what is not named stays as it is
    #[command(after_help = "\
Example:
  lbx-ctl set endpoint web/a --weight 0.3 --enabled false")]
    Set {
        #[command(subcommand)]
        object: Set,
        #[command(flatten)]
        write: WriteFlags,
    },
    /// Delete an object; refused while another one refers to it
    #[command(after_help = "\
Example:
  lbx-ctl delete endpoint web/a")]
    Delete {
        /// Kind of object
        kind: Kind,
        /// Its name; tunnels are VNET/NAME, endpoints POOL/NAME
        name: String,
        #[command(flatten)]
        write: WriteFlags,
    },
    /// Take an endpoint out of service, or back in
    #[command(after_help = "\
Examples:
  lbx-ctl endpoint drain web/a      no new flows; those that it has stay for the service's `drain` time
  lbx-ctl endpoint drain web/a --wait --timeout 10m && reboot-the-origin
  lbx-ctl endpoint disable web/a    no flows and no probes, at once")]
    Endpoint {
        /// What to do with it
        action: EndpointAction,
        /// Its name: POOL/NAME
        name: String,
        /// With drain: return when it keeps no flow any more. With undrain and enable: when it takes new ones
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
        /// Give up after this time, as 90s or 10m; the change stays
        #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        write: WriteFlags,
    },
    /// Try a monitor
    Monitor {
        #[command(subcommand)]
        action: MonitorAction,
    },
    /// Replace the whole configuration by a YAML file: all of it, or nothing if there is a mistake
    #[command(after_help = "\
Examples:
  lbx-ctl apply -f lbx.yaml --dry-run    say what would change
  lbx-ctl apply -f lbx.yaml
  generate-config | lbx-ctl apply -f -")]
    Apply {
        /// The file; `-` = standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        write: WriteFlags,
    },
    /// Print the whole configuration as YAML that `apply -f` takes back
    #[command(after_help = "\
Example:
  lbx-ctl export > lbx.yaml")]
    Export,
    /// Show the health of pools and endpoints
    #[command(after_help = "\
Examples:
  lbx-ctl health
  lbx-ctl health web --watch")]
    Health {
        /// Only this pool
        pool: Option<String>,
        /// Go on, and print again when something changes; Ctrl-C ends it
        #[arg(long)]
        watch: bool,
    },
    /// Show packet and byte counters
    #[command(after_help = "\
Examples:
  lbx-ctl stats
  lbx-ctl stats drops    dropped packets by reason
  lbx-ctl stats flows    what became of flows that a change may have moved")]
    Stats {
        /// Only these
        #[arg(value_enum)]
        which: Option<StatsSection>,
    },
    /// Show what happens now: traffic, health, drops, tunnels; on the whole terminal, until `q`
    #[command(after_help = "\
Examples:
  lbx-ctl top
  lbx-ctl top --view endpoints -i 5s
  lbx-ctl top --once --view drops    one frame as text

Keys:
  q        quit
  tab, arrows left and right
           another view
  arrows up and down, page up and down, home, end
           other lines
  s        sort: as configured, by traffic, what is wrong first
  /        only lines with a text; enter keeps it, esc shows all again
  p        what is shown stays, until the next p")]
    Top(TopFlags),
    /// List flows that are remembered: those that live elsewhere than their hash says, because something changed
    #[command(after_help = "\
Examples:
  lbx-ctl flows
  lbx-ctl flows --endpoint web/a
  lbx-ctl flows --service web --client 203.0.113.0/24 --limit 1000")]
    Flows(FlowFilter),
    /// Show what happened: verdicts, pools, drains, changes of the configuration
    #[command(after_help = "\
Examples:
  lbx-ctl events
  lbx-ctl events --follow
  lbx-ctl events --follow --type service_pools --type pool_state -o json
  lbx-ctl events --follow --since 0    first those that the agent still has")]
    Events(EventFilter),
    /// Say what would become of a client's packet, and why
    #[command(after_help = "\
Examples:
  lbx-ctl explain --from 192.0.2.7:5555 --to 203.0.113.80:443/tcp
  lbx-ctl explain --from [2001:db8::7]:5555 --to [2001:db8:203::1]:53/udp
  lbx-ctl explain --from 192.0.2.7:5555 --to 203.0.113.80:443/tcp --established")]
    Explain {
        /// Address and port of the client
        #[arg(long, value_name = "ADDRESS:PORT")]
        from: SocketAddr,
        /// Address and port of a service, and the protocol
        #[arg(long, value_name = "ADDRESS:PORT/PROTOCOL", value_parser = destination)]
        to: (SocketAddr, Protocol),
        /// A packet of an established TCP connection instead of the one that begins it
        #[arg(long)]
        established: bool,
    },
    /// Show the agent, its interfaces, tunnels and maps
    #[command(after_help = "\
Example:
  lbx-ctl status")]
    Status,
    /// Print the JSON Schema of the configuration file, for editors; needs no agent
    #[command(after_help = "\
Example:
  lbx-ctl schema > lbx.schema.json    then `# yaml-language-server: $schema=lbx.schema.json` on top of the file")]
    Schema,
    /// Print the man page, or write those of all commands into a folder; needs no agent
    #[command(after_help = "\
Examples:
  lbx-ctl man | man -l -
  lbx-ctl man /usr/local/share/man/man1")]
    Man {
        /// The folder
        directory: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  lbx-ctl completion bash > /etc/bash_completion.d/lbx-ctl")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Flags of every command that changes something.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct WriteFlags {
    /// Let the agent check it and say what would change, but change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,

    /// Refuse unless the configuration is still at this revision (`lbx-ctl status` shows it)
    #[arg(long, global = true, value_name = "N")]
    pub revision: Option<Revision>,
}

/// What `lbx-ctl endpoint` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EndpointAction {
    /// No new flows; those that it has stay for the service's `drain` time
    Drain,
    /// New flows again
    Undrain,
    /// No flows and no probes, at once
    Disable,
    /// Flows and probes again
    Enable,
}

impl EndpointAction {
    /// The merge patch of the endpoint.
    pub fn patch(self) -> serde_json::Value {
        match self {
            Self::Drain => serde_json::json!({"drained": true}),
            Self::Undrain => serde_json::json!({"drained": false}),
            Self::Disable => serde_json::json!({"enabled": false}),
            Self::Enable => serde_json::json!({"enabled": true}),
        }
    }
}

/// What `lbx-ctl monitor` does.
#[derive(Debug, Subcommand)]
pub enum MonitorAction {
    /// Probe something once, now, and show each step with the time that it took. It counts for no verdict
    #[command(after_help = "\
Examples:
  lbx-ctl monitor test http1 --endpoint web/a    also where the pool has another monitor
  lbx-ctl monitor test ping --tunnel east/a")]
    Test {
        /// The monitor
        name: String,
        #[command(flatten)]
        target: TrialTarget,
    },
}

/// What a monitor is tried on.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct TrialTarget {
    /// An endpoint
    #[arg(long, value_name = "POOL/NAME")]
    pub endpoint: Option<String>,
    /// A tunnel, at its probe address
    #[arg(long, value_name = "VNET/NAME")]
    pub tunnel: Option<String>,
}

/// A part of `lbx-ctl stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatsSection {
    /// Traffic by service
    Services,
    /// Traffic by endpoint
    Endpoints,
    /// Traffic by tunnel
    Tunnels,
    /// Dropped packets by reason
    Drops,
    /// What became of flows that a change may have moved
    Flows,
}

/// Which flows are listed.
#[derive(Debug, clap::Args)]
pub struct FlowFilter {
    /// Only those of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only those on this endpoint
    #[arg(long, value_name = "POOL/NAME")]
    pub endpoint: Option<String>,
    /// Only those of these clients: an address, or a prefix as 192.0.2.0/24
    #[arg(long, value_name = "CLIENTS", value_parser = clients)]
    pub client: Option<Prefix>,
    /// How many are listed; all are counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_FLOWS)))]
    pub limit: u32,
}

impl From<FlowFilter> for FlowQuery {
    fn from(FlowFilter { service, endpoint, client, limit }: FlowFilter) -> Self {
        Self { service, endpoint, client, limit }
    }
}

/// Which events are shown.
#[derive(Debug, clap::Args)]
pub struct EventFilter {
    /// Go on with what happens from now on; Ctrl-C ends it
    #[arg(long)]
    pub follow: bool,
    /// Only those after the one with this number (`-o json` shows numbers)
    #[arg(long, value_name = "NUMBER")]
    pub since: Option<u64>,
    /// Only those of this type, or of these; `-o json` shows types
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<EventType>,
}

fn destination(text: &str) -> Result<(SocketAddr, Protocol), String> {
    let wrong = || "write it as 203.0.113.80:443/tcp or [2001:db8::1]:53/udp".to_owned();
    let (address, protocol) = text.rsplit_once('/').ok_or_else(wrong)?;
    let protocol = Protocol::ALL.into_iter().find(|one| one.as_str() == protocol).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, protocol))
}

fn clients(text: &str) -> Result<Prefix, PrefixError> {
    text.parse::<IpAddr>().map_or_else(|_| text.parse(), |address| Ok(Prefix::around(address, u8::MAX)))
}

#[cfg(test)]
mod tests;
