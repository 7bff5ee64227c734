//! What became of a packet: the verdict, and why it was dropped.

/// What the entry point does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: to the kernel, untouched.
    Pass,
    /// Dropped and counted.
    Drop {
        /// Vnet id; 0 where the packet belongs to none.
        vnet: u32,
        /// Why.
        reason: DropReason,
    },
    /// Not decided yet: a later stage goes on, with what was kept for it.
    Continue(Stage),
    /// The finished frame leaves through this interface.
    Transmit {
        /// Egress interface.
        ifindex: u32,
    },
    /// The finished frame leaves through the interface that it came by: an answer of lbx itself.
    Back,
    /// The finished frame goes into `lbx1`, so that it arrives on `lbx0`: the answer to a health check, or
    /// a packet that the kernel must route, resolve or fragment.
    ToHost,
}

/// A verdict in one register. The pipeline passes it around as such: where an enum's unused bytes are undefined,
/// the verifier sees a register that was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Packed(u64);

impl Packed {
    /// [`Verdict::Pass`]
    pub const PASS: Self = Self(0);
    /// [`Verdict::ToHost`]
    pub const TO_HOST: Self = Self(1);

    /// [`Verdict::Transmit`]
    #[inline(always)]
    pub const fn transmit(ifindex: u32) -> Self {
        Self(2 | (ifindex as u64) << 32)
    }

    /// [`Verdict::Back`]
    pub const BACK: Self = Self(5);

    /// [`Verdict::Drop`]
    #[inline(always)]
    pub const fn drop(vnet: u32, reason: DropReason) -> Self {
        Self::drop_number(vnet, reason as u8)
    }

    /// [`Verdict::Continue`]
    #[inline(always)]
    pub const fn go_on(stage: Stage) -> Self {
        Self(4 | (stage as u64) << 8)
    }

    /// [`Verdict::Drop`], by the number of its reason.
    #[inline(always)]
    pub const fn drop_number(vnet: u32, reason: u8) -> Self {
        Self(3 | (reason as u64) << 8 | (vnet as u64) << 32)
    }

    /// Whether the packet goes on, by itself or by the host.
    #[inline(always)]
    pub const fn is_sent(self) -> bool {
        matches!(self.kind(), 1 | 2)
    }

    /// Vnet id and number of the reason of a drop.
    #[inline(always)]
    pub const fn dropped(self) -> Option<(u32, u8)> {
        if self.kind() == 3 { Some((self.high(), self.number())) } else { None }
    }

    /// Number of the stage that goes on.
    #[inline(always)]
    pub const fn next_stage(self) -> Option<u32> {
        if self.kind() == 4 { Some(self.number() as u32) } else { None }
    }

    /// Interface that the frame leaves by.
    #[inline(always)]
    pub const fn egress(self) -> Option<u32> {
        if self.kind() == 2 { Some(self.high()) } else { None }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte")]
    const fn kind(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the second byte")]
    const fn number(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The verdict; `None` of a number that is none.
    pub fn unpack(self) -> Option<Verdict> {
        if let Some((vnet, number)) = self.dropped() {
            return DropReason::from_number(number).map(|reason| Verdict::Drop { vnet, reason });
        }
        if let Some(stage) = self.next_stage() {
            return Stage::ALL.get(stage as usize).copied().map(Verdict::Continue);
        }
        match (self, self.egress()) {
            (_, Some(ifindex)) => Some(Verdict::Transmit { ifindex }),
            (Self::PASS, _) => Some(Verdict::Pass),
            (Self::TO_HOST, _) => Some(Verdict::ToHost),
            (Self::BACK, _) => Some(Verdict::Back),
            _ => None,
        }
    }
}

/// A part of the pipeline that is a program of its own in the kernel: a program has 512 bytes of stack, and the
/// verifier's patience is for one program at a time. The common case, untagged IPv4, needs none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// An IPv4 packet behind VLAN tags.
    V4 = 0,
    /// An IPv6 packet.
    V6 = 1,
    /// An IPv4 packet in a tunnel packet that was admitted.
    ReplyV4 = 2,
    /// An IPv6 packet in a tunnel packet that was admitted.
    ReplyV6 = 3,
    /// ICMP to a VIP.
    IcmpV4 = 4,
    /// `ICMPv6` to a VIP.
    IcmpV6 = 5,
    /// ICMP out of a virtual network.
    IcmpReplyV4 = 6,
    /// `ICMPv6` out of a virtual network.
    IcmpReplyV6 = 7,
    /// A refused IPv4 packet, about which its sender is told.
    RefuseV4 = 8,
    /// A refused IPv6 packet, about which its sender is told.
    RefuseV6 = 9,
    /// An ICMP error to a client, about an IPv4 packet of that client.
    RelayV4 = 10,
    /// The same of IPv6.
    RelayV6 = 11,
    /// A fragment of an IPv4 packet to a VIP.
    FragmentV4 = 12,
    /// A fragment of an IPv6 packet to a VIP.
    FragmentV6 = 13,
    /// A fragment of an IPv4 packet out of a virtual network.
    FragmentReplyV4 = 14,
    /// A fragment of an IPv6 packet out of a virtual network.
    FragmentReplyV6 = 15,
    /// ARP in a tunnel.
    NeighbourV4 = 16,
    /// A neighbour solicitation in a tunnel.
    NeighbourV6 = 17,
    /// An IPv4 packet to a service that may be an exception to what hash and table say.
    TrackedV4 = 18,
    /// The same of IPv6.
    TrackedV6 = 19,
    /// An IPv4 reply that may prove a flow to be one.
    ConfirmV4 = 20,
    /// The same of IPv6.
    ConfirmV6 = 21,
    /// An IPv4 packet whose endpoint was found by [`Stage::TrackedV4`].
    DeliverV4 = 22,
    /// The same of IPv6.
    DeliverV6 = 23,
}

impl Stage {
    /// All stages, in the order of their numbers.
    pub const ALL: [Self; 24] = [
        Self::V4,
        Self::V6,
        Self::ReplyV4,
        Self::ReplyV6,
        Self::IcmpV4,
        Self::IcmpV6,
        Self::IcmpReplyV4,
        Self::IcmpReplyV6,
        Self::RefuseV4,
        Self::RefuseV6,
        Self::RelayV4,
        Self::RelayV6,
        Self::FragmentV4,
        Self::FragmentV6,
        Self::FragmentReplyV4,
        Self::FragmentReplyV6,
        Self::NeighbourV4,
        Self::NeighbourV6,
        Self::TrackedV4,
        Self::TrackedV6,
        Self::ConfirmV4,
        Self::ConfirmV6,
        Self::DeliverV4,
        Self::DeliverV6,
    ];
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a packet was dropped. The numbers are stable: they index the kernel's counters and stand in
        /// metrics; a number is never given another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])* $name = $number,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason of a number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Stable name in CLI, API and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it means, for a person.
            #[cfg(feature = "api")]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),*),)*
                }
            }
        }
    };
}

