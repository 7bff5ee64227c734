//! Nodes with one configuration hold the same tables: whatever they held before, and in whatever order the file has it.

use lbx_common::{bytes::Address, hash::mix};

use super::*;

/// What a slot says on any node: the network's key, the endpoint's address and port.
type Owner = (u32, Address, u16);
/// A listener: VIP, protocol, first port.
type Listener = (IpAddr, u8, u16);

/// The list in another order.
fn shuffle<T>(list: &mut [T], order: u64) {
    let mut place = order;
    let mut next = || {
        place = mix(place.wrapping_add(1));
        place
    };
    list.sort_by_cached_key(|_| next());
}

/// The same configuration, with every list in another order.
fn shuffled(world: &World, order: u64) -> Model {
    let mut config = world.config();
    shuffle(&mut config.virtual_networks, order);
    shuffle(&mut config.pools, order);
    shuffle(&mut config.services, order);
    for pool in &mut config.pools {
        shuffle(&mut pool.endpoints, order);
    }
    config::validate(config).unwrap()
}

/// The current table of each listener.
fn tables(image: &Image) -> BTreeMap<Listener, (u8, Vec<Owner>)> {
    let addresses: BTreeMap<u32, Address> = image.addresses.iter().map(|(&a, &id)| (id, a)).collect();
    let owner = |id: &u16| {
        let entry = image.endpoints[id];
        (image.vnets[&entry.vnet].vni, entry.address, entry.port.to_host())
    };
    let tables = image.listener_values().map(|(vip, protocol, value)| {
        let vip = if vip.v6 {
            Ipv6Addr::from(addresses[&vip.raw].0).into()
        } else {
            Ipv4Addr::from(vip.raw.to_ne_bytes()).into()
        };
        let slots = image.tables.get(&value.target.line()).filter(|_| value.target.slots() != 0);
        let owners: Vec<Owner> = slots.iter().flat_map(|slots| slots.iter().map(owner)).collect();
        assert_eq!(owners.len(), value.target.slots() as usize);
        ((vip, protocol, value.first_port), (value.target.source_bits(), owners))
    });
    tables.collect()
}

/// A node: what its maps hold, and its clock.
#[derive(Default)]
struct Node {
    image: Image,
    now_ns: u64,
}

impl Node {
    /// Takes a configuration; where it has time, all that is under way comes to its end.
    fn take(&mut self, model: &Model, world: &World, has_time: bool) {
        for _ in 0..if has_time { 3 } else { 1 } {
            self.now_ns += if has_time { 10_000_000_000_000 } else { 1_000_000_000 };
            let looks = FlowFacts { since_ns: self.now_ns, ..FlowFacts::default() };
            let facts = Facts { now_ns: self.now_ns, flows: looks, ..Facts::of(world, &self.image) };
            self.image = facts.plan(model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tables_depend_on_neither_order_nor_history(
        histories in prop::array::uniform2(prop::collection::vec((world(), any::<bool>()), 0..3)),
        steps in prop::collection::vec((world(), any::<u64>(), any::<[bool; 2]>()), 1..4),
    ) {
        let [mut one, mut other] = histories.map(|history| {
            let mut node = Node::default();
            for (world, has_time) in history {
                node.take(&world.model(), &world, has_time);
            }
            node
        });
        for (world, order, [one_has_time, other_has_time]) in steps {
            one.take(&world.model(), &world, one_has_time);
            other.take(&shuffled(&world, order), &world, other_has_time);
            prop_assert_eq!(tables(&one.image), tables(&other.image));
        }
    }
}

#[test]
fn a_recovered_majority_brings_the_table_of_before_back() {
    let mut node = Node::default();
    let up = pool_of(5, &[]);
    node.take(&up.model(), &up, true);
    let before = tables(&node.image);
    let down = pool_of(5, &[0, 1, 2]);
    node.take(&down.model(), &down, false);
    let mut fresh = Node::default();
    fresh.take(&down.model(), &down, false);
    assert_ne!(tables(&node.image), before);
    assert_eq!(tables(&node.image), tables(&fresh.image));
    node.take(&up.model(), &up, false);
    assert_eq!(tables(&node.image), before);
}
