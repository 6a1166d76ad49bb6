//! Several key exchanges (RFC 9242, RFC 9370) with ML-KEM, and post-quantum preshared keys (RFC 8784).

use std::time::Duration;

use crate::crypto::rng::SystemRandom;
use crate::crypto::sign::KeyKind;
use crate::crypto::{Group, Kem, Secret, kem};
use crate::ike::testing::*;
use crate::ike::{AuthError, Event, Input, Ppk};
use crate::provision::{Role, Validity};
use crate::wire::ike::*;

const NOTHING: [&str; 0] = [];
const PPK: [u8; 32] = [7; 32];

fn client(world: &World, additional: &[&[u16]]) -> Initiator {
    let mut client = Initiator::new(world, world.client_cert("alice@example.com"), 4500);
    client.additional = additional.iter().map(|ids| ids.to_vec()).collect();
    client
}

fn init(client: &mut Initiator, world: &mut World) {
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
}

fn new_pair(kem: Kem) -> kem::KeyPair {
    kem::KeyPair::generate(kem, &mut SystemRandom::new())
}

/// The Child SA has the keys that the client computes.
fn keys_agree(client: &Initiator, world: &World) {
    let (ni, nr) = client.init_nonces();
    let (out, inbound) = client.child_keymat(&[], &ni, &nr);
    let sa = world.installed.last().unwrap();
    assert_eq!((sa.key_in.expose(), sa.key_out.expose()), (&out[..], &inbound[..]));
}

#[test]
fn clients_connect_with_additional_key_exchanges() {
    for (offered, chosen) in [
        (&[&[36][..]][..], &[Kem::MlKem768][..]),
        (&[&[37, 36, 0]], &[Kem::MlKem768]),
        (&[&[37]], &[Kem::MlKem1024]),
        (&[&[37], &[36]], &[Kem::MlKem1024, Kem::MlKem768]),
        (&[&[35, 0], &[36]], &[Kem::MlKem768]),
        (&[&[35, 0]], &[]),
    ] {
        for fragmentation in [true, false] {
            let mut world = World::new();
            let mut client = client(&world, offered);
            client.fragmentation = fragmentation;
            client.connect(&mut world).unwrap();
            assert_eq!(client.kems, chosen);
            keys_agree(&client, &world);
            assert_eq!(world.responder.stats().half_open, 0);
            // The keys of the IKE SA are the same, too.
            client.request(&mut world, Exchange::Informational, &[]);
        }
    }
}

#[test]
fn people_see_what_was_agreed() {
    let mut world = World::new();
    set_ppk(&mut world, b"carol");
    let mut client = client(&world, &[&[36]]);
    client.ppk = Some((b"\x02carol".to_vec(), PPK.to_vec()));
    client.connect(&mut world).unwrap();
    assert_eq!(world.suite, "IKE AES-GCM-16-256/HMAC-SHA2-256/X25519+ML-KEM-768+PPK, ESP AES-GCM-16-128");
}

#[test]
fn a_client_that_does_not_know_ike_intermediate_gets_none() {
    let mut world = World::new();
    let mut client = client(&world, &[&[36, 0]]);
    client.announces_intermediate = false;
    client.connect(&mut world).unwrap();
    assert_eq!(client.kems, []);
    let mut strict = self::client(&world, &[&[36]]);
    strict.announces_intermediate = false;
    assert_eq!(strict.connect(&mut world), Err(notify_type::NO_PROPOSAL_CHOSEN));
}

#[test]
fn an_intermediate_exchange_is_answered_again_octet_for_octet() {
    let mut world = World::new();
    let mut client = client(&world, &[&[37], &[36]]);
    init(&mut client, &mut world);
    for kem in client.kems.clone() {
        let pair = new_pair(kem);
        let request = client.intermediate_request(kem, &pair.public());
        let answer = world.exchange(client.path, &request);
        for _ in 0..2 {
            assert_eq!(world.exchange(client.path, &request), answer, "one encapsulation, one answer");
        }
        client.handle_intermediate(&answer, pair).unwrap();
    }
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    client.handle_auth(&answer).unwrap();
    assert_eq!(world.exchange(client.path, &request), answer);
    keys_agree(&client, &world);
}

