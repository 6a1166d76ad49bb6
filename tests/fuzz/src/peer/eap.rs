//! EAP of the client: MSCHAPv2, and TLS for those that want it.

use std::sync::Arc;

use pterodapter::crypto::Secret;
use pterodapter::crypto::mschapv2::{self, nt_hash};
use pterodapter::wire::eap::{Packet, code, kind};
use pterodapter::wire::ike::{Chain, Exchange, Id, IdType, Kind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};

use super::proof::EAP_ADDRESS;
use super::{Expected, Peer};
use crate::WALL;
use crate::world::{CLIENT_NAME, IDENTITIES, PASSWORD, SERVER_NAME, USER};

/// Flags of EAP-TLS: a length follows; there is more.
const LENGTH: u8 = 0x80;
const MORE: u8 = 0x40;

/// Octets of TLS in one packet.
const PIECE: usize = 900;

/// What is known between the packets.
#[derive(Default)]
pub(super) struct Conversation {
    /// The packet that wants an answer.
    pub(super) asked: Option<Vec<u8>>,
    msk: Option<Secret>,
    tls: Option<Tls>,
}

struct Tls {
    client: ClientConnection,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

/// How the client answers.
#[derive(Clone, Copy)]
pub struct Manner {
    /// With the right password.
    pub right: bool,
    /// Rather by TLS.
    pub tls: bool,
}

impl Peer {
    /// The next message of EAP. Whether it is the last one, which ends in a Child SA.
    pub fn continue_eap(&mut self, manner: Manner) -> Option<(Vec<u8>, bool)> {
        let packet = self.eap.asked.take()?;
        if packet.first() == Some(&code::SUCCESS) {
            let msk = self.eap.msk.take()?;
            let octets = self.auth_octets(&Id { kind: IdType::Ipv4, data: &EAP_ADDRESS }.emit());
            let mut chain = Chain::new();
            chain.push(Kind::Auth, &self.by_key(msk.expose(), &octets));
            return Some((self.request(Exchange::IkeAuth, &chain, Expected::FirstChild), true));
        }
        let asked = Packet::parse(&packet).ok()?;
        let (kind, data) = match (asked.kind, asked.data) {
            (kind::IDENTITY, _) => {
                (kind::IDENTITY, if manner.tls { CLIENT_NAME } else { USER }.as_bytes().to_vec())
            }
            (kind::MSCHAPV2, [1, ..]) if manner.tls => (kind::NAK, vec![kind::TLS]),
            (kind::MSCHAPV2, [1, id, _, _, 16, rest @ ..]) => {
                (kind::MSCHAPV2, self.eap.respond(*id, rest.first_chunk()?, manner.right))
            }
            // "E=691 R=1 C=" and the next challenge, in hexadecimal digits.
            (kind::MSCHAPV2, [4, id, _, _, text @ ..]) => {
                let mut challenge = [0; 16];
                for (octet, pair) in challenge.iter_mut().zip(text.get(12..44)?.chunks(2)) {
                    *octet = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
                }
                (kind::MSCHAPV2, self.eap.respond(*id, &challenge, manner.right))
            }
            (kind::MSCHAPV2, _) => (kind::MSCHAPV2, vec![3]),
            (kind::TLS, data) => (kind::TLS, self.eap.handshake(data)?),
            _ => return None,
        };
        Some((self.eap_response(asked.identifier, kind, &data), false))
    }

    /// Any answer to the question of the server.
    pub fn answer_eap(&mut self, kind: u8, data: &[u8]) -> Option<Vec<u8>> {
        let packet = self.eap.asked.take()?;
        let asked = Packet::parse(&packet).ok()?;
        Some(self.eap_response(asked.identifier, kind, data))
    }

    fn eap_response(&mut self, identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut chain = Chain::new();
        chain.push(Kind::Eap, &Packet { code: code::RESPONSE, identifier, kind, data }.emit());
        self.request(Exchange::IkeAuth, &chain, Expected::Nothing)
    }
}

impl Conversation {
    fn respond(&mut self, id: u8, challenge: &[u8; 16], right: bool) -> Vec<u8> {
        let peer = [5; 16];
        let hash = nt_hash(if right { PASSWORD } else { "guess" });
        let attempt = mschapv2::Attempt { authenticator: challenge, peer: &peer, user: USER.as_bytes() };
        let response = attempt.response(&hash);
        self.msk = right.then(|| mschapv2::msk(&hash, &response));
        let length = 54 + USER.len() as u8;
        [&[2, id, 0, length, 49][..], &peer, &[0; 8], &response, &[0], USER.as_bytes()].concat()
    }

    /// The data of the next packet of EAP-TLS.
    fn handshake(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let (flags, data) = data.split_first()?;
        let piece = if flags & LENGTH == 0 { data } else { data.get(4..)? };
        let tls = self.tls.get_or_insert_with(|| Tls {
            client: client(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
        });
        tls.incoming.extend_from_slice(piece);
        if flags & MORE != 0 {
            return Some(vec![0]);
        }
        let mut incoming = &std::mem::take(&mut tls.incoming)[..];
        while !incoming.is_empty() {
            tls.client.read_tls(&mut incoming).ok()?;
            tls.client.process_new_packets().ok()?;
        }
        while tls.client.wants_write() {
            tls.client.write_tls(&mut tls.outgoing).ok()?;
        }
        if !tls.client.is_handshaking() {
            let (label, context): (&[u8], Option<&[u8]>) = match tls.client.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => (b"EXPORTER_EAP_TLS_Key_Material", Some(&[13])),
                _ => (b"client EAP encryption", None),
            };
            let exported = tls.client.export_keying_material(vec![0; 128], label, context).ok()?;
            self.msk = exported.get(..64).map(Secret::from);
        }
        let rest = tls.outgoing.split_off(tls.outgoing.len().min(PIECE));
        let piece = std::mem::replace(&mut tls.outgoing, rest);
        Some([&[if tls.outgoing.is_empty() { 0 } else { MORE }][..], &piece].concat())
    }
}

fn client() -> ClientConnection {
    let identities = &*IDENTITIES;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(identities.ca.clone())).expect("authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::from_pem_slice(identities.client.key_pem.as_bytes()).expect("key");
    let chain = vec![CertificateDer::from(identities.client.cert_der.clone())];
    let builder = builder.expect("versions").with_root_certificates(roots);
    let mut config = builder.with_client_auth_cert(chain, key).expect("client certificate");
    config.time_provider = Arc::new(AtStart);
    ClientConnection::new(Arc::new(config), SERVER_NAME.try_into().expect("name")).expect("client")
}

#[derive(Debug)]
struct AtStart;

impl rustls::time_provider::TimeProvider for AtStart {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(WALL))
    }
}
