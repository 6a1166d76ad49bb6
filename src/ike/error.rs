//! What can go wrong with a peer, in words for people and in notifies for the peer.

use std::fmt;
use std::net::SocketAddr;

use super::eap::EapError;
use super::lease::NoAddress;
use crate::crypto::pki::ChainError;
use crate::crypto::{self, Group};
use crate::wire::Malformed;
use crate::wire::ike::{ChainError as PayloadError, Notify, notify_type, protocol};

/// Why a peer is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// No AUTH payload: the client wants EAP (user name and password).
    EapWanted,
    /// EAP failed.
    Eap(EapError),
    /// The AUTH payload is not of the key that EAP has made.
    NotByEap,
    /// The identity has no pre-shared key here, or another one.
    PreShared,
    /// The identity is proven, but not one of those that are let in.
    NotAllowed(String),
    /// No usable CERT payload.
    NoCertificate,
    /// A certificate that cannot be read.
    Certificate(crypto::Error),
    /// No trusted chain.
    Chain(ChainError),
    /// The identity is none of the certificate's.
    NotTheCertificates,
    /// The signature does not fit.
    Signature(crypto::Error),
    /// An AUTH method that we do not have.
    Method(u8),
    /// The client cannot verify any signature that our keys can make.
    NoCommonSignature,
    /// The client insists on a post-quantum preshared key that we do not have.
    UnknownPpk,
    /// The message breaks the rules.
    Syntax(Malformed),
    /// The message has an unknown critical payload.
    Critical(u8),
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EapWanted => f.write_str(
                "the client asks for a user name and password (EAP), which --eap-users would allow; else set it to \
                 authenticate by certificate",
            ),
            Self::Eap(why) => write!(f, "{why}"),
            Self::NotByEap => f.write_str("the client's AUTH payload is not of the key that EAP has made"),
            Self::PreShared => f.write_str("the identity has no pre-shared key in --psk-file, or another one"),
            Self::NotAllowed(identity) => write!(f, "{identity:?} is proven, but no --allow-id fits it"),
            Self::NoCertificate => f.write_str("the client sent no certificate"),
            Self::Certificate(why) => write!(f, "the client's certificate cannot be read: {why}"),
            Self::Chain(why) => write!(f, "the client's certificate is not trusted: {why}"),
            Self::NotTheCertificates => {
                f.write_str("the client's identity is not in its certificate (local ID must be a subject alternative name or the subject)")
            }
            Self::Signature(why) => write!(f, "the client's signature was refused: {why}"),
            Self::Method(method) => write!(f, "authentication method {method} is not supported"),
            Self::NoCommonSignature => {
                f.write_str("the client lists no signature hash that a key of our server certificates can use")
            }
            Self::UnknownPpk => f.write_str(
                "the client insists on a post-quantum preshared key whose PPK_ID is not in the file of '--ppk-file'",
            ),
            Self::Syntax(why) => write!(f, "{why}"),
            Self::Critical(kind) => write!(f, "unknown critical payload {kind}"),
        }
    }
}

impl std::error::Error for AuthError {}

impl From<Malformed> for AuthError {
    fn from(malformed: Malformed) -> Self {
        Self::Syntax(malformed)
    }
}

impl AuthError {
    /// The notify for the peer. Everything about identity looks the same.
    pub(super) fn notify(&self) -> Vec<u8> {
        match self {
            Self::Syntax(_) => Notify::new(notify_type::INVALID_SYNTAX, &[]).emit(),
            Self::Critical(kind) => Notify::new(notify_type::UNSUPPORTED_CRITICAL_PAYLOAD, &[*kind]).emit(),
            _ => Notify::new(notify_type::AUTHENTICATION_FAILED, &[]).emit(),
        }
    }
}

