//! IKE_SA_INIT and IKE_AUTH: everything that lets a client in, and everything that does not.

use std::net::Ipv4Addr;

use crate::base::{Path, TrafficSelector};
use crate::crypto::pki::ChainError;
use crate::crypto::sign::{KeyKind, SignatureScheme};
use crate::crypto::{Cipher, Group, Integrity, Prf};
use crate::ike::selector::any_between;
use crate::ike::testing::*;
use crate::ike::{AuthError, ClientPlan, Event, Input, Policy, Refusal};
use crate::provision::{Authority, Issued, Role, Validity};
use crate::wire::ike::*;

fn rsa_client(world: &World) -> Issued {
    let valid = Validity::days(WALL, 365);
    world.authority.issue_with_key(Role::Client, &["rsa.example"], valid, &rsa_key_pem()).unwrap()
}

/// The SPIs of the newest Child SA, whose keys must be those that the client derives.
fn installed(world: &World, client: &Initiator) -> (u32, u32) {
    let sa = world.installed.last().unwrap();
    let (ni, nr) = client.init_nonces();
    let (out, inbound) = client.child_keymat(&[], &ni, &nr);
    assert_eq!((sa.key_in.expose(), sa.key_out.expose()), (&out[..], &inbound[..]));
    (sa.spi_in, sa.spi_out)
}

#[test]
fn every_suite_and_both_families_of_certificates_connect() {
    use SignatureScheme as S;
    use Signing::{EcdsaByCurve, Rfc7427, Rsa};
    let base =
        (KeyKind::P256, "ec", Rfc7427(S::EcdsaP256Sha256), Group::X25519, Cipher::Aes256Gcm, Prf::HmacSha256);
    for (server, client, signing, group, cipher, prf) in [
        base,
        (KeyKind::P384, "ec", base.2, Group::P256, Cipher::Aes128Gcm, Prf::HmacSha384),
        (KeyKind::Rsa, "ec", base.2, Group::P384, Cipher::ChaCha20Poly1305, Prf::HmacSha512),
        (KeyKind::P256, "ec", base.2, Group::Modp2048, Cipher::Aes256Cbc(Integrity::HmacSha256), base.5),
        (KeyKind::P256, "ec", base.2, Group::Modp3072, Cipher::Aes128Cbc(Integrity::HmacSha1), Prf::HmacSha1),
        (
            KeyKind::P256,
            "ec",
            base.2,
            Group::Modp4096,
            Cipher::Aes256Cbc(Integrity::HmacSha384),
            Prf::HmacSha384,
        ),
        (KeyKind::P256, "ec", base.2, Group::P256, Cipher::Aes128Cbc(Integrity::HmacSha512), Prf::HmacSha512),
        (KeyKind::P256, "ec", EcdsaByCurve, base.3, base.4, base.5),
        (KeyKind::P384, "ec384", EcdsaByCurve, base.3, base.4, base.5),
        (KeyKind::P256, "ec384", Rfc7427(S::EcdsaP384Sha384), base.3, base.4, base.5),
        (KeyKind::P256, "rsa", Rsa(S::RsaPkcs1Sha256), base.3, base.4, base.5),
        (KeyKind::Rsa, "rsa", Rsa(S::RsaPkcs1Sha1), base.3, base.4, base.5),
        (KeyKind::Rsa, "ec", EcdsaByCurve, base.3, base.4, base.5),
        (KeyKind::Rsa, "rsa", Rfc7427(S::RsaPkcs1Sha512), base.3, base.4, base.5),
        (KeyKind::Rsa, "rsa", Rfc7427(S::RsaPssSha256), base.3, base.4, base.5),
        (KeyKind::P384, "rsa", Rfc7427(S::RsaPssSha384), base.3, base.4, base.5),
    ] {
        let mut world = World::with(server, Policy::default(), 24);
        let valid = Validity::days(WALL, 1);
        let cert = match client {
            "ec" => world.client_cert("alice@example.com"),
            "ec384" => world.authority.issue(Role::Client, &["a.example"], valid, KeyKind::P384).unwrap(),
            _ => rsa_client(&world),
        };
        let mut client = Initiator::new(&world, cert, 4500);
        (client.signing, client.guess, client.groups) = (signing, group, vec![group]);
        (client.cipher, client.prf) = (cipher, prf);
        if cipher.integrity().is_some() {
            client.esp = cipher;
        }
        assert_eq!(client.connect(&mut world), Ok(()), "{server:?} {signing:?} {group:?} {cipher:?} {prf:?}");
        assert_eq!(world.notes, []);
        installed(&world, &client);
    }
}

