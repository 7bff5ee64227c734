//! The form of every field: each wrong one is named with what would be right, where it stands. What is right in form and
//! still wrong is in the tests of `validate`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{load_yaml, reference::known, schema::whole};

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Whole(u64),
    Share,
    Flag,
    Time,
    Address,
    Ipv4,
    Ipv6,
    Listeners,
    Prefixes,
    Names,
    Codes,
    Bytes,
    Words(&'static [&'static str]),
    NamedNumbers,
    NamedTexts,
    Object,
    Objects,
}
use Form::{
    Address, Bytes, Codes, Flag, Ipv4, Ipv6, Listeners, NamedNumbers, NamedTexts, Names, Object, Objects,
    Prefixes, Share, Text, Time, Whole, Words,
};

const U8: Form = Whole(255);
const U16: Form = Whole(65_535);
const U32: Form = Whole(4_294_967_295);

/// Every field, by its form.
const FIELDS: &[(Form, &[&str])] = &[
    (Object, &["node", "limits", "timers", "node.tunnel_source", "node.flow_samples"]),
    (Object, &["virtual_networks[].probe_source"]),
    (Object, &["node.location", "regions[].location", "pools[].location"]),
    (Object, &["services[].random_steering", "services[].session_affinity", "services[].rate_limit"]),
    (Objects, &["node.interfaces", "virtual_networks", "virtual_networks[].tunnels", "monitors", "pools"]),
    (Objects, &["regions", "pools[].monitor_group", "pools[].endpoints", "services"]),
    (Text, &["node.interfaces[].name", "node.hash_seed", "node.regions_file", "virtual_networks[].name"]),
    (Text, &["regions[].name"]),
    (Text, &["virtual_networks[].tunnels[].name", "virtual_networks[].tunnels[].inner_mac"]),
    (
        Text,
        &[
            "virtual_networks[].tunnels[].monitor",
            "monitors[].name",
            "monitors[].path",
            "monitors[].expected_body",
        ],
    ),
    (
        Text,
        &[
            "pools[].name",
            "pools[].monitor",
            "pools[].monitor_group[].monitor",
            "pools[].endpoints[].name",
            "pools[].endpoints[].virtual_network",
        ],
    ),
    (Text, &["services[].name", "services[].fallback_pool"]),
    (U8, &["monitors[].retries", "monitors[].consecutive_up", "monitors[].consecutive_down"]),
    (U8, &["pools[].load_shedding", "pools[].panic_threshold"]),
    (U8, &["services[].session_affinity.prefix_ipv4", "services[].session_affinity.prefix_ipv6"]),
    (U16, &["virtual_networks[].tunnels[].port", "virtual_networks[].tunnels[].mtu"]),
    (U16, &["virtual_networks[].tunnels[].probe_port", "monitors[].port", "pools[].endpoints[].port"]),
    (U32, &["version", "virtual_networks[].vni", "pools[].minimum_endpoints", "pools[].table_size"]),
    (U32, &["limits.listeners", "limits.endpoints", "limits.tunnels", "limits.virtual_networks"]),
    (U32, &["limits.table_slots", "limits.prefixes", "limits.fragments", "limits.pins", "limits.affinities"]),
    (
        U32,
        &[
            "node.flow_samples.one_in",
            "services[].rate_limit.new_flows_per_second",
            "services[].rate_limit.per_source",
        ],
    ),
    (Share, &["pools[].endpoints[].weight", "services[].random_steering.default_weight"]),
    (Share, &["node.location.latitude", "regions[].location.latitude", "pools[].location.latitude"]),
    (Share, &["node.location.longitude", "regions[].location.longitude", "pools[].location.longitude"]),
    (
        Flag,
        &["virtual_networks[].tunnels[].enabled", "monitors[].follow_redirects", "monitors[].allow_insecure"],
    ),
    (Flag, &["pools[].monitor_group[].must_be_healthy", "pools[].monitor_group[].monitoring_only"]),
    (Flag, &["pools[].endpoints[].enabled", "pools[].endpoints[].drained", "services[].icmp_echo"]),
    (
        Time,
        &[
            "timers.transition",
            "timers.tcp_idle",
            "timers.udp_idle",
            "timers.steering",
            "monitors[].interval",
            "monitors[].timeout",
        ],
    ),
    (Time, &["services[].drain", "services[].session_affinity.ttl"]),
    (Address, &["virtual_networks[].tunnels[].remote", "virtual_networks[].tunnels[].probe_address"]),
    (Address, &["pools[].endpoints[].address", "services[].address"]),
    (Ipv4, &["node.tunnel_source.ipv4", "virtual_networks[].probe_source.ipv4"]),
    (Ipv6, &["node.tunnel_source.ipv6", "virtual_networks[].probe_source.ipv6"]),
    (Listeners, &["services[].listen"]),
    (Prefixes, &["services[].allow", "services[].deny"]),
    (Names, &["pools[].endpoints[].tunnels", "services[].pools"]),
    (Codes, &["monitors[].expected_codes"]),
    (Bytes, &["monitors[].payload", "monitors[].expect"]),
    (NamedTexts, &["monitors[].header"]),
    (NamedTexts, &["services[].region_pools"]),
    (NamedNumbers, &["services[].random_steering.pool_weights"]),
    (Words(&["public", "underlay", "both"]), &["node.interfaces[].role"]),
    (Words(&["auto", "native", "generic"]), &["node.interfaces[].mode"]),
    (Words(&["gre", "gre-udp", "vxlan", "geneve"]), &["virtual_networks[].tunnels[].encap"]),
    (Words(&["ip", "ethernet"]), &["virtual_networks[].tunnels[].inner"]),
    (Words(&["tcp", "http", "https", "icmp_ping", "udp_icmp", "udp", "smtp"]), &["monitors[].type"]),
    (Words(&["GET", "HEAD", "OPTIONS"]), &["monitors[].method"]),
    (Words(&["random", "hash", "least_connections"]), &["pools[].endpoint_steering"]),
    (Words(&["nat", "dsr"]), &["services[].forwarding"]),
    (Words(&["failover", "random", "dynamic_latency", "geo", "proximity"]), &["services[].steering_policy"]),
    (Words(&["source_ip"]), &["services[].session_affinity.type"]),
    (Words(&["keep", "reset"]), &["services[].on_endpoint_down"]),
    (Words(&["auto", "always", "off"]), &["services[].connection_tracking"]),
    (Words(&["drop", "reject"]), &["services[].no_endpoint"]),
];

