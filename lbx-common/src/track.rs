//! Which endpoint a flow lives on, where hash and table alone do not say: its table is being changed, or the endpoint
//! in its slot takes no new flows, or did not a while ago.
//!
//! Three endpoints matter to a slot. The *base* owner is what the current table says. The *guess* is where a flow
//! lives of which nothing is remembered: the owner by the table before while a change of tables is open, else the
//! base owner. The *fresh* one gets new flows. A flow that begins where the three agree needs no memory. Any other
//! is an exception: it is remembered as half-open, and as soon as it has proved real, by a pin.
//!
//! What proves a TCP connection real is that the client acknowledges the endpoint's SYN-ACK: nobody outside knows its
//! number who does not see what lbx sends back. That the endpoint sends something is no proof: two SYNs with the
//! addresses of somebody else's connection make it send an ACK (RFC 9293 §3.10.7.4). UDP has nothing better than a
//! reply. In direct return lbx sees no replies; there the packet after the first one has to do, so many a second.

mod replies;

pub use self::replies::confirm;
use crate::{
    abi::{
        ENDPOINT_DOWN, ENDPOINT_TAKES_NEW, ENDPOINT_USABLE, EndpointEntry, HALF_OPEN_ANSWERED, HalfOpen,
        Host, LISTENER_DSR, LISTENER_KEEPS, LISTENER_UNTRACKED, NODE_REGIONS_CLOSING, Pin, TRACKING_AFFINITY,
        TRACKING_ALWAYS, TRACKING_FULL, TRACKING_OPEN, TRACKING_REHASHED, Target, TrackingEntry,
    },
    affinity,
    bytes::Be16,
    hash::{flow_hash, scale},
    ip::{IpAddress, TCP, UDP},
    pins::{self, Flow, NOWHERE},
    select::{NOBODY, owner_of_new, table_hash},
    tables::Tables,
    transport::Ports,
};

/// What is counted about flows that are remembered. The numbers index the map `FLOWS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Event {
    /// A packet that may be an exception.
    Tracked = 0,
    /// A flow was remembered as half-open.
    HalfOpen = 1,
    /// A flow was pinned.
    Pinned = 2,
    /// One was not: there is no room, or its service has its share.
    NoRoom = 3,
    /// One was not: too many proved themselves by a client's packet.
    Limited = 4,
}

impl Event {
    /// All events, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Tracked, Self::HalfOpen, Self::Pinned, Self::NoRoom, Self::Limited];

    /// Stable name in CLI, API and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tracked => "tracked_packets",
            Self::HalfOpen => "half_open",
            Self::Pinned => "pinned",
            Self::NoRoom => "no_room",
            Self::Limited => "limited",
        }
    }
}

/// Packets of a client before its endpoint's first one that proves anything: a window without scaling.
const FIRST_WINDOW: u32 = 1 << 16;
/// A half-open flow of UDP is written again when it is this old.
const REFRESH_NS: u64 = 1_000_000_000;

