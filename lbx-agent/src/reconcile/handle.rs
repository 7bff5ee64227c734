//! The way from the API to the task: commands with a place for the answer.

use lbx_common::api::{Config, ConfigDocument, HealthReport, Revision, StatsReport, StatusReport};
use tokio::sync::{mpsc, oneshot};

use crate::control::{Control, RefusedError};

/// A question to the task, with a place for the answer.
pub enum Command {
    /// The configuration in force.
    Config(oneshot::Sender<ConfigDocument>),
    /// Replace it.
    Replace(Box<Config>, Option<Revision>, oneshot::Sender<Result<Revision, RefusedError>>),
    /// Only say what would be refused.
    Validate(Box<Config>, oneshot::Sender<Result<(), RefusedError>>),
    /// Health.
    Health(oneshot::Sender<HealthReport>),
    /// Counters.
    Stats(oneshot::Sender<StatsReport>),
    /// Agent and data plane.
    Status(oneshot::Sender<StatusReport>),
}

/// A handle of the running task.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Command>);

impl Handle {
    /// A handle, and the end that the task reads.
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    /// `None` where the task has ended: the agent is stopping.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.0.send(command(sender)).await.ok()?;
        answer.await.ok()
    }
}

fn stopping() -> RefusedError {
    RefusedError::Failed("the agent is stopping: nothing was changed".to_owned())
}

impl Control for Handle {
    async fn config(&self) -> ConfigDocument {
        let none = ConfigDocument { revision: 0, config: Config::default() };
        self.ask(Command::Config).await.unwrap_or(none)
    }

    async fn replace(&self, config: Config, expected: Option<Revision>) -> Result<Revision, RefusedError> {
        let answer = self.ask(|answer| Command::Replace(Box::new(config), expected, answer)).await;
        answer.unwrap_or_else(|| Err(stopping()))
    }

    async fn validate(&self, config: Config) -> Result<(), RefusedError> {
        let answer = self.ask(|answer| Command::Validate(Box::new(config), answer)).await;
        answer.unwrap_or_else(|| Err(stopping()))
    }

    async fn health(&self) -> HealthReport {
        self.ask(Command::Health).await.unwrap_or_default()
    }

    async fn stats(&self) -> StatsReport {
        self.ask(Command::Stats).await.unwrap_or_default()
    }

    async fn status(&self) -> StatusReport {
        self.ask(Command::Status).await.unwrap_or_default()
    }
}
