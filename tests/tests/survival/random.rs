//! What may happen, at random.

use std::time::Duration;

use lbx_common::api::ConnectionTracking;
use proptest::prelude::*;

use crate::{
    Change, Event,
    wanted::{Name, PLACES, REGIONS, Sharing, Times},
};

fn name() -> impl Strategy<Value = Name> {
    (prop::sample::select(vec![0, 0, 0, 1, 2, 2]), 0..PLACES)
}

fn change() -> impl Strategy<Value = Change> {
    let tracking = prop::sample::select(vec![
        ConnectionTracking::Auto,
        ConnectionTracking::Auto,
        ConnectionTracking::Always,
        ConnectionTracking::Off,
    ]);
    prop_oneof![
        4 => name().prop_map(Change::Add),
        4 => name().prop_map(Change::Remove),
        3 => (name(), any::<bool>()).prop_map(|(name, drained)| Change::Drain(name, drained)),
        1 => (name(), any::<bool>()).prop_map(|(name, enabled)| Change::Enable(name, enabled)),
        3 => (name(), 0_u8..=10).prop_map(|(name, weight)| Change::Weight(name, weight)),
        1 => (0_usize..3, prop::sample::select(vec![1021, 2039]))
            .prop_map(|(pool, size)| Change::TableSize(pool, size)),
        1 => (0_usize..2).prop_map(Change::Pool),
        2 => prop::sample::select(Sharing::ALL.to_vec()).prop_map(Change::Share),
        1 => (1_u64..4).prop_map(Change::Seed),
        1 => (0_usize..2, tracking).prop_map(|(service, tracking)| Change::Tracking(service, tracking)),
        1 => (0_usize..2, any::<bool>()).prop_map(|(service, keep)| Change::Keep(service, keep)),
        1 => (0_usize..2, any::<bool>()).prop_map(|(service, by)| Change::BySource(service, by)),
        2 => (0..REGIONS.len()).prop_map(Change::Regions),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    let waits = [0.5, 3.0, 7.0, 18.0, 45.0, 130.0, 700.0, 4000.0, 9000.0];
    let wait = prop::sample::select(waits.map(|secs| Duration::from_secs_f64(secs).as_nanos()).to_vec());
    let wait = wait.prop_map(|wait| u64::try_from(wait).unwrap());
    prop_oneof![
        8 => (change(), 0_usize..60, prop::bool::weighted(0.2))
            .prop_map(|(change, steps, killed)| Event::Change(change, steps, killed)),
        4 => (name(), any::<bool>()).prop_map(|(name, up)| Event::Verdict(name, up)),
        4 => (wait.clone(), prop::bool::weighted(0.7)).prop_map(|(wait, busy)| Event::Wait(wait, busy)),
        1 => wait.prop_map(Event::Restart),
        4 => (0_usize..2, prop::bool::weighted(0.3), 1_usize..8)
            .prop_map(|(service, udp, count)| Event::Begin(service, udp, count)),
        5 => Just(Event::GoOn),
        1 => Just(Event::Forge),
        1 => any::<usize>().prop_map(Event::Again),
    ]
}

pub fn times() -> impl Strategy<Value = Times> {
    let secs = Duration::from_secs;
    let times = |transition, tcp_idle, udp_idle, drain| Times {
        transition: secs(transition),
        tcp_idle: secs(tcp_idle),
        udp_idle: secs(udp_idle),
        drain: secs(drain),
    };
    prop::sample::select(vec![
        times(7800, 7800, 30, 300),
        times(60, 600, 20, 20),
        times(300, 30, 10, 4000),
        times(100, 7800, 60, 0),
    ])
}
