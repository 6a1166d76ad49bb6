//! N28 to N34: public values, nonces, cookies and repetitions of IKE_SA_INIT.

use std::net::IpAddr;

use super::*;
use crate::base::Path;
use crate::crypto::Group;
use crate::crypto::dh::prime;

#[test]
fn n28_a_group_that_is_not_chosen() {
    let mut world = World::new();
    let mut client = stranger(&world);
    client.groups = vec![Group::P256];
    let wrong = client.init_request();
    for _ in 0..40 {
        let sent = world.exchange(client.path, std::slice::from_ref(&wrong));
        assert_eq!(told(&sent), Told::Error(notify_type::INVALID_KE_PAYLOAD, vec![0, 19]));
    }
    let stats = world.responder.stats();
    assert_eq!((stats.half_open, stats.ike_sas, stats.cookies), (0, 0, 0), "no state");
    client.guess = Group::P256;
    assert_eq!(client.connect(&mut world), Ok(()), "the same SPI, corrected");
    goes_on(&mut world, &mut client, "N28");
}

/// The number one less or more, in as many octets.
fn neighbours(prime: &[u8]) -> [Vec<u8>; 2] {
    // A prime of these ends in ones: adding one carries.
    let mut less = prime.to_vec();
    *less.last_mut().unwrap() -= 1;
    let mut more = prime.to_vec();
    for octet in more.iter_mut().rev() {
        let carry;
        (*octet, carry) = octet.overflowing_add(1);
        if !carry {
            break;
        }
    }
    [less, more]
}

