//! An IKE SA as its initiator sees it: keys, SK payloads, fragments (RFC 7296 sections 2.14 and 3.14, RFC 5282, RFC 7383).

use std::collections::BTreeMap;

use super::ProbeError;
use super::message::{
    FLAG_INITIATOR, FLAG_RESPONSE, HEADER_LEN, Header, Message, Payload, emit_chain, kind, parse_chain,
};
use super::proposal::Suite;
use crate::crypto::cipher::CipherKey;
use crate::crypto::prf::{prf, prf_plus};
use crate::crypto::{Prf, Secret};
use crate::wire::{Malformed, Reader};

/// More fragments than any sane message has.
const MAX_FRAGMENTS: u16 = 64;

/// The keys of an IKE SA.
pub(super) struct Keys {
    pub prf: Prf,
    pub sk_d: Secret,
    pub sk_pi: Secret,
    pub sk_pr: Secret,
    seal: CipherKey,
    open: CipherKey,
}

impl Keys {
    /// Stretches SKEYSEED in the order SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi, SK_pr (an AEAD has no SK_a).
    fn derive(
        suite: Suite,
        skeyseed: &Secret,
        nonces: [&[u8]; 2],
        spis: [u64; 2],
    ) -> Result<Self, ProbeError> {
        let (prf_len, cipher) = (suite.prf.output_len(), suite.cipher);
        let [spi_i, spi_r] = spis.map(u64::to_be_bytes);
        let seed = [nonces[0], nonces[1], &spi_i, &spi_r];
        let len = 3 * prf_len + 2 * cipher.keymat_len();
        let keymat = prf_plus(suite.prf, skeyseed.expose(), &seed, len)?;
        let mut r = Reader::new(keymat.expose(), "key material");
        let mut next = |len| r.take(len);
        let sk_d = Secret::from(next(prf_len)?);
        let (sk_ai, sk_ar) = (next(cipher.integrity_len())?, next(cipher.integrity_len())?);
        let (sk_ei, sk_er) = (next(cipher.encryption_len())?, next(cipher.encryption_len())?);
        let (sk_pi, sk_pr) = (Secret::from(next(prf_len)?), Secret::from(next(prf_len)?));
        let key = |encryption: &[u8], mac: &[u8]| {
            CipherKey::new(cipher, Secret::new([encryption, mac].concat()).expose())
        };
        let (seal, open) = (key(sk_ei, sk_ai)?, key(sk_er, sk_ar)?);
        Ok(Self { prf: suite.prf, sk_d, sk_pi, sk_pr, seal, open })
    }

    /// Keys of a first IKE SA: SKEYSEED = prf(Ni | Nr, g^ir).
    pub fn initial(
        suite: Suite,
        shared: &Secret,
        nonces: [&[u8]; 2],
        spis: [u64; 2],
    ) -> Result<Self, ProbeError> {
        let skeyseed = prf(suite.prf, &nonces.concat(), &[shared.expose()]);
        Self::derive(suite, &skeyseed, nonces, spis)
    }

    /// Keys after an IKE rekey: SKEYSEED = prf(SK_d, g^ir | Ni | Nr) with the old SA's PRF.
    pub fn rekeyed(
        &self,
        suite: Suite,
        shared: &Secret,
        nonces: [&[u8]; 2],
        spis: [u64; 2],
    ) -> Result<Self, ProbeError> {
        let skeyseed = prf(self.prf, self.sk_d.expose(), &[shared.expose(), nonces[0], nonces[1]]);
        Self::derive(suite, &skeyseed, nonces, spis)
    }

    /// Key material of a Child SA: the initiator's sending key, then the responder's.
    pub fn child(
        &self,
        shared: Option<&Secret>,
        nonces: [&[u8]; 2],
        len: usize,
    ) -> Result<[Secret; 2], ProbeError> {
        let mut seed = vec![nonces[0], nonces[1]];
        if let Some(shared) = shared {
            seed.insert(0, shared.expose());
        }
        let keymat = prf_plus(self.prf, self.sk_d.expose(), &seed, 2 * len)?;
        let (out, inbound) = keymat.expose().split_at(len);
        Ok([Secret::from(out), Secret::from(inbound)])
    }
}

/// Fragments of one message that came so far.
#[derive(Default)]
struct Partial {
    total: u16,
    first_inner: u8,
    pieces: BTreeMap<u16, Vec<u8>>,
}

