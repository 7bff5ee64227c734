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
    /// The finished frame leaves through this interface.
    Transmit {
        /// Egress interface.
        ifindex: u32,
    },
    /// The finished frame goes into `lbx1`, so that it arrives on `lbx0`: the answer to a health check, or
    /// a packet that the kernel must route, resolve or fragment.
    ToHost,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a packet was dropped. The numbers are stable: they index the kernel's counters and stand in
        /// metrics; a number is never given another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $name = $number,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable name in CLI, API and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
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
}
