//! Clients that show their certificate by EAP-TLS: rustls as the client, pieces in both directions.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::eap::{Eap, why};
use crate::crypto::mschapv2::nt_hash;
use crate::crypto::pki::ChainError;
use crate::crypto::sign::KeyKind;
use crate::ike::testing::*;
use crate::ike::{AuthError, EapError, Input};
use crate::provision::{Authority, Issued};
use crate::wire::eap::{code, kind};
use crate::wire::ike::notify_type;

fn world(users: bool) -> World {
    world_of(KeyKind::P256, users)
}

fn world_of(server: KeyKind, users: bool) -> World {
    let mut world = World::new();
    let names = ["vpn.example"];
    let issued = match server {
        KeyKind::Rsa => {
            let valid = crate::provision::Validity::days(WALL, 365);
            world
                .authority
                .issue_with_key(crate::provision::Role::Server, &names, valid, &rsa_key_pem())
                .unwrap()
        }
        _ => world.authority.issue_server(&names, WALL, 365).unwrap(),
    };
    let mut identity = identity("vpn.example", &issued, &[&world.authority]);
    identity.access.eap_tls = true;
    if users {
        identity.access.users.add("alice", nt_hash("password"));
    }
    world.handle(Input::Identity(Box::new(identity)));
    world
}

fn tls(
    authority: &Authority,
    own: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.cert_der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        Some(own) => {
            let chain = vec![CertificateDer::from(own.cert_der.clone())];
            let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = config;
    config.time_provider = Arc::new(AtTestTime);
    ClientConnection::new(Arc::new(config), "vpn.example".try_into().unwrap()).unwrap()
}

#[derive(Debug)]
struct AtTestTime;

impl rustls::time_provider::TimeProvider for AtTestTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(WALL))
    }
}

/// Sends a flight in pieces of `size`, and takes the answer in pieces; the octets of it, or the packet that ended it.
fn flight(world: &mut World, eap: &mut Eap, octets: &[u8], size: usize) -> Result<Vec<u8>, Vec<u8>> {
    let mut pieces = octets.chunks(size).peekable();
    let mut is_first = true;
    let mut answer = vec![];
    let mut announced = None;
    loop {
        let data = match pieces.next() {
            None => vec![0],
            Some(piece) => {
                let more = if pieces.peek().is_some() { 0x40 } else { 0 };
                let length = if is_first { (octets.len() as u32).to_be_bytes().to_vec() } else { vec![] };
                [&[more | if is_first { 0x80 } else { 0 }][..], &length, piece].concat()
            }
        };
        is_first = false;
        let packet = eap.send(world, eap.packet(kind::TLS, &data));
        if packet[0] != code::REQUEST {
            return Err(packet);
        }
        assert_eq!(packet[4], kind::TLS);
        let (flags, mut rest) = (packet[5], &packet[6..]);
        if flags & 0x80 != 0 {
            announced = Some(u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize);
            rest = &rest[4..];
        }
        assert!(rest.len() <= 1000 && (flags & 0x40 == 0 || rest.len() == 1000));
        answer.extend(rest);
        if pieces.peek().is_none() && flags & 0x40 == 0 {
            assert!(announced.is_none_or(|len| len == answer.len()));
            return Ok(answer);
        }
    }
}

/// EAP-TLS to its end; the last packet.
fn handshake(world: &mut World, eap: &mut Eap, mut tls: ClientConnection, size: usize) -> Vec<u8> {
    for _ in 0..5 {
        let mut out = vec![];
        while tls.wants_write() {
            tls.write_tls(&mut out).unwrap();
        }
        if out.is_empty() {
            break;
        }
        match flight(world, eap, &out, size) {
            Ok(answer) => {
                let mut answer = answer.as_slice();
                while !answer.is_empty() {
                    tls.read_tls(&mut answer).unwrap();
                    tls.process_new_packets().unwrap();
                }
            }
            Err(packet) => return packet,
        }
    }
    assert!(!tls.is_handshaking());
    let is_tls13 = tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    let (label, context): (&[u8], Option<&[u8]>) = if is_tls13 {
        let mut inside = [0xff; 8];
        assert_eq!(std::io::Read::read(&mut tls.reader(), &mut inside).unwrap(), 1);
        assert_eq!(inside[0], 0, "the server says aloud that it is done");
        (b"EXPORTER_EAP_TLS_Key_Material", Some(&[13]))
    } else {
        (b"client EAP encryption", None)
    };
    eap.msk = tls.export_keying_material(vec![0; 128], label, context).unwrap()[..64].to_vec();
    eap.send(world, eap.packet(kind::TLS, &[0]))
}

fn identify(world: &mut World, eap: &mut Eap, name: &str) {
    let packet = eap.send(world, eap.packet(kind::IDENTITY, name.as_bytes()));
    assert_eq!(packet[4..], [kind::TLS, 0x20]);
}

#[test]
fn a_certificate_by_tls_lets_in() {
    for server in [KeyKind::P256, KeyKind::Rsa] {
        let mut world = world_of(server, false);
        let own = world.client_cert("laptop");
        for (port, version, size, name) in [
            (1, &version::TLS12, 1000, "Laptop"),
            (2, &version::TLS13, 150, "host/laptop"),
            (3, &version::TLS13, 4000, "laptop"),
        ] {
            let mut eap = Eap::begin(&mut world, port);
            identify(&mut world, &mut eap, name);
            let tls = tls(&world.authority, Some(&own), version);
            assert_eq!(handshake(&mut world, &mut eap, tls, size)[0], code::SUCCESS, "{name}");
            assert_eq!(eap.finish(&mut world), Ok(()));
        }
        let connected =
            world.take_log().into_iter().filter(|line| line.starts_with("connected laptop ")).count();
        assert_eq!(connected, 3);
        // It ends with the certificate.
        world.advance(Duration::from_secs(3600));
        world.take_log();
    }
}