/// Why a request is answered by an error notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message breaks the rules.
    Syntax(Malformed),
    /// The message has an unknown critical payload.
    Critical(u8),
    /// None of the algorithms is acceptable.
    NoProposal,
    /// Another key exchange group is wanted.
    InvalidKe(Group),
    /// No traffic selector is acceptable.
    Selectors,
    /// All addresses of the pool are in use.
    PoolExhausted,
    /// The identity is connected with as many devices as it may.
    TooManyDevices,
    /// The client asked for no address of a family that it can have.
    NoAddressAsked,
    /// More Child SAs than allowed.
    TooManyChildren,
    /// The Child SA to rekey does not exist; the peer's SPI.
    ChildNotFound(u32),
    /// Not now: another exchange is under way, or there were too many.
    Busy,
    /// This exchange follows none that we know.
    StateNotFound,
    /// The client allows no NAT, and there is one.
    UnexpectedNat,
    /// Cryptography failed on our side, or by an impossible key exchange value.
    Crypto(crypto::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(why) => write!(f, "{why}"),
            Self::Critical(kind) => write!(f, "unknown critical payload {kind}"),
            Self::NoProposal => f.write_str(
                "none of the offered algorithms is acceptable (wanted: AES-GCM-16 or ChaCha20-Poly1305, HMAC-SHA2, \
                 X25519 or P-256 or P-384)",
            ),
            Self::InvalidKe(group) => write!(f, "another key exchange group is wanted: {}", group.transform_id()),
            Self::Selectors => f.write_str("no common traffic selector"),
            Self::PoolExhausted => f.write_str("all addresses of the client pool are in use; enlarge it"),
            Self::TooManyDevices => f.write_str("this identity is connected with four devices already"),
            Self::NoAddressAsked => f.write_str("the client asked for no inner address, or only for IPv6, which is off"),
            Self::TooManyChildren => f.write_str("too many Child SAs"),
            Self::ChildNotFound(spi) => write!(f, "no Child SA {spi:08x} to rekey"),
            Self::Busy => f.write_str("another exchange is under way"),
            Self::StateNotFound => f.write_str("a key exchange that follows none"),
            Self::UnexpectedNat => f.write_str("the client allows no NAT, and there is one"),
            Self::Crypto(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Syntax(malformed)
    }
}

impl From<PayloadError> for Refusal {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::Malformed(malformed) => Self::Syntax(malformed),
            PayloadError::UnsupportedCritical(kind) => Self::Critical(kind),
        }
    }
}

impl From<crypto::Error> for Refusal {
    fn from(error: crypto::Error) -> Self {
        Self::Crypto(error)
    }
}

impl From<NoAddress> for Refusal {
    fn from(why: NoAddress) -> Self {
        match why {
            NoAddress::PoolExhausted => Self::PoolExhausted,
            NoAddress::TooManyDevices => Self::TooManyDevices,
        }
    }
}

impl Refusal {
    /// The notify for the peer.
    pub(super) fn notify(&self) -> Vec<u8> {
        let plain = |kind| Notify::new(kind, &[]).emit();
        match self {
            Self::Syntax(_) | Self::Crypto(_) => plain(notify_type::INVALID_SYNTAX),
            Self::Critical(kind) => Notify::new(notify_type::UNSUPPORTED_CRITICAL_PAYLOAD, &[*kind]).emit(),
            Self::NoProposal => plain(notify_type::NO_PROPOSAL_CHOSEN),
            Self::InvalidKe(group) => {
                Notify::new(notify_type::INVALID_KE_PAYLOAD, &group.transform_id().to_be_bytes()).emit()
            }
            Self::Selectors => plain(notify_type::TS_UNACCEPTABLE),
            Self::PoolExhausted | Self::TooManyDevices => plain(notify_type::INTERNAL_ADDRESS_FAILURE),
            Self::NoAddressAsked => plain(notify_type::FAILED_CP_REQUIRED),
            Self::TooManyChildren => plain(notify_type::NO_ADDITIONAL_SAS),
            Self::ChildNotFound(spi) => {
                let (protocol, kind) = (protocol::ESP, notify_type::CHILD_SA_NOT_FOUND);
                Notify { protocol, spi: &spi.to_be_bytes(), kind, data: &[] }.emit()
            }
            Self::Busy => plain(notify_type::TEMPORARY_FAILURE),
            Self::StateNotFound => plain(notify_type::STATE_NOT_FOUND),
            Self::UnexpectedNat => plain(notify_type::UNEXPECTED_NAT_DETECTED),
        }
    }
}

