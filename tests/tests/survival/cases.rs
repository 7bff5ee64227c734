//! Sequences in which flows once were lost.

use std::time::Duration;

use lbx_common::api::ConnectionTracking;

use crate::{
    Change, Event, Run,
    wanted::{Name, Sharing, Times},
};

const SECOND: u64 = 1_000_000_000;

/// The defaults.
fn times() -> Times {
    let [transition, tcp_idle, udp_idle, drain] = [7800, 7800, 30, 300].map(Duration::from_secs);
    Times { transition, tcp_idle, udp_idle, drain }
}

fn change(change: Change) -> Event {
    Event::Change(change, 0, false)
}

fn run(times: Times, events: &[Event]) {
    let mut run = Run::new(times);
    for &event in events {
        run.happen(event);
    }
    run.go_on();
}

#[test]
fn a_busy_connection_outlives_the_table_that_it_was_begun_by() {
    for pool in [0, 2] {
        let added: Name = (pool, 3);
        let hour = 3600 * SECOND;
        run(times(), &[change(Change::Add(added)), Event::Wait(hour, true), Event::Wait(2 * hour, true)]);
    }
}

#[test]
fn connections_stay_on_the_pool_that_their_service_had() {
    run(times(), &[change(Change::Pool(1)), Event::Wait(60 * SECOND, true)]);
    // Its endpoints are drained like those of any other.
    run(times(), &[change(Change::Pool(1)), change(Change::Drain((0, 1), true)), Event::GoOn]);
}

#[test]
fn an_endpoint_that_came_and_went_within_a_change_keeps_its_flows_when_it_is_removed() {
    let name: Name = (0, 3);
    run(
        times(),
        &[
            change(Change::Add(name)),
            Event::Begin(0, false, 12),
            Event::GoOn,
            Event::GoOn,
            change(Change::Weight(name, 0)),
            change(Change::Remove(name)),
        ],
    );
}

#[test]
fn a_pin_on_an_endpoint_that_was_left_takes_no_flow_back() {
    let without_drain = Times { drain: Duration::ZERO, ..times() };
    let drained = change(Change::Drain((0, 1), true));
    let [down, up] = [false, true].map(|up| Event::Verdict((0, 0), up));
    run(without_drain, &[drained, Event::GoOn, Event::GoOn, down, up]);
    // A client that gives its connection up and makes another from the same port.
    let began = [down, Event::Begin(0, false, 12), Event::GoOn, Event::GoOn, up];
    let down = Event::Verdict((0, 1), false);
    let again = (0..40).map(Event::Again);
    let events = [change(Change::Keep(0, false))].into_iter().chain(began).chain([down]).chain(again);
    let events: Vec<_> = events.chain([Event::GoOn, Event::Verdict((0, 1), true), Event::GoOn]).collect();
    run(times(), &events);
}

#[test]
fn a_drained_endpoint_that_is_removed_when_its_time_is_over_takes_no_flow_back() {
    let name: Name = (2, 1);
    let drained = [change(Change::Drain(name, true)), Event::GoOn];
    let later = [Event::Wait(400 * SECOND, true), change(Change::Remove(name)), Event::GoOn];
    let events: Vec<_> = drained.into_iter().chain(later).collect();
    run(times(), &events);
    let long_after = [Event::Wait(9000 * SECOND, true), change(Change::Remove(name)), Event::GoOn];
    let events: Vec<_> = drained.into_iter().chain(long_after).collect();
    run(times(), &events);
}

#[test]
fn a_drain_does_not_end_before_flows_that_are_older_than_tracking() {
    let tracked = change(Change::Tracking(0, ConnectionTracking::Always));
    let gone = Event::Restart(4000 * SECOND);
    let drained = change(Change::Drain((0, 0), true));
    let later = [Event::Wait(45 * SECOND, false), Event::GoOn];
    let events: Vec<_> =
        [tracked, Event::Wait(4000 * SECOND, true), gone, drained].into_iter().chain(later).collect();
    run(times(), &events);
}

#[test]
fn a_hash_seed_that_comes_back_within_a_change_is_another_one_until_it_is_written() {
    let back = Event::Change(Change::Seed(1), 1, false);
    run(times(), &[Event::Begin(0, false, 20), change(Change::Add((0, 0))), change(Change::Seed(2)), back]);
}

#[test]
fn connections_stay_where_they_are_when_regions_come_change_and_go() {
    let regions = |which| change(Change::Regions(which));
    let [near, both, none] =
        [Sharing::Near, Sharing::NearAndFar, Sharing::Standby].map(|sharing| change(Change::Share(sharing)));
    let more = [Event::Begin(0, false, 12), Event::GoOn, Event::GoOn];
    let hour = Event::Wait(3600 * SECOND, true);
    let steps = [both, regions(1), near, regions(2), none, both, regions(3), regions(0), none];
    for first in 0..steps.len() {
        let events = steps.iter().cycle().skip(first).take(steps.len());
        let events: Vec<_> = events.flat_map(|&step| [step].into_iter().chain(more)).collect();
        run(times(), &events);
        if first % 4 == 0 {
            let with_time: Vec<_> = events.into_iter().flat_map(|event| [event, hour]).collect();
            run(times(), &with_time);
        }
    }
}

#[test]
fn connections_to_a_pool_that_only_a_region_had_go_on_when_the_service_is_the_same_to_all_again() {
    let [near, alone] = [Sharing::Near, Sharing::Alone].map(|sharing| change(Change::Share(sharing)));
    let begun = Event::Begin(0, false, 12);
    run(
        times(),
        &[near, begun, alone, Event::GoOn, near, begun, Event::GoOn, Event::GoOn, alone, Event::GoOn],
    );
}

#[test]
fn an_endpoint_that_comes_back_when_its_time_is_over_gets_no_flow_by_the_table_before() {
    let name = (0, 1);
    let times = Times { drain: Duration::from_secs(20), ..times() };
    let gone = [Change::Remove(name), Change::Pool(1)].map(change);
    let back = [Event::Wait(21 * SECOND, true), change(Change::Add(name))];
    let begun = [Event::Begin(0, true, 12), Event::Begin(0, false, 12), Event::GoOn, Event::GoOn];
    let events: Vec<_> = gone.into_iter().chain(back).chain(begun).collect();
    run(times, &events);
}
