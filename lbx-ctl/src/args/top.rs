//! What may be said to `top`.

use std::time::Duration;

use clap::ValueEnum;

/// What `lbx-ctl top` shows, and how.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct TopFlags {
    /// Time between two looks at the agent
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = pause)]
    pub interval: Duration,
    /// Print one frame, of what happened in the interval, and end; needs no terminal
    #[arg(long)]
    pub once: bool,
    /// What is shown first
    #[arg(long, value_enum, default_value_t = TopView::Services)]
    pub view: TopView,
}

/// A table of `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopView {
    /// Traffic by service, and the pools that serve it
    Services,
    /// Traffic and health by endpoint
    Endpoints,
    /// Dropped packets by reason
    Drops,
    /// Tunnels and their health
    Tunnels,
}

impl TopView {
    /// All, in the order of the screen.
    pub const ALL: [Self; 4] = [Self::Services, Self::Endpoints, Self::Drops, Self::Tunnels];

    /// Name on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::Drops => "drops",
            Self::Tunnels => "tunnels",
        }
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let wrong = "write it as 500ms, 1s or 1m: 100ms or more";
    let pause = humantime::parse_duration(text).map_err(|_| wrong.to_owned())?;
    if pause < Duration::from_millis(100) { Err(wrong.to_owned()) } else { Ok(pause) }
}
