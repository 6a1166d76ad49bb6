//! ESP in tunnel mode over UDP (RFC 4303, RFC 3948): open, seal, replay window, sequence numbers.
//!
//! Packets are handled in place, and nothing here allocates after [`Sa::new`]. [`open`] and [`seal`] need only the
//! immutable [`Sa`], so they run on any thread; [`ReplayWindow`] and [`Sequence`] belong to the one owner of the SA.
//!
//! ```text
//! SPI 4 | sequence 4 | IV 8 or 16 | inner packet | pad | pad length 1 | next header 1 | tag 12..32
//! '----- AAD -----'               '---------------- encrypted -------------------'
//! ```
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod replay;
mod sequence;

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::base::{ChildSa, DeviceId, Reason, TrafficSelector};
use crate::crypto::cipher::{CipherKey, Sealing};
use crate::crypto::{self, Cipher};

pub use crate::crypto::cipher::LANES;
pub use replay::ReplayWindow;
pub use sequence::Sequence;

const ESP_HEADER_LEN: usize = 8;
/// Pad length and next header.
const TRAILER_LEN: usize = 2;
/// What is encrypted has a multiple of this length at least (RFC 4303 section 2.4).
const ALIGNMENT: usize = 4;
/// Outer headers of ESP in UDP over IPv4.
const OUTER_LEN: usize = 20 + 8;

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
    layout: Layout,
    inbound: CipherKey,
    outbound: CipherKey,
}

/// Where the parts of a packet are: a matter of the cipher.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Octets of ESP header and IV.
    headroom: usize,
    /// What is encrypted has a multiple of so many octets.
    alignment: usize,
    tag_len: usize,
}

impl Layout {
    fn new(cipher: Cipher) -> Self {
        Self {
            headroom: ESP_HEADER_LEN + cipher.iv_len(),
            alignment: cipher.block_len().max(ALIGNMENT),
            tag_len: cipher.tag_len(),
        }
    }

    fn sealed_len(self, inner_len: usize) -> usize {
        self.headroom + (inner_len + TRAILER_LEN).next_multiple_of(self.alignment) + self.tag_len
    }
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
            layout: Layout::new(child.cipher),
            inbound: CipherKey::new(child.cipher, child.key_in.expose())?,
            outbound: CipherKey::new(child.cipher, child.key_out.expose())?,
        })
    }

    /// The cipher of both directions.
    pub fn cipher(&self) -> Cipher {
        self.inbound.alg()
    }

    /// Octets in front of the inner packet: ESP header and IV.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.layout.headroom
    }

    /// Length of the ESP packet around an inner packet of `inner_len` octets.
    #[inline]
    pub fn sealed_len(&self, inner_len: usize) -> usize {
        self.layout.sealed_len(inner_len)
    }

    /// The largest inner packet whose ESP packet, in UDP over IPv4, has at most `mtu` octets.
    pub fn inner_mtu(&self, mtu: usize) -> usize {
        let Layout { headroom, alignment, tag_len } = self.layout;
        let encrypted = mtu.saturating_sub(OUTER_LEN + headroom + tag_len);
        (encrypted / alignment * alignment).saturating_sub(TRAILER_LEN)
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
    let Layout { headroom, alignment, tag_len } = sa.layout;
    let encrypted = packet.len().checked_sub(headroom + tag_len).ok_or(Reason::EspMalformed)?;
    if encrypted == 0 || !encrypted.is_multiple_of(alignment) {
        return Err(Reason::EspMalformed);
    }
    let (header, rest) = packet.split_first_chunk_mut::<ESP_HEADER_LEN>().ok_or(Reason::EspMalformed)?;
    let (iv, ciphertext) =
        rest.split_at_mut_checked(headroom - ESP_HEADER_LEN).ok_or(Reason::EspMalformed)?;

    let plaintext_len = sa.inbound.open(iv, header, ciphertext).map_err(|_| Reason::EspBadTag)?;
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
    Ok(Opened { seq, inner: headroom..headroom + inner_len, next_header })
}

