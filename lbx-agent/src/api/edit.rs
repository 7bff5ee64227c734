//! Changes of single objects, made on the JSON form of the object that the configuration lists at its top: whatever a
//! request sends, its mistakes are then found at their place in the whole configuration. Pure; decides nothing about what makes sense.

use lbx_common::api::{Collection, Config, Monitor, Pool, Service, VirtualNetwork};
use serde_json::{Map, Value};

use super::{
    error::ApiError,
    extract::{CollectionPath, ObjectPath},
    referrers::referrers,
};
use crate::{
    config::{Object, decode, decode_object},
    control::RefusedError,
};

/// What a request does to one object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    /// POST: it must be new; the body names it.
    Create(CollectionPath, Value),
    /// PUT: as the body says, whether it was there or not.
    Put(ObjectPath, Value),
    /// PATCH: JSON merge patch (RFC 7396).
    Patch(ObjectPath, Value),
    /// DELETE
    Delete(ObjectPath),
}

impl Edit {
    /// The configuration after the change.
    pub(super) fn apply(&self, config: &Config) -> Result<Config, ApiError> {
        let within = match self {
            Self::Create(within, _) => within,
            Self::Put(object, _) | Self::Patch(object, _) | Self::Delete(object) => &object.within,
        };
        match within.collection.parent().unwrap_or(within.collection) {
            Collection::VirtualNetworks => self.among::<VirtualNetwork>(within, config),
            Collection::Monitors => self.among::<Monitor>(within, config),
            Collection::Pools => self.among::<Pool>(within, config),
            Collection::Services => self.among::<Service>(within, config),
            inner @ (Collection::Tunnels | Collection::Endpoints) => Err(made_through_parent(inner)),
        }
    }

    /// The same, where it is about an object of this kind, or about one in it. No other object becomes JSON: a
    /// configuration may be long.
    fn among<T: Object>(&self, within: &CollectionPath, config: &Config) -> Result<Config, ApiError> {
        let objects = T::list(config);
        let names: Vec<&str> = objects.iter().map(T::name).collect();
        let (place, value) = if within.collection.parent().is_some() {
            let (place, mut outer) = outer::<T>(within, config)?;
            let list = list_in(&mut outer, within)?;
            let names: Vec<String> = list.iter().filter_map(name_of).map(str::to_owned).collect();
            self.change(list, &names, config)?;
            (place, Some(outer))
        } else {
            let name = match self {
                Self::Create(_, body) => name_of(body),
                Self::Put(object, _) | Self::Patch(object, _) | Self::Delete(object) => Some(&*object.name),
            };
            let place = names.iter().position(|known| Some(*known) == name);
            let one = place.and_then(|place| objects.get(place)).map(to_json).transpose()?;
            let mut list: Vec<Value> = one.into_iter().collect();
            self.change(&mut list, &names, config)?;
            (place.unwrap_or(objects.len()), list.pop())
        };
        let mut after = config.clone();
        let list = T::list_mut(&mut after);
        let Some(value) = value else {
            list.remove(place);
            return Ok(after);
        };
        let path = format!("{}[{place}]", within.collection.parent().unwrap_or(within.collection));
        let object = decode_object(value, &path).map_err(RefusedError::Invalid)?;
        match list.get_mut(place) {
            Some(known) => *known = object,
            None => list.push(object),
        }
        Ok(after)
    }

    /// Changes a list that has at least the object that this is about, where there is one; `names` are those of all.
    fn change(
        &self,
        list: &mut Vec<Value>,
        names: &[impl AsRef<str>],
        config: &Config,
    ) -> Result<(), ApiError> {
        match self {
            Self::Create(within, body) => create(list, within, body)?,
            Self::Put(object, body) => put(list, object, body)?,
            Self::Patch(object, patch) => {
                let target = find(list, object, names)?;
                merge(target, patch);
                insist_on_name(target, &object.name)?;
            }
            Self::Delete(object) => {
                find(list, object, names)?;
                let referrers = referrers(config, object);
                if !referrers.is_empty() {
                    let (collection, name) = (object.within.collection, object.full_name());
                    return Err(ApiError::Referenced { collection, name, referrers });
                }
                list.retain(|known| name_of(known) != Some(&object.name));
            }
        }
        Ok(())
    }
}

/// JSON to configuration; every mistake is reported at its path.
pub(super) fn from_json(tree: Value) -> Result<Config, ApiError> {
    decode(tree).map_err(|mistakes| RefusedError::Invalid(mistakes).into())
}

/// The object that a path names.
pub(super) fn get(config: &Config, object: &ObjectPath) -> Result<Value, ApiError> {
    let mut list = list(config, &object.within)?;
    let names: Vec<String> = list.iter().filter_map(name_of).map(str::to_owned).collect();
    Ok(find(&mut list, object, &names)?.take())
}

