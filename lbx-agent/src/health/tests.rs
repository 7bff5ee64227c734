//! The health checker against real sockets on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use lbx_common::api::{HealthState, Monitor, MonitorKind};
use socket2::{Domain, Socket, Type};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{HealthChecker, Observation, Target, TargetKey};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_millis(400);

fn monitor(up: u8, down: u8) -> Monitor {
    Monitor {
        name: "m".to_owned(),
        kind: MonitorKind::Tcp,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        retries: 0,
        consecutive_up: up,
        consecutive_down: down,
        ..Monitor::new(String::new())
    }
}

fn target(name: &str, address: SocketAddr, monitor: Monitor) -> Target {
    Target {
        key: TargetKey::Endpoint {
            pool: "pool".to_owned(),
            endpoint: name.to_owned(),
            virtual_network: "east".to_owned(),
            member: None,
        },
        source: if address.is_ipv4() { [127, 0, 0, 9].into() } else { LOOPBACK_IPV6 },
        address,
        place: Some(0),
        other: None,
        monitor: Arc::new(monitor),
        initial: HealthState::Unknown,
    }
}

#[tokio::test]
async fn a_target_that_waits_takes_little_memory() {
    let address = (LOOPBACK, 1).into();
    let (_targets, seen) = watch::channel(target("a", address, monitor(1, 1)));
    let (tx, _rx) = mpsc::channel(1);
    let task = super::target::run(None, tokio::time::Instant::now(), seen, tx);
    // There are tens of thousands.
    assert!(size_of_val(&task) <= 1536, "{} bytes", size_of_val(&task));
}

fn name_of(observation: &Observation) -> String {
    observation.key.name().1
}

struct Running {
    token: CancellationToken,
    targets: watch::Sender<Arc<Vec<Target>>>,
    observations: mpsc::Receiver<Observation>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(targets: Vec<Target>) -> Self {
        let token = CancellationToken::new();
        let (targets, targets_rx) = watch::channel(Arc::new(targets));
        let (tx, observations) = mpsc::channel(1024);
        let task = HealthChecker::new(None).spawn(token.clone(), targets_rx, tx);
        Self { token, targets, observations, task }
    }

    async fn next(&mut self) -> Observation {
        timeout(Duration::from_secs(10), self.observations.recv()).await.expect("a probe").unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&Observation) -> bool) -> Observation {
        loop {
            let observation = self.next().await;
            if wanted(&observation) {
                return observation;
            }
        }
    }

    async fn until_state(&mut self, state: HealthState) -> Observation {
        self.until(|observation| observation.state == state).await
    }

    async fn stop(self) {
        self.token.cancel();
        self.task.await.unwrap();
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    listener_at(LOOPBACK)
}

