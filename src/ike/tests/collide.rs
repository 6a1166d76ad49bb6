//! Both sides begin at once (RFC 7296 sections 2.8.1, 2.8.2, 2.25), and rekeys of the IKE SA by us.

use std::time::Duration;

use super::rekey::answer_own_rekey;
use crate::crypto::sign::KeyKind;
use crate::ike::plan::ASK_AGAIN;
use crate::ike::testing::*;
use crate::ike::{Input, Policy};
use crate::wire::ike::*;

const NOTHING: [&str; 0] = [];
const BUSY: Option<u16> = Some(notify_type::TEMPORARY_FAILURE);

fn notify(kind: u16) -> [(Kind, Vec<u8>); 1] {
    [(Kind::Notify, Notify::new(kind, &[]).emit())]
}

fn delete_esp(spi: u32) -> [(Kind, Vec<u8>); 1] {
    [(Kind::Delete, Delete::Esp(vec![spi]).emit())]
}

fn deleted(message: &Opened) -> Delete {
    Delete::parse(message.body(Kind::Delete).expect("a Delete")).unwrap()
}

/// A world in which we have begun to rekey a client's Child SA, and our request.
fn rekeying_child() -> (World, Initiator, Opened) {
    let mut world = World::new();
    let client = world.connect("alice@example.com", 4500);
    world.handle(Input::NearlyExhausted { spi_in: client.children[0].peer_spi });
    let request = client.open(&world.take_sent());
    world.take_log();
    (world, client, request)
}

/// What a client says to our rekey of a Child SA, with this SPI.
fn agree(request: &Opened, spi: u32, nonce: Vec<u8>) -> Vec<(Kind, Vec<u8>)> {
    let mut offered = parse_proposals(request.body(Kind::Sa).unwrap()).unwrap();
    offered[0].spi = spi.to_be_bytes().to_vec();
    let ts = |kind| (kind, request.body(kind).unwrap().to_vec());
    vec![(Kind::Sa, emit_proposals(&offered)), (Kind::Nonce, nonce), ts(Kind::TsI), ts(Kind::TsR)]
}

fn inbound(world: &World) -> Vec<u32> {
    world.installed.iter().map(|sa| sa.spi_in).collect()
}

#[test]
fn of_two_child_sas_the_one_with_the_lowest_nonce_goes() {
    for ours_is_redundant in [true, false] {
        let (mut world, mut client, request) = rekeying_child();
        let old = client.children[0].clone();
        let lowest = vec![0; 32];
        client.nonce = (!ours_is_redundant).then(|| lowest.clone());
        let theirs = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
        let again = client.rekey_child(&mut world, old.spi, None, &[None]);
        assert_eq!(again.err(), BUSY, "a third one is too much");
        let nonce = if ours_is_redundant { lowest } else { vec![255; 32] };
        let rest = client.answer(&mut world, &request, &agree(&request, 0x700, nonce));
        assert_eq!(world.installed.len(), 3, "nothing is lost meanwhile");
        let ours = world.installed.last().unwrap().spi_in;
        assert!(ours != theirs.peer_spi && world.installed.last().unwrap().spi_out == 0x700);

        let delete = client.open(&rest);
        if ours_is_redundant {
            assert_eq!(deleted(&delete), Delete::Esp(vec![ours]), "we delete ours");
            client.answer(&mut world, &delete, &delete_esp(0x700));
            let answer = client.request(&mut world, Exchange::Informational, &delete_esp(old.spi));
            assert_eq!(deleted(&answer), Delete::Esp(vec![old.peer_spi]));
            assert_eq!(inbound(&world), [theirs.peer_spi]);
        } else {
            assert_eq!(deleted(&delete), Delete::Esp(vec![old.peer_spi]), "we delete the old one");
            client.answer(&mut world, &delete, &delete_esp(old.spi));
            let answer = client.request(&mut world, Exchange::Informational, &delete_esp(theirs.spi));
            assert_eq!(deleted(&answer), Delete::Esp(vec![theirs.peer_spi]));
            assert_eq!(inbound(&world), [ours]);
        }
        let log = world.take_log();
        assert_eq!(log[..2], ["install", "install"], "{log:?}");
        world.advance(Policy::default().linger * 2);
        assert_eq!((world.take_sent().len(), world.installed.len()), (0, 1), "that was all");
        let spi = if ours_is_redundant { theirs.spi } else { 0x700 };
        client.rekey_child(&mut world, spi, None, &[None]).expect("the one that is left may be rekeyed");
    }
}

