//! One IKE SA: its keys, its windows of one message each way (RFC 7296 section 2.3), its Child SAs.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::access::Proof;
use super::additional::FollowUp;
use super::auth::Conversation;
use super::error::Refusal;
use super::fragment::{Channel, Reassembly};
use super::intermediate::Intermediate;
use super::proposal::IkeSuite;
use super::system::{Hints, System};
use super::{Budget, CREATIONS};
use crate::base::{DeviceId, Path, TrafficSelector};
use crate::crypto::dh::KeyPair;
use crate::crypto::{Cipher, Secret};
use crate::wire::ike::{Chain, Exchange, Header};

/// Times between sendings of our own request; after the last one the peer is dead.
const RETRANSMIT_AFTER: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(8),
];

/// Who began an exchange, and with it an SA: that decides which keys are for which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InitiatedBy {
    Peer,
    Us,
}

/// An IKE SA. The first one of a connection is the peer's; whoever rekeys it is the initiator of the next one.
#[derive(Debug)]
pub(super) struct IkeSa {
    pub(super) own_spi: u64,
    pub(super) peer_spi: u64,
    pub(super) initiated_by: InitiatedBy,
    pub(super) suite: IkeSuite,
    pub(super) sk_d: Secret,
    pub(super) channel: Channel,
    /// The one of our last answer, where that changed the keys.
    pub(super) previous: Option<Box<Channel>>,
    /// A PPK is mixed into the keys.
    pub(super) has_ppk: bool,
    pub(super) path: Path,
    pub(super) state: State,
    /// Both sides announced FRAGMENTATION_SUPPORTED.
    pub(super) fragmentation: bool,
    /// Both sides announced MOBIKE_SUPPORTED.
    pub(super) mobike: bool,
    /// Message ID of the peer's next request.
    pub(super) expected_id: u32,
    /// Our answer to the request before that.
    pub(super) answer: Vec<Vec<u8>>,
    /// An answer that waits.
    pub(super) pending: Option<Pending>,
    /// A rekey of the peer whose additional key exchanges are under way.
    pub(super) follow_up: Option<Box<FollowUp>>,
    pub(super) reassembly: Option<Reassembly>,
    /// Message ID of our next request.
    pub(super) next_request_id: u32,
    pub(super) outstanding: Option<Box<Outstanding>>,
    pub(super) queued: VecDeque<OwnRequest>,
    pub(super) children: Vec<Child>,
    /// What the peer may still create or rekey.
    pub(super) creations: Budget,
    /// The IKE SA that this one may take over, by our SPI of it, until it has a client of its own.
    pub(super) succeeds: Option<u64>,
    /// Who is behind it, once authenticated and with an address.
    pub(super) client: Option<Client>,
    /// When the peer was last heard, authentically.
    pub(super) heard: Duration,
}

/// The device of an IKE SA.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) device: DeviceId,
    pub(super) identity: String,
    /// Its system, as far as it shows.
    pub(super) system: Option<System>,
    /// How it has proven that.
    pub(super) proof: Proof,
    /// Its pool address, whether or not it uses IPv4.
    pub(super) address: Ipv4Addr,
    /// Its inner IPv6 address, if it asked for one and there are any.
    pub(super) address6: Option<Ipv6Addr>,
    /// The addresses that it was told, as selectors.
    pub(super) selectors: Vec<TrafficSelector>,
    /// Whether we may rekey its Child SAs without need.
    pub(super) takes_rekey: bool,
    /// When its certificate ends, in monotonic time.
    pub(super) valid_until: Duration,
    /// `Connected` was said.
    pub(super) announced: bool,
}

/// Life of an IKE SA.
#[derive(Debug)]
pub(super) enum State {
    /// Nobody is authenticated: only IKE_AUTH is taken, or the IKE_INTERMEDIATE that comes before it.
    HalfOpen(Box<Init>),
    /// Authenticated.
    Established,
    /// Replaced by a rekey or a reauthentication; waits for its Delete.
    Rekeyed,
    /// Our Delete is on its way.
    Deleting,
    /// Over; only answers retransmissions of the last request. One that was never authenticated still counts as
    /// half-open, so that failing is no way around the limits.
    Closed(Option<Admitted>),
    /// To be forgotten.
    Dead,
}

