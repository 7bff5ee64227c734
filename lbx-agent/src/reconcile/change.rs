//! Changes of the whole configuration: by the API, or by the file.
//!
//! The order makes each change all or nothing: everything that can refuse it comes first (revision,
//! validator, limits, room, interfaces, routes), then it is stored durably, then the maps are written.

use std::collections::BTreeMap;

use lbx_common::api::{Config, ConfigDocument, Happening, Mistake, Revision};
use nix::net::if_::if_nametoindex;

use super::{
    Reconciler,
    handle::Command,
    regions::{self, NewRegions},
};
use crate::{
    config::{self, model::Model},
    control::RefusedError,
    dataplane::Image,
    service_manager,
    store::{StoreError, seed},
};

fn refused(path: impl Into<String>, message: String) -> RefusedError {
    RefusedError::Invalid(vec![Mistake::new(path, message)])
}

/// A configuration that nothing speaks against.
struct Checked {
    model: Model,
    seed: [u64; 2],
    /// What the maps are to hold,
    wanted: Image,
    /// if the machine is still this one.
    machine: Machine,
}

/// Interface index and MAC of `lbx0` and `lbx1`, and the VLAN devices.
type Machine = ((u32, [u8; 6]), (u32, [u8; 6]), BTreeMap<u32, (u32, u16)>);

