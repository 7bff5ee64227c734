//! What differs between two configurations, object by object. Pure.

use std::collections::BTreeMap;

use lbx_common::api::{
    Change, ChangeAction, Collection, Config, FieldChange, Monitor, Pool, Service, VirtualNetwork,
};
use serde::Serialize;
use serde_json::{Map, Value, to_value};

/// All objects that were created, changed or deleted on the way from `before` to `after`.
pub fn diff(before: &Config, after: &Config) -> Result<Vec<Change>, serde_json::Error> {
    let mut changes = Vec::new();
    let fixed = [
        ("version", to_value(before.version)?, to_value(after.version)?),
        ("node", to_value(&before.node)?, to_value(&after.node)?),
        ("limits", to_value(&before.limits)?, to_value(&after.limits)?),
        ("timers", to_value(&before.timers)?, to_value(&after.timers)?),
        ("regions", to_value(&before.regions)?, to_value(&after.regions)?),
    ];
    for (section, old, new) in fixed {
        if old != new {
            let fields = match (&old, &new) {
                (Value::Object(old), Value::Object(new)) => fields(old, new),
                _ => vec![FieldChange { field: section.to_owned(), before: Some(old), after: Some(new) }],
            };
            changes.push(Change {
                action: ChangeAction::Changed,
                collection: section.to_owned(),
                name: String::new(),
                fields,
            });
        }
    }
    let (mut old, mut new) = (Objects::default(), Objects::default());
    let vnets = differing(&before.virtual_networks, &after.virtual_networks);
    let monitors = differing(&before.monitors, &after.monitors);
    let pools = differing(&before.pools, &after.pools);
    let services = differing(&before.services, &after.services);
    old.add_all(vnets.0, monitors.0, pools.0, services.0)?;
    new.add_all(vnets.1, monitors.1, pools.1, services.1)?;
    for collection in Collection::ALL {
        collection_changes(collection, &old, &new, &mut changes);
    }
    Ok(changes)
}

fn collection_changes(collection: Collection, old: &Objects, new: &Objects, changes: &mut Vec<Change>) {
    let mut push = |action, name: &str, fields| {
        let (collection, name) = (collection.as_str().to_owned(), name.to_owned());
        changes.push(Change { action, collection, name, fields });
    };
    for name in old.names(collection).filter(|name| new.get(collection, name).is_none()) {
        push(ChangeAction::Deleted, name, Vec::new());
    }
    for name in new.names(collection) {
        match (old.get(collection, name), new.get(collection, name)) {
            (None, _) => push(ChangeAction::Created, name, Vec::new()),
            (Some(was), Some(is)) if was != is => push(ChangeAction::Changed, name, fields(was, is)),
            (Some(_), _) => {}
        }
    }
    let kept_old = old.names(collection).filter(|name| new.get(collection, name).is_some());
    let kept_new = new.names(collection).filter(|name| old.get(collection, name).is_some());
    if !kept_old.eq(kept_new) {
        push(ChangeAction::Changed, "", Vec::new());
    }
}

fn fields(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<FieldChange> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys()
        .chain(added)
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| FieldChange {
            field: key.clone(),
            before: old.get(key).cloned(),
            after: new.get(key).cloned(),
        })
        .collect()
}

/// What is left of two lists without what they have in common at the front and at the back. Of a long configuration,
/// most changes leave nearly all as it is.
fn differing<'a, T: PartialEq>(mut before: &'a [T], mut after: &'a [T]) -> (&'a [T], &'a [T]) {
    while let ([one, rest @ ..], [other, others @ ..]) = (before, after)
        && one == other
    {
        (before, after) = (rest, others);
    }
    while let ([rest @ .., one], [others @ .., other]) = (before, after)
        && one == other
    {
        (before, after) = (rest, others);
    }
    (before, after)
}

