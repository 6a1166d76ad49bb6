//! The Notify payload (RFC 7296 section 3.10).

use crate::wire::{Malformed, Reader};

/// Notify message types that we send or understand.
pub mod notify_type {
    /// An unknown payload had the critical bit.
    pub const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;
    /// Major version other than 2.
    pub const INVALID_MAJOR_VERSION: u16 = 5;
    /// The message breaks the rules.
    pub const INVALID_SYNTAX: u16 = 7;
    /// No proposal is acceptable.
    pub const NO_PROPOSAL_CHOSEN: u16 = 14;
    /// Another key exchange group is wanted; the data is its number.
    pub const INVALID_KE_PAYLOAD: u16 = 17;
    /// The peer could not be authenticated.
    pub const AUTHENTICATION_FAILED: u16 = 24;
    /// No more Child SAs on this IKE SA.
    pub const NO_ADDITIONAL_SAS: u16 = 35;
    /// No inner address.
    pub const INTERNAL_ADDRESS_FAILURE: u16 = 36;
    /// A configuration request was expected.
    pub const FAILED_CP_REQUIRED: u16 = 37;
    /// No selector is acceptable.
    pub const TS_UNACCEPTABLE: u16 = 38;
    /// There is a NAT where the peer allows none (RFC 4555).
    pub const UNEXPECTED_NAT_DETECTED: u16 = 41;
    /// Try again later.
    pub const TEMPORARY_FAILURE: u16 = 43;
    /// The Child SA to rekey does not exist.
    pub const CHILD_SA_NOT_FOUND: u16 = 44;
    /// Nothing is known of this exchange's beginning (RFC 9370).
    pub const STATE_NOT_FOUND: u16 = 47;
    /// The sender has no other IKE SA with us.
    pub const INITIAL_CONTACT: u16 = 16384;
    /// Hash of the sender's address and port.
    pub const NAT_DETECTION_SOURCE_IP: u16 = 16388;
    /// Hash of the receiver's address and port.
    pub const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
    /// Stateless cookie.
    pub const COOKIE: u16 = 16390;
    /// Which Child SA is rekeyed.
    pub const REKEY_SA: u16 = 16393;
    /// No traffic flow confidentiality padding, please.
    pub const ESP_TFC_PADDING_NOT_SUPPORTED: u16 = 16394;
    /// MOBIKE (RFC 4555).
    pub const MOBIKE_SUPPORTED: u16 = 16396;
    /// Another IPv4 address of the sender (RFC 4555).
    pub const ADDITIONAL_IP4_ADDRESS: u16 = 16397;
    /// Another IPv6 address of the sender (RFC 4555).
    pub const ADDITIONAL_IP6_ADDRESS: u16 = 16398;
    /// The sender has no other address any more (RFC 4555).
    pub const NO_ADDITIONAL_ADDRESSES: u16 = 16399;
    /// The sender moved (RFC 4555).
    pub const UPDATE_SA_ADDRESSES: u16 = 16400;
    /// To be returned as it is (RFC 4555).
    pub const COOKIE2: u16 = 16401;
    /// The sender's addresses and ports, which no NAT may change (RFC 4555).
    pub const NO_NATS_ALLOWED: u16 = 16402;
    /// RFC 4739; strongSwan says so.
    pub const MULTIPLE_AUTH_SUPPORTED: u16 = 16404;
    /// RFC 5685.
    pub const REDIRECT_SUPPORTED: u16 = 16406;
    /// RFC 6311; strongSwan says so.
    pub const MESSAGE_ID_SYNC_SUPPORTED: u16 = 16420;
    /// RFC 7383.
    pub const FRAGMENTATION_SUPPORTED: u16 = 16430;
    /// RFC 7427; the data is a list of 16-bit hash numbers.
    pub const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
    /// A post-quantum preshared key may be used (RFC 8784).
    pub const USE_PPK: u16 = 16435;
    /// Which one; empty in the answer (RFC 8784).
    pub const PPK_IDENTITY: u16 = 16436;
    /// The Authentication Data for a peer that does not have it (RFC 8784).
    pub const NO_PPK_AUTH: u16 = 16437;
    /// RFC 9242.
    pub const INTERMEDIATE_EXCHANGE_SUPPORTED: u16 = 16438;
    /// Links the exchanges of one rekey; the data is the responder's (RFC 9370).
    pub const ADDITIONAL_KEY_EXCHANGE: u16 = 16441;
}

/// A Notify payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify<'a> {
    /// Protocol ID, 0 where it has no SPI.
    pub protocol: u8,
    /// SPI, often empty.
    pub spi: &'a [u8],
    /// Notify Message Type; errors are below 16384.
    pub kind: u16,
    /// Notification Data.
    pub data: &'a [u8],
}

impl<'a> Notify<'a> {
    /// A notification without SPI.
    pub const fn new(kind: u16, data: &'a [u8]) -> Self {
        Self { protocol: 0, spi: &[], kind, data }
    }

    /// Reads the body of a Notify payload.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "Notify payload");
        let (protocol, spi_len, kind) = (r.u8()?, r.u8()?, r.u16()?);
        Ok(Self { protocol, spi: r.take(usize::from(spi_len))?, kind, data: r.rest() })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![self.protocol, u8::try_from(self.spi.len()).unwrap_or(u8::MAX)];
        out.extend(self.kind.to_be_bytes());
        out.extend(self.spi);
        out.extend(self.data);
        out
    }
}
