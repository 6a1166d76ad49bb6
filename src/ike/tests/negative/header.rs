//! N01 to N08: the header. N09 to N11 are about ports and in tests/negative.rs.

use super::*;

#[test]
fn n01_datagrams_shorter_than_a_header() {
    let mut world = World::new();
    let client = stranger(&world);
    for fill in [0, 1, 0xff] {
        for len in 0..HEADER_LEN {
            let message = vec![fill; len];
            assert_eq!(world.exchange(client.path, &[message]), [] as [Vec<u8>; 0], "{len} times {fill}");
        }
    }
    for len in HEADER_LEN..HEADER_LEN + 4 {
        let message = [vec![0; 4], vec![7; len - 4]].concat();
        world.handle(Input::Datagram { path: client.path, bytes: &message });
        world.handle(Input::Datagram { path: client.path, bytes: &vec![0; len] });
    }
    assert!(world.take_sent().is_empty());
    assert_eq!(world.responder.stats().malformed, 3 * 28 + 8);
    nothing_left(&mut world, "N01");
}

/// The good request with another header.
fn changed(good: &[u8], change: impl Fn(&mut Header)) -> Vec<u8> {
    let mut header = Header::parse(good).unwrap();
    change(&mut header);
    [&header.emit()[..], &good[HEADER_LEN..]].concat()
}

/// Cases of strangers: a name, the message, and how many answers it has.
fn dropped(world: &mut World, client: &Initiator, cases: &[(&str, Vec<u8>)]) {
    for (name, message) in cases {
        world.handle(Input::Datagram { path: client.path, bytes: message });
        assert!(world.take_sent().is_empty(), "{name}");
        assert_eq!(world.responder.stats().ike_sas, 0, "{name}");
    }
}

#[test]
fn n02_length_field_other_than_the_datagrams() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let good = client.init_request();
    let mut cases: Vec<_> = [0, 27, 28, good.len() - 1, good.len() + 1, u32::MAX as usize]
        .map(|length| ("length", changed(&good, |header| header.length = length as u32)))
        .to_vec();
    cases.push(("one octet more", [&good[..], &[0]].concat()));
    cases.push(("one octet less", good[..good.len() - 1].to_vec()));
    dropped(&mut world, &client, &cases);
    nothing_left(&mut world, "N02");
}

#[test]
fn n03_initiators_spi_0() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let good = client.init_request();
    dropped(&mut world, &client, &[("SPIi 0", changed(&good, |header| header.spi_i = 0))]);
    nothing_left(&mut world, "N03");
}

#[test]
fn n04_ike_sa_init_with_responders_spi_or_message_id() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let good = client.init_request();
    let cases = [
        ("SPIr 1", changed(&good, |header| header.spi_r = 1)),
        ("SPIr all ones", changed(&good, |header| header.spi_r = u64::MAX)),
        ("message ID 1", changed(&good, |header| header.message_id = 1)),
        ("message ID all ones", changed(&good, |header| header.message_id = u32::MAX)),
    ];
    dropped(&mut world, &client, &cases);
    // Nor with the SPI of an IKE SA that there is.
    let mut alice = world.connect("alice@example.com", 4501);
    let (spi_i, spi_r) = (alice.spi_i, alice.spi_r);
    world.handle(Input::Datagram {
        path: client.path,
        bytes: &changed(&good, |header| (header.spi_i, header.spi_r) = (spi_i, spi_r)),
    });
    assert!(world.take_sent().is_empty());
    goes_on(&mut world, &mut alice, "N04");
}

#[test]
fn n05_responses_nobody_asked_for() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let good = client.init_request();
    let cases = [
        ("a response", changed(&good, |header| header.response = true)),
        ("no initiator", changed(&good, |header| header.initiator = false)),
        ("both", changed(&good, |header| (header.response, header.initiator) = (true, false))),
    ];
    dropped(&mut world, &client, &cases);
    nothing_left(&mut world, "N05");
}

