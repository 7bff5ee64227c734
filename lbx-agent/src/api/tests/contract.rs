//! The OpenAPI document says what the API does: each operation, each status, each body.

use std::{collections::BTreeSet, sync::LazyLock};

use jsonschema::Validator;
use reqwest::header::HeaderMap;

use super::*;

pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(super::super::openapi::document::<FakeAgent>);

/// The template that a path is of.
fn template(path: &str) -> Option<&'static str> {
    let steps: Vec<&str> = path.split('/').collect();
    let fits = |template: &&String| {
        let own: Vec<&str> = template.split('/').collect();
        let mut pairs = own.iter().zip(&steps);
        own.len() == steps.len()
            && pairs.all(|(own, step)| own == step || own.starts_with('{') && !step.is_empty())
    };
    // A word goes before a parameter.
    let all = DOCUMENT["paths"].as_object().unwrap().keys();
    all.filter(fits).min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

pub(super) fn validator(schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = DOCUMENT["components"].clone();
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
}

/// Fails where the document does not say that this may be answered.
pub(super) fn check(method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: &Value) {
    let at = format!("{method} {path}: {status}");
    let operation = template(path).map(|path| &DOCUMENT["paths"][path][method.as_str().to_lowercase()]);
    let Some(operation) = operation.filter(|operation| operation.is_object()) else {
        assert!([404, 405].contains(&status.as_u16()), "{at}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json", "{at}");
        return;
    };
    let mut answer = &operation["responses"][status.as_str()];
    assert!(answer.is_object(), "{at} is not documented: {body}");
    if let Some(reference) = answer["$ref"].as_str() {
        answer = DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap();
    }
    let media = headers["content-type"].to_str().unwrap();
    let content = &answer["content"][media];
    assert!(content.is_object(), "{at}: {media} is not documented");
    let errors: Vec<String> = validator(&content["schema"])
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{at}: {errors:#?}\n{body}");
    if answer["headers"].is_object() {
        assert!(headers.contains_key("etag"), "{at}");
    }
}

/// Every operation, with its path, its method and what the document says of it.
fn operations() -> impl Iterator<Item = (&'static str, Method, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, methods)| {
        let each = methods.as_object().unwrap().iter();
        each.map(move |(method, operation)| {
            (path.as_str(), method.to_uppercase().parse().unwrap(), operation)
        })
    })
}

/// A path with the names of its examples.
fn with_names(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().unwrap().iter();
    parameters.filter(|one| one["in"] == "path").fold(path.to_owned(), |path, one| {
        path.replace(&format!("{{{}}}", one["name"].as_str().unwrap()), one["example"].as_str().unwrap())
    })
}

#[tokio::test]
async fn every_operation_does_with_its_example_what_the_document_says() {
    let server = Server::start();
    let config =
        DOCUMENT.pointer("/paths/~1v1~1config/put/requestBody/content/application~1json/example").unwrap();
    crate::config::validate(crate::config::decode(config.clone()).unwrap()).unwrap();
    let mut count = 0;
    for (path, method, operation) in operations() {
        server.agent.with(|state| state.document().config = serde_json::from_value(config.clone()).unwrap());
        let mut request = server.request(method.clone(), &with_names(path, operation));
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            let (schema, example) =
                (&content["application/json"]["schema"], &content["application/json"]["example"]);
            assert!(validator(schema).is_valid(example), "{method} {path}: {example}");
            request = request.json(example);
        }
        let (status, body) = server.exchange(request).await;
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        crate::config::validate(server.config()).unwrap_or_else(|wrong| panic!("{method} {path}: {wrong:?}"));
        count += 1;
    }
    assert!(count > 40, "{count}");
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_as_the_document_says() {
    let server = Server::start();
    let mut paths = BTreeSet::new();
    for (path, _, operation) in operations() {
        let own = operations().filter(|(other, ..)| *other == path).map(|(_, method, _)| method);
        let own: BTreeSet<String> = own.map(|method| method.to_string()).collect();
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if !paths.insert(path) && own.contains(method) {
                continue;
            }
            let method: Method = method.parse().unwrap();
            let request = server.request(method.clone(), &with_names(path, operation));
            if own.contains(method.as_str()) {
                continue;
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let allowed = answer.headers()["allow"].to_str().unwrap().split(',').map(str::to_owned);
            let allowed: BTreeSet<String> = allowed.filter(|method| method != "HEAD").collect();
            assert_eq!(allowed, own, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let head = server.request(Method::HEAD, &with_names(path, operation)).send().await.unwrap();
        assert_eq!(head.status() == StatusCode::METHOD_NOT_ALLOWED, !own.contains("GET"), "HEAD {path}");
        let problem = server.refused(server.request(Method::GET, &format!("{path}/x/y/z"))).await;
        assert_eq!(problem.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_document_is_served_and_names_each_operation_once() {
    let server = Server::start();
    assert_eq!(server.get("/v1/openapi.json").await, *DOCUMENT);
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
    let ids: BTreeSet<&str> =
        operations().map(|(.., operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations().count());
    // Whatever is referred to is there.
    let text = DOCUMENT.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(DOCUMENT.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn a_patch_may_leave_out_and_take_away_what_the_object_need_not_have() {
    let schema = |name: &str| validator(&json!({"$ref": format!("#/components/schemas/{name}")}));
    let patch = schema("ServicePatch");
    for right in [
        json!({}),
        json!({"drain": null, "rate_limit": {"per_source": null}, "session_affinity": null}),
        json!({"random_steering": {"pool_weights": {"web": null}}}),
    ] {
        assert!(patch.is_valid(&right), "{right}");
    }
    for wrong in [json!({"address": null}), json!({"colour": null}), json!({"drain": 5}), json!([])] {
        assert!(!patch.is_valid(&wrong), "{wrong}");
    }
    let place = schema("MonitorInPlace");
    assert!(place.is_valid(&json!({})) && place.is_valid(&json!({"name": "a"})));
    assert!(!schema("Monitor").is_valid(&json!({})));
}
