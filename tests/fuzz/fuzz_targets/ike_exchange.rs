//! The IKE responder against a peer that does anything in any order: raw datagrams, well-framed nonsense, and, with the
//! keys of a real handshake, any payloads inside encryption, before and after authentication.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{LazyLock, Once};

use libfuzzer_sys::fuzz_target;
use pterodapter::base::{DeviceId, Path, TrafficSelector};
use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::prf::{prf, prf_plus};
use pterodapter::crypto::sign::{SignatureScheme, ecdsa_der_to_fixed};
use pterodapter::crypto::{Certificate, Cipher, Group, Prf, PrivateKey, Secret, TrustAnchors};
use pterodapter::ike::{Config, Identity, Input, Output, Policy, Responder};
use pterodapter::provision::{Authority, Issued};
use pterodapter::wire::ike::{
    Attribute, Auth, Cert, CfgType, Chain, Configuration, Exchange, HEADER_LEN, Header, Id, IdType, Ke,
    KeyLength, Kind, Proposal, Transform, attribute, auth_method, emit_proposals, emit_protected_head,
    emit_selectors, parse_chain, protected_head_len, protocol, transform_type,
};
use pterodapter_fuzz::{Counter, Events, WALL, now};

const AEAD: Cipher = Cipher::Aes256Gcm;
const PRF: Prf = Prf::HmacSha256;
const GROUP: Group = Group::X25519;
const SPI_I: u64 = 0x1122_3344_5566_7788;
const NONCE: [u8; 32] = [7; 32];

struct Identities {
    ca: Vec<u8>,
    server: Issued,
    client: Issued,
}

static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| {
    let ca = Authority::new("fuzz", WALL, 365).expect("authority");
    Identities {
        ca: ca.cert_der().to_vec(),
        server: ca.issue_server(&["gw.example"], WALL, 365).expect("server"),
        client: ca.issue_client("device.example", WALL, 365).expect("client"),
    }
});

/// An honest peer gets through: otherwise the target would only ever see refusals.
static HONEST: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    HONEST.call_once(|| {
        let mut run = Run::new();
        run.handshake(true);
        assert!(run.installed.is_some(), "the honest peer was refused");
    });
    let mut run = Run::new();
    for (kind, bytes) in Events(data) {
        run.event(kind % 10, bytes);
        run.drain();
    }
    // Whatever happened, it ends: the responder has no timer that runs for ever after a shutdown.
    run.handle(Input::Shutdown);
    run.drain();
    for _ in 0..1000 {
        let Some(timeout) = run.responder.poll_timeout() else { break };
        run.millis = run.millis.max(u64::try_from(timeout.as_millis()).expect("a time of ours") + 1);
        run.responder.handle_timeout(now(run.millis));
        run.drain();
    }
    assert!(run.responder.is_idle(), "still busy long after the shutdown");
});

struct Run {
    responder: Responder,
    millis: u64,
    sent: Vec<Vec<u8>>,
    installed: Option<u32>,
    session: Option<Session>,
}

/// The client's side of an IKE SA.
struct Session {
    spi_r: u64,
    seal: CipherKey,
    sk_pi: Secret,
    /// What the client signs: its first message and the responder's nonce.
    signed: Vec<u8>,
    next_id: u32,
    ivs: u64,
}

impl Run {
    fn new() -> Self {
        let identities = &*IDENTITIES;
        let certificate = |der: &[u8]| Certificate::parse(der).expect("certificate");
        let config = Config {
            identity: Identity::new(
                "gw.example",
                vec![certificate(&identities.server.cert_der)],
                PrivateKey::from_pem(identities.server.key_pem.as_bytes()).expect("key"),
                TrustAnchors::new(&[certificate(&identities.ca)]).expect("anchors"),
            ),
            pool: Ipv4Addr::new(198, 19, 255, 0),
            pool_prefix_len: 24,
            policy: Policy::default(),
        };
        let responder = Responder::new(config, Box::new(Counter::default()), now(0));
        Self { responder, millis: 0, sent: Vec::new(), installed: None, session: None }
    }

