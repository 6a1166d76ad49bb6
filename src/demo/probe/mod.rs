//! A blocking IKEv2 initiator in user space: IKE, ESP in UDP and a TCP/IP stack behind one socket.
//!
//! It shares bytes-level helpers and cryptography with the rest of the program, and nothing of `ike`, `esp` or
//! `nat`: an error that both ends make alike would not show. One background thread receives; callers' threads send.

mod auth;
mod client;
mod dns;
mod esp;
mod handshake;
mod http;
mod link;
mod message;
mod proposal;
mod raw;
mod sa;
mod shared;
mod stack;
mod stream;

pub use client::Client;
pub use dns::{DnsAnswer, RecordType, Transport};
pub use http::HttpResponse;
pub use proposal::Suite;
pub use raw::RawTunnel;
pub use stream::Stream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::crypto::pki::ChainError;
use crate::crypto::{self, Cipher, Group};
use crate::wire::Malformed;

/// What the probe needs to know to connect.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The server's IKE port (500).
    pub server: SocketAddr,
    /// The server's port for IKE and ESP behind NAT (4500), at the same address.
    pub nat_port: u16,
    /// Certificates of the authorities that are trusted, PEM.
    pub ca_pem: String,
    /// The client's certificate and its intermediates, PEM, own certificate first.
    pub cert_pem: String,
    /// The client's private key, PEM.
    pub key_pem: String,
    /// IDi: an address, mail address or host name by its looks; `None` sends the certificate's subject.
    pub identity: Option<String>,
    /// The name that the server must prove: sent as IDr and looked for in its certificate.
    pub server_id: String,
    /// Suites for the IKE SA, one proposal each.
    pub suites: Vec<Suite>,
    /// The group of the first KE payload; one that the responder does not choose makes it ask again.
    pub key_exchange: Group,
    /// ESP ciphers, one proposal each.
    pub esp: Vec<Cipher>,
    /// Largest IKE message in octets that goes out in one piece; 0 = do not announce fragmentation at all.
    pub fragment_size: usize,
    /// Send SIGNATURE_HASH_ALGORITHMS: AUTH method 14 both ways. Windows and Apple clients do not.
    pub list_hashes: bool,
    /// Ask for IPv6 inside the tunnel too: address, DNS servers and domains.
    pub ipv6: bool,
    /// Largest inner packet in octets.
    pub mtu: usize,
    /// TCP buffer of a stream in each direction, in octets. The stack has no congestion control and recovers slowly
    /// from bursts of loss: it should fit into the receive buffers on the way.
    pub tcp_buffer: usize,
    /// How long calls wait for an answer through the tunnel.
    pub timeout: Duration,
}

impl ClientConfig {
    /// Defaults: AES-256-GCM, HMAC-SHA-256, X25519; fragments of 1200 octets; inner MTU 1400.
    pub fn new(server: SocketAddr, nat_port: u16, server_id: &str) -> Self {
        Self {
            server,
            nat_port,
            ca_pem: String::new(),
            cert_pem: String::new(),
            key_pem: String::new(),
            identity: None,
            server_id: server_id.to_owned(),
            suites: vec![Suite::default()],
            key_exchange: Group::X25519,
            esp: vec![Cipher::Aes256Gcm],
            fragment_size: 1200,
            list_hashes: true,
            ipv6: false,
            mtu: 1400,
            tcp_buffer: 64 * 1024,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What the probe counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// IKE requests sent again.
    pub retransmissions: u64,
    /// COOKIE answers to IKE_SA_INIT.
    pub cookies: u64,
    /// INVALID_KE_PAYLOAD answers to IKE_SA_INIT.
    pub invalid_ke: u64,
    /// IKE fragments sent.
    pub fragments_out: u64,
    /// IKE fragments received.
    pub fragments_in: u64,
    /// IKE requests of the server that were answered.
    pub peer_requests: u64,
    /// IKE datagrams that did not belong here or did not decrypt.
    pub ike_refused: u64,
    /// ESP packets sent.
    pub esp_out: u64,
    /// ESP packets accepted.
    pub esp_in: u64,
    /// ESP packets for an SPI that is not ours.
    pub esp_unknown_spi: u64,
    /// ESP packets that came twice, or more than 128 late.
    pub esp_replayed: u64,
    /// ESP packets with a wrong tag, trailer or length.
    pub esp_bad: u64,
    /// Datagrams from elsewhere than the server.
    pub strangers: u64,
    /// Datagrams that the system did not take.
    pub send_lost: u64,
}

/// Why the probe could not do what it was asked to.
#[derive(Debug)]
pub enum ProbeError {
    /// The system refused something.
    Io(io::Error),
    /// A certificate, key or cryptographic operation is bad.
    Crypto(crypto::Error),
    /// A message of the server does not have its form.
    Malformed(Malformed),
    /// The server broke a rule of IKEv2.
    Protocol(&'static str),
    /// The server answered an exchange with an error notification (RFC 7296 section 3.10.1).
    Refused {
        /// Exchange type.
        exchange: u8,
        /// Notify message type.
        notify: u16,
    },
    /// The server did not prove who it is.
    ServerAuth(&'static str),
    /// The server's certificate does not lead to a trusted authority.
    ServerChain(ChainError),
    /// The configuration cannot work.
    Config(&'static str),
    /// Nothing came in time; the text says what was waited for.
    Timeout(&'static str),
    /// The IKE SA is closed.
    Closed,
    /// A DNS, HTTP or TCP peer inside the tunnel failed.
    Inner(String),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Crypto(e) => write!(f, "{e}"),
            Self::Malformed(e) => write!(f, "from the server: {e}"),
            Self::Protocol(what) => write!(f, "the server broke a rule: {what}"),
            Self::Refused { exchange, notify } => {
                write!(f, "the server refused exchange {exchange} with notification {notify}")
            }
            Self::ServerAuth(why) => write!(f, "the server did not authenticate: {why}"),
            Self::ServerChain(why) => write!(f, "the server's certificate is not trusted: {why}"),
            Self::Config(why) => write!(f, "unusable configuration: {why}"),
            Self::Timeout(what) => write!(f, "timed out waiting for {what}"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::Inner(why) => write!(f, "inside the tunnel: {why}"),
        }
    }
}

impl std::error::Error for ProbeError {}

impl From<io::Error> for ProbeError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<crypto::Error> for ProbeError {
    fn from(e: crypto::Error) -> Self {
        Self::Crypto(e)
    }
}

impl From<ChainError> for ProbeError {
    fn from(e: ChainError) -> Self {
        Self::ServerChain(e)
    }
}

impl From<Malformed> for ProbeError {
    fn from(e: Malformed) -> Self {
        Self::Malformed(e)
    }
}

/// Time since a start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

#[expect(clippy::disallowed_methods, reason = "the probe is no protocol core: it waits on sockets itself")]
impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Wall clock, for certificates.
    pub fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
