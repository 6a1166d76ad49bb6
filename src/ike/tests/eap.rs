//! Clients that come by EAP: the order of RFC 7296 section 2.16, wrong passwords, and those that break the rules.

use std::time::Duration;

use crate::crypto::mschapv2::{Attempt, msk, nt_hash};
use crate::crypto::sign::KeyKind;
use crate::crypto::{Kem, Secret};
use crate::ike::testing::*;
use crate::ike::{AuthError, EapError, Event, Input, Pattern, Policy};
use crate::wire::eap::{Packet, code, kind};
use crate::wire::ike::*;

const PASSWORD: &str = "correct horse";
const FAILURE: &str = "E=691 R=1 C=";

fn world() -> World {
    // All clients here come from one address.
    let policy = Policy { cookie_threshold_per_source: 16, ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let_in(&mut world, &[("Alice", PASSWORD), ("bob", "other")], &[]);
    world
}

/// The responder's identity anew, with these users and patterns.
fn let_in(world: &mut World, users: &[(&str, &str)], allowed: &[&str]) {
    let issued = world.authority.issue_server(&["vpn.example"], WALL, 365).unwrap();
    let mut identity = identity("vpn.example", &issued, &[&world.authority]);
    for (name, password) in users {
        assert!(identity.access.users.add(name, nt_hash(password)));
    }
    identity.access.allowed = allowed.iter().map(|text| Pattern::parse(text).unwrap()).collect();
    world.handle(Input::Identity(Box::new(identity)));
}

/// A client in the middle of EAP.
pub(super) struct Eap {
    pub(super) client: Initiator,
    id_r: Vec<u8>,
    /// Of the last request of the server.
    pub(super) identifier: u8,
    pub(super) msk: Vec<u8>,
}

impl Eap {
    /// As far as the question for the identity.
    pub(super) fn begin(world: &mut World, port: u16) -> Self {
        let mut client = Initiator::new(world, world.client_cert("laptop"), port);
        client.id_i = (IdType::Ipv4, vec![10, 0, 0, 7]);
        Self::begin_with(world, client)
    }

    /// The same from another address, so that nobody must wait for a cookie.
    pub(super) fn begin_elsewhere(world: &mut World, last: u16) -> Self {
        let mut client = Initiator::new(world, world.client_cert("laptop"), last);
        client.path.remote = ([203, 0, 113, last as u8], 4500).into();
        Self::begin_with(world, client)
    }

    fn begin_with(world: &mut World, mut client: Initiator) -> Self {
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert_eq!(client.handle_init(&answer), InitAnswer::Done);
        for kem in client.kems.clone() {
            client.intermediate(world, kem).unwrap();
        }
        let mut payloads = client.auth_payloads();
        payloads.retain(|(kind, _)| !matches!(kind, Kind::Auth | Kind::Cert));
        let opened = client.request(world, Exchange::IkeAuth, &payloads);
        client.check_server(&opened);
        let kinds: Vec<_> = opened.payloads().iter().map(|payload| payload.kind).collect();
        assert_eq!(kinds, [Kind::IdR, Kind::Cert, Kind::Cert, Kind::Auth, Kind::Eap], "and nothing else yet");
        let packet = Packet::parse(opened.body(Kind::Eap).unwrap()).unwrap();
        assert_eq!((packet.code, packet.kind, packet.data), (code::REQUEST, kind::IDENTITY, &[][..]));
        let id_r = opened.body(Kind::IdR).unwrap().to_vec();
        let identifier = packet.identifier;
        Self { client, id_r, identifier, msk: vec![] }
    }

    pub(super) fn packet(&self, kind: u8, data: &[u8]) -> Vec<u8> {
        Packet { code: code::RESPONSE, identifier: self.identifier, kind, data }.emit()
    }

    /// One exchange; the EAP packet of the answer.
    pub(super) fn send(&mut self, world: &mut World, packet: Vec<u8>) -> Vec<u8> {
        let opened = self.client.request(world, Exchange::IkeAuth, &[(Kind::Eap, packet)]);
        self.take(&opened)
    }

    fn take(&mut self, opened: &Opened) -> Vec<u8> {
        let [payload] = opened.payloads()[..] else { panic!("EAP alone") };
        assert_eq!(payload.kind, Kind::Eap);
        let packet = payload.body.to_vec();
        if packet[0] == code::REQUEST {
            assert_eq!(packet[1], self.identifier.wrapping_add(1));
            self.identifier = packet[1];
        } else {
            assert_eq!((packet[1], &packet[2..]), (self.identifier, &[0, 4][..]), "of what it answers");
        }
        packet
    }

    /// Says who it is; the challenge.
    fn identify(&mut self, world: &mut World, name: &[u8]) -> [u8; 16] {
        let packet = self.send(world, self.packet(kind::IDENTITY, name));
        let data = Packet::parse(&packet).unwrap().data;
        assert_eq!((packet[4], data[0], usize::from(data[3]), data[4]), (kind::MSCHAPV2, 1, data.len(), 16));
        assert_eq!(&data[21..], b"vpn.example");
        data[5..21].try_into().unwrap()
    }

    /// The answer to a challenge; the domain of `name` is not hashed.
    fn response(&mut self, challenge: [u8; 16], name: &str, password: &str) -> Vec<u8> {
        let peer = random();
        let user = name.rsplit('\\').next().unwrap().as_bytes();
        let attempt = Attempt { authenticator: &challenge, peer: &peer, user };
        let hash = nt_hash(password);
        let response = attempt.response(&hash);
        self.msk = msk(&hash, &response).expose().to_vec();
        let len = 54 + name.len() as u8;
        let data = [&[2, 9, 0, len, 49][..], &peer, &[0; 8], &response, &[0], name.as_bytes()].concat();
        self.packet(kind::MSCHAPV2, &data)
    }

    /// Sends an answer to a challenge, which is not answered before `wait` is over.
    fn send_wrong(&mut self, world: &mut World, packet: Vec<u8>, wait: u64) -> Vec<u8> {
        let request = self.client.protected_request(Exchange::IkeAuth, &[(Kind::Eap, packet)]);
        assert_eq!(world.exchange(self.client.path, &request), [] as [Vec<u8>; 0]);
        world.advance(Duration::from_millis(wait * 1000 - 1));
        assert_eq!(world.exchange(self.client.path, &request), [] as [Vec<u8>; 0], "asked again, too early");
        world.advance(Duration::from_millis(1));
        let answer = world.take_sent();
        let opened = self.client.open(&answer);
        assert_eq!(world.exchange(self.client.path, &request), answer, "the same again");
        self.take(&opened)
    }

    /// The two AUTH payloads and what follows.
    pub(super) fn finish(&mut self, world: &mut World) -> Result<(), u16> {
        let auth = self.client.shared_key_auth(&self.msk);
        let opened = self.client.request(world, Exchange::IkeAuth, &[(Kind::Auth, auth)]);
        if let Some(error) = opened.error() {
            assert_eq!(opened.payloads().len(), 1, "an error tells nothing else");
            return Err(error);
        }
        assert!(opened.body(Kind::IdR).is_none() && opened.body(Kind::Cert).is_none());
        self.client.check_shared_key(opened.body(Kind::Auth).unwrap(), &self.id_r, &self.msk);
        self.client.take_connection(&opened);
        Ok(())
    }

    /// All of it.
    fn connect(&mut self, world: &mut World, name: &str, password: &str) -> Result<(), u16> {
        let challenge = self.identify(world, name.as_bytes());
        let response = self.response(challenge, name, password);
        let packet = self.send(world, response);
        assert!(packet[9..].starts_with(b"S="), "{packet:?}");
        let packet = self.send(world, self.packet(kind::MSCHAPV2, &[3]));
        assert_eq!(packet[0], code::SUCCESS);
        self.finish(world)
    }
}

pub(super) fn why(world: &World) -> &AuthError {
    let Some(Event::AuthFailed { why, .. }) = world.notes.last() else { panic!("{:?}", world.notes) };
    why
}

fn half_open(world: &World) -> usize {
    world.responder.stats().half_open
}

#[test]
fn a_user_name_and_a_password_let_in() {
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let challenge = eap.identify(&mut world, b"ALICE");
    assert_ne!(challenge, Eap::begin(&mut world, 4501).identify(&mut world, b"alice"));
    let packet = eap.response(challenge, "ALICE", PASSWORD);
    let request = eap.client.protected_request(Exchange::IkeAuth, &[(Kind::Eap, packet.clone())]);
    let answer = world.exchange(eap.client.path, &request);
    assert_eq!(world.exchange(eap.client.path, &request[..1]), answer, "an answer is repeated, not the work");
    // The server shows that it knows the password, too.
    let packet_of_server = eap.take(&eap.client.open(&answer));
    let (peer, response) = (packet[10..26].try_into().unwrap(), packet[34..58].try_into().unwrap());
    let attempt = Attempt { authenticator: &challenge, peer: &peer, user: b"ALICE" };
    let expected = attempt.authenticator_response(&nt_hash(PASSWORD), &response);
    let expected = [b"S=", expected.as_bytes(), b" M=Welcome"].concat();
    assert_eq!(packet_of_server[5..9], [3, 9, 0, 4 + expected.len() as u8]);
    assert_eq!(packet_of_server[9..], expected);
    assert_eq!(eap.send(&mut world, eap.packet(kind::MSCHAPV2, &[3]))[0], code::SUCCESS);
    assert_eq!((half_open(&world), world.take_log()), (2, vec![]), "nobody is let in before AUTH");
    assert_eq!(eap.finish(&mut world), Ok(()));
    assert_eq!(world.take_log(), ["install", "connected alice 198.19.255.2"]);
    assert_eq!((half_open(&world), world.responder.stats().auth_failed), (1, 0));
    // It is a connection like any other.
    eap.client.rekey_ike(&mut world, 3).unwrap();
    world.advance(Duration::from_secs(90));
    assert_eq!((half_open(&world), world.responder.stats().devices), (0, 1));
}

/// Windows: a domain, an address as IDi, no IDr, classic signatures; small fragments, or none.
/// Both sides prove also what was exchanged before.
#[test]
fn a_password_behind_additional_key_exchanges() {
    let mut world = world();
    let mut client = Initiator::new(&world, world.client_cert("laptop"), 4500);
    client.additional = vec![vec![37], vec![36]];
    let mut eap = Eap::begin_with(&mut world, client);
    assert_eq!(eap.client.kems, [Kem::MlKem1024, Kem::MlKem768]);
    assert_eq!(eap.connect(&mut world, "alice", PASSWORD), Ok(()));
}

#[test]
fn a_domain_before_the_name_does_not_count() {
    let mut world = world();
    for (port, fragmentation) in [(1, true), (2, false)] {
        let mut client = Initiator::new(&world, world.client_cert("laptop"), port);
        client.id_i = (IdType::Ipv4, vec![10, 0, 0, 7]);
        (client.id_r, client.signing, client.fragmentation) = (None, Signing::EcdsaByCurve, fragmentation);
        let mut eap = Eap::begin_with(&mut world, client);
        assert_eq!(eap.connect(&mut world, "DOMAIN\\Alice", PASSWORD), Ok(()));
    }
    let connected = ["install", "connected alice 198.19.255.2", "install", "connected alice 198.19.255.3"];
    assert_eq!(world.take_log(), connected);
}

#[test]
fn a_wrong_password_waits_and_may_be_corrected() {
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let mut challenge = eap.identify(&mut world, b"alice");
    for wait in [2, 2] {
        let response = eap.response(challenge, "alice", "wrong");
        let packet = eap.send_wrong(&mut world, response, wait);
        let text = str::from_utf8(&packet[9..]).unwrap();
        assert_eq!((packet[4], packet[5], &text[44..]), (26, 4, " V=3 M=Wrong user name or password"));
        let hex = text.strip_prefix(FAILURE).unwrap();
        let new = std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        assert_ne!(new, challenge);
        challenge = new;
    }
    let mut third = Eap::begin(&mut world, 4501);
    let new = third.identify(&mut world, b"alice");
    let response = third.response(new, "alice", PASSWORD);
    assert_eq!(third.send(&mut world, response)[5], 3, "the time of the wrong ones is over");
    let response = eap.response(challenge, "alice", "wrong");
    let packet = eap.send_wrong(&mut world, response, 2);
    assert_eq!(packet[0], code::FAILURE);
    assert_eq!(*why(&world), AuthError::Eap(EapError::WrongPassword("alice".to_owned())));
    let request = eap.client.protected_request(Exchange::IkeAuth, &[(Kind::Auth, vec![2, 0, 0, 0])]);
    assert!(world.exchange(eap.client.path, &request).is_empty(), "it is over");
    world.advance(Duration::from_secs(90));
    assert_eq!((half_open(&world), world.take_log()), (0, vec![]));
}

/// The client sees and waits for the same, whether or not there is such a user.
#[test]
fn a_user_whom_we_do_not_know_is_a_wrong_password() {
    let mut world = world();
    let mut seen = vec![];
    for (port, name) in [(1, "alice"), (2, "carol")] {
        let mut eap = Eap::begin(&mut world, port);
        let challenge = eap.identify(&mut world, name.as_bytes());
        let mut packets = vec![];
        for wait in [2, 2, 4] {
            let response = eap.response(challenge, name, "wrong");
            let mut packet = eap.send_wrong(&mut world, response, wait);
            packet[1] = 0;
            let challenge = 9 + FAILURE.len()..9 + FAILURE.len() + 32;
            packet.get_mut(challenge).unwrap_or_default().fill(0);
            packets.push(packet);
        }
        seen.push(packets);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(*why(&world), AuthError::Eap(EapError::UnknownUser("carol".to_owned())));
    // Not even one who guesses what is hashed in their place.
    let mut eap = Eap::begin(&mut world, 3);
    let challenge = eap.identify(&mut world, b"dave");
    let mut packet = eap.response(challenge, "dave", "");
    let peer = packet[10..26].try_into().unwrap();
    let attempt = Attempt { authenticator: &challenge, peer: &peer, user: b"dave" };
    packet[34..58].copy_from_slice(&attempt.response(&Secret::new(vec![0; 16])));
    assert_eq!(eap.send_wrong(&mut world, packet, 2)[5], 4);
}

/// Connections beside each other do not give more attempts in the same time.
#[test]
fn guesses_beside_each_other_wait_for_each_other() {
    let mut world = world();
    let mut all: Vec<_> = (1..=6).map(|port| Eap::begin(&mut world, port)).collect();
    let start = world.now.mono;
    for eap in &mut all[..5] {
        let challenge = eap.identify(&mut world, b"alice");
        let response = eap.response(challenge, "alice", "guess");
        let request = eap.client.protected_request(Exchange::IkeAuth, &[(Kind::Eap, response)]);
        assert!(world.exchange(eap.client.path, &request).is_empty());
    }
    let challenge = all[5].identify(&mut world, b"alice");
    let response = all[5].response(challenge, "alice", PASSWORD);
    assert_eq!(all[5].send(&mut world, response)[0], code::FAILURE, "unheard, though it is right");
    assert_eq!(*why(&world), AuthError::Eap(EapError::TooMany("alice".to_owned())));
    let mut answered = vec![];
    while world.now.mono < start + Duration::from_secs(40) {
        world.advance(Duration::from_secs(1));
        answered.extend(world.take_sent().iter().map(|_| (world.now.mono - start).as_secs()));
    }
    assert_eq!(answered, [2, 4, 8, 16, 32]);
}

#[test]
fn eap_has_a_deadline_and_counts_as_half_open() {
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    world.advance(Duration::from_secs(40));
    let challenge = eap.identify(&mut world, b"alice");
    world.advance(Duration::from_secs(19));
    assert_eq!(half_open(&world), 1);
    world.advance(Duration::from_secs(1));
    assert_eq!((half_open(&world), world.responder.stats().ike_sas), (0, 0));
    let response = eap.response(challenge, "alice", PASSWORD);
    let request = eap.client.protected_request(Exchange::IkeAuth, &[(Kind::Eap, response)]);
    assert!(world.exchange(eap.client.path, &request).is_empty());
}

#[test]
fn who_is_not_a_user_any_more_is_ended() {
    let mut world = world();
    for (port, name, password) in [(1, "alice", PASSWORD), (2, "bob", "other")] {
        assert_eq!(Eap::begin(&mut world, port).connect(&mut world, name, password), Ok(()));
    }
    let laptop = world.connect("laptop", 3);
    world.take_log();
    let_in(&mut world, &[("alice", PASSWORD), ("bob", "other")], &[]);
    assert_eq!(world.take_log(), [] as [&str; 0], "nothing has changed");
    let_in(&mut world, &[("alice", "new")], &["laptop", "a*"]);
    let mut gone: Vec<_> = world.take_log().into_iter().filter(|line| line != "remove").collect();
    gone.sort_unstable();
    let why = "its password or pre-shared key was changed or taken away";
    assert_eq!(gone, [format!("gone alice: {why}"), format!("gone bob: {why}")]);
    assert_eq!(world.responder.stats().devices, 1, "the one with the certificate");
    let_in(&mut world, &[], &["*top?"]);
    assert_eq!(world.take_log(), ["remove", "gone laptop: its identity is not allowed any more"]);
    drop(laptop);
}

/// It is told what every stranger is told.
#[test]
fn only_allowed_identities_are_let_in() {
    let mut world = World::new();
    let_in(&mut world, &[("alice", PASSWORD), ("bob", "other")], &["B?B", "phone*"]);
    let failed = Err(notify_type::AUTHENTICATION_FAILED);
    assert_eq!(Eap::begin(&mut world, 1).connect(&mut world, "alice", PASSWORD), failed);
    assert_eq!(*why(&world), AuthError::NotAllowed("alice".to_owned()));
    assert_eq!(Eap::begin(&mut world, 2).connect(&mut world, "bob", "other"), Ok(()));
    for (port, name, expected) in [(3, "phone-1", Ok(())), (4, "laptop", failed)] {
        let mut client = Initiator::new(&world, world.client_cert(name), port);
        assert_eq!(client.connect(&mut world), expected, "{name}");
    }
    assert_eq!(*why(&world), AuthError::NotAllowed("laptop".to_owned()));
    assert_eq!(world.responder.stats().auth_failed, 2);
}

#[test]
fn without_users_nobody_is_asked() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("laptop"), 4500);
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    let mut payloads = client.auth_payloads();
    payloads.retain(|(kind, _)| *kind != Kind::Auth);
    let opened = client.request(&mut world, Exchange::IkeAuth, &payloads);
    assert_eq!((opened.error(), opened.payloads().len()), (Some(notify_type::AUTHENTICATION_FAILED), 1));
    assert_eq!(*why(&world), AuthError::EapWanted);
}

