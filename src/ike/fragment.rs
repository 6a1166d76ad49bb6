//! Sealing and opening of messages, whole or in fragments (RFC 7296 section 3.14, RFC 5282, RFC 7383).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crate::crypto::cipher::CipherKey;
use crate::crypto::{Cipher, Error, Secret};
use crate::wire::Malformed;
use crate::wire::ike::{Chain, FragmentNumber, Header, Protected, emit_protected_head, protected_head_len};

/// Longest datagram that we send to a peer that takes fragments: with the marker and an IPv6 header it makes 1280.
const LONGEST_DATAGRAM: usize = 1280 - 40 - 8 - 4;

/// Most fragments of one message; Windows was seen to send 29.
const MAX_FRAGMENTS: u16 = 64;

/// Most octets of one reassembled message of an authenticated peer.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// Octets of the Pad Length field.
const PAD_LENGTH: usize = 1;

/// How long the pieces of one message may take.
const REASSEMBLY_TIME: Duration = Duration::from_secs(30);

/// The protection of one IKE SA, seen from our side.
#[derive(Debug)]
pub(super) struct Channel {
    open: CipherKey,
    seal: CipherKey,
    next_iv: u64,
}

impl Channel {
    /// `open` and `seal` are key material of `cipher.keymat_len()` octets.
    pub(super) fn new(cipher: Cipher, open: &Secret, seal: &Secret) -> Result<Self, Error> {
        Ok(Self {
            open: CipherKey::new(cipher, open.expose())?,
            seal: CipherKey::new(cipher, seal.expose())?,
            next_iv: 0,
        })
    }

    /// Seals a message into one datagram, or into several where the peer takes fragments and it is long.
    pub(super) fn seal(
        &mut self,
        header: Header,
        chain: &Chain,
        may_fragment: bool,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let payloads = chain.bytes();
        if !may_fragment || payloads.len() <= self.room(protected_head_len(false)) {
            return Ok(vec![self.seal_one(header, chain.first(), None, payloads)?]);
        }
        let pieces = payloads.chunks(self.room(protected_head_len(true)));
        let total = u16::try_from(pieces.len()).map_err(|_| Error::Internal)?;
        let numbered = (1..=total).zip(pieces);
        numbered
            .map(|(number, piece)| {
                let first = if number == 1 { chain.first() } else { 0 };
                self.seal_one(header, first, Some(FragmentNumber { number, total }), piece)
            })
            .collect()
    }

    /// Octets of payloads that fit the longest datagram behind a head.
    #[expect(clippy::arithmetic_side_effects, reason = "lengths of our own messages, far from overflow")]
    fn room(&self, head_len: usize) -> usize {
        let cipher = self.seal.alg();
        let encrypted = LONGEST_DATAGRAM - head_len - cipher.iv_len() - cipher.tag_len();
        encrypted / cipher.block_len() * cipher.block_len() - PAD_LENGTH
    }

    #[expect(clippy::arithmetic_side_effects, reason = "lengths of our own messages, far from overflow")]
    fn seal_one(
        &mut self,
        header: Header,
        first: u8,
        fragment: Option<FragmentNumber>,
        payloads: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let cipher = self.seal.alg();
        let counter = self.next_iv;
        self.next_iv = counter.checked_add(1).ok_or(Error::Internal)?;
        let encrypted_len = (payloads.len() + PAD_LENGTH).next_multiple_of(cipher.block_len());
        let sealed_len = cipher.iv_len() + encrypted_len + cipher.tag_len();
        let head = emit_protected_head(header, first, fragment, sealed_len);
        let mut message = Vec::with_capacity(head.len() + sealed_len);
        message.extend_from_slice(&head);
        message.resize(head.len() + cipher.iv_len(), 0);
        message.extend_from_slice(payloads);
        let pad_len = encrypted_len - payloads.len() - PAD_LENGTH;
        message.resize(message.len() + pad_len, 0);
        message.push(u8::try_from(pad_len).map_err(|_| Error::Internal)?);
        message.resize(head.len() + sealed_len, 0);
        let sealed = message.get_mut(head.len()..).ok_or(Error::Internal)?;
        let (iv, rest) = sealed.split_at_mut(cipher.iv_len());
        let (encrypted, tag) = rest.split_at_mut(encrypted_len);
        self.seal.seal(counter, &head, iv, encrypted, tag)?;
        Ok(message)
    }

