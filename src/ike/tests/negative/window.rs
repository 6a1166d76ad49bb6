//! N48 to N52: message IDs, answers of strangers, and fragments.

use super::*;
use crate::ike::sa::State;

fn ping(client: &mut Initiator, id: u32) -> Vec<u8> {
    client.seal(client.header(Exchange::Informational, id, false), &Chain::new())
}

#[test]
fn n48_message_ids_out_of_order() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let first = ping(&mut client, 2);
    let pong = world.exchange(client.path, std::slice::from_ref(&first));
    let second = ping(&mut client, 3);
    assert_eq!((pong.len(), world.exchange(client.path, &[second]).len()), (1, 1));
    let delete = chain_of(&[(Kind::Delete, Delete::Ike.emit())]);
    for (id, what) in
        [(5, "one too many"), (6, "a jump"), (2, "an old one"), (0, "the first"), (u32::MAX, "the last")]
    {
        let message = client.seal(client.header(Exchange::Informational, id, false), &delete);
        assert!(world.exchange(client.path, &[message]).is_empty(), "{what}");
    }
    assert!(world.exchange(client.path, &[first]).is_empty(), "a replay of the one before the last");
    for id in [0, 1, 4, u32::MAX] {
        let message = client.seal(client.header(Exchange::Informational, id, true), &delete);
        assert!(world.exchange(client.path, &[message]).is_empty(), "answer {id} to nothing");
    }
    assert_eq!(world.take_log(), NOTHING);
    client.next_id = 4;
    goes_on(&mut world, &mut client, "N48");
}

#[test]
fn n48_message_ids_do_not_wrap() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    world.responder.sas.get_mut(&client.spi_r).unwrap().expected_id = u32::MAX - 1;
    let message = ping(&mut client, u32::MAX - 1);
    assert_eq!(world.exchange(client.path, &[message]).len(), 1);
    assert_eq!(world.take_log(), NOTHING);
    // There is no number behind the last one: the IKE SA ends, and nobody starts over at 0.
    for id in [u32::MAX, 0, 1] {
        let message = ping(&mut client, id);
        assert!(world.exchange(client.path, &[message]).is_empty(), "message ID {id}");
    }
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: not rekeyed in time"]);
    nothing_left(&mut world, "N48");
}

#[test]
fn n49_answers_of_strangers_to_our_requests() {
    for request in ["is anybody there", "goodbye"] {
        let mut world = World::new();
        let mut client = world.connect("alice@example.com", 4500);
        if request == "goodbye" {
            let device = world.installed[0].device;
            world.handle(Input::Disconnect(device));
        } else {
            world.advance(Policy::default().liveness_after);
        }
        world.take_log();
        let ours = world.take_sent();
        let opened = client.open(&ours);
        let header = client.header(Exchange::Informational, opened.header.message_id, true);
        let deleted = [(Kind::Delete, Delete::Ike.emit())];
        let failed = [(Kind::Notify, Notify::new(FAILED, &[]).emit())];
        let mut spoilt = client.seal(header, &Chain::new());
        *spoilt.last_mut().unwrap() ^= 1;
        let other_exchange = Header { exchange: Exchange::CreateChildSa, ..header };
        let other_id = Header { message_id: header.message_id + 1, ..header };
        let forged = [
            ("in the clear", Chain::new().emit_message(header)),
            ("a Delete in the clear", chain_of(&deleted).emit_message(header)),
            ("a notify in the clear", chain_of(&failed).emit_message(header)),
            ("with a wrong tag", spoilt),
            ("of another exchange", client.seal(other_exchange, &Chain::new())),
            ("of another ID", client.seal(other_id, &chain_of(&deleted))),
            ("our own, sent back", ours[0].clone()),
        ];
        let mut sendings = 0;
        for (name, message) in forged.iter().cycle().take(70) {
            world.handle(Input::Datagram { path: path_from(9), bytes: message });
            assert!(world.take_sent().is_empty(), "{request}: {name}");
            world.advance(Duration::from_millis(100));
            let again = world.take_sent();
            assert!(again.iter().all(|bytes| *bytes == ours[0]), "{request}: {name}");
            sendings += again.len();
        }
        assert_eq!(
            (sendings, world.take_log()),
            (3, vec![]),
            "{request}: it is repeated as if nothing had come"
        );
        client.answer(&mut world, &opened, &[]);
        world.advance(60 * SECOND);
        assert!(world.take_sent().is_empty(), "{request}: and the right answer ends that");
        if request == "goodbye" {
            nothing_left(&mut world, "N49");
        } else {
            goes_on(&mut world, &mut client, "N49");
        }
    }
}

