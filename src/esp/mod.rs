//! ESP in tunnel mode over UDP (RFC 4303, RFC 3948): open, seal, replay window, sequence numbers.
//!
//! Packets are handled in place, and nothing here allocates after [`Sa::new`]. [`open`] and [`seal`] need only the
//! immutable [`Sa`], so they run on any thread; [`ReplayWindow`] and [`Sequence`] belong to the one owner of the SA.
//!
//! ```text
//! SPI 4 | sequence 4 | IV 8 | inner packet | pad 0..3 | pad length 1 | next header 1 | tag 16
//! '----- AAD -----'         '------------------- encrypted -------------------------'
//! ```
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod replay;
mod sequence;

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::base::{ChildSa, DeviceId, Reason, TrafficSelector};
use crate::crypto::aead::AeadKey;
use crate::crypto::{self, Aead};

pub use replay::ReplayWindow;
pub use sequence::Sequence;

/// Octets in front of the inner packet: ESP header and IV.
pub const HEADROOM: usize = ESP_HEADER_LEN + Aead::IV_LEN;
/// Most octets behind the inner packet: padding, trailer and tag.
pub const TAILROOM: usize = ALIGNMENT - 1 + TRAILER_LEN + Aead::TAG_LEN;

const ESP_HEADER_LEN: usize = 8;
/// Pad length and next header.
const TRAILER_LEN: usize = 2;
/// What is encrypted has a multiple of this length (RFC 4303 section 2.4).
const ALIGNMENT: usize = 4;
const MIN_LEN: usize = HEADROOM + ALIGNMENT + Aead::TAG_LEN;

/// What an ESP packet carries: the next header of its trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NextHeader {
    /// An IPv4 packet.
    Ipv4 = 4,
    /// An IPv6 packet.
    Ipv6 = 41,
}

/// Next header of a dummy packet (RFC 4303 section 2.6).
const NO_NEXT_HEADER: u8 = 59;

/// The immutable part of a Child SA pair: what opening and sealing need, and what the packets may be.
#[derive(Debug)]
pub struct Sa {
    /// Whose it is.
    pub device: DeviceId,
    /// SPI on packets to us.
    pub spi_in: u32,
    /// SPI on packets to the client.
    pub spi_out: u32,
    /// The client's inner address.
    pub address: Ipv4Addr,
    /// What the client may send to.
    pub ts_local: Vec<TrafficSelector>,
    /// What the client may send from.
    pub ts_remote: Vec<TrafficSelector>,
    inbound: AeadKey,
    outbound: AeadKey,
}

impl Sa {
    /// Expands the keys of a negotiated pair. Fails only if a key's length does not fit its cipher.
    pub fn new(child: &ChildSa) -> Result<Self, crypto::Error> {
        Ok(Self {
            device: child.device,
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            address: child.address,
            ts_local: child.ts_local.clone(),
            ts_remote: child.ts_remote.clone(),
            inbound: AeadKey::new(child.aead, child.key_in.expose())?,
            outbound: AeadKey::new(child.aead, child.key_out.expose())?,
        })
    }

    /// The cipher of both directions.
    pub fn aead(&self) -> Aead {
        self.inbound.alg()
    }
}

/// An authentic packet. Its sequence number still has to pass [`ReplayWindow::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Sequence number.
    pub seq: u32,
    /// Where the inner packet is in the buffer. Padding for traffic flow confidentiality may follow the inner packet
    /// within this range (RFC 4303 section 2.7): its own length field tells.
    pub inner: Range<usize>,
    /// What it is.
    pub next_header: NextHeader,
}

