//! The negative cases N01 to N70, each test named after its number: what is wrong with a message, what becomes of it,
//! that nothing of it stays, and that a client connects afterwards. What needs packets, sockets or the uplink is in
//! `esp`, `engine::job` and tests/negative.rs.

mod authentication;
mod certificates;
mod chain;
mod child;
mod configuration;
mod header;
mod key_exchange;
mod lifetime;
mod proposals;
mod signatures;
mod sweeps;
mod window;

use std::time::Duration;

use crate::crypto::sign::KeyKind;
use crate::ike::testing::*;
use crate::ike::{Input, Policy};
use crate::wire::ike::*;

const NOTHING: [&str; 0] = [];
const SECOND: Duration = Duration::from_secs(1);
const SYNTAX: u16 = notify_type::INVALID_SYNTAX;
const FAILED: u16 = notify_type::AUTHENTICATION_FAILED;

/// What a stranger was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// An IKE_SA_INIT answer.
    Accepted,
    /// An error notify and its data.
    Error(u16, Vec<u8>),
}

impl Told {
    const fn error(kind: u16) -> Self {
        Self::Error(kind, Vec::new())
    }
}

/// What an initial request was answered.
fn told(sent: &[Vec<u8>]) -> Told {
    let [answer] = sent else {
        assert!(sent.is_empty(), "one answer at most");
        return Told::Nothing;
    };
    let header = Header::parse(answer).unwrap();
    assert!(header.covers(answer) && header.response && !header.initiator && header.major == 2);
    let payloads = parse_chain(header.next_payload, &answer[HEADER_LEN..]).unwrap();
    let body = |kind| payloads.iter().find(|payload| payload.kind == kind).map(|payload| payload.body);
    if body(Kind::Sa).is_some() {
        assert_ne!(header.spi_r, 0);
        return Told::Accepted;
    }
    assert_eq!((payloads.len(), header.spi_r), (1, 0), "an error tells nothing else, and there is no SPI");
    let notify = Notify::parse(body(Kind::Notify).unwrap()).unwrap();
    Told::Error(notify.kind, notify.data.to_vec())
}

/// An initiator before its first message.
fn stranger(world: &World) -> Initiator {
    Initiator::new(world, world.client_cert("alice@example.com"), 4500)
}

/// An initiator that IKE_SA_INIT has gone well for.
fn half_open(world: &mut World, port: u16) -> Initiator {
    let client = Initiator::new(world, world.client_cert("alice@example.com"), port);
    opened(world, client)
}

/// The same for an initiator with settings of its own.
fn opened(world: &mut World, mut client: Initiator) -> Initiator {
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    client
}

/// A world that asks for no cookies.
fn without_cookies() -> World {
    let (cookie_threshold, cookie_threshold_per_source) = (usize::MAX, usize::MAX);
    World::with(
        KeyKind::P256,
        Policy { cookie_threshold, cookie_threshold_per_source, ..Policy::default() },
        24,
    )
}

/// An initial request, taken apart.
struct Hello {
    header: Header,
    payloads: Vec<(Kind, Vec<u8>)>,
}

impl Hello {
    fn of(client: &mut Initiator) -> Self {
        let message = client.init_request();
        let header = Header::parse(&message).unwrap();
        let payloads = parse_chain(header.next_payload, &message[HEADER_LEN..]).unwrap();
        let payloads = payloads.iter().map(|payload| (payload.kind, payload.body.to_vec())).collect();
        Self { header, payloads }
    }

    fn message(&self) -> Vec<u8> {
        chain_of(&self.payloads).emit_message(self.header)
    }

    /// With another body in place of that of `kind`.
    fn with(&self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut payloads = self.payloads.clone();
        replace(&mut payloads, kind, body.to_vec());
        chain_of(&payloads).emit_message(self.header)
    }

    fn without(&self, kind: Kind) -> Vec<u8> {
        let rest: Vec<_> = self.payloads.iter().filter(|payload| payload.0 != kind).cloned().collect();
        chain_of(&rest).emit_message(self.header)
    }

    fn twice(&self, kind: Kind) -> Vec<u8> {
        let again = self.payloads.iter().filter(|payload| payload.0 == kind).cloned();
        chain_of(&self.payloads.iter().cloned().chain(again).collect::<Vec<_>>()).emit_message(self.header)
    }