#[test]
fn the_order_of_exchanges_is_kept() {
    let mut world = World::new();
    let mut early = client(&world, &[&[36]]);
    init(&mut early, &mut world);
    let request = early.auth_request();
    assert!(world.exchange(early.path, &request).is_empty(), "IKE_AUTH before IKE_INTERMEDIATE");

    // After the last one that was agreed, and where none was.
    for (port, offered) in [(4501, &[&[36][..]][..]), (4502, &[])] {
        let mut client = client(&world, offered);
        client.path = path_from(port);
        client.spi_i += u64::from(port);
        init(&mut client, &mut world);
        for kem in client.kems.clone() {
            client.intermediate(&mut world, kem).unwrap();
        }
        let out_of_place = world.responder.stats().out_of_place;
        let request = client.intermediate_request(Kem::MlKem768, &new_pair(Kem::MlKem768).public());
        assert!(world.exchange(client.path, &request).is_empty(), "unsolicited");
        assert!(world.responder.stats().out_of_place > out_of_place);
    }
    let mut client = world.connect("bob@example.com", 4503);
    let request = client.intermediate_request(Kem::MlKem768, &new_pair(Kem::MlKem768).public());
    assert!(world.exchange(client.path, &request).is_empty(), "established");
    assert_eq!(world.responder.stats().devices, 1);
}

#[test]
fn half_open_limits_hold_through_intermediate_exchanges() {
    let mut world = World::new();
    let mut client = client(&world, &[&[37], &[36]]);
    init(&mut client, &mut world);
    world.advance(Duration::from_secs(20));
    client.intermediate(&mut world, Kem::MlKem1024).unwrap();
    assert_eq!(world.responder.stats().half_open, 1);
    world.advance(Duration::from_secs(11));
    assert_eq!(world.responder.stats().half_open, 0, "no exchange makes it live longer");
    assert_eq!(client.intermediate(&mut world, Kem::MlKem768), Err(0));
}

#[test]
fn bad_key_exchanges_end_the_attempt() {
    let good = new_pair(Kem::MlKem768).public();
    let mut out_of_range = good.clone();
    (out_of_range[0], out_of_range[1]) = (0xff, 0xff);
    let larger = new_pair(Kem::MlKem1024).public();
    for (kem, public) in [
        (Kem::MlKem768, &good[1..]),
        (Kem::MlKem768, &[]),
        (Kem::MlKem768, &larger),
        (Kem::MlKem768, &out_of_range),
        (Kem::MlKem1024, &larger),
    ] {
        let mut world = World::new();
        let mut client = client(&world, &[&[36]]);
        init(&mut client, &mut world);
        let request = client.intermediate_request(kem, public);
        let answer = client.open(&world.exchange(client.path, &request));
        assert_eq!((answer.error(), answer.payloads().len()), (Some(notify_type::INVALID_SYNTAX), 1));
        assert!(matches!(world.notes[..], [Event::InitRefused { .. }]), "{:?}", world.notes);
        let request = client.auth_request();
        assert!(world.exchange(client.path, &request).is_empty(), "it is over");
        assert_eq!(world.take_log(), NOTHING);
    }
}

#[test]
fn what_was_exchanged_is_signed() {
    let mut world = World::new();
    let mut client = client(&world, &[&[36]]);
    init(&mut client, &mut world);
    client.intermediate(&mut world, Kem::MlKem768).unwrap();
    client.forget_intermediate();
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Err(notify_type::AUTHENTICATION_FAILED));
}

#[test]
fn rekeys_with_additional_key_exchanges() {
    for additional in [&[&[36][..]][..], &[&[37], &[36]], &[&[36, 0]], &[&[35, 0]]] {
        let mut world = World::new();
        let mut client = client(&world, additional);
        client.connect(&mut world).unwrap();
        for _ in 0..2 {
            let old = client.children.last().unwrap().spi;
            let group = Some(Group::X25519);
            client.rekey_child(&mut world, old, group, &[group]).unwrap();
            let delete = [(Kind::Delete, Delete::Esp(vec![old]).emit())];
            client.request(&mut world, Exchange::Informational, &delete);
            client.rekey_ike(&mut world, 1).unwrap();
            client.request(&mut world, Exchange::Informational, &[]);
        }
        // And without, in the same connection.
        client.additional.clear();
        let old = client.children.last().unwrap().spi;
        client.rekey_child(&mut world, old, None, &[None]).unwrap();
        client.rekey_ike(&mut world, 1).unwrap();
        let stats = world.responder.stats();
        assert_eq!((stats.child_rekeys, stats.ike_rekeys), (3, 3));
    }
}

