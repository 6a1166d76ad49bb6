//! Proposals and transforms of the SA payload (RFC 7296 section 3.3).

use crate::wire::{Malformed, Reader};

/// Most proposals in one SA payload; Windows sends about thirty.
pub const MAX_PROPOSALS: usize = 64;

const ATTRIBUTE_KEY_LENGTH: u16 = 14;

/// Protocol IDs.
pub mod protocol {
    /// IKE.
    pub const IKE: u8 = 1;
    /// ESP.
    pub const ESP: u8 = 3;
}

/// Transform types.
pub mod transform_type {
    /// Encryption.
    pub const ENCR: u8 = 1;
    /// Pseudo-random function.
    pub const PRF: u8 = 2;
    /// Integrity.
    pub const INTEG: u8 = 3;
    /// Key exchange method.
    pub const KE: u8 = 4;
    /// Extended sequence numbers.
    pub const ESN: u8 = 5;
    /// Additional key exchanges 1 to 7 (RFC 9370).
    pub const ADDITIONAL_KE: std::ops::RangeInclusive<u8> = 6..=12;
}

/// The attributes of a transform: only Key Length is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLength {
    /// No attribute.
    Absent,
    /// Key Length once, in the short form.
    Bits(u16),
    /// Anything else: the transform is not usable.
    Odd,
}

/// One transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Transform type.
    pub kind: u8,
    /// Transform ID.
    pub id: u16,
    /// Its attribute.
    pub key_length: KeyLength,
}

impl Transform {
    /// A transform without attributes.
    pub const fn new(kind: u8, id: u16) -> Self {
        Self { kind, id, key_length: KeyLength::Absent }
    }
}

/// One proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number, to be echoed.
    pub number: u8,
    /// Protocol ID.
    pub protocol: u8,
    /// SPI of the sender: 0, 4 or 8 octets.
    pub spi: Vec<u8>,
    /// What it offers.
    pub transforms: Vec<Transform>,
}

/// Reads the body of an SA payload.
pub fn parse_proposals(body: &[u8]) -> Result<Vec<Proposal>, Malformed> {
    let mut r = Reader::new(body, "SA payload");
    let mut proposals = Vec::new();
    loop {
        let (more, _reserved, length) = (r.u8()?, r.u8()?, usize::from(r.u16()?));
        let mut p = r.sub(length.checked_sub(4).ok_or(r.malformed())?, "proposal")?;
        let (number, protocol, spi_len, count) = (p.u8()?, p.u8()?, p.u8()?, p.u8()?);
        let spi = p.take(usize::from(spi_len))?.to_vec();
        let transforms = parse_transforms(&mut p, count)?;
        proposals.push(Proposal { number, protocol, spi, transforms });
        match more {
            0 => break,
            2 if proposals.len() < MAX_PROPOSALS => {}
            _ => return Err(r.malformed()),
        }
    }
    r.finish()?;
    Ok(proposals)
}

fn parse_transforms(p: &mut Reader<'_>, count: u8) -> Result<Vec<Transform>, Malformed> {
    let mut transforms = Vec::new();
    for left in (0..count).rev() {
        let (more, _reserved, length) = (p.u8()?, p.u8()?, usize::from(p.u16()?));
        if more != if left == 0 { 0 } else { 3 } {
            return Err(p.malformed());
        }
        let mut t = p.sub(length.checked_sub(4).ok_or(p.malformed())?, "transform")?;
        let (kind, _reserved, id) = (t.u8()?, t.u8()?, t.u16()?);
        transforms.push(Transform { kind, id, key_length: parse_key_length(t)? });
    }
    p.finish()?;
    Ok(transforms)
}

fn parse_key_length(mut t: Reader<'_>) -> Result<KeyLength, Malformed> {
    let mut found = KeyLength::Absent;
    while !t.is_empty() {
        let (kind, value) = (t.u16()?, t.u16()?);
        found = match (kind & 0x8000 != 0, kind & 0x7fff, found) {
            (true, ATTRIBUTE_KEY_LENGTH, KeyLength::Absent) => KeyLength::Bits(value),
            (true, ..) => KeyLength::Odd,
            (false, ..) => {
                t.take(usize::from(value))?;
                KeyLength::Odd
            }
        };
    }
    Ok(found)
}

/// Writes the body of an SA payload. At most 255 transforms per proposal.
pub fn emit_proposals(proposals: &[Proposal]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, proposal) in proposals.iter().enumerate() {
        let mut body = vec![
            proposal.number,
            proposal.protocol,
            u8::try_from(proposal.spi.len()).unwrap_or(u8::MAX),
            u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX),
        ];
        body.extend(&proposal.spi);
        for (index, transform) in proposal.transforms.iter().enumerate() {
            let more = if is_last(index, proposal.transforms.len()) { 0 } else { 3 };
            let bits = if let KeyLength::Bits(bits) = transform.key_length { Some(bits) } else { None };
            body.extend([more, 0, 0, if bits.is_some() { 12 } else { 8 }, transform.kind, 0]);
            body.extend(transform.id.to_be_bytes());
            if let Some(bits) = bits {
                body.extend((0x8000 | ATTRIBUTE_KEY_LENGTH).to_be_bytes());
                body.extend(bits.to_be_bytes());
            }
        }
        out.extend([if is_last(index, proposals.len()) { 0 } else { 2 }, 0]);
        out.extend(u16::try_from(body.len().saturating_add(4)).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(body);
    }
    out
}

fn is_last(index: usize, len: usize) -> bool {
    len.checked_sub(1) == Some(index)
}