/// Something that people should read; at most a few a minute come from strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer could not be authenticated.
    AuthFailed {
        /// Who.
        remote: SocketAddr,
        /// Who it says it is.
        claimed: String,
        /// Why.
        why: AuthError,
    },
    /// An initial request of a stranger was refused.
    InitRefused {
        /// Who.
        remote: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// An authenticated client did not get what it asked for.
    ChildRefused {
        /// Who.
        identity: String,
        /// Why.
        why: Refusal,
    },
    /// A client has connected anew from the same address and port, and keeps what it had.
    Reauthenticated {
        /// Who.
        identity: String,
    },
    /// Our own rekey came to nothing; the connection is ended and the client may connect again.
    RekeyFailed {
        /// Who.
        identity: String,
    },
    /// A client does not let us rekey: changed routes reach it only when it rekeys by itself.
    PlanRefused {
        /// Who.
        identity: String,
    },
    /// A plan has more routes than clients take, so wider ones that cover them are offered.
    SelectorsSummarised {
        /// How many there are.
        wanted: usize,
        /// How many are offered.
        offered: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthFailed { remote, claimed, why } => {
                write!(f, "{remote} ({claimed}) was not let in: {why}")
            }
            Self::InitRefused { remote, why } => write!(f, "{remote} cannot connect: {why}"),
            Self::ChildRefused { identity, why } => write!(f, "{identity}: request refused: {why}"),
            Self::Reauthenticated { identity } => {
                write!(f, "{identity}: authenticated anew, takes over its old connection")
            }
            Self::RekeyFailed { identity } => write!(f, "{identity}: rekeying failed, connection ended"),
            Self::PlanRefused { identity } => {
                write!(f, "{identity}: takes no rekey from us; changed routes wait for its own")
            }
            Self::SelectorsSummarised { wanted, offered } => write!(
                f,
                "{wanted} routes are more than clients take: {offered} wider ones that cover them are offered, so \
                 other traffic takes the tunnel too"
            ),
        }
    }
}

/// Why a client is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoneReason {
    /// It said goodbye.
    PeerDeleted,
    /// It did not believe that we are who we say.
    Rejected,
    /// It did not answer any more.
    DeadPeer,
    /// The same device connected again.
    Replaced,
    /// We were told to disconnect it.
    Disconnected,
    /// Its SA came to the end of its life and was not rekeyed.
    Expired,
    /// Its certificate came to its end.
    CertificateExpired,
    /// Its certificate will not do under the authorities that we have now.
    Untrusted(ChainError),
    /// Its password or pre-shared key is not the one that we have now.
    SecretGone,
    /// It is none of the identities that are let in now.
    NotAllowed,
    /// It has no Child SA any more.
    Childless,
    /// We shut down.
    Shutdown,
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerDeleted => "disconnected by the client",
            Self::Rejected => "the client does not accept our certificate",
            Self::DeadPeer => "no answer",
            Self::Replaced => "replaced by a new connection",
            Self::Disconnected => "disconnected on request",
            Self::Expired => "not rekeyed in time",
            Self::CertificateExpired => "its certificate has expired",
            Self::Untrusted(why) => return write!(f, "its certificate is not trusted any more: {why}"),
            Self::SecretGone => "its password or pre-shared key was changed or taken away",
            Self::NotAllowed => "its identity is not allowed any more",
            Self::Childless => "no Child SA left",
            Self::Shutdown => "shutting down",
        })
    }
}
