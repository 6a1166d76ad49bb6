//! Round trips, sweeps of truncation and byte flips, and the hostile shapes that have names in the facts.

use std::net::IpAddr;

use super::*;
use crate::base::TrafficSelector;
use crate::wire::Malformed;

fn header() -> Header {
    Header {
        spi_i: 0x0102_0304_0506_0708,
        spi_r: 9,
        next_payload: 33,
        major: 2,
        exchange: Exchange::IkeSaInit,
        initiator: true,
        response: false,
        message_id: 7,
        length: 28,
    }
}

fn sample_proposals() -> Vec<Proposal> {
    let aes = Transform { kind: transform_type::ENCR, id: 20, key_length: KeyLength::Bits(256) };
    let chacha = Transform::new(transform_type::ENCR, 28);
    let ke = Transform::new(transform_type::KE, 31);
    vec![
        Proposal {
            number: 3,
            protocol: protocol::ESP,
            spi: vec![1, 2, 3, 4],
            transforms: vec![aes, chacha, ke],
        },
        Proposal { number: 1, protocol: protocol::IKE, spi: vec![], transforms: vec![aes] },
    ]
}

fn sample_selectors() -> Vec<TrafficSelector> {
    let ts = |first: &str, last: &str| TrafficSelector {
        first: first.parse::<IpAddr>().unwrap(),
        last: last.parse().unwrap(),
        protocol: 6,
        port_first: 0,
        port_last: 65535,
    };
    vec![ts("10.0.0.0", "10.255.255.255"), ts("2001:db8::", "2001:db8::ff")]
}

#[test]
fn every_body_comes_back_as_it_was() {
    assert_eq!(Header::parse(&header().emit()), Ok(header()));
    assert_eq!(parse_proposals(&emit_proposals(&sample_proposals())), Ok(sample_proposals()));
    assert_eq!(parse_selectors(&emit_selectors(&sample_selectors())), Ok(sample_selectors()));
    let ke = Ke { group: 31, data: &[5; 32] };
    assert_eq!(Ke::parse(&ke.emit()), Ok(ke));
    let notify = Notify { protocol: 3, spi: &[1, 2, 3, 4], kind: notify_type::REKEY_SA, data: b"data" };
    assert_eq!(Notify::parse(&notify.emit()), Ok(notify));
    for kind in [
        IdType::Fqdn,
        IdType::Dn,
        IdType::Ipv4,
        IdType::Ipv6,
        IdType::Rfc822,
        IdType::KeyId,
        IdType::Other(255),
    ] {
        let id = Id { kind, data: b"vpn.example" };
        assert_eq!(Id::parse(&id.emit()), Ok(id));
    }
    let cert = Cert { encoding: Cert::X509, data: &[0x30, 0] };
    assert_eq!(Cert::parse(&cert.emit()), Ok(cert));
    let auth = Auth { method: auth_method::DIGITAL_SIGNATURE, data: &[2, 0x30, 0, 7, 7] };
    assert_eq!(Auth::parse(&auth.emit()), Ok(auth));
    assert_eq!(auth.split_digital_signature(), Ok((&[0x30, 0][..], &[7, 7][..])));
    for delete in [Delete::Ike, Delete::Other, Delete::Esp(vec![]), Delete::Esp(vec![256, 0xffff_ffff])] {
        assert_eq!(Delete::parse(&delete.emit()), Ok(delete));
    }
    let cp = Configuration {
        cfg_type: CfgType::Reply,
        attributes: vec![Attribute { kind: 1, value: &[10, 0, 0, 1] }, Attribute { kind: 3, value: &[] }],
    };
    assert_eq!(Configuration::parse(&cp.emit()), Ok(cp.clone()));
    assert!(cp.asks(3) && !cp.asks(2));
    assert_eq!(parse_cert_request(&emit_cert_request(&[[7; 20], [8; 20]])), Ok(&[[7; 20], [8; 20]][..]));
}

#[test]
fn chain_keeps_order_and_types() {
    let mut chain = Chain::new();
    chain.push(Kind::Nonce, &[1; 16]);
    chain.push(Kind::Sa, &[2]);
    let message = chain.emit_message(header());
    let parsed = Header::parse(&message).unwrap();
    assert!(parsed.covers(&message));
    let payloads = parse_chain(parsed.next_payload, &message[HEADER_LEN..]).unwrap();
    assert_eq!(
        payloads.iter().map(|p| (p.kind, p.body)).collect::<Vec<_>>(),
        [(Kind::Nonce, &[1; 16][..]), (Kind::Sa, &[2][..])]
    );
    assert_eq!(parse_chain(0, &[]), Ok(vec![]), "no payload at all is a chain");
}

#[test]
fn hostile_chains_are_refused() {
    let bad = ChainError::Malformed(Malformed("payload chain"));
    for (name, first, bytes, expected) in [
        ("length 0", 33, vec![0, 0, 0, 0], Err(bad)),
        ("length 3", 33, vec![0, 0, 0, 3], Err(bad)),
        ("past the end", 33, vec![0, 0, 0, 5], Err(bad)),
        ("no end", 33, vec![33, 0, 0, 4], Err(bad)),
        ("trailing octet", 33, vec![0, 0, 0, 4, 0], Err(bad)),
        ("unknown, not critical", 49, vec![0, 0, 0, 5, 1], Ok(0)),
        ("unknown, critical", 200, vec![0, 0x80, 0, 4], Err(ChainError::UnsupportedCritical(200))),
        ("known, critical", 33, vec![0, 0xff, 0, 4], Ok(1)),
        ("64 payloads", 43, [43, 0, 0, 4].repeat(63).into_iter().chain([0, 0, 0, 4]).collect(), Ok(64)),
        ("65 payloads", 43, [43, 0, 0, 4].repeat(64).into_iter().chain([0, 0, 0, 4]).collect(), Err(bad)),
    ] {
        assert_eq!(parse_chain(first, &bytes).map(|p| p.len()), expected, "{name}");
    }
}

