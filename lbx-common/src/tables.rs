//! Every question that the pipeline asks of state outside of the packet.
//!
//! In the kernel the answers come from maps and helpers, in tests and tools from a model. The provided
//! methods turn the raw look-ups into the questions; they are the same everywhere.

use crate::{
    abi::{
        Bucket, EndpointEntry, KeyWords, ListenerKey, ListenerValue, NodeEntry, PeerKey, PeerValue, ReplyKey,
        ReplyValue, SLOTS_PER_LINE, SlotLine, Target, TunnelEntry, VnetEntry, Words, bucket_pair, find,
    },
    bytes::Be32,
    reason::DropReason,
};

/// Which way counted bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To an endpoint; says whether the packet is a TCP SYN without ACK.
    In {
        /// A connection attempt.
        syn: bool,
    },
    /// To a client.
    Out,
}

/// The kernel's answer to "how does this packet get to its client?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Out of this interface, with these MACs.
    Direct {
        /// Egress interface.
        ifindex: u32,
        /// Source MAC.
        source: [u8; 6],
        /// Destination MAC.
        destination: [u8; 6],
    },
    /// The kernel must do it: the neighbour is not known yet, or the packet must be fragmented.
    ByHost,
    /// There is none.
    Unreachable,
}

/// What [`Tables::route`] needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery {
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
    /// Protocol number.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of the IP packet in bytes.
    pub length: u16,
}

/// State outside of the packet.
pub trait Tables {
    /// The node's entry.
    fn node(&self) -> Option<&NodeEntry>;
    /// A bucket of `LISTENERS_V4`.
    fn listener_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of `REPLIES_V4`.
    fn reply_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of `PEERS_V4`.
    fn peer_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A line of slots.
    fn slot_line(&self, index: u32) -> Option<&SlotLine>;
    /// An endpoint.
    fn endpoint(&self, id: u32) -> Option<&EndpointEntry>;
    /// A tunnel.
    fn tunnel(&self, id: u32) -> Option<&TunnelEntry>;
    /// A virtual network.
    fn vnet(&self, id: u32) -> Option<&VnetEntry>;
    /// The way to a client.
    fn route(&self, query: &RouteQuery) -> Route;
    /// Counts a packet of a listener.
    fn count_listener(&self, id: u32, direction: Direction, bytes: u64);
    /// Counts a packet of an endpoint.
    fn count_endpoint(&self, id: u32, direction: Direction, bytes: u64);
    /// Counts a dropped packet.
    fn count_drop(&self, vnet: u32, reason: DropReason);

    /// The listener of a key.
    #[inline(always)]
    fn listener(&self, key: ListenerKey) -> Option<ListenerValue> {
        let node = self.node()?;
        look_up(node, key.words(), node.listener_mask, |i| self.listener_bucket(i))
            .map(ListenerValue::from_words)
    }

    /// What a packet out of a virtual network is the reply of.
    #[inline(always)]
    fn reply(&self, key: ReplyKey) -> Option<ReplyValue> {
        let node = self.node()?;
        look_up(node, key.words(), node.reply_mask, |i| self.reply_bucket(i)).map(ReplyValue::from_words)
    }

    /// The tunnel peer or probe source of a key.
    #[inline(always)]
    fn peer(&self, key: PeerKey) -> Option<PeerValue> {
        let node = self.node()?;
        look_up(node, key.words(), node.peer_mask, |i| self.peer_bucket(i)).map(PeerValue::from_words)
    }

    /// The endpoint id in slot `slot` of a table; the caller keeps `slot` below `target.slots()`.
    #[inline(always)]
    fn slot(&self, target: Target, slot: u32) -> Option<u16> {
        let line = self.slot_line(target.line().wrapping_add(slot / SLOTS_PER_LINE))?;
        line.0.get((slot % SLOTS_PER_LINE) as usize).copied()
    }
}

/// Looks a key up. While the agent moves an entry from one bucket to the other, a reader that looks at the
/// one before and at the other after the move finds nothing; so it looks again.
#[inline(always)]
fn look_up<'a>(
    node: &NodeEntry,
    key: KeyWords,
    mask: u32,
    bucket: impl Fn(u32) -> Option<&'a Bucket>,
) -> Option<[u64; 2]> {
    let before = moves(node);
    let (first, second) = bucket_pair(key, mask);
    let found = find(bucket(first)?, key).or_else(|| find(bucket(second)?, key));
    if let Some(value) = found {
        return Some(*value);
    }
    if before & 1 == 0 && moves(node) == before {
        return None;
    }
    find(bucket(first)?, key).or_else(|| find(bucket(second)?, key)).copied()
}

#[inline(always)]
fn moves(node: &NodeEntry) -> u32 {
    // SAFETY: a reference is readable; volatile because the agent changes the word meanwhile.
    unsafe { core::ptr::read_volatile(&raw const node.moves) }
}
