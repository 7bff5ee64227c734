//! Objects that the configuration lists at its top: each can be read and changed without the others.

use lbx_common::api::{Config, Monitor, Pool, Service, VirtualNetwork};
use serde::Serialize;
use serde_json::Value;

use super::decode::Decoder;

/// Such an object.
pub trait Object: Serialize + Sized {
    /// Its name.
    fn name(&self) -> &str;

    /// All of its kind.
    fn list(config: &Config) -> &[Self];

    /// The same, to be changed.
    fn list_mut(config: &mut Config) -> &mut Vec<Self>;

    /// Reads one that is to be at `path`.
    fn decode(decoder: &mut Decoder, value: Value, path: &str) -> Option<Self>;
}

macro_rules! objects {
    ($($type:ty, $list:ident, $decode:ident;)*) => {
        $(impl Object for $type {
            fn name(&self) -> &str {
                &self.name
            }

            fn list(config: &Config) -> &[Self] {
                &config.$list
            }

            fn list_mut(config: &mut Config) -> &mut Vec<Self> {
                &mut config.$list
            }

            fn decode(decoder: &mut Decoder, value: Value, path: &str) -> Option<Self> {
                decoder.$decode(value, path)
            }
        })*
    };
}

objects! {
    VirtualNetwork, virtual_networks, virtual_network;
    Monitor, monitors, object;
    Pool, pools, pool;
    Service, services, service;
}
