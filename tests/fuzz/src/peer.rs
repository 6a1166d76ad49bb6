//! An IKE client for fuzzing: it derives its keys and proves its identity by itself, and sends what it is told to.

mod eap;
mod proof;

use std::net::{IpAddr, Ipv4Addr};

use pterodapter::base::TrafficSelector;
use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::prf::{prf, prf_plus};
use pterodapter::crypto::{Cipher, Group, Integrity, Prf, Secret};
use pterodapter::wire::ike::{
    Chain, Exchange, FragmentNumber, HEADER_LEN, Header, Ke, KeyLength, Kind, Notify, Payload, Proposal,
    Protected, Transform, emit_proposals, emit_protected_head, emit_selectors, notify_type, parse_chain,
    parse_proposals, protocol, transform_type,
};

pub use eap::Manner;
pub use proof::By;

const GROUP: Group = Group::X25519;
const NONCE: [u8; 32] = [7; 32];

/// The algorithms of an IKE SA, and of the Child SAs in it.
#[derive(Clone, Copy)]
pub struct Suite {
    cipher: Cipher,
    prf: Prf,
}

impl Suite {
    pub const AEAD: Self = Self { cipher: Cipher::Aes256Gcm, prf: Prf::HmacSha256 };
    pub const CBC: Self = Self { cipher: Cipher::Aes128Cbc(Integrity::HmacSha1), prf: Prf::HmacSha1 };

    fn proposal(self, protocol: u8, spi: Vec<u8>, group: Option<Group>) -> Proposal {
        let key_length = self.cipher.key_bits().map_or(KeyLength::Absent, KeyLength::Bits);
        let id = self.cipher.transform_id();
        let mut transforms = vec![Transform { kind: transform_type::ENCR, id, key_length }];
        let mac = self.cipher.integrity();
        transforms.extend(mac.map(|mac| Transform::new(transform_type::INTEG, mac.transform_id())));
        transforms.push(if protocol == protocol::IKE {
            Transform::new(transform_type::PRF, self.prf.transform_id())
        } else {
            Transform::new(transform_type::ESN, 0)
        });
        transforms.extend(group.map(|group| Transform::new(transform_type::KE, group.transform_id())));
        Proposal { number: 1, protocol, spi, transforms }
    }
}

/// The client's side of one IKE SA.
pub struct Peer {
    suite: Suite,
    /// Whether the client has begun it, and not the responder by a rekey.
    began: bool,
    /// From which address it sends.
    pub from: u8,
    pub spi_i: u64,
    pub spi_r: u64,
    seal: CipherKey,
    open: CipherKey,
    sk_d: Secret,
    sk_pi: Secret,
    /// What the client signs: its first message and the responder's nonce.
    signed: Vec<u8>,
    pub next_id: u32,
    ivs: u64,
    /// What the answer to the last request is good for.
    expected: Expected,
    /// Child SAs: the client's SPI, ours.
    pub children: Vec<(u32, u32)>,
    next_spi: u32,
    /// Our last request, until it is answered.
    asked: Option<Message>,
    eap: eap::Conversation,
    pieces: Vec<u8>,
}

enum Expected {
    Nothing,
    FirstChild,
    Child,
    /// The new IKE SA: key pair and SPI.
    Ike(KeyPair, u64),
}

/// An opened message of the responder.
struct Message {
    exchange: Exchange,
    id: u32,
    first: u8,
    bytes: Vec<u8>,
}

/// IKE_SA_INIT that is under way.
pub struct Beginning {
    suite: Suite,
    pair: KeyPair,
    pub spi_i: u64,
    pub request: Vec<u8>,
}