/// One packet that has no place, after the identity was asked for; what the log says.
fn refused_at_once(name: &str, packet: impl FnOnce(&Eap) -> Vec<u8>) -> AuthError {
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let packet = packet(&eap);
    assert_eq!(eap.send(&mut world, packet)[0], code::FAILURE, "{name}");
    assert!(world.take_log().is_empty() && world.responder.stats().auth_failed == 1, "{name}");
    why(&world).clone()
}

/// The same, after the challenge.
fn refused_after_challenge(name: &str, packet: impl FnOnce(&mut Eap, [u8; 16]) -> Vec<u8>) -> AuthError {
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let challenge = eap.identify(&mut world, b"alice");
    let packet = packet(&mut eap, challenge);
    assert_eq!(eap.send(&mut world, packet)[0], code::FAILURE, "{name}");
    assert_eq!(world.responder.stats().auth_failed, 1, "{name}");
    let auth = eap.client.shared_key_auth(&eap.msk);
    let request = eap.client.protected_request(Exchange::IkeAuth, &[(Kind::Auth, auth)]);
    assert!(world.exchange(eap.client.path, &request).is_empty(), "{name}: it is over");
    assert!(world.take_log().is_empty(), "{name}");
    why(&world).clone()
}

#[test]
fn n46_identity_with_nul_4_kib_or_a_domain() {
    let mut world = world();
    for (port, name) in [(1, &b"ali\0ce"[..]), (2, b"DOMAIN\\alice"), (3, b""), (4, b"\xff\xfe\n\x1b[31m")] {
        let mut eap = Eap::begin(&mut world, port);
        let challenge = eap.identify(&mut world, name);
        let response = eap.response(challenge, "ali\0ce", PASSWORD);
        assert_eq!(eap.send_wrong(&mut world, response, [2, 2, 4, 8][port as usize - 1])[5], 4, "{name:?}");
        let Some(Event::AuthFailed { claimed, why, .. }) = world.notes.last() else { panic!("{name:?}") };
        assert!(!claimed.contains(char::is_control), "{claimed:?}");
        assert_eq!(*why, AuthError::Eap(EapError::UnknownUser("ali?ce".to_owned())));
        assert_eq!(eap.send(&mut world, eap.packet(kind::MSCHAPV2, &[4]))[0], code::FAILURE);
        assert_eq!(*self::why(&world), AuthError::Eap(EapError::GivenUp));
    }
    let long = refused_at_once("4 KiB", |eap| eap.packet(kind::IDENTITY, &[b'a'; 4096]));
    assert!(matches!(long, AuthError::Eap(EapError::Malformed(_))));
    let long = refused_after_challenge("4 KiB", |eap, challenge| {
        eap.response(challenge, &"a".repeat(201), PASSWORD);
        let data = [&[2, 9, 0x10, 0x36, 49][..], &[0; 49], &[b'a'; 4096]].concat();
        eap.packet(kind::MSCHAPV2, &data)
    });
    assert!(matches!(long, AuthError::Eap(EapError::Malformed(_))), "{long:?}");
}

