//! A compact IKEv2 initiator and a world with a clock, for the tests of the responder. It shares `wire` and `crypto`
//! with it, but derives keys, signs and checks by itself: a symmetric mistake must not pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Config, Credential, Event, Identity, Input, Output, Policy, Responder, System};
use crate::base::{ChildSa, Now, Path, TrafficSelector};
use crate::crypto::cipher::CipherKey;
use crate::crypto::dh::KeyPair;
use crate::crypto::hash::sha1;
use crate::crypto::method14;
use crate::crypto::pki::{Certificate, TrustAnchors};
use crate::crypto::prf::{prf, prf_plus};
use crate::crypto::rng::SystemRandom;
use crate::crypto::sign::{EcdsaForm, KeyKind, PrivateKey, SignatureScheme, ecdsa_der_to_fixed};
use crate::crypto::{Cipher, Group, Kem, Prf, kem};
use crate::provision::{Authority, Issued, Role, Validity};
use crate::wire::ike::*;

/// 2026-11-01, the wall clock of all tests.
pub(super) const WALL: Duration = Duration::from_secs(1_793_491_200);

pub(super) fn rsa_key_pem() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pki/rsa.key.pem");
    std::fs::read_to_string(path).unwrap()
}

/// The responder, its authority, the time, and everything that came out.
pub(super) struct World {
    pub(super) responder: Responder,
    pub(super) authority: Authority,
    pub(super) now: Now,
    pub(super) installed: Vec<ChildSa>,
    pub(super) notes: Vec<Event>,
    /// What was said about clients and Child SAs, in order.
    pub(super) log: Vec<String>,
    /// How often a connected client was heard, and how often one replaced its IKE SA.
    pub(super) heard: usize,
    pub(super) ike_rekeyed: usize,
    /// The algorithms of the last client, for people.
    pub(super) suite: String,
    /// The system of the last client.
    pub(super) system: Option<System>,
    /// Datagrams not taken yet.
    pub(super) sent: Vec<(Path, Vec<u8>)>,
    /// Whether the data path acknowledges at once.
    pub(super) auto_install: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(KeyKind::P256, Policy::default(), 24)
    }

    pub(super) fn with(server: KeyKind, policy: Policy, pool_prefix_len: u8) -> Self {
        let authority = Authority::new("Test CA", WALL, 3650).unwrap();
        let (names, valid) = (["vpn.example", "192.0.2.1"], Validity::days(WALL, 365));
        let issued = match server {
            KeyKind::Rsa => authority.issue_with_key(Role::Server, &names, valid, &rsa_key_pem()),
            kind => authority.issue(Role::Server, &names, valid, kind),
        };
        let issued = issued.unwrap();
        let config = Config {
            identity: identity("vpn.example", &issued, &[&authority]),
            pool: Ipv4Addr::new(198, 19, 255, 0),
            pool_prefix_len,
            policy,
        };
        let now = Now { mono: Duration::from_secs(1000), boot: Duration::from_secs(1000), wall: WALL };
        let responder = Responder::new(config, Box::new(SystemRandom::new()), now);
        Self {
            responder,
            authority,
            now,
            installed: vec![],
            notes: vec![],
            log: vec![],
            heard: 0,
            ike_rekeyed: 0,
            suite: String::new(),
            system: None,
            sent: vec![],
            auto_install: true,
        }
    }

    pub(super) fn client_cert(&self, name: &str) -> Issued {
        self.authority.issue_client(name, WALL, 365).unwrap()
    }

    /// Takes an event and everything that follows from it.
    pub(super) fn handle(&mut self, input: Input<'_>) {
        self.responder.handle(self.now, input);
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(output) = self.responder.poll_output() {
            match output {
                Output::Send { path, bytes } => self.sent.push((path, bytes)),
                Output::Install(child) => {
                    self.log.push("install".to_owned());
                    let spi_in = child.spi_in;
                    self.installed.push(*child);
                    if self.auto_install {
                        self.responder.handle(self.now, Input::Installed { spi_in });
                    }
                }
                Output::Remove { spi_in } => {
                    assert!(
                        self.installed.iter().any(|child| child.spi_in == spi_in),
                        "removes what it installed"
                    );
                    self.installed.retain(|child| child.spi_in != spi_in);
                    self.log.push("remove".to_owned());
                }
                Output::UseOutbound { spi_in } => {
                    assert!(
                        self.installed.iter().any(|child| child.spi_in == spi_in),
                        "uses what is installed"
                    );
                    self.log.push("use".to_owned());
                }
                Output::Heard { .. } => self.heard += 1,
                Output::IkeRekeyed { .. } => self.ike_rekeyed += 1,
                Output::Connected { identity, system, address, suite, .. } => {
                    (self.system, self.suite) = (system, suite);
                    self.log.push(format!("connected {identity} {address}"))
                }
                Output::Gone { identity, why, .. } => self.log.push(format!("gone {identity}: {why}")),
                Output::Moved { path, .. } => self.log.push(format!("moved {}", path.remote)),
                Output::Note(event) => {
                    assert!(!event.to_string().is_empty());
                    self.notes.push(event);
                }
            }
        }
    }

    /// Delivers datagrams of one peer and takes what is sent back to it; the rest stays in `sent`.
    pub(super) fn exchange(&mut self, path: Path, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        datagrams.iter().for_each(|bytes| self.handle(Input::Datagram { path, bytes }));
        let spi_i = datagrams.first().and_then(|bytes| bytes.first_chunk::<8>());
        let (back, rest): (Vec<_>, Vec<_>) =
            self.sent.drain(..).partition(|(_, bytes)| bytes.first_chunk() == spi_i);
        self.sent = rest;
        back.into_iter().map(|(_, bytes)| bytes).collect()
    }

    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        self.sent.drain(..).map(|(_, bytes)| bytes).collect()
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Lets time pass, timer by timer.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now.mono + by;
        while let Some(at) = self.responder.poll_timeout().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono));
            self.responder.handle_timeout(self.now);
            self.pump();
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono: Duration) {
        let step = mono - self.now.mono;
        self.now = Now { mono, boot: self.now.boot + step, wall: self.now.wall + step };
    }

    /// A client that is connected, and its initiator.
    pub(super) fn connect(&mut self, name: &str, port: u16) -> Initiator {
        let mut client = Initiator::new(self, self.client_cert(name), port);
        client.connect(self).unwrap();
        client
    }
}

/// Who we are with this certificate, where clients of `authorities` are let in.
pub(super) fn identity(hostname: &str, issued: &Issued, authorities: &[&Authority]) -> Identity {
    let certificate = |der: &[u8]| Certificate::parse(der).unwrap();
    let trusted: Vec<_> = authorities.iter().map(|authority| certificate(authority.cert_der())).collect();
    Identity::new(
        hostname,
        [certificate(&issued.cert_der)].into_iter().chain(trusted.first().cloned()).collect(),
        PrivateKey::from_pem(issued.key_pem.as_bytes()).unwrap(),
        TrustAnchors::new(&trusted).unwrap(),
    )
}

