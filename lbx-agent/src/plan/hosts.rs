//! Addresses as keys hold them: an IPv6 address gets an id, which it keeps as long as the kernel knows it.

use std::net::{IpAddr, Ipv6Addr};

use lbx_common::{
    abi::Host,
    bytes::{Address, Be32},
};

use super::{ids::Ids, planner::PlanError};
use crate::dataplane::{Image, MapId, Sizes};

/// Gives out hosts.
pub struct Hosts {
    ids: Ids<Address>,
}

impl Hosts {
    /// Goes on from the ids that are observed.
    pub fn new(observed: &Image, sizes: &Sizes) -> Self {
        let capacity = sizes.of(MapId::Addresses).saturating_sub(1);
        Self { ids: Ids::new(observed.addresses.iter().map(|(&address, &id)| (address, id)), capacity) }
    }

    /// The host of an address; the image then holds its id.
    pub fn of(&mut self, address: IpAddr, image: &mut Image) -> Result<Host, PlanError> {
        match address {
            IpAddr::V4(address) => Ok(Host::v4(Be32::from_octets(address.octets()))),
            IpAddr::V6(address) => {
                let address = Address(address.octets());
                let id = self.ids.of(&address).map_err(PlanError::no_room("IPv6 address", "endpoints"))?;
                image.addresses.insert(address, id);
                Ok(Host::v6(id))
            }
        }
    }
}

/// The host of an address as an image has it; `None` for an IPv6 address that is not in it.
pub fn known_host(address: IpAddr, image: &Image) -> Option<Host> {
    match address {
        IpAddr::V4(address) => Some(Host::v4(Be32::from_octets(address.octets()))),
        IpAddr::V6(address) => image.addresses.get(&Address(address.octets())).copied().map(Host::v6),
    }
}

/// The address that an entry holds.
pub fn address_in(address: &Address) -> IpAddr {
    Ipv6Addr::from(address.0).to_canonical()
}

/// The sixteen bytes of an address in an entry.
pub fn entry_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::from_v4(Be32::from_octets(address.octets())),
        IpAddr::V6(address) => Address(address.octets()),
    }
}
