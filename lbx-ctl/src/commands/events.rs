//! `events`: what happened, and with `--follow` what happens. A line an event, as it comes.

use std::io::{self, Write};

use lbx_common::api::Event;

use super::Context;
use crate::{args::EventFilter, error::CliError, output::Format};

/// Prints events, those that the agent has or for as long as it lives.
pub async fn run(context: &Context, filter: &EventFilter) -> Result<(), CliError> {
    let as_json = match context.format {
        Format::Table => false,
        Format::Json => true,
        Format::Yaml => {
            return Err(CliError::Usage("events are lines: print them as `table` or `json`".to_owned()));
        }
    };
    let mut query: Vec<(&str, String)> = vec![("follow", filter.follow.to_string())];
    query.extend(filter.since.map(|since| ("since", since.to_string())));
    query.extend(filter.types.iter().map(|of_type| ("type", of_type.as_str().to_owned())));
    let mut lines = context.client.lines(&["events"], &query).await?;
    while let Some(line) = lines.next().await? {
        let text = if as_json {
            line
        } else {
            let Event { time, what, .. } =
                serde_json::from_slice(&line).map_err(|error| context.client.not_understood(&error))?;
            format!("{time} {what}\n").into_bytes()
        };
        if !print(&text)? {
            return Ok(());
        }
    }
    if filter.follow { Err(context.client.ended()) } else { Ok(()) }
}

/// Prints a line. Returns whether somebody reads on.
fn print(line: &[u8]) -> Result<bool, CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(line).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::Local(format!("cannot write to standard output: {error}"))),
    }
}
