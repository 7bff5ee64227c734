//! The schema for editors says what the agent says: it takes what is right, and refuses what can never be right.

use std::collections::BTreeSet;

use jsonschema::Validator;
use lbx_common::api::{Config, Mistake, configuration_schema};
use serde_json::{Value, json};

use super::{WHOLE, decode, load_yaml, validate};

fn schema() -> Validator {
    let schema = configuration_schema();
    jsonschema::options().should_validate_formats(true).build(schema.as_value()).unwrap()
}

/// A text with every field, as a tree.
pub(super) fn whole() -> Value {
    super::super::tree::parse(WHOLE).unwrap().to_json()
}

/// What the agent finds wrong with a document.
fn mistakes(document: &Value) -> Vec<Mistake> {
    decode(document.clone()).and_then(validate).err().unwrap_or_default()
}

/// The JSON pointers of everything in a document.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (name, value) in inner {
        places(value, &format!("{here}/{name}"), found);
    }
}

/// A pointer as mistakes write it.
pub(super) fn path_of(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, step| match step.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) if path.is_empty() => step.to_owned(),
        Err(_) => format!("{path}.{step}"),
    })
}

/// The schema of the value at a pointer, where every reference is followed.
fn schema_at<'a>(root: &'a Value, pointer: &str) -> &'a Value {
    pointer.split('/').skip(1).fold(resolved(root, root), |schema, step| {
        let inner = match step.parse::<usize>() {
            Ok(_) => schema.get("items"),
            Err(_) => schema
                .get("properties")
                .and_then(|all| all.get(step))
                .or_else(|| schema.get("patternProperties").and_then(|all| all.as_object()?.values().next())),
        };
        resolved(root, inner.unwrap_or_else(|| panic!("the schema knows no {pointer}")))
    })
}

pub(super) fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let one = schema.get("anyOf").and_then(|all| all.get(0)).unwrap_or(schema);
    match one.get("$ref").and_then(Value::as_str) {
        Some(place) => root.pointer(place.trim_start_matches('#')).unwrap(),
        None if one.get("format").is_some() => schema,
        None => one,
    }
}

#[test]
fn what_is_right_is_taken() {
    let readme = include_str!("../../../../README.md");
    let example = readme.split("```yaml\nversion: 1").nth(1).unwrap().split("```").next().unwrap();
    let example = load_yaml(&format!("version: 1{example}")).unwrap();
    let schema = schema();
    for config in [load_yaml(WHOLE).unwrap(), example, Config::default()] {
        validate(config.clone()).unwrap();
        let document = serde_json::to_value(config).unwrap();
        let errors: Vec<String> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    assert!(schema.is_valid(&whole()));
    assert_eq!(mistakes(&whole()), []);
}

#[test]
fn the_text_with_every_field_has_every_field() {
    fn fields(root: &Value, schema: &Value, here: &str, found: &mut BTreeSet<String>) {
        let schema = resolved(root, schema);
        if let Some(items) = schema.get("items") {
            return fields(root, items, &format!("{here}[]"), found);
        }
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let here = format!("{here}.{name}");
            fields(root, inner, &here, found);
            found.insert(here);
        }
    }
    let schema = configuration_schema().to_value();
    let mut known = BTreeSet::new();
    fields(&schema, &schema, "", &mut known);
    let document = whole();
    let mut found = Vec::new();
    places(&document, "", &mut found);
    for pointer in found {
        let steps = pointer.split('/').skip(1);
        let path = steps.fold(String::new(), |path, step| match step.parse::<usize>() {
            Ok(_) => format!("{path}[]"),
            Err(_) => format!("{path}.{step}"),
        });
        known.remove(&path);
    }
    assert_eq!(known, BTreeSet::new(), "these are missing in testdata/whole.yaml");
}

