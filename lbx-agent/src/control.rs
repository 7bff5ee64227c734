//! What the API may ask of the running agent: the seam between `api` and `reconcile`.

use lbx_common::api::{
    Config, ConfigDocument, ExplainReport, ExplainRequest, FlowQuery, FlowsReport, HealthReport, Mistake,
    Revision, StatsReport, StatusReport, TrialReport,
};

use crate::events::Events;

/// Why the agent refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedError {
    /// The new configuration does not make sense.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Mistake>),
    /// Somebody else changed it meanwhile.
    #[error(
        "the configuration is at revision {current} now, not {expected}: read it again and repeat the change"
    )]
    Conflict {
        /// What the writer had read.
        expected: Revision,
        /// What is in force.
        current: Revision,
    },
    /// The configuration belongs to a file.
    #[error("this agent takes its configuration from {0}: change that file, the agent reloads it by itself")]
    ReadOnly(String),
    /// The agent is about to end.
    #[error("the agent is stopping: nothing was changed")]
    Stopping,
    /// The configuration is right but the kernel or the disk did not take it.
    #[error("{0}")]
    Failed(String),
}

/// What a monitor is tried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOf {
    /// An endpoint.
    Endpoint {
        /// Name of its pool.
        pool: String,
        /// Its name.
        endpoint: String,
    },
    /// A tunnel.
    Tunnel {
        /// Name of its virtual network.
        vnet: String,
        /// Its name.
        tunnel: String,
    },
}

/// The running agent, as the API sees it.
pub trait Control: Clone + Send + Sync + 'static {
    /// The configuration that is in force.
    fn config(&self) -> impl Future<Output = Result<ConfigDocument, RefusedError>> + Send;

    /// Replaces the whole configuration: validated, stored durably, then applied. `expected` is the
    /// revision that the writer had read; `None` overwrites whatever is there.
    fn replace(
        &self,
        config: Config,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Revision, RefusedError>> + Send;

    /// Says what [`Control::replace`] would refuse about `config`, and changes nothing.
    fn validate(&self, config: Config) -> impl Future<Output = Result<(), RefusedError>> + Send;

    /// Health of all endpoints.
    fn health(&self) -> impl Future<Output = Result<HealthReport, RefusedError>> + Send;

    /// Says what would become of a client's packet, and why.
    fn explain(
        &self,
        request: ExplainRequest,
    ) -> impl Future<Output = Result<ExplainReport, RefusedError>> + Send;

    /// Probes once, now, by the monitor of that name. Names that are not configured are a failure.
    fn try_monitor(
        &self,
        monitor: String,
        of: TrialOf,
    ) -> impl Future<Output = Result<TrialReport, RefusedError>> + Send;

    /// Counters.
    fn stats(&self) -> impl Future<Output = Result<StatsReport, RefusedError>> + Send;

    /// Flows that are pinned. A name that is not configured matches none.
    fn flows(&self, query: FlowQuery) -> impl Future<Output = Result<FlowsReport, RefusedError>> + Send;

    /// What happened.
    fn events(&self) -> &Events;

    /// The agent and its data plane.
    fn status(&self) -> impl Future<Output = Result<StatusReport, RefusedError>> + Send;
}
