//! ESP in tunnel mode as the probe does it (RFC 4303, with the ciphers of RFC 4106, 7634 and 3602): one key per
//! direction, 32-bit sequence numbers, a strict window of 128 so that reordering by the server shows.

use std::time::Duration;

use super::ProbeError;
use crate::crypto::cipher::CipherKey;
use crate::crypto::{Cipher, Secret};

/// SPI and sequence number.
const HEADER: usize = 8;
const NEXT_HEADER_IPV4: u8 = 4;
const NEXT_HEADER_IPV6: u8 = 41;
const NEXT_HEADER_DUMMY: u8 = 59;

/// Octets in front of the inner packet: SPI, sequence number, IV.
pub(super) const fn head_len(cipher: Cipher) -> usize {
    HEADER + cipher.iv_len()
}

/// Octets of the ESP packet around an inner packet of `len`.
pub(super) const fn sealed_len(cipher: Cipher, len: usize) -> usize {
    let multiple = if cipher.block_len() < 4 { 4 } else { cipher.block_len() };
    head_len(cipher) + (len + 2).next_multiple_of(multiple) + cipher.tag_len()
}

/// Why a packet from the server was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Short,
    BadTag,
    Replayed,
    BadTrailer,
    Dummy,
}

/// The next header value of an IP packet, by its version.
fn next_header_of(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => Some(NEXT_HEADER_IPV4),
        6 => Some(NEXT_HEADER_IPV6),
        _ => None,
    }
}

/// The receiving half of a Child SA.
pub(super) struct Inbound {
    pub spi: u32,
    /// The SPI of the other direction.
    pub peer_spi: u32,
    /// When it was replaced by a newer one; removed a few seconds later.
    pub replaced_at: Option<Duration>,
    key: CipherKey,
    highest: u32,
    seen: u128,
}

impl Inbound {
    pub fn new(cipher: Cipher, spi: u32, peer_spi: u32, key: &Secret) -> Result<Self, ProbeError> {
        Ok(Self {
            spi,
            peer_spi,
            replaced_at: None,
            key: CipherKey::new(cipher, key.expose())?,
            highest: 0,
            seen: 0,
        })
    }

    /// Decrypts in place; the inner packet.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        let cipher = self.key.alg();
        let (aad, rest) = packet.split_first_chunk_mut::<HEADER>().ok_or(Refused::Short)?;
        let seq = (u64::from_be_bytes(*aad) & 0xffff_ffff) as u32;
        if !self.is_new(seq) {
            return Err(Refused::Replayed);
        }
        let (iv, sealed) = rest.split_at_mut_checked(cipher.iv_len()).ok_or(Refused::Short)?;
        let encrypted = sealed.len().checked_sub(cipher.tag_len()).ok_or(Refused::Short)?;
        if encrypted < 4 || !encrypted.is_multiple_of(cipher.block_len().max(4)) {
            return Err(Refused::Short);
        }
        let plain_len = self.key.open(iv, aad, sealed).map_err(|_| Refused::BadTag)?;
        self.mark(seq);
        let plain = sealed.get(..plain_len).ok_or(Refused::Short)?;
        let (rest, &[pad_len, next_header]) = plain.split_last_chunk::<2>().ok_or(Refused::BadTrailer)?;
        let inner_len = rest.len().checked_sub(usize::from(pad_len)).ok_or(Refused::BadTrailer)?;
        let (inner, pad) = rest.split_at(inner_len);
        if !pad.iter().zip(1u8..).all(|(byte, expected)| *byte == expected) {
            return Err(Refused::BadTrailer);
        }
        match next_header {
            NEXT_HEADER_DUMMY => Err(Refused::Dummy),
            _ if Some(next_header) == next_header_of(inner) => Ok(inner),
            _ => Err(Refused::BadTrailer),
        }
    }

    fn is_new(&self, seq: u32) -> bool {
        match self.highest.checked_sub(seq) {
            _ if seq == 0 => false,
            None => true,
            Some(age) => age < 128 && self.seen & (1 << age) == 0,
        }
    }

    fn mark(&mut self, seq: u32) {
        if let Some(ahead) = seq.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = seq;
        } else {
            self.seen |= 1 << (self.highest - seq);
        }
    }
}

