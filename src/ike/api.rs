//! What goes into the responder and what comes out.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::error::{Event, GoneReason};
use super::plan::ClientPlan;
use super::system::System;
use crate::base::{ChildSa, DeviceId, Path};
use crate::crypto::pki::{Certificate, TrustAnchors};
use crate::crypto::sign::PrivateKey;

/// Who we are towards clients, and whom we let in.
#[derive(Debug)]
pub struct Identity {
    /// Our default identity: the host name (or address) that users type into their client.
    pub hostname: String,
    /// With what we prove it: at least one. Each client gets the one that it can verify, as far as that shows.
    pub credentials: Vec<Credential>,
    /// Whom we let in.
    pub access: Access,
}

impl Identity {
    /// One certificate and its key; clients by certificates of `anchors`.
    pub fn new(hostname: &str, chain: Vec<Certificate>, key: PrivateKey, anchors: TrustAnchors) -> Self {
        Self {
            hostname: hostname.to_owned(),
            credentials: vec![Credential { chain, key }],
            access: Access::by_certificate(anchors),
        }
    }
}

/// A certificate of ours, and its key.
#[derive(Debug)]
pub struct Credential {
    /// The certificate, then its intermediates.
    pub chain: Vec<Certificate>,
    /// The private key of the first certificate.
    pub key: PrivateKey,
}

/// Who we are, and what we give.
#[derive(Debug)]
pub struct Config {
    /// Who we are, and whom we let in.
    pub identity: Identity,
    /// Network of the address pool; its first host address is the in-tunnel host and never leased.
    pub pool: Ipv4Addr,
    /// Prefix length of the pool.
    pub pool_prefix_len: u8,
    /// Limits and timers.
    pub policy: Policy,
}

/// Limits and timers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// From this many half-open IKE SAs on, strangers must return a cookie.
    pub cookie_threshold: usize,
    /// The same, per source (an IPv4 address or an IPv6 /64).
    pub cookie_threshold_per_source: usize,
    /// Most half-open IKE SAs.
    pub half_open_limit: usize,
    /// Most half-open IKE SAs per source.
    pub half_open_limit_per_source: usize,
    /// The same, per network (an IPv4 /24 or an IPv6 /48).
    pub half_open_limit_per_network: usize,
    /// How long a half-open IKE SA lives.
    pub half_open_lifetime: Duration,
    /// How long EAP may take.
    pub eap_lifetime: Duration,
    /// An identity has one device: a new connection ends the others.
    pub unique: bool,
    /// Most Child SAs per IKE SA, those being replaced included.
    pub children_per_ike_sa: usize,
    /// A device that was silent for this long is asked whether it lives.
    pub liveness_after: Duration,
    /// How long the peer may take to delete a Child or IKE SA that it has replaced.
    pub linger: Duration,
    /// An authenticated IKE SA without Child SA is deleted after this time.
    pub childless_lifetime: Duration,
    /// Our own rekey of Child SAs, a backstop behind the client's.
    pub child_lifetime: Duration,
    /// An IKE SA that the client never rekeyed, nor let us rekey shortly before, is deleted after this time.
    pub ike_lifetime: Duration,
    /// How long a shutdown may wait for answers.
    pub shutdown_wait: Duration,
    /// Take 1024-bit MODP (group 2), all that Windows has by default.
    pub weak_groups: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            cookie_threshold: 30,
            cookie_threshold_per_source: 3,
            half_open_limit: 512,
            half_open_limit_per_source: 16,
            half_open_limit_per_network: 128,
            half_open_lifetime: Duration::from_secs(30),
            eap_lifetime: Duration::from_secs(60),
            unique: false,
            children_per_ike_sa: 4,
            liveness_after: Duration::from_secs(600),
            linger: Duration::from_secs(30),
            childless_lifetime: Duration::from_secs(30),
            child_lifetime: Duration::from_secs(4 * 3600),
            ike_lifetime: Duration::from_secs(24 * 3600),
            shutdown_wait: Duration::from_secs(2),
            weak_groups: false,
        }
    }
}