impl Reconciler {
    /// Answers a command. An answer that nobody waits for any more is dropped.
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Config(answer) => {
                let config = self.model.config.clone();
                drop(answer.send(ConfigDocument { revision: self.revision, config }));
            }
            Command::Replace(config, expected, answer) => {
                drop(answer.send(self.replace(*config, expected).await));
            }
            Command::Validate(config, answer) => {
                let checked = regions::check_file(&config, &self.model.config);
                let checked = checked.and_then(|()| self.check(*config, self.regions.list_id()).map(drop));
                drop(answer.send(checked));
            }
            Command::Health(answer) => drop(answer.send(self.health_report())),
            Command::Explain(request, answer) => drop(answer.send(self.explain(&request))),
            Command::Trial(monitor, of, answer) => drop(answer.send(self.trial(&monitor, &of))),
            Command::Stats(answer) => drop(answer.send(self.stats_report())),
            Command::Flows(query, answer) => drop(answer.send(self.flows_report(&query))),
            Command::Status(answer) => drop(answer.send(self.status_report().await)),
        }
    }

    async fn replace(
        &mut self,
        config: Config,
        expected: Option<Revision>,
    ) -> Result<Revision, RefusedError> {
        if let Some(file) = self.store.read_only() {
            return Err(RefusedError::ReadOnly(file.display().to_string()));
        }
        if let Some(expected) = expected
            && expected != self.revision
        {
            return Err(RefusedError::Conflict { expected, current: self.revision });
        }
        let revision = self.revision + 1;
        self.check_and_put_in_force(config, revision, true).await?;
        if self.regions.mistake.is_some() {
            self.regions.read_again();
        }
        Ok(revision)
    }

    /// Reads the configuration file again. A file with mistakes changes nothing.
    pub(super) async fn reload(&mut self) {
        service_manager::reloading();
        self.regions.read_again();
        let loaded = match self.store.load() {
            Ok(Some((revision, config))) => Ok((revision, config)),
            Ok(None) => return service_manager::ready(self.revision),
            Err(error) => Err(error.to_string()),
        };
        let result = match loaded {
            Ok((revision, config)) => self
                .check_and_put_in_force(config, revision, false)
                .await
                .map(|()| revision)
                .map_err(|refused| refused.to_string()),
            Err(error) => Err(error),
        };
        match result {
            Ok(revision) => {
                service_manager::ready(revision);
            }
            Err(error) => {
                self.events.record(Happening::ConfigurationRefused { error });
                service_manager::kept(self.revision);
            }
        }
    }

    async fn check_and_put_in_force(
        &mut self,
        config: Config,
        revision: Revision,
        store: bool,
    ) -> Result<(), RefusedError> {
        let regions = self.read_regions_of(&config).await?;
        let another = matches!(regions, NewRegions::Other(_));
        let done = match self.check(config, regions.list_id(self.regions.list_id())) {
            Ok(checked) => self.put_in_force(checked, (revision, store), regions).await,
            Err(refused) => Err(refused),
        };
        if done.is_err() && another {
            self.watch_regions_again().await;
        }
        done
    }

    /// Everything about a configuration that can be refused without touching anything.
    fn check(&self, config: Config, regions: u32) -> Result<Checked, RefusedError> {
        let model = config::validate(config).map_err(RefusedError::Invalid)?;
        if model.limits != self.model.limits {
            return Err(refused(
                "limits",
                "they cannot change while the agent runs. Larger ones: start it again with a `--config` file that has \
                 them. Smaller ones: run `lbx-agent detach` first (forwarding stops). With a stored configuration: \
                 export it, and start again on an empty state directory and apply the whole there"
                    .to_owned(),
            ));
        }
        // One that is in force may be gone for a while. A new one that is not there is a slip of the pen.
        let in_force = |name: &str| self.model.interfaces.iter().any(|interface| interface.name == name);
        for (index, interface) in model.interfaces.iter().enumerate() {
            if !in_force(&interface.name) && if_nametoindex(interface.name.as_str()).is_err() {
                let message = format!("`{}` does not exist on this host: see `ip link`", interface.name);
                return Err(refused(format!("node.interfaces[{index}].name"), message));
            }
        }
        // The file of a seed is read when it is named, and not at every change: all flows would move with it.
        let seed_source = model.config.node.hash_seed.as_deref();
        let seed = if seed_source == self.model.config.node.hash_seed.as_deref() {
            self.seed
        } else {
            seed::load(seed_source, &self.state_dir)
                .map_err(|error| refused("node.hash_seed", error.to_string()))?
        };
        let wanted = self.plan(&model, seed, regions, &self.image);
        let wanted = wanted.map_err(|error| RefusedError::Failed(error.to_string()))?;
        Ok(Checked { model, seed, wanted, machine: self.machine() })
    }

    /// What a plan depends on that preparing may change.
    fn machine(&self) -> Machine {
        (self.kernel.lbx0(), self.kernel.lbx1(), self.kernel.vlans().clone())
    }

    async fn put_in_force(
        &mut self,
        checked: Checked,
        (revision, store): (Revision, bool),
        regions: NewRegions,
    ) -> Result<(), RefusedError> {
        let Checked { model, seed, wanted, machine } = checked;
        let mut prepared = self.kernel.prepare(&model).await.map_err(|error| error.to_string());
        if prepared.is_ok() && store {
            prepared =
                self.store.save(revision, &model.config).map_err(|error: StoreError| error.to_string());
        }
        if let Err(reason) = prepared {
            self.take_back().await;
            return Err(RefusedError::Failed(reason));
        }
        let changes = config::diff(&self.model.config, &model.config).unwrap_or_default();
        self.events.record(Happening::ConfigurationChanged { revision, changes });
        (self.model, self.seed, self.revision) = (model, seed, revision);
        self.take_new_regions(regions);
        let as_planned = !self.forget_stale_findings() && machine == self.machine();
        let converged = self.converge(as_planned.then_some(wanted));
        if let Err(error) = self.kernel.attachments.release_others(&self.model.interfaces) {
            tracing::error!(%error, "cannot detach from an interface that is no longer configured");
        }
        self.tell_interfaces().await;
        self.publish();
        converged.map_err(|error| {
            RefusedError::Failed(format!("stored, but the data plane is not up to date yet: {error}"))
        })
    }

    /// Undoes a preparation for a model that did not come into force.
    async fn take_back(&mut self) {
        let released = self.kernel.attachments.release_others(&self.model.interfaces);
        let result = match self.kernel.prepare(&self.model).await {
            Ok(()) => released.map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::error!(%error, "cannot restore the state before a refused change");
        }
    }
}