/// The sending half of a Child SA.
pub(super) struct Outbound {
    pub spi: u32,
    key: CipherKey,
    seq: u32,
}

impl Outbound {
    pub fn new(cipher: Cipher, spi: u32, key: &Secret) -> Result<Self, ProbeError> {
        Ok(Self { spi, key: CipherKey::new(cipher, key.expose())?, seq: 0 })
    }

    /// The cipher.
    pub fn cipher(&self) -> Cipher {
        self.key.alg()
    }

    /// Encrypts in place: `packet` is `sealed_len(len)` octets with the inner packet of `len` behind `head_len`.
    pub fn seal(&mut self, packet: &mut [u8], len: usize) -> Result<(), ProbeError> {
        self.seq = self.seq.checked_add(1).ok_or(ProbeError::Protocol("ESP sequence numbers used up"))?;
        let cipher = self.key.alg();
        let bad = || ProbeError::Protocol("ESP buffer too small");
        let (header, rest) = packet.split_first_chunk_mut::<HEADER>().ok_or_else(bad)?;
        let (iv, rest) = rest.split_at_mut_checked(cipher.iv_len()).ok_or_else(bad)?;
        let plain_len = rest.len().checked_sub(cipher.tag_len()).ok_or_else(bad)?;
        let (plain, tag) = rest.split_at_mut_checked(plain_len).ok_or_else(bad)?;
        let pad = plain.len().checked_sub(len + 2).ok_or_else(bad)?;
        for (byte, value) in plain.iter_mut().skip(len).zip(1..=pad as u8) {
            *byte = value;
        }
        let next_header = next_header_of(plain).ok_or(ProbeError::Protocol("neither IPv4 nor IPv6"))?;
        if let Some(trailer) = plain.last_chunk_mut::<2>() {
            *trailer = [pad as u8, next_header];
        }
        *header = (u64::from(self.spi) << 32 | u64::from(self.seq)).to_be_bytes();
        self.key.seal(u64::from(self.seq), header, iv, plain, tag)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Integrity;

    fn pair(cipher: Cipher) -> (Outbound, Inbound) {
        let key = Secret::new((0..cipher.keymat_len() as u8).collect());
        (
            Outbound::new(cipher, 0x0102_0304, &key).unwrap(),
            Inbound::new(cipher, 0x0102_0304, 256, &key).unwrap(),
        )
    }

    #[test]
    fn every_length_comes_back_once() {
        for cipher in [Cipher::Aes256Gcm, Cipher::Aes256Cbc(Integrity::HmacSha1)] {
            let (mut out, mut inbound) = pair(cipher);
            let head = head_len(cipher);
            for len in 20..60 {
                let mut packet = vec![0; sealed_len(cipher, len)];
                let version = if len % 2 == 0 { 0x45 } else { 0x60 };
                packet[head..head + len].fill(version);
                out.seal(&mut packet, len).unwrap();
                assert_eq!(&packet[..8], [1, 2, 3, 4, 0, 0, 0, (len - 19) as u8]);
                let mut copy = packet.clone();
                assert_eq!(inbound.open(&mut copy), Ok(&vec![version; len][..]));
                assert_eq!(inbound.open(&mut packet), Err(Refused::Replayed));
            }
            let mut empty = vec![0; sealed_len(cipher, 20)];
            assert!(out.seal(&mut empty, 20).is_err(), "neither IPv4 nor IPv6");
            assert_eq!(inbound.open(&mut [0; 7]), Err(Refused::Short));
            assert_eq!(inbound.open(&mut [1, 2, 3, 4, 0, 0, 0, 99, 0, 0, 0, 0]), Err(Refused::Short));
        }
    }

    #[test]
    fn window_takes_late_packets_once_and_old_ones_never() {
        let (_, mut inbound) = pair(Cipher::Aes256Gcm);
        inbound.mark(200);
        assert!(inbound.is_new(73) && !inbound.is_new(72) && !inbound.is_new(200) && !inbound.is_new(0));
        inbound.mark(73);
        assert!(!inbound.is_new(73) && inbound.is_new(74) && inbound.is_new(201));
        inbound.mark(1_000_000);
        assert!(!inbound.is_new(201) && inbound.is_new(999_999));
    }
}