/// Encrypts a packet in place. The inner packet is behind [`Sa::headroom`] octets of `buf` and has `inner_len` octets,
/// with room for [`Sa::sealed_len`] octets in all; header, IV, trailer and tag are written around it. Returns the
/// length of the ESP packet at the start of `buf`. `seq` is from [`Sequence::reserve`] and never used twice with one
/// SA: the IV is made of it (RFC 4106 section 3.1).
///
/// # Errors
/// `InnerMalformed` if the inner packet is neither IPv4 nor IPv6, `EspExhausted` for sequence number 0, `EspMalformed`
/// if `buf` is too short.
#[inline]
pub fn seal(sa: &Sa, seq: u32, buf: &mut [u8], inner_len: usize) -> Result<usize, Reason> {
    let total = lay_out(sa, seq, buf, inner_len)?;
    let packet = buf.get_mut(..total).ok_or(Reason::EspMalformed)?;
    let Sealing { counter, aad, iv, in_out, tag } = parts(sa, packet).ok_or(Reason::EspMalformed)?;
    sa.outbound.seal(counter, aad, iv, in_out, tag).map_err(|_| Reason::EspMalformed)?;
    Ok(total)
}

/// Like [`seal`], for several packets, each of which [`lay_out`] has prepared and is the whole of its slice. Where the
/// cipher is AES-CBC, this costs a fraction of sealing one after the other.
///
/// # Errors
/// `EspMalformed` if one of them is too short, or if there are more than [`LANES`].
pub fn seal_all<'a>(sa: &Sa, packets: impl Iterator<Item = &'a mut [u8]>) -> Result<(), Reason> {
    let mut sealings: [Sealing<'_>; LANES] = Default::default();
    let mut count = 0;
    for packet in packets {
        let sealing = sealings.get_mut(count).ok_or(Reason::EspMalformed)?;
        *sealing = parts(sa, packet).ok_or(Reason::EspMalformed)?;
        count += 1;
    }
    let sealings = sealings.get_mut(..count).unwrap_or_default();
    sa.outbound.seal_all(sealings).map_err(|_| Reason::EspMalformed)
}

/// Writes header and trailer around an inner packet, as [`seal`] does, and encrypts nothing yet. Returns the length of
/// the ESP packet at the start of `buf`.
///
/// # Errors
/// Those of [`seal`].
#[inline]
pub fn lay_out(sa: &Sa, seq: u32, buf: &mut [u8], inner_len: usize) -> Result<usize, Reason> {
    if seq == 0 {
        return Err(Reason::EspExhausted);
    }
    let Layout { headroom, tag_len, .. } = sa.layout;
    let total = sa.sealed_len(inner_len);
    let packet = buf.get_mut(..total).ok_or(Reason::EspMalformed)?;
    let (header, rest) = packet.split_first_chunk_mut::<ESP_HEADER_LEN>().ok_or(Reason::EspMalformed)?;
    let plaintext = headroom - ESP_HEADER_LEN..total - ESP_HEADER_LEN - tag_len;
    let plaintext = rest.get_mut(plaintext).ok_or(Reason::EspMalformed)?;
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
        *last_but_one = pad_len as u8; // less than the alignment
        *last = next_header as u8;
    }

    let [a, b, c, d] = sa.spi_out.to_be_bytes();
    let [e, f, g, h] = seq.to_be_bytes();
    *header = [a, b, c, d, e, f, g, h];
    Ok(total)
}

/// The parts of a packet that is laid out.
#[inline]
fn parts<'a>(sa: &Sa, packet: &'a mut [u8]) -> Option<Sealing<'a>> {
    let Layout { headroom, tag_len, .. } = sa.layout;
    let (_, seq) = sequence(packet)?;
    let (aad, rest) = packet.split_at_mut_checked(ESP_HEADER_LEN)?;
    let (iv, rest) = rest.split_at_mut_checked(headroom.checked_sub(ESP_HEADER_LEN)?)?;
    let (in_out, tag) = rest.split_at_mut_checked(rest.len().checked_sub(tag_len)?)?;
    Some(Sealing { counter: u64::from(seq), aad, iv, in_out, tag })
}

#[cfg(test)]
mod tests;
