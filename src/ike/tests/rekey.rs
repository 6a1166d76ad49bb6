//! CREATE_CHILD_SA: Child SAs and IKE SAs replaced, by the peer and by us.

use std::time::Duration;

use crate::crypto::Group;
use crate::crypto::sign::KeyKind;
use crate::ike::testing::*;
use crate::ike::{Input, Policy};
use crate::wire::ike::*;

const NOTHING: [&str; 0] = [];

#[test]
fn child_rekey_with_and_without_forward_secrecy() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let both = [Some(Group::P256), None];
    for (ke, offered) in [
        (None, &[None][..]),
        (None, &both),
        (Some(Group::P256), &both),
        (Some(Group::P384), &[Some(Group::P384)]),
        (Some(Group::X25519), &[Some(Group::X25519)]),
    ] {
        let old = client.children.last().unwrap().clone();
        let new = client.rekey_child(&mut world, old.spi, ke, offered).unwrap();
        assert_eq!(world.take_log(), ["install"], "{ke:?}");
        let sa = world.installed.iter().find(|sa| sa.spi_in == new.peer_spi).unwrap();
        assert_eq!(sa.replaces, Some(old.peer_spi));
        assert_eq!((&new.ts_i, &new.ts_r), (&old.ts_i, &old.ts_r), "never wider than before");
        // The client deletes the old one, and learns our SPI of it.
        let delete = [(Kind::Delete, Delete::Esp(vec![old.spi]).emit())];
        let answer = client.request(&mut world, Exchange::Informational, &delete);
        assert_eq!(Delete::parse(answer.body(Kind::Delete).unwrap()), Ok(Delete::Esp(vec![old.peer_spi])));
        assert_eq!(world.take_log(), ["use", "remove"], "{ke:?}");
    }
    assert_eq!(world.installed.len(), 1);
    assert_eq!(world.responder.stats().child_rekeys, 5);
}

#[test]
fn child_rekey_that_cannot_be() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let old = client.children[0].spi;
    let p256 = [Some(Group::P256)];
    assert_eq!(
        client.rekey_child(&mut world, 99, None, &[None]).err(),
        Some(notify_type::CHILD_SA_NOT_FOUND)
    );
    let invalid_ke = Some(notify_type::INVALID_KE_PAYLOAD);
    assert_eq!(client.rekey_child(&mut world, old, None, &p256).err(), invalid_ke, "a group, but no KE");
    assert_eq!(client.rekey_child(&mut world, old, Some(Group::X25519), &p256).err(), invalid_ke);
    assert!(client.rekey_child(&mut world, old, Some(Group::P256), &p256).is_ok(), "and then it works");
    let again = client.rekey_child(&mut world, old, None, &[None]).err();
    assert_eq!(again, Some(notify_type::TEMPORARY_FAILURE), "it is being replaced already");
    let new = client.children.iter().map(|child| child.spi).max().unwrap();
    let bad = Notify { protocol: 0, spi: &[], kind: notify_type::REKEY_SA, data: &[] }.emit();
    let mut payloads = client.child_payloads(&[None]);
    payloads.extend([(Kind::Nonce, vec![1; 32]), (Kind::Notify, bad)]);
    let refused = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!(refused.error(), Some(notify_type::INVALID_SYNTAX));
    payloads.retain(|payload| payload.0 != Kind::Notify);
    payloads.push((Kind::Ke, Ke { group: 19, data: &[0; 64] }.emit()));
    let offered = client.child_payloads(&p256);
    payloads.retain(|payload| payload.0 != Kind::Sa);
    payloads.extend(offered.into_iter().filter(|payload| payload.0 == Kind::Sa));
    let refused = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!(refused.error(), Some(notify_type::INVALID_SYNTAX), "a point that is not on the curve");
    assert!(new > old && world.installed.len() == 2);
    // The new one is deleted at once: the old one is in charge again, and may be rekeyed.
    world.take_log();
    let newest = world.installed.last().unwrap().spi_out;
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(vec![newest]).emit())]);
    assert_eq!(world.take_log(), ["use", "remove"]);
    assert!(client.rekey_child(&mut world, old, None, &[None]).is_ok());
}