/// Id of the endpoint for a client's packet that [`crate::select::steady`] has none for; [`NOBODY`] = none takes it.
/// From one that an ICMP error is about nothing is learned.
#[inline(always)]
pub fn owner<A: IpAddress, T: Tables>(tables: &T, flow: &Flow) -> u32 {
    let quoted = flow.quoted != 0;
    let listener = &flow.listener;
    let (Some(node), Some(tracking)) = (tables.node(), tables.tracking(flow.tracking)) else { return NOBODY };
    tables.count_flow(Event::Tracked);
    let target = listener.target;
    let slot = scale(table_hash(target, client::<A>(flow), flow.more, &node.seed), target.slots());
    if listener.flags & LISTENER_UNTRACKED != 0 {
        return owner_of_new(tables, target, slot);
    }
    let mut place = pins::find(tables, flow.udp(), flow.hash);
    let pinned = pins::at(tables, flow.udp(), place);
    let mut on_pin = is_possible::<A, T>(tables, flow, u32::from(pinned.endpoint()));
    let begins = !quoted && flow.flags().is_syn();
    // A new connection with the ports of one that is over, or UDP that leaves its endpoint for good.
    let over = if flow.udp() { !quoted && !on_pin } else { begins && on_pin && pinned.has(Pin::ENDED) };
    if over && place != NOWHERE {
        pins::put(tables, flow.udp(), place, Pin::default());
        on_pin = false;
        place = NOWHERE;
    }
    if begins && on_pin {
        if takes_new(tables, u32::from(pinned.endpoint())) {
            return u32::from(pinned.endpoint());
        }
        pins::put(tables, flow.udp(), place, pinned.with(Pin::CONTESTED));
    }
    if !begins {
        if !on_pin || !quoted && pinned.has(Pin::CONTESTED) {
            let half = tables.forget(half_open(tables, flow, node.udp_idle_ns));
            let mut endpoint = half & (PROVES - 1);
            if !is_possible::<A, T>(tables, flow, endpoint) {
                endpoint = NOBODY;
            } else if half & PROVES != 0 {
                let by_client = listener.flags & LISTENER_DSR != 0;
                prove(tables, flow, tracking, endpoint, !by_client || tables.may_pin());
            } else if half & REFRESHES != 0 {
                begin(tables, flow, endpoint);
            }
            if endpoint != NOBODY {
                return endpoint;
            }
        }
        if on_pin {
            if !quoted {
                pins::put(tables, flow.udp(), place, after_client(pinned, flow));
            }
            return u32::from(pinned.endpoint());
        }
    }
    let base = owner_in(tables, target, slot);
    let guess = guess::<A, T>(tables, flow, flow.more, tracking, base);
    let guess_usable = is_usable(tables, flow, guess);
    if !flow.udp() && !begins && guess_usable {
        let by_client = listener.flags & LISTENER_DSR != 0 && !quoted && !flow.flags().ends();
        if by_client && guess != base && place == NOWHERE {
            prove(tables, flow, tracking, guess, tables.may_pin());
        }
        return guess;
    }
    let mut fresh = owner_of_new(tables, target, slot);
    if tracking.flags & TRACKING_AFFINITY != 0 {
        fresh = tables.forget(affinity::owner::<A, T>(tables, flow, tracking, fresh));
    }
    // UDP does not say whether a flow begins. While those from before the change may still be there, all that are
    // not known count as such.
    let before = flow.udp() && guess_usable && is_recent(tables, flow, tracking, guess);
    let chosen = if before { guess } else { fresh };
    let always = tracking.flags & TRACKING_ALWAYS != 0;
    // Also where a pin of an older connection with the same ports stands in the way, maybe only when its endpoint is
    // usable again.
    let exception = chosen != guess || chosen != base || chosen != fresh || always || place != NOWHERE;
    if (begins || flow.udp() && !quoted) && exception && chosen != NOBODY {
        begin(tables, flow, chosen);
    }
    chosen
}

/// Where a flow lives of which nothing is remembered; `hash` is its hash.
#[inline(never)]
fn guess<'a, A: IpAddress, T: Tables>(
    tables: &'a T,
    flow: &Flow,
    hash: u32,
    mut tracking: &'a TrackingEntry,
    mut base: u32,
) -> u32 {
    // Of a client that is in another region now, where one lives that is in its region from before.
    if flow.tracking_before != 0
        && let Some(node) = tables.node()
        && node.flags & NODE_REGIONS_CLOSING == 0
        && let Some(before) = tables.tracking(flow.tracking_before)
        && before.current.slots() != 0
    {
        let hash = table_hash(before.current, client::<A>(flow), hash, &node.seed);
        base = owner_in(tables, before.current, scale(hash, before.current.slots()));
        tracking = before;
    }
    let previous = tracking.previous;
    if tracking.flags & TRACKING_OPEN == 0 || previous.slots() == 0 {
        return base;
    }
    let seed = &tracking.previous_seed;
    let client = client::<A>(flow);
    let flow_hash = if tracking.flags & TRACKING_REHASHED == 0 {
        hash
    } else {
        let host = Host { v6: A::V6, raw: flow.key.vip };
        let Some(vip) = A::from_host(host, tables) else { return base };
        let [source, destination] = flow.key.ports.map(Be16);
        let protocol = if flow.udp() { UDP } else { TCP };
        flow_hash(client, vip, Ports { source, destination }, protocol, seed)
    };
    let hash = table_hash(previous, client, flow_hash, seed);
    owner_in(tables, previous, scale(hash, previous.slots()))
}