fn listener_at(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address on which connections are neither accepted nor refused: a listener whose queue is full.
fn full_listener(at: IpAddr) -> (Vec<Socket>, SocketAddr) {
    let socket = || {
        let socket = Socket::new(Domain::for_address((at, 0).into()), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let listener = socket();
    listener.bind(&SocketAddr::new(at, 0).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let client = socket();
        // In progress, for good.
        let _ = client.connect(&address);
        sockets.push(client);
    }
    (sockets, address.as_socket().unwrap())
}

#[tokio::test]
async fn a_listener_becomes_healthy_after_consecutive_up_and_is_timed() {
    for loopback in [LOOPBACK, LOOPBACK_IPV6] {
        let (_listener, address) = listener_at(loopback);
        let mut checker = Running::start(vec![target("a", address, monitor(3, 1))]);
        for _ in 0..2 {
            let observation = checker.next().await;
            assert_eq!((observation.state, observation.changed), (HealthState::Unknown, false));
        }
        let observation = checker.next().await;
        assert_eq!((observation.state, observation.changed), (HealthState::Healthy, true));
        assert!(observation.round_trip.is_some() && observation.reason.is_empty());
        assert!(!checker.next().await.changed);
        checker.stop().await;
    }
}

#[tokio::test]
async fn a_closed_port_is_unhealthy_and_recovers_when_it_opens() {
    for loopback in [LOOPBACK, LOOPBACK_IPV6] {
        let (first, address) = listener_at(loopback);
        drop(first);
        let mut checker = Running::start(vec![target("a", address, monitor(2, 2))]);
        let observation = checker.until_state(HealthState::Unhealthy).await;
        assert!(observation.changed && observation.round_trip.is_none());
        assert_eq!(observation.reason, format!("connection refused by {address}"));
        let _second = TcpListener::bind(address).unwrap();
        assert!(checker.until_state(HealthState::Healthy).await.changed);
        checker.stop().await;
    }
}

#[tokio::test]
async fn silence_is_unhealthy_within_interval_and_timeout() {
    for loopback in [LOOPBACK, LOOPBACK_IPV6] {
        let (sockets, address) = full_listener(loopback);
        let start = Instant::now();
        let monitor = monitor(1, 2);
        let bound = monitor.worst_case_detection() + SLACK;
        let mut checker = Running::start(vec![target("a", address, monitor)]);
        let observation = checker.until_state(HealthState::Unhealthy).await;
        assert_eq!(observation.reason, "no answer within 100ms");
        assert!(start.elapsed() < bound, "{:?}", start.elapsed());
        drop(sockets);
        checker.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_stops_is_noticed_within_interval_and_timeout() {
    let (listener, address) = listener();
    let monitor = monitor(1, 1);
    let bound = monitor.worst_case_detection() + SLACK;
    let mut checker = Running::start(vec![target("a", address, monitor)]);
    checker.until_state(HealthState::Healthy).await;
    let start = Instant::now();
    drop(listener);
    checker.until_state(HealthState::Unhealthy).await;
    assert!(start.elapsed() < bound, "{:?}", start.elapsed());
    checker.stop().await;
}

#[tokio::test]
async fn only_the_endpoint_that_stopped_is_taken_out() {
    let (stays, stays_at) = listener();
    let (stops, stops_at) = listener();
    let mut checker = Running::start(vec![
        target("stays", stays_at, monitor(1, 1)),
        target("stops", stops_at, monitor(1, 1)),
    ]);
    checker.until(|seen| name_of(seen) == "stays" && seen.state == HealthState::Healthy).await;
    checker.until(|seen| name_of(seen) == "stops" && seen.state == HealthState::Healthy).await;
    drop(stops);
    let changed = checker.until(|seen| seen.changed).await;
    assert_eq!((name_of(&changed).as_str(), changed.state), ("stops", HealthState::Unhealthy));
    for _ in 0..10 {
        let seen = checker.next().await;
        assert!(name_of(&seen) == "stops" || seen.state == HealthState::Healthy);
    }
    drop(stays);
    checker.stop().await;
}

#[tokio::test]
async fn an_edited_monitor_keeps_the_verdict_and_takes_its_own_numbers() {
    let (listener, address) = listener();
    let mut checker = Running::start(vec![target("a", address, monitor(1, 1))]);
    checker.until_state(HealthState::Healthy).await;
    drop(listener);
    // The edit comes with an initial state of long ago, which must not count.
    let edited = Target { initial: HealthState::Unhealthy, ..target("a", address, monitor(1, 200)) };
    checker.targets.send_replace(Arc::new(vec![edited]));
    checker.until(|seen| !seen.reason.is_empty()).await;
    for _ in 0..3 {
        let seen = checker.next().await;
        assert_eq!((seen.state, seen.changed), (HealthState::Healthy, false));
    }
    checker.targets.send_replace(Arc::new(vec![target("a", address, monitor(1, 1))]));
    assert!(checker.until_state(HealthState::Unhealthy).await.changed);
    checker.stop().await;
}

#[tokio::test]
async fn a_monitor_of_another_kind_keeps_the_verdict_until_it_has_its_own() {
    let (_listener, address) = listener();
    let mut checker = Running::start(vec![target("a", address, monitor(1, 1))]);
    checker.until_state(HealthState::Healthy).await;
    let ping = Monitor { kind: MonitorKind::IcmpPing, ..monitor(1, 1) };
    checker.targets.send_replace(Arc::new(vec![target("a", (address.ip(), 0).into(), ping)]));
    for _ in 0..3 {
        let seen = checker.next().await;
        assert_eq!((seen.state, seen.changed), (HealthState::Healthy, false), "{seen:?}");
    }
    // A port that nobody has, by the monitor.
    let other = Monitor { port: Some(1), ..monitor(1, 1) };
    checker.targets.send_replace(Arc::new(vec![target("a", (address.ip(), 1).into(), other)]));
    let seen = checker.until(|seen| seen.changed).await;
    assert_eq!(seen.state, HealthState::Unhealthy, "{seen:?}");
    checker.stop().await;
}

#[tokio::test]
async fn a_known_state_counts_until_probed_and_another_address_is_unknown() {
    let (_listener, address) = listener();
    let known = Target { initial: HealthState::Unhealthy, ..target("a", address, monitor(2, 1)) };
    let mut checker = Running::start(vec![known.clone()]);
    assert_eq!(checker.next().await.state, HealthState::Unhealthy);
    checker.until_state(HealthState::Healthy).await;
    let (_other, moved) = listener_at(LOOPBACK_IPV6);
    checker.targets.send_replace(Arc::new(vec![Target { source: LOOPBACK_IPV6, address: moved, ..known }]));
    let observation = checker.until_state(HealthState::Unknown).await;
    assert!(observation.changed && observation.reason.contains(&moved.to_string()), "{observation:?}");
    checker.until_state(HealthState::Healthy).await;
    checker.stop().await;
}

#[tokio::test]
async fn without_a_tunnel_an_endpoint_is_unhealthy_and_with_another_one_it_keeps_its_verdict() {
    let (_listener, address) = listener();
    let by = |place, down| Target { place, ..target("a", address, monitor(1, down)) };
    let mut checker = Running::start(vec![by(Some(0), 1)]);
    checker.until_state(HealthState::Healthy).await;
    checker.targets.send_replace(Arc::new(vec![by(Some(63), 1)]));
    for _ in 0..3 {
        let seen = checker.next().await;
        assert_eq!((seen.state, seen.changed), (HealthState::Healthy, false));
    }
    checker.targets.send_replace(Arc::new(vec![by(None, 1)]));
    let seen = checker.until_state(HealthState::Unhealthy).await;
    assert_eq!(seen.reason, "no tunnel that is on leads there");
    checker.stop().await;
}

#[tokio::test]
async fn a_probe_by_another_tunnel_comes_soon_and_earlier_failures_do_not_count() {
    let (sockets, address) = full_listener(LOOPBACK);
    let slow = Monitor { interval: Duration::from_hours(1), ..monitor(1, 2) };
    let by = |place| Target {
        initial: HealthState::Healthy,
        place: Some(place),
        ..target("a", address, slow.clone())
    };
    let mut checker = Running::start(vec![by(0)]);
    for place in 1..4 {
        // Well before the next hour.
        let seen = checker.next().await;
        assert_eq!((seen.state, seen.reason.is_empty()), (HealthState::Healthy, false), "{place}");
        checker.targets.send_replace(Arc::new(vec![by(place)]));
    }
    drop(sockets);
    checker.stop().await;
}

#[tokio::test]
async fn a_removed_target_is_probed_no_more_and_others_are_not_disturbed() {
    let (_listener, address) = listener();
    let (stays, goes) = (target("stays", address, monitor(1, 1)), target("goes", address, monitor(1, 1)));
    let mut checker = Running::start(vec![stays.clone(), goes]);
    checker.until(|seen| name_of(seen) == "goes").await;
    checker.until(|seen| name_of(seen) == "stays").await;
    checker.targets.send_replace(Arc::new(vec![stays]));
    // What was under way at the time of the change may still arrive, but no more than that.
    let mut late = 0;
    for _ in 0..12 {
        let seen = checker.next().await;
        late += usize::from(name_of(&seen) == "goes");
        assert!(name_of(&seen) == "goes" || !seen.changed, "the verdict on the other one began anew");
    }
    assert!(late <= 2, "{late} probes of a removed target");
    checker.stop().await;
}

#[tokio::test]
async fn a_fault_of_this_host_changes_no_verdict() {
    let (_listener, address) = listener();
    let not_ours = Target {
        source: [192, 0, 2, 99].into(),
        initial: HealthState::Healthy,
        ..target("a", address, monitor(1, 1))
    };
    let mut checker = Running::start(vec![not_ours]);
    let observation = checker.until(|seen| !seen.reason.is_empty()).await;
    assert_eq!((observation.state, observation.changed), (HealthState::Healthy, false));
    assert!(observation.reason.starts_with("not probed: "), "{}", observation.reason);
    checker.stop().await;
}

#[tokio::test]
async fn it_ends_when_its_receiver_is_gone_or_its_list() {
    let (_listener, address) = listener();
    let running = Running::start(vec![target("a", address, monitor(1, 1))]);
    drop(running.observations);
    timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap();
    let running = Running::start(vec![]);
    drop(running.targets);
    timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap();
}
