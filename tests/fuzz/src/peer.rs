//! An IKE client for fuzzing: it derives its keys and proves its identity by itself, and sends what it is told to.

use std::net::{IpAddr, Ipv4Addr};

use pterodapter::base::TrafficSelector;
use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::mschapv2::{self, nt_hash};
use pterodapter::crypto::prf::{prf, prf_plus};
use pterodapter::crypto::sign::{SignatureScheme, ecdsa_der_to_fixed};
use pterodapter::crypto::{Cipher, Group, Prf, PrivateKey, Secret};
use pterodapter::wire::eap::{self, Packet};
use pterodapter::wire::ike::{
    Attribute, Auth, Cert, CfgType, Chain, Configuration, Exchange, FragmentNumber, HEADER_LEN, Header, Id,
    IdType, Ke, KeyLength, Kind, Notify, Payload, Proposal, Protected, Transform, attribute, auth_method,
    emit_proposals, emit_protected_head, emit_selectors, notify_type, parse_chain, parse_proposals, protocol,
    transform_type,
};

use crate::world::{IDENTITIES, PASSWORD, PSK, PSK_NAME, USER};

const AEAD: Cipher = Cipher::Aes256Gcm;
const PRF: Prf = Prf::HmacSha256;
const GROUP: Group = Group::X25519;
const NONCE: [u8; 32] = [7; 32];
/// Clients that come by EAP say their address for an identity.
const EAP_ADDRESS: [u8; 4] = [10, 0, 0, 7];

/// The client's side of one IKE SA.
pub struct Peer {
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
    eap: Option<Vec<u8>>,
    msk: Option<Secret>,
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

/// How the client proves its identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Certificate,
    Psk,
    Eap,
}

/// IKE_SA_INIT that is under way.
pub struct Beginning {
    pair: KeyPair,
    pub spi_i: u64,
    pub request: Vec<u8>,
}

impl Beginning {
    /// `extra` is more of the payloads, behind those that belong there.
    pub fn new(spi_i: u64, fragments: bool, cookie: Option<&[u8]>, extra: &[(Kind, &[u8])]) -> Self {
        let pair = KeyPair::generate(GROUP).expect("key pair");
        let mut chain = Chain::new();
        if let Some(cookie) = cookie {
            chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE, cookie).emit());
        }
        chain.push(Kind::Sa, &emit_proposals(&[proposal(protocol::IKE, Vec::new(), Some(GROUP))]));
        chain.push(Kind::Ke, &Ke { group: GROUP.transform_id(), data: pair.public() }.emit());
        chain.push(Kind::Nonce, &NONCE);
        if fragments {
            chain.push(Kind::Notify, &Notify::new(notify_type::FRAGMENTATION_SUPPORTED, &[]).emit());
        }
        extra.iter().for_each(|(kind, body)| chain.push(*kind, body));
        let request = chain.emit_message(header((spi_i, 0), Exchange::IkeSaInit, false, 0));
        Self { pair, spi_i, request }
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
        let skeyseed = prf(PRF, &[&NONCE, nr].concat(), &[shared.expose()]);
        let spis = (self.spi_i, header.spi_r);
        Some(Peer::new(from, spis, &skeyseed, nr, [&self.request, nr].concat(), 1))
    }
}