/// An IKE SA.
pub(super) struct IkeSa {
    pub spi_i: u64,
    pub spi_r: u64,
    pub suite: Suite,
    pub keys: Keys,
    /// Message ID of our next request.
    pub next_request: u32,
    /// Message ID of the peer's next request.
    pub next_peer_request: u32,
    /// The response to the peer's last request, for when it asks again.
    pub last_response: Vec<Vec<u8>>,
    /// Largest message that is sent in one piece; 0 = fragments were not negotiated.
    pub fragment_size: usize,
    iv: u64,
    partial: BTreeMap<(bool, u32), Partial>,
}

impl IkeSa {
    pub fn new(suite: Suite, keys: Keys, spis: [u64; 2], fragment_size: usize) -> Self {
        let [spi_i, spi_r] = spis;
        Self {
            spi_i,
            spi_r,
            suite,
            keys,
            next_request: 0,
            next_peer_request: 0,
            last_response: Vec::new(),
            fragment_size,
            iv: 0,
            partial: BTreeMap::new(),
        }
    }

    /// Encrypts a message; more than one datagram if it needs fragments. `response` says whether it is one.
    pub fn seal(
        &mut self,
        exchange: u8,
        response: bool,
        message_id: u32,
        payloads: &[Payload],
    ) -> Result<Vec<Vec<u8>>, ProbeError> {
        let (first, chain) = emit_chain(payloads);
        let flags = FLAG_INITIATOR | if response { FLAG_RESPONSE } else { 0 };
        let (spi_i, spi_r) = (self.spi_i, self.spi_r);
        let header = |next| Header { spi_i, spi_r, next, exchange, flags, message_id };
        if self.fragment_size == 0 || chain.len() <= self.room(4) {
            return Ok(vec![self.seal_one(header(kind::SK), first, &[], &chain)?]);
        }
        let room = self.room(8).max(1);
        let total = chain.len().div_ceil(room) as u16;
        let pieces = chain.chunks(room).zip(1u16..);
        pieces
            .map(|(piece, number)| {
                let numbers = [number.to_be_bytes(), total.to_be_bytes()].concat();
                let first = if number == 1 { first } else { 0 };
                self.seal_one(header(kind::SKF), first, &numbers, piece)
            })
            .collect()
    }

    /// Octets of payloads that fit a datagram of `fragment_size`, behind a generic header of `generic_len`.
    fn room(&self, generic_len: usize) -> usize {
        let cipher = self.keys.seal.alg();
        let overhead = HEADER_LEN + generic_len + cipher.iv_len() + cipher.tag_len();
        let encrypted = self.fragment_size.saturating_sub(overhead);
        (encrypted / cipher.block_len() * cipher.block_len()).saturating_sub(1)
    }

    fn seal_one(
        &mut self,
        header: Header,
        first: u8,
        numbers: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, ProbeError> {
        let cipher = self.keys.seal.alg();
        let encrypted_len = (plain.len() + 1).next_multiple_of(cipher.block_len());
        let body = 4 + numbers.len() + cipher.iv_len() + encrypted_len + cipher.tag_len();
        let mut out = Vec::with_capacity(HEADER_LEN + body);
        header.emit(&mut out, body);
        out.extend([first, 0]);
        out.extend((body as u16).to_be_bytes());
        out.extend(numbers);
        let mut sealed = plain.to_vec();
        sealed.resize(encrypted_len, 0);
        if let Some(pad_len) = sealed.last_mut() {
            *pad_len = (encrypted_len - plain.len() - 1) as u8;
        }
        let (mut iv, mut tag) = (vec![0; cipher.iv_len()], vec![0; cipher.tag_len()]);
        self.keys.seal.seal(self.iv, &out, &mut iv, &mut sealed, &mut tag)?;
        self.iv += 1;
        [iv, sealed, tag].iter().for_each(|part| out.extend(part));
        Ok(out)
    }

    /// Decrypts a datagram of this SA. `Ok(None)`: a fragment, and more are missing.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Option<Message>, ProbeError> {
        let header = Header::parse(datagram)?;
        if (header.spi_i, header.spi_r) != (self.spi_i, self.spi_r) {
            return Err(ProbeError::Protocol("IKE message of another SA"));
        }
        if header.flags & FLAG_INITIATOR != 0 {
            return Err(ProbeError::Protocol("the responder set the initiator flag"));
        }
        let fragment = header.next == kind::SKF;
        if !fragment && header.next != kind::SK {
            return Err(ProbeError::Protocol("a message without SK payload on an encrypted SA"));
        }
        let aad_len = HEADER_LEN + if fragment { 8 } else { 4 };
        let mut r = Reader::new(datagram, "SK payload");
        let aad = r.take(aad_len)?;
        let mut generic = Reader::new(aad.get(HEADER_LEN..).unwrap_or_default(), "SK payload");
        let (first, _, len) = (generic.u8()?, generic.u8()?, generic.u16()?);
        if HEADER_LEN + usize::from(len) != datagram.len() {
            return Err(Malformed("SK payload length").into());
        }
        let iv = r.take(self.keys.open.alg().iv_len())?;
        let mut sealed = r.rest().to_vec();
        let plain_len = self.keys.open.open(iv, aad, &mut sealed)?;
        let plain = sealed.get(..plain_len).and_then(|plain| {
            let (&pad_len, rest) = plain.split_last()?;
            rest.get(..rest.len().checked_sub(usize::from(pad_len))?)
        });
        let plain = plain.ok_or(Malformed("SK padding"))?;
        if !fragment {
            return Ok(Some(Message { header, payloads: parse_chain(first, plain)? }));
        }
        self.add_fragment(header, first, generic.u16()?, generic.u16()?, plain)
    }

