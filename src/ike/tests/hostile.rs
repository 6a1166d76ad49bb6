//! Strangers, and authenticated peers that break the rules: no panic, no effect.

use crate::crypto::sign::KeyKind;
use crate::ike::testing::*;
use crate::ike::{Event, Input, Policy, Refusal};
use crate::wire::ike::*;

fn half_open(world: &mut World, port: u16) -> Initiator {
    let mut client = Initiator::new(world, world.client_cert("alice@example.com"), port);
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    client
}

#[test]
fn nothing_but_ike_auth_before_authentication() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    let mut child = client.child_payloads(&[None]);
    child.push((Kind::Nonce, vec![1; 32]));
    let delete = vec![(Kind::Delete, Delete::Ike.emit())];
    for (exchange, payloads) in [
        (Exchange::CreateChildSa, child),
        (Exchange::Informational, delete),
        (Exchange::Informational, vec![]),
        (Exchange::Other(43), vec![]),
        (Exchange::Other(240), vec![]),
    ] {
        for id in [0, 1, 2] {
            let message = client.seal(client.header(exchange, id, false), &chain_of(&payloads));
            assert!(world.exchange(client.path, &[message]).is_empty(), "{exchange:?} {id}");
            let message = client.seal(client.header(exchange, id, true), &chain_of(&payloads));
            assert!(world.exchange(client.path, &[message]).is_empty(), "{exchange:?} {id}, as an answer");
        }
    }
    for id in [0, 2, 5, u32::MAX] {
        let chain = chain_of(&client.auth_payloads());
        let message = client.seal(client.header(Exchange::IkeAuth, id, false), &chain);
        assert!(world.exchange(client.path, &[message]).is_empty(), "IKE_AUTH {id}");
    }
    assert_eq!(world.take_log(), [] as [&str; 0]);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()), "and the right one still works");
    world.take_log();
    // IKE_AUTH again, when it is over.
    let request = client.auth_request();
    assert!(world.exchange(client.path, &request).is_empty());
    client.next_id -= 1;
    let next = client.next_id;
    for (exchange, id) in [
        (Exchange::Other(43), next),
        (Exchange::Informational, next + 1),
        (Exchange::Informational, u32::MAX),
    ] {
        let message = client.seal(client.header(exchange, id, false), &Chain::new());
        assert!(world.exchange(client.path, &[message]).is_empty(), "{exchange:?} {id}");
    }
    assert_eq!(world.take_log(), [] as [&str; 0]);
    client.request(&mut world, Exchange::Informational, &[]);
    // A half-open one that nobody completes goes away by itself, probed or not.
    let mut other = half_open(&mut world, 4501);
    world.advance(Policy::default().half_open_lifetime / 2);
    let ping = other.seal(other.header(Exchange::Informational, 1, false), &Chain::new());
    world.exchange(other.path, &[ping]);
    world.advance(Policy::default().half_open_lifetime / 2);
    assert_eq!((world.responder.stats().half_open, world.responder.stats().ike_sas), (0, 1));
}

#[test]
fn headers_of_strangers() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let good = client.init_request();
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::parse(&good).unwrap();
        change(&mut header);
        [&header.emit()[..], &good[HEADER_LEN..]].concat()
    };
    let longer = [&good[..], &[0]].concat();
    for (name, message, answers) in [
        ("28 zeros", vec![0; 28], 0),
        ("nothing", vec![], 0),
        ("one octet more", longer, 0),
        ("initiator's SPI 0", changed(&|h| h.spi_i = 0), 0),
        ("responder's SPI", changed(&|h| h.spi_r = 1), 0),
        ("message ID 1", changed(&|h| h.message_id = 1), 0),
        ("a response", changed(&|h| h.response = true), 0),
        ("no initiator", changed(&|h| h.initiator = false), 0),
        ("version 1", changed(&|h| h.major = 1), 0),
        ("version 3", changed(&|h| h.major = 3), 1),
        ("version 3, exchange 0", changed(&|h| (h.major, h.exchange) = (3, Exchange::Other(0))), 1),
        ("version 15, response", changed(&|h| (h.major, h.response) = (15, true)), 0),
        ("another exchange", changed(&|h| h.exchange = Exchange::Informational), 0),
    ] {
        let sent = world.exchange(client.path, &[message]);
        assert_eq!(sent.len(), answers, "{name}");
        assert!(sent.iter().all(|bytes| bytes.len() <= good.len()), "{name}");
    }
    assert_eq!(world.responder.stats().ike_sas, 0);
    // Minor version and reserved flags are nobody's business.
    let mut odd = good.clone();
    odd[17] |= 0x0f;
    odd[19] |= 0xc7;
    assert_eq!(world.exchange(client.path, &[odd]).len(), 1);
    assert_eq!(world.responder.stats().half_open, 1);
}

