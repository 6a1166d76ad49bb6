//! The chain of payloads behind a header (RFC 7296 section 3.2).

use std::fmt;

use super::{HEADER_LEN, Header, Kind};
use crate::wire::{Malformed, Reader};

/// Most payloads in one message; the largest real ones have under twenty.
pub const MAX_PAYLOADS: usize = 64;

/// One payload of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Its type.
    pub kind: Kind,
    /// The Next Payload field; in SK and SKF the type of the first payload inside.
    pub next: u8,
    /// The octets behind the generic header.
    pub body: &'a [u8],
}

/// Why a chain of payloads is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// Lengths or counts are impossible: INVALID_SYNTAX.
    Malformed(Malformed),
    /// An unknown payload with the critical bit: UNSUPPORTED_CRITICAL_PAYLOAD with this type.
    UnsupportedCritical(u8),
}

impl From<Malformed> for ChainError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::UnsupportedCritical(kind) => write!(f, "unknown critical payload {kind}"),
        }
    }
}

impl std::error::Error for ChainError {}

/// Splits `bytes`, whose first payload is of type `first`, into payloads. Unknown payloads without the critical bit
/// are skipped; the critical bit of known ones is ignored. SK and SKF end the chain: their `next` belongs inside.
pub fn parse_chain(first: u8, bytes: &[u8]) -> Result<Vec<Payload<'_>>, ChainError> {
    let mut r = Reader::new(bytes, "payload chain");
    let mut payloads = Vec::new();
    let mut number = first;
    let mut room = MAX_PAYLOADS;
    while number != 0 {
        room = room.checked_sub(1).ok_or(r.malformed())?;
        let (next, flags, length) = (r.u8()?, r.u8()?, usize::from(r.u16()?));
        let body = r.take(length.checked_sub(4).ok_or(r.malformed())?)?;
        match Kind::from_u8(number) {
            Some(kind) => {
                payloads.push(Payload { kind, next, body });
                if matches!(kind, Kind::Sk | Kind::Skf) {
                    break;
                }
            }
            None if flags & 0x80 != 0 => return Err(ChainError::UnsupportedCritical(number)),
            None => {}
        }
        number = next;
    }
    r.finish()?;
    Ok(payloads)
}

/// A chain of payloads being written.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    first: u8,
    bytes: Vec<u8>,
    /// Where the Next Payload field of the last payload is.
    last: Option<usize>,
}

impl Chain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a payload. A body beyond 65,531 octets cannot be expressed; ours are far shorter.
    pub fn push(&mut self, kind: Kind, body: &[u8]) {
        match self.last.and_then(|at| self.bytes.get_mut(at)) {
            Some(next) => *next = kind as u8,
            None => self.first = kind as u8,
        }
        self.last = Some(self.bytes.len());
        let length = u16::try_from(body.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.bytes.extend([0, 0]);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(body);
    }

    /// Type of the first payload, 0 if there is none.
    pub fn first(&self) -> u8 {
        self.first
    }

    /// The payloads as octets.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An unencrypted message: header, then the chain. `header.next_payload` and `length` are filled in.
    pub fn emit_message(&self, header: Header) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len().saturating_add(HEADER_LEN)).unwrap_or(u32::MAX);
        let header = Header { next_payload: self.first, length, ..header };
        let mut out = header.emit().to_vec();
        out.extend(&self.bytes);
        out
    }
}
