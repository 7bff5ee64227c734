//! What a VIP itself answers, by what its services say.

use lbx_common::abi::{VIP_ECHO, VIP_REJECTS, VipValue};
use serde_json::json;

use super::{tunnels::planned_with, *};

/// Flags of the VIP of services that say this of packets that no endpoint takes.
fn flags(echo: bool, no_endpoint: &[&str]) -> u32 {
    let service = |(place, no_endpoint): (usize, &&str)| {
        json!({"name": format!("s{place}"), "address": "203.0.113.1", "listen": [format!("tcp/{}", 80 + place)],
               "pools": ["p"], "icmp_echo": echo, "no_endpoint": no_endpoint})
    };
    let config = json!({
        "version": 1,
        "node": {"interfaces": [{"name": "eth0", "role": "both"}], "tunnel_source": {"ipv4": "192.0.2.1"}},
        "pools": [{"name": "p"}],
        "services": no_endpoint.iter().enumerate().map(service).collect::<Vec<_>>(),
    });
    let model = config::validate(config::decode(config).unwrap()).unwrap();
    let image = planned_with(&model, &[], &Image::default());
    let vips = image.listeners.iter().filter(|(key, _)| matches!(key, ListenerKey::Vip(_)));
    let [(_, words)] = vips.collect::<Vec<_>>()[..] else { panic!("{:?}", image.listeners) };
    VipValue::from_words(*words).flags
}

#[test]
fn ports_that_no_service_has_are_refused_where_all_services_refuse() {
    assert_eq!(flags(false, &["drop"]), 0);
    assert_eq!(flags(false, &["reject"]), VIP_REJECTS);
    assert_eq!(flags(false, &["reject", "reject"]), VIP_REJECTS);
    assert_eq!(flags(false, &["reject", "drop"]), 0);
    assert_eq!(flags(false, &["drop", "reject"]), 0);
    assert_eq!(flags(true, &["drop", "drop"]), VIP_ECHO);
    assert_eq!(flags(true, &["reject"]), VIP_ECHO | VIP_REJECTS);
}