fn bad_values(group: Group) -> Vec<(&'static str, Vec<u8>)> {
    let len = group.public_len();
    let mut values = vec![
        ("empty", vec![]),
        ("one octet", vec![4]),
        ("one octet less", vec![9; len - 1]),
        ("one octet more", vec![9; len + 1]),
        ("far too long", vec![9; 3000]),
        ("zeros", vec![0; len]),
    ];
    let small = |value: u8| [vec![0; len - 1], vec![value]].concat();
    match group {
        Group::X25519 => {
            let hex = |text: &str| -> Vec<u8> {
                (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
            };
            // Points of small order (RFC 7748 section 6.1): 1, two of order 8, and p-1, p, p+1.
            values.push(("1", [vec![1], vec![0; 31]].concat()));
            for point in [
                "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
                "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            ] {
                values.push(("of small order", hex(point)));
            }
        }
        Group::P256 | Group::P384 => {
            values.push(("not on the curve", small(1)));
            values.push(("coordinates beyond the field", vec![0xff; len]));
            values.push(("another form", [vec![4], vec![1; len]].concat()));
        }
        _ => {
            let prime = prime(group);
            values.push(("1", small(1)));
            values.extend(neighbours(&prime).map(|value| ("next to the prime", value)));
            values.push(("the prime", prime));
            values.push(("all ones", vec![0xff; len]));
            values.push(("twice the prime", [vec![1], vec![0xff; len]].concat()));
        }
    }
    values
}

#[test]
fn n29_public_values_that_are_none() {
    use Group::{Modp1024, Modp2048, Modp3072, Modp4096, P256, P384, X25519};
    let mut world = World::with(KeyKind::P256, Policy { weak_groups: true, ..Policy::default() }, 24);
    for group in [X25519, P256, P384, Modp1024, Modp2048, Modp3072, Modp4096] {
        let mut client = stranger(&world);
        (client.groups, client.guess) = (vec![group], group);
        let hello = Hello::of(&mut client);
        for (name, value) in bad_values(group) {
            let ke = Ke { group: group.transform_id(), data: &value }.emit();
            let sent = world.exchange(client.path, &[hello.with(Kind::Ke, &ke)]);
            assert_eq!(told(&sent), Told::error(SYNTAX), "{name}, {group:?}");
            assert_eq!(world.responder.stats().ike_sas, 0, "{name}, {group:?}");
        }
        for header in [&[][..], &[0], &[0, 31], &[0, 31, 0]] {
            let sent = world.exchange(client.path, &[hello.with(Kind::Ke, header)]);
            assert_eq!(told(&sent), Told::error(SYNTAX), "a KE payload of {} octets", header.len());
        }
        world.advance(SECOND);
    }
    nothing_left(&mut world, "N29");
    // The same in CREATE_CHILD_SA.
    let mut alice = world.connect("alice@example.com", 4501);
    for group in [X25519, P256, Modp2048] {
        for (name, value) in bad_values(group) {
            let mut payloads = alice.child_payloads(&[Some(group)]);
            let ke = Ke { group: group.transform_id(), data: &value }.emit();
            payloads.extend([(Kind::Nonce, vec![1; 32]), (Kind::Ke, ke)]);
            let refused = alice.request(&mut world, Exchange::CreateChildSa, &payloads);
            assert_eq!(refused.error(), Some(SYNTAX), "{name}, {group:?}");
            world.advance(6 * SECOND); // a client may try ten times a minute
        }
    }
    goes_on(&mut world, &mut alice, "N29");
}

#[test]
fn n30_nonces_of_every_length() {
    let mut world = without_cookies();
    let mut client = stranger(&world);
    let hello = Hello::of(&mut client);
    for (len, expected) in [
        (0, Told::error(SYNTAX)),
        (1, Told::error(SYNTAX)),
        (15, Told::error(SYNTAX)),
        (16, Told::Accepted),
        (17, Told::Accepted),
        (256, Told::Accepted),
        (257, Told::error(SYNTAX)),
        (3000, Told::error(SYNTAX)),
        (65000, Told::Nothing),
    ] {
        let sent = world.exchange(client.path, &[hello.with(Kind::Nonce, &vec![7; len])]);
        assert_eq!(told(&sent), expected, "{len} octets");
    }
    nothing_left(&mut world, "N30");
    let mut alice = world.connect("alice@example.com", 4501);
    for (len, expected) in [(15, Some(SYNTAX)), (257, Some(SYNTAX)), (16, None), (256, None)] {
        let mut payloads = alice.child_payloads(&[None]);
        payloads.push((Kind::Nonce, vec![1; len]));
        let answer = alice.request(&mut world, Exchange::CreateChildSa, &payloads);
        assert_eq!(answer.error(), expected, "{len} octets in CREATE_CHILD_SA");
        if expected.is_none() {
            let spi = world.installed.last().unwrap().spi_out;
            let delete = [(Kind::Delete, Delete::Esp(vec![spi]).emit())];
            alice.request(&mut world, Exchange::Informational, &delete);
        }
    }
    goes_on(&mut world, &mut alice, "N30");
}

#[test]
fn n31_a_flood_of_initial_requests() {
    for many in [true, false] {
        let mut world = World::new();
        let policy = Policy::default();
        let mut flooder = stranger(&world);
        let good = flooder.init_request();
        let mut challenges = 0;
        for n in 0..10_000_u32 {
            let [_, a, b, c] = if many { n.to_be_bytes() } else { [0; 4] };
            let path = Path { remote: ([10, a, b, c], 500).into(), ..path_from(500) };
            let mut message = good.clone();
            message[..8].copy_from_slice(&(u64::from(n) << 20 | 1).to_be_bytes());
            let sent = world.exchange(path, &[message]);
            challenges += usize::from(matches!(told(&sent), Told::Error(notify_type::COOKIE, _)));
            assert!(sent.iter().all(|answer| answer.len() <= 3 * good.len()));
        }
        let expected = if many { policy.cookie_threshold } else { policy.cookie_threshold_per_source };
        assert_eq!(world.responder.stats().half_open, expected, "many sources: {many}");
        assert_eq!(challenges, 10_000 - expected);
        let mut client = Initiator::new(&world, world.client_cert("carol@example.com"), 4501);
        assert_eq!(client.connect(&mut world), Ok(()));
        assert_eq!(client.cookie.is_some(), many, "a flood of one source is not everybody's");
        says_goodbye(&mut world, &mut client);
        world.take_log();
        nothing_left(&mut world, "N31");
    }
    // With cookies one source gets so far, and not further.
    let mut world = World::new();
    let most = Policy::default().half_open_limit_per_source;
    for n in 0..2 * most {
        let mut client = stranger(&world);
        client.path.remote.set_ip(IpAddr::from([10, 0, 0, 1]));
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        if let Told::Error(_, cookie) = told(&answer) {
            client.cookie = Some(cookie);
            let request = client.init_request();
            let answer = world.exchange(client.path, &[request]);
            let expected = if n < most { Told::Accepted } else { Told::Nothing };
            assert_eq!(told(&answer), expected, "request {n}");
        }
    }
    assert_eq!(world.responder.stats().half_open, most);
    nothing_left(&mut world, "N31");
}

#[test]
fn n32_cookies_that_are_not_ours() {
    let policy = Policy { cookie_threshold: 0, ..Policy::default() };
    let mut world = World::with(KeyKind::P256, policy, 24);
    let mut client = stranger(&world);
    let challenge = |world: &mut World, client: &mut Initiator, case: &str| {
        let request = client.init_request();
        let answer = world.exchange(client.path, &[request]);
        let Told::Error(notify_type::COOKIE, cookie) = told(&answer) else { panic!("{case}: {answer:?}") };
        assert!((1..=64).contains(&cookie.len()));
        assert_eq!(world.responder.stats().ike_sas, 0, "{case}");
        cookie
    };
    let good = challenge(&mut world, &mut client, "none");
    let mut flipped = good.clone();
    flipped[10] ^= 1;
    for (name, cookie) in [
        ("a bit", flipped),
        ("cut", good[..good.len() - 1].to_vec()),
        ("one octet more", [&good[..], &[0]].concat()),
        ("empty", vec![]),
        ("65 octets", vec![1; 65]),
        ("64 octets", vec![1; 64]),
    ] {
        client.cookie = Some(cookie);
        assert_eq!(challenge(&mut world, &mut client, name), good, "{name}: a fresh challenge");
    }
    client.cookie = Some(good.clone());
    client.path.remote.set_ip(IpAddr::from([10, 0, 0, 1]));
    challenge(&mut world, &mut client, "from another address");
    client.path = path_from(4500);
    client.spi_i += 1;
    challenge(&mut world, &mut client, "with another SPI");
    client.spi_i -= 1;
    world.advance(11 * SECOND);
    let fresh = challenge(&mut world, &mut client, "too late");
    assert_ne!(fresh, good);
    client.cookie = Some(fresh);
    assert_eq!(client.connect(&mut world), Ok(()), "and the right one lets it in");
    goes_on(&mut world, &mut client, "N32");
}

#[test]
fn n33_a_cookie_that_nobody_asked_for() {
    for cookie in [vec![9; 64], vec![9], vec![]] {
        let mut world = World::new();
        let mut client = stranger(&world);
        client.cookie = Some(cookie);
        assert_eq!(client.connect(&mut world), Ok(()), "its signature covers the request with the cookie");
        goes_on(&mut world, &mut client, "N33");
    }
}

#[test]
fn n34_the_same_request_again_and_the_same_spi_with_another() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let request = client.init_request();
    let first = world.exchange(client.path, std::slice::from_ref(&request));
    for _ in 0..100 {
        assert_eq!(world.exchange(client.path, std::slice::from_ref(&request)), first, "octet for octet");
    }
    assert_eq!(world.responder.stats().half_open, 1);
    // Other content under the same SPI is an attempt of its own, which takes nothing from the first.
    let mut other = Initiator::new(&world, world.client_cert("mallory@example.com"), 4500);
    other.spi_i = client.spi_i;
    let other_answer = world.exchange(other.path, &[other.init_request()].map(|request| request));
    assert_eq!(told(&other_answer), Told::Accepted);
    assert_eq!(world.responder.stats().half_open, 2);
    assert_eq!(world.exchange(client.path, &[request]), first);
    assert_eq!(client.handle_init(&first), InitAnswer::Done);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    world.advance(Policy::default().half_open_lifetime);
    goes_on(&mut world, &mut client, "N34");
}