#[test]
fn odd_key_lengths_spoil_only_their_transform() {
    let attr = |bytes: &[u8]| {
        let mut t = vec![0, 0, 0, 8 + bytes.len() as u8, 1, 0, 0, 20];
        t.extend(bytes);
        let mut p = vec![0, 0, 0, 8 + t.len() as u8, 1, 1, 0, 1];
        p.extend(t);
        parse_proposals(&p).map(|p| p[0].transforms[0].key_length)
    };
    assert_eq!(attr(&[]), Ok(KeyLength::Absent));
    assert_eq!(attr(&[0x80, 14, 1, 0]), Ok(KeyLength::Bits(256)));
    assert_eq!(attr(&[0x80, 14, 1, 0, 0x80, 14, 1, 0]), Ok(KeyLength::Odd));
    assert_eq!(attr(&[0, 14, 0, 2, 1, 0]), Ok(KeyLength::Odd));
    assert_eq!(attr(&[0x80, 15, 1, 0]), Ok(KeyLength::Odd));
    assert!(attr(&[0, 14, 0, 9, 1, 0]).is_err());
    assert!(parse_proposals(&[]).is_err());
}

#[test]
fn nonces_deletes_selectors_and_fragments_keep_their_bounds() {
    for (len, good) in [(0, false), (15, false), (16, true), (256, true), (257, false), (65000, false)] {
        assert_eq!(parse_nonce(&vec![0; len]).is_ok(), good, "nonce of {len}");
    }
    for bad in
        [&[1, 8, 0, 0][..], &[1, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 1], &[3, 4, 0, 2, 0, 0, 1, 0]]
    {
        assert!(Delete::parse(bad).is_err(), "{bad:?}");
    }
    for bad in [
        &[0, 0, 0, 0][..],
        &[65, 0, 0, 0],
        &[1, 0, 0, 0, 7, 0, 0, 7, 0, 0, 0],
        &[1, 0, 0, 0, 7, 0, 0, 16, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0],
    ] {
        assert!(parse_selectors(bad).is_err(), "{bad:?}");
    }
    for (number, total, good) in [(0, 1, false), (1, 0, false), (1, 1, true), (2, 1, false), (9, 9, true)] {
        let head = emit_protected_head(header(), 35, Some(FragmentNumber { number, total }), 24);
        let message = [&head[..], &[3; 24]].concat();
        let parsed = Header::parse(&message).unwrap();
        let found = Protected::parse(&parsed, &message);
        assert_eq!(found.is_ok(), good, "{number} of {total}");
        if let Ok(found) = found {
            assert_eq!((found.first, found.aad, found.sealed), (35, &head[..], &[3; 24][..]));
        }
    }
    assert_eq!(Protected::strip_padding(&[7, 7, 9, 9, 2]), Ok(&[7, 7][..]));
    assert_eq!(Protected::strip_padding(&[0]), Ok(&[][..]));
    assert!(Protected::strip_padding(&[1]).is_err() && Protected::strip_padding(&[]).is_err());
}

/// Runs every parser over `bytes`, read as whatever it may be.
fn parse_as_everything(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        let _ = header.covers(bytes);
        let _ = Protected::parse(&header, bytes);
        let _ = parse_chain(header.next_payload, bytes.get(HEADER_LEN..).unwrap_or_default());
    }
    let _ =
        (parse_proposals(bytes), parse_selectors(bytes), Configuration::parse(bytes), Delete::parse(bytes));
    let _ =
        (Notify::parse(bytes), Ke::parse(bytes), Id::parse(bytes), Cert::parse(bytes), parse_nonce(bytes));
    let _ = Auth::parse(bytes).and_then(|auth| auth.split_digital_signature().map(|_| ()));
    let _ = (parse_cert_request(bytes).map(<[_]>::len), Protected::strip_padding(bytes).map(<[_]>::len));
}

#[test]
fn truncation_and_byte_flips_never_panic() {
    let cp =
        Configuration { cfg_type: CfgType::Request, attributes: vec![Attribute { kind: 1, value: &[1, 2] }] };
    let mut chain = Chain::new();
    chain.push(Kind::Sa, &emit_proposals(&sample_proposals()));
    chain.push(Kind::TsI, &emit_selectors(&sample_selectors()));
    chain.push(Kind::Cp, &cp.emit());
    let sk = emit_protected_head(header(), 33, Some(FragmentNumber { number: 1, total: 2 }), 0);
    for sample in [
        chain.emit_message(header()),
        sk,
        emit_proposals(&sample_proposals()),
        emit_selectors(&sample_selectors()),
        cp.emit(),
        Delete::Esp(vec![1, 2, 3]).emit(),
    ] {
        for end in 0..=sample.len() {
            parse_as_everything(&sample[..end]);
        }
        for at in 0..sample.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = sample.clone();
                changed[at] ^= flip;
                parse_as_everything(&changed);
            }
        }
    }
}

/// Found by fuzzing: an answer to another major version carries the exchange type that a stranger chose.
#[test]
fn a_message_takes_any_exchange_type() {
    for number in [0, 34, 255] {
        let mut chain = Chain::new();
        chain.push(Kind::Notify, &Notify::new(notify_type::INVALID_MAJOR_VERSION, &[]).emit());
        let message = chain.emit_message(Header { exchange: Exchange::from_u8(number), ..header() });
        let parsed = Header::parse(&message).unwrap();
        assert_eq!(parsed.exchange.number(), number);
        assert!(parsed.covers(&message));
    }
}