    fn event(&mut self, kind: u8, bytes: &[u8]) {
        let first = bytes.first().copied().unwrap_or_default();
        match kind {
            0 => self.datagram(bytes, 0),
            1 => self.handshake(first % 2 == 1),
            2 => self.framed(bytes),
            3 => self.sealed(Exchange::IkeAuth, false, first, bytes.get(1..).unwrap_or_default()),
            4 => self.sealed(Exchange::CreateChildSa, false, first, bytes.get(1..).unwrap_or_default()),
            5 => self.sealed(Exchange::Informational, false, first, bytes.get(1..).unwrap_or_default()),
            6 => {
                self.millis += bytes.len() as u64 * 100;
                self.responder.handle_timeout(now(self.millis));
            }
            7 => self.sealed(Exchange::Informational, true, first, bytes.get(1..).unwrap_or_default()),
            8 => {
                let spi_in = self.installed.unwrap_or_default();
                match first % 5 {
                    0 => self.handle(Input::Installed { spi_in }),
                    1 => self.handle(Input::NearlyExhausted { spi_in }),
                    2 => self.handle(Input::Alive { device: DeviceId(u32::from(first / 5)) }),
                    3 => self.handle(Input::Moved { device: DeviceId(u32::from(first / 5)), path: path(1) }),
                    _ => self.handle(Input::Disconnect(DeviceId(u32::from(first / 5)))),
                }
            }
            // What was said before, said again from elsewhere.
            _ => self.datagram(bytes, first % 3),
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.responder.handle(now(self.millis), input);
    }

    fn datagram(&mut self, bytes: &[u8], from: u8) {
        self.handle(Input::Datagram { path: path(from), bytes });
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            match self.responder.poll_output() {
                Some(Output::Send { bytes, .. }) => {
                    let header = Header::parse(&bytes).expect("we send IKE");
                    assert!(header.covers(&bytes));
                    self.sent.push(bytes);
                }
                Some(Output::Install(child)) => {
                    self.installed = Some(child.spi_in);
                    self.handle(Input::Installed { spi_in: child.spi_in });
                }
                Some(_) => {}
                None => return,
            }
        }
        panic!("the outputs do not end");
    }

    /// Bytes behind a header that leads to the session.
    fn framed(&mut self, bytes: &[u8]) {
        let Some((&[exchange, flags, id, next_payload], body)) = bytes.split_first_chunk::<4>() else {
            return;
        };
        let header = Header {
            spi_i: SPI_I,
            spi_r: self.session.as_ref().map_or(0, |session| session.spi_r),
            next_payload,
            major: 2,
            exchange: exchange_of(exchange % 4),
            initiator: flags & 1 == 0,
            response: flags & 2 != 0,
            message_id: u32::from(id),
            length: (HEADER_LEN + body.len()) as u32,
        };
        self.datagram(&[&header.emit()[..], body].concat(), 0);
    }

    /// Payloads inside encryption that the responder can open.
    fn sealed(&mut self, exchange: Exchange, response: bool, first: u8, payloads: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let message = session.seal(exchange, response, first, payloads);
        let sent = self.sent.len();
        self.datagram(&message, 0);
        self.drain();
        if let Some(session) = self.session.as_mut().filter(|_| self.sent.len() > sent && !response) {
            session.next_id += 1;
        }
    }

    /// IKE_SA_INIT, and IKE_AUTH if it is asked for.
    fn handshake(&mut self, authenticate: bool) {
        let pair = KeyPair::generate(GROUP).expect("key pair");
        let mut chain = Chain::new();
        chain.push(Kind::Sa, &emit_proposals(&[proposal(protocol::IKE, Vec::new())]));
        chain.push(Kind::Ke, &Ke { group: GROUP.transform_id(), data: pair.public() }.emit());
        chain.push(Kind::Nonce, &NONCE);
        let request = chain.emit_message(header(0, Exchange::IkeSaInit, false, 0));
        let sent = self.sent.len();
        self.datagram(&request, 0);
        self.drain();
        self.session = self.sent.get(sent).and_then(|response| Session::new(pair, &request, response));
        if let Some(session) = self.session.as_mut().filter(|_| authenticate) {
            let payloads = session.authentication();
            self.sealed(Exchange::IkeAuth, false, payloads.first(), payloads.bytes());
        }
    }
}

