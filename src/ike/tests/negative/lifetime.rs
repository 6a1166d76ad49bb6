//! N65, N67, N68 and N70 as the responder sees them. N69 and the end of the whole program are in tests/negative.rs.

use std::net::Ipv4Addr;

use super::*;
use crate::base::Now;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The data path takes packets on what is installed, and counts those on other SPIs (`esp_unknown_spi`).
#[test]
fn n65_an_old_spi_is_good_until_it_is_deleted() {
    for deletes in [true, false] {
        let mut world = World::new();
        let mut client = world.connect("alice@example.com", 4500);
        let old = client.children[0].clone();
        let new = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
        let installed = |world: &World| world.installed.iter().map(|sa| sa.spi_in).collect::<Vec<_>>();
        for _ in 0..29 {
            world.advance(SECOND);
            assert_eq!(installed(&world), [old.peer_spi, new.peer_spi], "packets that are late are taken");
        }
        assert!(world.take_sent().is_empty());
        if deletes {
            let delete = [(Kind::Delete, Delete::Esp(vec![old.spi]).emit())];
            client.request(&mut world, Exchange::Informational, &delete);
        } else {
            // The client forgets it: we do not.
            world.advance(SECOND);
            let ours = client.open(&world.take_sent());
            assert_eq!(Delete::parse(ours.body(Kind::Delete).unwrap()), Ok(Delete::Esp(vec![old.peer_spi])));
            client.answer(&mut world, &ours, &[]);
        }
        assert_eq!(installed(&world), [new.peer_spi]);
        world.take_log();
        goes_on(&mut world, &mut client, "N65");
    }
}

#[test]
fn n67_a_client_that_vanishes() {
    let mut world = World::with(KeyKind::P256, Policy::default(), 30);
    let vanished = world.connect("alice@example.com", 4500);
    world.take_log();
    // The pool has one address: nobody else gets it as long as the client may live.
    let mut bob = Initiator::new(&world, world.client_cert("bob@example.com"), 4501);
    assert_eq!(bob.connect(&mut world), Err(notify_type::INTERNAL_ADDRESS_FAILURE));
    says_goodbye(&mut world, &mut bob);
    let bound = Policy::default().liveness_after + 23 * SECOND;
    world.advance(bound);
    assert_eq!(world.take_log(), ["remove", "gone alice@example.com: no answer"], "within {bound:?}");
    let bob = world.connect("bob@example.com", 4502);
    assert_eq!(bob.address, vanished.address, "the address is free again");
}

#[test]
fn n67_a_client_that_comes_back() {
    // From the same port it is the same device: it goes over to the new connection, or has lost the old one. From
    // another one of the same host the old session is asked, and is replaced when it is silent: whether the client says
    // INITIAL_CONTACT (which counts from everywhere) or not.
    for (name, initial_contact, remote, gone_at_once, gone_later) in [
        ("the same port", false, ([203, 0, 113, 7], 4500), 0, 0),
        ("the same port, with INITIAL_CONTACT", true, ([203, 0, 113, 7], 4500), 1, 0),
        ("a new port", false, ([203, 0, 113, 7], 4600), 0, 1),
        ("a new port, with INITIAL_CONTACT", true, ([203, 0, 113, 7], 4600), 0, 1),
        ("a new address, with INITIAL_CONTACT", true, ([198, 51, 100, 9], 4600), 0, 1),
    ] {
        let mut world = World::new();
        let vanished = world.connect("alice@example.com", 4500);
        world.take_log();
        world.advance(60 * SECOND);
        let mut back = Initiator::new(&world, world.client_cert("alice@example.com"), 4600);
        back.path.remote = remote.into();
        back.initial_contact = initial_contact;
        assert_eq!(back.connect(&mut world), Ok(()), "{name}");
        let gone = |log: &[String]| log.iter().filter(|line| line.starts_with("gone alice")).count();
        let log = world.take_log();
        assert_eq!(gone(&log), gone_at_once, "{name}: {log:?}");
        assert_eq!(back.address == vanished.address, gone_later == 0, "{name}");
        world.advance(60 * SECOND);
        let log = world.take_log();
        assert_eq!(gone(&log), gone_later, "{name}: {log:?}");
        assert_eq!(world.installed.len(), 1, "{name}");
        goes_on(&mut world, &mut back, name);
    }
    // Without a word from a new address nobody is asked: two devices may have one identity.
    let mut world = World::new();
    let vanished = world.connect("alice@example.com", 4500);
    let mut back = Initiator::new(&world, world.client_cert("alice@example.com"), 4600);
    back.path.remote = ([198, 51, 100, 9], 4600).into();
    assert_eq!(back.connect(&mut world), Ok(()));
    assert_eq!((world.take_sent().len(), world.responder.stats().devices), (0, 2));
    let device = world.installed[1].device;
    for _ in 0..11 {
        world.advance(60 * SECOND);
        world.handle(Input::Alive { device });
    }
    assert_eq!(world.responder.stats().devices, 1, "the silent one has come to its end all the same");
    assert_ne!(back.address, vanished.address);
    assert_eq!(back.address, Some(Ipv4Addr::new(198, 19, 255, 3)));
}