#[test]
fn the_redundant_child_sa_that_the_peer_does_not_delete() {
    let (mut world, mut client, request) = rekeying_child();
    let old = client.children[0].clone();
    client.nonce = Some(vec![0; 32]);
    let theirs = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
    let rest = client.answer(&mut world, &request, &agree(&request, 0x700, vec![255; 32]));
    let delete = client.open(&rest);
    client.answer(&mut world, &delete, &delete_esp(old.spi));
    world.advance(Policy::default().linger);
    let delete = client.open(&world.take_sent());
    assert_eq!(deleted(&delete), Delete::Esp(vec![theirs.peer_spi]));
    client.answer(&mut world, &delete, &delete_esp(theirs.spi));
    assert_eq!(world.installed.len(), 1);
}

/// The peer did not see our request before it was through with its own rekey.
#[test]
fn child_rekeys_that_cross_by_lost_messages() {
    let unknown = Some(notify_type::CHILD_SA_NOT_FOUND);
    for answer in [unknown, BUSY, Some(notify_type::NO_ADDITIONAL_SAS), None] {
        let (mut world, mut client, request) = rekeying_child();
        let old = client.children[0].clone();
        let theirs = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
        client.request(&mut world, Exchange::Informational, &delete_esp(old.spi));
        assert_eq!(inbound(&world), [theirs.peer_spi]);
        match answer {
            Some(error) => assert!(client.answer(&mut world, &request, &notify(error)).is_empty()),
            // It had answered after all, before it deleted the old one: ours has the lowest nonce, and goes.
            None => {
                let rest = client.answer(&mut world, &request, &agree(&request, 0x700, vec![0; 32]));
                let ours = world.installed.last().unwrap().spi_in;
                let delete = client.open(&rest);
                assert_eq!(deleted(&delete), Delete::Esp(vec![ours]));
                client.answer(&mut world, &delete, &delete_esp(0x700));
            }
        }
        assert_eq!(inbound(&world), [theirs.peer_spi], "{answer:?}");
        world.advance(ASK_AGAIN * 2);
        assert!(world.take_sent().is_empty() && world.notes.is_empty(), "{answer:?}");
    }
    // Its own request is late: ours is through.
    let (mut world, mut client, request) = rekeying_child();
    let old = client.children[0].clone();
    let rest = client.answer(&mut world, &request, &agree(&request, 0x700, vec![0; 32]));
    assert_eq!(client.rekey_child(&mut world, old.spi, None, &[None]).err(), BUSY, "it is being deleted");
    let delete = client.open(&rest);
    client.answer(&mut world, &delete, &delete_esp(old.spi));
    let late = client.rekey_child(&mut world, old.spi, None, &[None]).err();
    assert_eq!(late, Some(notify_type::CHILD_SA_NOT_FOUND));
    assert_eq!(world.installed.len(), 1);
}

#[test]
fn a_busy_peer_is_asked_again_to_rekey_a_child_sa() {
    let (mut world, mut client, mut request) = rekeying_child();
    for _ in 0..3 {
        assert!(client.answer(&mut world, &request, &notify(notify_type::TEMPORARY_FAILURE)).is_empty());
        assert_eq!(world.take_log(), NOTHING);
        world.advance(ASK_AGAIN - Duration::from_secs(1));
        assert!(world.take_sent().is_empty());
        world.advance(Duration::from_secs(1));
        request = client.open(&world.take_sent());
    }
    let rest = client.answer(&mut world, &request, &agree(&request, 0x700, vec![0; 32]));
    assert_eq!(deleted(&client.open(&rest)), Delete::Esp(vec![client.children[0].peer_spi]));
}

#[test]
fn a_child_sa_that_the_peer_does_not_know_is_gone() {
    let (mut world, mut client, request) = rekeying_child();
    let unknown = notify(notify_type::CHILD_SA_NOT_FOUND);
    assert!(client.answer(&mut world, &request, &unknown).is_empty());
    assert_eq!(world.take_log(), ["remove"]);
    world.advance(Policy::default().childless_lifetime);
    assert_eq!(world.take_log(), ["gone alice@example.com: no Child SA left"]);
}

