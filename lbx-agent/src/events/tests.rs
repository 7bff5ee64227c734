//! What readers get, in time or late.

use std::{collections::BTreeSet, time::Duration};

use lbx_common::api::{Event, EventType, FlowSample, Happening, Protocol};
use tokio::time::timeout;

use super::{ENTRIES, Events, FOLLOWERS, Reader, SAMPLES, TooManyError};

const ALL: BTreeSet<EventType> = BTreeSet::new();

fn refused(error: &str) -> Happening {
    Happening::ConfigurationRefused { error: error.to_owned() }
}

fn ended(service: &str) -> Happening {
    Happening::TableChangeEnded { service: service.to_owned() }
}

/// What a reader gets up to its end, or until it would wait.
async fn rest(reader: &mut Reader) -> Vec<Event> {
    let mut text = Vec::new();
    while let Ok(Some(portion)) = timeout(Duration::from_millis(20), reader.more()).await {
        text.extend_from_slice(&portion);
    }
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.number).collect()
}

const fn lost(count: Option<u64>) -> Happening {
    Happening::EventsLost { count }
}

#[tokio::test]
async fn what_is_kept_is_read_from_any_number_on() {
    let events = Events::after(100);
    for service in ["a", "b", "c"] {
        events.record(ended(service));
    }
    assert_eq!(numbers(&rest(&mut events.read(0, ALL)).await), [101, 102, 103]);
    assert_eq!(numbers(&rest(&mut events.read(102, ALL)).await), [103]);
    assert_eq!(rest(&mut events.read(103, ALL)).await, []);
    // Of an agent before this one: nobody knows what happened to it after that.
    let from_before = rest(&mut events.read(50, ALL)).await;
    assert_eq!(
        (numbers(&from_before)[1..].to_vec(), &from_before[0].what),
        (vec![101, 102, 103], &lost(None))
    );
    // Of a clock that was ahead.
    assert_eq!(numbers(&rest(&mut events.read(9999, ALL)).await), [101, 102, 103]);
}

#[tokio::test]
async fn a_follower_gets_what_happens_from_now_on_and_ends_with_the_agent() {
    let events = Events::after(0);
    events.record(ended("before"));
    let mut all = events.follow(None, ALL).unwrap();
    let mut some = events.follow(Some(0), [EventType::ConfigurationRefused].into()).unwrap();
    events.record(ended("a"));
    events.record(refused("b"));
    let found = rest(&mut all).await;
    assert_eq!(found.iter().map(|event| event.what.clone()).collect::<Vec<_>>(), [ended("a"), refused("b")]);
    assert_eq!(numbers(&rest(&mut some).await), [3]);
    // The last words are heard.
    events.record(refused("c"));
    events.end();
    assert_eq!(numbers(&rest(&mut all).await), [4]);
    assert_eq!(all.more().await, None);
}

#[tokio::test]
async fn one_who_is_too_slow_is_told_what_was_lost_and_nothing_else_waits() {
    let events = Events::after(0);
    let mut slow = events.follow(None, ALL).unwrap();
    events.record(ended("seen"));
    assert_eq!(numbers(&rest(&mut slow).await), [1]);
    let kept = ENTRIES as u64;
    for _ in 0..kept + 10 {
        events.record(ended("a"));
    }
    let found = rest(&mut slow).await;
    assert_eq!((found[0].number, &found[0].what), (1, &lost(Some(10))));
    assert_eq!(numbers(&found[1..]), (12..=kept + 11).collect::<Vec<_>>());
    // One who comes later is told the same.
    let late = rest(&mut events.read(1, ALL)).await;
    assert_eq!(late[0].what, lost(Some(10)));
    assert_eq!(rest(&mut events.read(11, ALL)).await.len(), ENTRIES);
}

#[tokio::test]
async fn very_large_events_go_before_there_are_many() {
    let events = Events::after(0);
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        events.record(refused(&large));
    }
    let found = rest(&mut events.read(0, ALL)).await;
    assert!(matches!(found[0].what, Happening::EventsLost { count: Some(12..16) }), "{}", found.len());
}

#[tokio::test]
async fn followers_are_limited_and_a_seat_is_free_again() {
    let events = Events::after(0);
    let mut seats: Vec<Reader> = (0..FOLLOWERS).map(|_| events.follow(None, ALL).unwrap()).collect();
    assert_eq!(events.follow(None, ALL).err(), Some(TooManyError));
    drop(events.read(0, ALL));
    seats.pop();
    assert!(events.follow(None, ALL).is_ok());
}

fn sample(client_port: u16) -> Happening {
    Happening::FlowSample(FlowSample {
        service: "web".to_owned(),
        listener: "tcp/443".to_owned(),
        protocol: Protocol::Tcp,
        client: ([198, 51, 100, 7], client_port).into(),
        vip: ([203, 0, 113, 80], 443).into(),
        pool: "web".to_owned(),
        endpoint: "a".to_owned(),
        virtual_network: "east".to_owned(),
        tunnel: "gre".to_owned(),
        bytes: 60,
        one_in: 10,
    })
}

#[tokio::test]
async fn samples_are_told_after_the_events_before_them_to_those_who_want_them() {
    let events = Events::after(0);
    events.sample(sample(1));
    let mut all = events.follow(Some(0), ALL).unwrap();
    let mut alone = events.follow(None, [EventType::FlowSample].into()).unwrap();
    let mut others = events.follow(None, [EventType::ConfigurationRefused].into()).unwrap();
    events.record(refused("a"));
    events.sample(sample(2));
    events.record(refused("b"));
    let of = |found: Vec<Event>| found.into_iter().map(|one| (one.number, one.what)).collect::<Vec<_>>();
    // Nobody followed when the first one was told, and it is not kept.
    assert_eq!(of(rest(&mut all).await), [(1, refused("a")), (2, refused("b")), (1, sample(2))]);
    assert_eq!(of(rest(&mut alone).await), [(1, sample(2))]);
    assert_eq!(of(rest(&mut others).await), [(1, refused("a")), (2, refused("b"))]);
    assert_eq!(of(rest(&mut events.read(0, ALL)).await), [(1, refused("a")), (2, refused("b"))]);
    // The sample is not waited for where the agent ends.
    events.end();
    assert_eq!(all.more().await, None);
}

#[tokio::test]
async fn one_who_is_too_slow_for_samples_is_told_so_and_loses_no_event() {
    let events = Events::after(0);
    let mut slow = events.follow(None, ALL).unwrap();
    events.record(refused("a"));
    for _ in 0..SAMPLES + 10 {
        events.sample(sample(1));
    }
    let found = rest(&mut slow).await;
    assert_eq!(found[0].what, refused("a"));
    assert_eq!((found[1].number, &found[1].what), (1, &lost(Some(10))));
    assert_eq!(found.len(), SAMPLES + 2);
}