#[test]
fn child_sa_is_narrowed_and_the_answer_waits_for_the_data_path() {
    let mut world = World::new();
    world.auto_install = false;
    let company = any_between(Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255));
    let dns = vec![Ipv4Addr::new(198, 19, 255, 1), Ipv4Addr::new(10, 0, 0, 53)];
    world.handle(Input::Plan(ClientPlan {
        dns: dns.clone(),
        ts: vec![company],
        ..ClientPlan::full_tunnel(dns[0])
    }));
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    assert_eq!(client.connect(&mut world), Err(0), "no answer yet");
    assert_eq!(world.take_log(), ["install"]);
    let (spi_in, spi_out) = installed(&world, &client);
    assert!(spi_in > 255);
    // A retransmission meanwhile changes nothing.
    client.next_id = 1;
    let again = client.auth_request();
    assert!(world.exchange(client.path, &again).is_empty());
    world.handle(Input::Installed { spi_in });
    let answer = world.take_sent();
    assert_eq!(client.handle_auth(&answer), Ok(()));
    assert_eq!(world.take_log(), ["connected alice@example.com 198.19.255.2"]);
    let child = client.children.last().unwrap().clone();
    let address = Ipv4Addr::new(198, 19, 255, 2);
    assert_eq!((child.peer_spi, spi_out), (spi_in, client.children[0].spi - 1));
    assert_eq!(child.ts_i, [any_between(address, address)]);
    assert_eq!(child.ts_r, [company, any_between(dns[0], dns[0])], "the DNS server is always inside");
    let sa = &world.installed[0];
    assert_eq!(
        (&sa.ts_remote, &sa.ts_local, sa.address, sa.path),
        (&child.ts_i, &child.ts_r, address, client.path)
    );
    assert_eq!((client.dns, client.address), (dns, Some(address)));
    world.handle(Input::Installed { spi_in });
    world.handle(Input::Installed { spi_in: 77 });
    assert_eq!((world.take_sent().len(), world.take_log().len()), (0, 0), "an acknowledgement counts once");
}

#[test]
fn from_port_500_to_4500_in_both_families() {
    for address in ["198.51.100.9", "2001:db8::9"] {
        let mut world = World::new();
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        let ip: std::net::IpAddr = address.parse().unwrap();
        client.path = Path { local_port: 500, remote: (ip, 40_000).into(), marker: false, ..client.path };
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        client.path = Path { local_port: 4500, remote: (ip, 40_001).into(), marker: true, ..client.path };
        let request = client.auth_request();
        world.exchange(client.path, &request[..1]);
        let last = request.len() - 1;
        world.handle(Input::Datagram { path: client.path, bytes: &request[last] });
        request[1..last].iter().for_each(|bytes| world.handle(Input::Datagram { path: client.path, bytes }));
        assert!(
            world.sent.iter().all(|(path, _)| *path == client.path),
            "the answer goes where the request came from"
        );
        let answer = world.take_sent();
        assert_eq!(client.handle_auth(&answer), Ok(()));
        assert_eq!(world.installed[0].path, client.path);
        assert_eq!(world.log.len(), 2, "nobody has moved: {:?}", world.log);
    }
}

#[test]
fn invalid_ke_steers_to_a_group_of_ours() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    (client.guess, client.groups) = (Group::P384, vec![Group::P256]);
    assert_eq!(client.connect(&mut world), Ok(()), "asked for P-256 although the guess would be ours");
    assert_eq!(client.guess, Group::P256);
    assert_eq!(world.responder.stats().half_open, 0, "a wrong guess leaves no state");
}

