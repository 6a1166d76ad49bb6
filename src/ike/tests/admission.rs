//! What strangers reach and cost: the gate, cookies, lengths and memory.

use std::net::IpAddr;
use std::time::Duration;

use crate::crypto::Group;
use crate::ike::gate::MAX_UNAUTHENTICATED;
use crate::ike::init::MAX_INIT_LEN;
use crate::ike::sa::{IkeSa, Init, State};
use crate::ike::testing::*;
use crate::ike::{Gate, Input, Passage, Policy};
use crate::provision::Authority;
use crate::wire::ike::*;

/// What the gate sends back, or the responder behind it.
fn through(gate: &mut Gate, world: &mut World, client: &Initiator, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut answers = vec![];
    for bytes in datagrams {
        match gate.judge(world.now, client.path.remote.ip(), bytes) {
            Passage::Client | Passage::Stranger => {
                answers.extend(world.exchange(client.path, std::slice::from_ref(bytes)));
            }
            Passage::Answer(bytes) => answers.push(bytes),
            Passage::Stop => {}
        }
    }
    answers
}

/// Connects through the gate, with a cookie where one is asked for.
fn connect(gate: &mut Gate, world: &mut World, client: &mut Initiator) {
    let request = client.init_request();
    let mut answer = through(gate, world, client, &[request]);
    let mut handled = client.handle_init(&answer);
    if let InitAnswer::Notify(notify_type::COOKIE, cookie) = handled {
        client.cookie = Some(cookie);
        let request = client.init_request();
        answer = through(gate, world, client, &[request]);
        handled = client.handle_init(&answer);
    }
    assert_eq!(handled, InitAnswer::Done);
    let request = client.auth_request();
    let answer = through(gate, world, client, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()));
}

#[test]
fn the_gate_tells_clients_from_strangers_and_both_from_garbage() {
    let mut world = World::new();
    let mut gate = world.responder.gate();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let remote = client.path.remote.ip();
    let init = client.init_request();
    assert_eq!(gate.judge(world.now, remote, &init), Passage::Stranger);
    let answer = world.exchange(client.path, std::slice::from_ref(&init));
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    let auth = client.auth_request();
    assert_eq!(gate.judge(world.now, remote, &auth[0]), Passage::Stranger, "nobody is authenticated");
    let answer = world.exchange(client.path, &auth);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    let ping = client.protected_request(Exchange::Informational, &[]);
    assert_eq!(gate.judge(world.now, remote, &ping[0]), Passage::Client);
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::parse(&ping[0]).unwrap();
        change(&mut header);
        [&header.emit()[..], &ping[0][HEADER_LEN..]].concat()
    };
    let stopped = [
        ("nothing", vec![]),
        ("cut short", ping[0][..40].to_vec()),
        ("another SPI", changed(&|h| h.spi_r ^= 1)),
        ("no initiator's SPI", changed(&|h| h.spi_i = 0)),
        ("of a responder", changed(&|h| h.initiator = false)),
        ("version 1", changed(&|h| h.major = 1)),
        ("version 3, a response", changed(&|h| (h.major, h.response) = (3, true))),
        ("INFORMATIONAL without SPI", changed(&|h| h.spi_r = 0)),
        (
            "too long",
            Header { length: MAX_INIT_LEN as u32 + 1, ..Header::parse(&init).unwrap() }.emit().to_vec(),
        ),
    ];
    for (name, mut bytes) in stopped {
        if name == "too long" {
            bytes.resize(MAX_INIT_LEN + 1, 0);
        }
        assert_eq!(gate.judge(world.now, remote, &bytes), Passage::Stop, "{name}");
    }
    let stats = gate.stats();
    assert_eq!((stats.malformed, stats.unknown_spi, stats.out_of_place), (5, 2, 2));
    client.next_id -= 1;
    client.rekey_ike(&mut world, 1).unwrap();
    let ping = client.protected_request(Exchange::Informational, &[]);
    assert_eq!(gate.judge(world.now, remote, &ping[0]), Passage::Client, "the new SPI");
    let delete = [(Kind::Delete, Delete::Ike.emit())];
    client.next_id -= 1;
    client.request(&mut world, Exchange::Informational, &delete);
    world.advance(Policy::default().half_open_lifetime);
    assert_eq!(gate.judge(world.now, remote, &ping[0]), Passage::Stop, "it is over");
}

