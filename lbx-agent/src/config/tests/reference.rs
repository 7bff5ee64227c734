//! The tables of README.md are the reference of the configuration: each field once, with the default that it has.

use std::collections::BTreeMap;

use lbx_common::api::configuration_schema;
use serde_json::Value;

use super::schema::resolved;

const README: &str = include_str!("../../../../README.md");

/// A field as the schema has it.
#[derive(Debug)]
pub(super) struct Known {
    required: bool,
    default: Option<Value>,
    /// Whether it has fields of its own, which have lines of theirs.
    is_object: bool,
}

/// All fields of the configuration by their path, as `pools[].endpoints[].port`.
pub(super) fn known() -> BTreeMap<String, Known> {
    fn walk(root: &Value, schema: &Value, here: &str, found: &mut BTreeMap<String, Known>) {
        let required = schema["required"].as_array();
        for (name, field) in schema["properties"].as_object().unwrap() {
            let path = if here.is_empty() { name.clone() } else { format!("{here}.{name}") };
            let inner = resolved(root, field);
            let (inner, many) = inner.get("items").map_or((inner, ""), |items| (resolved(root, items), "[]"));
            let is_object = inner.get("properties").is_some();
            if is_object {
                walk(root, inner, &format!("{path}{many}"), found);
            }
            let required = required.is_some_and(|all| all.iter().any(|one| one == name));
            found.insert(path, Known { required, default: field.get("default").cloned(), is_object });
        }
    }
    let root = configuration_schema().to_value();
    let mut found = BTreeMap::new();
    walk(&root, &root, "", &mut found);
    found
}

/// Rows of the tables of a section whose header begins with `first`: cells without the blanks around them.
fn rows(section: &str, first: &str) -> Vec<Vec<&'static str>> {
    let text = README.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let table = text.split("\n\n").find(|part| part.starts_with(&format!("| {first} |"))).unwrap();
    // A `|` in a cell is written `\|`, and none of the first cells has one.
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    table.lines().skip(2).map(cells).collect()
}

/// Every field that a table names: its path, and what stands for its default.
fn documented(known: &BTreeMap<String, Known>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (section, first, column, object) in [
        ("Configuration", "field", 1, ""),
        ("Health checks", "field", 2, "monitors[]"),
        ("Changes and connections", "service field", 1, "services[]"),
    ] {
        let mut object = object.to_owned();
        for row in rows(section, first) {
            if let Some(name) = row[0].strip_prefix("**`").and_then(|rest| rest.strip_suffix("`**")) {
                object = whole_path(known, name);
                continue;
            }
            let names: Vec<&str> = row[0].split(", ").map(|name| name.trim_matches('`')).collect();
            let defaults: Vec<&str> = row[column].split(", ").collect();
            let mut before = "";
            for (index, name) in names.iter().enumerate() {
                let name = match (name.strip_prefix('.'), before.rsplit_once('.')) {
                    (Some(last), Some((parents, _))) => format!("{parents}.{last}"),
                    _ => (*name).to_owned(),
                };
                let path = if object.is_empty() { name } else { format!("{object}.{name}") };
                let default = if defaults.len() == names.len() { defaults[index] } else { row[column] };
                found.push((path, default.to_owned()));
                before = names[0];
            }
        }
    }
    found
}

/// The one object that a line names by the end of its path.
fn whole_path(known: &BTreeMap<String, Known>, name: &str) -> String {
    let field = name.trim_end_matches("[]");
    let is_it = |path: &&String| *path == field || path.ends_with(&format!(".{field}"));
    let paths: Vec<&String> = known.keys().filter(is_it).filter(|path| known[*path].is_object).collect();
    assert_eq!(paths.len(), 1, "README.md has lines for `{name}`, of which there are {paths:?}");
    format!("{}{}", paths[0], &name[field.len()..])
}

/// Whether a cell says that a field has this default.
fn says(cell: &str, field: &Known) -> bool {
    let text = cell.trim_matches('`').replace(' ', "");
    let literal = cell.len() > 2
        && cell.starts_with('`')
        && cell.ends_with('`')
        && !cell[1..cell.len() - 1].contains('`')
        || cell.parse::<f64>().is_ok()
        || matches!(cell, "true" | "false");
    match &field.default {
        _ if field.required => cell == "required",
        Some(Value::Number(number)) => literal && text.parse::<f64>().ok() == number.as_f64(),
        Some(Value::Bool(value)) => cell == value.to_string(),
        Some(Value::String(value)) => text == value.replace(' ', ""),
        // What an empty list means is said in a word.
        Some(Value::Array(_)) if literal => text == "[]",
        Some(Value::Object(_)) if literal => text == "{}",
        Some(Value::Array(_) | Value::Object(_)) => cell != "required",
        Some(Value::Null) | None => !literal && cell != "required",
    }
}

#[test]
fn the_tables_have_each_field_once_with_its_default() {
    let known = known();
    assert!(known.len() > 100, "{known:?}");
    let mut open: BTreeMap<&String, &Known> = known.iter().collect();
    let mut wrong = Vec::new();
    for (path, default) in documented(&known) {
        let Some(field) = known.get(&path) else {
            wrong.push(format!("{path}: there is no such field"));
            continue;
        };
        if open.remove(&path).is_none() {
            wrong.push(format!("{path} has two lines"));
        }
        if !says(&default, field) {
            wrong.push(format!("{path}: its default is not `{default}`: {field:?}"));
        }
    }
    // Names are described above the table, and objects have lines for their fields.
    open.retain(|path, field| !field.is_object && (!path.ends_with("].name") || path.contains("interfaces")));
    wrong.extend(open.keys().map(|path| format!("{path} is missing")));
    assert!(wrong.is_empty(), "README.md:\n{}", wrong.join("\n"));
}
