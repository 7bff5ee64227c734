//! When endpoints that are drained or removed lose their flows.

use std::time::Duration;

use lbx_common::{
    abi::{ENDPOINT_USABLE, TRACKING_FULL},
    api::ConnectionTracking,
};

use super::{super::endpoints::SETTLE_NS, *};

const SECOND_NS: u64 = 1_000_000_000;
const DRAIN_NS: u64 = 300 * SECOND_NS;

/// A pool of three with a service.
struct Site {
    config: Config,
    image: Image,
    now_ns: u64,
    flows: FlowFacts,
}

impl Site {
    fn new(tracking: ConnectionTracking) -> Self {
        let mut config = pool_of(3, &[]).model().config;
        config.pools[0].monitor = None;
        config.services[0].connection_tracking = tracking;
        config.services[0].drain = Duration::from_nanos(DRAIN_NS);
        let mut site = Self { config, image: Image::default(), now_ns: NOW_NS, flows: FlowFacts::default() };
        site.pass();
        site
    }

    fn pass(&mut self) {
        let model = config::validate(self.config.clone()).unwrap();
        let facts = Facts { now_ns: self.now_ns, flows: self.flows.clone(), ..Facts::over(&self.image) };
        self.image = facts.plan(&model);
    }

    /// Two looks at all pins found those of `endpoints`, the earlier one when the change had settled.
    fn look(&mut self, endpoints: &[u16]) {
        self.flows.since_ns = self.now_ns + SETTLE_NS;
        self.flows.endpoints = endpoints.iter().copied().collect();
        self.now_ns += SETTLE_NS + SECOND_NS;
        self.pass();
    }

    fn id(&self, name: &str) -> u16 {
        let model = config::validate(self.config.clone()).unwrap();
        endpoint_ids(&model, &self.image)[&("p0".to_owned(), name.to_owned())]
    }

    fn drain(&mut self, name: &str) -> u16 {
        let id = self.id(name);
        let endpoints = &mut self.config.pools[0].endpoints;
        endpoints.iter_mut().find(|endpoint| endpoint.name == name).unwrap().drained = true;
        self.pass();
        assert!(self.keeps_flows(id));
        assert_eq!(self.image.endpoints[&id].until_ns, self.now_ns + DRAIN_NS);
        id
    }

    fn remove(&mut self, name: &str) -> u16 {
        let id = self.id(name);
        self.config.pools[0].endpoints.retain(|endpoint| endpoint.name != name);
        self.pass();
        assert!(self.keeps_flows(id));
        id
    }

    fn keeps_flows(&self, id: u16) -> bool {
        self.image.endpoints.get(&id).is_some_and(|entry| entry.state & ENDPOINT_USABLE != 0)
    }
}

#[test]
fn a_drained_endpoint_is_released_when_its_last_flow_has_gone_where_all_have_pins() {
    let mut site = Site::new(ConnectionTracking::Always);
    let id = site.drain("e1");
    site.look(&[id]);
    assert!(site.keeps_flows(id), "it has a flow");
    site.look(&[]);
    assert!(!site.keeps_flows(id));
    assert!(next_deadline_ns(&site.image).is_none_or(|deadline_ns| deadline_ns > site.now_ns));
    // The next one is of its own.
    site.config.pools[0].endpoints[1].drained = false;
    site.pass();
    assert!(site.keeps_flows(id));
}

#[test]
fn so_is_a_removed_one() {
    let mut site = Site::new(ConnectionTracking::Always);
    let id = site.remove("e1");
    site.look(&[id]);
    assert!(site.keeps_flows(id), "it has a flow");
    site.look(&[]);
    assert!(!site.keeps_flows(id));
}