#[test]
fn a_flood_costs_the_responder_little_and_a_client_connects() {
    let mut world = World::new();
    let mut gate = world.responder.gate();
    let cert = world.client_cert("alice@example.com");
    let mut flood = Initiator::new(&world, cert.clone(), 4500);
    let mut flooded = 0;
    for n in 0..10_000_u32 {
        flood.path.remote.set_ip(IpAddr::from((0x0a00_0000 + n * 300).to_be_bytes()));
        let mut request = flood.init_request();
        request[..4].copy_from_slice(&(n + 1).to_be_bytes());
        if let Passage::Stranger = gate.judge(world.now, flood.path.remote.ip(), &request) {
            flooded += 1;
            world.handle(Input::Datagram { path: flood.path, bytes: &request });
        }
    }
    assert_eq!(flooded, 50, "as many a second");
    assert_eq!(gate.stats().cookies, 9950);
    assert_eq!(world.responder.stats().half_open, Policy::default().cookie_threshold);
    world.take_sent();
    let mut client = Initiator::new(&world, cert.clone(), 4501);
    connect(&mut gate, &mut world, &mut client);
    // The cookie of one second is good for requests without end, but not without limit.
    let mut eager = Initiator::new(&world, cert, 4502);
    let request = eager.init_request();
    let answer = through(&mut gate, &mut world, &eager, &[request]);
    let InitAnswer::Notify(notify_type::COOKIE, cookie) = eager.handle_init(&answer) else { panic!() };
    eager.cookie = Some(cookie);
    let request = eager.init_request();
    let remote = eager.path.remote.ip();
    let passed = (0..1000).filter(|_| gate.judge(world.now, remote, &request) == Passage::Stranger).count();
    assert!((40..=50).contains(&passed), "{passed}");
    assert!(gate.stats().refused > 0);
    world.advance(Duration::from_secs(1));
    assert_eq!(gate.judge(world.now, remote, &request), Passage::Stranger);
}

#[test]
fn cookies_outlive_a_change_of_the_secret() {
    let policy = Policy { cookie_threshold: 0, ..Policy::default() };
    let mut world = World::with(crate::crypto::sign::KeyKind::P256, policy, 24);
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    // Just before the change, whenever it is.
    let change = world.responder.poll_timeout().unwrap();
    world.advance(change - Duration::from_secs(1) - world.now.mono);
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    let InitAnswer::Notify(notify_type::COOKIE, cookie) = client.handle_init(&answer) else { panic!() };
    world.advance(Duration::from_secs(9));
    assert!(world.responder.poll_timeout().unwrap() - change <= Duration::from_secs(120));
    client.cookie = Some(cookie);
    assert_eq!(client.connect(&mut world), Ok(()));
    assert_eq!(world.responder.stats().cookies, 1);
}

#[test]
fn a_repeated_request_is_one_attempt_and_a_changed_one_another() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let request = client.init_request();
    let answer = world.exchange(client.path, std::slice::from_ref(&request));
    for _ in 0..100 {
        assert_eq!(world.exchange(client.path, std::slice::from_ref(&request)), answer);
    }
    assert_eq!(world.responder.stats().half_open, 1);
    // The same SPI with another nonce: a new attempt, and the older one is not disturbed.
    let mut other = Initiator::new(&world, world.client_cert("bob@example.com"), 4500);
    other.spi_i = client.spi_i;
    assert_eq!(other.connect(&mut world), Ok(()));
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    assert_eq!(world.responder.stats().devices, 2);
}

#[test]
fn a_wrong_guess_of_the_group_counts_for_nothing() {
    let mut world = World::new();
    for n in 0..20 {
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500 + n);
        (client.guess, client.groups) = (Group::P384, vec![Group::P256]);
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        assert!(matches!(
            client.handle_init(&answer),
            InitAnswer::Notify(notify_type::INVALID_KE_PAYLOAD, group) if group == [0, 19]
        ));
    }
    let stats = world.responder.stats();
    assert_eq!((stats.half_open, stats.ike_sas, stats.cookies), (0, 0, 0));
}

