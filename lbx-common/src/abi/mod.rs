//! Layout of the kernel's maps: keys, values, names, capacities, version.
//!
//! Rules: every value is a whole number of 64-bit words without implicit padding, so that the agent can
//! write it word by word through a memory mapping; no `bool`, `enum` or `Option`; all-zero means unset.
//! A change of any layout here raises [`ABI_VERSION`].

mod bucket;
mod counters;
mod entries;
mod fragments;
mod keys;
mod policy;
mod regions;
mod samples;
mod tracking;
mod words;

pub use bucket::{Bucket, ENTRIES_PER_BUCKET, Entry, bucket_pair, find};
pub use counters::{MAX_REASONS, TrafficCounter, drop_index};
pub use entries::{
    ENDPOINT_CLOSED, ENDPOINT_DOWN, ENDPOINT_FORCED, ENDPOINT_HEALTHY, ENDPOINT_REMOVED, ENDPOINT_SHARE,
    ENDPOINT_SHARE_SHIFT, ENDPOINT_TAKES_NEW, ENDPOINT_TRACKED, ENDPOINT_TUNNELS, ENDPOINT_UNHEALTHY,
    ENDPOINT_USABLE, EndpointEntry, LISTENER_BY_REGION, LISTENER_DSR, LISTENER_HAS_ALL, LISTENER_HAS_POLICY,
    LISTENER_HAS_RANGE, LISTENER_KEEPS, LISTENER_REJECTS, LISTENER_SAMPLED, LISTENER_UNTRACKED,
    ListenerValue, NODE_HAS_VLANS, NODE_REGIONS_CLOSING, NODE_TRACKS, NodeEntry, PeerValue, REPLY_BY_REGION,
    ReplyValue, SLOTS_PER_LINE, SlotLine, TUNNEL_DOWN, TUNNEL_HEAD_WORDS, TUNNEL_RESOLVED, TUNNEL_SET,
    TUNNEL_V6, Target, TunnelEntry, VIP_ECHO, VIP_REJECTS, VipValue, VnetEntry,
};
pub use fragments::{FragmentKey, FragmentValue};
pub use keys::{Host, KeyWords, ListenerKey, PROBE_PLACES, PeerKey, PortBlock, ReplyKey};
pub use policy::{
    LIST_BITS, PREFIX_ALLOWED, PREFIX_DENIED, PolicyEntry, PrefixV4, PrefixV6, SOURCE_BUCKETS, service_bucket,
};
pub use regions::{MAX_REGION_PREFIXES, NO_REGIONS, region_id};
pub use samples::{SampleRecord, sampling_limit};
pub use tracking::{
    Affinity, AffinityKey, ENDED_IDLE_NS, FlowKey, HALF_OPEN_ANSWERED, HalfOpen, MAX_TCP_IDLE_SECS,
    MAX_UDP_IDLE_SECS, PINS_PER_BUCKET, Pin, PinBucket, PinRecord, TRACKING_AFFINITY, TRACKING_ALWAYS,
    TRACKING_CLOSING, TRACKING_EVERY, TRACKING_FULL, TRACKING_ON, TRACKING_OPEN, TRACKING_REHASHED,
    TrackingEntry,
};
pub use words::Words;

/// Version of everything in this module. An agent takes over maps of no other version as they are.
pub const ABI_VERSION: u32 = 6;

/// Numbers of slots that a lookup table may have: primes, as Maglev permutations need.
pub const TABLE_SIZES: [u32; 7] = [1021, 2039, 4093, 8191, 16_381, 32_749, 65_537];

/// How many slots of a flow's own sequence are tried after the base owner.
pub const SEQUENCE_LENGTH: u32 = 16;

/// `SO_MARK` of health-check sockets: the only packets that may leave through `lbx0`.
pub const PROBE_MARK: u32 = 0x6c62_7800;

/// Inner source MAC of tunnels that carry Ethernet: lbx itself.
pub const INNER_SOURCE_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x78, 0x00, 0x01];