#[test]
fn the_peer_deletes_what_we_rekey() {
    let (mut world, mut client, request) = rekeying_child();
    let old = client.children[0].clone();
    let answer = client.request(&mut world, Exchange::Informational, &delete_esp(old.spi));
    assert_eq!(deleted(&answer), Delete::Esp(vec![old.peer_spi]), "as usual");
    assert!(client.answer(&mut world, &request, &notify(notify_type::CHILD_SA_NOT_FOUND)).is_empty());
    assert_eq!((world.take_log().len(), world.notes.len()), (1, 0), "removed once");
    let (mut world, mut client, request) = rekeying_child();
    assert_eq!(client.rekey_ike(&mut world, 1).err(), BUSY, "one after the other");
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected by the client"]);
    assert!(client.answer(&mut world, &request, &agree(&request, 0x700, vec![0; 32])).is_empty());
    assert_eq!(world.take_log(), NOTHING);
}

/// A world in which a client has not renewed its IKE SA for nearly a day, and our request to do so.
fn rekeying_ike() -> (World, Initiator, Opened) {
    let policy = Policy { child_lifetime: Duration::from_secs(1_000_000), ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let client = world.connect("alice@example.com", 4500);
    let device = world.installed[0].device;
    for _ in 0..24 * 60 - 10 {
        assert!(world.take_sent().is_empty());
        world.handle(Input::Alive { device });
        world.advance(Duration::from_secs(60));
    }
    let request = client.open(&world.take_sent());
    assert_eq!(request.header.exchange, Exchange::CreateChildSa);
    world.take_log();
    (world, client, request)
}

/// Both directions work on the IKE SA that the client uses now, and the Child SAs belong to it.
fn prove_usable(world: &mut World, client: &mut Initiator, child: u32) {
    client.request(world, Exchange::Informational, &[]);
    let renewed = client.rekey_child(world, child, None, &[None]).unwrap();
    client.request(world, Exchange::Informational, &delete_esp(child));
    let device = world.installed[0].device;
    assert_eq!(inbound(world), [renewed.peer_spi]);
    world.handle(Input::Disconnect(device));
    let delete = client.open(&world.take_sent());
    assert_eq!((deleted(&delete), delete.header.response), (Delete::Ike, false));
    client.answer(world, &delete, &[]);
    assert_eq!(world.responder.stats().devices, 0);
}

#[test]
fn an_ike_sa_that_the_client_never_renews_is_rekeyed_by_us() {
    let (mut world, mut client, request) = rekeying_ike();
    let rest = client.answer_ike_rekey(&mut world, &request);
    client.swap_old();
    let delete = client.open(&rest);
    assert_eq!(deleted(&delete), Delete::Ike, "whoever rekeys deletes the old one");
    assert!(client.answer(&mut world, &delete, &[]).is_empty());
    client.swap_old();
    assert_eq!((world.take_log().len(), world.ike_rekeyed), (0, 1), "the device notices nothing");
    assert_eq!(world.responder.stats().ike_sas, 1);
    // Now we are the initiator; the peer may rekey that SA as well, and then we are not any more.
    let child = client.children[0].spi;
    client.rekey_ike(&mut world, 7).unwrap();
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    client.swap_old();
    prove_usable(&mut world, &mut client, child);
}

#[test]
fn our_own_ike_sa_serves_like_any_other() {
    let (mut world, mut client, request) = rekeying_ike();
    client.answer_ike_rekey(&mut world, &request);
    // The Delete of the old one was lost: that harms nobody.
    let device = world.installed[0].device;
    for _ in 0..2 {
        world.handle(Input::Alive { device });
        world.advance(Duration::from_secs(30));
    }
    world.take_sent();
    assert_eq!((world.responder.stats().ike_sas, world.take_log().len()), (1, 0));
    // What seems to come from the other side of it is nobody's.
    let mut reflected = client.protected_request(Exchange::Informational, &[]);
    client.next_id -= 1;
    reflected[0][19] ^= 8;
    let unknown = world.responder.stats().unknown_spi;
    assert!(world.exchange(client.path, &reflected).is_empty());
    assert_eq!(world.responder.stats().unknown_spi, unknown + 1);
    // Nor what it says as if it had begun that SA.
    let header = client.header(Exchange::Informational, client.next_id, false);
    let (spi_i, spi_r) = (header.spi_r, header.spi_i);
    let turned = client.seal(Header { spi_i, spi_r, initiator: true, ..header }, &Chain::new());
    assert!(world.exchange(client.path, &[turned]).is_empty());
    assert_eq!(world.responder.stats().unknown_spi, unknown + 2);
    let child = client.children[0].spi;
    prove_usable(&mut world, &mut client, child);
}

#[test]
fn an_ike_sa_that_the_client_does_not_let_us_rekey_ends_in_time() {
    for refusal in [notify_type::NO_PROPOSAL_CHOSEN, notify_type::NO_ADDITIONAL_SAS] {
        let (mut world, mut client, request) = rekeying_ike();
        assert!(client.answer(&mut world, &request, &notify(refusal)).is_empty());
        let device = world.installed[0].device;
        for _ in 0..9 {
            world.handle(Input::Alive { device });
            world.advance(Duration::from_secs(60));
        }
        assert_eq!((world.take_sent().len(), world.take_log().len()), (0, 0));
        world.advance(Duration::from_secs(60));
        assert_eq!(world.take_log(), ["remove", "gone alice@example.com: not rekeyed in time"]);
    }
    // One that is busy is asked again.
    let (mut world, mut client, request) = rekeying_ike();
    client.answer(&mut world, &request, &notify(notify_type::TEMPORARY_FAILURE));
    world.advance(ASK_AGAIN);
    let request = client.open(&world.take_sent());
    client.answer_ike_rekey(&mut world, &request);
    assert_eq!((world.responder.stats().ike_rekeys, world.take_log().len()), (1, 0));
}

#[test]
fn what_the_peer_may_do_while_we_rekey_the_ike_sa() {
    let (mut world, mut client, request) = rekeying_ike();
    let child = client.children[0].clone();
    assert_eq!(client.rekey_child(&mut world, child.spi, None, &[None]).err(), BUSY);
    let mut payloads = client.child_payloads(&[None]);
    payloads.push((Kind::Nonce, vec![1; 32]));
    assert_eq!(client.request(&mut world, Exchange::CreateChildSa, &payloads).error(), BUSY);
    let answer = client.request(&mut world, Exchange::Informational, &delete_esp(child.spi));
    assert_eq!(deleted(&answer), Delete::Esp(vec![child.peer_spi]), "as usual");
    // While the old one is being deleted, it makes nothing new.
    let rest = client.answer_ike_rekey(&mut world, &request);
    client.swap_old();
    assert_eq!(client.rekey_ike(&mut world, 1).err(), BUSY);
    let delete = client.open(&rest);
    client.answer(&mut world, &delete, &[]);
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[]);

    let (mut world, mut client, request) = rekeying_ike();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected by the client"]);
    assert!(client.answer(&mut world, &request, &notify(notify_type::NO_PROPOSAL_CHOSEN)).is_empty());
    assert_eq!(world.take_log(), NOTHING);
}

