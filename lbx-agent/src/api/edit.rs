//! Changes of single objects, made on the JSON form of the configuration: whatever a request sends, its mistakes
//! are then found at their place in the whole configuration. Pure; decides nothing about what makes sense.

use lbx_common::api::{Collection, Config};
use serde_json::{Map, Value};

use super::{
    error::ApiError,
    extract::{CollectionPath, ObjectPath},
    referrers::referrers,
};
use crate::{config::decode, control::RefusedError};

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
        let mut tree = to_json(config)?;
        match self {
            Self::Create(within, body) => create(&mut tree, within, body)?,
            Self::Put(object, body) => put(&mut tree, object, body)?,
            Self::Patch(object, patch) => {
                let (list, index) = find_mut(&mut tree, object)?;
                if let Some(target) = list.get_mut(index) {
                    merge(target, patch);
                    insist_on_name(target, &object.name)?;
                }
            }
            Self::Delete(object) => {
                let referrers = referrers(config, object);
                let (list, index) = find_mut(&mut tree, object)?;
                if !referrers.is_empty() {
                    let (collection, name) = (object.within.collection, object.full_name());
                    return Err(ApiError::Referenced { collection, name, referrers });
                }
                list.remove(index);
            }
        }
        from_json(tree)
    }
}

/// JSON to configuration; every mistake is reported at its path.
pub(super) fn from_json(tree: Value) -> Result<Config, ApiError> {
    decode(tree).map_err(|mistakes| RefusedError::Invalid(mistakes).into())
}

/// The object that a path names.
pub(super) fn get(config: &Config, object: &ObjectPath) -> Result<Value, ApiError> {
    let mut tree = to_json(config)?;
    let (list, index) = find_mut(&mut tree, object)?;
    Ok(list.swap_remove(index))
}

/// All objects of a collection.
pub(super) fn list(config: &Config, within: &CollectionPath) -> Result<Vec<Value>, ApiError> {
    let mut tree = to_json(config)?;
    Ok(std::mem::take(list_mut(&mut tree, within)?))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| {
        RefusedError::Failed(format!("cannot write the configuration as JSON: {error}")).into()
    })
}

fn create(tree: &mut Value, within: &CollectionPath, body: &Value) -> Result<(), ApiError> {
    let collection = within.collection;
    if collection.parent().is_some() && within.parent.is_none() {
        return Err(made_through_parent(collection));
    }
    let list = list_mut(tree, within)?;
    if let Some(name) = name_of(body)
        && list.iter().any(|object| name_of(object) == Some(name))
    {
        let name = match &within.parent {
            Some(parent) => format!("{parent}/{name}"),
            None => name.to_owned(),
        };
        return Err(ApiError::Exists { collection, name });
    }
    list.push(body.clone());
    Ok(())
}

fn put(tree: &mut Value, object: &ObjectPath, body: &Value) -> Result<(), ApiError> {
    let mut body = body.clone();
    if let Value::Object(fields) = &mut body
        && !fields.contains_key("name")
    {
        // First, where a person expects it.
        fields.shift_insert(0, "name".to_owned(), Value::String(object.name.clone()));
    }
    insist_on_name(&body, &object.name)?;
    let list = list_mut(tree, &object.within)?;
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

fn find_mut<'a>(tree: &'a mut Value, object: &ObjectPath) -> Result<(&'a mut Vec<Value>, usize), ApiError> {
    let list = list_mut(tree, &object.within)?;
    match list.iter().position(|known| name_of(known) == Some(&object.name)) {
        Some(index) => Ok((list, index)),
        None => Err(no_such_object(object.within.collection, &object.full_name(), list)),
    }
}

fn list_mut<'a>(tree: &'a mut Value, within: &CollectionPath) -> Result<&'a mut Vec<Value>, ApiError> {
    let holder = match (within.collection.parent(), &within.parent) {
        (None, _) => tree,
        (Some(_), None) => return Err(made_through_parent(within.collection)),
        (Some(outer), Some(parent)) => {
            let outer_path = CollectionPath { collection: outer, parent: None };
            let object = ObjectPath { within: outer_path, name: parent.clone() };
            let (list, index) = find_mut(tree, &object)?;
            list.get_mut(index).ok_or_else(|| no_such_object(outer, parent, &[]))?
        }
    };
    holder.get_mut(within.collection.as_str()).and_then(Value::as_array_mut).ok_or_else(|| {
        RefusedError::Failed(format!("the configuration has no list {}", within.collection)).into()
    })
}

fn made_through_parent(collection: Collection) -> ApiError {
    let outer = collection.parent().map_or("", Collection::as_str);
    ApiError::NotAllowed(format!("a {} is made below /v1/{outer}/NAME/{collection}", collection.singular()))
}

fn no_such_object(collection: Collection, name: &str, known: &[Value]) -> ApiError {
    let names: Vec<_> = known.iter().filter_map(name_of).collect();
    let singular = collection.singular();
    ApiError::NotFound(if names.is_empty() {
        format!("there is no {singular} `{name}`: none is configured there")
    } else {
        // A long list helps nobody.
        let more = names.len().saturating_sub(10);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names: Vec<_> = names.into_iter().take(10).collect();
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
