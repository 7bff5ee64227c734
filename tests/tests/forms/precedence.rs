//! Listeners of one VIP that share ports: a single port goes before a range, and a range before any port, in
//! whatever order the services stand in the configuration. Each listener counts what is its own.

use etherparse::IpSlice;
use lbx_common::api::{Config, Listen, Ports};
use lbx_tests::{
    family::Family,
    lab::{Lab, On},
    packets::{Packet, Transport},
    tunnel,
    world::{self, Mode, Network, client, endpoints},
};

const SERVICES: [Mode; 3] = [Mode::Nat, Mode::Range, Mode::Any];
/// The second ends in all but the last port, so that its blocks are those of any port as well; the third has a
/// single port as its first block.
const RANGES: [(u16, u16); 3] = [(1, 1023), (1024, 65_534), (7001, 7098)];
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Ranges, each in a network of its own.
fn ranges() -> impl Iterator<Item = (Network, (u16, u16))> {
    Network::all().into_iter().zip(RANGES)
}

/// The TCP services of the networks, with one VIP in each: the first port of the range, the range, any port.
fn config(family: Family, order: [usize; 3]) -> Config {
    let mut config = world::config();
    for (network, range) in ranges() {
        let names = SERVICES.map(|mode| format!("{}-{family}-{}-tcp", network.name(), mode.as_str()));
        let mut services = Vec::new();
        let ports = [Ports::One(range.0), Ports::Range(range.0, range.1), Ports::Any];
        for (name, ports) in names.iter().zip(ports) {
            let place = config.services.iter().position(|service| service.name == *name).unwrap();
            let mut service = config.services.remove(place);
            service.address = network.vip(family, Mode::Nat);
            service.listen = vec![Listen { ports, ..service.listen[0] }];
            services.push(service);
            // Ports stay as they are, so that every range fits.
            let pool = config.pools.iter_mut().find(|pool| pool.name == *name).unwrap();
            pool.endpoints.iter_mut().for_each(|endpoint| endpoint.port = None);
        }
        config.services.extend(order.map(|place| services[place].clone()));
    }
    config
}

/// Whose endpoint a packet to a port goes to.
fn served_by(lab: &Lab, network: Network, family: Family, port: u16) -> Mode {
    let vip = (network.vip(family, Mode::Nat), port);
    let frame = Packet::new(Transport::Tcp, client(family), vip).to_frame();
    let outcome = lab.run(On::Public, &frame).unwrap();
    assert_eq!(outcome, lab.run_on_host(On::Public, &frame).outcome);
    let inner = tunnel::unwrap(&outcome.frame).unwrap().unwrap().inner;
    let to = IpSlice::from_slice(&inner).unwrap().destination_addr();
    SERVICES.into_iter().find(|mode| endpoints(family, *mode).contains(&to)).unwrap()
}

#[test]
fn a_port_goes_before_a_range_and_a_range_before_any_port() {
    for (round, order) in ORDERS.into_iter().enumerate() {
        let family = Family::ALL[round % 2];
        let lab = Lab::new(&config(family, order)).unwrap();
        for (network, (first, last)) in ranges() {
            for port in [1, 2, 3, 512, 1023, 1024, 2048, 7001, 7002, 7050, 7098, 7099, 32_768, 65_534, 65_535]
            {
                let right = match port {
                    _ if port == first => Mode::Nat,
                    _ if (first..=last).contains(&port) => Mode::Range,
                    _ => Mode::Any,
                };
                let found = served_by(&lab, network, family, port);
                assert_eq!(found, right, "port {port}, range {first}-{last}, services in order {order:?}");
            }
        }
    }
}

#[test]
fn listeners_that_begin_at_one_port_count_apart() {
    let apart = Lab::new(&world::config()).unwrap().listeners();
    let together = Lab::new(&config(Family::V4, ORDERS[0])).unwrap().listeners();
    assert_eq!(together, apart);
}