#[test]
fn of_two_ike_sas_the_one_with_the_lowest_nonce_goes() {
    for ours_is_redundant in [true, false] {
        let (mut world, mut client, request) = rekeying_ike();
        let child = client.children[0].spi;
        client.nonce = (!ours_is_redundant).then(|| vec![0; 32]);
        client.rekey_ike(&mut world, 1).unwrap();
        let mut theirs = Slot::default();
        client.swap_old();
        std::mem::swap(&mut theirs, client.old_slot());
        // `client` is on the old SA.
        client.nonce = Some(if ours_is_redundant { vec![0; 32] } else { vec![255; 32] });
        let mut sent = client.answer_ike_rekey(&mut world, &request);
        sent.extend(world.take_sent());
        assert_eq!(sent.len(), 1);
        if ours_is_redundant {
            let delete = client.open(&sent);
            assert_eq!(deleted(&delete), Delete::Ike, "we delete ours");
            client.answer(&mut world, &delete, &[]);
            client.swap_old();
            client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
            client.swap(&mut theirs);
        } else {
            client.swap_old();
            let delete = client.open(&sent);
            assert_eq!(deleted(&delete), Delete::Ike, "we delete the old one");
            client.answer(&mut world, &delete, &[]);
            client.swap(&mut theirs);
            client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
            client.swap_old();
        }
        assert_eq!(world.take_log(), NOTHING, "the device notices nothing");
        let device = world.installed[0].device;
        world.handle(Input::Alive { device });
        world.advance(Duration::from_secs(60));
        assert_eq!((world.responder.stats().ike_sas, world.take_sent().len()), (1, 0));
        prove_usable(&mut world, &mut client, child);
    }
}