/// The wall clock is set; monotonic time goes on.
fn set_wall(world: &mut World, wall: Duration) {
    world.now = Now { wall, ..world.now };
}

#[test]
fn n68_the_wall_clock_jumps() {
    for (name, ahead) in [("a day ahead", true), ("a day back", false)] {
        let jumped = if ahead { WALL + DAY } else { WALL - DAY };
        let mut world = World::new();
        let mut alice = world.connect("alice@example.com", 4500);
        let bob = Initiator::new(&world, world.client_cert("bob@example.com"), 4501);
        let mut waiting = opened(&mut world, bob);
        world.take_log();
        let due = world.responder.poll_timeout();
        set_wall(&mut world, jumped);
        world.responder.handle_timeout(world.now);
        assert_eq!(world.responder.poll_timeout(), due, "{name}: no timer moves");
        world.advance(SECOND);
        assert!(world.take_log().is_empty() && world.take_sent().is_empty(), "{name}");
        alice.request(&mut world, Exchange::Informational, &[]);
        alice.rekey_ike(&mut world, 1).unwrap();
        alice.swap_old();
        alice.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
        alice.swap_old();
        let old = alice.children[0].spi;
        alice.rekey_child(&mut world, old, None, &[None]).unwrap();
        alice.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(vec![old]).emit())]);
        // Certificates are looked at by the new time: this one is valid for a year, from an hour before on.
        let payloads = waiting.auth_payloads();
        let result = authenticate(&mut world, &mut waiting, &payloads);
        assert_eq!(result, if ahead { Ok(()) } else { Err(FAILED) }, "{name}");
        let brief = world.authority.issue_client("brief@example.com", WALL, 1).unwrap();
        let mut brief = Initiator::new(&world, brief, 4502);
        assert_eq!(brief.connect(&mut world), Err(FAILED), "{name}: outside its one day");
        set_wall(&mut world, WALL + SECOND);
        assert_eq!(brief.connect_anew(&mut world), Ok(()), "{name}: and within it");
        // Liveness, which is a matter of monotonic time, goes on as before.
        world.take_sent();
        set_wall(&mut world, jumped);
        world.advance(Policy::default().liveness_after - 2 * SECOND);
        assert!(world.take_sent().is_empty(), "{name}: too early");
        world.advance(4 * SECOND);
        assert!(!world.take_sent().is_empty(), "{name}: in time");
    }
}

impl Initiator {
    /// From the beginning, with new SPIs.
    fn connect_anew(&mut self, world: &mut World) -> Result<(), u16> {
        let mut anew = Initiator::new(world, self.cert.clone(), self.path.remote.port() + 1);
        anew.connect(world)
    }
}

#[test]
fn n70_the_end_is_told_and_does_not_wait_for_ever() {
    let mut world = World::new();
    let mut alice = world.connect("alice@example.com", 4500);
    let _silent = world.connect("bob@example.com", 4501);
    let mut late = half_open(&mut world, 4502);
    world.take_log();
    assert!(!world.responder.is_idle());
    world.handle(Input::Shutdown);
    let log = world.take_log();
    assert_eq!(log.iter().filter(|line| line.ends_with("shutting down")).count(), 2, "{log:?}");
    assert_eq!(world.installed.len(), 0);
    let sent = std::mem::take(&mut world.sent);
    assert_eq!(sent.len(), 2, "a Delete to each");
    let goodbye = sent.into_iter().find(|(path, _)| *path == alice.path).unwrap().1;
    let goodbye = alice.open(&[goodbye]);
    assert_eq!(Delete::parse(goodbye.body(Kind::Delete).unwrap()), Ok(Delete::Ike));
    alice.answer(&mut world, &goodbye, &[]);
    assert!(!world.responder.is_idle(), "bob has not answered");
    let request = late.auth_request();
    assert!(world.exchange(late.path, &request).is_empty(), "half-open ones are gone");
    let mut new = Initiator::new(&world, world.client_cert("dan@example.com"), 4503);
    assert_eq!(new.connect(&mut world), Err(0), "and there are no new ones");
    world.advance(Policy::default().shutdown_wait);
    assert!(world.responder.is_idle());
    let stats = world.responder.stats();
    assert_eq!((stats.ike_sas, stats.child_sas, stats.devices, stats.half_open), (0, 0, 0, 0));
}
