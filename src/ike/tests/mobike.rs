//! Clients that move (RFC 4555), and clients that connect anew.

use std::time::Duration;

use crate::base::Path;
use crate::crypto::hash::sha1;
use crate::crypto::sign::KeyKind;
use crate::ike::testing::*;
use crate::ike::{Input, Policy};
use crate::wire::ike::*;

const NOTHING: [&str; 0] = [];

fn mobile(world: &mut World) -> Initiator {
    let mut client = Initiator::new(world, world.client_cert("alice@example.com"), 4500);
    client.mobike = true;
    client.connect(world).unwrap();
    world.take_log();
    client
}

fn notify(kind: u16, data: &[u8]) -> (Kind, Vec<u8>) {
    (Kind::Notify, Notify::new(kind, data).emit())
}

/// UPDATE_SA_ADDRESSES as clients send it.
fn update() -> Vec<(Kind, Vec<u8>)> {
    vec![
        notify(notify_type::UPDATE_SA_ADDRESSES, &[]),
        notify(notify_type::NAT_DETECTION_SOURCE_IP, &[1; 20]),
        notify(notify_type::NAT_DETECTION_DESTINATION_IP, &[2; 20]),
        notify(notify_type::COOKIE2, &[7; 16]),
    ]
}

#[test]
fn the_client_says_that_it_has_moved() {
    let mut world = World::new();
    let mut client = mobile(&mut world);
    let device = world.installed[0].device;
    let elsewhere =
        Path { local: Some([192, 0, 2, 9].into()), remote: ([198, 51, 100, 4], 999).into(), ..client.path };
    client.path = elsewhere;
    let request = client.protected_request(Exchange::Informational, &update());
    world.handle(Input::Datagram { path: elsewhere, bytes: &request[0] });
    assert_eq!(world.take_log(), ["moved 198.51.100.4:999"], "at once");
    let sent = std::mem::take(&mut world.sent);
    assert!(sent.iter().all(|(path, _)| *path == elsewhere), "from the address that it spoke to");
    let answer = client.open(&[sent[0].1.clone()]);
    let octets =
        [&client.spi_i.to_be_bytes()[..], &client.spi_r.to_be_bytes(), &[198, 51, 100, 4, 3, 231]].concat();
    assert_eq!(answer.notify(notify_type::NAT_DETECTION_DESTINATION_IP), Some(sha1(&[&octets]).to_vec()));
    let octets =
        [&client.spi_i.to_be_bytes()[..], &client.spi_r.to_be_bytes(), &[192, 0, 2, 9, 17, 148]].concat();
    let claimed = answer.notify(notify_type::NAT_DETECTION_SOURCE_IP).unwrap();
    assert!(claimed.len() == 20 && claimed != sha1(&[&octets]), "we still claim a NAT");
    assert_eq!(answer.notify(notify_type::COOKIE2), Some(vec![7; 16]));
    // The repeated request gets the same answer, and an old one from the old address moves nobody back.
    assert_eq!(world.exchange(path_from(4500), &request), [sent[0].1.clone()]);
    assert_eq!(world.take_log(), NOTHING);
    // Our own requests go to the new address; and it goes with the connection through a rekey.
    client.rekey_ike(&mut world, 1).unwrap();
    assert!(
        client.request(&mut world, Exchange::Informational, &update()).notify(notify_type::COOKIE2).is_some()
    );
    world.handle(Input::Disconnect(device));
    assert_eq!(world.sent.last().unwrap().0, elsewhere);
}

#[test]
fn cookie2_comes_back_as_it_is_or_not_at_all() {
    let mut world = World::new();
    let mut client = mobile(&mut world);
    for len in [8, 9, 63, 64] {
        let cookie: Vec<u8> = (0..len).collect();
        let answer =
            client.request(&mut world, Exchange::Informational, &[notify(notify_type::COOKIE2, &cookie)]);
        assert_eq!((answer.payloads().len(), answer.notify(notify_type::COOKIE2)), (1, Some(cookie)));
    }
    for len in [0, 7, 65, 255] {
        let cookie = vec![1; len];
        let answer =
            client.request(&mut world, Exchange::Informational, &[notify(notify_type::COOKIE2, &cookie)]);
        assert_eq!(answer.error(), Some(notify_type::INVALID_SYNTAX), "{len} octets");
    }
    assert_eq!(world.responder.stats().devices, 1);
}

