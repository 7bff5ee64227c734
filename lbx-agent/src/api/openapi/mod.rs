//! The OpenAPI document: what the table of operations says, and the schemas of the types that it names. Served, never
//! read; nothing here handles a request.

mod bodies;
pub(super) mod example;

use lbx_common::api::{
    Collection, Endpoint, EventType, FlowQuery, Monitor, Pool, Problem, Service, Tunnel, VirtualNetwork,
    schema_settings,
};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    events::LINES,
    operations::{Operation, Query, operations},
};
use crate::control::Control;

const SCHEMAS: &str = "#/components/schemas/";
const ABOUT: &str = "\
The agent answers on a Unix socket. Objects are those of the configuration file. Reads say in `ETag` which revision of the \
configuration they are of; a write that sends it back as `If-Match` is refused when somebody else was faster. Refusals are \
problem documents (RFC 9457) that list every mistake. A path that is not here is answered with 404, a method that a path \
does not have with 405 and `Allow`. `HEAD` is answered where `GET` is.";

/// Makes the schema of a type.
type SchemaOf = fn(&mut Schemas) -> Value;

/// Of what the agent reads. What is both read and written is described as a user may write it.
fn taken<T: JsonSchema>(schemas: &mut Schemas) -> Value {
    schemas.taken.subschema_for::<T>().to_value()
}

/// Of what the agent writes: what is always there is required.
fn given<T: JsonSchema>(schemas: &mut Schemas) -> Value {
    schemas.given.subschema_for::<T>().to_value()
}

/// The schema of an object of a collection.
pub(super) fn object(collection: Collection) -> SchemaOf {
    match collection {
        Collection::VirtualNetworks => taken::<VirtualNetwork>,
        Collection::Tunnels => taken::<Tunnel>,
        Collection::Monitors => taken::<Monitor>,
        Collection::Pools => taken::<Pool>,
        Collection::Endpoints => taken::<Endpoint>,
        Collection::Services => taken::<Service>,
    }
}

/// What an operation answers.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// JSON.
    Json(SchemaOf),
    /// JSON, and the revision as `ETag`.
    Revised(SchemaOf),
    /// The same, a list.
    RevisedList(SchemaOf),
    /// Text of this media type.
    Text(&'static str),
    /// JSON, in lines.
    Lines(SchemaOf),
}

impl Content {
    /// JSON of a type.
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self::Json(given::<T>)
    }

    /// The same, and the revision as `ETag`.
    pub(super) fn revised<T: JsonSchema>() -> Self {
        Self::Revised(given::<T>)
    }

    /// Lines, each of which is JSON of a type.
    pub(super) fn lines<T: JsonSchema>() -> Self {
        Self::Lines(given::<T>)
    }

    /// A list of configured objects, and the revision as `ETag`.
    pub(super) fn revised_list<T: JsonSchema>() -> Self {
        Self::RevisedList(taken::<T>)
    }
}

/// What an operation takes.
pub(super) struct Body {
    schema: SchemaOf,
    form: Form,
    yaml: bool,
    example: Value,
}

/// How much of an object a body has.
#[derive(Clone, Copy)]
enum Form {
    /// All.
    Whole,
    /// The name may be left out: it is in the path.
    InPlace,
    /// What is to be changed; null takes a field away.
    Patch,
}

impl Body {
    /// A body with all of an object.
    pub(super) fn new(schema: SchemaOf, example: Value) -> Self {
        Self { schema, form: Form::Whole, yaml: false, example }
    }

    /// The same, of a type.
    pub(super) fn taken<T: JsonSchema>(example: Value) -> Self {
        Self::new(taken::<T>, example)
    }

    /// A body whose name may be left out.
    pub(super) fn in_place(schema: SchemaOf, example: Value) -> Self {
        Self { form: Form::InPlace, ..Self::new(schema, example) }
    }

    /// A merge patch.
    pub(super) fn patch(schema: SchemaOf, example: Value) -> Self {
        Self { form: Form::Patch, ..Self::new(schema, example) }
    }

    /// The same, also as YAML.
    pub(super) fn or_yaml(self) -> Self {
        Self { yaml: true, ..self }
    }
}

/// The schemas that are named so far: of what the agent reads, and of what it writes.
pub(super) struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
    /// Schemas of bodies that are made of others.
    bodies: Map<String, Value>,
}

/// The document of the API.
pub(super) fn document<C: Control>() -> Value {
    let settings = schema_settings().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = Schemas {
        taken: settings.clone().for_deserialize().into_generator(),
        given: settings.for_serialize().into_generator(),
        bodies: Map::new(),
    };
    let problem = given::<Problem>(&mut schemas);
    let mut paths = Map::new();
    for operation in operations::<C>() {
        let described = describe(&operation, &mut schemas);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        put(path, &operation.method.as_str().to_lowercase(), described);
    }
    let mut components = schemas.taken.take_definitions(true);
    for (name, schema) in schemas.given.take_definitions(true).into_iter().chain(schemas.bodies) {
        components.entry(name).or_insert(schema);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "lbx agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "http://localhost", "description": "The agent's socket, whatever the name of the host"}],
        "paths": paths,
        "components": {"schemas": components, "responses": refusals(&problem)},
    })
}