/// A certificate and key of ours.
pub(super) fn credential(issued: &Issued) -> Credential {
    Credential {
        chain: vec![Certificate::parse(&issued.cert_der).unwrap()],
        key: PrivateKey::from_pem(issued.key_pem.as_bytes()).unwrap(),
    }
}

pub(super) fn path_from(port: u16) -> Path {
    Path { socket: 0, local: None, local_port: 4500, remote: ([203, 0, 113, 7], port).into(), marker: true }
}

/// How the initiator signs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signing {
    /// Method 14, announcing hashes.
    Rfc7427(SignatureScheme),
    /// Methods 9 and 10, announcing nothing.
    EcdsaByCurve,
    /// Method 1 with this hash, announcing nothing.
    Rsa(SignatureScheme),
}

/// What the answer to an initial request was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InitAnswer {
    Done,
    Nothing,
    Notify(u16, Vec<u8>),
}

/// The initiator's half of a Child SA: our inbound SPI first.
#[derive(Clone, Debug)]
pub(super) struct HisChild {
    pub(super) spi: u32,
    pub(super) peer_spi: u32,
    pub(super) ts_i: Vec<TrafficSelector>,
    pub(super) ts_r: Vec<TrafficSelector>,
}

/// The number of the first ESP proposal: not 1, as Apple's clients rekey with the number that won before.
const FIRST_ESP_PROPOSAL: u8 = 5;

/// An opened message.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) header: Header,
    first: u8,
    bytes: Vec<u8>,
}

impl Opened {
    pub(super) fn payloads(&self) -> Vec<Payload<'_>> {
        parse_chain(self.first, &self.bytes).unwrap()
    }

    pub(super) fn body(&self, kind: Kind) -> Option<&[u8]> {
        self.payloads().iter().find(|payload| payload.kind == kind).map(|payload| payload.body)
    }

    /// The data of ADDITIONAL_KEY_EXCHANGE.
    pub(super) fn link(&self) -> Option<Vec<u8>> {
        self.notify(notify_type::ADDITIONAL_KEY_EXCHANGE)
    }

    /// The data of the notify of this kind.
    pub(super) fn notify(&self, kind: u16) -> Option<Vec<u8>> {
        let payloads = self.payloads();
        let mut notifies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
        let found = notifies.find_map(|payload| Notify::parse(payload.body).ok().filter(|n| n.kind == kind));
        found.map(|notify| notify.data.to_vec())
    }

    /// The first error notify.
    pub(super) fn error(&self) -> Option<u16> {
        let payloads = self.payloads();
        let notifies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
        notifies.map(|payload| Notify::parse(payload.body).unwrap().kind).find(|kind| *kind < 16384)
    }
}

/// An IKE SA of an initiator that it is not using at the moment.
#[derive(Default)]
pub(super) struct Slot {
    spis: (u64, u64),
    responder: bool,
    keys: Option<(CipherKey, CipherKey)>,
    counters: (u32, u64),
    sk_d: Vec<u8>,
}

pub(super) struct Initiator {
    pub(super) path: Path,
    pub(super) signing: Signing,
    pub(super) groups: Vec<Group>,
    /// Group of the first KE payload.
    pub(super) guess: Group,
    pub(super) fragmentation: bool,
    pub(super) initial_contact: bool,
    pub(super) mobike: bool,
    pub(super) cookie: Option<Vec<u8>>,
    pub(super) id_i: (IdType, Vec<u8>),
    pub(super) id_r: Option<(IdType, Vec<u8>)>,
    pub(super) cert: Issued,
    pub(super) cipher: Cipher,
    pub(super) prf: Prf,
    /// Cipher of its Child SAs.
    pub(super) esp: Cipher,
    /// For each type of additional key exchange, the transform IDs to offer.
    pub(super) additional: Vec<Vec<u16>>,
    /// Says that it knows IKE_INTERMEDIATE, where it offers additional key exchanges.
    pub(super) announces_intermediate: bool,
    /// What the responder chose of them.
    pub(super) kems: Vec<Kem>,
    /// IntAuth of both sides.
    int_auth: (Vec<u8>, Vec<u8>),
    /// PPK_ID with its type, and the key.
    pub(super) ppk: Option<(Vec<u8>, Vec<u8>)>,
    /// The responder agreed to use one.
    pub(super) use_ppk: bool,
    /// Goes on without PPK where the responder does not have it.
    pub(super) no_ppk_auth: bool,
    /// SK_d, SK_pi and SK_pr without the PPK.
    unmixed: Option<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    pub(super) ca: Vec<u8>,
    pub(super) spi_i: u64,
    pub(super) spi_r: u64,
    /// The other side began this IKE SA, by a rekey.
    pub(super) responder: bool,
    /// The next nonce of CREATE_CHILD_SA, instead of a random one.
    pub(super) nonce: Option<Vec<u8>>,
    pub(super) pair: Option<KeyPair>,
    pub(super) ni: Vec<u8>,
    pub(super) nr: Vec<u8>,
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) sk_d: Vec<u8>,
    pub(super) sk_pi: Vec<u8>,
    pub(super) sk_pr: Vec<u8>,
    pub(super) keys: Option<(CipherKey, CipherKey)>,
    pub(super) iv: u64,
    pub(super) next_id: u32,
    pub(super) next_esp_spi: u32,
    pub(super) children: Vec<HisChild>,
    /// The IKE SA before the rekey.
    pub(super) old: Slot,
    /// Vendor IDs of IKE_SA_INIT.
    pub(super) vendors: Vec<Vec<u8>>,
    /// The method of the responder's AUTH payload, and the certificate that it is by.
    pub(super) server_auth: u8,
    pub(super) server_cert: Vec<u8>,
    /// What CP asks for.
    pub(super) asked: Vec<u16>,
    /// The selectors of both sides in its requests.
    pub(super) offered: Vec<TrafficSelector>,
    /// What CP answered.
    pub(super) address: Option<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) address6: Option<Ipv6Addr>,
    pub(super) dns6: Vec<Ipv6Addr>,
    pub(super) domains: Vec<String>,
}

impl Initiator {
    /// Takes server certificates of this authority.
    pub(super) fn trust(&mut self, authority: &Authority) {
        self.ca = authority.cert_der().to_vec();
    }

