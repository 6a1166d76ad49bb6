//! Connections that live, move, die, are replaced, and end.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::ike::testing::*;
use crate::ike::{Input, Policy};
use crate::provision::Authority;
use crate::wire::ike::*;

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [&str; 0] = [];

#[test]
fn goodbye_in_both_forms() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let child = client.children[0].clone();
    world.take_log();
    // As Windows does it: the Child SA, then the IKE SA. Unknown and foreign SPIs are passed over.
    let esp = Delete::Esp(vec![1, child.spi, 2]).emit();
    let deletes = [(Kind::Delete, Delete::Other.emit()), (Kind::Delete, esp)];
    let answer = client.request(&mut world, Exchange::Informational, &deletes);
    assert_eq!(Delete::parse(answer.body(Kind::Delete).unwrap()), Ok(Delete::Esp(vec![child.peer_spi])));
    let delete = [(Kind::Delete, Delete::Ike.emit())];
    let request = client.protected_request(Exchange::Informational, &delete);
    let answer = world.exchange(client.path, &request);
    assert!(client.open(&answer).payloads().is_empty());
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected by the client"]);
    assert_eq!(world.exchange(client.path, &request), answer, "the last answer can be had again");
    world.advance(Policy::default().half_open_lifetime);
    assert_eq!(world.responder.stats().ike_sas, 0);
    assert!(world.exchange(client.path, &request).is_empty());
    // A client that finds our certificate wanting has no SA to delete.
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let failed = Notify::new(notify_type::AUTHENTICATION_FAILED, &[]).emit();
    client.request(&mut world, Exchange::Informational, &[(Kind::Notify, failed)]);
    let gone = "gone alice@example.com: the client does not accept our certificate";
    assert_eq!(world.take_log(), ["remove", gone]);
    // The Delete of an IKE SA with an SPI breaks the rules.
    let mut client = world.connect("alice@example.com", 4500);
    let bad = [(Kind::Delete, [&[1, 8, 0, 1][..], &[0; 8]].concat())];
    let answer = client.request(&mut world, Exchange::Informational, &bad);
    assert_eq!(answer.error(), Some(notify_type::INVALID_SYNTAX));
    assert_eq!(world.responder.stats().devices, 1);
}

#[test]
fn who_is_heard_and_renews_its_ike_sa_is_told() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    assert_eq!((world.heard, world.ike_rekeyed), (0, 0), "coming is said otherwise");
    let mut forged = client.protected_request(Exchange::Informational, &[]);
    forged.iter_mut().for_each(|bytes| *bytes.last_mut().unwrap() ^= 1);
    world.exchange(client.path, &forged);
    assert_eq!((world.heard, world.responder.stats().bad_tag), (0, 1));
    client.next_id -= 1;
    client.request(&mut world, Exchange::Informational, &[]);
    assert_eq!(world.heard, 1);
    client.rekey_ike(&mut world, 1).unwrap();
    assert_eq!((world.heard, world.ike_rekeyed), (2, 1));
    let device = world.installed[0].device;
    world.handle(Input::Disconnect(device));
    let ours = client.open(&world.take_sent());
    assert_eq!(Delete::parse(ours.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    client.answer(&mut world, &ours, &[]);
    assert_eq!(world.heard, 2, "a device that is gone is not heard");
    assert_eq!(world.responder.stats().devices, 0);
}

#[test]
fn a_silent_peer_is_asked_and_then_dead() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let device = world.installed[0].device;
    world.take_log();
    let after = Policy::default().liveness_after;
    world.advance(after / 2);
    world.handle(Input::Alive { device });
    world.advance(after / 2 + SECOND);
    assert!(world.take_sent().is_empty(), "ESP is life as well");
    world.advance(after / 2 - SECOND);
    let ping = world.take_sent();
    let opened = client.open(&ping);
    assert!(opened.payloads().is_empty() && opened.header.exchange == Exchange::Informational);
    assert!(client.answer(&mut world, &opened, &[]).is_empty());
    world.advance(after);
    let ping = world.take_sent();
    assert_eq!(ping.len(), 1, "the answer stopped the retransmissions");
    // Answers that are none: of another exchange, of another ID, forged.
    let opened = client.open(&ping);
    let header = client.header(Exchange::Informational, opened.header.message_id, true);
    let empty = Chain::new();
    let other_exchange = client.seal(Header { exchange: Exchange::CreateChildSa, ..header }, &empty);
    let other_id = client.seal(Header { message_id: header.message_id + 1, ..header }, &empty);
    let mut forged = client.seal(header, &empty);
    *forged.last_mut().unwrap() ^= 1;
    assert!(world.exchange(client.path, &[other_exchange, other_id, forged]).is_empty());
    let start = world.now.mono;
    let mut times = vec![];
    for _ in 0..30 {
        world.advance(SECOND);
        times.extend(world.take_sent().iter().map(|bytes| {
            assert_eq!(bytes, &ping[0], "the same request");
            (world.now.mono - start).as_secs()
        }));
    }
    assert_eq!(times, [1, 3, 7, 15], "seconds after the first sending; at 23 it is over");
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: no answer"]);
    assert_eq!(world.responder.stats().ike_sas, 0);
    assert_eq!(world.connect("alice@example.com", 4501).address, client.address, "the address stays its own");
}