#[test]
fn n46_nak_to_an_unknown_type() {
    for wanted in [&[250][..], &[13], &[0], &[], &[26]] {
        let why = refused_after_challenge("NAK", |eap, _| eap.packet(kind::NAK, wanted));
        assert_eq!(why, AuthError::Eap(EapError::NoCommonMethod(wanted.to_vec())));
    }
    let long = refused_after_challenge("NAK", |eap, _| eap.packet(kind::NAK, &[7; 2000]));
    assert_eq!(long, AuthError::Eap(EapError::NoCommonMethod(vec![7; 8])));
    refused_at_once("NAK to Identity", |eap| eap.packet(kind::NAK, &[26]));
}

#[test]
fn n46_success_forged_by_the_client() {
    let out_of_place = AuthError::Eap(EapError::OutOfPlace);
    let why = refused_after_challenge("success of MSCHAPv2", |eap, _| eap.packet(kind::MSCHAPV2, &[3]));
    assert_eq!(why, out_of_place);
    let why = refused_after_challenge("failure of MSCHAPv2", |eap, _| eap.packet(kind::MSCHAPV2, &[4]));
    assert_eq!(why, out_of_place);
    for forged in [code::SUCCESS, code::FAILURE] {
        let why = refused_after_challenge("EAP", |eap, _| vec![forged, eap.identifier, 0, 4]);
        assert!(matches!(why, AuthError::Eap(EapError::Malformed(_))));
    }
    let why = refused_after_challenge("a request", |eap, _| {
        Packet { code: code::REQUEST, identifier: eap.identifier, kind: kind::MSCHAPV2, data: &[3] }.emit()
    });
    assert_eq!(why, out_of_place);
    // Instead of the acknowledgement another response, right as it may be.
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let challenge = eap.identify(&mut world, b"alice");
    let response = eap.response(challenge, "alice", PASSWORD);
    eap.send(&mut world, response);
    let response = eap.response(challenge, "alice", PASSWORD);
    assert_eq!(eap.send(&mut world, response)[0], code::FAILURE);
}