/// CREATE_CHILD_SA for an IKE SA with an additional key exchange; gives the link to the next exchange.
fn begin_ike_rekey(client: &mut Initiator, world: &mut World) -> Vec<u8> {
    let pair = crate::crypto::dh::KeyPair::generate(Group::X25519).unwrap();
    let payloads = [
        (Kind::Sa, emit_proposals(&[client.ike_proposal(1, &random::<8>())])),
        (Kind::Nonce, random::<32>().to_vec()),
        (Kind::Ke, Ke { group: 31, data: pair.public() }.emit()),
    ];
    let opened = client.request(world, Exchange::CreateChildSa, &payloads);
    assert_eq!(opened.error(), None);
    opened.link().unwrap()
}

#[test]
fn follow_ups_without_a_beginning_are_refused() {
    let mut world = World::new();
    let mut client = client(&world, &[&[36]]);
    client.connect(&mut world).unwrap();
    let follow_up = |client: &mut Initiator, world: &mut World, link: &[u8]| {
        let payloads = follow_up_payloads(&new_pair(Kem::MlKem768), link);
        client.request(world, Exchange::IkeFollowupKe, &payloads).error()
    };
    let not_found = Some(notify_type::STATE_NOT_FOUND);
    assert_eq!(follow_up(&mut client, &mut world, &[0; 16]), not_found, "nothing has begun");

    let first = begin_ike_rekey(&mut client, &mut world);
    assert_eq!(follow_up(&mut client, &mut world, &first[1..]), not_found);
    assert_eq!(follow_up(&mut client, &mut world, &[]), not_found);
    let second = begin_ike_rekey(&mut client, &mut world);
    assert_ne!(first, second);
    assert_eq!(follow_up(&mut client, &mut world, &first), not_found, "there is room for one");
    world.advance(Duration::from_secs(31));
    assert_eq!(follow_up(&mut client, &mut world, &second), not_found, "too late");

    let link = begin_ike_rekey(&mut client, &mut world);
    let broken = [
        (Kind::Ke, Ke { group: 36, data: &[0xff; 1184] }.emit()),
        (Kind::Notify, Notify::new(notify_type::ADDITIONAL_KEY_EXCHANGE, &link).emit()),
    ];
    let answer = client.request(&mut world, Exchange::IkeFollowupKe, &broken);
    assert_eq!(answer.error(), Some(notify_type::INVALID_SYNTAX));
    assert_eq!(follow_up(&mut client, &mut world, &link), not_found, "an error ends it");
    assert_eq!((world.responder.stats().ike_rekeys, world.responder.stats().devices), (0, 1));
    client.rekey_ike(&mut world, 1).unwrap();
    assert_eq!(world.responder.stats().ike_rekeys, 1);
}

#[test]
fn our_own_rekey_waits_for_the_peers() {
    let mut world = World::new();
    let mut client = client(&world, &[&[36]]);
    client.connect(&mut world).unwrap();
    begin_ike_rekey(&mut client, &mut world);
    let spi_in = world.installed[0].spi_in;
    world.handle(Input::NearlyExhausted { spi_in });
    assert!(world.take_sent().is_empty(), "not while keys are exchanged");
    world.advance(Duration::from_secs(29));
    assert!(world.take_sent().is_empty());
    world.advance(Duration::from_secs(2));
    let request = client.open(&world.take_sent()[..1]);
    assert_eq!(request.header.exchange, Exchange::CreateChildSa, "the peer did not go on");
}