impl Beginning {
    /// `extra` is more of the payloads, behind those that belong there.
    pub fn new(
        suite: Suite,
        spi_i: u64,
        fragments: bool,
        cookie: Option<&[u8]>,
        extra: &[(Kind, &[u8])],
    ) -> Self {
        let pair = KeyPair::generate(GROUP).expect("key pair");
        let mut chain = Chain::new();
        if let Some(cookie) = cookie {
            chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE, cookie).emit());
        }
        chain.push(Kind::Sa, &emit_proposals(&[suite.proposal(protocol::IKE, Vec::new(), Some(GROUP))]));
        chain.push(Kind::Ke, &Ke { group: GROUP.transform_id(), data: pair.public() }.emit());
        chain.push(Kind::Nonce, &NONCE);
        if fragments {
            chain.push(Kind::Notify, &Notify::new(notify_type::FRAGMENTATION_SUPPORTED, &[]).emit());
        }
        extra.iter().for_each(|(kind, body)| chain.push(*kind, body));
        let request = chain.emit_message(header((spi_i, 0), Exchange::IkeSaInit, false, 0));
        Self { suite, pair, spi_i, request }
    }

    /// The cookie that the answer asks for.
    pub fn cookie(response: &[u8]) -> Option<Vec<u8>> {
        let header = Header::parse(response).ok()?;
        let payloads = parse_chain(header.next_payload, &response[HEADER_LEN..]).ok()?;
        let notifies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
        let mut notifies = notifies.filter_map(|payload| Notify::parse(payload.body).ok());
        notifies.find(|notify| notify.kind == notify_type::COOKIE).map(|notify| notify.data.to_vec())
    }

    /// `None` where the responder refused.
    pub fn finish(self, from: u8, response: &[u8]) -> Option<Peer> {
        let header = Header::parse(response).ok()?;
        let payloads = parse_chain(header.next_payload, &response[HEADER_LEN..]).ok()?;
        let shared = self.pair.agree(Ke::parse(body(&payloads, Kind::Ke)?).ok()?.data).ok()?;
        let nr = body(&payloads, Kind::Nonce)?;
        let skeyseed = prf(self.suite.prf, &[&NONCE, nr].concat(), &[shared.expose()]);
        let spis = (self.spi_i, header.spi_r);
        let mut peer = Peer::new(self.suite, true, spis, &skeyseed, [&NONCE, nr]);
        (peer.from, peer.signed, peer.next_id) = (from, [&self.request, nr].concat(), 1);
        Some(peer)
    }
}

impl Peer {
    fn new(suite: Suite, began: bool, spis: (u64, u64), skeyseed: &Secret, nonces: [&[u8]; 2]) -> Self {
        let Suite { cipher, prf } = suite;
        let [ni, nr] = nonces;
        let seed = [ni, nr, &spis.0.to_be_bytes(), &spis.1.to_be_bytes()];
        let (p, a, e) = (prf.output_len(), cipher.integrity_len(), cipher.encryption_len());
        let keymat = prf_plus(prf, skeyseed.expose(), &seed, 3 * p + 2 * a + 2 * e).expect("key material");
        let (sk_d, rest) = keymat.expose().split_at(p);
        let (sk_a, rest) = rest.split_at(2 * a);
        let (sk_e, sk_p) = rest.split_at(2 * e);
        let key = |e: &[u8], a: &[u8]| CipherKey::new(cipher, &[e, a].concat()).expect("key");
        let (i, r) = (key(&sk_e[..e], &sk_a[..a]), key(&sk_e[e..], &sk_a[a..]));
        let (seal, open) = if began { (i, r) } else { (r, i) };
        Self {
            suite,
            began,
            from: 0,
            spi_i: spis.0,
            spi_r: spis.1,
            seal,
            open,
            sk_d: sk_d.into(),
            sk_pi: sk_p[..p].into(),
            signed: Vec::new(),
            next_id: 0,
            ivs: 0,
            expected: Expected::Nothing,
            children: Vec::new(),
            next_spi: 0x1000_0000,
            asked: None,
            eap: eap::Conversation::default(),
            pieces: Vec::new(),
        }
    }

    /// A message with anything inside, from the original initiator.
    pub fn seal(
        &mut self,
        (exchange, response, id): (Exchange, bool, u32),
        first: u8,
        fragment: Option<FragmentNumber>,
        payloads: &[u8],
    ) -> Vec<u8> {
        let cipher = self.suite.cipher;
        let mut plaintext = payloads.to_vec();
        plaintext.resize((payloads.len() + 1).next_multiple_of(cipher.block_len()), 0);
        let pad = u8::try_from(plaintext.len() - payloads.len() - 1).expect("less than a block");
        *plaintext.last_mut().expect("not empty") = pad;
        let (mut iv, mut tag) = (vec![0; cipher.iv_len()], vec![0; cipher.tag_len()]);
        let sealed_len = iv.len() + plaintext.len() + tag.len();
        let header =
            Header { initiator: self.began, ..header((self.spi_i, self.spi_r), exchange, response, id) };
        let head = emit_protected_head(header, first, fragment, sealed_len);
        self.ivs += 1;
        self.seal.seal(self.ivs, &head, &mut iv, &mut plaintext, &mut tag).expect("sealed");
        [head, iv, plaintext, tag].concat()
    }