#[test]
fn payloads_of_strangers() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let good = client.init_request();
    let header = Header::parse(&good).unwrap();
    let payloads = parse_chain(header.next_payload, &good[HEADER_LEN..]).unwrap();
    let payloads: Vec<_> = payloads.iter().map(|payload| (payload.kind, payload.body.to_vec())).collect();
    let with = |kind: Kind, body: &[u8]| {
        let mut payloads = payloads.clone();
        payloads.iter_mut().filter(|payload| payload.0 == kind).for_each(|payload| payload.1 = body.to_vec());
        chain_of(&payloads).emit_message(header)
    };
    let without = |kind: Kind| {
        let rest: Vec<_> = payloads.iter().filter(|payload| payload.0 != kind).cloned().collect();
        chain_of(&rest).emit_message(header)
    };
    let twice = |kind: Kind| {
        let again = payloads.iter().filter(|payload| payload.0 == kind).cloned();
        chain_of(&payloads.iter().cloned().chain(again).collect::<Vec<_>>()).emit_message(header)
    };
    let ke = |group: u16, data: &[u8]| with(Kind::Ke, &Ke { group, data }.emit());
    let weak = Proposal {
        number: 1,
        protocol: protocol::IKE,
        spi: vec![],
        transforms: vec![Transform::new(transform_type::ENCR, 3), Transform::new(transform_type::KE, 2)],
    };
    let syntax = notify_type::INVALID_SYNTAX;
    for (name, message, expected) in [
        ("no SA", without(Kind::Sa), syntax),
        ("no KE", without(Kind::Ke), syntax),
        ("no nonce", without(Kind::Nonce), syntax),
        ("two SAs", twice(Kind::Sa), syntax),
        ("two KEs", twice(Kind::Ke), syntax),
        ("two nonces", twice(Kind::Nonce), syntax),
        ("empty SA", with(Kind::Sa, &[]), syntax),
        ("short nonce", with(Kind::Nonce, &[1; 15]), syntax),
        ("long nonce", with(Kind::Nonce, &[1; 257]), syntax),
        ("weak suites", with(Kind::Sa, &emit_proposals(&[weak])), notify_type::NO_PROPOSAL_CHOSEN),
        ("group of nobody", ke(16, &[1; 512]), notify_type::INVALID_KE_PAYLOAD),
        ("short public value", ke(31, &[1; 31]), syntax),
        ("no public value", ke(31, &[]), syntax),
        ("X25519 zero", ke(31, &[0; 32]), syntax),
        ("off the curve", ke(19, &[0; 64]), syntax),
    ] {
        let sent = world.exchange(client.path, &[message]);
        let InitAnswer::Notify(kind, _) = client.handle_init(&sent) else { panic!("{name}: {sent:?}") };
        assert_eq!(kind, expected, "{name}");
    }
    let stats = world.responder.stats();
    assert_eq!((stats.half_open, stats.ike_sas), (0, 0), "and nothing is kept");
    assert!(matches!(world.notes.as_slice(), [Event::InitRefused { why: Refusal::NoProposal, .. }]));
    // Order does not matter, and unknown payloads only if they are critical.
    let mut reversed = payloads.clone();
    reversed.reverse();
    assert_eq!(world.exchange(client.path, &[chain_of(&reversed).emit_message(header)]).len(), 1);
    for (flags, expected) in [(0, None), (0x80, Some(notify_type::UNSUPPORTED_CRITICAL_PAYLOAD))] {
        let unknown = [&[header.next_payload, flags, 0, 5, 1][..], &good[HEADER_LEN..]].concat();
        let length = (HEADER_LEN + unknown.len()) as u32;
        let message = [&Header { next_payload: 200, length, ..header }.emit()[..], &unknown].concat();
        let sent = world.exchange(client.path, &[message]);
        match (client.handle_init(&sent), expected) {
            (InitAnswer::Done, None) => {}
            (InitAnswer::Notify(kind, data), Some(expected)) => {
                assert_eq!((kind, data), (expected, vec![200]))
            }
            (other, _) => panic!("{other:?}"),
        }
        client = Initiator::new(&world, client.cert.clone(), 4500);
        client.init_request();
        client.spi_i = header.spi_i;
    }
    // A flood of refusals is answered within a budget, and noted a few times.
    for _ in 0..500 {
        world.exchange(client.path, &[ke(31, &[])]);
    }
    let sent: usize = (0..500).map(|_| world.exchange(client.path, &[without(Kind::Sa)]).len()).sum();
    assert_eq!(sent, 0);
}