/// SPI and sequence number of an ESP packet; `None` if it is too short to be one.
#[inline]
pub fn sequence(packet: &[u8]) -> Option<(u32, u32)> {
    let (&[a, b, c, d, e, f, g, h], _) = packet.split_first_chunk::<ESP_HEADER_LEN>()?;
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

/// Authenticates and decrypts a packet in place: `packet` is the UDP payload, from the SPI on. The caller has found
/// the SA by its SPI and has asked the replay window.
///
/// # Errors
/// `EspMalformed`, `EspBadTag`, `EspDummy` (authentic, to be dropped in silence), `EspBadTrailer` (authentic, but the
/// peer broke a rule). After an error the content of the buffer is unspecified.
#[inline]
pub fn open(sa: &Sa, packet: &mut [u8]) -> Result<Opened, Reason> {
    if packet.len() < MIN_LEN || !packet.len().is_multiple_of(ALIGNMENT) {
        return Err(Reason::EspMalformed);
    }
    let (header, rest) = packet.split_first_chunk_mut::<ESP_HEADER_LEN>().ok_or(Reason::EspMalformed)?;
    let (iv, ciphertext) = rest.split_first_chunk_mut::<{ Aead::IV_LEN }>().ok_or(Reason::EspMalformed)?;

    let plaintext_len = sa.inbound.open(*iv, header, ciphertext).map_err(|_| Reason::EspBadTag)?;
    let plaintext = ciphertext.get(..plaintext_len).ok_or(Reason::EspMalformed)?;

    let &[ref body @ .., pad_len, next_header] = plaintext else { return Err(Reason::EspBadTrailer) };
    let next_header = match next_header {
        4 => NextHeader::Ipv4,
        41 => NextHeader::Ipv6,
        NO_NEXT_HEADER => return Err(Reason::EspDummy),
        _ => return Err(Reason::EspBadTrailer),
    };
    let inner_len = body.len().checked_sub(usize::from(pad_len)).ok_or(Reason::EspBadTrailer)?;
    let [_, _, _, _, a, b, c, d] = *header;
    let seq = u32::from_be_bytes([a, b, c, d]);
    Ok(Opened { seq, inner: HEADROOM..HEADROOM + inner_len, next_header })
}

/// Length of the ESP packet around an inner packet of `inner_len` octets.
pub const fn sealed_len(inner_len: usize) -> usize {
    HEADROOM + (inner_len + TRAILER_LEN).next_multiple_of(ALIGNMENT) + Aead::TAG_LEN
}

/// Encrypts a packet in place. The inner packet is at `buf[HEADROOM..HEADROOM + inner_len]`, with room for
/// [`sealed_len`] octets in all; header, IV, trailer and tag are written around it. Returns the length of the ESP
/// packet at the start of `buf`. `seq` is from [`Sequence::reserve`] and never used twice with one SA: the IV is made
/// of it (RFC 4106 section 3.1).
///
/// # Errors
/// `InnerMalformed` if the inner packet is neither IPv4 nor IPv6, `EspExhausted` for sequence number 0, `EspMalformed`
/// if `buf` is too short.
#[inline]
pub fn seal(sa: &Sa, seq: u32, buf: &mut [u8], inner_len: usize) -> Result<usize, Reason> {
    if seq == 0 {
        return Err(Reason::EspExhausted);
    }
    let total = sealed_len(inner_len);
    let packet = buf.get_mut(..total).ok_or(Reason::EspMalformed)?;
    let (header, rest) = packet.split_first_chunk_mut::<ESP_HEADER_LEN>().ok_or(Reason::EspMalformed)?;
    let (iv, rest) = rest.split_first_chunk_mut::<{ Aead::IV_LEN }>().ok_or(Reason::EspMalformed)?;
    let (plaintext, tag) = rest.split_last_chunk_mut::<{ Aead::TAG_LEN }>().ok_or(Reason::EspMalformed)?;
    let (inner, trailer) = plaintext.split_at_mut_checked(inner_len).ok_or(Reason::EspMalformed)?;

    let next_header = match inner.first().map(|octet| octet >> 4) {
        Some(4) => NextHeader::Ipv4,
        Some(6) => NextHeader::Ipv6,
        _ => return Err(Reason::InnerMalformed),
    };
    let pad_len = trailer.len() - TRAILER_LEN;
    for (value, octet) in (1..).zip(trailer.iter_mut()) {
        *octet = value;
    }
    if let [.., last_but_one, last] = trailer {
        *last_but_one = pad_len as u8; // at most 3
        *last = next_header as u8;
    }

    let [a, b, c, d] = sa.spi_out.to_be_bytes();
    let [e, f, g, h] = seq.to_be_bytes();
    *header = [a, b, c, d, e, f, g, h];
    *iv = u64::from(seq).to_be_bytes();
    *tag = sa.outbound.seal(*iv, header, plaintext).map_err(|_| Reason::EspMalformed)?;
    Ok(total)
}

#[cfg(test)]
mod tests;