/// What IKE_AUTH needs from IKE_SA_INIT.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,

    pub(super) ni: Vec<u8>,
    pub(super) nr: Vec<u8>,
    pub(super) sk_pi: Secret,
    pub(super) sk_pr: Secret,
    /// The exchanges between IKE_SA_INIT and IKE_AUTH.
    pub(super) intermediate: Intermediate,
    /// Both sides have a PPK.
    pub(super) use_ppk: bool,
    /// SIGNATURE_HASH_ALGORITHMS of the peer.
    pub(super) hashes: Option<Vec<u16>>,
    /// What it shows of the peer's system.
    pub(super) hints: Hints,
    pub(super) admitted: Admitted,
    /// The peer authenticates itself by EAP, and is not done.
    pub(super) eap: Option<Box<Conversation>>,
}

/// The place of a half-open IKE SA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// SHA-256 of the request, by which its retransmissions are found.
    pub(super) request_hash: [u8; 32],
    /// Where the request came from.
    pub(super) remote: IpAddr,
}

/// A Child SA.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) spi_in: u32,
    pub(super) spi_out: u32,
    pub(super) cipher: Cipher,
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    /// The selectors of our side when this was negotiated, before narrowing.
    pub(super) offer: Arc<[TrafficSelector]>,
    /// Our SPI of the SA that it replaced.
    pub(super) replaces: Option<u32>,
    /// Our SPI of the SA that took over.
    pub(super) replaced_by: Option<u32>,
    /// Our Delete for it is on its way.
    pub(super) deleting: bool,
}

/// An answer that waits.
#[derive(Debug)]
pub(super) struct Pending {
    /// Our SPI of the SA that the data path must have before; else it waits for its time.
    pub(super) spi_in: Option<u32>,
    pub(super) message_id: u32,
    pub(super) exchange: Exchange,
    pub(super) chain: Chain,
}

/// A request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnRequest {
    /// An empty INFORMATIONAL: is anybody there?
    Liveness,
    DeleteIke,
    /// By our SPI.
    DeleteChild(u32),
    /// By our SPI: it comes to the end of its life.
    RekeyChild(u32),
    /// By our SPI: a rekey as well, but only because the plan has changed.
    RefreshChild(u32),
    /// It comes to the end of its life.
    RekeyIke,
}

/// A request of ours that waits for its answer.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) request: OwnRequest,
    pub(super) message_id: u32,
    pub(super) exchange: Exchange,
    pub(super) datagrams: Vec<Vec<u8>>,
    sendings: usize,
    /// For a rekey: what we proposed.
    pub(super) proposed: Option<Proposed>,
}

/// What we proposed in a rekey.
#[derive(Debug)]
pub(super) enum Proposed {
    Child(OwnRekey),
    Ike(Box<OwnIkeRekey>),
}

/// What the peer has made of the SA that we are about to replace: its own replacement (RFC 7296 section 2.8.1).
#[derive(Debug)]
pub(super) struct Rival<S> {
    /// Our SPI of it.
    pub(super) own_spi: S,
    /// The lower one of the nonces of its exchange.
    pub(super) lowest_nonce: Vec<u8>,
}

/// What we proposed for a new IKE SA.
#[derive(Debug)]
pub(super) struct OwnIkeRekey {
    pub(super) nonce: Vec<u8>,
    pub(super) own_spi: u64,
    pub(super) suite: IkeSuite,
    pub(super) pair: KeyPair,
    pub(super) rival: Option<Rival<u64>>,
}

/// What we proposed for a new Child SA.
#[derive(Debug)]
pub(super) struct OwnRekey {
    pub(super) nonce: Vec<u8>,
    pub(super) spi_in: u32,
    pub(super) cipher: Cipher,
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    pub(super) offer: Arc<[TrafficSelector]>,
    pub(super) rival: Option<Rival<u32>>,
}

impl OwnRequest {
    /// Our SPI of the Child SA that this rekeys.
    pub(super) const fn rekeys(self) -> Option<u32> {
        match self {
            Self::RekeyChild(spi_in) | Self::RefreshChild(spi_in) => Some(spi_in),
            Self::Liveness | Self::DeleteIke | Self::DeleteChild(_) | Self::RekeyIke => None,
        }
    }

    /// Whether this changes SAs, and so had better not cross a rekey of the peer.
    pub(super) const fn changes_sas(self) -> bool {
        matches!(self, Self::DeleteChild(_) | Self::RekeyIke) || self.rekeys().is_some()
    }
}

impl Child {
    /// Neither replaced nor on its way out.
    pub(super) fn is_in_charge(&self) -> bool {
        self.replaced_by.is_none() && !self.deleting
    }

