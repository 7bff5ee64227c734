//! Who may connect, how fast, and what the address answers.

use lbx_common::{
    abi::{PREFIX_ALLOWED, PREFIX_DENIED},
    api::RateLimit,
};
use serde_json::{Value, json};

use super::{accepts, refuses};

#[test]
fn without_policy_everybody_may_connect_and_pings_are_answered() {
    let model = accepts(&[]);
    let service = &model.services[0];
    assert!(service.icmp_echo && !service.reject && service.sources.is_none());
    assert!(service.rate_limit.is_off());
}

#[test]
fn a_policy_is_taken_as_it_is_written() {
    let model = accepts(&[
        ("/services/0/icmp_echo", json!(false)),
        ("/services/1/icmp_echo", json!(false)),
        ("/services/0/no_endpoint", json!("reject")),
        ("/services/0/allow", json!(["0.0.0.0/0"])),
        ("/services/0/deny", json!(["192.0.2.0/24", "198.51.100.7/32"])),
        ("/services/0/rate_limit", json!({"new_flows_per_second": 1000})),
    ]);
    let service = &model.services[0];
    assert!(!service.icmp_echo && service.reject);
    let sources = service.sources.as_ref().unwrap().iter();
    let sources: Vec<_> = sources.map(|(prefix, verdict)| (prefix.to_string(), *verdict)).collect();
    let expected =
        [("0.0.0.0/0", PREFIX_ALLOWED), ("192.0.2.0/24", PREFIX_DENIED), ("198.51.100.7/32", PREFIX_DENIED)];
    assert_eq!(sources, expected.map(|(prefix, verdict)| (prefix.to_owned(), verdict)));
    assert_eq!(service.rate_limit, RateLimit { new_flows_per_second: 1000, per_source: 0 });
}

#[test]
fn services_of_one_address_agree_on_pings() {
    let change = ("/services/1/icmp_echo", json!(false));
    refuses(
        std::slice::from_ref(&change),
        "services[1].icmp_echo: found false, but service `db` has true for the same address 203.0.113.1: write the \
         same for both",
    );
    accepts(&[change, ("/services/1/address", json!("203.0.113.2"))]);
}

#[test]
fn prefixes_are_of_the_family_of_the_address_and_come_once() {
    for list in ["allow", "deny"] {
        let pointer = format!("/services/0/{list}");
        refuses(
            &[(&pointer, json!(["10.0.0.0/8", "2001:db8::/32"]))],
            &format!(
                "services[0].{list}[1]: `2001:db8::/32` is IPv6, but 203.0.113.1, the address of the service, is \
                 IPv4: no client can match it"
            ),
        );
        refuses(
            &[(&pointer, json!(["10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/8"]))],
            &format!(
                "services[0].{list}[2]: `10.0.0.0/8` is listed by services[0].{list}[0] already: list it once"
            ),
        );
    }
    // What is denied may be part of what is allowed, and all of it.
    accepts(&[("/services/0/allow", json!(["10.0.0.0/8"])), ("/services/0/deny", json!(["10.0.0.0/8"]))]);
}

fn prefixes(network: u8, count: usize) -> Value {
    (0..count).map(|i| json!(format!("{network}.{}.{}.0/24", i / 256, i % 256))).collect()
}

#[test]
fn a_service_has_10000_prefixes_at_most() {
    accepts(&[("/services/0/allow", prefixes(10, 10_000))]);
    accepts(&[("/services/0/allow", prefixes(10, 9000)), ("/services/0/deny", prefixes(11, 1000))]);
    refuses(
        &[("/services/0/allow", prefixes(10, 10_001))],
        "services[0].allow: `allow` and `deny` have 10001 prefixes: 10000 is the most of a service",
    );
    refuses(
        &[("/services/0/allow", prefixes(10, 9000)), ("/services/0/deny", prefixes(11, 1001))],
        "services[0].deny: `allow` and `deny` have 10001 prefixes",
    );
}

#[test]
fn prefixes_of_all_services_fit_the_limit() {
    let changes = |limit: u32| {
        [
            ("/services/0/allow", prefixes(10, 30)),
            ("/services/0/deny", prefixes(11, 20)),
            ("/services/1/deny", prefixes(11, 10)),
            ("/limits", json!({"prefixes": limit})),
        ]
    };
    accepts(&changes(60));
    refuses(
        &changes(59),
        "limits.prefixes: there are 60 prefixes in `allow` and `deny` of all services: raise this limit, which is 59",
    );
}