#[test]
fn one_that_was_drained_before_gets_no_more_time() {
    let mut site = Site::new(ConnectionTracking::Auto);
    let id = site.drain("e1");
    let until_ns = site.image.endpoints[&id].until_ns;
    site.now_ns += DRAIN_NS / 2;
    site.remove("e1");
    assert_eq!(site.image.endpoints[&id].until_ns, until_ns);
    site.now_ns = until_ns;
    site.pass();
    assert!(!site.keeps_flows(id));
    // When it is over, its flows are elsewhere and are not taken back.
    let mut site = Site::new(ConnectionTracking::Auto);
    let id = site.drain("e1");
    site.now_ns += DRAIN_NS;
    site.pass();
    site.config.pools[0].endpoints.retain(|endpoint| endpoint.name != "e1");
    site.pass();
    assert!(!site.keeps_flows(id));
}

#[test]
fn flows_without_a_pin_are_waited_for() {
    let mut site = Site::new(ConnectionTracking::Auto);
    let (drained, removed) = (site.drain("e1"), site.remove("e2"));
    site.look(&[]);
    assert!(site.keeps_flows(drained) && site.keeps_flows(removed));
    site.now_ns += DRAIN_NS;
    site.pass();
    assert!(!site.keeps_flows(drained) && !site.keeps_flows(removed));
}

#[test]
fn flows_from_before_tracking_are_waited_for() {
    let mut site = Site::new(ConnectionTracking::Auto);
    site.config.services[0].connection_tracking = ConnectionTracking::Always;
    site.config.services[0].drain = Duration::from_hours(48);
    site.pass();
    let id = site.id("e1");
    site.config.pools[0].endpoints[1].drained = true;
    site.pass();
    site.look(&[]);
    assert!(site.keeps_flows(id), "a silent connection from before may be there");
    site.now_ns += nanoseconds(site.config.timers.tcp_idle);
    site.look(&[]);
    assert!(!site.keeps_flows(id));
}

#[test]
fn so_are_those_that_found_no_room_for_a_pin() {
    let mut site = Site::new(ConnectionTracking::Always);
    let listener = *site.image.tracking.keys().next().unwrap();
    site.flows.full.insert(listener);
    let id = site.drain("e1");
    assert!(site.image.tracking[&listener].flags & TRACKING_FULL != 0);
    site.look(&[]);
    assert!(site.keeps_flows(id));
}

#[test]
fn those_of_another_service_with_the_same_endpoint_are_waited_for() {
    let mut site = Site::new(ConnectionTracking::Always);
    let listen = vec![Listen { protocol: Protocol::Udp, ports: Ports::One(80) }];
    let other =
        Service::new("other".to_owned(), address(false, [203, 0, 113], 9), listen, vec!["p0".to_owned()]);
    site.config.services.push(other);
    site.pass();
    let id = site.drain("e1");
    site.look(&[]);
    assert!(site.keeps_flows(id));
}

#[test]
fn replies_of_a_pool_that_the_service_left_are_known_while_the_change_is_under_way() {
    let mut site = Site::new(ConnectionTracking::Auto);
    let mut other = site.config.pools[0].clone();
    other.name = "p1".to_owned();
    for (last, endpoint) in (100..).zip(&mut other.endpoints) {
        endpoint.address = address(false, [10, 0, 9], last);
    }
    site.config.pools.push(other);
    site.pass();
    let of_service = |image: &Image| -> Vec<u16> {
        let values = image.replies.iter().filter(|(key, _)| matches!(key, ReplyKey::Ports { .. }));
        values.map(|(_, words)| ReplyValue::from_words(*words).endpoint).collect()
    };
    let before = of_service(&site.image);
    site.config.services[0].pools = vec!["p1".to_owned()];
    site.pass();
    let during = of_service(&site.image);
    assert_eq!((before.len(), during.len()), (3, 6));
    assert!(before.iter().all(|id| during.contains(id)));
    // It closes when its time is over, and ends when two looks found no pin.
    site.now_ns += nanoseconds(site.config.timers.transition);
    site.pass();
    assert_eq!(of_service(&site.image).len(), 6);
    site.look(&[]);
    assert!(site.image.tracking.is_empty());
    site.pass();
    assert_eq!(of_service(&site.image).len(), 3);
}
