//! `events`: lines as they come, and how they end.

use std::io::{BufRead, BufReader};

use serde_json::json;

use crate::common::{FakeAgent, Outcome, problem, spawn};

fn answers(line: &str) -> (u16, String) {
    if line.contains("since=9") {
        return problem("busy", 429, "32 clients follow the events already", &json!([]));
    }
    let time = "2026-01-02T03:04:05.678Z";
    let ended = json!({"number": 7, "time": time, "type": "table_change_ended", "service": "web"});
    let lost = json!({"number": 7, "time": time, "type": "events_lost", "count": 3});
    // More than a pipe holds, so that a reader that leaves is noticed.
    let many = if line.contains("follow=true") { 20_000 } else { 1 };
    (200, format!("{ended}\n{lost}\n").repeat(many))
}

#[test]
fn events_are_a_line_each() {
    let agent = FakeAgent::start(answers);
    assert_eq!(
        agent.run(&["events", "--since", "5", "--type", "pool_state", "--type", "drain_ended"]).printed(),
        "2026-01-02T03:04:05.678Z service web: all flows go by its table again\n\
         2026-01-02T03:04:05.678Z 3 events are not kept any more\n"
    );
    let json = agent.run(&["events", "-o", "json"]);
    assert!(
        json.printed().starts_with(r#"{"number":7,"time":"2026-01-02T03:04:05.678Z","type":"#),
        "{json:?}"
    );
    assert_eq!(json.printed().lines().count(), 2);
    let lines: Vec<_> = agent.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/events?follow=false&since=5&type=pool_state&type=drain_ended",
            "GET /v1/events?follow=false"
        ]
    );
}

#[test]
fn a_follower_says_that_the_agent_has_gone() {
    let agent = FakeAgent::start(answers);
    let ended = agent.run(&["events", "--follow"]);
    assert_eq!((ended.code, ended.stdout.lines().count()), (3, 40_000));
    assert!(ended.stderr.contains("it has stopped, or was killed"), "{}", ended.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let agent = FakeAgent::start(answers);
    let mut child = spawn(&agent.socket, &["events", "--follow"]);
    let mut line = String::new();
    BufReader::with_capacity(256, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(line.contains("service web"), "{line}");
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let agent = FakeAgent::start(answers);
    agent.run(&["events", "--type", "pool"]).failed(2, &["no events of type `pool`", "pool_state"]);
    agent.run(&["events", "-o", "yaml"]).failed(2, &["`table` or `json`"]);
    agent.run(&["events", "--since", "9", "--follow"]).failed(1, &["32 clients follow"]);
}