    fn request(&mut self, exchange: Exchange, chain: &Chain, expected: Expected) -> Vec<u8> {
        self.expected = expected;
        self.seal((exchange, false, self.next_id), chain.first(), None, chain.bytes())
    }

    /// CREATE_CHILD_SA for a Child SA: a further one, or instead of one.
    pub fn create_child(&mut self, replaces: Option<usize>, with_group: bool) -> Vec<u8> {
        let mut chain = Chain::new();
        let old = replaces
            .filter(|_| !self.children.is_empty())
            .map(|at| self.children[at % self.children.len()].0);
        if let Some(old) = old {
            let spi = old.to_be_bytes();
            let notify =
                Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
            chain.push(Kind::Notify, &notify.emit());
        }
        let any = selector();
        chain.push(Kind::Sa, &self.child_proposal(with_group.then_some(GROUP)));
        chain.push(Kind::Nonce, &NONCE);
        if with_group {
            let pair = KeyPair::generate(GROUP).expect("key pair");
            chain.push(Kind::Ke, &Ke { group: GROUP.transform_id(), data: pair.public() }.emit());
        }
        chain.push(Kind::TsI, &emit_selectors(&[any]));
        chain.push(Kind::TsR, &emit_selectors(&[any]));
        self.request(Exchange::CreateChildSa, &chain, Expected::Child)
    }

    /// CREATE_CHILD_SA for the next IKE SA, which gets this SPI.
    pub fn rekey_ike(&mut self, spi_i: u64) -> Vec<u8> {
        let pair = KeyPair::generate(GROUP).expect("key pair");
        let mut chain = Chain::new();
        let spi = spi_i.to_be_bytes().to_vec();
        chain.push(Kind::Sa, &emit_proposals(&[self.suite.proposal(protocol::IKE, spi, Some(GROUP))]));
        chain.push(Kind::Nonce, &NONCE);
        chain.push(Kind::Ke, &Ke { group: GROUP.transform_id(), data: pair.public() }.emit());
        self.request(Exchange::CreateChildSa, &chain, Expected::Ike(pair, spi_i))
    }

    /// INFORMATIONAL with these payloads.
    pub fn inform(&mut self, payloads: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut chain = Chain::new();
        payloads.iter().for_each(|(kind, body)| chain.push(*kind, body));
        self.request(Exchange::Informational, &chain, Expected::Nothing)
    }

    /// A fitting answer to the last request of the responder: to a rekey the SA that was offered, to all else nothing. With
    /// the IKE SA that replaces this one, where the request was for that.
    pub fn answer(&mut self) -> Option<(Vec<u8>, Option<Self>)> {
        let asked = self.asked.take()?;
        let payloads = parse_chain(asked.first, &asked.bytes).ok()?;
        let (mut chain, mut next) = (Chain::new(), None);
        if let Some(sa) = body(&payloads, Kind::Sa).filter(|_| asked.exchange == Exchange::CreateChildSa) {
            let mut chosen = parse_proposals(sa).ok()?.into_iter().next()?;
            self.next_spi += 1;
            if let Ok(theirs) = chosen.spi.as_slice().try_into().map(u64::from_be_bytes) {
                let spi = 0x9900_0000_0000_0000 + u64::from(self.next_spi);
                chosen.spi = spi.to_be_bytes().to_vec();
                let (pair, ke) = (KeyPair::generate(GROUP).expect("key pair"), body(&payloads, Kind::Ke)?);
                let public = Ke { group: GROUP.transform_id(), data: pair.public() }.emit();
                let ni = body(&payloads, Kind::Nonce)?;
                let shared = pair.agree(Ke::parse(ke).ok()?.data).ok()?;
                let skeyseed = prf(self.suite.prf, self.sk_d.expose(), &[shared.expose(), ni, &NONCE]);
                next = Some(Self::new(self.suite, false, (theirs, spi), &skeyseed, [ni, &NONCE]));
                chain.push(Kind::Ke, &public);
            } else {
                let theirs = chosen.spi.first_chunk().map(|spi| u32::from_be_bytes(*spi))?;
                chosen.spi = self.next_spi.to_be_bytes().to_vec();
                self.children.push((self.next_spi, theirs));
                for kind in [Kind::TsI, Kind::TsR] {
                    chain.push(kind, body(&payloads, kind)?);
                }
            }
            chain.push(Kind::Sa, &emit_proposals(&[chosen]));
            chain.push(Kind::Nonce, &NONCE);
        }
        let answer = self.seal((asked.exchange, true, asked.id), chain.first(), None, chain.bytes());
        Some((answer, next.map(|next| self.hand_over(next))))
    }