#[test]
fn further_children_are_limited() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    for number in 2..10 {
        let mut payloads = client.child_payloads(&[None]);
        payloads.push((Kind::Nonce, vec![1; 32]));
        let answer = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        let expected = (number > 4).then_some(notify_type::NO_ADDITIONAL_SAS);
        assert_eq!(answer.error(), expected, "Child SA {number}");
    }
    assert_eq!(world.responder.stats().child_sas, 4);
}

#[test]
fn the_peer_forgets_to_delete_what_it_replaced() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let old = client.children[0].clone();
    client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
    world.take_log();
    world.advance(Policy::default().linger);
    let delete = client.open(&world.take_sent());
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Esp(vec![old.peer_spi])));
    assert_eq!(world.take_log(), ["use"], "inbound stays until the peer knows");
    let busy = client.rekey_child(&mut world, old.spi, None, &[None]).err();
    assert_eq!(busy, Some(notify_type::TEMPORARY_FAILURE));
    client.answer(&mut world, &delete, &[(Kind::Delete, Delete::Esp(vec![old.spi]).emit())]);
    assert_eq!(world.take_log(), ["use", "remove"]);
    assert_eq!(world.installed.len(), 1);
}

#[test]
fn deletes_that_cross_name_nothing() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let old = client.children[0].clone();
    client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
    world.advance(Policy::default().linger);
    let ours = client.open(&world.take_sent());
    world.take_log();
    let delete = [(Kind::Delete, Delete::Esp(vec![old.spi]).emit())];
    let answer = client.request(&mut world, Exchange::Informational, &delete);
    assert!(answer.payloads().is_empty());
    assert_eq!(world.take_log(), ["use", "remove"]);
    assert!(client.answer(&mut world, &ours, &[]).is_empty());
    assert_eq!((world.take_log().len(), world.installed.len()), (0, 1));
}

#[test]
fn ike_rekey_and_then_everything_on_the_new_one() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    for number in [1, 3, 200] {
        client.rekey_ike(&mut world, number).unwrap();
        assert_eq!(world.take_log(), NOTHING, "the device notices nothing");
        let child = client.children.last().unwrap().clone();
        client.rekey_child(&mut world, child.spi, Some(Group::P256), &[Some(Group::P256)]).unwrap();
        client.request(
            &mut world,
            Exchange::Informational,
            &[(Kind::Delete, Delete::Esp(vec![child.spi]).emit())],
        );
        assert_eq!(world.take_log(), ["install", "use", "remove"]);
        // The old one still answers, but makes nothing new.
        client.swap_old();
        let mut payloads = client.child_payloads(&[None]);
        payloads.push((Kind::Nonce, vec![1; 32]));
        let request = client.protected_request(Exchange::CreateChildSa, &payloads);
        assert!(world.exchange(client.path, &request).is_empty());
        client.next_id -= 1;
        client.request(&mut world, Exchange::Informational, &[]);
        client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
        client.swap_old();
        assert_eq!(world.take_log(), NOTHING, "the Delete of the old one takes nobody along");
        client.request(&mut world, Exchange::Informational, &[]);
    }
    assert_eq!(world.responder.stats().ike_rekeys, 3);
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected by the client"]);
}

#[test]
fn ike_rekey_that_cannot_be_and_one_never_finished() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    client.groups = vec![Group::P256];
    let wrong_guess = client.rekey_ike(&mut world, 1);
    assert_eq!(wrong_guess, Err(notify_type::INVALID_KE_PAYLOAD));
    client.guess = Group::P256;
    client.rekey_ike(&mut world, 1).unwrap();
    // The peer never deletes the old one: we do, and give up alone.
    world.take_log();
    world.advance(Policy::default().linger);
    client.swap_old();
    let delete = client.open(&world.take_sent());
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    world.advance(Duration::from_secs(60));
    assert_eq!((world.responder.stats().ike_sas, world.take_log().len()), (1, 0));
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[]);
}

