//! Habits of clients in the life of a connection: what each of them sends that RFC 7296 does not ask for, and what a
//! responder has to pass over.

use std::net::Ipv4Addr;

use crate::base::TrafficSelector;
use crate::crypto::Group;
use crate::ike::testing::*;
use crate::wire::ike::*;

fn between(first: [u8; 4], last: [u8; 4]) -> TrafficSelector {
    crate::ike::selector::any_between(Ipv4Addr::from(first), Ipv4Addr::from(last))
}

/// The payloads of a rekey of the Child SA with this SPI of the client.
fn rekey_of(
    client: &mut Initiator,
    spi: u32,
    ts_i: &[TrafficSelector],
    ts_r: &[TrafficSelector],
) -> Vec<(Kind, Vec<u8>)> {
    let spi = spi.to_be_bytes();
    let notify = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
    let mut payloads = vec![(Kind::Notify, notify.emit())];
    let sa = client.child_payloads(&[None]).into_iter().find(|payload| payload.0 == Kind::Sa);
    payloads.extend(sa);
    payloads.push((Kind::Nonce, vec![1; 48]));
    payloads.push((Kind::TsI, emit_selectors(ts_i)));
    payloads.push((Kind::TsR, emit_selectors(ts_r)));
    payloads
}

/// Windows asks for everything again, in both families; others for what they have, or for less.
#[test]
fn selectors_of_a_rekey_are_narrowed_again() {
    let all = [everything(), everything6()];
    let part = between([10, 0, 0, 0], [10, 0, 255, 255]);
    let foreign = [between([203, 0, 113, 1], [203, 0, 113, 1])];
    let first = World::new().connect("alice@example.com", 4500).children[0].clone();
    type Selectors<'a> = &'a [TrafficSelector];
    let cases: [(&str, Selectors<'_>, Selectors<'_>, Option<Selectors<'_>>); 6] = [
        ("wider", &all, &all, Some(&first.ts_r)),
        ("a specific one first", &[first.ts_i[0], all[0]], &[part, all[0]], Some(&[part, all[0]])),
        ("the same", &first.ts_i, &first.ts_r, Some(&first.ts_r)),
        ("narrower", &first.ts_i, &[part], Some(&[part])),
        ("disjoint on the client's side", &foreign, &all, None),
        ("another family", &all[1..], &all[1..], None),
    ];
    for (name, ts_i, ts_r, expected) in cases {
        let mut world = World::new();
        let mut client = world.connect("alice@example.com", 4500);
        let old = client.children[0].clone();
        let payloads = rekey_of(&mut client, old.spi, ts_i, ts_r);
        let answer = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        let Some(expected) = expected else {
            assert_eq!(answer.error(), Some(notify_type::TS_UNACCEPTABLE), "{name}");
            assert_eq!(world.installed.len(), 1);
            continue;
        };
        client.take_child(&answer);
        let new = client.children.last().unwrap();
        assert_eq!((&new.ts_i, &new.ts_r[..]), (&old.ts_i, expected), "{name}");
        let sa = world.installed.last().unwrap();
        assert_eq!((&sa.ts_remote, &sa.ts_local[..]), (&old.ts_i, expected), "{name}");
    }
}

#[test]
fn rekey_notifies_that_name_nothing_are_refused() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let old = client.children[0].clone();
    let esp = old.spi.to_be_bytes();
    let long = u64::from(old.spi).to_be_bytes();
    let ours = old.peer_spi.to_be_bytes();
    let (syntax, unknown) = (notify_type::INVALID_SYNTAX, notify_type::CHILD_SA_NOT_FOUND);
    for (protocol, spi, error) in [
        (protocol::ESP, &[][..], syntax),
        (protocol::ESP, &long, syntax),
        (2, &esp, syntax),
        (0, &[], syntax),
        (protocol::ESP, &ours, unknown),
        (protocol::ESP, &[0; 4], unknown),
    ] {
        let mut payloads = rekey_of(&mut client, old.spi, &old.ts_i, &old.ts_r);
        payloads[0].1 = Notify { protocol, spi, kind: notify_type::REKEY_SA, data: &[] }.emit();
        let answer = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        assert_eq!((answer.error(), answer.payloads().len()), (Some(error), 1), "{protocol} {spi:?}");
    }
    assert_eq!(world.installed.len(), 1);
}

/// Key exchange in a rekey where the Child SA before had none, and the other way round; KE may be the last payload, as
/// Windows has it.
#[test]
fn forward_secrecy_may_come_and_go() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    client.groups = vec![Group::P256];
    for ke in [None, Some(Group::P256), None, Some(Group::Modp2048), Some(Group::X25519)] {
        let old = client.children.last().unwrap().spi;
        let new = client.rekey_child(&mut world, old, ke, &[ke]).unwrap();
        let delete = [(Kind::Delete, Delete::Esp(vec![old]).emit())];
        client.request(&mut world, Exchange::Informational, &delete);
        assert_eq!(world.installed.last().unwrap().spi_in, new.peer_spi);
    }
}

