//! Kinds and names of objects, as a user types them.

use clap::ValueEnum;
use lbx_common::api::Collection;

use crate::error::CliError;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Virtual networks
    #[value(aliases = ["vnets", "virtual-network", "virtual-networks", "virtual_network", "virtual_networks"])]
    Vnet,
    /// Tunnels of a virtual network
    #[value(alias = "tunnels")]
    Tunnel,
    /// Health check definitions
    #[value(alias = "monitors")]
    Monitor,
    /// Pools of endpoints
    #[value(alias = "pools")]
    Pool,
    /// Endpoints of a pool
    #[value(alias = "endpoints")]
    Endpoint,
    /// Services
    #[value(alias = "services")]
    Service,
}

impl Kind {
    /// The API's collection of these objects.
    pub const fn collection(self) -> Collection {
        match self {
            Self::Vnet => Collection::VirtualNetworks,
            Self::Tunnel => Collection::Tunnels,
            Self::Monitor => Collection::Monitors,
            Self::Pool => Collection::Pools,
            Self::Endpoint => Collection::Endpoints,
            Self::Service => Collection::Services,
        }
    }
}

/// Name of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// What it is.
    pub collection: Collection,
    /// Name of the pool or virtual network that contains it.
    pub parent: Option<String>,
    /// Its own name.
    pub name: String,
}

impl ObjectName {
    /// Reads `NAME`, or `PARENT/NAME` where the collection lives in another one.
    pub fn parse(collection: Collection, text: &str) -> Result<Self, CliError> {
        let object = match (collection.parent(), text.split_once('/')) {
            (None, None) => Self { collection, parent: None, name: text.to_owned() },
            (Some(_), Some((parent, name))) => {
                Self { collection, parent: Some(parent.to_owned()), name: name.to_owned() }
            }
            (Some(_), None) | (None, Some(_)) => return Err(Self::wrong(collection, text)),
        };
        let parts = [Some(&object.name), object.parent.as_ref()];
        // `.` and `..` would not survive in a URL.
        if parts
            .into_iter()
            .flatten()
            .any(|part| matches!(part.as_str(), "" | "." | "..") || part.contains('/'))
        {
            return Err(Self::wrong(collection, text));
        }
        Ok(object)
    }

    fn wrong(collection: Collection, text: &str) -> CliError {
        let form = match collection {
            Collection::Tunnels => "VNET/NAME, as east/a",
            Collection::Endpoints => "POOL/NAME, as web/a",
            Collection::VirtualNetworks | Collection::Monitors | Collection::Pools | Collection::Services => {
                "a name without `/`"
            }
        };
        CliError::Usage(format!("`{text}` names no {}: write {form}", collection.singular()))
    }

    /// Segments of the path of the object's collection.
    pub fn collection_path(&self) -> Vec<&str> {
        match (self.collection.parent(), &self.parent) {
            (Some(outer), Some(parent)) => vec![outer.as_str(), parent, self.collection.as_str()],
            (Some(_), None) | (None, _) => vec![self.collection.as_str()],
        }
    }

    /// Segments of the path of the object.
    pub fn path(&self) -> Vec<&str> {
        let mut path = self.collection_path();
        path.push(&self.name);
        path
    }

    /// The name as the user writes it.
    pub fn full(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{parent}/{}", self.name),
            None => self.name.clone(),
        }
    }
}