/// Names of the maps, as in the object file and as pinned.
pub mod map_name {
    /// One [`super::NodeEntry`].
    pub const NODE: &str = "NODE";
    /// Buckets of [`super::ListenerKey`] → [`super::ListenerValue`] or [`super::VipValue`].
    pub const LISTENERS: &str = "LISTENERS";
    /// Buckets of [`super::ReplyKey`] → [`super::ReplyValue`] or [`super::VipValue`].
    pub const REPLIES: &str = "REPLIES";
    /// Buckets of [`super::PeerKey`] → [`super::PeerValue`].
    pub const PEERS: &str = "PEERS";
    /// Buckets of IPv6 address → id: what makes a [`super::Host`] of an address.
    pub const ADDRESS_IDS: &str = "ADDRESS_IDS";
    /// IPv6 addresses by id.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// Lines of [`super::SLOTS_PER_LINE`] slots.
    pub const SLOTS: &str = "SLOTS";
    /// [`super::EndpointEntry`] by endpoint id.
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// [`super::TunnelEntry`] by tunnel id.
    pub const TUNNELS: &str = "TUNNELS";
    /// [`super::VnetEntry`] by vnet id.
    pub const VNETS: &str = "VNETS";
    /// [`super::PolicyEntry`] by listener id.
    pub const POLICIES: &str = "POLICIES";
    /// Longest match of [`super::PrefixV4`] → `PREFIX_…`
    pub const PREFIXES_V4: &str = "PREFIXES_V4";
    /// Longest match of [`super::PrefixV6`] → `PREFIX_…`
    pub const PREFIXES_V6: &str = "PREFIXES_V6";
    /// Longest match of [`super::PrefixV4`] → region id.
    pub const REGIONS_V4: &str = "REGIONS_V4";
    /// Longest match of [`super::PrefixV6`] → region id.
    pub const REGIONS_V6: &str = "REGIONS_V6";
    /// Buckets of flows that may begin, of sources by hash and of services by [`super::service_bucket`].
    pub const LIMITS: &str = "LIMITS";
    /// [`super::TrafficCounter`] by listener id, per CPU.
    pub const LISTENER_TRAFFIC: &str = "LISTENER_TRAFFIC";
    /// [`super::TrafficCounter`] by endpoint id, per CPU.
    pub const ENDPOINT_TRAFFIC: &str = "ENDPOINT_TRAFFIC";
    /// [`super::TrafficCounter`] by tunnel id, per CPU.
    pub const TUNNEL_TRAFFIC: &str = "TUNNEL_TRAFFIC";
    /// Packets by [`super::drop_index`], per CPU.
    pub const DROPS: &str = "DROPS";
    /// [`super::FragmentKey`] → [`super::FragmentValue`]
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// [`super::TrackingEntry`] by listener id.
    pub const TRACKING: &str = "TRACKING";
    /// [`super::FlowKey`] → [`super::HalfOpen`]
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// [`super::AffinityKey`] → [`super::Affinity`]
    pub const AFFINITY: &str = "AFFINITY";
    /// Buckets of pins of TCP.
    pub const PINS_TCP: &str = "PINS_TCP";
    /// Buckets of pins of UDP.
    pub const PINS_UDP: &str = "PINS_UDP";
    /// [`super::PinRecord`] of each place in `PINS_TCP`.
    pub const RECORDS_TCP: &str = "RECORDS_TCP";
    /// [`super::PinRecord`] of each place in `PINS_UDP`.
    pub const RECORDS_UDP: &str = "RECORDS_UDP";
    /// Flows by [`crate::track::Event`], per CPU.
    pub const FLOWS: &str = "FLOWS";
    /// One [`crate::routes::RouteTerm`]. Each load of the programs has its own.
    pub const ROUTE_TERM: &str = "ROUTE_TERM";
    /// A question to the kernel's FIB, and how many there were, per CPU. Each load of the programs has its own.
    pub const FIB: &str = "FIB";
    /// How many of 2³² packets that may be told of are. This and the next two: each load of the programs has its own.
    pub const SAMPLING: &str = "SAMPLING";
    /// Ring buffer of [`super::SampleRecord`].
    pub const SAMPLES: &str = "SAMPLES";
    /// Packets that found no room there, per CPU.
    pub const SAMPLES_LOST: &str = "SAMPLES_LOST";
    /// The programs of the stages. Each load of the programs has its own.
    pub const STAGES: &str = "STAGES";
}

/// Names of the programs in the object file.
pub mod program_name {
    /// XDP on an interface with role `public`.
    pub const PUBLIC: &str = "lbx_public";
    /// XDP on an interface with role `underlay`.
    pub const UNDERLAY: &str = "lbx_underlay";
    /// XDP on an interface with role `both`.
    pub const BOTH: &str = "lbx_both";
    /// XDP on `lbx1`: health checks on their way out.
    pub const PROBE: &str = "lbx_probe";
    /// XDP on `lbx0`: lets arrive what the kernel is to finish, and what health checks wait for.
    pub const ARRIVAL: &str = "lbx_arrival";
    /// The programs of [`crate::reason::Stage::ALL`].
    pub const STAGES: [&str; 24] = [
        "lbx_v4",
        "lbx_v6",
        "lbx_reply_v4",
        "lbx_reply_v6",
        "lbx_icmp_v4",
        "lbx_icmp_v6",
        "lbx_icmp_reply4",
        "lbx_icmp_reply6",
        "lbx_refuse_v4",
        "lbx_refuse_v6",
        "lbx_relay_v4",
        "lbx_relay_v6",
        "lbx_fragment_v4",
        "lbx_fragment_v6",
        "lbx_frag_reply4",
        "lbx_frag_reply6",
        "lbx_neighbour4",
        "lbx_neighbour6",
        "lbx_tracked_v4",
        "lbx_tracked_v6",
        "lbx_confirm_v4",
        "lbx_confirm_v6",
        "lbx_deliver_v4",
        "lbx_deliver_v6",
    ];
    /// TC on the egress of `lbx0`: only marked packets may pass.
    pub const GUARD: &str = "lbx_guard";
}
