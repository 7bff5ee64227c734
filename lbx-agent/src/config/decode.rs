//! From a JSON value to the typed configuration, with all mistakes of shape at once.
//!
//! serde stops at the first mistake. So each object is decoded on its own, and where one is wrong, the
//! mistake is noted and repaired (by a sample value or by leaving the field out) and the object decoded
//! again until it passes. What passes after a repair is thrown away: mistakes were found, so there is
//! no configuration.

use lbx_common::api::{
    Config, Endpoint, FlowSamples, GroupMonitor, Interface, Limits, Location, Mistake, Monitor, Node, Pool,
    ProbeSource, RandomSteering, RateLimit, Region, Service, SessionAffinity, Timers, Tunnel, TunnelSource,
    VirtualNetwork,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;

use super::{MAX_MISTAKES, explain, names::join, object::Object};

/// After this many mistakes in one object the rest of it is not read: it is hostile, or no lbx object.
const MAX_REPAIRS: usize = 32;
/// Longest text, that of a path in the file system.
const MAX_TEXT_BYTES: usize = 4096;

/// Decodes a configuration, as the body of `PUT /v1/config`.
pub fn decode(value: Value) -> Result<Config, Vec<Mistake>> {
    if let Some(path) = find_overlong(&value) {
        return Err(vec![overlong("", &path)]);
    }
    let mut decoder = Decoder::default();
    let config = decoder.config(value);
    match config {
        Some(config) if decoder.mistakes.is_empty() => Ok(config),
        _ => Err(decoder.mistakes),
    }
}

/// Decodes one object that is to be at `path` in the configuration.
pub fn decode_object<T: Object>(value: Value, path: &str) -> Result<T, Vec<Mistake>> {
    if let Some(inner) = find_overlong(&value) {
        return Err(vec![overlong(path, &inner)]);
    }
    let mut decoder = Decoder::default();
    let object = T::decode(&mut decoder, value, path);
    object.filter(|_| decoder.mistakes.is_empty()).ok_or(decoder.mistakes)
}

fn overlong(path: &str, inner: &[Segment]) -> Mistake {
    let message = format!("this text is too long: {MAX_TEXT_BYTES} bytes are the most of any");
    Mistake::new(write(path, inner), message)
}

/// Where a text is that no field can mean. Messages repeat texts, so they must not be of any length.
fn find_overlong(value: &Value) -> Option<Vec<Segment>> {
    let inside = |segment: Segment, value: &Value| {
        let mut path = find_overlong(value)?;
        path.insert(0, segment);
        Some(path)
    };
    match value {
        Value::String(text) => (text.len() > MAX_TEXT_BYTES).then(Vec::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| inside(Segment::Seq { index }, item))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            if key.len() > MAX_TEXT_BYTES {
                return Some(Vec::new());
            }
            inside(Segment::Map { key: key.clone() }, value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// An object of the configuration.
pub(super) trait Shape: DeserializeOwned {
    /// Right values for exactly the fields that it must have.
    fn required() -> Value;

    /// Right values for the lists of values that it may have.
    fn lists() -> Value;
}

macro_rules! shapes {
    ($($type:ty: $required:tt, $lists:tt;)*) => {
        $(impl Shape for $type {
            fn required() -> Value {
                json!($required)
            }

            fn lists() -> Value {
                json!($lists)
            }
        })*

        #[cfg(test)]
        mod tests {
            use super::*;

            /// Were a required field missing from a sample, its absence would hide all other mistakes.
            #[test]
            fn samples_hold_exactly_the_required_fields() {
                $({
                    let sample = <$type>::required();
                    assert!(serde_json::from_value::<$type>(sample.clone()).is_ok(), "{sample}");
                    for name in sample.as_object().unwrap().keys() {
                        let mut without = sample.clone();
                        without.as_object_mut().unwrap().remove(name);
                        assert!(serde_json::from_value::<$type>(without).is_err(), "{name} of {sample}");
                    }
                    let mut with_lists = sample.clone();
                    with_lists.as_object_mut().unwrap().extend(<$type>::lists().as_object().unwrap().clone());
                    assert!(serde_json::from_value::<$type>(with_lists.clone()).is_ok(), "{with_lists}");
                })*
            }
        }
    };
}

shapes! {
    Config: {"version": 1}, {};
    Node: {}, {};
    Interface: {"name": "a", "role": "both"}, {};
    TunnelSource: {}, {};
    FlowSamples: {}, {};
    Limits: {}, {};
    Timers: {}, {};
    VirtualNetwork: {"name": "a", "vni": 1}, {};
    ProbeSource: {}, {};
    Tunnel: {"name": "a", "encap": "gre", "remote": "192.0.2.1"}, {};
    Monitor: {"name": "a"}, {"header": {"*": ["a"]}};
    GroupMonitor: {"monitor": "a"}, {};
    Region: {"name": "a"}, {};
    Location: {"latitude": 0, "longitude": 0}, {};
    Pool: {"name": "a"}, {};
    Endpoint: {"name": "a", "virtual_network": "a", "address": "192.0.2.1"}, {"tunnels": ["a"]};
    Service: {"name": "a", "address": "192.0.2.1", "listen": ["tcp/1"], "pools": ["a"]},
        {"allow": ["::/0"], "deny": ["::/0"], "region_pools": {"*": ["a"]}};
    RandomSteering: {}, {};
    RateLimit: {}, {};
    SessionAffinity: {}, {};
}

/// Reads objects and notes mistakes.
#[derive(Default)]
pub struct Decoder {
    mistakes: Vec<Mistake>,
}

impl Decoder {
    fn config(&mut self, value: Value) -> Option<Config> {
        let mut fields = self.fields(value, "")?;
        let node = self.child(&mut fields, "", "node", Self::node);
        let limits = self.child(&mut fields, "", "limits", Self::object);
        let timers = self.child(&mut fields, "", "timers", Self::object);
        let virtual_networks = self.list(&mut fields, "", "virtual_networks", Self::virtual_network);
        let monitors = self.list(&mut fields, "", "monitors", Self::object);
        let regions = self.list(&mut fields, "", "regions", Self::region);
        let pools = self.list(&mut fields, "", "pools", Self::pool);
        let services = self.list(&mut fields, "", "services", Self::service);
        let config: Config = self.object(Value::Object(fields), "")?;
        Some(Config { node, limits, timers, virtual_networks, monitors, regions, pools, services, ..config })
    }

    fn node(&mut self, value: Value, path: &str) -> Option<Node> {
        let mut fields = self.fields(value, path)?;
        let interfaces = self.list(&mut fields, path, "interfaces", Self::object);
        let tunnel_source = self.child(&mut fields, path, "tunnel_source", Self::object);
        let location = self.optional(&mut fields, path, "location");
        let flow_samples = self.child(&mut fields, path, "flow_samples", Self::object);
        let node: Node = self.object(Value::Object(fields), path)?;
        Some(Node { interfaces, tunnel_source, location, flow_samples, ..node })
    }

    fn region(&mut self, value: Value, path: &str) -> Option<Region> {
        let mut fields = self.fields(value, path)?;
        let location = self.optional(&mut fields, path, "location");
        let region: Region = self.object(Value::Object(fields), path)?;
        Some(Region { location, ..region })
    }

    pub(super) fn virtual_network(&mut self, value: Value, path: &str) -> Option<VirtualNetwork> {
        let mut fields = self.fields(value, path)?;
        let probe_source = self.child(&mut fields, path, "probe_source", Self::object);
        let tunnels = self.list(&mut fields, path, "tunnels", Self::object);
        let network: VirtualNetwork = self.object(Value::Object(fields), path)?;
        Some(VirtualNetwork { probe_source, tunnels, ..network })
    }

    pub(super) fn pool(&mut self, value: Value, path: &str) -> Option<Pool> {
        let mut fields = self.fields(value, path)?;
        let monitor_group = self.list(&mut fields, path, "monitor_group", Self::object);
        let endpoints = self.list(&mut fields, path, "endpoints", Self::object);
        let location = self.optional(&mut fields, path, "location");
        let pool: Pool = self.object(Value::Object(fields), path)?;
        Some(Pool { monitor_group, endpoints, location, ..pool })
    }

    pub(super) fn service(&mut self, value: Value, path: &str) -> Option<Service> {
        let mut fields = self.fields(value, path)?;
        let rate_limit = self.child(&mut fields, path, "rate_limit", Self::object);
        let random_steering = self.optional(&mut fields, path, "random_steering");
        let session_affinity = self.optional(&mut fields, path, "session_affinity");
        let service: Service = self.object(Value::Object(fields), path)?;
        Some(Service { rate_limit, random_steering, session_affinity, ..service })
    }

    /// Takes the list `name` out of `fields` and decodes its items; an absent list is empty.
    fn list<T>(
        &mut self,
        fields: &mut Map<String, Value>,
        path: &str,
        name: &str,
        mut item: impl FnMut(&mut Self, Value, &str) -> Option<T>,
    ) -> Vec<T> {
        let path = join(path, name);
        match fields.shift_remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => {
                let items = values.into_iter().enumerate();
                items.filter_map(|(index, value)| item(self, value, &format!("{path}[{index}]"))).collect()
            }
            Some(other) => {
                self.note(path, explain::not_a("a list (`[]` where it is empty)", &other));
                Vec::new()
            }
        }
    }

    /// Takes the object `name` out of `fields` and decodes it; an absent one has its defaults.
    fn child<T: Default>(
        &mut self,
        fields: &mut Map<String, Value>,
        path: &str,
        name: &str,
        decode: impl FnOnce(&mut Self, Value, &str) -> Option<T>,
    ) -> T {
        let value = fields.shift_remove(name);
        value.and_then(|value| decode(self, value, &join(path, name))).unwrap_or_default()
    }

    /// Takes the object `name` out of `fields` and decodes it, where it is there.
    fn optional<T: Shape>(&mut self, fields: &mut Map<String, Value>, path: &str, name: &str) -> Option<T> {
        let value = fields.shift_remove(name).filter(|value| !value.is_null())?;
        self.object(value, &join(path, name))
    }

    fn fields(&mut self, value: Value, path: &str) -> Option<Map<String, Value>> {
        if let Value::Object(fields) = value {
            return Some(fields);
        }
        let wanted = if path.is_empty() {
            "a configuration that begins with `version: 1`"
        } else {
            "an object with fields"
        };
        self.note(path.to_owned(), explain::not_a(wanted, &value));
        None
    }

    /// Decodes an object without lists of objects, noting every mistake in it.
    pub(super) fn object<T: Shape>(&mut self, value: Value, path: &str) -> Option<T> {
        let mut value = Value::Object(self.fields(value, path)?);
        let samples = [T::required(), T::lists()];
        for _ in 0..MAX_REPAIRS {
            let error = match serde_path_to_error::deserialize::<_, T>(&value) {
                Ok(object) => return Some(object),
                Err(error) => error,
            };
            let mut inner: Vec<Segment> = error.path().iter().cloned().collect();
            let raw = error.inner().to_string();
            if let Some(name) = raw.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
                inner.push(Segment::Map { key: name.to_owned() });
                self.note(write(path, &inner), format!("`{name}` is missing"));
            } else {
                let message = match (inner.first(), get(&value, &inner)) {
                    (Some(Segment::Map { key }), Some(Value::Number(port))) if key == "listen" => {
                        format!(
                            "found the number {port}, expected a listener, as `tcp/{port}` or `udp/{port}`"
                        )
                    }
                    (_, found) => explain::explain(&raw, found),
                };
                self.note(write(path, &inner), message);
            }
            if !repair(&mut value, &inner, &samples) {
                return None;
            }
        }
        None
    }

    fn note(&mut self, path: String, message: String) {
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(Mistake::new(path, message));
        }
    }
}

/// `path` continued by `inner`.
fn write(path: &str, inner: &[Segment]) -> String {
    inner.iter().fold(path.to_owned(), |path, segment| match segment {
        Segment::Seq { index } => format!("{path}[{index}]"),
        Segment::Map { key } => join(&path, &explain::shorten(key)),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}

fn get<'a>(value: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

/// Puts what stands in a sample at `path`, or removes what is there when no sample has anything. Says
/// whether that changed anything; else decoding again is of no use.
fn repair(value: &mut Value, path: &[Segment], samples: &[Value]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let Some(parent) = parents.iter().try_fold(&mut *value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(index),
        Segment::Map { key } => value.get_mut(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    }) else {
        return false;
    };
    // In a sample each list has one item, which stands for all, as `*` does for all names of a map.
    let replacement = samples.iter().find_map(|sample| {
        path.iter().try_fold(sample, |sample, segment| match segment {
            Segment::Seq { .. } => sample.get(0),
            Segment::Map { key } => sample.get(key).or_else(|| sample.get("*")),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
    });
    match (last, parent, replacement) {
        (Segment::Map { key }, Value::Object(fields), Some(replacement)) => {
            fields.insert(key.clone(), replacement.clone()).as_ref() != Some(replacement)
        }
        (Segment::Map { key }, Value::Object(fields), None) => fields.shift_remove(key).is_some(),
        (Segment::Seq { index }, Value::Array(items), Some(replacement)) => {
            items.get_mut(*index).is_some_and(|item| {
                let changed = item != replacement;
                *item = replacement.clone();
                changed
            })
        }
        _ => false,
    }
}