#[test]
fn critical_payloads_inside_protection() {
    for authenticated in [false, true] {
        let mut world = World::new();
        let mut client = if authenticated {
            world.connect("alice@example.com", 4500)
        } else {
            half_open(&mut world, 4500)
        };
        client.fragmentation = false;
        let exchange = if authenticated { Exchange::Informational } else { Exchange::IkeAuth };
        // A Nonce, whose type is then changed into one that nobody knows, and made critical.
        let mut chain = Chain::new();
        chain.push(Kind::Vendor, &[1]);
        chain.push(Kind::Nonce, &[2]);
        let mut bytes = chain.bytes().to_vec();
        (bytes[0], bytes[6]) = (200, 0x80);
        let header = client.header(exchange, client.next_id, false);
        let message = client.seal_raw(header, Kind::Vendor as u8, &bytes);
        client.next_id += 1;
        let answer = world.exchange(client.path, &[message]);
        let opened = client.open(&answer);
        assert_eq!(opened.error(), Some(notify_type::UNSUPPORTED_CRITICAL_PAYLOAD));
        assert_eq!(Notify::parse(opened.body(Kind::Notify).unwrap()).unwrap().data, [200]);
        assert_eq!(world.responder.stats().devices, usize::from(authenticated), "established ones go on");
        let request = client.protected_request(Exchange::Informational, &[]);
        assert_eq!(world.exchange(client.path, &request).len(), usize::from(authenticated));
    }
}

/// Every truncation and many byte flips of `message`, from the client's address.
fn sweep(world: &mut World, client: &Initiator, message: &[u8]) {
    for end in 0..message.len() {
        world.handle(Input::Datagram { path: client.path, bytes: &message[..end] });
    }
    let step = if message.len() > 600 { 3 } else { 1 };
    for at in (0..message.len()).step_by(step) {
        let mut changed = message.to_vec();
        changed[at] ^= 1 << (at % 8);
        world.handle(Input::Datagram { path: client.path, bytes: &changed });
    }
}

#[test]
fn truncated_and_changed_messages_before_and_outside_protection() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let request = client.init_request();
    sweep(&mut world, &client, &request);
    world.advance(Policy::default().half_open_lifetime);
    world.take_sent();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(
        client.handle_init(&answer),
        InitAnswer::Done,
        "after a second the budget of errors is there again"
    );
    client.fragmentation = false;
    let request = client.auth_request();
    sweep(&mut world, &client, &request[0]);
    assert_eq!((world.take_log().len(), world.take_sent().len()), (0, 0));
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    world.take_log();
    let ping = client.protected_request(Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    sweep(&mut world, &client, &ping[0]);
    assert_eq!((world.take_log().len(), world.take_sent().len()), (0, 0));
    assert_eq!(world.exchange(client.path, &ping).len(), 1);
}

