//! N12 to N18: the chain of payloads, before authentication and inside protection.

use super::*;

/// Payload types that nobody knows, or that have no place here.
const UNKNOWN: [u8; 6] = [1, 49, 52, 54, 127, 200];

#[test]
fn n12_payload_lengths_and_chains() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let hello = Hello::of(&mut client);
    let (first, good) = raw_chain(&plain(&hello.payloads));
    let last = good.len() - raw_chain(&plain(&hello.payloads[hello.payloads.len() - 1..])).1.len();
    let with = |at: usize, octets: [u8; 2]| {
        let mut bad = good.clone();
        bad[at..at + 2].copy_from_slice(&octets);
        bad
    };
    let no_end = {
        let mut bad = good.clone();
        bad[last] = Kind::Vendor as u8;
        bad
    };
    let tiny = |count| raw_chain(&vec![(Kind::Vendor as u8, 0, vec![]); count]).1;
    let mut cases = vec![
        ("past the end", first, with(2, [0xff, 0xff])),
        ("one past the end", first, with(last + 2, ((good.len() - last + 1) as u16).to_be_bytes())),
        ("no end", first, no_end),
        ("octets behind the end", first, [&good[..], &[0; 4]].concat()),
        ("no payload, but octets", 0, good.clone()),
        ("65 tiny ones", Kind::Vendor as u8, tiny(65)),
        ("1000 tiny ones", Kind::Vendor as u8, tiny(1000)),
        ("1000 tiny unknown ones", 200, raw_chain(&vec![(200, 0, vec![]); 1000]).1),
    ];
    cases.extend((0..4).map(|length| ("first length", first, with(2, [0, length]))));
    cases.extend((0..4).map(|length| ("last length", first, with(last + 2, [0, length]))));
    for (name, first, octets) in &cases {
        let sent = world.exchange(client.path, &[hello.raw(*first, octets)]);
        assert_eq!(told(&sent), Told::error(SYNTAX), "{name}");
        assert_eq!(world.responder.stats().ike_sas, 0, "{name}");
    }
    // Beyond what an initial request may have: not even looked at.
    let sent = world.exchange(client.path, &[hello.raw(Kind::Vendor as u8, &tiny(3000))]);
    assert_eq!(told(&sent), Told::Nothing);
    nothing_left(&mut world, "N12");
    // The same inside protection: an answer, and a client that goes on.
    let mut alice = world.connect("alice@example.com", 4501);
    for (name, first, octets) in &cases {
        let header = alice.header(Exchange::Informational, alice.next_id, false);
        let message = alice.seal_raw(header, *first, octets);
        alice.next_id += 1;
        let answer = world.exchange(alice.path, &[message]);
        assert_eq!(alice.open(&answer).error(), Some(SYNTAX), "{name}");
    }
    goes_on(&mut world, &mut alice, "N12");
}

#[test]
fn n13_unknown_payloads_are_passed_over() {
    for number in UNKNOWN {
        let mut world = World::new();
        let mut client = stranger(&world);
        let hello = Hello::of(&mut client);
        for at in 0..=hello.payloads.len() {
            let mut payloads = plain(&hello.payloads);
            payloads.insert(at, (number, 0x7f, vec![9; at]));
            let (first, octets) = raw_chain(&payloads);
            // Each is a new attempt, and cookies would come in between.
            let mut message = hello.raw(first, &octets);
            message[..8].copy_from_slice(&random::<8>());
            assert_eq!(told(&world.exchange(client.path, &[message])), Told::Accepted, "{number} at {at}");
            world.advance(Policy::default().half_open_lifetime);
        }
        nothing_left(&mut world, "N13");
        let mut client = half_open(&mut world, 4501);
        let mut payloads = plain(&client.auth_payloads());
        for at in (0..=payloads.len()).rev() {
            payloads.insert(at, (number, 0, vec![]));
        }
        let opened = raw_request(&mut world, &mut client, Exchange::IkeAuth, &payloads);
        assert_eq!(opened.error(), None, "{number} in IKE_AUTH");
        let opened =
            raw_request(&mut world, &mut client, Exchange::Informational, &[(number, 0, vec![3; 40])]);
        assert!(opened.payloads().is_empty(), "{number} in INFORMATIONAL");
        goes_on(&mut world, &mut client, "N13");
    }
}

#[test]
fn n14_unknown_critical_payloads() {
    let unsupported = notify_type::UNSUPPORTED_CRITICAL_PAYLOAD;
    for number in UNKNOWN {
        let mut world = World::new();
        let mut client = stranger(&world);
        let hello = Hello::of(&mut client);
        for at in 0..=hello.payloads.len() {
            let mut payloads = plain(&hello.payloads);
            payloads.insert(at, (number, 0x80, vec![]));
            let (first, octets) = raw_chain(&payloads);
            let sent = world.exchange(client.path, &[hello.raw(first, &octets)]);
            assert_eq!(told(&sent), Told::Error(unsupported, vec![number]), "{number} at {at}");
        }
        nothing_left(&mut world, "N14");
        // Inside IKE_AUTH it is the end, inside INFORMATIONAL the client goes on; neither has any effect.
        for exchange in [Exchange::IkeAuth, Exchange::Informational] {
            let authenticated = exchange == Exchange::Informational;
            let (mut client, mut payloads) = if authenticated {
                let client = world.connect("alice@example.com", 4501);
                (client, plain(&[(Kind::Delete, Delete::Ike.emit())]))
            } else {
                let mut client = half_open(&mut world, 4501);
                let payloads = plain(&client.auth_payloads());
                (client, payloads)
            };
            world.take_log();
            payloads.push((number, 0x80, vec![1]));
            let opened = raw_request(&mut world, &mut client, exchange, &payloads);
            assert_eq!(opened.error(), Some(unsupported), "{number} in {exchange:?}");
            assert_eq!(Notify::parse(opened.body(Kind::Notify).unwrap()).unwrap().data, [number]);
            if authenticated {
                goes_on(&mut world, &mut client, "N14");
            } else {
                nothing_left(&mut world, "N14");
            }
        }
    }
}

