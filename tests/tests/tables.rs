//! Nodes with one configuration hold the same tables in the kernel, whatever they held before and in whatever order
//! their files are.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeMap, net::Ipv4Addr};

use lbx_agent::dataplane::Image;
use lbx_common::{
    abi::Host,
    api::{Config, Endpoint, Limits},
    bytes::Address,
};
use lbx_tests::{config, lab::Lab};

/// What a slot says on any node: the network's key, the endpoint's address and port.
type Owner = (u32, Address, u16);

/// The tables that packets are sent by, by VIP, protocol and first port.
fn tables(image: &Image) -> BTreeMap<(Host, u8, u16), Vec<Owner>> {
    let owner = |id: &u16| {
        let entry = image.endpoints[id];
        (image.vnets[&entry.vnet].vni, entry.address, entry.port.to_host())
    };
    let values = image.listener_values().filter(|(vip, ..)| !vip.v6);
    let tables = values.map(|(vip, protocol, value)| {
        let slots = &image.tables[&value.target.line()];
        assert_eq!(slots.len(), value.target.slots() as usize);
        ((vip, protocol, value.first_port), slots.iter().map(owner).collect())
    });
    tables.collect()
}

/// The same configuration, every list the other way round.
fn reversed(config: &Config) -> Config {
    let mut config = config.clone();
    config.virtual_networks.reverse();
    config.services.reverse();
    config.pools.reverse();
    for pool in &mut config.pools {
        pool.endpoints.reverse();
    }
    config
}

#[test]
fn two_nodes_hold_the_same_tables_after_each_change_whatever_they_held_before() {
    let mut start = config::whole();
    start.limits = Limits {
        listeners: 64,
        endpoints: 128,
        tunnels: 64,
        virtual_networks: 8,
        table_slots: 131_072,
        pins: 512,
        ..Limits::default()
    };
    let endpoint = |last: u8| Endpoint {
        port: Some(80),
        ..Endpoint::new(format!("more-{last}"), "east".to_owned(), Ipv4Addr::new(10, 0, 0, last).into())
    };
    let (mut one, mut other) = (Lab::new(&start).unwrap(), {
        // It has had others before, in other places.
        let mut before = reversed(&start);
        before.pools.iter_mut().for_each(|pool| pool.endpoints.truncate(1));
        let mut lab = Lab::new(&before).unwrap();
        let pool = before.pools.iter_mut().find(|pool| pool.name == "east-web").unwrap();
        pool.endpoints.extend([30, 31, 22].map(endpoint));
        lab.change(&before, &[]).unwrap();
        lab
    });
    let mut config = start;
    let mut seen = Vec::new();
    let mut step = |config: &Config, down: &[(&str, &str)]| {
        one.change(config, down).unwrap();
        other.change(&reversed(config), down).unwrap();
        let tables = [&one, &other].map(|lab| tables(&lab.observed()));
        assert!(!tables[0].is_empty());
        assert_eq!(tables[0], tables[1]);
        let [tables, _] = tables;
        assert!(!seen.contains(&tables), "this step changes none");
        seen.push(tables);
    };
    step(&config, &[]);
    config.pools[0].endpoints.extend((20..26).map(endpoint));
    step(&config, &[]);
    config.pools[0].endpoints[3].weight = 0.25;
    step(&config, &[]);
    let down = ["more-20", "more-21", "more-22", "more-23", "more-24"].map(|name| ("east-web", name));
    step(&config, &down);
    config.pools[0].endpoints.remove(0);
    step(&config, &[]);
    config.pools[0].table_size = Some(2039);
    step(&config, &[]);
}