    /// With any octets behind the header, whose Next Payload is `first`.
    fn raw(&self, first: u8, octets: &[u8]) -> Vec<u8> {
        let length = (HEADER_LEN + octets.len()) as u32;
        [&Header { next_payload: first, length, ..self.header }.emit()[..], octets].concat()
    }
}

fn replace(payloads: &mut [(Kind, Vec<u8>)], kind: Kind, body: Vec<u8>) {
    payloads.iter_mut().filter(|payload| payload.0 == kind).for_each(|payload| payload.1.clone_from(&body));
}

/// A chain of payloads of any type and flags: type, flags, body. Gives the type of the first, and the octets.
fn raw_chain(payloads: &[(u8, u8, Vec<u8>)]) -> (u8, Vec<u8>) {
    let next = payloads.iter().skip(1).map(|payload| payload.0).chain([0]);
    let mut octets = vec![];
    for ((_, flags, body), next) in payloads.iter().zip(next) {
        octets.extend([next, *flags]);
        octets.extend(((body.len() + 4) as u16).to_be_bytes());
        octets.extend(body);
    }
    (payloads.first().map_or(0, |payload| payload.0), octets)
}

/// The same payloads as [`raw_chain`] takes them, without flags.
fn plain(payloads: &[(Kind, Vec<u8>)]) -> Vec<(u8, u8, Vec<u8>)> {
    payloads.iter().map(|(kind, body)| (*kind as u8, 0, body.clone())).collect()
}

/// Seals and sends a request of raw payloads with the next message ID; opens the answer.
fn raw_request(
    world: &mut World,
    client: &mut Initiator,
    exchange: Exchange,
    payloads: &[(u8, u8, Vec<u8>)],
) -> Opened {
    let (first, octets) = raw_chain(payloads);
    let header = client.header(exchange, client.next_id, false);
    let message = client.seal_raw(header, first, &octets);
    client.next_id += 1;
    let answer = world.exchange(client.path, &[message]);
    client.open(&answer)
}

/// IKE_AUTH of these payloads, in one piece, and what it was answered: an error, 0 for nothing.
fn authenticate(world: &mut World, client: &mut Initiator, payloads: &[(Kind, Vec<u8>)]) -> Result<(), u16> {
    let header = client.header(Exchange::IkeAuth, client.next_id, false);
    client.next_id += 1;
    let message = client.seal(header, &chain_of(payloads));
    let answer = world.exchange(client.path, &[message]);
    if answer.is_empty() { Err(0) } else { client.handle_auth(&answer) }
}

/// SA, nonce and selectors of a request for a new Child SA.
fn new_child(client: &mut Initiator) -> Vec<(Kind, Vec<u8>)> {
    let mut payloads = client.child_payloads(&[None]);
    payloads.push((Kind::Nonce, vec![1; 32]));
    payloads
}

fn says_goodbye(world: &mut World, client: &mut Initiator) {
    client.request(world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    world.advance(Policy::default().half_open_lifetime);
}

/// After what strangers did: nothing was done, after a while nothing is left, and a client connects.
fn nothing_left(world: &mut World, case: &str) {
    assert_eq!(world.take_log(), NOTHING, "{case}");
    world.advance(Policy::default().half_open_lifetime);
    world.take_sent();
    let stats = world.responder.stats();
    let left = (stats.ike_sas, stats.half_open, stats.child_sas, stats.devices);
    assert_eq!(left, (0, 0, 0, 0), "{case}");
    let mut bob = world.connect("bob@example.com", 4999);
    says_goodbye(world, &mut bob);
    world.take_log();
    assert_eq!(world.responder.stats().ike_sas, 0, "{case}");
}

/// After what a client did: its IKE SA and its one Child SA go on, and another client connects.
fn goes_on(world: &mut World, client: &mut Initiator, case: &str) {
    world.take_sent();
    client.request(world, Exchange::Informational, &[]);
    let mut bob = world.connect("bob@example.com", 4999);
    assert_eq!(world.responder.stats().devices, 2, "{case}");
    says_goodbye(world, &mut bob);
    let stats = world.responder.stats();
    assert_eq!((stats.ike_sas, stats.child_sas, stats.devices), (1, 1, 1), "{case}");
    world.take_log();
}