#[test]
fn initial_contact_replaces_the_same_device_only() {
    let mut world = World::new();
    let first = world.connect("alice@example.com", 4500);
    let other = world.connect("bob@example.com", 4501);
    world.take_log();
    // The same address and port: the same device, and it says that it has lost the old connection.
    let mut again = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    again.initial_contact = true;
    again.connect(&mut world).unwrap();
    let replaced = ["remove", "gone alice@example.com: replaced by a new connection", "install"];
    assert_eq!(world.take_log()[..3], replaced);
    assert_eq!(again.address, first.address);
    assert!(world.take_sent().is_empty(), "no Delete: the peer has lost it");
    // Another port: perhaps another device behind the same NAT. It gets an address of its own, the old one is asked.
    let mut third = Initiator::new(&world, world.client_cert("alice@example.com"), 4600);
    third.initial_contact = true;
    let request = third.init_request();
    let answer = world.exchange(third.path, &[request]);
    third.handle_init(&answer);
    let request = third.auth_request();
    let answer = world.exchange(third.path, &request);
    let ping = world.take_sent();
    third.handle_auth(&answer).unwrap();
    assert_eq!(third.address, Some(Ipv4Addr::new(198, 19, 255, 4)));
    let mut again = again;
    let ping = again.open(&ping);
    again.answer(&mut world, &ping, &[]);
    world.advance(60 * SECOND);
    assert_eq!(world.responder.stats().devices, 3, "it lives, so it stays");
    // The same once more, and now nobody answers.
    world.take_log();
    let mut fourth = Initiator::new(&world, world.client_cert("alice@example.com"), 4700);
    fourth.initial_contact = true;
    let request = fourth.init_request();
    let answer = world.exchange(fourth.path, &[request]);
    fourth.handle_init(&answer);
    let request = fourth.auth_request();
    world.exchange(fourth.path, &request);
    world.advance(60 * SECOND);
    let log = world.take_log();
    assert_eq!(log.iter().filter(|line| *line == "gone alice@example.com: no answer").count(), 2, "{log:?}");
    assert_eq!(world.responder.stats().devices, 2, "bob was not asked: {:?}", other.address);
}

#[test]
fn new_authorities_end_those_whom_they_would_not_let_in() {
    let mut world = World::new();
    let old = Authority::new("Old CA", WALL, 3650).unwrap();
    let new = Authority::new("New CA", WALL, 3650).unwrap();
    let server = |by: &Authority| by.issue_server(&["vpn.example"], WALL, 365).unwrap();
    let trusting = |authorities: &[&Authority]| {
        Input::Identity(Box::new(identity("vpn.example", &server(authorities[0]), authorities)))
    };
    let connect = |world: &mut World, authority: &Authority, name, port| {
        let mut client = Initiator::new(world, authority.issue_client(name, WALL, 365).unwrap(), port);
        client.trust(authority);
        client.connect(world).unwrap();
        client
    };
    world.handle(trusting(&[&old, &new]));
    let mut alice = connect(&mut world, &old, "alice@example.com", 4500);
    // A client believes only the certificate that is served now.
    world.handle(trusting(&[&new, &old]));
    let mut bob = connect(&mut world, &new, "bob@example.com", 4501);
    bob.rekey_ike(&mut world, 1).unwrap();
    world.take_log();
    world.handle(trusting(&[&old, &new]));
    assert!(world.take_log().is_empty() && world.take_sent().is_empty(), "both will do: nobody notices");

    world.handle(trusting(&[&new]));
    let gone = "its certificate is not trusted any more: certificate is not from a trusted authority";
    assert_eq!(world.take_log(), ["remove".to_owned(), format!("gone alice@example.com: {gone}")]);
    let delete = alice.open(&world.take_sent());
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    alice.answer(&mut world, &delete, &[]);
    let mut again = Initiator::new(&world, old.issue_client("alice@example.com", WALL, 365).unwrap(), 4502);
    again.trust(&new);
    assert!(again.connect(&mut world).is_err());

    // The certificate goes with the device from one IKE SA to the next.
    bob.request(&mut world, Exchange::Informational, &[]);
    world.handle(trusting(&[&old]));
    assert_eq!(world.take_log(), ["remove".to_owned(), format!("gone bob@example.com: {gone}")]);
    assert_eq!(world.responder.stats().devices, 0);
}