    pub(super) fn new(world: &World, cert: Issued, port: u16) -> Self {
        let certificate = Certificate::parse(&cert.cert_der).unwrap();
        let name = certificate.common_name().unwrap().to_owned();
        let kind = if name.contains('@') { IdType::Rfc822 } else { IdType::Fqdn };
        let scheme = match certificate.key_kind().unwrap() {
            KeyKind::P256 => SignatureScheme::EcdsaP256Sha256,
            KeyKind::P384 => SignatureScheme::EcdsaP384Sha384,
            KeyKind::Rsa => SignatureScheme::RsaPkcs1Sha256,
        };
        let spi_i = u64::from(port) << 32 | u64::from(u32::from_be_bytes(random::<4>()) | 1);
        Self {
            path: path_from(port),
            signing: Signing::Rfc7427(scheme),
            groups: vec![Group::X25519, Group::P256],
            guess: Group::X25519,
            fragmentation: true,
            initial_contact: false,
            mobike: false,
            cookie: None,
            id_i: (kind, name.into_bytes()),
            id_r: Some((IdType::Fqdn, b"vpn.example".to_vec())),
            cert,
            cipher: Cipher::Aes256Gcm,
            prf: Prf::HmacSha256,
            esp: Cipher::Aes128Gcm,
            additional: vec![],
            announces_intermediate: true,
            kems: vec![],
            int_auth: (vec![], vec![]),
            ppk: None,
            use_ppk: false,
            no_ppk_auth: false,
            ca: world.authority.cert_der().to_vec(),
            spi_i,
            spi_r: 0,
            responder: false,
            nonce: None,
            pair: None,
            ni: vec![],
            nr: vec![],
            request: vec![],
            response: vec![],
            sk_d: vec![],
            sk_pi: vec![],
            sk_pr: vec![],
            unmixed: None,
            keys: None,
            iv: 0,
            next_id: 1,
            next_esp_spi: 0x1000_0000,
            children: vec![],
            old: Slot::default(),
            vendors: vec![],
            server_auth: 0,
            server_cert: vec![],
            asked: vec![1, 2, 3, 8, 16000],
            offered: vec![everything()],
            address: None,
            dns: vec![],
            address6: None,
            dns6: vec![],
            domains: vec![],
        }
    }

    /// The whole way to a Child SA; an error is the notify that ended it (0: no answer).
    pub(super) fn connect(&mut self, world: &mut World) -> Result<(), u16> {
        loop {
            let request = self.init_request();
            let answer = world.exchange(self.path, &[request]);
            match self.handle_init(&answer) {
                InitAnswer::Done => break,
                InitAnswer::Nothing => return Err(0),
                InitAnswer::Notify(notify_type::COOKIE, cookie) => self.cookie = Some(cookie),
                InitAnswer::Notify(notify_type::INVALID_KE_PAYLOAD, group) => {
                    let group = u16::from_be_bytes(group.try_into().unwrap());
                    self.guess = Group::from_transform_id(group).unwrap();
                }
                InitAnswer::Notify(kind, _) => return Err(kind),
            }
        }
        for kem in self.kems.clone() {
            self.intermediate(world, kem)?;
        }
        let request = self.auth_request();
        let answer = world.exchange(self.path, &request);
        if answer.is_empty() { Err(0) } else { self.handle_auth(&answer) }
    }

    /// One IKE_INTERMEDIATE with a key exchange.
    pub(super) fn intermediate(&mut self, world: &mut World, kem: Kem) -> Result<(), u16> {
        let pair = kem::KeyPair::generate(kem, &mut SystemRandom::new());
        let request = self.intermediate_request(kem, &pair.public());
        let answer = world.exchange(self.path, &request);
        if answer.is_empty() {
            return Err(0);
        }
        self.handle_intermediate(&answer, pair)
    }

    pub(super) fn intermediate_request(&mut self, kem: Kem, public: &[u8]) -> Vec<Vec<u8>> {
        let payloads = [(Kind::Ke, Ke { group: kem.transform_id(), data: public }.emit())];
        let header = self.header(Exchange::IkeIntermediate, self.next_id, false);
        let request = self.protected_request(Exchange::IkeIntermediate, &payloads);
        let chain = chain_of(&payloads);
        let signed = int_auth_data(header, chain.first(), chain.bytes());
        self.int_auth.0 = prf(self.prf, &self.sk_pi, &[&self.int_auth.0, &signed]).expose().to_vec();
        request
    }

    pub(super) fn handle_intermediate(&mut self, answer: &[Vec<u8>], pair: kem::KeyPair) -> Result<(), u16> {
        let opened = self.open(answer);
        assert_eq!(
            (opened.header.message_id, opened.header.exchange),
            (self.next_id - 1, Exchange::IkeIntermediate)
        );
        if let Some(error) = opened.error() {
            return Err(error);
        }
        let signed = int_auth_data(opened.header, opened.first, &opened.bytes);
        self.int_auth.1 = prf(self.prf, &self.sk_pr, &[&self.int_auth.1, &signed]).expose().to_vec();
        let ke = Ke::parse(opened.body(Kind::Ke).unwrap()).unwrap();
        assert_eq!(ke.group, pair.kem().transform_id());
        let shared = pair.decapsulate(ke.data).unwrap();
        let skeyseed = prf(self.prf, &self.sk_d, &[shared.expose(), &self.ni, &self.nr]);
        self.derive(skeyseed.expose());
        Ok(())
    }

    /// What is signed of the IKE_INTERMEDIATE exchanges; `first_auth` is the message ID of IKE_AUTH.
    fn int_auth(&self, first_auth: u32) -> Vec<u8> {
        let (i, r) = &self.int_auth;
        if i.is_empty() { vec![] } else { [&i[..], r, &first_auth.to_be_bytes()].concat() }
    }

    /// As if there had been no IKE_INTERMEDIATE to sign.
    pub(super) fn forget_intermediate(&mut self) {
        self.int_auth = (vec![], vec![]);
    }

    fn mix_ppk(&mut self) {
        let Some((_, ppk)) = &self.ppk else { return };
        for key in [&mut self.sk_d, &mut self.sk_pi, &mut self.sk_pr] {
            *key = prf_plus(self.prf, ppk, &[&key[..]], key.len()).unwrap().expose().to_vec();
        }
    }

    pub(super) fn ike_proposal(&self, number: u8, spi: &[u8]) -> Proposal {
        let mut transforms = protection(self.cipher);
        if self.cipher.integrity().is_none() {
            transforms.push(encr(Cipher::ChaCha20Poly1305));
        }
        transforms.extend([
            Transform::new(transform_type::PRF, self.prf.transform_id()),
            Transform::new(transform_type::KE, 1),
        ]);
        transforms.extend(self.groups.iter().map(|g| Transform::new(transform_type::KE, g.transform_id())));
        transforms.extend(self.additional_transforms());
        Proposal { number, protocol: protocol::IKE, spi: spi.to_vec(), transforms }
    }

    fn additional_transforms(&self) -> Vec<Transform> {
        let types = transform_type::ADDITIONAL_KE.zip(&self.additional);
        types.flat_map(|(kind, ids)| ids.iter().map(move |id| Transform::new(kind, *id))).collect()
    }

    /// What an answered proposal says of additional key exchanges.
    fn take_additional(&mut self, proposal: &Proposal) {
        let types = transform_type::ADDITIONAL_KE;
        let answered: Vec<_> = proposal.transforms.iter().filter(|t| types.contains(&t.kind)).collect();
        assert!(answered.iter().map(|t| t.kind).eq(types.take(self.additional.len())), "one of each type");
        assert!(answered.iter().zip(&self.additional).all(|(t, offered)| offered.contains(&t.id)));
        self.kems = answered.iter().filter_map(|t| Kem::from_transform_id(t.id)).collect();
    }