    /// Checks and decrypts a message or fragment; what comes back are payloads without padding.
    pub(super) fn open(&self, protected: &Protected<'_>) -> Result<Vec<u8>, OpenError> {
        let (iv, sealed) =
            protected.sealed.split_at_checked(self.open.alg().iv_len()).ok_or(OpenError::BadTag)?;
        let mut buffer = sealed.to_vec();
        let len = self.open.open(iv, protected.aad, &mut buffer).map_err(|_| OpenError::BadTag)?;
        buffer.truncate(len);
        let stripped = Protected::strip_padding(&buffer).map_err(OpenError::Malformed)?.len();
        buffer.truncate(stripped);
        Ok(buffer)
    }
}

/// Why a protected message was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Not authentic.
    BadTag,
    /// Authentic, and still wrong.
    Malformed(Malformed),
}

/// A fragment that was authentic.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) fragment: FragmentNumber,
    /// Its Next Payload field: in the first fragment the type of the first payload.
    pub(super) first: u8,
    pub(super) payloads: Vec<u8>,
}

/// The fragments of one message (RFC 7383 section 2.6).
#[derive(Debug)]
pub(super) struct Reassembly {
    /// Message ID, and whether it is a response.
    message: (u32, bool),
    total: u16,
    since: Duration,
    first: u8,
    pub(super) octets: usize,
    pieces: Vec<Option<Vec<u8>>>,
}