/// An event for the responder.
#[derive(Debug)]
pub enum Input<'a> {
    /// An IKE datagram, without non-ESP marker.
    Datagram {
        /// Where it came from.
        path: Path,
        /// The IKE message.
        bytes: &'a [u8],
    },
    /// The data path has the SA of an [`Output::Install`].
    Installed {
        /// Our SPI.
        spi_in: u32,
    },
    /// Authenticated ESP came from this device.
    Alive {
        /// Whose.
        device: DeviceId,
    },
    /// Authenticated, newest ESP came from a new address.
    Moved {
        /// Whose.
        device: DeviceId,
        /// Where it is now.
        path: Path,
    },
    /// The sequence numbers of an SA come to their end.
    NearlyExhausted {
        /// Our SPI.
        spi_in: u32,
    },
    /// What clients get from now on; connected ones at the next rekey of their Child SA, which we begin at once where
    /// the client takes it. Until then they keep what they have.
    Plan(ClientPlan),
    /// Who we are and whom we let in from now on. Connected clients whom we would not let in any more are sent a Delete;
    /// the others notice nothing.
    Identity(Box<Identity>),
    /// End this device's connection.
    Disconnect(DeviceId),
    /// End all connections and take no new ones.
    Shutdown,
}

/// An effect to be carried out.
#[derive(Debug)]
pub enum Output {
    /// Send an IKE message (the marker is added where `path.marker` says so).
    Send {
        /// To where, and how.
        path: Path,
        /// The IKE message.
        bytes: Vec<u8>,
    },
    /// Register a Child SA, then say [`Input::Installed`].
    Install(Box<ChildSa>),
    /// A Child SA is gone, both directions.
    Remove {
        /// Our SPI.
        spi_in: u32,
    },
    /// Packets to the device take this SA from now on.
    UseOutbound {
        /// Our SPI of the SA.
        spi_in: u32,
    },
    /// A client is connected.
    Connected {
        /// Its number.
        device: DeviceId,
        /// Its authenticated identity.
        identity: String,
        /// Its system, as far as its messages tell.
        system: Option<System>,
        /// Its address in the pool; its inner IPv4 address, where it uses IPv4.
        address: Ipv4Addr,
        /// Its inner IPv6 address, where it has one.
        address6: Option<Ipv6Addr>,
        /// Where it is.
        path: Path,
        /// The algorithms, for people.
        suite: String,
    },
    /// A client is no longer connected.
    Gone {
        /// Its number.
        device: DeviceId,
        /// Its authenticated identity.
        identity: String,
        /// Why.
        why: GoneReason,
    },
    /// A client was heard: an authentic IKE message.
    Heard {
        /// Its number.
        device: DeviceId,
    },
    /// A client has a new IKE SA, by a rekey or by reauthentication.
    IkeRekeyed {
        /// Its number.
        device: DeviceId,
    },
    /// A client's IKE came from a new address.
    Moved {
        /// Its number.
        device: DeviceId,
        /// Its authenticated identity.
        identity: String,
        /// Where it is now.
        path: Path,
    },
    /// Something that people should read.
    Note(Event),
}

/// Gauges and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Half-open IKE SAs now.
    pub half_open: usize,
    /// IKE SAs now, half-open and closing ones included.
    pub ike_sas: usize,
    /// Child SAs now.
    pub child_sas: usize,
    /// Connected devices now.
    pub devices: usize,
    /// Messages that are not well-formed IKE, or break its rules outside protection.
    pub malformed: u64,
    /// Messages for an IKE SA that we do not have.
    pub unknown_spi: u64,
    /// Messages whose integrity check failed.
    pub bad_tag: u64,
    /// Authentic or not: message ID or exchange out of place.
    pub out_of_place: u64,
    /// Cookies asked for.
    pub cookies: u64,
    /// Messages of strangers refused: as many half-open IKE SAs as there may be, or too many messages of one source.
    pub refused: u64,
    /// Answers sent again.
    pub answered_again: u64,
    /// Failed authentications.
    pub auth_failed: u64,
    /// Our requests sent again.
    pub retransmitted: u64,
    /// Child SAs replaced.
    pub child_rekeys: u64,
    /// IKE SAs replaced.
    pub ike_rekeys: u64,
    /// Plans with more selectors than clients take.
    pub summarised: u64,
}