fn describe<C>(operation: &Operation<C>, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for &(status, content) in &operation.answers {
        responses.insert(status.to_string(), answer(status, content, schemas));
    }
    for status in &operation.refusals {
        responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{status}")}));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(operation, schemas),
        "responses": responses,
    });
    if let Some(body) = &operation.body {
        let schema = schemas.body(body);
        let content = json!({"schema": schema, "example": body.example});
        let media =
            if body.yaml { vec!["application/json", "application/yaml"] } else { vec!["application/json"] };
        let content: Map<_, _> = media.into_iter().map(|media| (media.to_owned(), content.clone())).collect();
        put(&mut described, "requestBody", json!({"required": true, "content": content}));
    }
    described
}

fn answer(status: u16, content: Content, schemas: &mut Schemas) -> Value {
    let description = match status {
        201 => "It is made",
        _ => "Done",
    };
    let (media, schema) = match content {
        Content::Json(schema) | Content::Revised(schema) => ("application/json", schema(schemas)),
        Content::RevisedList(schema) => {
            ("application/json", json!({"type": "array", "items": schema(schemas)}))
        }
        Content::Text(media) => (media, json!({"type": "string"})),
        // OpenAPI has a word for it from 3.2 on.
        Content::Lines(schema) => (LINES, json!({"type": "string", "x-itemSchema": schema(schemas)})),
    };
    let mut described = json!({"description": description, "content": {media: {"schema": schema}}});
    if matches!(content, Content::Revised(_) | Content::RevisedList(_)) {
        let etag = json!({
            "description": "Revision of the configuration",
            "required": true,
            "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"},
        });
        put(&mut described, "headers", json!({"ETag": etag}));
    }
    described
}

fn parameters<C>(operation: &Operation<C>, schemas: &mut Schemas) -> Vec<Value> {
    let name = json!({"$ref": format!("{SCHEMAS}Name")});
    let of_path = operation.path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = of_path
        .zip(&operation.names)
        .map(|(parameter, example)| {
            json!({"name": parameter, "in": "path", "required": true, "schema": name, "example": example})
        })
        .collect();
    match operation.query {
        Query::None => {}
        Query::Write => all.extend([
            json!({
                "name": "dry_run", "in": "query", "description": "Check only, and say what would change",
                "schema": {"type": "boolean", "default": false},
            }),
            json!({
                "name": "If-Match", "in": "header",
                "description": "The revision that the writer has read, as an `ETag` says it; `*` = any",
                "schema": {"type": "string", "pattern": "^(\\*|\"[0-9]{1,19}\")$"},
            }),
        ]),
        Query::Events => all.extend([
            json!({
                "name": "follow", "in": "query",
                "description": "Go on with what happens; without `since`, from now on",
                "schema": {"type": "boolean", "default": false},
            }),
            json!({
                "name": "since", "in": "query", "description": "Only events after the one with this number; 0 = all",
                "schema": {"type": "integer", "minimum": 0, "maximum": u64::MAX},
            }),
            json!({
                "name": "type", "in": "query", "description": "Only events of these types",
                "schema": {"type": "array", "items": {"enum": EventType::ALL.map(EventType::as_str)}},
            }),
        ]),
        Query::Flows => all.extend(query_of::<FlowQuery>(schemas)),
    }
    all
}

/// The fields of a type as parameters of a query.
fn query_of<T: JsonSchema>(schemas: &mut Schemas) -> Vec<Value> {
    let schema = T::json_schema(&mut schemas.taken).to_value();
    let fields = schema.get("properties").and_then(Value::as_object);
    let each = fields.into_iter().flatten().map(|(name, schema)| {
        let mut schema = bodies::without_null(schema.clone());
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({"name": name, "in": "query", "description": description, "schema": schema})
    });
    each.collect()
}

impl Schemas {
    /// The schema of a body, which is put beside those that it is made of.
    fn body(&mut self, body: &Body) -> Value {
        let whole = (body.schema)(self);
        let Some(name) =
            whole.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(SCHEMAS))
        else {
            return whole;
        };
        let name = match body.form {
            Form::Whole => return whole,
            Form::InPlace => bodies::in_place(name, self.taken.definitions(), &mut self.bodies),
            Form::Patch => bodies::patch(name, self.taken.definitions(), &mut self.bodies),
        };
        json!({"$ref": format!("{SCHEMAS}{name}")})
    }
}

/// Sets a field of an object.
fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

/// Every refusal by its status.
fn refusals(problem: &Value) -> Value {
    let each = [
        (400, "The request cannot be understood: path, query, header or body"),
        (403, "The configuration belongs to a file, and cannot be changed here"),
        (404, "There is no such thing"),
        (409, "The name is taken, or the object is in use"),
        (412, "Somebody else has changed the configuration since the revision of `If-Match`"),
        (413, "The body is too large"),
        (422, "The configuration would be invalid; every mistake is listed"),
        (429, "Too many do that already"),
        (500, "The kernel or the disk did not take it"),
        (503, "The agent is stopping"),
    ];
    let content = json!({"application/problem+json": {"schema": problem}});
    let each = each.into_iter().map(|(status, description)| {
        (status.to_string(), json!({"description": description, "content": content}))
    });
    each.collect::<Map<_, _>>().into()
}
