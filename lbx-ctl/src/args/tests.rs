//! What is understood, what is refused, and which body it becomes.

use clap::{CommandFactory, error::ErrorKind};
use lbx_common::api::Collection;
use serde_json::{Value, json};

use super::*;
use crate::error::CliError;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split_whitespace())
}

fn request(line: &str) -> (String, Value) {
    let command = parse(line).unwrap().command;
    let request = match &command {
        Command::Create { object, .. } => Some(object.request()),
        Command::Set { object, .. } => Some(object.request()),
        Command::Endpoint { action, name, .. } => {
            Some(ObjectName::parse(Collection::Endpoints, name).map(|object| (object, action.patch())))
        }
        Command::Get { .. }
        | Command::Describe { .. }
        | Command::Delete { .. }
        | Command::Apply { .. }
        | Command::Export
        | Command::Health { .. }
        | Command::Flows(_)
        | Command::Events(_)
        | Command::Monitor { .. }
        | Command::Explain { .. }
        | Command::Stats { .. }
        | Command::Status
        | Command::Schema
        | Command::Top(_)
        | Command::Man { .. }
        | Command::Completion { .. } => None,
    };
    let (object, body) = request.expect("create or set").unwrap();
    (object.full(), body)
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn actions_on_endpoints_become_patches() {
    for (action, patch) in [
        ("drain", json!({"drained": true})),
        ("undrain", json!({"drained": false})),
        ("disable", json!({"enabled": false})),
        ("enable", json!({"enabled": true})),
    ] {
        assert_eq!(request(&format!("lbx-ctl endpoint {action} web/a")), ("web/a".to_owned(), patch));
    }
    assert!(parse("lbx-ctl endpoint stop web/a").is_err());
}

#[test]
fn fields_with_parts_become_objects() {
    for (line, name, body) in [
        (
            "lbx-ctl create monitor h --type https --port 8443 --method HEAD --path /a?b --header Host:a --header X-A:1 \
             --header X-A:2 --expected-codes 2xx,304 --follow-redirects true --allow-insecure true",
            "h",
            json!({"name": "h", "type": "https", "port": 8443, "method": "HEAD", "path": "/a?b",
                   "header": {"Host": ["a"], "X-A": ["1", "2"]}, "expected_codes": "2xx,304",
                   "follow_redirects": true, "allow_insecure": true}),
        ),
        (
            r"lbx-ctl create monitor u --type udp --payload \x00ping --expect pong --expected-body ok",
            "u",
            json!({"name": "u", "type": "udp", "payload": r"\x00ping", "expect": "pong", "expected_body": "ok"}),
        ),
        (
            "lbx-ctl create pool web --minimum-endpoints 2 --load-shedding 30 --panic-threshold 60 --endpoint-steering hash",
            "web",
            json!({"name": "web", "minimum_endpoints": 2, "load_shedding": 30, "panic_threshold": 60,
                   "endpoint_steering": "hash"}),
        ),
        (
            "lbx-ctl create pool web --monitor-group a=must_be_healthy,b --monitor-group c=monitoring_only",
            "web",
            json!({"name": "web", "monitor_group": [{"monitor": "a", "must_be_healthy": true}, {"monitor": "b"},
                   {"monitor": "c", "monitoring_only": true}]}),
        ),
        (
            "lbx-ctl create service s --address 10.0.0.1 --listen tcp/80 --pool a,b --fallback-pool c --steering-policy \
             random --pool-weight a=0.5 --pool-weight b=0.25 --default-pool-weight 0.1",
            "s",
            json!({"name": "s", "address": "10.0.0.1", "listen": ["tcp/80"], "pools": ["a", "b"], "fallback_pool": "c",
                   "steering_policy": "random",
                   "random_steering": {"default_weight": 0.1, "pool_weights": {"a": 0.5, "b": 0.25}}}),
        ),
        (
            "lbx-ctl create service g --address 10.0.0.1 --listen tcp/80 --pool a --steering-policy geo --region-pools \
             eu=b+a --region-pools us=c",
            "g",
            json!({"name": "g", "address": "10.0.0.1", "listen": ["tcp/80"], "pools": ["a"], "steering_policy": "geo",
                   "region_pools": {"eu": ["b", "a"], "us": ["c"]}}),
        ),
        (
            "lbx-ctl create pool far --latitude -33.9 --longitude 151.2",
            "far",
            json!({"name": "far", "location": {"latitude": -33.9, "longitude": 151.2}}),
        ),
    ] {
        assert_eq!(request(line), (name.to_owned(), body), "{line}");
    }
}

#[test]
fn create_flags_become_the_bodies_of_the_api() {
    for (line, name, body) in [
        (
            "lbx-ctl create vnet east --vni 42 --probe-source 10.255.42.1",
            "east",
            json!({"name": "east", "vni": 42, "probe_source": {"ipv4": "10.255.42.1"}}),
        ),
        (
            "lbx-ctl create tunnel east/a --encap vxlan --remote 198.51.100.7 --port 4790 --mtu 1400",
            "east/a",
            json!({"name": "a", "encap": "vxlan", "remote": "198.51.100.7", "port": 4790, "mtu": 1400}),
        ),
        (
            "lbx-ctl create vnet six --vni 6 --probe-source fd00:255::1 --probe-source 10.255.6.1",
            "six",
            json!({"name": "six", "vni": 6, "probe_source": {"ipv4": "10.255.6.1", "ipv6": "fd00:255::1"}}),
        ),
        (
            "lbx-ctl create tunnel six/a --encap gre-udp --remote 2001:db8::7",
            "six/a",
            json!({"name": "a", "encap": "gre-udp", "remote": "2001:db8::7"}),
        ),
        (
            "lbx-ctl create tunnel six/a --encap geneve --inner ethernet --remote 2001:DB8:0::7",
            "six/a",
            json!({"name": "a", "encap": "geneve", "inner": "ethernet", "remote": "2001:db8::7"}),
        ),
        (
            "lbx-ctl create monitor tcp1 --type tcp --interval 1s --timeout 500ms",
            "tcp1",
            json!({"name": "tcp1", "type": "tcp", "interval": "1s", "timeout": "500ms"}),
        ),
        ("lbx-ctl create pool web", "web", json!({"name": "web"})),
        (
            "lbx-ctl create endpoint web/a --vnet east --address 10.0.0.10 --port 80 --weight 0.5",
            "web/a",
            json!({"name": "a", "virtual_network": "east", "address": "10.0.0.10", "port": 80, "weight": 0.5}),
        ),
        (
            "lbx-ctl create tunnel six/a --encap gre --remote 2001:db8::7 --monitor m --probe-address fd00::1 \
             --probe-port 179 --enabled false",
            "six/a",
            json!({"name": "a", "encap": "gre", "remote": "2001:db8::7", "enabled": false, "monitor": "m",
                   "probe_address": "fd00::1", "probe_port": 179}),
        ),
        (
            "lbx-ctl create endpoint web/a --vnet six --address fd00::1 --tunnel a --tunnel b,c",
            "web/a",
            json!({"name": "a", "virtual_network": "six", "address": "fd00::1", "tunnels": ["a", "b", "c"]}),
        ),
        (
            "lbx-ctl create service web --address 203.0.113.80 --listen tcp/8000-8999,udp/any --pool web --forwarding \
             dsr --allow 192.0.2.0/24 --allow 10.0.0.0/8 --deny 10.1.0.0/16 --no-endpoint reject --icmp-echo false \
             --rate-limit 1000 --rate-limit-per-source 10 --drain 30s --on-endpoint-down reset --connection-tracking \
             always --affinity source_ip --affinity-ipv4 24 --affinity-ttl 1h",
            "web",
            json!({"name": "web", "address": "203.0.113.80", "listen": ["tcp/8000-8999", "udp/any"],
                   "forwarding": "dsr", "pools": ["web"], "icmp_echo": false, "no_endpoint": "reject",
                   "allow": ["192.0.2.0/24", "10.0.0.0/8"], "deny": ["10.1.0.0/16"],
                   "rate_limit": {"new_flows_per_second": 1000, "per_source": 10}, "drain": "30s",
                   "on_endpoint_down": "reset", "connection_tracking": "always",
                   "session_affinity": {"type": "source_ip", "prefix_ipv4": 24, "ttl": "1h"}}),
        ),
        (
            "lbx-ctl create endpoint web/a --vnet six --address fd00::1",
            "web/a",
            json!({"name": "a", "virtual_network": "six", "address": "fd00::1"}),
        ),
        (
            "lbx-ctl create service web --address 2001:db8:80::1 --listen tcp/80 --pool web",
            "web",
            json!({"name": "web", "address": "2001:db8:80::1", "listen": ["tcp/80"], "pools": ["web"]}),
        ),
        (
            "lbx-ctl create service web --address 203.0.113.80 --listen tcp/80 --listen udp/53 --pool web",
            "web",
            json!({"name": "web", "address": "203.0.113.80", "listen": ["tcp/80", "udp/53"], "pools": ["web"]}),
        ),
    ] {
        assert_eq!(request(line), (name.to_owned(), body), "{line}");
    }
}

#[test]
fn set_sends_only_what_was_named() {
    assert_eq!(
        request("lbx-ctl set endpoint web/a --weight 0.3 --enabled false --unset port").1,
        json!({"weight": 0.3, "enabled": false, "port": null})
    );
    assert_eq!(
        request("lbx-ctl set tunnel east/a --unset inner-mac,mtu,inner").1,
        json!({"inner_mac": null, "mtu": null, "inner": null})
    );
    assert_eq!(request("lbx-ctl set vnet east --unset probe-source").1, json!({"probe_source": null}));
    // A merge patch: the limit for all sources stays.
    assert_eq!(
        request("lbx-ctl set service web --rate-limit-per-source 0 --unset allow,deny,icmp-echo,no-endpoint")
            .1,
        json!({"rate_limit": {"per_source": 0}, "allow": null, "deny": null, "icmp_echo": null, "no_endpoint": null})
    );
    assert_eq!(
        request(
            "lbx-ctl set service web --unset drain,on-endpoint-down,connection-tracking,session-affinity"
        )
        .1,
        json!({"drain": null, "on_endpoint_down": null, "connection_tracking": null, "session_affinity": null})
    );
    assert_eq!(request("lbx-ctl set service web --unset rate-limit").1, json!({"rate_limit": null}));
    assert_eq!(request("lbx-ctl set endpoint web/a --unset tunnels").1, json!({"tunnels": null}));
    assert_eq!(
        request("lbx-ctl set tunnel east/a --unset monitor,probe-address,probe-port,enabled").1,
        json!({"monitor": null, "probe_address": null, "probe_port": null, "enabled": null})
    );
}

#[test]
fn set_without_fields_or_with_a_contradiction_is_wrong_usage() {
    let refused = |line: &str| {
        let Command::Set { object, .. } = parse(line).unwrap().command else { panic!("not set") };
        object.request().unwrap_err()
    };
    assert!(refused("lbx-ctl set pool web").to_string().contains("nothing to set"));
    let error = refused("lbx-ctl set pool web --monitor x --unset monitor");
    assert!(matches!(error, CliError::Usage(_)) && error.to_string().contains("contradict"), "{error}");
    let error = refused("lbx-ctl set vnet e --probe-source fd00::1 --probe-source fd00::2");
    let text = "--probe-source fd00::1 and fd00::2 are both IPv6: give one of each family";
    assert!(matches!(error, CliError::Usage(_)) && error.to_string().contains(text), "{error}");
}

#[test]
fn what_create_needs_is_required_and_set_needs_none_of_it() {
    for (line, flag) in [
        ("lbx-ctl create vnet east", "--vni"),
        ("lbx-ctl create tunnel east/a --encap gre", "--remote"),
        ("lbx-ctl create endpoint web/a --address 10.0.0.1", "--vnet"),
        ("lbx-ctl monitor test m", "--endpoint"),
        ("lbx-ctl create service web --address 10.0.0.1 --listen tcp/80", "--pool"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{line}");
        assert!(error.to_string().contains(flag), "{error}");
    }
    parse("lbx-ctl set service web --forwarding nat").unwrap();
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    for (line, word) in [
        ("lbx-ctl create monitor m --interval 5", "500ms, 5s or 2m"),
        ("lbx-ctl create monitor m --type ping", "icmp_ping"),
        ("lbx-ctl create monitor m --expected-codes ok", "`2xx`"),
        ("lbx-ctl create monitor m --header a", "NAME: VALUE"),
        (r"lbx-ctl create monitor m --payload \q", r"`\q` is no escape"),
        ("lbx-ctl explain --from 192.0.2.7 --to 192.0.2.8:1/tcp", "socket address"),
        ("lbx-ctl explain --from 192.0.2.7:1 --to 192.0.2.8:1", "203.0.113.80:443/tcp"),
        ("lbx-ctl explain --from 192.0.2.7:1 --to 192.0.2.8:1/icmp", "203.0.113.80:443/tcp"),
        ("lbx-ctl monitor test m --endpoint web/a --tunnel east/a", "cannot be used with"),
        ("lbx-ctl create vnet east --vni 0", "1..="),
        ("lbx-ctl set pool web --minimum-endpoints 0", "1..="),
        ("lbx-ctl set pool web --load-shedding 101", "0..=100"),
        ("lbx-ctl set pool web --monitor-group a=must", "NAME=must_be_healthy"),
        ("lbx-ctl create pool web --monitor a --monitor-group b", "cannot be used with"),
        ("lbx-ctl set service s --steering-policy nearest", "failover, random, dynamic_latency"),
        ("lbx-ctl set service s --pool-weight web", "NAME=WEIGHT"),
        ("lbx-ctl set service s --pool-weight web=2", "0 to 1"),
        ("lbx-ctl create endpoint web/a --vnet east --address 10.0.0", "invalid IP address"),
        ("lbx-ctl set endpoint web/a --weight 1.5", "0 to 1"),
        ("lbx-ctl create service s --address 10.0.0.1 --pool p --listen http", "tcp/PORT"),
        ("lbx-ctl set service s --listen tcp/9-8", "write `tcp/8-9`"),
        ("lbx-ctl set service s --allow 10.0.0.1/8", "write `10.0.0.0/8`"),
        ("lbx-ctl set service s --no-endpoint rst", "drop, reject"),
        ("lbx-ctl set service s --rate-limit -1", "-1"),
        ("lbx-ctl create tunnel e/a --encap ipip --remote 10.0.0.1", "gre, gre-udp, vxlan, geneve"),
        ("lbx-ctl get flows", "endpoint"),
        ("lbx-ctl set service s --affinity cookie", "source_ip"),
        ("lbx-ctl set service s --affinity-ipv4 33", "1..=32"),
        ("lbx-ctl set service s --drain 5", "500ms, 5s or 2m"),
        ("lbx-ctl flows --limit 10001", "10000"),
        ("lbx-ctl flows --client 10.0.0.1/8", "write `10.0.0.0/8`"),
        ("lbx-ctl endpoint drain web/a --timeout 5s", "--wait"),
        ("lbx-ctl endpoint drain web/a --wait --dry-run", "cannot be used with"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn kinds_are_understood_in_singular_and_plural() {
    for (word, kind) in [
        ("vnet", Kind::Vnet),
        ("vnets", Kind::Vnet),
        ("virtual_networks", Kind::Vnet),
        ("tunnels", Kind::Tunnel),
        ("monitors", Kind::Monitor),
        ("pools", Kind::Pool),
        ("endpoint", Kind::Endpoint),
        ("services", Kind::Service),
    ] {
        let Command::Get { kind: parsed, .. } = parse(&format!("lbx-ctl get {word}")).unwrap().command else {
            panic!("not get")
        };
        assert_eq!(parsed, kind);
    }
}

#[test]
fn names_of_contained_objects_need_their_parent_and_others_have_none() {
    use lbx_common::api::Collection::{Endpoints, Pools, Tunnels};
    let parsed = ObjectName::parse(Endpoints, "web/a").unwrap();
    assert_eq!(parsed.path(), ["pools", "web", "endpoints", "a"]);
    for (collection, text, word) in [
        (Endpoints, "a", "POOL/NAME"),
        (Tunnels, "east", "VNET/NAME"),
        (Tunnels, "east/", "VNET/NAME"),
        (Tunnels, "east/a/b", "VNET/NAME"),
        (Pools, "web/a", "without `/`"),
        (Pools, "..", "without `/`"),
    ] {
        let error = ObjectName::parse(collection, text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(text), "{error}");
    }
}