#[test]
fn n46_response_with_another_identifier() {
    for by in [1, 255] {
        let wrong = |eap: &Eap| Packet {
            code: code::RESPONSE,
            identifier: eap.identifier.wrapping_add(by),
            kind: kind::IDENTITY,
            data: b"alice",
        };
        let why = refused_at_once("identity", |eap| wrong(eap).emit());
        assert_eq!(why, AuthError::Eap(EapError::OutOfPlace));
    }
    refused_after_challenge("response", |eap, challenge| {
        let mut packet = eap.response(challenge, "alice", PASSWORD);
        packet[1] ^= 1;
        packet
    });
}

#[test]
fn n46_mschapv2_lengths() {
    for (name, value_size, length) in
        [("0", 0, None), ("48", 48, None), ("50", 50, None), ("MS-Length", 49, Some(58)), ("", 49, Some(0))]
    {
        let why = refused_after_challenge(name, |eap, challenge| {
            let mut packet = eap.response(challenge, "alice", PASSWORD);
            packet[9] = value_size;
            packet[8] = length.unwrap_or(packet[8]);
            packet
        });
        assert!(matches!(why, AuthError::Eap(EapError::Malformed(_))), "{name}: {why:?}");
    }
    for len in 0..54 {
        refused_after_challenge("cut short", |eap, _| {
            let mut data = vec![0; len];
            data.iter_mut().zip([2, 9, 0, len as u8, 49]).for_each(|(to, from)| *to = from);
            eap.packet(kind::MSCHAPV2, &data)
        });
    }
}

