//! Reading: shape, places, and hostile input.

use lbx_common::api::{Config, Mistake};

use super::{decode, load_model, load_yaml, locate, validate};

const WHOLE: &str = include_str!("testdata/whole.yaml");

fn mistakes(text: &str) -> Vec<String> {
    load_model(text).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_mistakes(text: &str, expected: &[&str]) {
    assert_eq!(mistakes(text), expected, "\n{text}");
}

#[test]
fn a_file_with_everything_is_read_as_it_is_written() {
    let model = load_model(WHOLE).unwrap();
    assert_eq!(model.vnets.iter().map(|vnet| vnet.vni).collect::<Vec<_>>(), [42, 43, 44, 45]);
    assert_eq!(model.vnets[1].tunnels[0].inner_mac, [0x02, 0, 0, 0, 0, 1]);
    assert!(model.vnets[2].tunnels[0].ethernet);
    assert_eq!(model.pools[0].endpoints[1].weight, 25);
    assert_eq!(model.pools[0].table_size, 1021);
    assert_eq!(model.pools[1].table_size, 4093);
    assert_eq!(model.services[1].steering.pools, [1]);
    assert!(model.services[1].reject && !model.services[1].icmp_echo);
    assert_eq!(model.vnets[2].tunnels[0].probe.as_ref().unwrap().target.to_string(), "[fd00::1]:179");
    assert_eq!(model.pools[4].endpoints[0].probes[0].to_string(), "[2001:db8:80::2]:8000");
    assert_eq!(model.config, load_yaml(WHOLE).unwrap());
}

#[test]
fn json_and_yaml_say_the_same() {
    let config = load_yaml(WHOLE).unwrap();
    assert_eq!(decode(serde_json::to_value(&config).unwrap()).unwrap(), config);
}

#[test]
fn the_least_configuration_is_a_version() {
    assert_eq!(load_yaml("version: 1").unwrap(), Config::default());
}

#[test]
fn mistakes_of_shape_are_all_reported_with_their_lines() {
    assert_mistakes(
        "version: 1
nodes: {}
virtual_networks:
  - {name: east, vni: -1, tunnels: [{name: a, encap: ipip, remote: 198.51.100}]}
  - name: west
    vni: 7
    colour: red
monitors:
  - {name: m, interval: 5, timeout: 1 fortnight}
pools:
  - name: p
    endpoints:
      - {name: a, virtual_network: east, adress: 10.0.0.1}
      - name: 12
        virtual_network: east
        address: 203.0.113.8O
        weight: much
        enabled: yes
services:
  - {name: s, address: 203.0.113.1, listen: [tcp/80, tcp/0, sctp/1], pools: p}
",
        &[
            "line 2, column 1: nodes: unknown field `nodes`: this object has `version`, `node`, `limits`, `timers`, \
             `virtual_networks`, `monitors`, `regions`, `pools`, `services`. Did you mean `node`?",
            "line 4, column 18: virtual_networks[0].vni: found the number -1, expected a whole number from 0 to \
             4294967295",
            "line 4, column 47: virtual_networks[0].tunnels[0].encap: unknown value `ipip`: write `gre`, `gre-udp`, `vxlan` or \
             `geneve`.",
            "line 4, column 60: virtual_networks[0].tunnels[0].remote: `198.51.100` is not an IP address: write it as \
             `192.0.2.10` or `2001:db8::10`",
            "line 7, column 5: virtual_networks[1].colour: unknown field `colour`: this object has `name`, `vni`, \
             `probe_source`, `tunnels`.",
            "line 9, column 15: monitors[0].interval: found the number 5, expected a duration, as `500ms`, `5s` or \
             `2m`",
            "line 9, column 28: monitors[0].timeout: found the text `1 fortnight`, expected a duration, as `500ms`, \
             `5s` or `2m`",
            "line 13, column 9: pools[0].endpoints[0].address: `address` is missing",
            "line 13, column 42: pools[0].endpoints[0].adress: unknown field `adress`: this object has `name`, \
             `virtual_network`, `address`, `port`, `weight`, `enabled`, `drained`, `tunnels`. Did you mean `address`?",
            "line 14, column 9: pools[0].endpoints[1].name: found the number 12, expected text: put it in quotes",
            "line 16, column 9: pools[0].endpoints[1].address: `203.0.113.8O` is not an IP address: write it as \
             `192.0.2.10` or `2001:db8::10`",
            "line 17, column 9: pools[0].endpoints[1].weight: found the text `much`, expected a number, as 0.5",
            "line 18, column 9: pools[0].endpoints[1].enabled: found the text `yes`, expected `true` or `false`",
            "line 20, column 54: services[0].listen[1]: `tcp/0` is not a listener: write `tcp/PORT`, \
             `tcp/FIRST-LAST` or `tcp/any`, or the same with `udp`, with ports from 1 to 65535",
            "line 20, column 61: services[0].listen[2]: `sctp/1` is not a listener: write `tcp/PORT`, \
             `tcp/FIRST-LAST` or `tcp/any`, or the same with `udp`, with ports from 1 to 65535",
            "line 20, column 70: services[0].pools: found the text `p`, expected a list",
        ],
    );
}

#[test]
fn three_mistakes_of_meaning_are_three_with_their_lines() {
    let text = "version: 1
virtual_networks:
  - {name: east, vni: 42, probe_source: {ipv4: 10.255.42.1}}
  - name: west
    vni: 42
pools:
  - name: p
    monitor: tcp
    endpoints:
      - {name: a, virtual_network: east, address: 10.0.0.1, weight: 0.333}
";
    assert_mistakes(
        text,
        &[
            "line 5, column 5: virtual_networks[1].vni: 42 is taken by virtual_networks[0] (`east`): give each virtual \
             network its own",
            "line 8, column 5: pools[0].monitor: there is no monitor `tcp`: none is configured",
            "line 10, column 61: pools[0].endpoints[0].weight: found 0.333, expected 0 to 1 in steps of 0.01, as 0.25",
        ],
    );
    // The same in two steps, as for a file that was read before.
    let mut found = validate(load_yaml(text).unwrap()).unwrap_err();
    assert!(found.iter().all(|mistake| mistake.line.is_none()));
    locate(text, &mut found);
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), mistakes(text));
}