#[test]
fn the_peer_moves() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let device = world.installed[0].device;
    world.take_log();
    let old_path = client.path;
    let old_ping = client.protected_request(Exchange::Informational, &[]);
    world.exchange(client.path, &old_ping);
    client.path = path_from(4567);
    client.request(&mut world, Exchange::Informational, &[]);
    assert_eq!(world.take_log(), ["moved 203.0.113.7:4567"]);
    // A captured packet from elsewhere moves nobody, nor does a changed one.
    let mut bad = client.protected_request(Exchange::Informational, &[]);
    client.next_id -= 1;
    *bad[0].last_mut().unwrap() ^= 1;
    world.exchange(old_path, &old_ping);
    world.exchange(old_path, &bad);
    assert_eq!(world.take_log(), NOTHING);
    // ESP moved: the next request of ours goes there.
    world.handle(Input::Moved { device, path: path_from(4600) });
    world.handle(Input::Disconnect(device));
    let paths: Vec<_> = world.sent.iter().map(|(path, _)| path.remote.port()).collect();
    assert_eq!(paths, [4600]);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: disconnected on request"]);
    world.handle(Input::Disconnect(device));
    let delete = client.open(&world.take_sent());
    assert_eq!(Delete::parse(delete.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    client.answer(&mut world, &delete, &[]);
    assert_eq!(world.responder.stats().ike_sas, 0);
}

#[test]
fn shutdown_says_goodbye_to_all_and_waits_two_seconds() {
    let mut world = World::new();
    let mut alice = world.connect("alice@example.com", 4500);
    let _bob = world.connect("bob@example.com", 4501);
    let mut late = Initiator::new(&world, world.client_cert("carol@example.com"), 4502);
    let request = late.init_request();
    let answer = world.exchange(late.path, &[request]);
    late.handle_init(&answer);
    world.take_log();
    assert!(!world.responder.is_idle());
    world.handle(Input::Shutdown);
    assert_eq!(world.take_log().iter().filter(|line| line.ends_with("shutting down")).count(), 2);
    let sent = std::mem::take(&mut world.sent);
    assert_eq!(sent.len(), 2);
    let goodbye = sent.into_iter().find(|(path, _)| *path == alice.path).unwrap().1;
    let goodbye = alice.open(&[goodbye]);
    assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    alice.answer(&mut world, &goodbye, &[]);
    assert!(!world.responder.is_idle(), "bob has not answered");
    let request = late.auth_request();
    assert!(world.exchange(late.path, &request).is_empty(), "half-open ones are gone");
    let mut new = Initiator::new(&world, world.client_cert("dan@example.com"), 4503);
    assert_eq!(new.connect(&mut world), Err(0), "and there are no new ones");
    world.advance(2 * SECOND);
    assert!(world.responder.is_idle());
    let stats = world.responder.stats();
    assert_eq!((stats.ike_sas, stats.child_sas, stats.devices, stats.half_open), (0, 0, 0, 0));
}

#[test]
fn no_connection_outlives_its_certificate() {
    let policy = Policy { child_lifetime: Duration::from_secs(1_000_000), ..Policy::default() };
    let mut world = World::with(crate::crypto::sign::KeyKind::P256, policy, 24);
    let cert = world.authority.issue_client("alice@example.com", WALL, 1).unwrap();
    let mut client = Initiator::new(&world, cert, 4500);
    world.advance(Duration::from_secs(3600));
    client.connect(&mut world).unwrap();
    let device = world.installed[0].device;
    for _ in 0..22 * 60 {
        world.handle(Input::Alive { device });
        world.advance(Duration::from_secs(60));
    }
    client.next_id = 2;
    client.rekey_ike(&mut world, 1).unwrap();
    world.take_log();
    for _ in 0..61 {
        world.handle(Input::Alive { device });
        world.advance(Duration::from_secs(60));
    }
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: its certificate has expired"]);
}

#[test]
fn without_child_sa_even_a_talkative_peer_must_go() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let delete = [(Kind::Delete, Delete::Esp(vec![client.children[0].spi]).emit())];
    client.request(&mut world, Exchange::Informational, &delete);
    world.take_log();
    for _ in 0..29 {
        world.advance(SECOND);
        client.request(&mut world, Exchange::Informational, &[]);
    }
    world.advance(SECOND);
    assert_eq!(world.take_log(), ["gone alice@example.com: no Child SA left"]);
}