    fn add_fragment(
        &mut self,
        header: Header,
        first: u8,
        number: u16,
        total: u16,
        plain: &[u8],
    ) -> Result<Option<Message>, ProbeError> {
        if number == 0 || number > total || total > MAX_FRAGMENTS || (first != 0) != (number == 1) {
            return Err(Malformed("fragment number").into());
        }
        let key = (header.flags & FLAG_RESPONSE != 0, header.message_id);
        let partial = self.partial.entry(key).or_default();
        if partial.total != total {
            *partial = Partial { total, ..Partial::default() };
        }
        if number == 1 {
            partial.first_inner = first;
        }
        partial.pieces.insert(number, plain.to_vec());
        if partial.pieces.len() < usize::from(total) {
            return Ok(None);
        }
        let partial = self.partial.remove(&key).unwrap_or_default();
        let chain = partial.pieces.into_values().collect::<Vec<_>>().concat();
        Ok(Some(Message { header, payloads: parse_chain(partial.first_inner, &chain)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::exchange::INFORMATIONAL;
    use super::*;
    use crate::crypto::Cipher;

    /// An SA that can read what it writes.
    fn looped(fragment_size: usize) -> IkeSa {
        let key = || CipherKey::new(Cipher::Aes256Gcm, &[7; 36]).unwrap();
        let secret = || Secret::new(vec![1; 32]);
        let (sk_d, sk_pi, sk_pr) = (secret(), secret(), secret());
        let keys = Keys { prf: Prf::HmacSha256, sk_d, sk_pi, sk_pr, seal: key(), open: key() };
        IkeSa::new(Suite::default(), keys, [1, 2], fragment_size)
    }

    fn from_responder(next: u8) -> Header {
        Header { spi_i: 1, spi_r: 2, next, exchange: INFORMATIONAL, flags: FLAG_RESPONSE, message_id: 3 }
    }

    #[test]
    fn messages_and_fragments_are_put_together() {
        let payloads = [Payload::notify(16400, &[5; 100]), Payload::delete(None)];
        let (first, chain) = emit_chain(&payloads);
        let mut sa = looped(0);
        let whole = sa.seal_one(from_responder(kind::SK), first, &[], &chain).unwrap();
        assert_eq!(sa.open(&whole).unwrap().unwrap().payloads, payloads);

        let (head, tail) = chain.split_at(50);
        let one = sa.seal_one(from_responder(kind::SKF), first, &[0, 1, 0, 2], head).unwrap();
        let two = sa.seal_one(from_responder(kind::SKF), 0, &[0, 2, 0, 2], tail).unwrap();
        assert!(sa.open(&two).unwrap().is_none() && sa.open(&two).unwrap().is_none());
        assert_eq!(sa.open(&one).unwrap().unwrap().payloads, payloads);

        for message in [whole, one] {
            for end in 0..message.len() {
                assert!(sa.open(&message[..end]).is_err(), "cut at {end}");
            }
            for position in 0..message.len() {
                let mut flipped = message.clone();
                flipped[position] ^= 0x40;
                assert!(sa.open(&flipped).is_err(), "changed at {position}");
            }
        }
    }

    #[test]
    fn fragments_keep_to_their_size() {
        let sealed = looped(120).seal(INFORMATIONAL, false, 0, &[Payload::notify(16400, &[5; 300])]).unwrap();
        assert!(sealed.len() > 4 && sealed.iter().all(|datagram| datagram.len() <= 120));
        assert_eq!(sealed[1][HEADER_LEN + 4..HEADER_LEN + 8], [0, 2, 0, sealed.len() as u8]);
        assert_eq!(looped(120).seal(INFORMATIONAL, false, 0, &[]).unwrap().len(), 1);
    }
}
