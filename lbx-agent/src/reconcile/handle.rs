//! The way from the API to the task: commands with a place for the answer.

use lbx_common::api::{
    Config, ConfigDocument, ExplainReport, ExplainRequest, FlowQuery, FlowsReport, HealthReport, Revision,
    StatsReport, StatusReport, TrialReport,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    control::{Control, RefusedError, TrialOf},
    events::Events,
    health::Trial,
};

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
    /// What would become of a packet.
    Explain(ExplainRequest, oneshot::Sender<Result<ExplainReport, RefusedError>>),
    /// The probe that a trial of this monitor makes.
    Trial(String, TrialOf, oneshot::Sender<Result<Trial, RefusedError>>),
    /// Counters.
    Stats(oneshot::Sender<StatsReport>),
    /// Pinned flows.
    Flows(FlowQuery, oneshot::Sender<FlowsReport>),
    /// Agent and data plane.
    Status(oneshot::Sender<StatusReport>),
}

/// A handle of the running task.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    events: Events,
}

impl Handle {
    /// A handle, and the end that the task reads.
    pub fn new(events: Events) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(64);
        (Self { commands, events }, receiver)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, RefusedError> {
        let (sender, answer) = oneshot::channel();
        // Both fail only where the task has ended.
        self.commands.send(command(sender)).await.map_err(|_| RefusedError::Stopping)?;
        answer.await.map_err(|_| RefusedError::Stopping)
    }
}

impl Control for Handle {
    async fn config(&self) -> Result<ConfigDocument, RefusedError> {
        self.ask(Command::Config).await
    }

    async fn replace(&self, config: Config, expected: Option<Revision>) -> Result<Revision, RefusedError> {
        self.ask(|answer| Command::Replace(Box::new(config), expected, answer)).await?
    }

    async fn validate(&self, config: Config) -> Result<(), RefusedError> {
        self.ask(|answer| Command::Validate(Box::new(config), answer)).await?
    }

    async fn health(&self) -> Result<HealthReport, RefusedError> {
        self.ask(Command::Health).await
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainReport, RefusedError> {
        self.ask(|answer| Command::Explain(request, answer)).await?
    }

    async fn try_monitor(&self, monitor: String, of: TrialOf) -> Result<TrialReport, RefusedError> {
        let trial = self.ask(|answer| Command::Trial(monitor, of, answer)).await??;
        Ok(trial.run().await)
    }

    async fn stats(&self) -> Result<StatsReport, RefusedError> {
        self.ask(Command::Stats).await
    }

    async fn flows(&self, query: FlowQuery) -> Result<FlowsReport, RefusedError> {
        self.ask(|answer| Command::Flows(query, answer)).await
    }

    fn events(&self) -> &Events {
        &self.events
    }

    async fn status(&self) -> Result<StatusReport, RefusedError> {
        self.ask(Command::Status).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_that_is_stopping_says_so_instead_of_an_empty_configuration() {
        let (handle, commands) = Handle::new(Events::default());
        drop(commands);
        assert_eq!(handle.config().await.unwrap_err(), RefusedError::Stopping);
        assert_eq!(handle.replace(Config::default(), None).await.unwrap_err(), RefusedError::Stopping);
    }
}