#[test]
fn addresses_that_we_never_use_are_taken_note_of_by_an_empty_answer() {
    let mut world = World::new();
    let mut client = mobile(&mut world);
    for payloads in [
        vec![notify(notify_type::ADDITIONAL_IP4_ADDRESS, &[10, 0, 0, 1]); 3],
        vec![notify(notify_type::ADDITIONAL_IP6_ADDRESS, &[1; 16])],
        vec![notify(notify_type::NO_ADDITIONAL_ADDRESSES, &[])],
        vec![notify(notify_type::ADDITIONAL_IP4_ADDRESS, &[])],
        vec![notify(notify_type::UPDATE_SA_ADDRESSES, &[])],
    ] {
        let answer = client.request(&mut world, Exchange::Informational, &payloads);
        assert!(answer.payloads().is_empty());
    }
    assert_eq!(world.take_log(), NOTHING);
}

#[test]
fn without_mobike_only_the_address_itself_is_followed() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    client.path = path_from(4600);
    let answer = client.request(&mut world, Exchange::Informational, &update());
    assert!(answer.payloads().is_empty(), "not agreed upon");
    assert_eq!(world.take_log(), ["moved 203.0.113.7:4600"]);
}

#[test]
fn a_client_that_allows_no_nat_is_told_of_one_and_does_not_move() {
    let mut world = World::new();
    let mut client = mobile(&mut world);
    let home = client.path;
    let there = Path { local: Some([192, 0, 2, 1].into()), ..path_from(4600) };
    let addresses = |source: [u8; 4], destination: [u8; 4], ports: [u16; 2]| {
        let ports = ports.map(u16::to_be_bytes);
        [&source[..], &destination, ports.as_flattened()].concat()
    };
    let (source, destination) = ([203, 0, 113, 7], [192, 0, 2, 1]);
    let refused = [
        addresses([10, 0, 0, 1], destination, [4600, 4500]),
        addresses(source, [10, 0, 0, 1], [4600, 4500]),
        addresses(source, destination, [4601, 4500]),
        addresses(source, destination, [4600, 500]),
        addresses(source, destination, [4600, 4500])[..11].to_vec(),
        vec![],
    ];
    for data in refused {
        let mut payloads = update();
        payloads.push(notify(notify_type::NO_NATS_ALLOWED, &data));
        let request = client.protected_request(Exchange::Informational, &payloads);
        world.handle(Input::Datagram { path: there, bytes: &request[0] });
        let sent = std::mem::take(&mut world.sent);
        assert_eq!((sent.len(), sent[0].0), (1, there), "the answer goes back the way that the request came");
        let answer = client.open(&[sent[0].1.clone()]);
        assert_eq!(
            (answer.error(), answer.payloads().len()),
            (Some(notify_type::UNEXPECTED_NAT_DETECTED), 1)
        );
        assert_eq!(world.take_log(), NOTHING);
    }
    world.handle(Input::NearlyExhausted { spi_in: client.children[0].peer_spi });
    assert_eq!(std::mem::take(&mut world.sent)[0].0, home);
    let mut payloads = update();
    payloads.push(notify(notify_type::NO_NATS_ALLOWED, &addresses(source, destination, [4600, 4500])));
    client.path = there;
    assert_eq!(client.request(&mut world, Exchange::Informational, &payloads).error(), None, "there is none");
    assert_eq!(world.take_log(), ["moved 203.0.113.7:4600"]);

    let mut strict = Initiator::new(&world, world.client_cert("bob@example.com"), 4700);
    let request = strict.init_request();
    let answer = world.exchange(strict.path, &[request]);
    strict.handle_init(&answer);
    let mut payloads = strict.auth_payloads();
    payloads.push(notify(notify_type::NO_NATS_ALLOWED, &addresses([10, 0, 0, 1], destination, [4700, 4500])));
    let answer = strict.request(&mut world, Exchange::IkeAuth, &payloads);
    assert_eq!(answer.error(), Some(notify_type::UNEXPECTED_NAT_DETECTED));
    assert_eq!(world.responder.stats().devices, 1);
}

/// A second connection of the same client, before the first one ends.
fn again(world: &mut World) -> Initiator {
    let mut second = Initiator::new(world, world.client_cert("alice@example.com"), 4500);
    second.connect(world).unwrap();
    second
}