/// Wrong values, each with what stands behind the field in the path of the mistake, and the message.
#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong(form: Form) -> Vec<(Value, &'static str, String)> {
    let expected = |found: &str, right: &str| format!("found {found}, expected {right}");
    let each = |right: &str| vec![(json!({"a": 1}), "", expected("an object", right))];
    let example = "write it as `192.0.2.10` or `2001:db8::10`";
    let not_listed = |right: &str| (json!("x"), "", expected("the text `x`", right));
    match form {
        Text => vec![
            (json!(12), "", expected("the number 12", "text: put it in quotes")),
            (json!(true), "", expected("`true`", "text: put it in quotes")),
            (json!([]), "", expected("a list", "text")),
        ],
        Whole(most) => {
            let right = format!("a whole number from 0 to {most}");
            vec![
                (json!(most + 1), "", expected(&format!("the number {}", most + 1), &right)),
                (json!(-1), "", expected("the number -1", &right)),
                (json!(0.5), "", expected("the number 0.5", &right)),
                (json!("7"), "", expected("the text `7`", &right)),
            ]
        }
        Share => [each("a number, as 0.5"), vec![(json!("much"), "", expected("the text `much`", "a number, as 0.5"))]]
            .concat(),
        Flag => vec![
            (json!("yes"), "", expected("the text `yes`", "`true` or `false`")),
            (json!(1), "", expected("the number 1", "`true` or `false`")),
        ],
        Time => {
            let right = "a duration, as `500ms`, `5s` or `2m`";
            vec![
                (json!(5), "", expected("the number 5", right)),
                (json!("5"), "", expected("the text `5`", right)),
                (json!("1 fortnight"), "", expected("the text `1 fortnight`", right)),
            ]
        }
        Address => vec![
            (json!("10.0.0"), "", format!("`10.0.0` is not an IP address: {example}")),
            (json!("10.0.0.1:80"), "", format!("`10.0.0.1:80` is not an IP address: {example}, without a port")),
            (json!(7), "", expected("the number 7", "an IP address, as `192.0.2.10` or `2001:db8::10`")),
        ],
        Ipv4 => vec![
            (json!("10.0.0.256"), "", "`10.0.0.256` is not an IPv4 address: write it as `192.0.2.10`".to_owned()),
            (
                json!("2001:db8::1"),
                "",
                "`2001:db8::1` is an IPv6 address, which goes into `ipv6`: write an IPv4 address here, as `192.0.2.10`"
                    .to_owned(),
            ),
        ],
        Ipv6 => vec![
            (json!("::g"), "", "`::g` is not an IPv6 address: write it as `2001:db8::10`".to_owned()),
            (
                json!("192.0.2.1"),
                "",
                "`192.0.2.1` is an IPv4 address, which goes into `ipv4`: write an IPv6 address here, as `2001:db8::10`"
                    .to_owned(),
            ),
        ],
        Listeners => vec![
            not_listed("a list"),
            (json!([80]), "[0]", expected("the number 80", "a listener, as `tcp/80` or `udp/80`")),
            (json!(["tcp/9-8"]), "[0]", "`tcp/9-8` is not a range of ports: write `tcp/8-9`".to_owned()),
            (
                json!(["sctp/1"]),
                "[0]",
                "`sctp/1` is not a listener: write `tcp/PORT`, `tcp/FIRST-LAST` or `tcp/any`, or the same with `udp`, with \
                 ports from 1 to 65535"
                    .to_owned(),
            ),
        ],
        Prefixes => vec![
            not_listed("a list"),
            (json!([7]), "[0]", expected("the number 7", "text: put it in quotes")),
            (
                json!(["192.0.2.7"]),
                "[0]",
                "`192.0.2.7` has no length: write `192.0.2.7/32` for this one address".to_owned(),
            ),
            (
                json!(["all"]),
                "[0]",
                "`all` is not a prefix: write it as `192.0.2.0/24` or `2001:db8::/32`".to_owned(),
            ),
        ],
        Names => vec![
            not_listed("a list"),
            (json!([7]), "[0]", expected("the number 7", "text: put it in quotes")),
        ],
        Codes => vec![
            (json!(200), "", expected("the number 200", "text: put it in quotes")),
            (
                json!("200,6xx"),
                "",
                "`6xx` is no HTTP code: write `200`, `2xx` or `200-206`, or several with commas between; they are 100 to \
                 599"
                .to_owned(),
            ),
        ],
        Bytes => vec![
            (json!(7), "", expected("the number 7", "text: put it in quotes")),
            (
                json!("\\q"),
                "",
                "`\\q` is no escape: write `\\xNN` with two hexadecimal digits, `\\r`, `\\n`, `\\t`, `\\0`, or `\\\\` for a \
                 backslash"
                    .to_owned(),
            ),
        ],
        Words(all) => {
            let quoted: Vec<String> = all.iter().map(|word| format!("`{word}`")).collect();
            let choice = match quoted.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => quoted.concat(),
            };
            vec![(json!("zzzzzzzz"), "", format!("unknown value `zzzzzzzz`: write {choice}."))]
        }
        NamedNumbers => vec![
            not_listed("an object, as `{NAME: VALUE}`"),
            (json!({"web": "much"}), ".web", expected("the text `much`", "a number, as 0.5")),
        ],
        NamedTexts => vec![
            not_listed("an object, as `{NAME: VALUE}`"),
            (json!({"Host": "a"}), ".Host", expected("the text `a`", "a list")),
            (json!({"Host": [7]}), ".Host[0]", expected("the number 7", "text: put it in quotes")),
        ],
        Object => vec![
            not_listed("an object with fields"),
            (json!([]), "", expected("a list", "an object with fields")),
        ],
        Objects => vec![
            not_listed("a list (`[]` where it is empty)"),
            (json!({}), "", expected("an object", "a list (`[]` where it is empty)")),
            (json!([7]), "[0]", expected("the number 7", "an object with fields")),
        ],
    }
}