#[test]
fn what_is_absent_has_the_place_of_what_it_is_absent_from() {
    let mut found = [
        Mistake::new("virtual_networks[1].probe_source.ipv4", ""),
        Mistake::new("limits.endpoints", ""),
        Mistake::new("virtual_networks[7]", ""),
    ];
    locate("version: 1\nvirtual_networks:\n  - {name: a, vni: 1}\n  - {name: b, vni: 2}\n", &mut found);
    let places: Vec<_> =
        found.iter().map(|m| (m.path.as_str(), m.line.unwrap(), m.column.unwrap())).collect();
    assert_eq!(
        places,
        [
            ("limits.endpoints", 1, 1),
            ("virtual_networks[7]", 2, 1),
            ("virtual_networks[1].probe_source.ipv4", 4, 5)
        ]
    );
}

#[test]
fn every_missing_field_is_named() {
    assert_mistakes(
        "services:\n  - {}\n",
        &[
            "line 1, column 1: version: `version` is missing",
            "line 2, column 5: services[0].name: `name` is missing",
            "line 2, column 5: services[0].address: `address` is missing",
            "line 2, column 5: services[0].listen: `listen` is missing",
            "line 2, column 5: services[0].pools: `pools` is missing",
        ],
    );
}

#[test]
fn a_field_given_twice_is_a_mistake_beside_the_others() {
    assert_mistakes(
        "version: 1\npools:\n  - name: a\n    name: b\n    size: 1\nversion: 1\n",
        &[
            "line 4, column 5: pools[0].name: `name` was given before, in line 3: keep one",
            "line 5, column 5: pools[0].size: unknown field `size`: this object has `name`, `monitor`, `monitor_group`, \
             `minimum_endpoints`, `load_shedding`, `panic_threshold`, `endpoint_steering`, `location`, `table_size`, \
             `endpoints`.",
            "line 6, column 1: version: `version` was given before, in line 1: keep one",
        ],
    );
}

