//! Ranges and any port: what may lie in what, at the VIP and at the endpoint.

use serde_json::{Value, json};

use super::{accepts, refuses};

/// A service with endpoints of its own, so that replies never overlap with those of another.
fn service(number: u8, address: &str, listen: &[&str]) -> [(&'static str, Value); 2] {
    let name = format!("s{number}");
    let endpoint = json!({"name": "a", "virtual_network": "east", "address": format!("10.1.0.{number}")});
    [
        ("/pools/-", json!({"name": name, "endpoints": [endpoint]})),
        ("/services/-", json!({"name": name, "address": address, "listen": listen, "pools": [name]})),
    ]
}

/// Two services on one VIP.
fn two(first: &[&str], second: &[&str]) -> Vec<(&'static str, Value)> {
    let mut all = service(1, "203.0.113.9", first).to_vec();
    all.extend(service(2, "203.0.113.9", second));
    all
}

#[test]
fn a_port_lies_in_a_range_and_a_range_in_any() {
    for (first, second) in [
        ("tcp/8080", "tcp/8000-8999"),
        ("tcp/8000-8999", "tcp/any"),
        ("tcp/1-65535", "tcp/any"),
        ("tcp/8080", "tcp/any"),
        ("tcp/8000-8999", "tcp/9000-9999"),
        ("tcp/8000-8999", "udp/8000-8999"),
        ("tcp/any", "udp/any"),
    ] {
        accepts(&two(&[first], &[second]));
        accepts(&two(&[second], &[first]));
    }
    let model = accepts(&two(&["tcp/8000-8999", "udp/any"], &["tcp/443"]));
    let written: Vec<_> = model.services[2].listen.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["tcp/8000-8999", "udp/any"]);
}

#[test]
fn listeners_of_one_kind_share_no_port() {
    refuses(
        &two(&["tcp/any"], &["tcp/any"]),
        "services[3].listen[0]: service `s2` and service `s1` (services[2].listen[0]) both listen on 203.0.113.9 \
         tcp/any: a listener belongs to one",
    );
    for (first, second) in [
        ("tcp/8000-8999", "tcp/8000-8999"),
        ("tcp/8000-8999", "tcp/8500-9500"),
        ("tcp/8500-9500", "tcp/8000-8999"),
        ("tcp/8000-8999", "tcp/8999-9000"),
        ("tcp/8000-8999", "tcp/8100-8200"),
        ("tcp/8100-8200", "tcp/8000-8999"),
    ] {
        refuses(
            &two(&["tcp/1-10", first], &[second]),
            &format!(
                "services[3].listen[0]: service `s2` listens on 203.0.113.9 {second}, and service `s1` \
                 (services[2].listen[1]) on {first}: two ranges may not share a port"
            ),
        );
    }
    // In one service, once and not also as replies that overlap.
    refuses(
        &service(1, "203.0.113.9", &["tcp/8000-8999", "tcp/8500-9500"]),
        "services[2].listen[1]: service `s1` listens on 203.0.113.9 tcp/8500-9500, and service `s1` \
         (services[2].listen[0]) on tcp/8000-8999: two ranges may not share a port",
    );
    let mut apart = service(1, "203.0.113.9", &["tcp/8000-8999"]).to_vec();
    apart.extend(service(2, "203.0.113.10", &["tcp/8000-8999"]));
    accepts(&apart);
}

#[test]
fn an_endpoint_has_all_ports_of_a_range() {
    let with_port = |listen: &str, port: u16| {
        let mut changes = service(1, "203.0.113.9", &[listen]).to_vec();
        changes.push(("/pools/2/endpoints/0/port", json!(port)));
        changes
    };
    for (listen, most) in [("tcp/8000-8999", 64_536), ("tcp/1-65535", 1), ("udp/any", 1), ("tcp/80", 65_535)]
    {
        accepts(&with_port(listen, most));
        let Some(beyond) = most.checked_add(1) else { continue };
        let first = if listen == "tcp/8000-8999" { 8000 } else { 1 };
        let end = u32::from(beyond) + if first == 8000 { 999 } else { 65_534 };
        refuses(
            &with_port(listen, beyond),
            &format!(
                "services[2].listen[0]: {listen} needs as many ports at endpoint `a` of pool `s1`, from {beyond} to \
                 {end}, and 65535 is the last: write {most} or less there, or leave the port out"
            ),
        );
    }
}

#[test]
fn replies_overlap_where_ranges_of_ports_do() {
    // Two services on addresses of their own, with one pool whose endpoint keeps the port or has one.
    let shared = |port: Option<u16>, first: &str, second: &str| {
        let pool = json!({"name": "s", "endpoints": [
            {"name": "a", "virtual_network": "east", "address": "10.1.0.1", "port": port}]});
        let service = |number: u8, listen: &str| {
            let address = format!("203.0.113.{}", 20 + number);
            json!({"name": format!("s{number}"), "address": address, "listen": [listen], "pools": ["s"]})
        };
        [("/pools/-", pool), ("/services/-", service(1, first)), ("/services/-", service(2, second))]
    };
    for (port, first, second, ports) in [
        (None, "tcp/8000-8999", "tcp/8500", "port 8500"),
        (None, "tcp/8500", "tcp/8000-8999", "port 8500"),
        (None, "tcp/8000-8999", "tcp/8500-9500", "ports 8500-8999"),
        (None, "tcp/8500-9500", "tcp/8000-8999", "ports 8500-8999"),
        (None, "tcp/any", "tcp/8000-8999", "ports 8000-8999"),
        (None, "tcp/any", "tcp/any", "ports 1-65535"),
        (Some(100), "tcp/1-50", "tcp/20", "port 100"),
        (Some(100), "tcp/1-50", "tcp/1001-1020", "ports 100-119"),
    ] {
        refuses(
            &shared(port, first, second),
            &format!(
                "services[3].listen[0]: {second} of service `s2` and {first} of service `s1` both send to 10.1.0.1 \
                 {ports} in virtual network `east` (endpoint `a` of pool `s`), so their replies could not be told \
                 apart: give one of them another endpoint or port"
            ),
        );
    }
    accepts(&shared(None, "tcp/8000-8999", "tcp/9000-9999"));
    accepts(&shared(None, "tcp/8000-8999", "udp/8000-8999"));
    // One in the other on one address: their packets could be told apart, but not their replies.
    refuses(
        &service(1, "203.0.113.9", &["tcp/any", "tcp/443"]),
        "services[2].listen[1]: tcp/443 of service `s1` and tcp/any of service `s1` both send to 10.1.0.1 port 443",
    );
}

#[test]
fn endpoints_of_one_range_do_not_lie_in_one_another() {
    let endpoints = |second: u16| {
        let mut changes = service(1, "203.0.113.9", &["tcp/8000-8099"]).to_vec();
        changes.push(("/pools/2/endpoints/0/port", json!(9000)));
        changes.push((
            "/pools/2/endpoints/-",
            json!({"name": "b", "virtual_network": "east", "address": "10.1.0.1", "port": second}),
        ));
        changes
    };
    accepts(&endpoints(9100));
    refuses(
        &endpoints(9099),
        "services[2].listen[0]: tcp/8000-8099 of service `s1` reaches 10.1.0.1 port 9099 in virtual network `east` as \
         endpoint `a` of pool `s1` and as endpoint `b` of pool `s1`: keep one",
    );
}