impl Reassembly {
    /// Adds an authenticated fragment to the set in `slot`; gives the first payload type and the payloads when the
    /// message is complete. A larger total starts again (the peer cut it smaller), a smaller one is late, and a set of
    /// more than `limit` octets is thrown away.
    pub(super) fn add(
        slot: &mut Option<Self>,
        now: Duration,
        message: (u32, bool),
        piece: Piece,
        limit: usize,
    ) -> Option<(u8, Vec<u8>)> {
        let Piece { fragment: FragmentNumber { number, total }, first, payloads } = piece;
        if total > MAX_FRAGMENTS {
            return None;
        }
        let current = slot.as_ref().is_some_and(|set| {
            set.message == message && set.total >= total && now < set.since.saturating_add(REASSEMBLY_TIME)
        });
        if !current {
            *slot = Some(Self {
                message,
                total,
                since: now,
                first: 0,
                octets: 0,
                pieces: vec![None; usize::from(total)],
            });
        }
        let set = slot.as_mut()?;
        if set.total != total {
            return None;
        }
        let place = set.pieces.get_mut(usize::from(number.checked_sub(1)?))?;
        if place.is_some() {
            return None;
        }
        if number == 1 {
            set.first = first;
        }
        set.octets = set.octets.saturating_add(payloads.len());
        if set.octets > limit {
            *slot = None;
            return None;
        }
        *place = Some(payloads);
        if set.pieces.iter().any(Option::is_none) {
            return None;
        }
        let set = slot.take()?;
        Some((set.first, set.pieces.into_iter().flatten().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Integrity;
    use crate::wire::ike::{Exchange, Kind};

    fn second(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn sets_complete_in_any_order_and_restart_on_a_larger_total() {
        let mut slot = None;
        let mut add = |at, id, number, total, piece: &[u8]| {
            let first = if number == 1 { 35 } else { 0 };
            let fragment = FragmentNumber { number, total };
            let piece = Piece { fragment, first, payloads: piece.to_vec() };
            Reassembly::add(&mut slot, second(at), (id, false), piece, MAX_MESSAGE)
        };
        assert_eq!(add(0, 1, 1, 1, b"one"), Some((35, b"one".to_vec())), "a total of one is legal");
        assert_eq!(add(0, 1, 2, 2, b"b"), None);
        assert_eq!(add(0, 1, 2, 2, b"x"), None, "a duplicate is ignored");
        assert_eq!(add(0, 1, 1, 2, b"a"), Some((35, b"ab".to_vec())));
        assert_eq!(add(0, 2, 1, 2, b"a"), None);
        assert_eq!(add(0, 2, 3, 3, b"z"), None, "cut smaller: starts again");
        assert_eq!(add(0, 2, 2, 2, b"b"), None, "late piece of the old cut");
        assert_eq!(add(0, 2, 1, 3, b"x"), None);
        assert_eq!(add(0, 2, 2, 3, b"y"), Some((35, b"xyz".to_vec())));
        assert_eq!(add(0, 3, 1, 2, b"a"), None);
        assert_eq!(add(31, 3, 2, 2, b"b"), None, "took too long");
        assert_eq!(add(32, 3, 1, 2, b"a"), Some((35, b"ab".to_vec())));
        assert_eq!(add(0, 4, 1, 65535, b"a"), None, "more fragments than we keep");
        assert_eq!(add(0, 5, 1, 2, &[0; MAX_MESSAGE]), None);
        assert_eq!(add(0, 5, 2, 2, &[0]), None, "too long");
    }

    #[test]
    fn long_messages_are_cut_below_the_limit_and_come_back() {
        for cipher in [Cipher::Aes256Gcm, Cipher::Aes128Cbc(Integrity::HmacSha512)] {
            long_message_comes_back(cipher);
        }
    }

    fn long_message_comes_back(cipher: Cipher) {
        let key = Secret::new(vec![7; cipher.keymat_len()]);
        let mut channel = Channel::new(cipher, &key, &key).unwrap();
        let mut chain = Chain::new();
        chain.push(Kind::Cert, &[9; 5000]);
        let header = Header {
            spi_i: 1,
            spi_r: 2,
            next_payload: 0,
            major: 2,
            exchange: Exchange::IkeAuth,
            initiator: false,
            response: true,
            message_id: 1,
            length: 0,
        };
        assert_eq!(channel.seal(header, &chain, false).unwrap().len(), 1);
        let datagrams = channel.seal(header, &chain, true).unwrap();
        assert_eq!(datagrams.len(), 5);
        let mut slot = None;
        let mut whole = None;
        for datagram in datagrams.iter().rev() {
            assert!(datagram.len() <= LONGEST_DATAGRAM);
            let header = Header::parse(datagram).unwrap();
            assert!(header.covers(datagram));
            let protected = Protected::parse(&header, datagram).unwrap();
            let payloads = channel.open(&protected).unwrap();
            let piece = Piece { fragment: protected.fragment.unwrap(), first: protected.first, payloads };
            whole = Reassembly::add(&mut slot, second(0), (1, false), piece, MAX_MESSAGE);
        }
        assert_eq!(whole, Some((Kind::Cert as u8, chain.bytes().to_vec())));
    }

    /// The message of RFC 7634 appendix B: an INFORMATIONAL request of the initiator that deletes nothing.
    #[test]
    fn the_message_of_rfc_7634_appendix_b() {
        let mut key: Vec<u8> = (0x80..0xa0).collect();
        key.extend([0xa0, 0xa1, 0xa2, 0xa3]);
        let key = Secret::new(key);
        let mut channel = Channel::new(Cipher::ChaCha20Poly1305, &key, &key).unwrap();
        let payloads = b"\x00\x00\x00\x0c\x00\x00\x40\x01\x00\x00\x00\x0a";
        let message = [
            &b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7"[..],
            b"\x2e\x20\x25\x00\x00\x00\x00\x09\x00\x00\x00\x45\x29\x00\x00\x29",
            b"\x10\x11\x12\x13\x14\x15\x16\x17",
            b"\x61\x03\x94\x70\x1f\x8d\x01\x7f\x7c\x12\x92\x48\x89",
            b"\x6b\x71\xbf\xe2\x52\x36\xef\xd7\xcd\xc6\x70\x66\x90\x63\x15\xb2",
        ]
        .concat();
        let header = Header::parse(&message).unwrap();
        assert!(header.covers(&message) && !header.response && !header.initiator);
        let protected = Protected::parse(&header, &message).unwrap();
        assert_eq!(protected.first, Kind::Notify as u8);
        assert_eq!(channel.open(&protected), Ok(payloads.to_vec()));
        channel.next_iv = 0x1011_1213_1415_1617;
        let sealed = channel.seal_one(header, Kind::Notify as u8, None, payloads).unwrap();
        assert_eq!(sealed, message);
    }
}