/// Windows with a certificate refuses a password and asks for TLS.
#[test]
fn a_client_may_prefer_tls() {
    let mut world = world(true);
    let own = world.client_cert("laptop");
    let mut eap = Eap::begin(&mut world, 4500);
    let packet = eap.send(&mut world, eap.packet(kind::IDENTITY, b"laptop"));
    assert_eq!(packet[4], kind::MSCHAPV2);
    let packet = eap.send(&mut world, eap.packet(kind::NAK, &[25, 13]));
    assert_eq!(packet[4..], [kind::TLS, 0x20]);
    let tls = tls(&world.authority, Some(&own), &version::TLS12);
    assert_eq!(handshake(&mut world, &mut eap, tls, 1000)[0], code::SUCCESS);
    assert_eq!(eap.finish(&mut world), Ok(()));
    // Once.
    let mut eap = Eap::begin(&mut world, 4501);
    eap.send(&mut world, eap.packet(kind::IDENTITY, b"laptop"));
    eap.send(&mut world, eap.packet(kind::NAK, &[13]));
    assert_eq!(eap.send(&mut world, eap.packet(kind::NAK, &[26]))[0], code::FAILURE);
}

/// A name, its certificate, and what is wrong.
type Case = (&'static str, Option<Issued>, fn(&EapError) -> bool);

#[test]
fn certificates_are_judged_as_in_ike() {
    let stranger = Authority::new("Other CA", WALL, 365).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let mut world = world(false);
        let cases: [Case; 5] = [
            ("laptop", Some(stranger.issue_client("laptop", WALL, 300).unwrap()), |why| {
                *why == EapError::Chain(ChainError::UnknownIssuer)
            }),
            (
                "laptop",
                Some(world.authority.issue_client("laptop", WALL - Duration::from_secs(864_000), 5).unwrap()),
                |why| *why == EapError::Chain(ChainError::Expired),
            ),
            ("laptop", Some(world.authority.issue_server(&["laptop"], WALL, 300).unwrap()), |why| {
                *why == EapError::Chain(ChainError::ExtendedKeyUsage)
            }),
            ("phone", Some(world.client_cert("laptop")), |why| *why == EapError::NotTheCertificates),
            ("laptop", None, |why| matches!(why, EapError::Tls(_))),
        ];
        for (port, (name, own, expected)) in (1..).zip(cases) {
            let mut eap = Eap::begin_elsewhere(&mut world, port);
            identify(&mut world, &mut eap, name);
            let tls = tls(&world.authority, own.as_ref(), version);
            let packet = handshake(&mut world, &mut eap, tls, 1000);
            assert_eq!(packet[0], code::FAILURE, "{port}");
            let AuthError::Eap(found) = why(&world) else { panic!("{port}: {:?}", why(&world)) };
            assert!(expected(found), "{port}: {found:?}");
        }
        assert!(world.take_log().is_empty());
    }
}

#[test]
fn packets_that_have_no_place() {
    let hello = |world: &World| {
        let mut out = vec![];
        tls(&world.authority, None, &version::TLS13).write_tls(&mut out).unwrap();
        out
    };
    for (port, data) in
        (1..).zip([vec![], vec![0], vec![0x20], vec![0x80, 0, 0], vec![0x40], vec![0, 1, 2, 3, 4, 5, 6]])
    {
        let mut world = world(false);
        let mut eap = Eap::begin(&mut world, port);
        identify(&mut world, &mut eap, "laptop");
        assert_eq!(eap.send(&mut world, eap.packet(kind::TLS, &data))[0], code::FAILURE, "{data:?}");
    }
    // More where an acknowledgement belongs.
    let mut world = world(false);
    let mut eap = Eap::begin(&mut world, 99);
    identify(&mut world, &mut eap, "laptop");
    let hello = hello(&world);
    let packet = eap.send(&mut world, eap.packet(kind::TLS, &[&[0][..], &hello].concat()));
    if packet[5] & 0x40 != 0 {
        assert_eq!(eap.send(&mut world, eap.packet(kind::TLS, &[0, 1]))[0], code::FAILURE);
    }
    // A flight without end.
    let mut eap = Eap::begin(&mut world, 100);
    identify(&mut world, &mut eap, "laptop");
    let mut sent = 0;
    loop {
        let packet = eap.send(&mut world, eap.packet(kind::TLS, &[&[0x40][..], &[22; 3000]].concat()));
        sent += 1;
        if packet[0] == code::FAILURE {
            break;
        }
    }
    assert_eq!(sent, 20, "with the identity that is one too many");
    assert_eq!(*why(&world), AuthError::Eap(EapError::TooLong));
    assert!(world.take_log().is_empty());
    // AUTH before TLS is done.
    let mut eap = Eap::begin(&mut world, 101);
    identify(&mut world, &mut eap, "laptop");
    let auth = eap.client.shared_key_auth(&[0; 64]);
    let payloads = [(crate::wire::ike::Kind::Auth, auth)];
    let opened = eap.client.request(&mut world, crate::wire::ike::Exchange::IkeAuth, &payloads);
    assert_eq!(opened.error(), Some(notify_type::INVALID_SYNTAX));
}