#[test]
fn n15_the_critical_bit_of_known_payloads() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let hello = Hello::of(&mut client);
    let critical = |payloads: &[(Kind, Vec<u8>)]| -> Vec<_> {
        plain(payloads).into_iter().map(|(number, _, body)| (number, 0xff, body)).collect()
    };
    let (first, octets) = raw_chain(&critical(&hello.payloads));
    let sent = world.exchange(client.path, &[hello.raw(first, &octets)]);
    assert_eq!(told(&sent), Told::Accepted);
    nothing_left(&mut world, "N15");
    let mut client = half_open(&mut world, 4501);
    let payloads = critical(&client.auth_payloads());
    assert_eq!(raw_request(&mut world, &mut client, Exchange::IkeAuth, &payloads).error(), None);
    goes_on(&mut world, &mut client, "N15");
}

#[test]
fn n16_payloads_that_occur_twice() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let hello = Hello::of(&mut client);
    for kind in [Kind::Sa, Kind::Ke, Kind::Nonce] {
        let sent = world.exchange(client.path, &[hello.twice(kind)]);
        assert_eq!(told(&sent), Told::error(SYNTAX), "{kind:?}");
    }
    nothing_left(&mut world, "N16");
    for kind in [Kind::IdI, Kind::IdR, Kind::Auth] {
        let mut client = half_open(&mut world, 4501);
        let mut payloads = client.auth_payloads();
        let again = payloads.iter().find(|payload| payload.0 == kind).unwrap().clone();
        payloads.push(again);
        assert_eq!(authenticate(&mut world, &mut client, &payloads), Err(SYNTAX), "{kind:?}");
        nothing_left(&mut world, "N16");
    }
    // These are for the Child SA: who the client is was good, but it gets none.
    for kind in [Kind::Sa, Kind::TsI, Kind::TsR, Kind::Cp] {
        let mut client = half_open(&mut world, 4501);
        let mut payloads = client.auth_payloads();
        let again = payloads.iter().find(|payload| payload.0 == kind).unwrap().clone();
        payloads.push(again);
        assert_eq!(authenticate(&mut world, &mut client, &payloads), Err(SYNTAX), "{kind:?}");
        assert_eq!((world.take_log(), world.responder.stats().devices), (vec![], 0), "{kind:?}");
        says_goodbye(&mut world, &mut client);
        nothing_left(&mut world, "N16");
    }
    let mut client = world.connect("alice@example.com", 4501);
    for kind in [Kind::Sa, Kind::Nonce, Kind::TsI, Kind::TsR] {
        let mut payloads = new_child(&mut client);
        let again = payloads.iter().find(|payload| payload.0 == kind).unwrap().clone();
        payloads.push(again);
        let refused = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        assert_eq!(refused.error(), Some(SYNTAX), "{kind:?}");
    }
    goes_on(&mut world, &mut client, "N16");
}

#[test]
fn n17_payloads_in_any_order() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let mut hello = Hello::of(&mut client);
    // Every rotation puts another one first: the nonce, KE before SA, and so on.
    for first in 0..hello.payloads.len() {
        hello.payloads.rotate_left(1);
        hello.header.spi_i += 1;
        let sent = world.exchange(client.path, &[hello.message()]);
        assert_eq!(told(&sent), Told::Accepted, "rotation {first}");
        world.advance(Policy::default().half_open_lifetime);
    }
    let mut client = half_open(&mut world, 4501);
    let mut payloads = client.auth_payloads();
    payloads.reverse();
    let notify = (Kind::Notify, Notify::new(notify_type::INITIAL_CONTACT, &[]).emit());
    let id_r = payloads.iter().position(|payload| payload.0 == Kind::IdR).unwrap();
    payloads.insert(id_r, notify);
    assert_eq!(authenticate(&mut world, &mut client, &payloads), Ok(()), "Notify between IDi and IDr");
    // Windows puts KE last.
    let old = client.children[0].spi;
    let group = crate::crypto::Group::P256;
    client.rekey_child(&mut world, old, Some(group), &[Some(group)]).unwrap();
    let delete = [(Kind::Delete, Delete::Esp(vec![old]).emit())];
    client.request(&mut world, Exchange::Informational, &delete);
    goes_on(&mut world, &mut client, "N17");
}

#[test]
fn n18_initial_requests_that_lack_something() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let hello = Hello::of(&mut client);
    for kind in [Kind::Sa, Kind::Ke, Kind::Nonce] {
        let sent = world.exchange(client.path, &[hello.without(kind)]);
        assert_eq!(told(&sent), Told::error(SYNTAX), "{kind:?}");
        assert_eq!(world.responder.stats().ike_sas, 0, "{kind:?}");
    }
    // No error is longer than what it answers.
    for first in [0, Kind::Sa as u8] {
        let sent = world.exchange(client.path, &[hello.raw(first, &[])]);
        assert_eq!(told(&sent), Told::Nothing, "nothing at all, behind {first}");
    }
    nothing_left(&mut world, "N18");
}
