//! Every question that the pipeline asks of state outside of the packet.
//!
//! In the kernel the answers come from maps and helpers, in tests and tools from a model. The provided
//! methods turn the raw look-ups into the questions; they are the same everywhere.

use crate::{
    abi::{
        Affinity, AffinityKey, Bucket, EndpointEntry, FlowKey, FragmentKey, FragmentValue, HalfOpen, Host,
        KeyWords, ListenerKey, ListenerValue, NodeEntry, PeerKey, PeerValue, PinBucket, PinRecord,
        PolicyEntry, PortBlock, ReplyKey, ReplyValue, SLOTS_PER_LINE, SampleRecord, SlotLine, Target,
        TrackingEntry, TunnelEntry, VipValue, VnetEntry, Words, bucket_pair, find,
    },
    bytes::{Address, Be16, Be32},
    ip::IpAddress,
    pins::Flow,
    region::Place,
    track::Event,
    transport::Ports,
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

/// By whom and by which way a counted packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Listener id.
    pub listener: u32,
    /// Endpoint id.
    pub endpoint: u32,
    /// Tunnel id.
    pub tunnel: u32,
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
    /// The kernel must do it: the neighbour is not known yet.
    ByHost,
    /// The packet is larger than the route's MTU, in bytes.
    TooBig {
        /// What fits.
        mtu: u16,
    },
    /// There is none.
    Unreachable,
}

/// What [`Tables::route`] needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery<A> {
    /// Source address: a VIP.
    pub source: Host,
    /// Destination address.
    pub destination: A,
    /// Protocol number.
    pub protocol: u8,
    /// Type of service, without the bits of ECN, which routes do not depend on.
    pub tos: u8,
    /// Length of the IP packet in bytes.
    pub length: u16,
}

/// What one stage tells the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Carry {
    /// Bits of the interface's role.
    pub roles: u8,
    /// ECN of the outer packet.
    pub ecn: u8,
    /// Offset of the IP header that comes next.
    pub at: u16,
    /// Offset of the end of the outer packet.
    pub end: u32,
    /// Vnet id.
    pub vnet: u32,
    /// Tunnel id.
    pub tunnel: u32,
    /// Second word of an ICMP error that is to be made.
    pub rest: Be32,
    /// Its type and code.
    pub kind: [u8; 2],
    /// Its time to live.
    pub ttl: u8,
    /// Of a refused packet: number of the drop reason.
    pub reason: u8,
    /// Of a client's packet: the endpoint that was found for it. Of a reply: not 0 = what it proves is known.
    pub endpoint: u32,
    /// 0.
    pub spare: u32,
}

