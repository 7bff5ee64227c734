//! Where the frames of a device really leave: XDP sends by a port, and cannot send by a VLAN device, which
//! has none of its own.
//!
//! Pure: it reads a netlink message.

use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, VlanProtocol,
};

/// A device that takes frames, and the tag that they must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) ifindex: u32,
    pub(crate) vlan: Option<u16>,
}

/// How frames leave a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// As they are.
    Untagged,
    /// By another device, with a tag (IEEE 802.1Q).
    Tagged { parent: u32, vlan: u16 },
    /// In a way that only the kernel knows: a tag of a provider (802.1ad), or a parent in another namespace.
    ByKernel,
}

/// How frames leave this device.
pub(crate) fn leaves(link: &LinkMessage) -> Leaves {
    let (mut is_vlan, mut parent_elsewhere, mut parent) = (false, false, None);
    let (mut vlan, mut protocol) = (None, None);
    for attribute in &link.attributes {
        if let LinkAttribute::Link(index) = attribute {
            parent = Some(*index);
        } else if let LinkAttribute::LinkNetNsId(_) = attribute {
            parent_elsewhere = true;
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            is_vlan = infos.contains(&LinkInfo::Kind(InfoKind::Vlan));
            for data in infos.iter().filter_map(vlan_data).flatten() {
                if let InfoVlan::Id(id) = data {
                    vlan = Some(*id);
                } else if let InfoVlan::Protocol(number) = data {
                    protocol = Some(*number);
                }
            }
        }
    }
    match (parent, vlan, protocol) {
        _ if !is_vlan => Leaves::Untagged,
        (Some(parent), Some(vlan), Some(VlanProtocol::Ieee8021Q)) if !parent_elsewhere => {
            Leaves::Tagged { parent, vlan }
        }
        _ => Leaves::ByKernel,
    }
}

fn vlan_data(info: &LinkInfo) -> Option<&Vec<InfoVlan>> {
    if let LinkInfo::Data(InfoData::Vlan(data)) = info { Some(data) } else { None }
}

#[cfg(test)]
mod tests {
    use rtnetlink::{packet_core::Parseable, packet_route::link::LinkMessage};

    use super::{Leaves, leaves};

    /// Header of a link message: family, padding, type Ethernet, index 9, flags up, change mask.
    const HEADER: [u8; 16] = [0, 0, 1, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    /// `IFLA_LINK` (5): 4.
    const LINK: [u8; 8] = [8, 0, 5, 0, 4, 0, 0, 0];
    /// `IFLA_LINK_NETNSID` (37): 1.
    const ELSEWHERE: [u8; 8] = [8, 0, 37, 0, 1, 0, 0, 0];

    /// `IFLA_LINKINFO` (18) of kind "vlan": the protocol, in network order, and VLAN id 101.
    fn vlan(protocol: [u8; 2]) -> Vec<u8> {
        let kind = [9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0];
        let data = [20, 0, 2, 0, 6, 0, 5, 0, protocol[0], protocol[1], 0, 0, 6, 0, 1, 0, 101, 0, 0, 0];
        [&[36, 0, 18, 0][..], &kind, &data].concat()
    }

    fn of(attributes: &[&[u8]]) -> Leaves {
        let bytes = [&HEADER, attributes.concat().as_slice()].concat();
        leaves(&LinkMessage::parse(&bytes).unwrap())
    }

    // By hand, because kernels without VLAN devices make no such messages.
    #[test]
    fn a_vlan_device_leaves_by_its_parent_with_its_tag() {
        assert_eq!(of(&[&LINK, &vlan([0x81, 0x00])]), Leaves::Tagged { parent: 4, vlan: 101 });
    }

    #[test]
    fn any_other_device_leaves_by_itself_also_when_it_has_a_link() {
        assert_eq!(of(&[]), Leaves::Untagged);
        let veth = [16, 0, 18, 0, 9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0];
        assert_eq!(of(&[&LINK, &veth]), Leaves::Untagged);
    }

    #[test]
    fn a_provider_tag_or_a_parent_out_of_sight_is_left_to_the_kernel() {
        assert_eq!(of(&[&LINK, &vlan([0x88, 0xa8])]), Leaves::ByKernel);
        assert_eq!(of(&[&LINK, &vlan([0x81, 0x00]), &ELSEWHERE]), Leaves::ByKernel);
        assert_eq!(of(&[&vlan([0x81, 0x00])]), Leaves::ByKernel);
    }
}
