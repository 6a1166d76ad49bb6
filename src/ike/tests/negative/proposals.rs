//! N19 to N27: the SA payload, of IKE and of ESP.

use super::*;
use crate::crypto::{Cipher, Group, Integrity};

/// A transform with any attributes: type, ID, octets of the attributes.
type RawTransform = (u8, u16, Vec<u8>);

const BITS_256: [u8; 4] = [0x80, 14, 1, 0];

fn aes_gcm() -> RawTransform {
    (transform_type::ENCR, 20, BITS_256.to_vec())
}

fn plain_transform(kind: u8, id: u16) -> RawTransform {
    (kind, id, vec![])
}

/// One proposal, by its protocol and SPI; `more` says that another one follows.
fn proposal(number: u8, protocol: u8, spi: &[u8], transforms: &[RawTransform], more: bool) -> Vec<u8> {
    let mut body = vec![number, protocol, spi.len() as u8, transforms.len() as u8];
    body.extend(spi);
    for (index, (kind, id, attributes)) in transforms.iter().enumerate() {
        body.extend([if index + 1 == transforms.len() { 0 } else { 3 }, 0]);
        body.extend((8 + attributes.len() as u16).to_be_bytes());
        body.extend([*kind, 0]);
        body.extend(id.to_be_bytes());
        body.extend(attributes);
    }
    let mut out = vec![if more { 2 } else { 0 }, 0];
    out.extend((4 + body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// A proposal with its SPI, by protocol: IKE has none at first.
fn of(protocol: u8, number: u8, encr: &[RawTransform], more: bool) -> Vec<u8> {
    let rest = [plain_transform(transform_type::PRF, 5), plain_transform(transform_type::KE, 31)];
    if protocol == protocol::ESP {
        let esn = plain_transform(transform_type::ESN, 0);
        proposal(number, protocol, &[9; 4], &[encr, &[esn]].concat(), more)
    } else {
        proposal(number, protocol, &[], &[encr, &rest].concat(), more)
    }
}

/// What became of an SA payload: the proposal of the answer, or the error.
fn offered(world: &mut World, protocol: u8, body: &[u8]) -> Result<Proposal, u16> {
    world.advance(Policy::default().half_open_lifetime);
    let chosen = |body: &[u8]| parse_proposals(body).unwrap().remove(0);
    if protocol == protocol::IKE {
        let mut client = stranger(world);
        let hello = Hello::of(&mut client);
        let sent = world.exchange(client.path, &[hello.with(Kind::Sa, body)]);
        return match told(&sent) {
            Told::Accepted => {
                let header = Header::parse(&sent[0]).unwrap();
                let payloads = parse_chain(header.next_payload, &sent[0][HEADER_LEN..]).unwrap();
                Ok(chosen(payloads.iter().find(|payload| payload.kind == Kind::Sa).unwrap().body))
            }
            Told::Error(kind, _) => Err(kind),
            Told::Nothing => Err(0),
        };
    }
    let mut client = half_open(world, 4600);
    let mut payloads = plain(&client.auth_payloads());
    payloads.iter_mut().filter(|payload| payload.0 == Kind::Sa as u8).for_each(|p| p.2 = body.to_vec());
    let opened = raw_request(world, &mut client, Exchange::IkeAuth, &payloads);
    let result = match opened.error() {
        Some(error) => Err(error),
        None => Ok(chosen(opened.body(Kind::Sa).unwrap())),
    };
    says_goodbye(world, &mut client);
    world.take_log();
    result
}

/// A name, the body of an SA payload by protocol, and the number chosen or the error.
type Case<'a> = (&'a str, &'a dyn Fn(u8) -> Vec<u8>, Result<u8, u16>);

/// Runs a table for both protocols: a name, the body by protocol, and the number chosen or the error.
fn both(case: &str, table: &[Case<'_>]) {
    let mut world = World::new();
    for protocol in [protocol::IKE, protocol::ESP] {
        for (name, body, expected) in table {
            let result = offered(&mut world, protocol, &body(protocol));
            assert_eq!(result.map(|proposal| proposal.number), *expected, "{name}, protocol {protocol}");
        }
    }
    nothing_left(&mut world, case);
}

const NO_PROPOSAL: Result<u8, u16> = Err(notify_type::NO_PROPOSAL_CHOSEN);
const BAD: Result<u8, u16> = Err(SYNTAX);

#[test]
fn n19_numbers_of_proposals() {
    let weak = || plain_transform(transform_type::ENCR, 3);
    // Of several, the one at `good` is acceptable.
    let list = |protocol, numbers: &[u8], good: usize| -> Vec<u8> {
        let of = |(index, number): (usize, &u8)| {
            let encr = if index == good { aes_gcm() } else { weak() };
            of(protocol, *number, &[encr], index + 1 < numbers.len())
        };
        numbers.iter().enumerate().flat_map(of).collect()
    };
    both(
        "N19",
        &[
            ("no proposal", &|_| vec![], BAD),
            ("number 0", &|p| list(p, &[0], 0), Ok(0)),
            ("from 3 on", &|p| list(p, &[3, 4, 5], 1), Ok(4)),
            ("with gaps", &|p| list(p, &[1, 7, 200], 2), Ok(200)),
            ("descending", &|p| list(p, &[9, 8, 7], 1), Ok(8)),
            ("equal, the second is good", &|p| list(p, &[5, 5], 1), Ok(5)),
            ("equal, none is good", &|p| list(p, &[5, 5], 9), NO_PROPOSAL),
            ("64", &|p| list(p, &[1; 64], 63), Ok(1)),
            ("65", &|p| list(p, &[1; 65], 0), BAD),
        ],
    );
    // Equal numbers are two proposals all the same: what only both together have is not offered.
    let mut world = World::new();
    let half = |kinds: &[RawTransform], more| proposal(5, protocol::IKE, &[], kinds, more);
    let (prf, ke) = (plain_transform(transform_type::PRF, 5), plain_transform(transform_type::KE, 31));
    let body = [half(&[aes_gcm(), prf], true), half(&[aes_gcm(), ke], false)].concat();
    let refused = offered(&mut world, protocol::IKE, &body).map(|proposal| proposal.number);
    assert_eq!(refused, NO_PROPOSAL);
}

#[test]
fn n20_lengths_and_counts_that_lie() {
    let mut world = World::new();
    for protocol in [protocol::IKE, protocol::ESP] {
        let good = of(protocol, 1, &[aes_gcm()], false);
        let transform = 8 + usize::from(good[6]);
        let last = good.len() - 8;
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            bad
        };
        let mut cases = vec![
            ("proposal too long", with(3, good[3] + 1)),
            ("proposal one short", with(3, good[3] - 1)),
            ("proposal far too long", with(2, 0xff)),
            ("SPI too long", with(6, 0xff)),
            ("SPI longer than it is", with(6, good[6] + 1)),
            ("one transform more", with(7, good[7] + 1)),
            ("one transform less", with(7, good[7] - 1)),
            ("no transform, but octets", with(7, 0)),
            ("255 transforms", with(7, 255)),
            ("transform too long", with(transform + 3, 13)),
            ("transform far too long", with(transform + 2, 1)),
            ("another proposal follows", with(0, 2)),
            ("odd flag of a proposal", with(0, 1)),
            ("transforms end early", with(transform, 0)),
            ("odd flag of a transform", with(transform, 2)),
            ("transforms do not end", with(last, 3)),
            ("trailing octet", [&good[..], &[0]].concat()),
            ("cut", good[..good.len() - 1].to_vec()),
        ];
        cases.extend((0..8).map(|length| ("proposal length", with(3, length))));
        cases.extend((0..8).map(|length| ("transform length", with(transform + 3, length))));
        cases.extend((9..12).map(|length| ("attribute cut", with(transform + 3, length))));
        for (name, body) in cases {
            let result = offered(&mut world, protocol, &body).map(|proposal| proposal.number);
            assert_eq!(result, BAD, "{name}, protocol {protocol}: {body:?}");
        }
    }
    nothing_left(&mut world, "N20");
}

#[test]
fn n21_spis_of_proposals() {
    let mut world = World::new();
    let ike = [aes_gcm(), plain_transform(transform_type::PRF, 5), plain_transform(transform_type::KE, 31)];
    let esp = [aes_gcm(), plain_transform(transform_type::ESN, 0)];
    for (name, protocol, spi, transforms) in [
        ("IKE, 8 octets at first", protocol::IKE, vec![1; 8], &ike[..]),
        ("IKE, 4 octets", protocol::IKE, vec![1; 4], &ike),
        ("ESP, none", protocol::ESP, vec![], &esp),
        ("ESP, 3 octets", protocol::ESP, vec![1; 3], &esp),
        ("ESP, 8 octets", protocol::ESP, vec![1; 8], &esp),
        ("ESP, 255 octets", protocol::ESP, vec![1; 255], &esp),
        ("ESP 0", protocol::ESP, vec![0; 4], &esp),
        ("ESP 255", protocol::ESP, vec![0, 0, 0, 255], &esp),
    ] {
        let body = proposal(1, protocol, &spi, transforms, false);
        let result = offered(&mut world, protocol, &body).map(|proposal| proposal.number);
        assert_eq!(result, NO_PROPOSAL, "{name}");
    }
    let body = proposal(1, protocol::ESP, &[0, 0, 1, 0], &esp, false);
    assert!(offered(&mut world, protocol::ESP, &body).is_ok(), "256 is the first that may be");
    nothing_left(&mut world, "N21");
    // The rekey of an IKE SA wants 8 octets, not zero.
    let mut alice = world.connect("alice@example.com", 4501);
    for (spi, expected) in [
        (vec![], notify_type::NO_PROPOSAL_CHOSEN),
        (vec![1; 4], notify_type::NO_PROPOSAL_CHOSEN),
        (vec![0; 8], SYNTAX),
    ] {
        let pair = crate::crypto::dh::KeyPair::generate(Group::X25519).unwrap();
        let payloads = [
            (Kind::Sa, proposal(1, protocol::IKE, &spi, &ike, false)),
            (Kind::Nonce, vec![1; 32]),
            (Kind::Ke, Ke { group: 31, data: pair.public() }.emit()),
        ];
        let refused = alice.request(&mut world, Exchange::CreateChildSa, &payloads);
        assert_eq!(refused.error(), Some(expected), "{spi:?}");
    }
    goes_on(&mut world, &mut alice, "N21");
}

#[test]
fn n22_many_double_and_unknown_transforms() {
    let unknown = |count: u16| (0..count).map(|id| plain_transform(transform_type::ENCR, 1000 + id));
    both(
        "N22",
        &[
            (
                "250 unknown ones before",
                &|p| of(p, 1, &unknown(250).chain([aes_gcm()]).collect::<Vec<_>>(), false),
                Ok(1),
            ),
            ("twice the same", &|p| of(p, 1, &[aes_gcm(), aes_gcm()], false), Ok(1)),
            (
                "unknown IDs of each type",
                &|p| {
                    let kinds = [transform_type::ENCR, transform_type::INTEG];
                    let mut all: Vec<_> = kinds.map(|kind| plain_transform(kind, 0xfffe)).to_vec();
                    all.extend([aes_gcm(), plain_transform(transform_type::INTEG, 0)]);
                    of(p, 1, &all, false)
                },
                Ok(1),
            ),
            (
                "an unknown type spoils its proposal, not the next",
                &|p| {
                    let odd = of(p, 1, &[aes_gcm(), plain_transform(200, 1)], true);
                    [odd, of(p, 2, &[aes_gcm()], false)].concat()
                },
                Ok(2),
            ),
            ("only unknown ones", &|p| of(p, 1, &unknown(3).collect::<Vec<_>>(), false), NO_PROPOSAL),
        ],
    );
}

#[test]
fn n23_key_lengths() {
    let aes = |attributes: &[u8]| (transform_type::ENCR, 20, attributes.to_vec());
    let chacha = |attributes: &[u8]| (transform_type::ENCR, 28, attributes.to_vec());
    let odd: [(&str, RawTransform); 11] = [
        ("absent", aes(&[])),
        ("0", aes(&[0x80, 14, 0, 0])),
        ("129", aes(&[0x80, 14, 0, 129])),
        ("192", aes(&[0x80, 14, 0, 192])),
        ("512", aes(&[0x80, 14, 2, 0])),
        ("twice", aes(&[BITS_256, BITS_256].concat())),
        ("TLV", aes(&[0, 14, 0, 2, 1, 0])),
        ("empty TLV", aes(&[0, 14, 0, 0])),
        ("another attribute", aes(&[0x80, 15, 1, 0])),
        ("ChaCha20 with one", chacha(&BITS_256)),
        ("3DES with one", (transform_type::ENCR, 3, BITS_256.to_vec())),
    ];
    let mut world = World::new();
    for protocol in [protocol::IKE, protocol::ESP] {
        for (name, transform) in &odd {
            let alone = of(protocol, 1, std::slice::from_ref(transform), false);
            let refused = offered(&mut world, protocol, &alone).map(|proposal| proposal.number);
            assert_eq!(refused, NO_PROPOSAL, "{name}, protocol {protocol}");
            // Beside a good one only that transform is lost.
            let (other, cipher) = if transform.1 == 20 {
                (chacha(&[]), Cipher::ChaCha20Poly1305)
            } else {
                (aes_gcm(), Cipher::Aes256Gcm)
            };
            let beside = of(protocol, 1, &[transform.clone(), other], false);
            let chosen = offered(&mut world, protocol, &beside).unwrap();
            assert!(chosen.transforms.contains(&encr(cipher)), "{name}, protocol {protocol}: {chosen:?}");
        }
    }
    nothing_left(&mut world, "N23");
}

#[test]
fn n24_integrity_with_and_without_aead() {
    let integ = |id| plain_transform(transform_type::INTEG, id);
    let cbc = || (transform_type::ENCR, 12, BITS_256.to_vec());
    both(
        "N24",
        &[
            ("AEAD with HMAC", &|p| of(p, 1, &[aes_gcm(), integ(12)], false), NO_PROPOSAL),
            ("AEAD with NONE", &|p| of(p, 1, &[aes_gcm(), integ(0)], false), Ok(1)),
            ("AEAD with HMAC or NONE", &|p| of(p, 1, &[aes_gcm(), integ(12), integ(0)], false), Ok(1)),
            ("CBC with HMAC", &|p| of(p, 1, &[cbc(), integ(12)], false), Ok(1)),
            ("CBC without", &|p| of(p, 1, &[cbc()], false), NO_PROPOSAL),
            ("CBC with NONE", &|p| of(p, 1, &[cbc(), integ(0)], false), NO_PROPOSAL),
            (
                "AEAD with HMAC, then CBC with the same",
                &|p| {
                    let first = of(p, 1, &[aes_gcm(), integ(12)], true);
                    [first, of(p, 2, &[cbc(), integ(12)], false)].concat()
                },
                Ok(2),
            ),
        ],
    );
}

#[test]
fn n25_weak_suites_only() {
    let triple_des = || plain_transform(transform_type::ENCR, 3);
    let sha1 = || plain_transform(transform_type::INTEG, 2);
    both("N25", &[("3DES", &|p| of(p, 1, &[triple_des(), sha1()], false), NO_PROPOSAL)]);
    for (weak_groups, cipher, expected) in [
        (false, Cipher::Aes256Cbc(Integrity::HmacSha1), Err(notify_type::NO_PROPOSAL_CHOSEN)),
        (true, Cipher::Aes256Cbc(Integrity::HmacSha1), Ok(())),
        (true, Cipher::Aes256Gcm, Ok(())),
    ] {
        let mut world = World::with(KeyKind::P256, Policy { weak_groups, ..Policy::default() }, 24);
        let mut client = stranger(&world);
        (client.groups, client.guess, client.cipher) = (vec![Group::Modp1024], Group::Modp1024, cipher);
        assert_eq!(client.connect(&mut world), expected, "{weak_groups} {cipher:?}");
        if expected.is_ok() {
            goes_on(&mut world, &mut client, "N25");
        } else {
            nothing_left(&mut world, "N25");
        }
        // 3DES and MODP-768 stay out, whatever is allowed.
        let ke = plain_transform(transform_type::KE, 2);
        let prf = plain_transform(transform_type::PRF, 2);
        let body = proposal(1, protocol::IKE, &[], &[triple_des(), sha1(), prf, ke], false);
        assert_eq!(offered(&mut world, protocol::IKE, &body).map(|p| p.number), NO_PROPOSAL);
    }
}

#[test]
fn n26_additional_key_exchanges_that_we_do_not_have() {
    // Transform types 6 to 12 (RFC 9370), with methods that nobody has.
    for kind in 6..=12 {
        let with = |ids: &[u16]| {
            let adds = ids.iter().map(|id| plain_transform(kind, *id));
            [aes_gcm()].into_iter().chain(adds).collect::<Vec<_>>()
        };
        let mut world = World::new();
        for (name, ids, expected) in [
            ("one", &[1000][..], NO_PROPOSAL),
            ("several", &[1000, 1001, 65535], NO_PROPOSAL),
            ("NONE last", &[1000, 0], Ok(1)),
            ("NONE first", &[0, 1000], Ok(1)),
            ("NONE only", &[0], Ok(1)),
        ] {
            let chosen = offered(&mut world, protocol::IKE, &of(protocol::IKE, 1, &with(ids), false));
            if let Ok(chosen) = &chosen {
                assert!(
                    chosen.transforms.iter().all(|t| t.kind < 6 || (t.kind, t.id) == (kind, 0)),
                    "NONE is returned for them: {chosen:?}"
                );
            }
            assert_eq!(chosen.map(|proposal| proposal.number), expected, "{name}, type {kind}");
        }
        nothing_left(&mut world, "N26");
    }
}

#[test]
fn n27_proposals_of_other_protocols() {
    let others = |p: u8| -> Vec<u8> {
        let numbers = [(1, 0), (2, 2), (3, 4), (4, 200)];
        let foreign = numbers.iter().flat_map(|(number, protocol)| {
            proposal(*number, *protocol, &[7; 4], &[aes_gcm(), plain_transform(transform_type::ESN, 0)], true)
        });
        let other_of_ours = if p == protocol::ESP { protocol::IKE } else { protocol::ESP };
        foreign.chain(of(other_of_ours, 5, &[aes_gcm()], true)).collect()
    };
    both(
        "N27",
        &[
            ("before ours", &|p| [others(p), of(p, 6, &[aes_gcm()], false)].concat(), Ok(6)),
            ("alone", &|p| [others(p), proposal(6, 200, &[], &[aes_gcm()], false)].concat(), NO_PROPOSAL),
        ],
    );
}
