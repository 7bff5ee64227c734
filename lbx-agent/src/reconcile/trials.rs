//! Which probe a trial makes: that of a configuration in which the monitor checks what is to be tried.

use lbx_common::api::Config;

use super::{Reconciler, targets::targets};
use crate::{
    config,
    control::{RefusedError, TrialOf},
    health::{Target, TargetKey, Trial},
};

impl Reconciler {
    /// What the monitor would do. The names are ones that there are.
    pub(super) fn trial(&self, monitor: &str, of: &TrialOf) -> Result<Trial, RefusedError> {
        let mut config = self.model.config.clone();
        let mistake = || RefusedError::Failed("it was deleted meanwhile".to_owned());
        let probe_source = match of {
            TrialOf::Endpoint { pool, endpoint } => use_for_endpoint(&mut config, monitor, pool, endpoint),
            TrialOf::Tunnel { vnet, tunnel } => use_for_tunnel(&mut config, monitor, vnet, tunnel),
        };
        probe_source.ok_or_else(mistake)?;
        let model = config::validate(config).map_err(RefusedError::Invalid)?;
        let target = targets(&model, self).into_iter().find(|target| is_it(&target.key, of));
        let target = target.ok_or_else(mistake)?;
        let tunnel = tunnel_of(&model, &target);
        Ok(Trial { target, tunnel })
    }
}

fn use_for_endpoint(config: &mut Config, monitor: &str, pool: &str, endpoint: &str) -> Option<()> {
    let pool = config.pools.iter_mut().find(|one| one.name == pool)?;
    pool.monitor = Some(monitor.to_owned());
    pool.monitor_group.clear();
    // What is said of the others does not matter here.
    pool.endpoints.retain(|one| one.name == endpoint);
    pool.endpoints.first_mut()?.enabled = true;
    Some(())
}

fn use_for_tunnel(config: &mut Config, monitor: &str, vnet: &str, tunnel: &str) -> Option<()> {
    let vnet = config.virtual_networks.iter_mut().find(|one| one.name == vnet)?;
    let tunnel = vnet.tunnels.iter_mut().find(|one| one.name == tunnel)?;
    tunnel.monitor = Some(monitor.to_owned());
    tunnel.enabled = true;
    Some(())
}

fn is_it(key: &TargetKey, of: &TrialOf) -> bool {
    match (key, of) {
        (TargetKey::Endpoint { pool, endpoint, .. }, TrialOf::Endpoint { pool: of_pool, endpoint: name }) => {
            (pool, endpoint) == (of_pool, name)
        }
        (TargetKey::Tunnel { virtual_network, tunnel, .. }, TrialOf::Tunnel { vnet, tunnel: name }) => {
            (virtual_network, tunnel) == (vnet, name)
        }
        _ => false,
    }
}

fn tunnel_of(model: &config::model::Model, target: &Target) -> Option<String> {
    let (TargetKey::Endpoint { virtual_network, .. } | TargetKey::Tunnel { virtual_network, .. }) =
        &target.key;
    let vnet = model.vnets.iter().find(|vnet| vnet.name == *virtual_network)?;
    vnet.tunnels.get(usize::from(target.place?)).map(|tunnel| tunnel.name.clone())
}