impl Session {
    /// `None` where the responder asked for a cookie or refused.
    fn new(pair: KeyPair, request: &[u8], response: &[u8]) -> Option<Self> {
        let header = Header::parse(response).ok()?;
        let payloads = parse_chain(header.next_payload, &response[HEADER_LEN..]).ok()?;
        let body = |kind| payloads.iter().find(|payload| payload.kind == kind).map(|payload| payload.body);
        let shared = pair.agree(Ke::parse(body(Kind::Ke)?).ok()?.data).ok()?;
        let nr = body(Kind::Nonce)?;
        let skeyseed = prf(PRF, &[&NONCE, nr].concat(), &[shared.expose()]);
        let seed = [&NONCE[..], nr, &SPI_I.to_be_bytes(), &header.spi_r.to_be_bytes()];
        let (prf_len, key_len) = (PRF.output_len(), AEAD.keymat_len());
        let keymat =
            prf_plus(PRF, skeyseed.expose(), &seed, 3 * prf_len + 2 * key_len).expect("key material");
        let (keys, sk_p) = keymat.expose()[prf_len..].split_at(2 * key_len);
        Some(Self {
            spi_r: header.spi_r,
            seal: CipherKey::new(AEAD, &keys[..key_len]).expect("key"),
            sk_pi: Secret::from(&sk_p[..prf_len]),
            signed: [request, nr].concat(),
            next_id: 1,
            ivs: 0,
        })
    }

    fn seal(&mut self, exchange: Exchange, response: bool, first: u8, payloads: &[u8]) -> Vec<u8> {
        let id = if response { 0 } else { self.next_id };
        let mut plaintext = [payloads, &[0]].concat();
        let (mut iv, mut tag) = (vec![0; AEAD.iv_len()], vec![0; AEAD.tag_len()]);
        let sealed_len = iv.len() + plaintext.len() + tag.len();
        let head = emit_protected_head(header(self.spi_r, exchange, response, id), first, None, sealed_len);
        assert_eq!(head.len(), protected_head_len(false));
        self.ivs += 1;
        self.seal.seal(self.ivs, &head, &mut iv, &mut plaintext, &mut tag).expect("sealed");
        [head, iv, plaintext, tag].concat()
    }

    fn authentication(&self) -> Chain {
        let identities = &*IDENTITIES;
        let id = Id { kind: IdType::Fqdn, data: b"device.example" }.emit();
        let octets = [&self.signed[..], prf(PRF, self.sk_pi.expose(), &[&id]).expose()].concat();
        let key = PrivateKey::from_pem(identities.client.key_pem.as_bytes()).expect("key");
        let signature = key.sign(SignatureScheme::EcdsaP256Sha256, &octets).expect("signature");
        let signature = ecdsa_der_to_fixed(&signature, 32).expect("signature");
        let any = TrafficSelector {
            first: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            last: IpAddr::V4(Ipv4Addr::BROADCAST),
            protocol: 0,
            port_first: 0,
            port_last: u16::MAX,
        };
        let mut chain = Chain::new();
        chain.push(Kind::IdI, &id);
        chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: &identities.client.cert_der }.emit());
        chain.push(Kind::Auth, &Auth { method: auth_method::ECDSA_256, data: &signature }.emit());
        let address = Attribute { kind: attribute::INTERNAL_IP4_ADDRESS, value: &[] };
        let request = Configuration { cfg_type: CfgType::Request, attributes: vec![address] };
        chain.push(Kind::Cp, &request.emit());
        chain.push(Kind::Sa, &emit_proposals(&[proposal(protocol::ESP, vec![1, 2, 3, 4])]));
        chain.push(Kind::TsI, &emit_selectors(&[any]));
        chain.push(Kind::TsR, &emit_selectors(&[any]));
        chain
    }
}

fn path(n: u8) -> Path {
    let remote = ([192, 0, 2, n], 4500).into();
    Path { socket: 0, local: None, local_port: 4500, remote, marker: true }
}

fn exchange_of(number: u8) -> Exchange {
    match number {
        0 => Exchange::IkeSaInit,
        1 => Exchange::IkeAuth,
        2 => Exchange::CreateChildSa,
        _ => Exchange::Informational,
    }
}

fn header(spi_r: u64, exchange: Exchange, response: bool, message_id: u32) -> Header {
    Header {
        spi_i: SPI_I,
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
fn proposal(protocol: u8, spi: Vec<u8>) -> Proposal {
    let cipher =
        Transform { kind: transform_type::ENCR, id: AEAD.transform_id(), key_length: KeyLength::Bits(256) };
    let others = if protocol == protocol::IKE {
        vec![
            Transform::new(transform_type::PRF, PRF.transform_id()),
            Transform::new(transform_type::KE, GROUP.transform_id()),
        ]
    } else {
        vec![Transform::new(transform_type::ESN, 0)]
    };
    Proposal { number: 1, protocol, spi, transforms: [vec![cipher], others].concat() }
}