/// Objects by collection and full name, without the objects that they contain.
#[derive(Default)]
struct Objects {
    order: Vec<(Collection, String)>,
    by_name: BTreeMap<(Collection, String), Map<String, Value>>,
}

impl Objects {
    fn add_all(
        &mut self,
        vnets: &[VirtualNetwork],
        monitors: &[Monitor],
        pools: &[Pool],
        services: &[Service],
    ) -> Result<(), serde_json::Error> {
        for vnet in vnets {
            self.add(Collection::VirtualNetworks, vnet.name.clone(), vnet, Some("tunnels"))?;
            for tunnel in &vnet.tunnels {
                self.add(Collection::Tunnels, format!("{}/{}", vnet.name, tunnel.name), tunnel, None)?;
            }
        }
        for monitor in monitors {
            self.add(Collection::Monitors, monitor.name.clone(), monitor, None)?;
        }
        for pool in pools {
            self.add(Collection::Pools, pool.name.clone(), pool, Some("endpoints"))?;
            for endpoint in &pool.endpoints {
                self.add(Collection::Endpoints, format!("{}/{}", pool.name, endpoint.name), endpoint, None)?;
            }
        }
        for service in services {
            self.add(Collection::Services, service.name.clone(), service, None)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        collection: Collection,
        name: String,
        object: &impl Serialize,
        contained: Option<&str>,
    ) -> Result<(), serde_json::Error> {
        let Value::Object(mut object) = to_value(object)? else { return Ok(()) };
        if let Some(field) = contained {
            object.shift_remove(field);
        }
        self.order.push((collection, name.clone()));
        self.by_name.insert((collection, name), object);
        Ok(())
    }

    fn names(&self, collection: Collection) -> impl Iterator<Item = &String> {
        self.order.iter().filter(move |(of, _)| *of == collection).map(|(_, name)| name)
    }

    fn get(&self, collection: Collection, name: &str) -> Option<&Map<String, Value>> {
        self.by_name.get(&(collection, name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(pools: &[&str]) -> Config {
        let pool = |name: &&str| Pool::new((*name).to_owned());
        Config { version: 1, pools: pools.iter().map(pool).collect(), ..Config::default() }
    }

    fn changes(before: &Config, after: &Config) -> Vec<(ChangeAction, String, String)> {
        let changes = diff(before, after).unwrap();
        changes.into_iter().map(|change| (change.action, change.collection, change.name)).collect()
    }

    #[test]
    fn only_what_differs_is_reported_wherever_it_stands() {
        let before = config(&["a", "b", "c", "d"]);
        let pools = |action, name: &str| (action, "pools".to_owned(), name.to_owned());
        let (created, deleted) = (ChangeAction::Created, ChangeAction::Deleted);
        assert_eq!(changes(&before, &before), []);
        assert_eq!(changes(&before, &config(&["a", "c", "d"])), [pools(deleted, "b")]);
        assert_eq!(changes(&before, &config(&["a", "b", "x", "c", "d"])), [pools(created, "x")]);
        assert_eq!(
            changes(&before, &config(&["x", "b", "c"])),
            [pools(deleted, "a"), pools(deleted, "d"), pools(created, "x")]
        );
        assert_eq!(
            changes(&before, &config(&["a", "c", "b", "d"])),
            [pools(ChangeAction::Changed, "")],
            "the order"
        );
        let mut twice = before.clone();
        twice.pools[0].table_size = Some(251);
        twice.pools[3].table_size = Some(251);
        let changed = ChangeAction::Changed;
        assert_eq!(changes(&before, &twice), [pools(changed, "a"), pools(changed, "d")]);
    }

    #[test]
    fn timers_are_reported_like_other_sections() {
        let (before, mut after) = (config(&[]), config(&[]));
        after.timers.transition = Duration::from_secs(7);
        let [change] = &diff(&before, &after).unwrap()[..] else { panic!("one section changed") };
        assert_eq!((change.collection.as_str(), change.fields[0].field.as_str()), ("timers", "transition"));
    }
}