/// One piece of a chain, with any numbers.
fn piece(client: &mut Initiator, id: u32, (number, total): (u16, u16), octets: &[u8], first: u8) -> Vec<u8> {
    let header = client.header(Exchange::Informational, id, false);
    client.seal_piece(header, first, Some(FragmentNumber { number, total }), octets)
}

#[test]
fn n50_fragments_of_every_kind() {
    const VENDOR: u8 = Kind::Vendor as u8;
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let octets = chain_of(&[(Kind::Vendor, vec![5; 60])]).bytes().to_vec();
    let (a, b) = octets.split_at(32);
    let silent = |world: &mut World, client: &Initiator, message: Vec<u8>, case: &str| {
        assert!(world.exchange(client.path, &[message]).is_empty(), "{case}");
    };
    let answered = |world: &mut World, client: &mut Initiator, message: Vec<u8>, case: &str| {
        let answer = world.exchange(client.path, &[message]);
        assert_eq!(answer.len(), 1, "{case}");
        assert_eq!(client.open(&answer).error(), None, "{case}");
        client.next_id += 1;
    };
    let mut id = client.next_id;
    for numbers in [(0, 1), (0, 0), (1, 0), (2, 1), (3, 2), (65535, 1), (0, 65535)] {
        let message = piece(&mut client, id, numbers, &octets, VENDOR);
        silent(&mut world, &client, message, &format!("{numbers:?}"));
    }
    let message = piece(&mut client, id, (1, 1), &octets, VENDOR);
    answered(&mut world, &mut client, message, "one of one");

    id = client.next_id;
    let message = piece(&mut client, id, (2, 2), b, 0);
    silent(&mut world, &client, message, "the last one first");
    let message = piece(&mut client, id, (1, 2), a, VENDOR);
    answered(&mut world, &mut client, message, "in any order");

    // Cut smaller the set begins again; pieces of the coarser cut are late then.
    id = client.next_id;
    for (numbers, octets, first) in
        [((1, 2), a, VENDOR), ((1, 3), &a[..16], VENDOR), ((2, 2), b, 0), ((2, 3), &a[16..], 0)]
    {
        let message = piece(&mut client, id, numbers, octets, first);
        silent(&mut world, &client, message, &format!("{numbers:?}"));
    }
    let message = piece(&mut client, id, (3, 3), b, 0);
    answered(&mut world, &mut client, message, "the finer cut");

    // A number that comes twice: the first one stays. This one would be a Delete.
    id = client.next_id;
    let delete = chain_of(&[(Kind::Delete, Delete::Ike.emit())]);
    let message = piece(&mut client, id, (1, 2), a, VENDOR);
    silent(&mut world, &client, message, "the first");
    let message = piece(&mut client, id, (1, 2), delete.bytes(), delete.first());
    silent(&mut world, &client, message, "the first again, with other content");
    // Pieces of other messages have no place, and do not disturb this one.
    for other in [id - 1, id + 1, id + 7] {
        let message = piece(&mut client, other, (2, 2), b, 0);
        silent(&mut world, &client, message, "a piece of another message");
    }
    let message = piece(&mut client, id, (2, 2), b, 0);
    answered(&mut world, &mut client, message, "the second");

    // A whole message in the midst of pieces: it counts, and the pieces are gone.
    id = client.next_id;
    let message = piece(&mut client, id, (1, 2), delete.bytes(), delete.first());
    silent(&mut world, &client, message, "the first");
    let whole = client.seal(client.header(Exchange::Informational, id, false), &Chain::new());
    answered(&mut world, &mut client, whole, "whole after a piece");
    let message = piece(&mut client, id, (2, 2), &[], 0);
    silent(&mut world, &client, message, "the rest of it");
    assert_eq!(world.take_log(), NOTHING, "nobody was deleted");

    // Announcements cost nothing, and what is kept is bounded.
    id = client.next_id;
    for total in [65, 1000, 65535] {
        let message = piece(&mut client, id, (1, total), &[7; 1000], VENDOR);
        silent(&mut world, &client, message, "too many announced");
        assert!(world.responder.sas[&client.spi_r].reassembly.is_none(), "{total} announced");
    }
    for number in 1..=64 {
        let message = piece(&mut client, id, (number, 64), &[7; 1100], VENDOR);
        silent(&mut world, &client, message, "too long together");
    }
    // One that is never completed: its pieces do not meet those of later.
    let message = piece(&mut client, id, (1, 2), delete.bytes(), delete.first());
    silent(&mut world, &client, message, "never completed");
    world.advance(31 * SECOND);
    let message = piece(&mut client, id, (2, 2), b, 0);
    silent(&mut world, &client, message, "half a minute later");
    let message = piece(&mut client, id, (1, 2), a, VENDOR);
    answered(&mut world, &mut client, message, "a set of its own");
    assert_eq!(world.take_log(), NOTHING);
    goes_on(&mut world, &mut client, "N50");
}