#[test]
fn n46_response_before_the_challenge() {
    let why = refused_at_once("response", |eap| {
        eap.packet(kind::MSCHAPV2, &[&[2, 9, 0, 59, 49][..], &[0; 49], b"alice"].concat())
    });
    assert_eq!(why, AuthError::Eap(EapError::OutOfPlace));
    for packet in [vec![], vec![2], vec![2, 1, 0, 5], vec![2, 1, 0, 200, 1, 2], vec![0; 5]] {
        refused_at_once("garbage", |_| packet);
    }
}

#[test]
fn n46_auth_by_another_key() {
    for wrong in [vec![0; 64], vec![], b"Key Pad for IKEv2".to_vec()] {
        let mut world = world();
        let mut eap = Eap::begin(&mut world, 4500);
        let challenge = eap.identify(&mut world, b"alice");
        let response = eap.response(challenge, "alice", PASSWORD);
        eap.send(&mut world, response);
        eap.send(&mut world, eap.packet(kind::MSCHAPV2, &[3]));
        eap.msk = wrong;
        assert_eq!(eap.finish(&mut world), Err(notify_type::AUTHENTICATION_FAILED));
        assert_eq!(*why(&world), AuthError::NotByEap);
        assert!(world.take_log().is_empty());
    }
    // AUTH before EAP is done, and another packet of EAP where AUTH belongs.
    let mut world = world();
    let mut eap = Eap::begin(&mut world, 4500);
    let auth = eap.client.shared_key_auth(&[]);
    let opened = eap.client.request(&mut world, Exchange::IkeAuth, &[(Kind::Auth, auth)]);
    assert_eq!(opened.error(), Some(notify_type::INVALID_SYNTAX));
    let mut eap = Eap::begin(&mut world, 4501);
    let challenge = eap.identify(&mut world, b"alice");
    let response = eap.response(challenge, "alice", PASSWORD);
    eap.send(&mut world, response);
    eap.send(&mut world, eap.packet(kind::MSCHAPV2, &[3]));
    let packet = eap.packet(kind::MSCHAPV2, &[3]);
    let opened = eap.client.request(&mut world, Exchange::IkeAuth, &[(Kind::Eap, packet)]);
    assert_eq!(opened.error(), Some(notify_type::INVALID_SYNTAX));
    assert!(world.take_log().is_empty());
}