#[test]
fn cookies_under_load_and_a_flood_leaves_room() {
    let policy = Policy { cookie_threshold: 5, half_open_limit: 8, ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let cert = world.client_cert("alice@example.com");
    for n in 0..1000_u16 {
        let mut path = path_from(4500);
        path.remote = ([10, 1, (n >> 8) as u8, n as u8], 500).into();
        let request = Initiator::new(&world, cert.clone(), 10_000 + n).init_request();
        world.exchange(path, &[request]);
    }
    assert_eq!(world.responder.stats().half_open, 5);
    assert_eq!(world.responder.stats().cookies, 995);
    let mut client = Initiator::new(&world, cert.clone(), 4500);
    assert_eq!(client.connect(&mut world), Ok(()), "the signature covers the request with the cookie");
    assert!(client.cookie.is_some());
    // An uncalled-for cookie is no harm.
    world.advance(Policy::default().half_open_lifetime);
    assert_eq!(world.responder.stats().half_open, 0);
    let mut other = Initiator::new(&world, cert, 4501);
    other.cookie = Some(vec![9; 64]);
    assert_eq!(other.connect(&mut world), Ok(()));
}

#[test]
fn fragments_both_ways_or_neither() {
    let mut world = World::with(KeyKind::Rsa, Policy::default(), 24);
    let cert = rsa_client(&world);
    for fragmentation in [true, false] {
        let mut client = Initiator::new(&world, cert.clone(), 4500);
        client.fragmentation = fragmentation;

        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        let mut request = client.auth_request();
        assert_eq!(request.len() > 1, fragmentation);
        request.reverse();
        let answer = world.exchange(client.path, &request);
        assert_eq!(answer.len() > 1, fragmentation, "{:?}", answer.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(client.handle_auth(&answer), Ok(()));
        // Only the first fragment asks for the answer again, and it is the same answer.
        request.reverse();
        assert_eq!(world.exchange(client.path, &request), answer);
        if fragmentation {
            assert!(world.exchange(client.path, &request[1..]).is_empty());
            assert_eq!(world.exchange(client.path, &request[..1]), answer);
        }
    }
    // Fragments that were not agreed on are nothing.
    let mut client = Initiator::new(&world, cert, 4502);
    client.fragmentation = false;
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    client.handle_init(&answer);
    let chain = chain_of(&client.auth_payloads());
    let fragments = client.seal_fragments(client.header(Exchange::IkeAuth, 1, false), &chain, 300);
    assert!(world.exchange(client.path, &fragments).is_empty());
}

#[test]
fn retransmissions_get_the_same_answer() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let request = client.init_request();
    let first = world.exchange(client.path, std::slice::from_ref(&request));
    for _ in 0..100 {
        assert_eq!(world.exchange(client.path, std::slice::from_ref(&request)), first);
    }
    assert_eq!(world.responder.stats().half_open, 1);
    assert_eq!(client.handle_init(&first), InitAnswer::Done);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    let roamed = path_from(4999);
    assert_eq!(world.exchange(roamed, &request), answer);
    world.take_log();
    client.handle_auth(&answer).unwrap();
    let ping = client.protected_request(Exchange::Informational, &[]);
    let pong = world.exchange(client.path, &ping);
    assert_eq!(pong.len(), 1);
    assert_eq!(world.exchange(client.path, &ping), pong);
    assert_eq!(world.take_log(), [] as [&str; 0], "a repeated request moves nobody");
    assert!(world.exchange(client.path, &request).is_empty(), "older than the last is not answered");
}

/// One way to be refused: a name, what is done to the client and its payloads, and what the operator reads.
type Expected = fn(&AuthError) -> bool;
type Spoil = fn(&mut World, &mut Initiator, &mut Vec<(Kind, Vec<u8>)>);

fn replace(payloads: &mut [(Kind, Vec<u8>)], kind: Kind, body: Vec<u8>) {
    payloads.iter_mut().filter(|payload| payload.0 == kind).for_each(|payload| payload.1.clone_from(&body));
}

fn cert_body(issued: &Issued) -> Vec<u8> {
    Cert { encoding: Cert::X509, data: &issued.cert_der }.emit()
}

#[test]
fn nobody_else_is_let_in() {
    let failed = notify_type::AUTHENTICATION_FAILED;
    let cases: &[(&str, Spoil, u16, Expected)] = &[
        (
            "a bit of the signature",
            |_, _, p| {
                let auth = p.iter_mut().find(|p| p.0 == Kind::Auth).unwrap();
                *auth.1.last_mut().unwrap() ^= 1;
            },
            failed,
            |e| matches!(e, AuthError::Signature(_)),
        ),
        (
            "another user's certificate",
            |w, _, p| {
                let other = w.authority.issue(
                    Role::Client,
                    &["alice@example.com"],
                    Validity::days(WALL, 9),
                    KeyKind::P256,
                );
                replace(p, Kind::Cert, cert_body(&other.unwrap()));
            },
            failed,
            |e| matches!(e, AuthError::Signature(_)),
        ),
        (
            "an identity that is not the certificate's",
            |_, c, p| {
                c.id_i.1 = b"bob@example.com".to_vec();
                *p = c.auth_payloads();
            },
            failed,
            |e| *e == AuthError::NotTheCertificates,
        ),
        (
            "a key ID",
            |_, c, p| {
                c.id_i.0 = IdType::KeyId;
                *p = c.auth_payloads();
            },
            failed,
            |e| *e == AuthError::NotTheCertificates,
        ),
        (
            "an empty identity",
            |_, c, p| {
                c.id_i.1 = vec![];
                *p = c.auth_payloads();
            },
            failed,
            |e| *e == AuthError::NotTheCertificates,
        ),
        (
            "an unknown authority",
            |_, c, p| {
                let other = Authority::new("Test CA", WALL, 10).unwrap();
                c.cert = other.issue_client("alice@example.com", WALL, 10).unwrap();
                *p = c.auth_payloads();
            },
            failed,
            |e| matches!(e, AuthError::Chain(_)),
        ),
        (
            "expired",
            |w, c, p| {
                let validity =
                    Validity { not_before: WALL / 2, not_after: WALL - std::time::Duration::from_secs(1) };
                c.cert =
                    w.authority.issue(Role::Client, &["alice@example.com"], validity, KeyKind::P256).unwrap();
                *p = c.auth_payloads();
            },
            failed,
            |e| *e == AuthError::Chain(ChainError::Expired),
        ),
        (
            "not yet valid",
            |w, c, p| {
                let validity = Validity { not_before: WALL * 2 - WALL / 2, not_after: WALL * 2 };
                c.cert =
                    w.authority.issue(Role::Client, &["alice@example.com"], validity, KeyKind::P256).unwrap();
                *p = c.auth_payloads();
            },
            failed,
            |e| *e == AuthError::Chain(ChainError::NotYetValid),
        ),
        (
            "the authority's own certificate",
            |w, _, p| {
                replace(p, Kind::Cert, Cert { encoding: Cert::X509, data: w.authority.cert_der() }.emit());
            },
            failed,
            |e| matches!(e, AuthError::Chain(_)),
        ),
        ("EAP", |_, _, p| p.retain(|p| p.0 != Kind::Auth), failed, |e| *e == AuthError::EapWanted),
        (
            "no certificate",
            |_, _, p| p.retain(|p| p.0 != Kind::Cert),
            failed,
            |e| *e == AuthError::NoCertificate,
        ),
        (
            "hash and URL",
            |_, _, p| {
                replace(p, Kind::Cert, Cert { encoding: 12, data: &[1; 40] }.emit());
            },
            failed,
            |e| *e == AuthError::NoCertificate,
        ),
        (
            "shared key",
            |_, _, p| {
                replace(p, Kind::Auth, Auth { method: auth_method::SHARED_KEY, data: &[1; 32] }.emit());
            },
            failed,
            |e| *e == AuthError::Method(2),
        ),
        (
            "method 14 with nothing",
            |_, _, p| {
                replace(p, Kind::Auth, Auth { method: auth_method::DIGITAL_SIGNATURE, data: &[] }.emit());
            },
            notify_type::INVALID_SYNTAX,
            |e| matches!(e, AuthError::Syntax(_)),
        ),
        (
            "two identities",
            |_, _, p| {
                p.insert(0, p[0].clone());
            },
            notify_type::INVALID_SYNTAX,
            |e| matches!(e, AuthError::Syntax(_)),
        ),
        (
            "fifty certificates",
            |_, _, p| {
                let cert = p.iter().find(|p| p.0 == Kind::Cert).unwrap().clone();
                p.extend(vec![cert; 49]);
            },
            notify_type::INVALID_SYNTAX,
            |e| matches!(e, AuthError::Syntax(_)),
        ),
    ];
    for (name, spoil, notify, expected) in cases {
        let mut world = World::new();
        let cert = world.client_cert("alice@example.com");
        let mut client = Initiator::new(&world, cert, 4500);
        client.fragmentation = false;
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        let mut payloads = client.auth_payloads();
        spoil(&mut world, &mut client, &mut payloads);
        let request = client.protected_request(Exchange::IkeAuth, &payloads);
        let answer = world.exchange(client.path, &request);
        assert_eq!(client.handle_auth(&answer), Err(*notify), "{name}");
        let [Event::AuthFailed { why, .. }] = world.notes.as_slice() else {
            panic!("{name}: {:?}", world.notes)
        };
        assert!(expected(why), "{name}: {why:?}");
        assert_eq!(world.take_log(), [] as [&str; 0], "{name}");
        let stats = world.responder.stats();
        assert_eq!(
            (stats.half_open, stats.devices, stats.child_sas, stats.auth_failed),
            (1, 0, 0, 1),
            "{name}"
        );
        // The IKE SA is over: it answers the same request, and nothing else.
        assert_eq!(world.exchange(client.path, &request), answer, "{name}");
        let next = client.auth_request();
        assert!(world.exchange(client.path, &next).is_empty(), "{name}");
        world.advance(Policy::default().half_open_lifetime);
        let stats = world.responder.stats();
        assert_eq!((stats.ike_sas, stats.half_open), (0, 0), "{name}");
    }
}

#[test]
fn each_client_gets_the_certificate_that_it_can_verify() {
    use SignatureScheme as S;
    let mut world = World::new();
    let valid = Validity::days(WALL, 365);
    let names = ["vpn.example", "rsa.example"];
    let rsa = world.authority.issue_with_key(Role::Server, &names, valid, &rsa_key_pem()).unwrap();
    let ecdsa = world.authority.issue(Role::Server, &["vpn.example"], valid, KeyKind::P256).unwrap();
    let mut both = identity("vpn.example", &ecdsa, &[&world.authority]);
    both.credentials.push(credential(&rsa));
    world.handle(Input::Identity(Box::new(both)));
    let (ec_client, rsa_client) = (world.client_cert("alice@example.com"), rsa_client(&world));
    let rfc7427 = Signing::Rfc7427;
    for (port, cert, signing, asked, method, server) in [
        (1, &ec_client, rfc7427(S::EcdsaP256Sha256), "vpn.example", 14, &ecdsa),
        (2, &ec_client, Signing::EcdsaByCurve, "vpn.example", 9, &ecdsa),
        (3, &ec_client, rfc7427(S::EcdsaP256Sha256), "rsa.example", 14, &rsa),
        (4, &rsa_client, rfc7427(S::RsaPkcs1Sha256), "vpn.example", 14, &ecdsa),
        (5, &rsa_client, Signing::Rsa(S::RsaPkcs1Sha1), "vpn.example", 1, &rsa),
        (6, &rsa_client, Signing::Rsa(S::RsaPkcs1Sha256), "vpn.example", 1, &rsa),
    ] {
        let mut client = Initiator::new(&world, (*cert).clone(), port);
        client.signing = signing;
        client.id_r = Some((IdType::Fqdn, asked.as_bytes().to_vec()));
        assert_eq!(client.connect(&mut world), Ok(()), "{port}");
        assert_eq!((client.server_auth, &client.server_cert), (method, &server.cert_der), "{port}");
    }
    assert_eq!(world.notes, []);
}

#[test]
fn our_identity_is_the_one_asked_for_only_if_it_is_ours() {
    let fqdn = |name: &str| (IdType::Fqdn, name.as_bytes().to_vec());
    for (asked, expected) in [
        (None, fqdn("vpn.example")),
        (Some(fqdn("VPN.EXAMPLE")), fqdn("VPN.EXAMPLE")),
        (Some(fqdn("other.example")), fqdn("vpn.example")),
        (Some(fqdn("192.0.2.1")), fqdn("192.0.2.1")),
        (Some((IdType::Ipv4, vec![192, 0, 2, 1])), (IdType::Ipv4, vec![192, 0, 2, 1])),
        (Some((IdType::Ipv4, vec![192, 0, 2, 2])), fqdn("vpn.example")),
    ] {
        let mut world = World::new();
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        client.id_r.clone_from(&asked);
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        client.handle_init(&answer);
        let request = client.auth_request();
        let answer = world.exchange(client.path, &request);
        let opened = client.open(&answer);
        let id = Id::parse(opened.body(Kind::IdR).unwrap()).unwrap();
        assert_eq!((id.kind, id.data.to_vec()), expected, "{asked:?}");
        assert_eq!(client.handle_auth(&answer), Ok(()));
    }
}

#[test]
fn authenticated_but_without_child_sa() {
    let cases: &[(&str, Spoil, u16, Refusal)] = &[
        (
            "no CP",
            |_, _, p| p.retain(|p| p.0 != Kind::Cp),
            notify_type::FAILED_CP_REQUIRED,
            Refusal::NoAddressAsked,
        ),
        (
            "IPv6 only",
            |_, _, p| {
                let attributes = vec![Attribute { kind: attribute::INTERNAL_IP6_ADDRESS, value: &[] }];
                replace(p, Kind::Cp, Configuration { cfg_type: CfgType::Request, attributes }.emit());
            },
            notify_type::FAILED_CP_REQUIRED,
            Refusal::NoAddressAsked,
        ),
        (
            "disjoint selectors",
            |_, _, p| {
                let other = any_between(Ipv4Addr::new(1, 0, 0, 0), Ipv4Addr::new(1, 0, 0, 9));
                replace(p, Kind::TsI, emit_selectors(&[other]));
            },
            notify_type::TS_UNACCEPTABLE,
            Refusal::Selectors,
        ),
        (
            "IPv6 selectors",
            |_, _, p| {
                let all = TrafficSelector {
                    first: "::".parse().unwrap(),
                    last: "ffff::".parse().unwrap(),
                    ..everything()
                };
                replace(p, Kind::TsR, emit_selectors(&[all]));
            },
            notify_type::TS_UNACCEPTABLE,
            Refusal::Selectors,
        ),
        (
            "weak ciphers",
            |_, _, p| {
                let transforms =
                    vec![Transform::new(transform_type::ENCR, 3), Transform::new(transform_type::INTEG, 2)];
                let weak = Proposal { number: 1, protocol: protocol::ESP, spi: vec![1; 4], transforms };
                replace(p, Kind::Sa, emit_proposals(&[weak]));
            },
            notify_type::NO_PROPOSAL_CHOSEN,
            Refusal::NoProposal,
        ),
    ];
    for (name, spoil, notify, why) in cases {
        let mut world = World::new();
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        client.handle_init(&answer);
        let mut payloads = client.auth_payloads();
        spoil(&mut world, &mut client, &mut payloads);
        let request = client.protected_request(Exchange::IkeAuth, &payloads);
        let answer = world.exchange(client.path, &request);
        assert_eq!(client.handle_auth(&answer), Err(*notify), "{name}");
        let identity = "alice@example.com".to_owned();
        assert_eq!(world.notes, [Event::ChildRefused { identity, why: *why }], "{name}");
        assert_eq!((world.responder.stats().devices, world.take_log().len()), (0, 0), "{name}");
        // No address, so no Child SA later either; and after a while we say goodbye.
        let mut payloads = client.child_payloads(&[None]);
        payloads.push((Kind::Nonce, vec![1; 32]));
        let refused = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        assert_eq!(refused.error(), Some(notify_type::NO_ADDITIONAL_SAS), "{name}");
        world.advance(Policy::default().childless_lifetime);
        let goodbye = client.open(&world.take_sent()[..1]);
        assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike), "{name}");
        client.answer(&mut world, &goodbye, &[]);
        assert_eq!(world.responder.stats().ike_sas, 0, "{name}");
    }
}

#[test]
fn the_pool_ends_and_begins_again() {
    let mut world = World::with(KeyKind::P256, Policy::default(), 30);
    let mut first = world.connect("alice@example.com", 4500);
    assert_eq!(first.address, Some(Ipv4Addr::new(198, 19, 255, 2)));
    let mut second = Initiator::new(&world, world.client_cert("bob@example.com"), 4501);
    assert_eq!(second.connect(&mut world), Err(notify_type::INTERNAL_ADDRESS_FAILURE));
    assert!(matches!(world.notes.as_slice(), [Event::ChildRefused { why: Refusal::PoolExhausted, .. }]));
    first.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    let third = world.connect("bob@example.com", 4502);
    assert_eq!(third.address, first.address);
}