#[test]
fn errors_to_many_leave_some_for_who_brings_a_cookie() {
    let mut world = World::new();
    let mut gate = world.responder.gate();
    let cert = world.client_cert("alice@example.com");
    // All of them guess a group that is not wanted: none leaves a half-open connection, each has an answer.
    let mut flood = Initiator::new(&world, cert.clone(), 4500);
    (flood.guess, flood.groups) = (Group::P384, vec![Group::P256]);
    let request = flood.init_request();
    let mut answers = 0;
    for n in 0..1000_u32 {
        let mut request = request.clone();
        request[..4].copy_from_slice(&n.to_be_bytes());
        answers += through(&mut gate, &mut world, &flood, &[request]).len();
        answers += world.take_sent().len();
    }
    assert_eq!(answers, 1000, "errors, then cookies");
    let mut client = Initiator::new(&world, cert, 4501);
    (client.guess, client.groups) = (Group::P384, vec![Group::P256]);
    for steps in 0..5 {
        let request = client.init_request();
        let answer = through(&mut gate, &mut world, &client, &[request]);
        match client.handle_init(&answer) {
            InitAnswer::Notify(notify_type::COOKIE, cookie) => client.cookie = Some(cookie),
            InitAnswer::Notify(notify_type::INVALID_KE_PAYLOAD, _) => client.guess = Group::P256,
            InitAnswer::Done => {
                assert!(steps > 1);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("not connected");
}

#[test]
fn no_answer_to_a_stranger_is_longer_than_what_it_sent() {
    for authorities in [1, 2, 40] {
        let mut world = World::new();
        let others: Vec<_> =
            (1..authorities).map(|n| Authority::new(&format!("CA {n}"), WALL, 10).unwrap()).collect();
        let all: Vec<_> = [&world.authority].into_iter().chain(&others).collect();
        let names = ["vpn.example"];
        let issued = world.authority.issue_server(&names, WALL, 10).unwrap();
        let identity = identity("vpn.example", &issued, &all);
        world.handle(Input::Identity(Box::new(identity)));
        // A vendor ID makes the request as long as those of real clients are.
        for vendor in [0, 150, 350, 500, 1000] {
            let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
            client.vendors = if vendor > 0 { vec![vec![1; vendor]] } else { vec![] };
            let request = client.init_request();
            let answer = world.exchange(client.path, std::slice::from_ref(&request));
            let header = Header::parse(&answer[0]).unwrap();
            let payloads = parse_chain(header.next_payload, &answer[0][HEADER_LEN..]).unwrap();
            let asked = payloads.iter().find(|payload| payload.kind == Kind::CertReq).unwrap();
            let asked = parse_cert_request(asked.body).unwrap();
            let (sent, got) = (request.len(), answer[0].len());
            if vendor == 0 {
                assert_eq!(asked.len(), 1, "one is named in any case");
                assert!(got <= sent + 50, "{got} for {sent}");
            } else {
                assert!(got <= sent, "{got} for {sent}");
                assert!(asked.len() == authorities || got + 20 > sent, "as many as fit: {}", asked.len());
            }
            assert_eq!(client.handle_init(&answer), InitAnswer::Done);
            world.advance(Policy::default().half_open_lifetime);
        }
    }
    // What is refused: a header alone is shorter than any error.
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let request = client.init_request();
    for len in HEADER_LEN..request.len() {
        for major in [2, 3] {
            let header = Header { major, length: len as u32, ..Header::parse(&request).unwrap() };
            let message = [&header.emit()[..], &request[HEADER_LEN..len]].concat();
            let answers = world.exchange(client.path, &[message]);
            assert!(answers.iter().all(|answer| answer.len() <= len), "{len}");
            assert_eq!(answers.is_empty(), len < HEADER_LEN + 8, "{len}");
        }
        world.advance(Duration::from_secs(1));
    }
}

#[test]
fn a_half_open_connection_takes_little() {
    // As long as strongSwan's, which asks for everything; and as long as may be.
    for (len, most) in [(1300, 4096), (MAX_INIT_LEN, 7 * 1024)] {
        half_open_takes(len, most);
    }
}

fn half_open_takes(len: usize, most: usize) {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    client.vendors = vec![vec![]];
    let rest = len - client.init_request().len();
    client.vendors = vec![vec![1; rest]];
    let request = client.init_request();
    assert_eq!(request.len(), len);
    let answer = world.exchange(client.path, &[request]);
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    let sa = world.responder.sas.values().next().unwrap();
    let State::HalfOpen(init) = &sa.state else { panic!("{:?}", sa.state) };
    let octets = init.request.capacity() + init.response.capacity() + init.ni.capacity() + init.nr.capacity();
    let secrets = [&sa.sk_d, &init.sk_pi, &init.sk_pr].map(|secret| secret.expose().len());
    let structures = size_of::<IkeSa>() + size_of::<Init>();
    assert!(structures + octets + secrets.iter().sum::<usize>() < most, "{structures} {octets} {secrets:?}");
    // What it sends in fragments, too, though it is authentic.
    let piece = vec![0; 1000];
    let header = client.header(Exchange::IkeAuth, 1, false);
    let mut chain = Chain::new();
    (0..40).for_each(|_| chain.push(Kind::Vendor, &piece));
    let mut kept = 0;
    for bytes in client.seal_fragments(header, &chain, 1000) {
        world.exchange(client.path, &[bytes]);
        let sa = world.responder.sas.values().next().unwrap();
        kept = kept.max(sa.reassembly.as_ref().map_or(0, |set| set.octets));
    }
    assert!((10_000..=MAX_UNAUTHENTICATED).contains(&kept), "{kept}");
    assert_eq!(world.responder.stats().ike_sas, 1);
}
