//! Schemas of bodies that have less than a whole object: made of the whole object's schema. Pure.

use serde_json::{Map, Value, json};

use super::{SCHEMAS, put};

/// The object without its name, which is in the path already. Returns the name of the schema.
pub(super) fn in_place(name: &str, whole: &Map<String, Value>, made: &mut Map<String, Value>) -> String {
    let own = format!("{name}InPlace");
    let mut schema = whole.get(name).cloned().unwrap_or_default();
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "name");
    }
    put(
        &mut schema,
        "description",
        "The whole object; `name` may be left out, and else is that of the path.".into(),
    );
    made.insert(own.clone(), schema);
    own
}

/// A merge patch (RFC 7396) of the object: every field may be left out, and null takes one away that need not be there.
pub(super) fn patch(name: &str, whole: &Map<String, Value>, made: &mut Map<String, Value>) -> String {
    let own = format!("{name}Patch");
    if made.contains_key(&own) {
        return own;
    }
    let mut schema = whole.get(name).cloned().unwrap_or_default();
    let required = schema.as_object_mut().and_then(|schema| schema.remove("required")).unwrap_or_default();
    let is_required = |field: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == field));
    for (field, value) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let of_field = field_patch(std::mem::take(value), whole, made);
        *value = if is_required(field) { of_field } else { or_null(of_field) };
    }
    put(&mut schema, "description", "Fields that are to be changed; null takes one away.".into());
    made.insert(own.clone(), schema);
    own
}

fn field_patch(mut schema: Value, whole: &Map<String, Value>, made: &mut Map<String, Value>) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        // What is left out stays as it is.
        fields.remove("default");
    }
    for inner in schema.get_mut("patternProperties").and_then(Value::as_object_mut).into_iter().flatten() {
        *inner.1 = or_null(std::mem::take(inner.1));
    }
    for choice in schema.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        *choice = field_patch(std::mem::take(choice), whole, made);
    }
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(SCHEMAS));
    let inner =
        reference.filter(|name| whole.get(*name).is_some_and(|inner| inner.get("properties").is_some()));
    if let Some(inner) = inner.map(|inner| patch(inner, whole, made)) {
        put(&mut schema, "$ref", format!("{SCHEMAS}{inner}").into());
    }
    schema
}

fn or_null(mut schema: Value) -> Value {
    let nothing = json!({"type": "null"});
    let has = |list: &str, one: &Value| {
        schema.get(list).and_then(Value::as_array).is_some_and(|all| all.contains(one))
    };
    if has("type", &json!("null")) || has("anyOf", &nothing) {
        return schema;
    }
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut either = json!({"anyOf": [schema, nothing]});
    if let Some(description) = description {
        put(&mut either, "description", description);
    }
    either
}

/// The schema of a value that is there.
pub(super) fn without_null(mut schema: Value) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|one| *one != json!({"type": "null"}));
    }
    schema
}