/// Our own rekey request, as the client sees it; answered as a client would.
pub(super) fn answer_own_rekey(
    world: &mut World,
    client: &mut Initiator,
    refuse: Option<u16>,
) -> Vec<Vec<u8>> {
    let request = client.open(&world.take_sent());
    assert_eq!(request.header.exchange, Exchange::CreateChildSa);
    let notify = Notify::parse(request.body(Kind::Notify).unwrap()).unwrap();
    let old = client.children[0].clone();
    assert_eq!((notify.kind, notify.spi), (notify_type::REKEY_SA, &old.peer_spi.to_be_bytes()[..]));
    if let Some(kind) = refuse {
        return client.answer(world, &request, &[(Kind::Notify, Notify::new(kind, &[]).emit())]);
    }
    let offered = parse_proposals(request.body(Kind::Sa).unwrap()).unwrap();
    let new_peer_spi = u32::from_be_bytes(offered[0].spi.as_slice().try_into().unwrap());
    let nonce = random::<32>();
    let answer = [
        (Kind::Sa, emit_proposals(&[Proposal { spi: vec![7; 4], ..offered[0].clone() }])),
        (Kind::Nonce, nonce.to_vec()),
        (Kind::TsI, request.body(Kind::TsI).unwrap().to_vec()),
        (Kind::TsR, request.body(Kind::TsR).unwrap().to_vec()),
    ];
    let delete = client.answer(world, &request, &answer);
    let sa = world.installed.last().unwrap();
    assert_eq!((sa.spi_in, sa.spi_out, sa.replaces), (new_peer_spi, 0x0707_0707, Some(old.peer_spi)));
    assert_eq!((&sa.ts_remote, &sa.ts_local), (&old.ts_i, &old.ts_r));
    let (from_responder, to_responder) = client.child_keymat(&[], request.body(Kind::Nonce).unwrap(), &nonce);
    assert_eq!((sa.key_out.expose(), sa.key_in.expose()), (&from_responder[..], &to_responder[..]));
    let delete = client.open(&delete);
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Esp(vec![old.peer_spi])));
    client.answer(world, &delete, &[(Kind::Delete, Delete::Esp(vec![old.spi]).emit())])
}

#[test]
fn our_own_rekey_at_the_end_of_the_numbers_or_of_time() {
    for exhausted in [true, false] {
        let mut world = World::new();
        let mut client = world.connect("alice@example.com", 4500);
        world.take_log();
        if exhausted {
            let spi_in = client.children[0].peer_spi;
            world.handle(Input::NearlyExhausted { spi_in });
            world.handle(Input::NearlyExhausted { spi_in });
        } else {
            let device = world.installed[0].device;
            for _ in 0..4 * 60 {
                world.handle(Input::Alive { device });
                world.advance(Duration::from_secs(60));
            }
        }
        answer_own_rekey(&mut world, &mut client, None);
        assert_eq!(world.take_log(), ["install", "use", "use", "remove"]);
        assert_eq!(world.installed.len(), 1);
    }
}

#[test]
fn our_own_rekey_refused_ends_the_connection() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let spi_in = client.children[0].peer_spi;
    world.take_log();
    world.handle(Input::NearlyExhausted { spi_in });
    let goodbye = answer_own_rekey(&mut world, &mut client, Some(notify_type::NO_ADDITIONAL_SAS));
    assert_eq!(world.notes.len(), 1);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: not rekeyed in time"]);
    let goodbye = client.open(&goodbye);
    assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
}

#[test]
fn child_sas_of_windows_are_never_rekeyed_by_us() {
    let policy = Policy { liveness_after: Duration::from_secs(1_000_000), ..Policy::default() };
    let lifetime = policy.child_lifetime;
    let mut world = World::with(KeyKind::P256, policy, 24);
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    client.asked = vec![1, 3, 23456];
    client.connect(&mut world).unwrap();
    world.take_log();
    world.advance(lifetime + Duration::from_secs(1));
    assert!(world.take_sent().is_empty(), "its age is no reason");
    world.handle(Input::NearlyExhausted { spi_in: client.children[0].peer_spi });
    let delete = client.open(&world.take_sent());
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: not rekeyed in time"]);
}