#[test]
fn truncated_and_changed_payloads_inside_protection() {
    let (cookie_threshold, cookie_threshold_per_source) = (usize::MAX, usize::MAX);
    let policy = Policy { cookie_threshold, cookie_threshold_per_source, ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let mut client = half_open(&mut world, 4500);
    let auth = chain_of(&client.auth_payloads());
    let mut established = world.connect("bob@example.com", 4501);
    let mut child = established.child_payloads(&[None]);
    child.push((Kind::Nonce, vec![1; 32]));
    let child = chain_of(&child);
    let info = chain_of(&[(Kind::Delete, Delete::Esp(vec![1, 2]).emit())]);
    let ike = [
        (Kind::Sa, emit_proposals(&[established.ike_proposal(1, &[9; 8])])),
        (Kind::Nonce, vec![1; 32]),
        (Kind::Ke, Ke { group: 31, data: &[9; 32] }.emit()),
    ];
    for (exchange, chain) in [
        (Exchange::IkeAuth, auth),
        (Exchange::CreateChildSa, child),
        (Exchange::CreateChildSa, chain_of(&ike)),
        (Exchange::Informational, info),
    ] {
        let cuts = (0..chain.bytes().len()).map(|end| chain.bytes()[..end].to_vec());
        let step = if exchange == Exchange::IkeAuth { 7 } else { 1 };
        let flips = (0..chain.bytes().len()).step_by(step).map(|at| {
            let mut changed = chain.bytes().to_vec();
            changed[at] ^= 1 << (at % 8);
            changed
        });
        let cuts = cuts.step_by(step);
        for bytes in cuts.chain(flips).collect::<Vec<_>>() {
            let fresh = exchange == Exchange::IkeAuth;
            if fresh {
                client = half_open(&mut world, 4500);
            }
            let peer = if fresh { &mut client } else { &mut established };
            let header = peer.header(exchange, peer.next_id, false);
            let message = peer.seal_raw(header, chain.first(), &bytes);
            let answer = world.exchange(peer.path, &[message]);
            if answer.is_empty() {
                panic!("an authentic request has an answer: {exchange:?} {bytes:?}");
            }
            let opened = peer.open(&answer);
            if opened.error().is_none() {
                // It was good enough to be carried out: a new beginning.
                established = world.connect("bob@example.com", 4501);
            } else {
                peer.next_id += 1;
            }
            world.advance(std::time::Duration::from_millis(10));
            world.take_sent();
        }
    }
}

#[test]
fn datagrams_lost_repeated_and_out_of_order() {
    use crate::crypto::hash::sha256;
    for seed in 0..40_u8 {
        let mut world = World::new();
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        let mut round = 0_u8;
        // Sends until an answer comes back; both ways lose, repeat and swap.
        let mut stubborn = |world: &mut World, client: &Initiator, request: &[Vec<u8>]| loop {
            assert!(round < 250, "no progress with seed {seed}");
            let dice = sha256(&[&[seed, round]]);
            round += 1;
            let mut there: Vec<_> =
                request.iter().zip(dice).filter(|(_, d)| d % 4 != 0).map(|(r, _)| r.clone()).collect();
            let copies = there.clone();
            there.extend(copies.into_iter().zip(dice).filter(|(_, d)| d % 3 == 0).map(|(r, _)| r));
            if dice[30].is_multiple_of(2) {
                there.reverse();
            }
            let mut back = world.exchange(client.path, &there);
            back.dedup();
            let whole = back.len();
            let fragments = back.first().and_then(|bytes| {
                let header = Header::parse(bytes).unwrap();
                Protected::parse(&header, bytes).ok()?.fragment.map(|fragment| usize::from(fragment.total))
            });
            back.truncate(fragments.unwrap_or(1));
            if whole > 0 && !dice[31].is_multiple_of(3) {
                return back;
            }
        };
        let request = client.init_request();
        let answer = stubborn(&mut world, &client, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        let request = client.auth_request();
        let answer = stubborn(&mut world, &client, &request);
        assert_eq!(client.handle_auth(&answer), Ok(()));
        let request =
            client.protected_request(Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
        stubborn(&mut world, &client, &request);
        let log = world.take_log();
        let expected = ["install", "connected alice@example.com 198.19.255.2", "remove"];
        assert_eq!(log[..3], expected, "seed {seed}");
        assert_eq!(log.len(), 4, "each thing happened once");
    }
}
