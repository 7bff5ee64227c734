//! Events over the socket.

use lbx_common::api::{Event, EventType, Happening};
use reqwest::{Method, Response, StatusCode};

use super::{
    Server,
    contract::{DOCUMENT, validator},
};
use crate::events::FOLLOWERS;

fn ended(service: &str) -> Happening {
    Happening::TableChangeEnded { service: service.to_owned() }
}

fn refused(error: &str) -> Happening {
    Happening::ConfigurationRefused { error: error.to_owned() }
}

async fn get(server: &Server, query: &str) -> Response {
    let answer = server.request(Method::GET, &format!("/v1/events{query}")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    answer
}

fn events(text: &[u8]) -> Vec<Event> {
    str::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn all(server: &Server, query: &str) -> Vec<Event> {
    events(&get(server, query).await.bytes().await.unwrap())
}

#[tokio::test]
async fn events_are_read_by_number_and_type() {
    let server = Server::start();
    for what in [ended("a"), refused("b"), ended("c")] {
        server.agent.1.record(what);
    }
    let found = all(&server, "").await;
    assert_eq!(
        found.iter().map(|event| event.what.clone()).collect::<Vec<_>>(),
        [ended("a"), refused("b"), ended("c")]
    );
    let second = found[1].number;
    assert_eq!(all(&server, &format!("?since={second}&follow=false")).await, found[2..]);
    let types = "?type=table_change_ended&type=pool_state";
    assert_eq!(all(&server, types).await, [found[0].clone(), found[2].clone()]);
}

#[tokio::test]
async fn lines_are_as_the_document_says() {
    let server = Server::start();
    server.agent.1.record(ended("a"));
    server.agent.1.record(refused("b"));
    server.get("/v1/events").await;
    let content = "/paths/~1v1~1events/get/responses/200/content/application~1x-ndjson/schema/x-itemSchema";
    let event = validator(DOCUMENT.pointer(content).unwrap());
    // One from before this agent makes it tell of what is lost.
    for event_or_gap in all(&server, "?since=1").await {
        let json = serde_json::to_value(&event_or_gap).unwrap();
        assert!(event.is_valid(&json), "{json}");
    }
    assert!(!event.is_valid(&serde_json::json!({"number": 1, "time": "", "type": "nothing"})));
}

#[tokio::test]
async fn a_follower_gets_each_event_as_it_comes_and_a_clean_end() {
    let server = Server::start();
    server.agent.1.record(ended("before"));
    let mut follower = get(&server, "?follow=true").await;
    for service in ["a", "b"] {
        server.agent.1.record(ended(service));
        let chunk = follower.chunk().await.unwrap().unwrap();
        assert_eq!(events(&chunk)[0].what, ended(service));
    }
    server.shutdown.cancel();
    assert_eq!(follower.chunk().await.unwrap(), None);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_all_at_once() {
    let server = Server::start();
    let refused =
        async |query: &str| server.refused(server.request(Method::GET, &format!("/v1/events?{query}"))).await;
    let problem = refused("follow=yes&since=-1&type=pool&until=7").await;
    assert_eq!((problem.kind.as_str(), problem.status), ("invalid", 400));
    for word in [
        "follow: `yes` is neither",
        "since: `-1` is no number",
        "no events of type `pool`; there are agent_started",
        EventType::InterfaceState.as_str(),
        "no parameter `until`",
        "any number of `type=TYPE`",
    ] {
        assert!(problem.detail.contains(word), "{word} is not in {}", problem.detail);
    }
    let followers: Vec<_> = (0..FOLLOWERS).map(|_| get(&server, "?follow=true")).collect();
    let mut open = Vec::new();
    for follower in followers {
        open.push(follower.await);
    }
    let problem = refused("follow=true").await;
    assert_eq!((problem.kind.as_str(), problem.status), ("busy", 429));
    assert!(problem.detail.starts_with("32 clients follow the events already"), "{}", problem.detail);
    assert_eq!(all(&server, "").await, [], "reading needs no seat");
}