reasons! {
    /// A packet to a VIP with a broken or cut-off header.
    Malformed = 1, "malformed";
    /// A packet to a VIP that matches no listener.
    VipNoService = 2, "vip_no_service";
    /// No endpoint of the service takes the flow.
    NoEndpoint = 3, "no_endpoint";
    /// The packet's time to live ended here.
    TtlExceeded = 4, "ttl_exceeded";
    /// A fragment of an IP packet to a VIP.
    FragmentUnknown = 5, "fragment_unknown";
    /// Larger than the tunnel's inner MTU.
    TooBig = 6, "too_big";
    /// A tunnel packet with a known key from a host that is no gateway of that network.
    TunnelUnknownPeer = 7, "tunnel_unknown_peer";
    /// A tunnel packet from a gateway with a key that is not its own.
    TunnelUnknownKey = 8, "tunnel_unknown_key";
    /// A tunnel packet from a gateway with a broken header, or with something inside that is not IP.
    TunnelMalformed = 9, "tunnel_malformed";
    /// A tunnel packet that is an outer fragment.
    TunnelFragmented = 10, "tunnel_fragmented";
    /// A packet out of a virtual network whose source is no endpoint of a service.
    ReplyNoService = 11, "reply_no_service";
    /// A SYN without ACK out of a virtual network: endpoints do not open connections through lbx.
    ReplySyn = 12, "reply_syn";
    /// The kernel has no route to the client, or forbids it.
    NoRoute = 13, "no_route";
    /// A packet out of `lbx0` whose source is no network's probe source.
    ProbeSourceUnknown = 14, "probe_source_unknown";
    /// A packet into `lbx0` that is not a health check of the agent.
    ProbeUnmarked = 15, "probe_unmarked";
    /// No room in front of the packet for the tunnel headers.
    NoHeadroom = 16, "no_headroom";
    /// The maps contradict each other; should never be seen.
    Inconsistent = 17, "inconsistent";
    /// No tunnel to the endpoint is up.
    NoTunnel = 18, "no_tunnel";
    /// Congestion was marked on the tunnel packet, and the packet inside cannot carry the mark (RFC 6040).
    Congested = 19, "congested";
    /// A packet to a service that its source may not send to.
    Denied = 20, "denied";
    /// A packet that begins a flow where no more may begin for now.
    RateLimited = 21, "rate_limited";
    /// A TCP packet to a service with flags that no connection has.
    TcpFlags = 22, "tcp_flags";
    /// An echo request that was not answered: more came than lbx answers.
    EchoLimited = 23, "echo_limited";
    /// ICMP to a VIP or out of a virtual network that is about no flow of ours.
    IcmpUnrelated = 24, "icmp_unrelated";
    /// ARP or neighbour discovery in a tunnel that does not ask for lbx's own address there, or too often.
    NeighbourUnanswered = 25, "neighbour_unanswered";
    /// UDP out of a virtual network to its probe source, for which no health check waits.
    ProbeUnasked = 26, "probe_unasked";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::MAX_REASONS;

    #[test]
    fn reasons_have_names_of_their_own_and_fit_the_counters() {
        for (i, a) in DropReason::ALL.iter().enumerate() {
            assert!((*a as u8) < MAX_REASONS);
            for b in &DropReason::ALL[i + 1..] {
                assert!(a.as_str() != b.as_str() && (*a as u8) < (*b as u8));
            }
        }
    }

    #[test]
    fn readme_lists_every_reason_and_no_other() {
        let readme = include_str!("../../README.md");
        let table = readme.split("## Drop reasons").nth(1).unwrap().split("## ").next().unwrap();
        let listed: Vec<String> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once("` |"))
            .map(|(row, _)| row.replace(" | `", " "))
            .collect();
        let all = DropReason::ALL.iter().map(|reason| format!("{} {}", *reason as u8, reason.as_str()));
        assert_eq!(listed, all.collect::<Vec<_>>());
    }
}