    fn hand_over(&self, mut next: Self) -> Self {
        (next.from, next.children, next.next_spi) = (self.from, self.children.clone(), self.next_spi);
        next
    }

    /// Takes a message of the responder. The IKE SA that replaces this one, where the answer makes it.
    pub fn receive(&mut self, message: &[u8]) -> Option<Peer> {
        let (header, message) = self.open(message)?;
        if !header.response {
            self.asked = Some(message);
            return None;
        }
        if header.message_id != self.next_id {
            return None;
        }
        self.next_id += 1;
        let payloads = parse_chain(message.first, &message.bytes).expect("our own payloads");
        if let Some(packet) = body(&payloads, Kind::Eap) {
            self.eap.asked = Some(packet.to_vec());
        }
        let expected = std::mem::replace(&mut self.expected, Expected::Nothing);
        let proposal = parse_proposals(body(&payloads, Kind::Sa)?).expect("our own proposal").remove(0);
        match expected {
            Expected::Nothing => None,
            Expected::FirstChild | Expected::Child => {
                let theirs = proposal.spi.first_chunk().map(|spi| u32::from_be_bytes(*spi))?;
                self.children.push((self.next_spi, theirs));
                None
            }
            Expected::Ike(pair, spi_i) => {
                let shared = pair.agree(Ke::parse(body(&payloads, Kind::Ke)?).ok()?.data).ok()?;
                let nr = body(&payloads, Kind::Nonce)?;
                let seed = [shared.expose(), &NONCE, nr];
                let skeyseed = prf(self.suite.prf, self.sk_d.expose(), &seed);
                let spi_r = proposal.spi.first_chunk().map(|spi| u64::from_be_bytes(*spi))?;
                let next = Self::new(self.suite, true, (spi_i, spi_r), &skeyseed, [&NONCE, nr]);
                Some(self.hand_over(next))
            }
        }
    }

    fn open(&mut self, message: &[u8]) -> Option<(Header, Message)> {
        let header = Header::parse(message).ok()?;
        let protected = Protected::parse(&header, message).ok()?;
        let (iv, sealed) = protected.sealed.split_at(self.suite.cipher.iv_len());
        let mut buffer = sealed.to_vec();
        let len = self.open.open(iv, protected.aad, &mut buffer).expect("sealed with the keys of the SA");
        let piece = Protected::strip_padding(&buffer[..len]).expect("our own padding");
        let number = protected.fragment.unwrap_or(FragmentNumber { number: 1, total: 1 });
        if number.number == 1 {
            self.pieces.clear();
            self.pieces.push(protected.first);
        }
        self.pieces.extend_from_slice(piece);
        let (first, bytes) = self.pieces.split_first()?;
        let message = Message {
            exchange: header.exchange,
            id: header.message_id,
            first: *first,
            bytes: bytes.to_vec(),
        };
        (number.number == number.total).then_some((header, message))
    }

    fn child_proposal(&mut self, group: Option<Group>) -> Vec<u8> {
        self.next_spi += 1;
        emit_proposals(&[self.suite.proposal(protocol::ESP, self.next_spi.to_be_bytes().to_vec(), group)])
    }
}

fn body<'a>(payloads: &[Payload<'a>], kind: Kind) -> Option<&'a [u8]> {
    payloads.iter().find(|payload| payload.kind == kind).map(|payload| payload.body)
}

fn selector() -> TrafficSelector {
    TrafficSelector {
        first: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        last: IpAddr::V4(Ipv4Addr::BROADCAST),
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    }
}

fn header((spi_i, spi_r): (u64, u64), exchange: Exchange, response: bool, message_id: u32) -> Header {
    Header {
        spi_i,
        spi_r,
        next_payload: 0,
        major: 2,
        exchange,
        initiator: true,
        response,
        message_id,
        length: 0,
    }
}