/// State outside of the packet.
pub trait Tables {
    /// The node's entry.
    fn node(&self) -> Option<&NodeEntry>;
    /// A bucket of `LISTENERS`.
    fn listener_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of `REPLIES`.
    fn reply_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of `PEERS`.
    fn peer_bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of `ADDRESS_IDS`.
    fn address_bucket(&self, index: u32) -> Option<&Bucket>;
    /// An IPv6 address by its id.
    fn address(&self, id: u32) -> Option<&Address>;
    /// A line of slots.
    fn slot_line(&self, index: u32) -> Option<&SlotLine>;
    /// An endpoint.
    fn endpoint(&self, id: u32) -> Option<&EndpointEntry>;
    /// A tunnel.
    fn tunnel(&self, id: u32) -> Option<&TunnelEntry>;
    /// What is under way at a listener.
    fn tracking(&self, listener: u32) -> Option<&TrackingEntry>;
    /// A packet's flow with its hash and the time, kept where the stack is not.
    fn look_into(&self, flow: &Flow) -> Option<&Flow>;
    /// What was kept last.
    fn looked_into(&self) -> Option<&Flow>;
    /// Says of the flow that was kept last what its listener is to it.
    fn place_flow(&self, place: Place);
    /// A half-open flow.
    fn half_open(&self, flow: &FlowKey) -> Option<HalfOpen>;
    /// Remembers a flow as half-open.
    fn set_half_open(&self, flow: &FlowKey, half: HalfOpen);
    /// Where the last flow of a source began.
    fn affinity(&self, source: &AffinityKey) -> Option<Affinity>;
    /// Remembers where one began.
    fn set_affinity(&self, source: &AffinityKey, affinity: Affinity);
    /// A bucket of pins of UDP or of TCP.
    fn pin_bucket(&self, udp: bool, index: u32) -> Option<&PinBucket>;
    /// Says whose the pin in a place is.
    fn set_pin_record(&self, udp: bool, place: u32, record: PinRecord);
    /// Whether another flow may be pinned that nothing but its client's packets speaks for.
    fn may_pin(&self) -> bool;
    /// Counts what happens to flows that are remembered.
    fn count_flow(&self, event: Event);
    /// Keeps what the next stage needs to know.
    fn keep(&self, carry: Carry);
    /// What the stage before kept.
    fn kept(&self) -> Carry;
    /// The same number, of which the verifier knows nothing any more. Where many ways to it meet, it then goes
    /// on once and not once for each of them.
    fn forget(&self, number: u32) -> u32;
    /// Whether another packet of lbx's own may be sent now: there are so many a second, or lbx would send as many
    /// as somebody with false addresses wants.
    fn may_answer(&self) -> bool;
    /// Keeps what the first fragment of a packet found out, for a few seconds.
    fn remember(&self, key: &FragmentKey, first: FragmentValue);
    /// What the first fragment of a packet found out.
    fn recall(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// A virtual network.
    fn vnet(&self, id: u32) -> Option<&VnetEntry>;
    /// What a listener asks of packets.
    fn policy(&self, listener: u32) -> Option<&PolicyEntry>;
    /// The verdict of the longest prefix in a list that an address is in, which is given as its words.
    fn verdict<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32>;
    /// The region of the longest prefix in a list that an address is in, likewise.
    fn region<A: IpAddress>(&self, list: u32, address: [u64; 2]) -> Option<u32>;
    /// A bucket of flows that may begin.
    fn limit(&self, index: u32) -> Option<u64>;
    /// Sets one.
    fn set_limit(&self, index: u32, bucket: u64);
    /// A clock that never goes back, in nanoseconds; the same for all CPUs.
    fn now_ns(&self) -> u64;
    /// The way to a client.
    fn route<A: IpAddress>(&self, query: &RouteQuery<A>) -> Route;
    /// Whether a health check waits for UDP of this source, destination and ports.
    fn is_asked<A: IpAddress>(&self, source: A, destination: A, ports: Ports) -> bool;
    /// Counts a packet that goes on.
    fn count(&self, of: Counted, direction: Direction, bytes: u64);
    /// Whether the agent is told of a packet that begins a flow: by chance.
    fn samples(&self) -> bool;
    /// Tells it. What `fill` is given may hold anything.
    fn tell_sample(&self, fill: impl FnOnce(&mut SampleRecord));
    /// Counts a dropped packet, by the number of its reason.
    fn count_drop(&self, vnet: u32, reason: u8);

    /// The id of an IPv6 address, where some table has it.
    #[inline(always)]
    fn address_id(&self, address: &Address) -> Option<u32> {
        // An unset key begins with 0, and so does no address that can be configured (RFC 4291 §2.4: ::/8).
        let [first, _] = address.words();
        if first == 0 {
            return None;
        }
        let node = self.node()?;
        let value = look_up(node, address.words(), node.address_mask, |i| self.address_bucket(i))?;
        #[expect(clippy::cast_possible_truncation, reason = "ids have 32 bits")]
        let id = value[0] as u32;
        Some(id)
    }

    /// The value of a key of `LISTENERS`.
    #[inline(always)]
    fn listener(&self, key: ListenerKey) -> Option<[u64; 2]> {
        let node = self.node()?;
        look_up(node, key.words(), node.listener_mask, |i| self.listener_bucket(i))
    }

    /// The listener of a port: of that port alone, else of the smallest block that has it.
    #[inline(always)]
    fn listener_on(&self, vip: Host, protocol: u8, port: Be16) -> Option<ListenerValue> {
        let key = |ports| ListenerKey::Ports { vip, protocol, ports };
        if let Some(value) = self.listener(key(PortBlock::one(port))) {
            return Some(ListenerValue::from_words(value));
        }
        let vip = VipValue::from_words(self.listener(ListenerKey::Vip(vip))?);
        let lengths = vip.lengths(protocol);
        longest_block(lengths, |length| self.listener(key(PortBlock::around(port, length))))
            .map(ListenerValue::from_words)
    }

    /// What a packet out of a virtual network is the reply of.
    #[inline(always)]
    fn reply(&self, vnet: u32, address: Host, protocol: u8, port: Be16) -> Option<ReplyValue> {
        let node = self.node()?;
        let value = |key: ReplyKey| look_up(node, key.words(), node.reply_mask, |i| self.reply_bucket(i));
        let key = |ports| ReplyKey::Ports { vnet, address, protocol, ports };
        if let Some(value) = value(key(PortBlock::one(port))) {
            return Some(ReplyValue::from_words(value));
        }
        let origin = VipValue::from_words(value(ReplyKey::Origin { vnet, address })?);
        longest_block(origin.lengths(protocol), |length| value(key(PortBlock::around(port, length))))
            .map(ReplyValue::from_words)
    }

    /// The tunnel peer, probe source or VLAN device of a key.
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

/// Asks for blocks of each length that has a bit in `lengths`, the longest first.
#[inline(always)]
fn longest_block(lengths: u16, value: impl Fn(u8) -> Option<[u64; 2]>) -> Option<[u64; 2]> {
    let mut length = PortBlock::WHOLE;
    for _ in 0..PortBlock::WHOLE {
        length = length.wrapping_sub(1);
        if lengths >> length & 1 != 0
            && let Some(found) = value(length)
        {
            return Some(found);
        }
    }
    None
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