    /// An IKE_SA_INIT request; nonce and key pair stay the same when only a cookie is added.
    pub(super) fn init_request(&mut self) -> Vec<u8> {
        if self.pair.as_ref().is_none_or(|pair| pair.group() != self.guess) {
            self.pair = Some(KeyPair::generate(self.guess).unwrap());
            self.ni = random::<24>().to_vec();
        }
        let public = self.pair.as_ref().unwrap().public().to_vec();
        let mut chain = Chain::new();
        if let Some(cookie) = &self.cookie {
            chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE, cookie).emit());
        }
        chain.push(Kind::Sa, &emit_proposals(&[self.ike_proposal(3, &[])]));
        chain.push(Kind::Ke, &Ke { group: self.guess.transform_id(), data: &public }.emit());
        chain.push(Kind::Nonce, &self.ni);
        chain.push(Kind::Notify, &Notify::new(notify_type::NAT_DETECTION_SOURCE_IP, &[1; 20]).emit());
        if self.fragmentation {
            chain.push(Kind::Notify, &Notify::new(notify_type::FRAGMENTATION_SUPPORTED, &[]).emit());
        }
        if let Signing::Rfc7427(_) = self.signing {
            let hashes = Notify::new(notify_type::SIGNATURE_HASH_ALGORITHMS, &[0, 2, 0, 3, 0, 4]);
            chain.push(Kind::Notify, &hashes.emit());
        }
        if !self.additional.is_empty() && self.announces_intermediate {
            chain.push(Kind::Notify, &Notify::new(notify_type::INTERMEDIATE_EXCHANGE_SUPPORTED, &[]).emit());
        }
        if self.ppk.is_some() {
            chain.push(Kind::Notify, &Notify::new(notify_type::USE_PPK, &[]).emit());
        }
        self.vendors.iter().for_each(|vendor| chain.push(Kind::Vendor, vendor));
        let header = Header { spi_r: 0, ..self.header(Exchange::IkeSaInit, 0, false) };
        self.request = chain.emit_message(header);
        self.request.clone()
    }

    pub(super) fn handle_init(&mut self, answer: &[Vec<u8>]) -> InitAnswer {
        let [answer] = answer else { return InitAnswer::Nothing };
        let header = Header::parse(answer).unwrap();
        assert!(header.covers(answer) && header.response && !header.initiator && header.spi_i == self.spi_i);
        assert!(answer.len() <= 3 * self.request.len(), "no amplification");
        let payloads = parse_chain(header.next_payload, &answer[HEADER_LEN..]).unwrap();
        let body = |kind| payloads.iter().find(|payload| payload.kind == kind).map(|payload| payload.body);
        let Some(sa) = body(Kind::Sa) else {
            assert_eq!(header.spi_r, 0, "no state, no SPI");
            let notify = Notify::parse(body(Kind::Notify).unwrap()).unwrap();
            return InitAnswer::Notify(notify.kind, notify.data.to_vec());
        };
        let proposal = &parse_proposals(sa).unwrap()[0];
        let transforms = 2 + protection(self.cipher).len() + self.additional.len();
        self.take_additional(proposal);
        assert_eq!((proposal.number, proposal.transforms.len(), &proposal.spi[..]), (3, transforms, &[][..]));
        assert!(proposal.transforms.contains(&encr(self.cipher)), "its preference, not our order");
        let ke = Ke::parse(body(Kind::Ke).unwrap()).unwrap();
        assert_eq!(ke.group, self.guess.transform_id());
        self.spi_r = header.spi_r;
        self.nr = body(Kind::Nonce).unwrap().to_vec();
        self.response = answer.clone();
        let find = |wanted| {
            let notifies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
            notifies.map(|payload| Notify::parse(payload.body).unwrap()).find(|notify| notify.kind == wanted)
        };
        let port = self.path.remote.port().to_be_bytes();
        let address = match self.path.remote.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let seen = sha1(&[&self.spi_i.to_be_bytes(), &self.spi_r.to_be_bytes(), &address, &port]);
        assert_eq!(find(notify_type::NAT_DETECTION_DESTINATION_IP).unwrap().data, seen);
        assert_eq!(find(notify_type::FRAGMENTATION_SUPPORTED).is_some(), self.fragmentation);
        assert_eq!(find(notify_type::INTERMEDIATE_EXCHANGE_SUPPORTED).is_some(), !self.kems.is_empty());
        let use_ppk = find(notify_type::USE_PPK).is_some();
        assert!(!use_ppk || self.ppk.is_some(), "only where it was asked for");
        self.use_ppk = use_ppk;
        let announced = matches!(self.signing, Signing::Rfc7427(_));
        assert_eq!(find(notify_type::SIGNATURE_HASH_ALGORITHMS).is_some(), announced);
        let ca = Certificate::parse(&self.ca).unwrap();
        let asked = parse_cert_request(body(Kind::CertReq).unwrap()).unwrap();
        assert!(asked.contains(&ca.spki_sha1()), "{asked:?}");

        let shared = self.pair.take().unwrap().agree(ke.data).unwrap();
        let nonces = [&self.ni[..], &self.nr].concat();
        let skeyseed = prf(self.prf, &nonces, &[shared.expose()]);
        self.derive(skeyseed.expose());
        InitAnswer::Done
    }

    pub(super) fn derive(&mut self, skeyseed: &[u8]) {
        let (p, k) = (self.prf.output_len(), self.cipher.keymat_len());
        let (a, e) = (self.cipher.integrity_len(), self.cipher.encryption_len());
        let seed = [&self.ni[..], &self.nr, &self.spi_i.to_be_bytes(), &self.spi_r.to_be_bytes()].concat();
        let keymat = prf_plus(self.prf, skeyseed, &[&seed], 3 * p + 2 * k).unwrap();
        let keymat = keymat.expose();
        self.sk_d = keymat[..p].to_vec();
        let (sk_a, sk_e) = (&keymat[p..p + 2 * a], &keymat[p + 2 * a..p + 2 * k]);
        let key =
            |encryption: &[u8], mac: &[u8]| CipherKey::new(self.cipher, &[encryption, mac].concat()).unwrap();
        let (i, r) = (key(&sk_e[..e], &sk_a[..a]), key(&sk_e[e..], &sk_a[a..]));
        self.keys = Some(if self.responder { (r, i) } else { (i, r) });
        self.sk_pi = keymat[p + 2 * k..2 * p + 2 * k].to_vec();
        self.sk_pr = keymat[2 * p + 2 * k..].to_vec();
    }

    pub(super) fn header(&self, exchange: Exchange, message_id: u32, response: bool) -> Header {
        Header {
            spi_i: self.spi_i,
            spi_r: self.spi_r,
            next_payload: 0,
            major: 2,
            exchange,
            initiator: !self.responder,
            response,
            message_id,
            length: 0,
        }
    }

    /// Seals a message; with padding, to see that it is taken.
    pub(super) fn seal(&mut self, header: Header, chain: &Chain) -> Vec<u8> {
        self.seal_piece(header, chain.first(), None, chain.bytes())
    }

    /// Seals octets that may be no payloads at all.
    pub(super) fn seal_raw(&mut self, header: Header, first: u8, payloads: &[u8]) -> Vec<u8> {
        self.seal_piece(header, first, None, payloads)
    }

    /// Seals a message in fragments of `size` octets of payloads.
    pub(super) fn seal_fragments(&mut self, header: Header, chain: &Chain, size: usize) -> Vec<Vec<u8>> {
        let total = chain.bytes().len().div_ceil(size) as u16;
        let pieces = (1..).zip(chain.bytes().chunks(size));
        pieces
            .map(|(number, piece)| {
                let first = if number == 1 { chain.first() } else { 0 };
                self.seal_piece(header, first, Some(FragmentNumber { number, total }), piece)
            })
            .collect()
    }

    /// Seals payloads as a message, or as a fragment with any numbers.
    pub(super) fn seal_piece(
        &mut self,
        header: Header,
        first: u8,
        fragment: Option<FragmentNumber>,
        payloads: &[u8],
    ) -> Vec<u8> {
        self.iv += 1;
        let cipher = self.cipher;
        // One block of padding more than needed.
        let len = (payloads.len() + 1).next_multiple_of(cipher.block_len()) + cipher.block_len().max(3);
        let mut plaintext = payloads.to_vec();
        plaintext.resize(len, 0);
        *plaintext.last_mut().unwrap() = u8::try_from(len - payloads.len() - 1).unwrap();
        let (mut iv, mut tag) = (vec![0; cipher.iv_len()], vec![0; cipher.tag_len()]);
        let head = emit_protected_head(header, first, fragment, iv.len() + len + tag.len());
        let key = &self.keys.as_ref().unwrap().0;
        key.seal(self.iv, &head, &mut iv, &mut plaintext, &mut tag).unwrap();
        [head, iv, plaintext, tag].concat()
    }

    /// Opens a message of the responder, whole or in fragments (in order).
    pub(super) fn open(&self, datagrams: &[Vec<u8>]) -> Opened {
        let (mut bytes, mut first) = (vec![], 0);
        for (index, datagram) in datagrams.iter().enumerate() {
            let header = Header::parse(datagram).unwrap();
            assert!(header.covers(datagram) && header.initiator == self.responder);
            assert_eq!((header.spi_i, header.spi_r), (self.spi_i, self.spi_r));
            let protected = Protected::parse(&header, datagram).unwrap();
            assert_eq!(
                protected.fragment.map(|f| usize::from(f.number)),
                (datagrams.len() > 1).then_some(index + 1)
            );
            let (iv, sealed) = protected.sealed.split_at(self.cipher.iv_len());
            let mut sealed = sealed.to_vec();
            let len = self.keys.as_ref().unwrap().1.open(iv, protected.aad, &mut sealed).unwrap();
            bytes.extend(Protected::strip_padding(&sealed[..len]).unwrap());
            first = first.max(protected.first);
        }
        Opened { header: Header::parse(&datagrams[0]).unwrap(), first, bytes }
    }

    pub(super) fn id_body(&self) -> Vec<u8> {
        Id { kind: self.id_i.0, data: &self.id_i.1 }.emit()
    }

    pub(super) fn auth_body(&self) -> Vec<u8> {
        let key = PrivateKey::from_pem(self.cert.key_pem.as_bytes()).unwrap();
        let mac = prf(self.prf, &self.sk_pi, &[&self.id_body()]);
        let octets = [&self.request[..], &self.nr, mac.expose(), &self.int_auth(self.next_id)].concat();
        match self.signing {
            Signing::Rfc7427(scheme) => {
                let algorithm = method14::algorithm_identifier(scheme);
                let mut data = vec![algorithm.len() as u8];
                data.extend(algorithm);
                data.extend(key.sign(scheme, &octets).unwrap());
                Auth { method: auth_method::DIGITAL_SIGNATURE, data: &data }.emit()
            }
            Signing::EcdsaByCurve => {
                let (method, scheme, width) = match key.kind() {
                    KeyKind::P256 => (auth_method::ECDSA_256, SignatureScheme::EcdsaP256Sha256, 32),
                    _ => (auth_method::ECDSA_384, SignatureScheme::EcdsaP384Sha384, 48),
                };
                let data = ecdsa_der_to_fixed(&key.sign(scheme, &octets).unwrap(), width).unwrap();
                Auth { method, data: &data }.emit()
            }
            Signing::Rsa(scheme) => {
                let data = key.sign(scheme, &octets).unwrap();
                Auth { method: auth_method::RSA, data: &data }.emit()
            }
        }
    }

    /// The payloads of IKE_AUTH, by kind, for tests that change them.
    pub(super) fn auth_payloads(&mut self) -> Vec<(Kind, Vec<u8>)> {
        let mut payloads = vec![(Kind::IdI, self.id_body())];
        payloads.push((Kind::Cert, Cert { encoding: Cert::X509, data: &self.cert.cert_der }.emit()));
        if self.initial_contact {
            payloads.push((Kind::Notify, Notify::new(notify_type::INITIAL_CONTACT, &[]).emit()));
        }
        if self.mobike {
            payloads.push((Kind::Notify, Notify::new(notify_type::MOBIKE_SUPPORTED, &[]).emit()));
        }
        if let Some((kind, data)) = &self.id_r {
            payloads.push((Kind::IdR, Id { kind: *kind, data }.emit()));
        }
        if let Some((id, _)) = self.ppk.clone().filter(|_| self.use_ppk) {
            self.unmixed = Some((self.sk_d.clone(), self.sk_pi.clone(), self.sk_pr.clone()));
            if self.no_ppk_auth {
                let auth = self.auth_body();
                let data = Auth::parse(&auth).unwrap().data;
                payloads.push((Kind::Notify, Notify::new(notify_type::NO_PPK_AUTH, data).emit()));
            }
            payloads.push((Kind::Notify, Notify::new(notify_type::PPK_IDENTITY, &id).emit()));
            self.mix_ppk();
        }
        payloads.push((Kind::Auth, self.auth_body()));
        let attributes = self.asked.iter().map(|kind| Attribute { kind: *kind, value: &[] }).collect();
        payloads.push((Kind::Cp, Configuration { cfg_type: CfgType::Request, attributes }.emit()));
        payloads.extend(self.child_payloads(&[None]));
        payloads
    }

    /// SA and selectors for a new Child SA, whose SPI is taken; one proposal per kind of group.
    pub(super) fn child_payloads(&mut self, groups: &[Option<Group>]) -> Vec<(Kind, Vec<u8>)> {
        self.next_esp_spi += 1;
        let spi = self.next_esp_spi.to_be_bytes().to_vec();
        let proposals: Vec<_> = (FIRST_ESP_PROPOSAL..)
            .zip(groups)
            .map(|(number, group)| {
                let mut transforms = protection(self.esp);
                transforms.push(Transform::new(transform_type::ESN, 0));
                transforms.extend(group.map(|g| Transform::new(transform_type::KE, g.transform_id())));
                transforms.extend(group.iter().flat_map(|_| self.additional_transforms()));
                Proposal { number, protocol: protocol::ESP, spi: spi.clone(), transforms }
            })
            .collect();
        let all = emit_selectors(&self.offered);
        vec![(Kind::Sa, emit_proposals(&proposals)), (Kind::TsI, all.clone()), (Kind::TsR, all)]
    }

    pub(super) fn auth_request(&mut self) -> Vec<Vec<u8>> {
        let payloads = self.auth_payloads();
        self.protected_request(Exchange::IkeAuth, &payloads)
    }

    /// A request with the next message ID; before the end of IKE_AUTH in small fragments where the peer takes them.
    pub(super) fn protected_request(
        &mut self,
        exchange: Exchange,
        payloads: &[(Kind, Vec<u8>)],
    ) -> Vec<Vec<u8>> {
        let chain = chain_of(payloads);
        let header = self.header(exchange, self.next_id, false);
        self.next_id += 1;
        if self.fragmentation && matches!(exchange, Exchange::IkeAuth | Exchange::IkeIntermediate) {
            self.seal_fragments(header, &chain, 200)
        } else {
            vec![self.seal(header, &chain)]
        }
    }

    /// A whole exchange, our request first.
    pub(super) fn request(
        &mut self,
        world: &mut World,
        exchange: Exchange,
        payloads: &[(Kind, Vec<u8>)],
    ) -> Opened {
        let request = self.protected_request(exchange, payloads);
        let answer = world.exchange(self.path, &request);
        assert!(!answer.is_empty(), "no answer to {exchange:?}");
        let opened = self.open(&answer);
        assert!(opened.header.response && opened.header.exchange == exchange);
        assert_eq!(opened.header.message_id, self.next_id - 1);
        opened
    }

    /// Answers the responder's own request with these payloads.
    pub(super) fn answer(
        &mut self,
        world: &mut World,
        request: &Opened,
        payloads: &[(Kind, Vec<u8>)],
    ) -> Vec<Vec<u8>> {
        assert!(!request.header.response);
        let header = self.header(request.header.exchange, request.header.message_id, true);
        let answer = self.seal(header, &chain_of(payloads));
        world.exchange(self.path, &[answer])
    }

    pub(super) fn handle_auth(&mut self, answer: &[Vec<u8>]) -> Result<(), u16> {
        let opened = self.open(answer);
        assert_eq!((opened.header.message_id, opened.header.exchange), (self.next_id - 1, Exchange::IkeAuth));
        if let (Some(error), None) = (opened.error(), opened.body(Kind::Auth)) {
            assert_eq!(opened.payloads().len(), 1, "an error tells nothing else");
            return Err(error);
        }
        let notify = |kind| {
            let payloads = opened.payloads();
            let mut notifies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
            notifies.any(|payload| Notify::parse(payload.body).unwrap().kind == kind)
        };
        if let Some(unmixed) = self.unmixed.take() {
            self.use_ppk = notify(notify_type::PPK_IDENTITY);
            if !self.use_ppk {
                (self.sk_d, self.sk_pi, self.sk_pr) = unmixed;
            }
        } else {
            assert!(!notify(notify_type::PPK_IDENTITY));
        }
        self.check_server(&opened);
        if let Some(error) = opened.error() {
            return Err(error);
        }
        self.take_connection(&opened);
        Ok(())
    }

    /// What the responder gives to an authenticated peer.
    pub(super) fn take_connection(&mut self, opened: &Opened) {
        assert_eq!(opened.notify(notify_type::MOBIKE_SUPPORTED).is_some(), self.mobike);
        let cp = Configuration::parse(opened.body(Kind::Cp).unwrap()).unwrap();
        assert_eq!(cp.cfg_type, CfgType::Reply);
        for attribute in &cp.attributes {
            assert!(self.asked.contains(&attribute.kind), "{} was not asked for", attribute.kind);
            let v4 = || <[u8; 4]>::try_from(attribute.value).map(Ipv4Addr::from).unwrap();
            let v6 = |octets: &[u8]| <[u8; 16]>::try_from(octets).map(Ipv6Addr::from).unwrap();
            match attribute.kind {
                attribute::INTERNAL_IP4_ADDRESS => self.address = Some(v4()),
                attribute::INTERNAL_IP4_NETMASK => assert_eq!(v4(), Ipv4Addr::BROADCAST),
                attribute::INTERNAL_IP4_DNS => self.dns.push(v4()),
                attribute::INTERNAL_IP6_ADDRESS => {
                    let (prefix_len, address) = attribute.value.split_last().unwrap();
                    assert_eq!(*prefix_len, 128);
                    self.address6 = Some(v6(address));
                }
                attribute::INTERNAL_IP6_DNS => self.dns6.push(v6(attribute.value)),
                attribute::INTERNAL_DNS_DOMAIN => {
                    self.domains.push(String::from_utf8(attribute.value.to_vec()).unwrap());
                }
                other => panic!("attribute {other} is off"),
            }
        }
        self.take_child(opened);
    }

    /// Our AUTH payload by a shared key (RFC 7296 section 2.15).
    pub(super) fn shared_key_auth(&self, key: &[u8]) -> Vec<u8> {
        let mac = prf(self.prf, &self.sk_pi, &[&self.id_body()]);
        let octets = [&self.request[..], &self.nr, mac.expose(), &self.int_auth(self.first_auth())].concat();
        let padded = prf(self.prf, key, &[b"Key Pad for IKEv2"]);
        let mac = prf(self.prf, padded.expose(), &[&octets]);
        Auth { method: auth_method::SHARED_KEY, data: mac.expose() }.emit()
    }

    /// Message ID of the first IKE_AUTH.
    fn first_auth(&self) -> u32 {
        1 + self.kems.len() as u32
    }

    /// Checks the AUTH payload of the responder, whose IDr was `id_r`, by a shared key.
    pub(super) fn check_shared_key(&self, auth: &[u8], id_r: &[u8], key: &[u8]) {
        let mac = prf(self.prf, &self.sk_pr, &[id_r]);
        let octets = [&self.response[..], &self.ni, mac.expose(), &self.int_auth(self.first_auth())].concat();
        let padded = prf(self.prf, key, &[b"Key Pad for IKEv2"]);
        let mac = prf(self.prf, padded.expose(), &[&octets]);
        assert_eq!(Auth::parse(auth), Ok(Auth { method: auth_method::SHARED_KEY, data: mac.expose() }));
    }

    pub(super) fn check_server(&mut self, opened: &Opened) {
        let id_r = opened.body(Kind::IdR).unwrap();
        let certificate =
            Certificate::parse(Cert::parse(opened.body(Kind::Cert).unwrap()).unwrap().data).unwrap();
        let anchors = TrustAnchors::new(&[Certificate::parse(&self.ca).unwrap()]).unwrap();
        anchors.verify_server(&certificate, &[], WALL).unwrap();
        let mac = prf(self.prf, &self.sk_pr, &[id_r]);
        let first_auth = opened.header.message_id;
        let octets = [&self.response[..], &self.ni, mac.expose(), &self.int_auth(first_auth)].concat();
        let auth = Auth::parse(opened.body(Kind::Auth).unwrap()).unwrap();
        let verified = match (self.signing, auth.method) {
            (Signing::Rfc7427(_), auth_method::DIGITAL_SIGNATURE) => {
                let (algorithm, signature) = auth.split_digital_signature().unwrap();
                let scheme = method14::parse_algorithm_identifier(algorithm, &certificate).unwrap();
                certificate.verify(scheme, EcdsaForm::Der, &octets, signature)
            }
            (Signing::EcdsaByCurve | Signing::Rsa(_), auth_method::ECDSA_256) => {
                certificate.verify(SignatureScheme::EcdsaP256Sha256, EcdsaForm::Fixed, &octets, auth.data)
            }
            (Signing::EcdsaByCurve, auth_method::ECDSA_384) => {
                certificate.verify(SignatureScheme::EcdsaP384Sha384, EcdsaForm::Fixed, &octets, auth.data)
            }
            (Signing::EcdsaByCurve, auth_method::RSA) => {
                certificate.verify(SignatureScheme::RsaPkcs1Sha1, EcdsaForm::Der, &octets, auth.data)
            }
            (Signing::Rsa(scheme), auth_method::RSA) => {
                certificate.verify(scheme, EcdsaForm::Der, &octets, auth.data)
            }
            (signing, method) => panic!("method {method} for {signing:?}"),
        };
        verified.unwrap();
        self.server_auth = auth.method;
        self.server_cert = certificate.der().to_vec();
    }

    /// Notes a Child SA that the responder agreed to; says which group it answered.
    pub(super) fn take_child(&mut self, opened: &Opened) -> Option<u16> {
        let proposals = parse_proposals(opened.body(Kind::Sa).unwrap()).unwrap();
        let [proposal] = proposals.as_slice() else { panic!("one proposal") };
        let peer_spi = u32::from_be_bytes(proposal.spi.as_slice().try_into().unwrap());
        if proposal.transforms.iter().any(|t| t.kind == transform_type::KE) {
            self.take_additional(proposal);
        }
        assert!(protection(self.esp).iter().all(|wanted| proposal.transforms.contains(wanted)));
        let selectors = |kind| parse_selectors(opened.body(kind).unwrap()).unwrap();
        let (ts_i, ts_r) = (selectors(Kind::TsI), selectors(Kind::TsR));
        self.children.push(HisChild { spi: self.next_esp_spi, peer_spi, ts_i, ts_r });
        proposal.transforms.iter().find(|t| t.kind == transform_type::KE).map(|t| t.id)
    }

    /// KEYMAT of a Child SA in which we are the initiator: our outbound key, then the inbound one.
    pub(super) fn child_keymat(&self, shared: &[u8], ni: &[u8], nr: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let len = self.esp.keymat_len();
        let keymat = prf_plus(self.prf, &self.sk_d, &[shared, ni, nr], 2 * len).unwrap();
        (keymat.expose()[..len].to_vec(), keymat.expose()[len..].to_vec())
    }

    pub(super) fn init_nonces(&self) -> (Vec<u8>, Vec<u8>) {
        (self.ni.clone(), self.nr.clone())
    }

    /// Rekeys a Child SA; what is wrong with it is the error notify.
    pub(super) fn rekey_child(
        &mut self,
        world: &mut World,
        old_spi: u32,
        ke: Option<Group>,
        offered: &[Option<Group>],
    ) -> Result<HisChild, u16> {
        let ni = self.new_nonce();
        let pair = ke.map(|group| KeyPair::generate(group).unwrap());
        let spi = old_spi.to_be_bytes();
        let notify = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
        let mut payloads = vec![(Kind::Notify, notify.emit())];
        payloads.extend(self.child_payloads(offered));
        payloads.push((Kind::Nonce, ni.clone()));
        if let Some(pair) = &pair {
            let ke = Ke { group: pair.group().transform_id(), data: pair.public() };
            payloads.push((Kind::Ke, ke.emit()));
        }
        let opened = self.request(world, Exchange::CreateChildSa, &payloads);
        if let Some(error) = opened.error() {
            return Err(error);
        }
        let group = self.take_child(&opened);
        assert_eq!(group.is_some(), opened.body(Kind::Ke).is_some());
        let shared = group.map(|group| {
            let answer = Ke::parse(opened.body(Kind::Ke).unwrap()).unwrap();
            assert_eq!(answer.group, group);
            pair.unwrap().agree(answer.data).unwrap()
        });
        let shared = shared.as_ref().map_or(&[][..], |shared| shared.expose());
        let nr = opened.body(Kind::Nonce).unwrap().to_vec();
        let more = if group.is_some() { self.follow_up(world, opened)? } else { vec![] };
        let (out, inbound) = self.child_keymat(shared, &ni, &[nr, more].concat());
        let child = self.children.last().unwrap().clone();
        let installed = world.installed.iter().find(|sa| sa.spi_in == child.peer_spi).unwrap();
        assert_eq!((installed.key_in.expose(), installed.key_out.expose()), (&out[..], &inbound[..]));
        Ok(child)
    }

    /// Rekeys the IKE SA; from here on this is the new one, and the old one can be brought back by `swap_old`.
    pub(super) fn rekey_ike(&mut self, world: &mut World, proposal_number: u8) -> Result<(), u16> {
        let (ni, pair) = (self.new_nonce(), KeyPair::generate(self.guess).unwrap());
        let new_spi = u64::from_be_bytes(random()) | 1;
        let payloads = [
            (Kind::Sa, emit_proposals(&[self.ike_proposal(proposal_number, &new_spi.to_be_bytes())])),
            (Kind::Nonce, ni.clone()),
            (Kind::Ke, Ke { group: self.guess.transform_id(), data: pair.public() }.emit()),
        ];
        let opened = self.request(world, Exchange::CreateChildSa, &payloads);
        if let Some(error) = opened.error() {
            return Err(error);
        }
        let proposals = parse_proposals(opened.body(Kind::Sa).unwrap()).unwrap();
        assert_eq!(proposals[0].number, proposal_number);
        let shared = pair.agree(Ke::parse(opened.body(Kind::Ke).unwrap()).unwrap().data).unwrap();
        let new_peer_spi = u64::from_be_bytes(proposals[0].spi.as_slice().try_into().unwrap());
        let nr = opened.body(Kind::Nonce).unwrap().to_vec();
        self.take_additional(&proposals[0]);
        let more = self.follow_up(world, opened)?;
        self.enter_with((new_spi, new_peer_spi), false, shared.expose(), (ni, nr), &more);
        Ok(())
    }

    /// The additional key exchanges behind CREATE_CHILD_SA, whose answer is `opened`: what they gave.
    fn follow_up(&mut self, world: &mut World, mut opened: Opened) -> Result<Vec<u8>, u16> {
        let mut secrets = vec![];
        for kem in self.kems.clone() {
            let pair = kem::KeyPair::generate(kem, &mut SystemRandom::new());
            let link = opened.link().expect("a link to the next exchange");
            opened = self.request(world, Exchange::IkeFollowupKe, &follow_up_payloads(&pair, &link));
            if let Some(error) = opened.error() {
                return Err(error);
            }
            let ke = Ke::parse(opened.body(Kind::Ke).unwrap()).unwrap();
            assert_eq!(ke.group, kem.transform_id());
            secrets.extend(pair.decapsulate(ke.data).unwrap().expose());
        }
        assert_eq!(opened.link(), None, "nothing is to follow");
        Ok(secrets)
    }

    /// Agrees to the responder's rekey of the IKE SA, and goes over to the new one; what is sent on the old one comes
    /// back.
    pub(super) fn answer_ike_rekey(&mut self, world: &mut World, request: &Opened) -> Vec<Vec<u8>> {
        let proposals = parse_proposals(request.body(Kind::Sa).unwrap()).unwrap();
        let [proposal] = proposals.as_slice() else { panic!("one proposal") };
        let ke = Ke::parse(request.body(Kind::Ke).unwrap()).unwrap();
        let group = Group::from_transform_id(ke.group).unwrap();
        assert!(proposal.transforms.contains(&encr(self.cipher)), "what is in use");
        assert_eq!((proposal.protocol, proposal.number, group), (protocol::IKE, 1, self.guess));
        let (nr, pair) = (self.new_nonce(), KeyPair::generate(group).unwrap());
        let new_spi = u64::from_be_bytes(random()) | 1;
        let answer = [
            (
                Kind::Sa,
                emit_proposals(&[Proposal { spi: new_spi.to_be_bytes().to_vec(), ..proposal.clone() }]),
            ),
            (Kind::Nonce, nr.clone()),
            (Kind::Ke, Ke { group: ke.group, data: pair.public() }.emit()),
        ];
        let rest = self.answer(world, request, &answer);
        let new_peer_spi = u64::from_be_bytes(proposal.spi.as_slice().try_into().unwrap());
        let ni = request.body(Kind::Nonce).unwrap().to_vec();
        self.enter((new_peer_spi, new_spi), true, pair.agree(ke.data).unwrap().expose(), (ni, nr));
        rest
    }

    fn new_nonce(&mut self) -> Vec<u8> {
        self.nonce.take().unwrap_or_else(|| random::<32>().to_vec())
    }

    /// Goes over to the IKE SA that replaces this one.
    pub(super) fn enter(
        &mut self,
        spis: (u64, u64),
        responder: bool,
        shared: &[u8],
        (ni, nr): (Vec<u8>, Vec<u8>),
    ) {
        self.enter_with(spis, responder, shared, (ni, nr), &[]);
    }

    /// The same, where additional key exchanges gave `more`.
    fn enter_with(
        &mut self,
        spis: (u64, u64),
        responder: bool,
        shared: &[u8],
        (ni, nr): (Vec<u8>, Vec<u8>),
        more: &[u8],
    ) {
        let skeyseed = prf(self.prf, &self.sk_d, &[shared, &ni, &nr, more]);
        self.old = Slot::default();
        self.swap_old();
        (self.spi_i, self.spi_r) = spis;
        (self.responder, self.ni, self.nr) = (responder, ni, nr);
        self.derive(skeyseed.expose());
    }

    /// Changes between the IKE SA and the one before its rekey.
    pub(super) fn swap_old(&mut self) {
        let mut old = std::mem::take(&mut self.old);
        self.swap(&mut old);
        self.old = old;
    }

    pub(super) fn old_slot(&mut self) -> &mut Slot {
        &mut self.old
    }

    /// Changes between the IKE SA and another one of its own.
    pub(super) fn swap(&mut self, other: &mut Slot) {
        use std::mem::swap;
        let mut spis = (self.spi_i, self.spi_r);
        let mut counters = (self.next_id, self.iv);
        swap(&mut spis, &mut other.spis);
        swap(&mut counters, &mut other.counters);
        swap(&mut self.responder, &mut other.responder);
        swap(&mut self.keys, &mut other.keys);
        swap(&mut self.sk_d, &mut other.sk_d);
        ((self.spi_i, self.spi_r), (self.next_id, self.iv)) = (spis, counters);
    }
}