#[test]
fn a_child_that_is_gone_is_not_replaced_at_the_end() {
    let mut world = World::new();
    let mut client = client(&world, &[&[36]]);
    client.connect(&mut world).unwrap();
    let old = client.children[0].spi;
    let pair = crate::crypto::dh::KeyPair::generate(Group::X25519).unwrap();
    let spi = old.to_be_bytes();
    let rekey = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
    let mut payloads = client.child_payloads(&[Some(Group::X25519)]);
    payloads.extend([
        (Kind::Notify, rekey.emit()),
        (Kind::Nonce, vec![1; 32]),
        (Kind::Ke, Ke { group: 31, data: pair.public() }.emit()),
    ]);
    let link = client.request(&mut world, Exchange::CreateChildSa, &payloads).link().unwrap();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(vec![old]).emit())]);
    let payloads = follow_up_payloads(&new_pair(Kem::MlKem768), &link);
    let answer = client.request(&mut world, Exchange::IkeFollowupKe, &payloads);
    assert_eq!(answer.error(), Some(notify_type::CHILD_SA_NOT_FOUND));
    assert!(world.installed.is_empty());
}

/// Gives the responder a PPK of this name.
fn set_ppk(world: &mut World, id: &[u8]) {
    let valid = Validity::days(WALL, 365);
    let server = world.authority.issue(Role::Server, &["vpn.example"], valid, KeyKind::P256).unwrap();
    let mut identity = identity("vpn.example", &server, &[&world.authority]);
    identity.access.ppks = vec![Ppk { id: id.to_vec(), secret: Secret::from(&PPK[..]) }];
    world.handle(Input::Identity(Box::new(identity)));
}

#[test]
fn ppk_is_mixed_into_the_keys() {
    for additional in [&[][..], &[&[36][..]]] {
        let mut world = World::new();
        set_ppk(&mut world, b"carol");
        for no_ppk_auth in [false, true] {
            let mut client = client(&world, additional);
            client.ppk = Some((b"\x02carol".to_vec(), PPK.to_vec()));
            client.no_ppk_auth = no_ppk_auth;
            client.connect(&mut world).unwrap();
            assert!(client.use_ppk);
            keys_agree(&client, &world);
            let old = client.children[0].spi;
            client.rekey_child(&mut world, old, None, &[None]).unwrap();
            client.rekey_ike(&mut world, 1).unwrap();
            client.request(&mut world, Exchange::Informational, &[]);
        }
    }
}

#[test]
fn ppk_is_not_used_where_one_side_has_none() {
    let mut world = World::new();
    let mut with = client(&world, &[]);
    with.ppk = Some((b"\x02carol".to_vec(), PPK.to_vec()));
    with.connect(&mut world).unwrap();
    assert!(!with.use_ppk, "the responder has none");
    set_ppk(&mut world, b"carol");
    let mut without = client(&world, &[]);
    without.connect(&mut world).unwrap();
    assert!(!without.use_ppk, "the client has none");
}

#[test]
fn an_unknown_ppk_is_a_fallback_or_the_end() {
    let mut world = World::new();
    set_ppk(&mut world, b"carol");
    for id in [&b"\x02mallory"[..], b"\x01carol", b"\x02", b"", b"carol"] {
        let mut client = client(&world, &[]);
        client.ppk = Some((id.to_vec(), PPK.to_vec()));
        assert_eq!(client.connect(&mut world), Err(notify_type::AUTHENTICATION_FAILED), "{id:?}");
        let unknown = AuthError::UnknownPpk;
        assert!(matches!(&world.notes.pop(), Some(Event::AuthFailed { why, .. }) if *why == unknown));

        let mut lenient = self::client(&world, &[&[36]]);
        (lenient.ppk, lenient.no_ppk_auth) = (Some((id.to_vec(), PPK.to_vec())), true);
        lenient.connect(&mut world).unwrap();
        assert!(!lenient.use_ppk);
        keys_agree(&lenient, &world);
    }
    // The right name, and another key.
    let mut wrong = client(&world, &[]);
    (wrong.ppk, wrong.no_ppk_auth) = (Some((b"\x02carol".to_vec(), vec![8; 32])), true);
    assert_eq!(wrong.connect(&mut world), Err(notify_type::AUTHENTICATION_FAILED));
}