/// The client of a flow.
#[inline(always)]
pub(crate) fn client<A: IpAddress>(flow: &Flow) -> A {
    A::of_words(flow.key.client)
}

/// Beside an endpoint's id: the packet proves that its flow is real.
const PROVES: u32 = 1 << 16;
/// Beside an endpoint's id: its half-open flow is to be written again.
const REFRESHES: u32 = 1 << 17;

/// The endpoint of a half-open flow whose packet this is, with what that means; 0 = there is none.
#[inline(never)]
fn half_open<T: Tables>(tables: &T, flow: &Flow, udp_idle_ns: u64) -> u32 {
    let quoted = flow.quoted != 0;
    let Some(half) = tables.half_open(&flow.key) else { return 0 };
    let endpoint = u32::from(half.endpoint);
    if half.listener != flow.listener.id || !(quoted || matches(&half, flow, udp_idle_ns)) {
        return 0;
    }
    endpoint | if quoted { 0 } else { meaning(&half, flow) }
}

/// What a client's packet of a half-open flow means: of TCP, it acknowledges the endpoint's SYN-ACK.
#[inline(always)]
fn meaning(half: &HalfOpen, flow: &Flow) -> u32 {
    let by_client = flow.listener.flags & LISTENER_DSR != 0;
    if by_client || !flow.udp() {
        if flow.flags().ends() { 0 } else { PROVES }
    } else if flow.now_ns.saturating_sub(half.time) > REFRESH_NS {
        REFRESHES
    } else {
        0
    }
}

#[inline(always)]
fn owner_in<T: Tables>(tables: &T, target: Target, slot: u32) -> u32 {
    if target.slots() == 0 {
        return NOBODY;
    }
    tables.slot(target, slot).map_or(NOBODY, u32::from)
}

/// Whether flows of UDP may be alive that began before the last change in a slot.
#[inline(always)]
fn is_recent<T: Tables>(tables: &T, flow: &Flow, tracking: &TrackingEntry, guess: u32) -> bool {
    let Some(node) = tables.node() else { return false };
    let within = |since_ns: u64| since_ns != 0 && flow.now_ns.saturating_sub(since_ns) < node.udp_idle_ns;
    let since = tables.endpoint(guess).map_or(0, |endpoint| endpoint.since_ns);
    within(since)
        || tracking.flags & TRACKING_OPEN != 0 && within(tracking.opened_ns)
        || flow.tracking_before != 0 && within(node.regions_opened_ns)
}

/// Whether a packet that does not begin a flow may go to an endpoint. Established TCP stays also on one that is
/// down, where the service says so: it may come back, and knows the connection then.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, flow: &Flow, id: u32) -> bool {
    let Some(EndpointEntry { state, .. }) = tables.endpoint(id) else { return false };
    let kept = !flow.udp() && flow.listener.flags & LISTENER_KEEPS != 0 && state & ENDPOINT_DOWN != 0;
    state & ENDPOINT_USABLE != 0 || kept
}

