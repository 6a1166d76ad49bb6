//! The frame of SK and SKF payloads (RFC 7296 section 3.14, RFC 5282, RFC 7383): where the associated data ends.

use super::{HEADER_LEN, Header, Kind};
use crate::wire::{Malformed, Reader};

/// Fragment Number and Total Fragments of an SKF payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentNumber {
    /// From 1.
    pub number: u16,
    /// At least `number`.
    pub total: u16,
}

/// A message whose only outer payload is SK or SKF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protected<'a> {
    /// Type of the first payload inside (0 in fragments after the first).
    pub first: u8,
    /// Set for SKF.
    pub fragment: Option<FragmentNumber>,
    /// Associated data: the header up to the octet before the IV.
    pub aad: &'a [u8],
    /// IV, ciphertext and tag. Inside the ciphertext: payloads, padding, Pad Length.
    pub sealed: &'a [u8],
}

impl<'a> Protected<'a> {
    /// Finds the SK or SKF payload of `message`, which must stand alone and fill it.
    pub fn parse(header: &Header, message: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(message, "SK payload");
        r.take(HEADER_LEN)?;
        let is_fragment = match Kind::from_u8(header.next_payload) {
            Some(Kind::Sk) => false,
            Some(Kind::Skf) => true,
            _ => return Err(r.malformed()),
        };
        let (first, _flags, length) = (r.u8()?, r.u8()?, usize::from(r.u16()?));
        if Some(length) != message.len().checked_sub(HEADER_LEN) {
            return Err(r.malformed());
        }
        let fragment = if is_fragment {
            let fragment = FragmentNumber { number: r.u16()?, total: r.u16()? };
            if fragment.number == 0 || fragment.number > fragment.total {
                return Err(r.malformed());
            }
            Some(fragment)
        } else {
            None
        };
        let aad =
            message.len().checked_sub(r.len()).and_then(|len| message.get(..len)).ok_or(r.malformed())?;
        Ok(Self { first, fragment, aad, sealed: r.rest() })
    }

    /// Removes padding from an opened SK or SKF payload.
    pub fn strip_padding(plaintext: &[u8]) -> Result<&[u8], Malformed> {
        let bad = Malformed("padding of SK payload");
        let (pad, rest) = plaintext.split_last().ok_or(bad)?;
        let len = rest.len().checked_sub(usize::from(*pad)).ok_or(bad)?;
        rest.get(..len).ok_or(bad)
    }
}

/// Octets in front of the IV.
pub const fn protected_head_len(fragment: bool) -> usize {
    if fragment { HEADER_LEN + 8 } else { HEADER_LEN + 4 }
}

/// Header and generic header (and fragment numbers) of a protected message, which is the associated data.
/// `sealed_len` counts everything behind: IV, ciphertext, tag. `first` is the first payload inside.
pub fn emit_protected_head(
    header: Header,
    first: u8,
    fragment: Option<FragmentNumber>,
    sealed_len: usize,
) -> Vec<u8> {
    let head_len = protected_head_len(fragment.is_some());
    let kind = if fragment.is_some() { Kind::Skf } else { Kind::Sk };
    let length = u32::try_from(head_len.saturating_add(sealed_len)).unwrap_or(u32::MAX);
    let payload_len = u16::try_from(length.saturating_sub(HEADER_LEN as u32)).unwrap_or(u16::MAX);
    let mut out = Header { next_payload: kind as u8, length, ..header }.emit().to_vec();
    out.extend([first, 0]);
    out.extend(payload_len.to_be_bytes());
    if let Some(FragmentNumber { number, total }) = fragment {
        out.extend(number.to_be_bytes());
        out.extend(total.to_be_bytes());
    }
    out
}