/// An IKE_FOLLOWUP_KE request.
pub(super) fn follow_up_payloads(pair: &kem::KeyPair, link: &[u8]) -> [(Kind, Vec<u8>); 2] {
    let ke = Ke { group: pair.kem().transform_id(), data: &pair.public() }.emit();
    [(Kind::Ke, ke), (Kind::Notify, Notify::new(notify_type::ADDITIONAL_KEY_EXCHANGE, link).emit())]
}

/// What IntAuth covers of a message: the header and the payloads, with lengths as if nothing else were in it.
fn int_auth_data(header: Header, first: u8, payloads: &[u8]) -> Vec<u8> {
    let length = (HEADER_LEN + 4 + payloads.len()) as u32;
    let mut data = Header { next_payload: Kind::Sk as u8, length, ..header }.emit().to_vec();
    data.extend([first, 0]);
    data.extend(((4 + payloads.len()) as u16).to_be_bytes());
    data.extend(payloads);
    data
}

pub(super) fn chain_of(payloads: &[(Kind, Vec<u8>)]) -> Chain {
    let mut chain = Chain::new();
    payloads.iter().for_each(|(kind, body)| chain.push(*kind, body));
    chain
}

pub(super) fn everything() -> TrafficSelector {
    super::selector::any_between(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
}

pub(super) fn everything6() -> TrafficSelector {
    super::selector::any_between(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from_bits(u128::MAX))
}

/// ENCR, and INTEG where the cipher has a MAC.
pub(super) fn protection(cipher: Cipher) -> Vec<Transform> {
    let integrity = cipher.integrity().map(|mac| Transform::new(transform_type::INTEG, mac.transform_id()));
    [encr(cipher)].into_iter().chain(integrity).collect()
}

pub(super) fn encr(cipher: Cipher) -> Transform {
    let key_length = cipher.key_bits().map_or(KeyLength::Absent, KeyLength::Bits);
    Transform { kind: transform_type::ENCR, id: cipher.transform_id(), key_length }
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    use crate::base::Random;
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets);
    octets
}