/// The same of an endpoint that is remembered, and is the listener's. A pin is found by a part of a hash, and that of
/// another flow may have the same: never may a packet get into somebody else's network for that.
#[inline(never)]
pub(crate) fn is_possible<A: IpAddress, T: Tables>(tables: &T, flow: &Flow, id: u32) -> bool {
    if id == NOBODY || !is_usable(tables, flow, id) {
        return false;
    }
    let listener = &flow.listener;
    if listener.flags & LISTENER_DSR != 0 {
        return true;
    }
    let Some(endpoint) = tables.endpoint(id) else { return false };
    let Some(host) = A::from_entry(&endpoint.address).host(tables) else { return false };
    let port = endpoint.port_for(listener.first_port, Be16(flow.key.ports[1]));
    let protocol = if flow.udp() { UDP } else { TCP };
    let reply = tables.reply(endpoint.vnet, host, protocol, port);
    reply.is_some_and(|reply| reply.listener == listener.id)
}

#[inline(always)]
pub(crate) fn takes_new<T: Tables>(tables: &T, id: u32) -> bool {
    tables.endpoint(id).is_some_and(|endpoint| endpoint.state & ENDPOINT_TAKES_NEW != 0)
}

/// Remembers the first packet of an exception. One that is sent again is the same.
#[inline(never)]
fn begin<T: Tables>(tables: &T, flow: &Flow, endpoint: u32) {
    let Ok(endpoint) = u16::try_from(endpoint) else { return };
    let client_next = flow.numbers[0].wrapping_add(1);
    let listener = flow.listener.id;
    if !flow.udp()
        && let Some(known) = tables.half_open(&flow.key)
        && (known.client_next, known.endpoint, known.listener) == (client_next, endpoint, listener)
    {
        return;
    }
    let half = HalfOpen { time: flow.now_ns, client_next, listener, endpoint, ..HalfOpen::default() };
    tables.set_half_open(&flow.key, half);
    tables.count_flow(Event::HalfOpen);
}

/// Whether a packet is one of the connection that is half-open. Anybody can send a SYN with the addresses of a live
/// flow; its packets do not have the numbers that the SYN and its answer had.
#[inline(always)]
fn matches(half: &HalfOpen, flow: &Flow, udp_idle_ns: u64) -> bool {
    if flow.udp() {
        return flow.now_ns.saturating_sub(half.time) < udp_idle_ns;
    }
    let [sequence, acknowledgement] = flow.numbers;
    let answered = half.flags & HALF_OPEN_ANSWERED != 0
        && acknowledgement.wrapping_sub(half.endpoint_next) < FIRST_WINDOW;
    let seen = answered || flow.listener.flags & LISTENER_DSR != 0;
    seen && sequence.wrapping_sub(half.client_next) < FIRST_WINDOW
}

/// Pins a flow that has proved real, where it may.
#[inline(always)]
fn prove<T: Tables>(tables: &T, flow: &Flow, tracking: &TrackingEntry, endpoint: u32, may: bool) {
    if tracking.flags & TRACKING_FULL != 0 {
        tables.count_flow(Event::NoRoom);
    } else if may {
        pins::pin(tables, flow, endpoint);
    } else {
        tables.count_flow(Event::Limited);
    }
}

/// A pin after a packet of its client. In direct return nobody sees the endpoint's end, and the client's alone says
/// nothing.
#[inline(always)]
fn after_client(pin: Pin, flow: &Flow) -> Pin {
    let ends = flow.flags().ends() && flow.listener.flags & LISTENER_DSR == 0;
    let pin = if ends { pin.with(Pin::CLIENT_ENDED) } else { pin };
    pin.touched(flow.udp(), flow.now_ns)
}

impl EndpointEntry {
    /// The endpoint's port for a port of a listener: as far from its first one.
    #[inline(always)]
    pub const fn port_for(&self, first_port: u16, port: Be16) -> Be16 {
        if self.port.0 == 0 {
            return port;
        }
        let offset = port.to_host().wrapping_sub(first_port);
        Be16::new(self.port.to_host().wrapping_add(offset))
    }
}
