//! What happens in and to a tunnel.

use std::net::Ipv4Addr;
use std::time::Duration;

/// How the gateway drops a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStyle {
    /// TLS close_notify, then FIN.
    CloseNotify,
    /// FIN without close_notify.
    Fin,
    /// Half a frame, then FIN without close_notify.
    HalfFrame,
    /// TCP reset.
    Reset,
    /// A fatal TLS alert of this description (80 is `internal_error`), then FIN.
    Alert(u8),
    /// A TLS record that does not decrypt, then FIN.
    BadRecord,
    /// LCP Terminate-Request with a reason; the session ends.
    Terminate,
    /// LCP Terminate-Request, then silence; the session ends.
    TerminateThenSilence,
    /// Silence: everything is read and nothing is answered.
    Blackhole,
}

/// Something that a tunnel is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End.
    Drop(CloseStyle),
    /// Send these octets, as they are, between two frames (see [`super::super::frame`]).
    Send(Vec<u8>),
    /// Negotiate the link anew, with a new LCP Configure-Request.
    Renegotiate,
    /// Do not read for so long.
    PauseReading(Duration),
    /// Read at most so many octets, then not for so long, and so on.
    ReadSlowly(usize, Duration),
    /// Send a TLS 1.3 KeyUpdate; nothing with TLS 1.2, and nothing after one of the following two.
    UpdateKeys,
    /// Send so many TLS records with nothing in them.
    EmptyRecords(u32),
    /// Send a HelloRequest, which asks for a renegotiation; nothing with TLS 1.3.
    HelloRequest,
}

/// When an [`Order`] is due. Each is due once in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first frame of the client has come, and nothing is answered yet.
    FirstFrame,
    /// LCP is open, IPCP is not.
    LcpOpen,
    /// The link has been up for so long.
    UpFor(Duration),
    /// So many IP packets have come from the client.
    Packets(u64),
}

/// The PPP negotiation.
#[derive(Clone, Debug)]
pub struct PppKnobs {
    /// The gateway's own address in IPCP.
    pub own_address: Ipv4Addr,
    /// Give this address in IPCP, whatever the configuration said.
    pub client_address: Option<Ipv4Addr>,
    /// Reject the client's address option.
    pub reject_address: bool,
    /// Ask with the deprecated option of both addresses (RFC 1172), for ever.
    pub insist_on_pair: bool,
    /// Send an own LCP Configure-Request.
    pub ask_lcp: bool,
    /// Ask for authentication by PAP, which a client has to refuse.
    pub ask_auth: bool,
    /// Ask for compressed protocol and address fields.
    pub ask_field_compression: bool,
    /// Name an MRU in the own Configure-Request.
    pub own_mru: Option<u16>,
    /// These octets at the end of the own Configure-Request's options.
    pub more_options: Vec<u8>,
    /// How the client's MRU is taken.
    pub mru: Mru,
    /// How the client's magic number is taken.
    pub magic: Magic,
    /// So many of the client's LCP Configure-Requests get a Nak that wants another MRU each time.
    pub lcp_naks: u32,
    /// So many of the client's IPCP Configure-Requests get a Nak that wants another address each time.
    pub ipcp_naks: u32,
    /// How the client's requests are acknowledged.
    pub acks: Acks,
    /// After this time a request of the gateway that was not answered is sent again.
    pub restart: Duration,
    /// Offer Van Jacobson compression.
    pub offer_vj: bool,
    /// How DNS options are answered.
    pub dns: DnsOffer,
    /// Take part in IPV6CP, with this interface identifier.
    pub ipv6: Option<[u8; 8]>,
    /// Answer Echo-Requests.
    pub answer_echo: bool,
    /// How Echo-Requests are answered.
    pub echo: Echo,
    /// Send an Echo-Request this often.
    pub echo_every: Option<Duration>,
    /// Acknowledge a Terminate-Request.
    pub ack_terminate: bool,
    /// The text of an own Terminate-Request.
    pub terminate_reason: String,
    /// Put the octets FF 03 before each protocol number.
    pub address_control: bool,
}

impl Default for PppKnobs {
    fn default() -> Self {
        Self {
            own_address: Ipv4Addr::new(192, 0, 2, 1),
            client_address: None,
            reject_address: false,
            insist_on_pair: false,
            ask_lcp: true,
            ask_auth: false,
            ask_field_compression: false,
            own_mru: None,
            more_options: Vec::new(),
            mru: Mru::Ack,
            magic: Magic::Ack,
            lcp_naks: 0,
            ipcp_naks: 0,
            acks: Acks::Right,
            restart: Duration::from_secs(3),
            offer_vj: false,
            dns: DnsOffer::Nak,
            ipv6: None,
            answer_echo: true,
            echo: Echo::Right,
            echo_every: None,
            ack_terminate: true,
            terminate_reason: "session ended by the administrator".into(),
            address_control: false,
        }
    }
}

/// How the client's MRU is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mru {
    /// Acknowledged, whatever it is.
    Ack,
    /// Only this one is acknowledged.
    Nak(u16),
    /// The option is rejected.
    Reject,
}

/// How the client's magic number is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// Acknowledged.
    Ack,
    /// The option is rejected.
    Reject,
    /// Acknowledged, and the gateway's own is the same, as if the line were looped back.
    Same,
}

/// How the client's Configure-Requests are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Once, with what was asked.
    Right,
    /// An Ack with an old identifier comes before.
    StaleFirst,
    /// Each comes twice.
    Twice,
    /// The first of each protocol has other options than the request; the repeated request is acknowledged.
    AlteredFirst,
}

/// How Echo-Requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// With the own magic number and the request's identifier.
    Right,
    /// With a magic number that is nobody's.
    WrongMagic,
    /// With another identifier.
    WrongId,
}

/// How DNS options in IPCP are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsOffer {
    /// With the servers of the configuration.
    Nak,
    /// With 0.0.0.0 in a Nak.
    Zero,
    /// The options are rejected.
    Reject,
}