/// The first place of a field in a document: its pointer.
fn first(document: &Value, field: &str) -> Option<String> {
    let (step, rest) = field.split_once('.').map_or((field, None), |(step, rest)| (step, Some(rest)));
    let name = step.trim_end_matches("[]");
    let value = document.get(name)?;
    let Some(rest) = rest else { return Some(format!("/{name}")) };
    if name == step {
        return Some(format!("/{name}{}", first(value, rest)?));
    }
    let mut items = value.as_array()?.iter().enumerate();
    items.find_map(|(index, item)| Some(format!("/{name}/{index}{}", first(item, rest)?)))
}

#[test]
fn every_wrong_form_of_every_field_is_named_where_it_stands() {
    let whole = whole();
    for &(form, fields) in FIELDS {
        for field in fields {
            let pointer =
                first(&whole, field).unwrap_or_else(|| panic!("{field} is not in testdata/whole.yaml"));
            let (_, name) = pointer.rsplit_once('/').unwrap();
            for (value, behind, message) in wrong(form) {
                let mut document = whole.clone();
                *document.pointer_mut(&pointer).unwrap() = value;
                // JSON is YAML, too.
                let text = serde_json::to_string_pretty(&document).unwrap();
                let found = load_yaml(&text).unwrap_err();
                assert_eq!(found.len(), 1, "{field}: {found:?}");
                assert_eq!(found[0].message, message, "{field}");
                assert_eq!(found[0].path, format!("{}{behind}", super::schema::path_of(&pointer)));
                let (line, column) = (found[0].line.unwrap() as usize, found[0].column.unwrap());
                let line = text.lines().nth(line - 1).unwrap();
                assert!(
                    column > 0 && (!behind.is_empty() || line.contains(&format!("\"{name}\":"))),
                    "{field}: {line}"
                );
            }
        }
    }
}

#[test]
fn no_field_is_left_out() {
    let listed: BTreeSet<String> =
        FIELDS.iter().flat_map(|(_, fields)| *fields).map(|field| (*field).to_owned()).collect();
    let known: BTreeSet<String> = known().into_keys().collect();
    assert_eq!(listed, known);
}