#[test]
fn n06_other_major_versions() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let good = client.init_request();
    let version = |major, response| {
        changed(&good, |header| {
            (header.major, header.response, header.length) = (major, response, good.len() as u32)
        })
    };
    let invalid = Told::error(notify_type::INVALID_MAJOR_VERSION);
    for (major, response, expected) in [
        (0, false, Told::Nothing),
        (1, false, Told::Nothing),
        (3, false, invalid.clone()),
        (15, false, invalid.clone()),
        (3, true, Told::Nothing),
        (15, true, Told::Nothing),
    ] {
        let sent = world.exchange(client.path, &[version(major, response)]);
        assert!(sent.iter().all(|answer| answer.len() <= good.len()), "no amplification");
        assert_eq!(told(&sent), expected, "version {major}, response {response}");
    }
    // Whatever the exchange is, and within a budget.
    let odd = changed(&good, |header| (header.major, header.exchange) = (3, Exchange::Other(0)));
    assert_eq!(told(&world.exchange(client.path, &[odd])), invalid);
    world.advance(SECOND);
    let answers = (0..1000).map(|_| world.exchange(client.path, &[version(3, false)]).len()).sum::<usize>();
    assert_eq!(answers, 50, "in one second");
    nothing_left(&mut world, "N06");
    // Nor does it disturb an IKE SA that there is.
    let mut alice = world.connect("alice@example.com", 4501);
    let ping = alice.protected_request(Exchange::Informational, &[]);
    alice.next_id -= 1;
    let told = world.exchange(alice.path, &[changed(&ping[0], |header| header.major = 3)]);
    assert_eq!(told.len(), 1);
    goes_on(&mut world, &mut alice, "N06");
}

#[test]
fn n07_minor_versions_and_reserved_flags() {
    for (name, at, bits) in
        [("minor version", 17, 0x0f), ("flags", 19, 0xc7), ("the version flag", 19, 0x10), ("bit 0", 19, 1)]
    {
        let mut world = World::new();
        let mut client = stranger(&world);
        let mut odd = client.init_request();
        odd[at] |= bits;
        let answer = world.exchange(client.path, &[odd]);
        assert_eq!(told(&answer), Told::Accepted, "{name}");
        assert_eq!((answer[0][17], answer[0][19]), (0x20, 0x20), "{name}: ours are 2.0, and zeros");
        nothing_left(&mut world, name);
    }
}

#[test]
fn n08_exchanges_of_other_types() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    // 43 and 44 are IKE_INTERMEDIATE and IKE_FOLLOWUP_KE, which have their place only where they were agreed on.
    let others = [0, 33, 38, 39, 40, 41, 42, 43, 44, 240, 255];
    // An authenticated peer is told that nothing has begun (RFC 9370): tests of post_quantum.
    let told = |client: &Initiator, number| number == 44 && client.next_id > 1;
    let ignored = |world: &mut World, client: &mut Initiator, id, case: &str| {
        for number in others {
            let exchange = Exchange::from_u8(number);
            for response in [false, true] {
                if told(client, number) && !response {
                    continue;
                }
                let message = client.seal(client.header(exchange, id, response), &new_chain());
                world.handle(Input::Datagram { path: client.path, bytes: &message });
                assert!(world.take_sent().is_empty(), "{case}: exchange {number}, response {response}");
            }
        }
        assert_eq!(world.take_log(), NOTHING, "{case}");
    };
    ignored(&mut world, &mut client, 1, "before authentication");
    assert_eq!(world.responder.stats().half_open, 1);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()), "the half-open IKE SA is as it was");
    world.take_log();
    let next = client.next_id;
    ignored(&mut world, &mut client, next, "afterwards");
    // In the clear, to a stranger's SPI, they are nothing either.
    for number in others {
        let header = Header { spi_r: 0, ..client.header(Exchange::from_u8(number), 0, false) };
        let message = new_chain().emit_message(header);
        world.handle(Input::Datagram { path: client.path, bytes: &message });
        assert!(world.take_sent().is_empty(), "exchange {number}");
    }
    goes_on(&mut world, &mut client, "N08");
}

fn new_chain() -> Chain {
    chain_of(&[(Kind::Delete, Delete::Ike.emit())])
}