impl Peer {
    fn new(from: u8, spis: (u64, u64), skeyseed: &Secret, nr: &[u8], signed: Vec<u8>, next_id: u32) -> Self {
        let seed = [&NONCE[..], nr, &spis.0.to_be_bytes(), &spis.1.to_be_bytes()];
        let (prf_len, key_len) = (PRF.output_len(), AEAD.keymat_len());
        let len = 3 * prf_len + 2 * key_len;
        let keymat = prf_plus(PRF, skeyseed.expose(), &seed, len).expect("key material");
        let (sk_d, rest) = keymat.expose().split_at(prf_len);
        let (keys, sk_p) = rest.split_at(2 * key_len);
        let (i, r) = keys.split_at(key_len);
        Self {
            from,
            spi_i: spis.0,
            spi_r: spis.1,
            seal: CipherKey::new(AEAD, i).expect("key"),
            open: CipherKey::new(AEAD, r).expect("key"),
            sk_d: sk_d.into(),
            sk_pi: sk_p[..prf_len].into(),
            signed,
            next_id,
            ivs: 0,
            expected: Expected::Nothing,
            children: Vec::new(),
            next_spi: 0x1000_0000,
            asked: None,
            eap: None,
            msk: None,
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
        let mut plaintext = [payloads, &[0]].concat();
        let (mut iv, mut tag) = (vec![0; AEAD.iv_len()], vec![0; AEAD.tag_len()]);
        let sealed_len = iv.len() + plaintext.len() + tag.len();
        let header = header((self.spi_i, self.spi_r), exchange, response, id);
        let head = emit_protected_head(header, first, fragment, sealed_len);
        self.ivs += 1;
        self.seal.seal(self.ivs, &head, &mut iv, &mut plaintext, &mut tag).expect("sealed");
        [head, iv, plaintext, tag].concat()
    }

    fn request(&mut self, exchange: Exchange, chain: &Chain, expected: Expected) -> Vec<u8> {
        self.expected = expected;
        self.seal((exchange, false, self.next_id), chain.first(), None, chain.bytes())
    }

    /// The first IKE_AUTH request; a `lie` spoils the proof. `more` goes behind the rest.
    pub fn authenticate(&mut self, by: By, lie: bool, more: &[(Kind, &[u8])]) -> Vec<u8> {
        let (kind, name) = match by {
            By::Certificate => (IdType::Fqdn, &b"device.example"[..]),
            By::Psk => (IdType::Rfc822, PSK_NAME.as_bytes()),
            By::Eap => (IdType::Ipv4, &EAP_ADDRESS[..]),
        };
        let id = Id { kind, data: name }.emit();
        let mut chain = Chain::new();
        chain.push(Kind::IdI, &id);
        let mut octets = self.auth_octets(&id);
        octets.extend(lie.then_some(0));
        match by {
            By::Certificate => {
                let client = &IDENTITIES.client;
                chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: &client.cert_der }.emit());
                let key = PrivateKey::from_pem(client.key_pem.as_bytes()).expect("key");
                let signature = key.sign(SignatureScheme::EcdsaP256Sha256, &octets).expect("signature");
                let signature = ecdsa_der_to_fixed(&signature, 32).expect("signature");
                chain.push(Kind::Auth, &Auth { method: auth_method::ECDSA_256, data: &signature }.emit());
            }
            By::Psk => chain.push(Kind::Auth, &by_key(PSK, &octets)),
            By::Eap => {}
        }
        let any = selector();
        let kinds = [attribute::INTERNAL_IP4_ADDRESS, attribute::INTERNAL_IP6_ADDRESS];
        let attributes = kinds.map(|kind| Attribute { kind, value: &[] }).to_vec();
        chain.push(Kind::Cp, &Configuration { cfg_type: CfgType::Request, attributes }.emit());
        chain.push(Kind::Sa, &self.child_proposal(None));
        chain.push(Kind::TsI, &emit_selectors(&[any]));
        chain.push(Kind::TsR, &emit_selectors(&[any]));
        more.iter().for_each(|(kind, body)| chain.push(*kind, body));
        self.request(Exchange::IkeAuth, &chain, Expected::FirstChild)
    }

    fn auth_octets(&self, id: &[u8]) -> Vec<u8> {
        [&self.signed, prf(PRF, self.sk_pi.expose(), &[id]).expose()].concat()
    }

    /// The next message of EAP, with the right password or another. Whether it is the last one, which ends in a Child SA.
    pub fn continue_eap(&mut self, right: bool) -> Option<(Vec<u8>, bool)> {
        let packet = self.eap.take()?;
        let mut chain = Chain::new();
        if packet.first() == Some(&eap::code::SUCCESS) {
            let octets = self.auth_octets(&Id { kind: IdType::Ipv4, data: &EAP_ADDRESS }.emit());
            chain.push(Kind::Auth, &by_key(self.msk.take()?.expose(), &octets));
            return Some((self.request(Exchange::IkeAuth, &chain, Expected::FirstChild), true));
        }
        let asked = Packet::parse(&packet).ok()?;
        let data = match (asked.kind, asked.data) {
            (eap::kind::IDENTITY, _) => USER.as_bytes().to_vec(),
            (eap::kind::MSCHAPV2, [1, id, _, _, 16, rest @ ..]) => {
                self.respond(*id, rest.first_chunk()?, right)
            }
            // "E=691 R=1 C=" and the next challenge, in hexadecimal digits.
            (eap::kind::MSCHAPV2, [4, id, _, _, text @ ..]) => {
                let mut challenge = [0; 16];
                for (octet, pair) in challenge.iter_mut().zip(text.get(12..44)?.chunks(2)) {
                    *octet = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
                }
                self.respond(*id, &challenge, right)
            }
            (eap::kind::MSCHAPV2, _) => vec![3],
            _ => return None,
        };
        let code = eap::code::RESPONSE;
        chain.push(
            Kind::Eap,
            &Packet { code, identifier: asked.identifier, kind: asked.kind, data: &data }.emit(),
        );
        Some((self.request(Exchange::IkeAuth, &chain, Expected::Nothing), false))
    }

    fn respond(&mut self, id: u8, challenge: &[u8; 16], right: bool) -> Vec<u8> {
        let peer = [5; 16];
        let hash = nt_hash(if right { PASSWORD } else { "guess" });
        let attempt = mschapv2::Attempt { authenticator: challenge, peer: &peer, user: USER.as_bytes() };
        let response = attempt.response(&hash);
        self.msk = right.then(|| mschapv2::msk(&hash, &response));
        let length = 54 + USER.len() as u8;
        [&[2, id, 0, length, 49][..], &peer, &[0; 8], &response, &[0], USER.as_bytes()].concat()
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
        chain.push(Kind::Sa, &emit_proposals(&[proposal(protocol::IKE, spi, Some(GROUP))]));
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

    /// A fitting answer to our last request: to a rekey the Child SA that was offered, to all else nothing.
    pub fn answer(&mut self) -> Option<Vec<u8>> {
        let asked = self.asked.take()?;
        let payloads = parse_chain(asked.first, &asked.bytes).ok()?;
        let mut chain = Chain::new();
        if let Some(sa) = body(&payloads, Kind::Sa).filter(|_| asked.exchange == Exchange::CreateChildSa) {
            let mut chosen = parse_proposals(sa).ok()?.into_iter().next()?;
            let theirs = chosen.spi.first_chunk().map(|spi| u32::from_be_bytes(*spi))?;
            self.next_spi += 1;
            chosen.spi = self.next_spi.to_be_bytes().to_vec();
            self.children.push((self.next_spi, theirs));
            chain.push(Kind::Sa, &emit_proposals(&[chosen]));
            chain.push(Kind::Nonce, &NONCE);
            for kind in [Kind::TsI, Kind::TsR] {
                chain.push(kind, body(&payloads, kind)?);
            }
        }
        Some(self.seal((asked.exchange, true, asked.id), chain.first(), None, chain.bytes()))
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
            self.eap = Some(packet.to_vec());
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
                let skeyseed = prf(PRF, self.sk_d.expose(), &[shared.expose(), &NONCE, nr]);
                let spi_r = proposal.spi.first_chunk().map(|spi| u64::from_be_bytes(*spi))?;
                let mut next = Self::new(self.from, (spi_i, spi_r), &skeyseed, nr, Vec::new(), 0);
                (next.children, next.next_spi) = (self.children.clone(), self.next_spi);
                Some(next)
            }
        }
    }

    fn open(&mut self, message: &[u8]) -> Option<(Header, Message)> {
        let header = Header::parse(message).ok()?;
        let protected = Protected::parse(&header, message).ok()?;
        let (iv, sealed) = protected.sealed.split_at(AEAD.iv_len());
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
        emit_proposals(&[proposal(protocol::ESP, self.next_spi.to_be_bytes().to_vec(), group)])
    }
}

fn body<'a>(payloads: &[Payload<'a>], kind: Kind) -> Option<&'a [u8]> {
    payloads.iter().find(|payload| payload.kind == kind).map(|payload| payload.body)
}

/// The AUTH payload of a shared key.
fn by_key(key: &[u8], octets: &[u8]) -> Vec<u8> {
    let padded = prf(PRF, key, &[b"Key Pad for IKEv2"]);
    let mac = prf(PRF, padded.expose(), &[octets]);
    Auth { method: auth_method::SHARED_KEY, data: mac.expose() }.emit()
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

/// The one suite of this peer.
fn proposal(protocol: u8, spi: Vec<u8>, group: Option<Group>) -> Proposal {
    let mut transforms = vec![Transform {
        kind: transform_type::ENCR,
        id: AEAD.transform_id(),
        key_length: KeyLength::Bits(256),
    }];
    transforms.push(if protocol == protocol::IKE {
        Transform::new(transform_type::PRF, PRF.transform_id())
    } else {
        Transform::new(transform_type::ESN, 0)
    });
    transforms.extend(group.map(|group| Transform::new(transform_type::KE, group.transform_id())));
    Proposal { number: 1, protocol, spi, transforms }
}
