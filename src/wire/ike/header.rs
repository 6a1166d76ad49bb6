//! The IKE header (RFC 7296 section 3.1).

use crate::wire::{Malformed, Reader};

/// Octets of the IKE header.
pub const HEADER_LEN: usize = 28;

const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;

/// Exchange types (RFC 7296 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// 34.
    IkeSaInit,
    /// 35.
    IkeAuth,
    /// 36.
    CreateChildSa,
    /// 37.
    Informational,
    /// 43 (RFC 9242).
    IkeIntermediate,
    /// 44 (RFC 9370).
    IkeFollowupKe,
    /// Any other number.
    Other(u8),
}

impl Exchange {
    /// From the number on the wire.
    pub const fn from_u8(number: u8) -> Self {
        match number {
            34 => Self::IkeSaInit,
            35 => Self::IkeAuth,
            36 => Self::CreateChildSa,
            37 => Self::Informational,
            43 => Self::IkeIntermediate,
            44 => Self::IkeFollowupKe,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::IkeSaInit => 34,
            Self::IkeAuth => 35,
            Self::CreateChildSa => 36,
            Self::Informational => 37,
            Self::IkeIntermediate => 43,
            Self::IkeFollowupKe => 44,
            Self::Other(number) => number,
        }
    }
}

/// An IKE header. SPIs are numbers; zero means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// SPI of the IKE SA's original initiator.
    pub spi_i: u64,
    /// SPI of the original responder; zero in the first message.
    pub spi_r: u64,
    /// Type of the first payload.
    pub next_payload: u8,
    /// Major version; 2 for IKEv2. The minor version is ignored on receipt and sent as 0.
    pub major: u8,
    /// Exchange type.
    pub exchange: Exchange,
    /// Flag I: the sender is the original initiator of the IKE SA.
    pub initiator: bool,
    /// Flag R: this is a response.
    pub response: bool,
    /// Message ID.
    pub message_id: u32,
    /// Length of the whole message.
    pub length: u32,
}

impl Header {
    /// Reads the header of `message`. Does not compare `length` with the octets present (see [`Header::covers`]).
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(message, "IKE header");
        let (spi_i, spi_r, next_payload, version, exchange, flags) =
            (r.u64()?, r.u64()?, r.u8()?, r.u8()?, r.u8()?, r.u8()?);
        Ok(Self {
            spi_i,
            spi_r,
            next_payload,
            major: version >> 4,
            exchange: Exchange::from_u8(exchange),
            initiator: flags & FLAG_INITIATOR != 0,
            response: flags & FLAG_RESPONSE != 0,
            message_id: r.u32()?,
            length: r.u32()?,
        })
    }

    /// True if the Length field equals the octets of `message`: anything else is an error.
    pub fn covers(&self, message: &[u8]) -> bool {
        usize::try_from(self.length).is_ok_and(|length| length == message.len())
    }

    /// The header as octets, minor version 0.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let flags =
            if self.initiator { FLAG_INITIATOR } else { 0 } | if self.response { FLAG_RESPONSE } else { 0 };
        let kinds = [self.next_payload, self.major << 4, self.exchange.number(), flags];
        let fields = self.spi_i.to_be_bytes().into_iter().chain(self.spi_r.to_be_bytes()).chain(kinds);
        let fields = fields.chain(self.message_id.to_be_bytes()).chain(self.length.to_be_bytes());
        let mut out = [0; HEADER_LEN];
        out.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        out
    }
}