#[test]
fn new_ike_spis_of_every_kind() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let payloads = |client: &Initiator, spi: &[u8]| {
        let pair = crate::crypto::dh::KeyPair::generate(client.guess).unwrap();
        [
            (Kind::Sa, emit_proposals(&[client.ike_proposal(3, spi)])),
            (Kind::Nonce, vec![5; 32]),
            (Kind::Ke, Ke { group: client.guess.transform_id(), data: pair.public() }.emit()),
        ]
    };
    for (spi, error) in [
        (&[0; 8][..], notify_type::INVALID_SYNTAX),
        (&[], notify_type::NO_PROPOSAL_CHOSEN),
        (&[1; 4], notify_type::NO_PROPOSAL_CHOSEN),
    ] {
        let request = payloads(&client, spi);
        let answer = client.request(&mut world, Exchange::CreateChildSa, &request);
        assert_eq!(answer.error(), Some(error), "{spi:?}");
    }
    // The SPI that it has already: what counts is ours.
    let same = client.spi_i.to_be_bytes();
    let request = payloads(&client, &same);
    assert_eq!(client.request(&mut world, Exchange::CreateChildSa, &request).error(), None);
    assert_eq!(world.responder.stats().ike_rekeys, 1);
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.responder.stats().devices, 1, "the Delete of the old one");
}

#[test]
fn deletes_of_every_kind() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let delete = |spis: Vec<u32>| (Kind::Delete, Delete::Esp(spis).emit());
    for spis in [vec![], vec![0], (1..1001).collect()] {
        let answer = client.request(&mut world, Exchange::Informational, &[delete(spis)]);
        assert!(answer.payloads().is_empty());
    }
    let mut further = client.child_payloads(&[None]);
    further.push((Kind::Nonce, vec![1; 32]));
    let answer = client.request(&mut world, Exchange::CreateChildSa, &further);
    client.take_child(&answer);
    assert_eq!(world.installed.len(), 2);
    // Several payloads, with one SPI twice: all are applied, each Child SA is named once.
    let [first, second] = &client.children[..] else { panic!() };
    let (first, second) = (first.clone(), second.clone());
    let all = [delete(vec![second.spi, 7]), delete(vec![first.spi]), delete(vec![second.spi])];
    let answer = client.request(&mut world, Exchange::Informational, &all);
    let named = Delete::parse(answer.body(Kind::Delete).unwrap()).unwrap();
    assert_eq!(named, Delete::Esp(vec![second.peer_spi, first.peer_spi]));
    assert!(world.installed.is_empty());
}

/// Private attributes of Windows, redirection, and notifies that nobody knows, in every exchange.
#[test]
fn what_is_none_of_our_business_changes_nothing() {
    let strange: Vec<(Kind, Vec<u8>)> =
        [16406_u16, 16407, 16408, 16394, 16395, 16387, 16391, 16500, 45000, 9000, 12345]
            .into_iter()
            .map(|kind| (Kind::Notify, Notify::new(kind, &[1, 4, 192, 0, 2, 99]).emit()))
            .collect();
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    client.handle_init(&answer);
    client.asked = vec![1, 3, 4, 23456, 8, 10, 23457, 16000];
    let mut payloads = client.auth_payloads();
    payloads.extend(strange.clone());
    let request = client.protected_request(Exchange::IkeAuth, &payloads);
    let answer = world.exchange(client.path, &request);
    assert!(
        client.open(&answer).payloads().iter().all(|payload| payload.kind != Kind::Notify),
        "none is echoed"
    );
    client.handle_auth(&answer).unwrap();
    let old = client.children[0].clone();
    let mut payloads = rekey_of(&mut client, old.spi, &old.ts_i, &old.ts_r);
    payloads.extend(strange.clone());
    let cp =
        Configuration { cfg_type: CfgType::Request, attributes: vec![Attribute { kind: 1, value: &[] }] };
    payloads.push((Kind::Cp, cp.emit()));
    let answer = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    client.take_child(&answer);
    let kinds: Vec<_> = answer.payloads().iter().map(|payload| payload.kind).collect();
    assert_eq!(kinds, [Kind::Sa, Kind::Nonce, Kind::TsI, Kind::TsR]);
    let answer = client.request(&mut world, Exchange::Informational, &strange);
    assert!(answer.payloads().is_empty());
    assert_eq!((world.responder.stats().devices, world.notes.len()), (1, 0));
}
