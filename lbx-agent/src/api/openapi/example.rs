//! Examples in the OpenAPI document: one configuration, and requests that are right while it is in force.

use lbx_common::api::Collection;
use serde_json::{Value, json};

/// A small configuration. Of each kind it has an object that nothing refers to.
pub(in crate::api) fn config() -> Value {
    json!({
        "version": 1,
        "node": {
            "interfaces": [{"name": "eth0", "role": "public"}, {"name": "eth1", "role": "underlay"}],
            "tunnel_source": {"ipv4": "198.51.100.10"},
        },
        "virtual_networks": [
            {"name": "east", "vni": 42, "probe_source": {"ipv4": "10.255.42.1"}, "tunnels": [
                {"name": "gre", "encap": "gre", "remote": "198.51.100.7"},
                {"name": "gre2", "encap": "gre", "remote": "198.51.100.8"},
            ]},
            {"name": "lab", "vni": 44},
        ],
        "monitors": [{"name": "tcp1", "interval": "1s", "timeout": "500ms"}, {"name": "ping1", "type": "icmp_ping"}],
        "pools": [
            {"name": "web", "monitor": "tcp1", "endpoints": [
                {"name": "a", "virtual_network": "east", "address": "10.0.0.10", "port": 8080},
                {"name": "b", "virtual_network": "east", "address": "10.0.0.11", "port": 8080, "weight": 0.5},
            ]},
            {"name": "spare"},
        ],
        "services": [{"name": "web", "address": "203.0.113.80", "listen": ["tcp/80"], "pools": ["web"]}],
    })
}

/// The object of the collection that nothing refers to: what contains it, and its name.
pub(in crate::api) fn names(collection: Collection) -> (Vec<&'static str>, &'static str) {
    match collection {
        Collection::VirtualNetworks => (vec![], "lab"),
        Collection::Tunnels => (vec!["east"], "gre2"),
        Collection::Monitors => (vec![], "ping1"),
        Collection::Pools => (vec![], "spare"),
        Collection::Endpoints => (vec!["web"], "b"),
        Collection::Services => (vec![], "web"),
    }
}

/// An object that is not there yet.
pub(in crate::api) fn new(collection: Collection) -> Value {
    match collection {
        Collection::VirtualNetworks => {
            json!({"name": "west", "vni": 43, "probe_source": {"ipv4": "10.255.43.1"}})
        }
        Collection::Tunnels => json!({"name": "vxlan", "encap": "vxlan", "remote": "198.51.100.9"}),
        Collection::Monitors => {
            json!({"name": "http1", "type": "http", "path": "/healthz", "header": {"Host": ["www.example.org"]}})
        }
        Collection::Pools => json!({"name": "blue", "monitor": "tcp1", "endpoints": [
            {"name": "a", "virtual_network": "east", "address": "10.0.0.20", "port": 8080}]}),
        Collection::Endpoints => {
            json!({"name": "c", "virtual_network": "east", "address": "10.0.0.12", "port": 8080})
        }
        Collection::Services => {
            json!({"name": "dns", "address": "203.0.113.81", "listen": ["udp/53"], "pools": ["web"]})
        }
    }
}

/// What takes the place of the object that [`names`] names.
pub(in crate::api) fn replaced(collection: Collection) -> Value {
    match collection {
        Collection::VirtualNetworks => json!({"vni": 45}),
        Collection::Tunnels => json!({"encap": "gre", "remote": "198.51.100.8", "mtu": 1500}),
        Collection::Monitors => json!({"type": "icmp_ping", "interval": "10s"}),
        Collection::Pools => json!({"monitor": "ping1"}),
        Collection::Endpoints => json!({"virtual_network": "east", "address": "10.0.0.13", "port": 8080}),
        Collection::Services => {
            json!({"address": "203.0.113.80", "listen": ["tcp/80", "udp/80"], "pools": ["web"]})
        }
    }
}

/// A change of that object.
pub(in crate::api) fn patch(collection: Collection) -> Value {
    match collection {
        Collection::VirtualNetworks => json!({"probe_source": {"ipv4": "10.255.44.1"}}),
        Collection::Tunnels => json!({"enabled": false}),
        Collection::Monitors => json!({"interval": "2s"}),
        Collection::Pools => json!({"minimum_endpoints": 2}),
        Collection::Endpoints => json!({"drained": true}),
        Collection::Services => json!({"drain": "10m"}),
    }
}

/// A packet to explain.
pub(in crate::api) fn packet() -> Value {
    json!({"from": "192.0.2.7:5555", "to": "203.0.113.80:80", "protocol": "tcp"})
}

/// Something to try a monitor on.
pub(in crate::api) fn trial() -> Value {
    json!({"endpoint": "web/a"})
}