    /// Whether the peer may replace it now.
    pub(super) fn may_be_replaced(&self) -> Result<(), Refusal> {
        if self.is_in_charge() { Ok(()) } else { Err(Refusal::Busy) }
    }
}

impl Client {
    /// Whether it was told its IPv4 address.
    pub(super) fn has_ipv4(&self) -> bool {
        self.selectors.iter().any(|ts| ts.first.is_ipv4())
    }
}

impl Outstanding {
    pub(super) fn new(
        request: OwnRequest,
        (message_id, exchange): (u32, Exchange),
        datagrams: Vec<Vec<u8>>,
        proposed: Option<Proposed>,
    ) -> Self {
        Self { request, message_id, exchange, datagrams, sendings: 0, proposed }
    }

    /// Counts one sending; how long to wait for the answer, or `None` when it is no use to send again.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        let wait = RETRANSMIT_AFTER.get(self.sendings).copied();
        self.sendings += 1;
        wait
    }
}

impl IkeSa {
    /// A new IKE SA, established, with both windows at their start.
    pub(super) fn new(
        (own_spi, peer_spi): (u64, u64),
        initiated_by: InitiatedBy,
        suite: IkeSuite,
        sk_d: Secret,
        channel: Channel,
        path: Path,
        now: Duration,
    ) -> Self {
        Self {
            own_spi,
            peer_spi,
            initiated_by,
            suite,
            sk_d,
            channel,
            previous: None,
            has_ppk: false,
            path,
            state: State::Established,
            fragmentation: false,
            mobike: false,
            expected_id: 0,
            answer: Vec::new(),
            pending: None,
            follow_up: None,
            reassembly: None,
            next_request_id: 0,
            outstanding: None,
            queued: VecDeque::new(),
            children: Vec::new(),
            creations: CREATIONS,
            succeeds: None,
            client: None,
            heard: now,
        }
    }

    /// Both SPIs as on the wire: the original initiator's first.
    pub(super) fn spis(&self) -> (u64, u64) {
        match self.initiated_by {
            InitiatedBy::Peer => (self.peer_spi, self.own_spi),
            InitiatedBy::Us => (self.own_spi, self.peer_spi),
        }
    }

    /// Header of a message of ours; lengths are filled in by the sealing.
    pub(super) fn header(&self, exchange: Exchange, message_id: u32, response: bool) -> Header {
        let (spi_i, spi_r) = self.spis();
        Header {
            spi_i,
            spi_r,
            next_payload: 0,
            major: 2,
            exchange,
            initiator: self.initiated_by == InitiatedBy::Us,
            response,
            message_id,
            length: 0,
        }
    }

    /// Whether nobody was ever authenticated.
    pub(super) fn is_strangers(&self) -> bool {
        matches!(self.state, State::HalfOpen(_) | State::Closed(Some(_)))
    }

    /// Whether a request of this exchange has its place in the present state.
    pub(super) fn takes(&self, exchange: Exchange) -> bool {
        match self.state {
            State::HalfOpen(ref init) if init.intermediate.is_awaited() => {
                exchange == Exchange::IkeIntermediate
            }
            State::HalfOpen(_) => exchange == Exchange::IkeAuth,
            State::Established => matches!(
                exchange,
                Exchange::CreateChildSa | Exchange::IkeFollowupKe | Exchange::Informational
            ),
            // Which is told to try again later (RFC 7296 section 2.25.2).
            State::Deleting => matches!(
                exchange,
                Exchange::CreateChildSa | Exchange::IkeFollowupKe | Exchange::Informational
            ),
            State::Rekeyed => exchange == Exchange::Informational,
            State::Closed(_) | State::Dead => false,
        }
    }

    /// The identity, or a placeholder before there is one.
    pub(super) fn identity(&self) -> String {
        self.client.as_ref().map_or_else(|| self.path.remote.to_string(), |client| client.identity.clone())
    }

    pub(super) fn child(&self, spi_in: u32) -> Option<&Child> {
        self.children.iter().find(|child| child.spi_in == spi_in)
    }

    /// Whether the peer may replace this IKE SA now.
    pub(super) fn may_be_replaced(&self) -> Result<(), Refusal> {
        let of_child = |own: OwnRequest| matches!(own, OwnRequest::DeleteChild(_)) || own.rekeys().is_some();
        let busy = self.outstanding.as_ref().is_some_and(|own| of_child(own.request));
        if busy { Err(Refusal::Busy) } else { Ok(()) }
    }

    pub(super) fn child_mut(&mut self, spi_in: u32) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.spi_in == spi_in)
    }
}