/// Values of every kind, some of them right at some place.
fn values() -> Vec<Value> {
    let texts = [
        "",
        "a",
        "A",
        "-a",
        "a b",
        "a/b",
        "#",
        "/",
        "/a#b",
        "any",
        "tcp",
        "tcp/80",
        "tcp/0",
        "tcp/65536",
        "tcp/1-2",
        "udp/any",
        "sctp/1",
        "80",
        "200",
        "2xx",
        "600",
        "20",
        "5s",
        "1m 5s",
        "1.5h",
        "5",
        "s",
        "0",
        "1 fortnight",
        "10.0.0.1",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1:80",
        "2001:db8::1",
        "::g",
        "fe80::1%eth0",
        "10.0.0.0/8",
        "10.0.0.0/33",
        "10.0.0.0",
        "::/0",
        "::/129",
        "02:00:00:00:00:01",
        "02:00:00:00:00",
        "01:00:00:00:00:00",
        "file:",
        "file:a",
        "0123456789abcdef0123456789abcdef",
        "\\x41",
        "\\q",
        "\\",
        "public",
        "native",
        "gre",
        "gre-udp",
        "ip",
        "GET",
        "get",
        "source_ip",
        "random",
        "nat",
        "keep",
        "always",
        "true",
        "yes",
    ];
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(0.5),
        json!(1.01),
        json!(101),
        json!(70_000),
        json!(5_000_000_000_u64),
        json!([]),
        json!([1]),
        json!(["a"]),
        json!({}),
        json!({"a": 1}),
        json!({"name": "a"}),
    ];
    let long = "x".repeat(64);
    texts.iter().map(|text| json!(text)).chain([json!(long)]).chain(others).collect()
}

/// What one document says of the schema; `path` is that of what was changed.
fn compare(schema: &Validator, document: &Value, path: &str) -> Result<(), String> {
    let taken = schema.is_valid(document);
    match decode(document.clone()) {
        Err(_) if taken => Err(format!("the agent cannot read {path}, and the schema takes it")),
        Ok(_) if !taken && mistakes(document).is_empty() => {
            Err(format!("{path} is right, and the schema refuses it"))
        }
        // What the schema refuses for itself is a mistake of this field, and not one of others that need it.
        Ok(_) if !taken && !mistakes(document).iter().any(|mistake| mistake.path.starts_with(path)) => {
            Err(format!("the schema refuses {path}, and the agent finds nothing wrong with it"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[test]
fn schema_and_agent_agree_on_every_value_at_every_place() {
    let (schema, whole) = (schema(), whole());
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let mut wrong = Vec::new();
    for pointer in all.iter().skip(1) {
        let path = path_of(pointer);
        for value in values() {
            let mut document = whole.clone();
            *document.pointer_mut(pointer).unwrap() = value.clone();
            wrong.extend(compare(&schema, &document, &path).err().map(|error| format!("{error}: {value}")));
        }
        let mut document = whole.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        if let Some(fields) = document.pointer_mut(parent).unwrap().as_object_mut() {
            fields.remove(name);
            wrong.extend(
                compare(&schema, &document, "").err().map(|error| format!("without {path}: {error}")),
            );
        }
        let mut document = whole.clone();
        if let Some(fields) = document.pointer_mut(pointer).unwrap().as_object_mut() {
            fields.insert("colour".to_owned(), json!("red"));
            wrong.extend(
                compare(&schema, &document, &path).err().map(|error| format!("{error}: one field more")),
            );
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// A number just outside of the bounds of the schema is a mistake, and one just inside is none for its size.
#[test]
fn bounds_of_numbers_are_those_of_the_agent() {
    let root = configuration_schema().to_value();
    let whole = whole();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let mut seen = 0;
    for pointer in all.iter().filter(|pointer| whole.pointer(pointer).is_some_and(Value::is_number)) {
        let schema = schema_at(&root, pointer);
        let found = |number: i64| {
            let mut document = whole.clone();
            *document.pointer_mut(pointer).unwrap() = json!(number);
            let all = mistakes(&document);
            all.into_iter()
                .filter(|one| one.path == path_of(pointer))
                .map(|one| one.message)
                .collect::<Vec<_>>()
        };
        for (bound, outside) in [("minimum", -1), ("maximum", 1)] {
            let bound =
                schema.get(bound).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {schema}"));
            #[expect(clippy::cast_possible_truncation, reason = "bounds are whole")]
            let bound = bound as i64;
            assert!(!found(bound + outside).is_empty(), "{pointer}: {} is taken", bound + outside);
            let said = found(bound);
            assert!(!said.iter().any(|message| message.starts_with("found")), "{pointer}: {bound}: {said:?}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}