#[test]
fn a_list_or_object_of_another_kind_is_refused() {
    for (text, expected) in [
        ("", "found nothing, expected a configuration that begins with `version: 1`"),
        ("[1]", "found a list, expected a configuration that begins with `version: 1`"),
        ("version: 1\nnode: [a]", "node: found a list, expected an object with fields"),
        ("version: 1\nlimits: [1, 2, 3, 4, 5]", "limits: found a list, expected an object with fields"),
        ("version: 1\npools:", "pools: found nothing, expected a list (`[]` where it is empty)"),
        ("version: 1\npools: [a]", "pools[0]: found the text `a`, expected an object with fields"),
        ("version: 99999999999999999999999", "version: found the number 1e+23, expected a whole"),
        ("version: .nan", "expected a whole number"),
    ] {
        let found = mistakes(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text:?}: {found:?}");
    }
}

#[test]
fn text_that_is_no_yaml_is_one_mistake_with_its_place() {
    for (text, place) in [
        ("version: 1\npools: [a", "line 2, column 8: "),
        ("version: 1\nnode:\n\tinterfaces: []\n", "line 3, column "),
        ("version: 1\npools: ]\n", "line 2, column 8: "),
        ("version: \"1\nnode: {}\n", "line "),
        ("version: 1\nnode: *nobody\n", "line 2, column 7: "),
    ] {
        let found = mistakes(text);
        assert!(found.len() == 1 && found[0].starts_with(place), "{text:?}: {found:?}");
        assert!(found[0].contains("this is not YAML that can be read: "), "{text:?}: {found:?}");
    }
}

#[test]
fn common_slips_get_messages_of_their_own() {
    for (text, expected) in [
        ("version: 1\n---\nversion: 1\n", "line 2, column 1: `---` begins a second document: keep one"),
        (
            "version: 1\nservices: [{name: s, address: 192.0.2.1, listen: [80], pools: [a]}]",
            "line 2, column 51: services[0].listen[0]: found the number 80, expected a listener, as `tcp/80` or `udp/80`",
        ),
        (
            "version: 1\nnode: {hash_seed: 00112233445566778899001122334455}",
            "line 2, column 8: node.hash_seed: found the number 1.122334455667789e+29, expected text: put it in quotes",
        ),
    ] {
        assert_mistakes(text, &[expected]);
    }
}

#[test]
fn what_stands_around_an_address_is_named() {
    let remote = |text: &str| {
        let text = format!(
            "version: 1\nvirtual_networks: [{{name: v, vni: 1, tunnels: [{{name: t, encap: gre, remote: {text}}}]}}]"
        );
        let found = mistakes(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].split_once("remote: ").unwrap().1.to_owned()
    };
    let address = "is not an IP address: write it as `192.0.2.10` or `2001:db8::10`";
    for (text, expected) in [
        ("\"198.51.100.7:80\"", format!("`198.51.100.7:80` {address}, without a port")),
        ("\"[2001:db8::1]:80\"", format!("`[2001:db8::1]:80` {address}, without a port")),
        ("\"[2001:db8::1]\"", format!("`[2001:db8::1]` {address}, without brackets")),
        ("198.51.100.7/24", format!("`198.51.100.7/24` {address}, without a prefix length")),
        ("\"2001:db8::1/64\"", format!("`2001:db8::1/64` {address}, without a prefix length")),
        ("\"fe80::1%eth0\"", format!("`fe80::1%eth0` {address}, without a zone")),
        ("\" 2001:db8::1\"", format!("` 2001:db8::1` {address}, without spaces around it")),
        ("2001:db8::g", format!("`2001:db8::g` {address}")),
        ("7", "found the number 7, expected an IP address, as `192.0.2.10` or `2001:db8::10`".to_owned()),
    ] {
        assert_eq!(remote(text), expected);
    }
}

#[test]
fn an_address_of_the_other_family_is_named_with_the_field_it_belongs_to() {
    assert_mistakes(
        "version: 1\nnode:\n  tunnel_source:\n    ipv4: 2001:db8::1\n    ipv6: 192.0.2.1\n",
        &[
            "line 4, column 5: node.tunnel_source.ipv4: `2001:db8::1` is an IPv6 address, which goes into `ipv6`: write \
             an IPv4 address here, as `192.0.2.10`",
            "line 5, column 5: node.tunnel_source.ipv6: `192.0.2.1` is an IPv4 address, which goes into `ipv4`: write an \
             IPv6 address here, as `2001:db8::10`",
        ],
    );
}