#[test]
fn n50_fragments_where_they_were_not_agreed_on() {
    let mut world = World::new();
    let mut client = stranger(&world);
    client.fragmentation = false;
    let mut client = opened(&mut world, client);
    let chain = chain_of(&client.auth_payloads());
    let fragments = client.seal_fragments(client.header(Exchange::IkeAuth, 1, false), &chain, 300);
    assert!(world.exchange(client.path, &fragments).is_empty());
    let alone = client.seal_fragments(client.header(Exchange::IkeAuth, 1, false), &chain, 10_000);
    assert!(alone.len() == 1 && world.exchange(client.path, &alone).is_empty(), "not even one of one");
    assert_eq!(client.connect_again(&mut world), Ok(()), "whole it is taken");
    goes_on(&mut world, &mut client, "N50");
}

#[test]
fn n50_pieces_of_a_stranger_that_never_come() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    let chain = chain_of(&client.auth_payloads());
    let fragments = client.seal_fragments(client.header(Exchange::IkeAuth, 1, false), &chain, 300);
    assert!(world.exchange(client.path, &fragments[1..]).is_empty());
    assert!(matches!(world.responder.sas[&client.spi_r].state, State::HalfOpen(_)));
    nothing_left(&mut world, "N50");
    assert!(world.exchange(client.path, &fragments[..1]).is_empty(), "too late");
}

#[test]
fn n51_repeated_fragments() {
    let mut world = World::with(KeyKind::Rsa, Policy::default(), 24);
    let mut client = half_open(&mut world, 4500);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert!(request.len() > 2 && answer.len() > 1);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    world.take_log();
    for _ in 0..5 {
        assert_eq!(world.exchange(client.path, &request[..1]), answer, "the first one: all of the answer");
        assert!(world.exchange(client.path, &request[1..]).is_empty(), "the others: nothing");
        assert_eq!(world.exchange(client.path, &request), answer, "all of them: once");
    }
    assert_eq!(world.take_log(), NOTHING);
    goes_on(&mut world, &mut client, "N51");
}

#[test]
fn n52_a_long_answer_to_a_client_without_fragments() {
    let mut world = World::with(KeyKind::Rsa, Policy::default(), 24);
    let mut client = stranger(&world);
    client.fragmentation = false;
    let mut client = opened(&mut world, client);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(answer.len(), 1, "in one datagram, which IP may fragment");
    assert!(answer[0].len() > 1280, "{} octets", answer[0].len());
    assert_eq!(client.handle_auth(&answer), Ok(()));
    goes_on(&mut world, &mut client, "N52");
}

impl Initiator {
    /// IKE_AUTH after IKE_SA_INIT, whole.
    fn connect_again(&mut self, world: &mut World) -> Result<(), u16> {
        let request = self.auth_request();
        let answer = world.exchange(self.path, &request);
        self.handle_auth(&answer)
    }
}
