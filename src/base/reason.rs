//! Every reason to drop a packet, each with a counter.

/// Declares the reasons once: variant, counter name, and the list of all.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet was dropped. `Copy` and small: rejecting a packet allocates and logs nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// Index of the counter.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// A datagram that is neither IKE, ESP nor a keepalive.
    UdpGarbage => "udp_garbage",
    /// ESP with an SPI that we do not know.
    EspUnknownSpi => "esp_unknown_spi",
    /// ESP packet too short, or of an impossible length.
    EspMalformed => "esp_malformed",
    /// ESP sequence number 0, seen before, or older than the window.
    EspReplayed => "esp_replayed",
    /// ESP integrity check failed.
    EspBadTag => "esp_bad_tag",
    /// ESP dummy packet (next header 59).
    EspDummy => "esp_dummy",
    /// ESP padding or next header is not acceptable.
    EspBadTrailer => "esp_bad_trailer",
    /// The outbound sequence numbers of an SA are used up.
    EspExhausted => "esp_exhausted",
    /// Inner packet is not a well-formed IP packet.
    InnerMalformed => "inner_malformed",
    /// Inner packet of a family that is off.
    InnerFamily => "inner_family",
    /// Inner source address is not the one assigned to the device.
    InnerSpoofed => "inner_spoofed",
    /// Inner packet outside the negotiated traffic selectors.
    InnerSelector => "inner_selector",
    /// A device tried to reach another device.
    InnerHairpin => "inner_hairpin",
    /// Inner destination is never forwarded (multicast, broadcast, loopback, zero).
    InnerIllegal => "inner_illegal",
    /// Packet larger than what the next link carries, and may not be fragmented (answered).
    TooBig => "too_big",
    /// No device or SA for the packet.
    NoDevice => "no_device",
    /// Packet from the company without a flow.
    NatNoFlow => "nat_no_flow",
    /// The flow table is full.
    NatFull => "nat_full",
    /// Destination is not the address that the gateway assigned.
    NatNotOurs => "nat_not_ours",
    /// A fragment whose first piece never came.
    NatFragment => "nat_fragment",
    /// A transport header too short to translate.
    NatMalformed => "nat_malformed",
    /// NAT64: an address that maps to nothing on the other side.
    Nat64NotMapped => "nat64_not_mapped",
    /// NAT64: a source that no host may have (zero, loopback, multicast, reserved).
    Nat64IllegalSource => "nat64_illegal_source",
    /// NAT64: a source route that is not used up (answered).
    Nat64SourceRoute => "nat64_source_route",
    /// NAT64: an extension header behind the Fragment header (answered).
    Nat64Extension => "nat64_extension",
    /// NAT64: a protocol that does not exist on the other side.
    Nat64Protocol => "nat64_protocol",
    /// NAT64: an ICMP message without a counterpart on the other side.
    Nat64IcmpType => "nat64_icmp_type",
    /// NAT64: a piece of an ICMP message, whose checksum spans the pieces.
    Nat64IcmpFragment => "nat64_icmp_fragment",
    /// NAT64: an ICMP error with a wrong checksum.
    Nat64IcmpChecksum => "nat64_icmp_checksum",
    /// NAT64: an ICMP error that quotes a packet without a counterpart on the other side.
    Nat64Quote => "nat64_quote",
    /// NAT64: a UDP datagram without a checksum where there must be one.
    Nat64UdpZero => "nat64_udp_zero",
    /// Hop limit used up (answered).
    TtlExceeded => "ttl_exceeded",
    /// The uplink is down (answered with ICMP unreachable).
    UplinkDown => "uplink_down",
    /// The uplink's queue is full.
    UplinkFull => "uplink_full",
    /// A worker's queue is full.
    WorkerFull => "worker_full",
    /// The mailbox of the IKE thread is full.
    IkeFull => "ike_full",
    /// An ICMP answer held back by the rate limit.
    RateLimited => "rate_limited",
    /// The UDP socket did not take a datagram.
    UdpSend => "udp_send",
    /// A PPP frame of an unknown protocol, or data before the network phase.
    PppUnexpected => "ppp_unexpected",
    /// A DNS message that cannot be parsed, or a reply that nobody waits for.
    DnsUnexpected => "dns_unexpected",
    /// The DNS pending table is full.
    DnsFull => "dns_full",
}