#[test]
fn ipv6_addresses_need_no_quotes_in_yaml() {
    for (text, address) in [
        ("2001:db8::10", "2001:db8::10"),
        ("2001:DB8:0:0::10", "2001:db8::10"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("\"fd00::\"", "fd00::"),
    ] {
        for text in [
            format!("version: 1\nnode: {{tunnel_source: {{ipv6: {text}}}}}"),
            format!("version: 1\nnode:\n  tunnel_source:\n    ipv6: {text}\n"),
        ] {
            let config = load_yaml(&text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
            assert_eq!(config.node.tunnel_source.ipv6.unwrap().to_string(), address);
        }
    }
}

#[test]
fn anchors_and_merge_keys_save_writing() {
    let config = load_yaml(
        "version: 1
monitors:
  - &fast {name: a, interval: 1s, timeout: 100ms}
  - {<<: *fast, name: b}
",
    );
    let config = config.unwrap();
    assert_eq!((config.monitors[1].name.as_str(), config.monitors[1].interval.as_secs()), ("b", 1));
}

#[test]
fn hostile_documents_are_refused_quickly() {
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        let item = format!("*a{}", i - 1);
        format!("{text}a{i}: &a{i} [{}]\n", [item.as_str(); 9].join(", "))
    });
    let unknown: Vec<String> = (0..20_000).map(|i| format!("field{i}: 1\n")).collect();
    let references: Vec<String> = (0..5_000).map(|i| format!("\n- {{name: p{i}, monitor: m{i}}}")).collect();
    let deep: Vec<String> = (0..5_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for (name, text) in [
        ("aliases", bomb),
        ("deep flow", "[".repeat(100_000)),
        ("deep blocks", deep.concat()),
        ("long", format!("version: 1 # {}", "x".repeat(super::MAX_BYTES))),
        ("many wrong items", format!("version: 1\npools: [{}]", "a, ".repeat(20_000))),
        ("many duplicates", "a: 1\n".repeat(20_000)),
        ("a long name around much", format!("{}:\n{}", "x".repeat(1000), "- {a: 1, a: 1}\n".repeat(20_000))),
        ("many unknown fields", unknown.concat()),
        ("long unknown field", format!("{}: 1\n", "x".repeat(1000))),
        ("long text", format!("version: 1\nservices: [{{name: {}}}]\n", "x".repeat(5000))),
        ("long field", format!("version: 1\n? {}\n: 1\n", "x".repeat(5000))),
        ("many wrong references", format!("version: 1\npools: {}", references.concat())),
    ] {
        let begin = std::time::Instant::now();
        let found = mistakes(&text);
        assert!(found.len() <= super::MAX_MISTAKES, "{name}: {}", found.len());
        let longest = found.iter().map(String::len).max().unwrap();
        assert!(longest < 2000, "{name}: a message has {longest} bytes");
        // Generous for a debug build on a busy machine; what is unbounded takes minutes.
        assert!(begin.elapsed().as_secs() < 30, "{name} took {:?}", begin.elapsed());
    }
    let many = format!("pools: [{}]", "a, ".repeat(1001));
    assert!(super::tree::parse_bounded(&many, 1000).is_err());
    assert!(super::tree::parse_bounded(&many, 1010).is_ok());
}

/// The whole file with `count` bytes from `begin` on (both in thousandths of its length) replaced.
fn mangled(begin: usize, count: usize, by: &str) -> String {
    let at = |thousandths: usize| WHOLE.floor_char_boundary(WHOLE.len() * thousandths.min(1000) / 1000);
    format!("{}{by}{}", &WHOLE[..at(begin)], &WHOLE[at(begin + count)..])
}

mod fields;
mod forms;
mod reference;
mod schema;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_text_is_mistakes_have_a_place(
        begin in 0..1000usize, count in 0..100usize, by in "[-a-z0-9:,./*&#{}\\[\\]\"'|> \n]{0,12}",
    ) {
        let text = mangled(begin, count, &by);
        if let Err(mistakes) = load_model(&text) {
            proptest::prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                proptest::prop_assert!(mistake.line.is_some() && !mistake.message.is_empty(), "{mistake:?}\n{text}");
                proptest::prop_assert!(mistake.line.unwrap() as usize <= text.lines().count() + 1, "{mistake:?}");
            }
        }
    }
}
