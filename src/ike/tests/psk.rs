//! Clients with a pre-shared key of their own.

use crate::crypto::{Kem, Secret};
use crate::ike::testing::*;
use crate::ike::{AuthError, Event, Input};
use crate::wire::ike::*;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn let_in(world: &mut World, keys: &[(&str, &[u8])]) {
    let issued = world.authority.issue_server(&["vpn.example"], WALL, 365).unwrap();
    let mut identity = identity("vpn.example", &issued, &[&world.authority]);
    for (name, key) in keys {
        assert!(identity.access.psks.add(name, Secret::from(*key)));
    }
    world.handle(Input::Identity(Box::new(identity)));
}

fn client(world: &World, port: u16, kind: IdType, name: &[u8]) -> Initiator {
    let mut client = Initiator::new(world, world.client_cert("laptop"), port);
    client.id_i = (kind, name.to_vec());
    client
}

/// The whole way in; an error is the notify.
fn connect(world: &mut World, client: &mut Initiator, key: &[u8]) -> Result<(), u16> {
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    for kem in client.kems.clone() {
        client.intermediate(world, kem)?;
    }
    let mut payloads = client.auth_payloads();
    payloads.retain(|(kind, _)| *kind != Kind::Cert);
    let auth = client.shared_key_auth(key);
    payloads.iter_mut().filter(|(kind, _)| *kind == Kind::Auth).for_each(|(_, body)| *body = auth.clone());
    let opened = client.request(world, Exchange::IkeAuth, &payloads);
    if let Some(error) = opened.error() {
        assert_eq!(opened.payloads().len(), 1, "an error tells nothing else");
        return Err(error);
    }
    assert!(opened.body(Kind::Cert).is_none());
    let id_r = opened.body(Kind::IdR).unwrap();
    assert_eq!(id_r, Id { kind: IdType::Fqdn, data: b"vpn.example" }.emit());
    client.check_shared_key(opened.body(Kind::Auth).unwrap(), id_r, key);
    client.take_connection(&opened);
    Ok(())
}

/// Both sides prove also what was exchanged before.
#[test]
fn a_key_behind_an_additional_key_exchange() {
    let mut world = World::new();
    let_in(&mut world, &[("phone", KEY)]);
    let mut phone = client(&world, 4500, IdType::Fqdn, b"phone");
    phone.additional = vec![vec![36]];
    assert_eq!(connect(&mut world, &mut phone, KEY), Ok(()));
    assert_eq!(phone.kems, [Kem::MlKem768]);
}

#[test]
fn each_identity_has_its_own_key() {
    let mut world = World::new();
    let keys: [(&str, &[u8]); 5] = [
        ("phone", KEY),
        ("bob@example.com", b"another one, also long enough"),
        ("tablet 7", &[0; 32]),
        ("192.0.2.7", &[1; 16]),
        ("2001:db8::7", &[2; 16]),
    ];
    let_in(&mut world, &keys);
    let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7]].concat();
    let ids: [(IdType, &[u8], &str); 5] = [
        (IdType::Fqdn, b"PHONE", "phone"),
        (IdType::Rfc822, b"bob@example.com", "bob@example.com"),
        (IdType::KeyId, b"tablet 7", "tablet 7"),
        (IdType::Ipv4, &[192, 0, 2, 7], "192.0.2.7"),
        (IdType::Ipv6, &v6, "2001:db8::7"),
    ];
    for (port, ((kind, id, name), (_, key))) in (1..).zip(ids.into_iter().zip(keys)) {
        let mut client = client(&world, port, kind, id);
        assert_eq!(connect(&mut world, &mut client, key), Ok(()), "{name}");
        let log = world.take_log();
        assert_eq!(log, ["install".to_owned(), format!("connected {name} 198.19.255.{}", port + 1)]);
    }
    let_in(&mut world, &keys[..2]);
    let log = world.take_log();
    let gone: Vec<_> = log.iter().filter(|line| line.starts_with("gone")).collect();
    assert_eq!((gone.len(), world.responder.stats().devices), (3, 2), "{log:?}");
}

#[test]
fn a_wrong_key_is_like_an_unknown_identity() {
    let mut world = World::new();
    let_in(&mut world, &[("phone", KEY), ("DN", KEY), ("?", KEY)]);
    let failed = Err(notify_type::AUTHENTICATION_FAILED);
    let cases: [(IdType, &[u8], &[u8]); 7] = [
        (IdType::Fqdn, b"phone", b"0123456789abcdef0123456789abcdeF"),
        (IdType::Fqdn, b"phone", b""),
        (IdType::Fqdn, b"stranger", KEY),
        (IdType::Fqdn, b"stranger", &[0; 32]),
        (IdType::Dn, b"DN", KEY),
        (IdType::Dn, b"", KEY),
        (IdType::Other(200), b"phone", KEY),
    ];
    for (port, (kind, id, key)) in (1..).zip(cases) {
        let mut client = client(&world, port, kind, id);
        client.path.remote = ([203, 0, 113, port as u8], 4500).into();
        assert_eq!(connect(&mut world, &mut client, key), failed, "{kind:?} {id:?}");
        let Some(Event::AuthFailed { why, .. }) = world.notes.last() else { panic!("{kind:?} {id:?}") };
        assert_eq!(*why, AuthError::PreShared);
    }
    assert!(world.take_log().is_empty());
    // Without keys it is a method that we do not have.
    let_in(&mut world, &[]);
    let mut client = client(&world, 99, IdType::Fqdn, b"phone");
    assert_eq!(connect(&mut world, &mut client, KEY), failed);
    assert!(matches!(world.notes.last(), Some(Event::AuthFailed { why: AuthError::Method(2), .. })));
}

/// The MAC is of IDi, nonces and messages: a bit anywhere in it, or no MAC at all, and it does not fit.
#[test]
fn every_bit_of_the_mac_counts() {
    let mut world = World::new();
    let_in(&mut world, &[("phone", KEY)]);
    for (port, change) in (1..).zip([0, 7, 8, 128, 255, 256]) {
        let mut client = client(&world, port, IdType::Fqdn, b"phone");
        client.path.remote = ([203, 0, 113, port as u8], 4500).into();
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        let mut payloads = client.auth_payloads();
        let mut auth = client.shared_key_auth(KEY);
        match auth.get_mut(4 + change / 8) {
            Some(octet) => *octet ^= 1 << (change % 8),
            None => auth.truncate(4),
        }
        payloads
            .iter_mut()
            .filter(|(kind, _)| *kind == Kind::Auth)
            .for_each(|(_, body)| *body = auth.clone());
        let opened = client.request(&mut world, Exchange::IkeAuth, &payloads);
        assert_eq!(opened.error(), Some(notify_type::AUTHENTICATION_FAILED), "{change}");
    }
}