/// All objects of a collection.
pub(super) fn list(config: &Config, within: &CollectionPath) -> Result<Vec<Value>, ApiError> {
    fn all<T: Object>(config: &Config, within: &CollectionPath) -> Result<Vec<Value>, ApiError> {
        if within.collection.parent().is_some() {
            let (_, mut outer) = outer::<T>(within, config)?;
            return Ok(std::mem::take(list_in(&mut outer, within)?));
        }
        T::list(config).iter().map(to_json).collect()
    }
    match within.collection.parent().unwrap_or(within.collection) {
        Collection::VirtualNetworks => all::<VirtualNetwork>(config, within),
        Collection::Monitors => all::<Monitor>(config, within),
        Collection::Pools => all::<Pool>(config, within),
        Collection::Services => all::<Service>(config, within),
        inner @ (Collection::Tunnels | Collection::Endpoints) => Err(made_through_parent(inner)),
    }
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| not_json(&error))
}

pub(super) fn not_json(error: &serde_json::Error) -> ApiError {
    RefusedError::Failed(format!("cannot write the configuration as JSON: {error}")).into()
}

fn create(list: &mut Vec<Value>, within: &CollectionPath, body: &Value) -> Result<(), ApiError> {
    if let Some(name) = name_of(body)
        && list.iter().any(|object| name_of(object) == Some(name))
    {
        let name = match &within.parent {
            Some(parent) => format!("{parent}/{name}"),
            None => name.to_owned(),
        };
        return Err(ApiError::Exists { collection: within.collection, name });
    }
    list.push(body.clone());
    Ok(())
}

fn put(list: &mut Vec<Value>, object: &ObjectPath, body: &Value) -> Result<(), ApiError> {
    let mut body = body.clone();
    if let Value::Object(fields) = &mut body
        && !fields.contains_key("name")
    {
        // First, where a person expects it.
        fields.shift_insert(0, "name".to_owned(), Value::String(object.name.clone()));
    }
    insist_on_name(&body, &object.name)?;
    match list.iter_mut().find(|known| name_of(known) == Some(&object.name)) {
        Some(known) => *known = body,
        None => list.push(body),
    }
    Ok(())
}

/// An object keeps its name: a rename would silently break what refers to it.
fn insist_on_name(object: &Value, name: &str) -> Result<(), ApiError> {
    match object {
        Value::Object(fields) if fields.get("name").and_then(Value::as_str) != Some(name) => Err(
            ApiError::invalid("name", format!("must be `{name}`, as in the path: objects cannot be renamed")),
        ),
        Value::Object(_) => Ok(()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(ApiError::invalid("", "the body must be a JSON object, as {\"name\": …}"))
        }
    }
}

fn find<'a>(
    list: &'a mut [Value],
    object: &ObjectPath,
    names: &[impl AsRef<str>],
) -> Result<&'a mut Value, ApiError> {
    let known = list.iter_mut().find(|known| name_of(known) == Some(&object.name));
    known.ok_or_else(|| no_such_object(object.within.collection, &object.full_name(), names))
}

/// The object with the list that a path is about, and its place.
fn outer<T: Object>(within: &CollectionPath, config: &Config) -> Result<(usize, Value), ApiError> {
    let (Some(collection), Some(parent)) = (within.collection.parent(), &within.parent) else {
        return Err(made_through_parent(within.collection));
    };
    let objects = T::list(config);
    let place = objects.iter().position(|known| known.name() == parent);
    let Some((place, object)) = place.and_then(|place| Some((place, objects.get(place)?))) else {
        let names: Vec<&str> = objects.iter().map(T::name).collect();
        return Err(no_such_object(collection, parent, &names));
    };
    Ok((place, to_json(object)?))
}

/// The list in it.
fn list_in<'a>(outer: &'a mut Value, within: &CollectionPath) -> Result<&'a mut Vec<Value>, ApiError> {
    outer.get_mut(within.collection.as_str()).and_then(Value::as_array_mut).ok_or_else(|| {
        RefusedError::Failed(format!("the configuration has no list {}", within.collection)).into()
    })
}

fn made_through_parent(collection: Collection) -> ApiError {
    let outer = collection.parent().map_or("", Collection::as_str);
    ApiError::NotAllowed(format!("a {} is made below /v1/{outer}/NAME/{collection}", collection.singular()))
}

fn no_such_object(collection: Collection, name: &str, names: &[impl AsRef<str>]) -> ApiError {
    let singular = collection.singular();
    ApiError::NotFound(if names.is_empty() {
        format!("there is no {singular} `{name}`: none is configured there")
    } else {
        // A long list helps nobody.
        let more = names.len().saturating_sub(10);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names: Vec<_> = names.iter().map(AsRef::as_ref).take(10).collect();
        format!("there is no {singular} `{name}`, only {}{rest}", names.join(", "))
    })
}

fn name_of(object: &Value) -> Option<&str> {
    object.get("name").and_then(Value::as_str)
}

/// RFC 7396 §2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_follows_the_examples_of_rfc_7396() {
        // RFC 7396 appendix A: original, patch, result.
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (original, patch, result) in cases {
            let mut target = original.clone();
            merge(&mut target, &patch);
            assert_eq!(target, result, "{original} + {patch}");
        }
    }
}