#[test]
fn reauthentication_hands_the_device_over() {
    let mut world = World::new();
    let mut first = world.connect("alice@example.com", 4500);
    let device = world.installed[0].device;
    world.take_log();
    let mut second = again(&mut world);
    assert_eq!(second.address, first.address);
    assert_eq!(world.take_log(), ["install"], "nothing ends before the client ends it");
    assert_eq!((world.installed.len(), world.ike_rekeyed, world.notes.len()), (2, 1, 1));
    let new = &world.installed[1];
    assert_eq!((new.device, new.replaces), (device, Some(first.children[0].peer_spi)));
    // The old one still answers, also the Delete, which takes nobody along.
    first.request(&mut world, Exchange::Informational, &[]);
    first.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.take_log(), ["use", "remove"]);
    world.advance(Policy::default().linger * 2);
    assert!(world.take_sent().is_empty());
    assert_eq!((world.responder.stats().ike_sas, world.responder.stats().devices), (1, 1));
    second.request(&mut world, Exchange::Informational, &[]);
    world.handle(Input::Disconnect(device));
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected on request"]);
}

#[test]
fn a_client_that_has_forgotten_its_old_connection_loses_it_in_time() {
    let mut world = World::new();
    let first = world.connect("alice@example.com", 4500);
    world.take_log();
    let second = again(&mut world);
    assert_eq!(second.address, first.address);
    world.advance(Duration::from_secs(120));
    assert_eq!(world.take_log(), ["install", "use", "remove"], "no answer to our Delete: it goes in silence");
    assert_eq!((world.responder.stats().ike_sas, world.responder.stats().devices), (1, 1));
}

/// Our Delete of the old IKE SA takes its Child SA along when it is answered, too, and so does a shutdown.
#[test]
fn no_child_sa_of_a_replaced_connection_is_left() {
    let mut world = World::new();
    let mut first = world.connect("alice@example.com", 4500);
    again(&mut world);
    world.take_log();
    world.advance(Policy::default().linger);
    let goodbye = first.open(&world.take_sent());
    assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    first.answer(&mut world, &goodbye, &[]);
    assert_eq!((world.installed.len(), world.responder.stats().child_sas), (1, 1));

    again(&mut world);
    world.handle(Input::Shutdown);
    assert_eq!((world.installed.len(), world.responder.stats().child_sas), (0, 0));
}

#[test]
fn reauthentication_while_much_is_going_on() {
    // The old one has a rekey under way, and the new one asks for other families.
    let mut world = World::new();
    let mut first = world.connect("alice@example.com", 4500);
    world.handle(Input::NearlyExhausted { spi_in: first.children[0].peer_spi });
    let request = first.open(&world.take_sent());
    let mut second = again(&mut world);
    first.answer(&mut world, &request, &[notify(notify_type::TEMPORARY_FAILURE, &[])]);
    assert_eq!(world.notes.len(), 1, "nothing but the change is told");
    first.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    assert_eq!(world.installed.len(), 1);
    // One that never got an answer is no connection to take over, and neither is one without Child SA.
    let delete = [(Kind::Delete, Delete::Esp(vec![second.children[0].spi]).emit())];
    second.request(&mut world, Exchange::Informational, &delete);
    world.take_log();
    let third = again(&mut world);
    let log = world.take_log();
    assert_eq!(log[..2], ["gone alice@example.com: replaced by a new connection", "install"], "{log:?}");
    assert_eq!(third.address, second.address);
}

#[test]
fn where_an_identity_has_one_device_the_next_one_ends_the_others() {
    for unique in [false, true] {
        let mut world = World::with(KeyKind::P256, Policy { unique, ..Policy::default() }, 24);
        let first = world.connect("alice@example.com", 4500);
        let bob = world.connect("bob@example.com", 4501);
        world.take_log();
        let mut second = Initiator::new(&world, world.client_cert("alice@example.com"), 4502);
        second.path.remote = ([198, 51, 100, 1], 4502).into();
        second.connect(&mut world).unwrap();
        assert_eq!(second.address == first.address, unique);
        let log = world.take_log();
        let replaced = ["remove", "gone alice@example.com: replaced by a new connection"];
        assert_eq!(log.starts_with(&replaced.map(str::to_owned)), unique, "{log:?}");
        if unique {
            let goodbye = first.open(&world.take_sent());
            assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
        }
        assert!(bob.address.is_some());
        assert_eq!(world.responder.stats().devices, if unique { 2 } else { 3 });
    }
}