/// The peer saw nothing of our request before it was through with its own.
#[test]
fn ike_rekeys_that_cross_by_lost_messages() {
    let (mut world, mut client, request) = rekeying_ike();
    let child = client.children[0].spi;
    client.rekey_ike(&mut world, 1).unwrap();
    client.swap_old();
    client.answer(&mut world, &request, &notify(notify_type::TEMPORARY_FAILURE));
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    client.swap_old();
    world.advance(Duration::from_secs(30));
    assert!(world.take_sent().is_empty() && world.take_log().is_empty());
    assert_eq!(world.responder.stats().ike_sas, 1);
    prove_usable(&mut world, &mut client, child);
    // It deletes the old one without an answer to ours at all.
    let (mut world, mut client, _request) = rekeying_ike();
    let child = client.children[0].spi;
    client.rekey_ike(&mut world, 1).unwrap();
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    client.swap_old();
    world.advance(Duration::from_secs(30));
    assert!(world.take_sent().is_empty() && world.take_log().is_empty());
    prove_usable(&mut world, &mut client, child);
}

/// The peer is two IKE SAs further when it answers: ours comes too late, whatever its nonces.
#[test]
fn the_peer_has_rekeyed_its_own_new_ike_sa_meanwhile() {
    let (mut world, mut client, request) = rekeying_ike();
    let child = client.children[0].spi;
    client.nonce = Some(vec![0; 32]);
    client.rekey_ike(&mut world, 1).unwrap();
    let mut old = std::mem::take(client.old_slot());
    client.rekey_ike(&mut world, 1).unwrap();
    client.swap(&mut old);
    client.nonce = Some(vec![255; 32]);
    let mut newest = old;
    let sent = client.answer_ike_rekey(&mut world, &request);
    let sent = if sent.is_empty() { world.take_sent() } else { sent };
    let delete = client.open(&sent);
    assert_eq!(deleted(&delete), Delete::Ike, "we delete ours");
    client.answer(&mut world, &delete, &[]);
    client.swap(&mut newest);
    assert_eq!(world.take_log(), NOTHING);
    let device = world.installed[0].device;
    world.handle(Input::Alive { device });
    world.advance(Duration::from_secs(90));
    world.take_sent();
    prove_usable(&mut world, &mut client, child);
}

#[test]
fn a_child_sa_that_the_peer_waits_for_comes_before_our_rekey_of_the_ike_sa() {
    let day = Policy::default().ike_lifetime;
    let policy = Policy { child_lifetime: day, liveness_after: day, ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let mut client = world.connect("alice@example.com", 4500);
    world.advance(day - Duration::from_secs(601));
    world.auto_install = false;
    let mut payloads = client.child_payloads(&[None]);
    payloads.push((Kind::Nonce, vec![1; 32]));
    let request = client.protected_request(Exchange::CreateChildSa, &payloads);
    assert!(world.exchange(client.path, &request).is_empty());
    world.advance(Duration::from_secs(2));
    assert!(world.take_sent().is_empty());
    let spi_in = world.installed.last().unwrap().spi_in;
    world.handle(Input::Installed { spi_in });
    assert_eq!(world.take_sent().len(), 1, "the answer");
    world.advance(ASK_AGAIN);
    let ours = client.open(&world.take_sent()[..1]);
    assert_eq!(ours.header.exchange, Exchange::CreateChildSa);
    assert!(parse_proposals(ours.body(Kind::Sa).unwrap()).unwrap()[0].protocol == protocol::IKE);
}

#[test]
fn a_client_creates_ten_sas_a_minute_and_no_more() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let mut made = 0;
    for _ in 0..30 {
        made += i32::from(client.rekey_ike(&mut world, 1).is_ok());
    }
    assert_eq!(made, 10, "the budget is the client's, not the IKE SA's");
    let child = client.children[0].spi;
    assert_eq!(client.rekey_child(&mut world, child, None, &[None]).err(), BUSY);
    assert!(world.notes.is_empty(), "and the log stays quiet");
    world.advance(Duration::from_secs(60));
    world.take_sent();
    client.rekey_child(&mut world, child, None, &[None]).unwrap();
}

#[test]
fn our_own_rekey_does_not_need_a_collision() {
    let (mut world, mut client, _) = rekeying_child();
    world.advance(Duration::from_secs(1));
    answer_own_rekey(&mut world, &mut client, None);
    assert_eq!(world.installed.len(), 1);
}
