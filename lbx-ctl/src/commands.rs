//! Runs a command: picks its module. One file a group of commands.

mod apply;
mod describe;
mod drain;
mod events;
mod explain;
mod flows;
mod get;
mod health;
mod man;
mod stats;
mod status;
mod top;
mod trial;
mod write;

use clap::CommandFactory;
use lbx_common::api::{Collection, ExplainRequest, configuration_schema};
use reqwest::Method;

use crate::{
    args::{Args, Command, MonitorAction, ObjectName, Place},
    client::{Body, Client},
    error::CliError,
    output::{self, Format},
};

/// What every command needs.
struct Context {
    client: Client,
    format: Format,
    /// Columns of the terminal, where there is one.
    width: Option<u16>,
}

impl Context {
    /// Prints `value` as JSON or YAML, or what `table` makes of it.
    fn show<T: serde::Serialize>(&self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format.structured(value)? {
            Some(text) => output::print(&text),
            None => output::print(&table(value)),
        }
    }
}

/// Runs what the user asked for.
pub async fn run(args: Args, place: &Place) -> Result<(), CliError> {
    let context =
        Context { client: Client::new(place)?, format: args.output, width: output::terminal_width() };
    match args.command {
        Command::Get { kind, name } => get::run(&context, kind.collection(), name.as_deref()).await,
        Command::Describe { kind, name } => {
            describe::run(&context, &ObjectName::parse(kind.collection(), &name)?).await
        }
        Command::Create { object, write } => {
            let (object, body) = object.request()?;
            let path = object.collection_path();
            write::run(&context, Method::POST, &path, Body::Json(body), write, &object).await
        }
        Command::Set { object, write } => {
            let (object, patch) = object.request()?;
            write::run(&context, Method::PATCH, &object.path(), Body::Json(patch), write, &object).await
        }
        Command::Delete { kind, name, write } => {
            let object = ObjectName::parse(kind.collection(), &name)?;
            write::run(&context, Method::DELETE, &object.path(), Body::None, write, &object).await
        }
        Command::Endpoint { action, name, wait, timeout, write } => {
            let object = ObjectName::parse(Collection::Endpoints, &name)?;
            let body = Body::Json(action.patch());
            write::run(&context, Method::PATCH, &object.path(), body, write, &object).await?;
            if wait { drain::wait(&context, action, &object, timeout).await } else { Ok(()) }
        }
        Command::Monitor { action: MonitorAction::Test { name, target } } => {
            trial::run(&context, &name, target).await
        }
        Command::Events(filter) => events::run(&context, &filter).await,
        Command::Explain { from, to: (to, protocol), established } => {
            explain::run(&context, ExplainRequest { from, to, protocol, established }).await
        }
        Command::Flows(filter) => flows::run(&context, filter.into()).await,
        Command::Apply { file, write } => apply::apply(&context, &file, write).await,
        Command::Export => apply::export(&context).await,
        Command::Health { pool, watch } => health::run(&context, pool.as_deref(), watch).await,
        Command::Stats { which } => stats::run(&context, which).await,
        Command::Top(flags) => top::run(&context, flags).await,
        Command::Man { directory } => man::run(directory.as_deref()),
        Command::Status => status::run(&context).await,
        Command::Schema => {
            context.show(&configuration_schema(), |schema| format!("{:#}\n", schema.as_value()))
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "lbx-ctl", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}
