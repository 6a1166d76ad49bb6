//! N59 and N60: configuration requests, and notifies that are nothing to us.

use std::net::Ipv4Addr;

use super::child::delete_older;
use super::*;

/// A name, the CP payload if there is one, and what comes of IKE_AUTH.
type Case = (&'static str, Option<Vec<u8>>, Result<(), u16>);

#[test]
fn n59_configuration_requests_of_every_kind() {
    let cp = |cfg_type, attributes: &[(u16, &[u8])]| {
        let attributes = attributes.iter().map(|(kind, value)| Attribute { kind: *kind, value }).collect();
        Configuration { cfg_type, attributes }.emit()
    };
    let request = |attributes: &[(u16, &[u8])]| cp(CfgType::Request, attributes);
    let (address, required) = (Some(Ipv4Addr::new(198, 19, 255, 3)), notify_type::FAILED_CP_REQUIRED);
    let dns = attribute::INTERNAL_IP4_DNS;
    let cases: Vec<Case> = vec![
        ("unknown attributes", Some(request(&[(1, &[]), (999, b"x"), (0x7fff, &[])])), Ok(())),
        ("Microsoft's", Some(request(&[(1, &[]), (23456, &[]), (23457, &[])])), Ok(())),
        ("an address in use", Some(request(&[(1, &[198, 19, 255, 2])])), Ok(())),
        ("our own address", Some(request(&[(1, &[198, 19, 255, 1])])), Ok(())),
        ("an address of elsewhere", Some(request(&[(1, &[8, 8, 8, 8])])), Ok(())),
        ("two addresses", Some(request(&[(1, &[]), (1, &[])])), Ok(())),
        ("an address of 3 octets", Some(request(&[(1, &[1, 2, 3])])), Ok(())),
        ("an address of 16 octets", Some(request(&[(1, &[1; 16]), (dns, &[1; 5])])), Ok(())),
        ("a reserved bit", Some(request(&[(0x8001, &[])])), Ok(())),
        ("no CP", None, Err(required)),
        ("no attribute", Some(request(&[])), Err(required)),
        ("DNS only", Some(request(&[(dns, &[])])), Err(required)),
        ("a domain only", Some(request(&[(25, &[])])), Err(required)),
        ("IPv6 only, which is off", Some(request(&[(8, &[])])), Err(required)),
        ("CFG_SET", Some(cp(CfgType::Other(3), &[(1, &[])])), Err(required)),
        ("CFG_ACK", Some(cp(CfgType::Other(4), &[(1, &[])])), Err(required)),
        ("CFG_REPLY", Some(cp(CfgType::Reply, &[(1, &[10, 0, 0, 1])])), Err(required)),
        ("type 0", Some(cp(CfgType::Other(0), &[(1, &[])])), Err(required)),
        ("a length beyond the payload", Some(vec![1, 0, 0, 0, 0, 1, 0, 9]), Err(SYNTAX)),
        ("a cut attribute", Some(vec![1, 0, 0, 0, 0, 1, 0]), Err(SYNTAX)),
        ("a cut header", Some(vec![1, 0]), Err(SYNTAX)),
    ];
    for (name, body, expected) in cases {
        let mut world = World::new();
        let mut other = world.connect("carol@example.com", 4600);
        let mut client = half_open(&mut world, 4500);
        let mut payloads = client.auth_payloads();
        match body {
            Some(body) => replace(&mut payloads, Kind::Cp, body),
            None => payloads.retain(|payload| payload.0 != Kind::Cp),
        }
        assert_eq!(authenticate(&mut world, &mut client, &payloads), expected, "{name}");
        if expected.is_ok() {
            says_goodbye(&mut world, &mut other);
            world.take_log();
            assert_eq!(client.address, address, "{name}: the next free one, and no other");
            goes_on(&mut world, &mut client, "N59");
            // In CREATE_CHILD_SA it is nothing.
            let mut payloads = new_child(&mut client);
            payloads.push((Kind::Cp, request(&[(1, &[])])));
            let opened = client.request(&mut world, Exchange::CreateChildSa, &payloads);
            assert_eq!((opened.error(), opened.body(Kind::Cp)), (None, None), "{name}");
            assert_eq!(world.installed.last().unwrap().address, address.unwrap());
        } else {
            assert_eq!((client.address, world.installed.len()), (None, 1), "{name}: no address, no Child SA");
            says_goodbye(&mut world, &mut client);
            says_goodbye(&mut world, &mut other);
            world.take_log();
            nothing_left(&mut world, "N59");
        }
    }
}

#[test]
fn n60_notifies_that_are_nothing_to_us() {
    // Among them are USE_TRANSPORT_MODE, IPCOMP_SUPPORTED, NON_FIRST_FRAGMENTS_ALSO, ESP_TFC_PADDING_NOT_SUPPORTED,
    // REDIRECT_SUPPORTED, then status and error types that nobody knows, and private ones.
    let kinds = [16391, 16387, 16395, 16394, 16406, 16417, 16500, 40_000, 65_535, 9000, 16_383, 8192, 12_345];
    let notifies = || kinds.map(|kind| (Kind::Notify, Notify::new(kind, b"what").emit()));
    let asked = |payloads: &[Payload<'_>]| -> Vec<u16> {
        let bodies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
        bodies
            .map(|payload| Notify::parse(payload.body).unwrap().kind)
            .filter(|k| kinds.contains(k))
            .collect()
    };
    let mut world = World::new();
    let mut client = stranger(&world);
    let mut hello = Hello::of(&mut client);
    hello.payloads.splice(0..0, notifies());
    let sent = world.exchange(client.path, &[hello.message()]);
    assert_eq!(told(&sent), Told::Accepted);
    let first = Header::parse(&sent[0]).unwrap().next_payload;
    assert!(asked(&parse_chain(first, &sent[0][HEADER_LEN..]).unwrap()).is_empty(), "none is echoed");
    let mut client = half_open(&mut world, 4501);
    let mut payloads = client.auth_payloads();
    payloads.extend(notifies());
    let header = client.header(Exchange::IkeAuth, 1, false);
    client.next_id = 2;
    let message = client.seal(header, &chain_of(&payloads));
    let answer = world.exchange(client.path, &[message]);
    assert!(asked(&client.open(&answer).payloads()).is_empty());
    assert_eq!(client.handle_auth(&answer), Ok(()), "tunnel mode, uncompressed");
    let old = client.children[0].spi.to_be_bytes();
    let mut payloads = new_child(&mut client);
    let rekey = Notify { protocol: protocol::ESP, spi: &old, kind: notify_type::REKEY_SA, data: &[] };
    payloads.push((Kind::Notify, rekey.emit()));
    payloads.extend(notifies());
    let opened = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!((opened.error(), asked(&opened.payloads())), (None, vec![]));
    client.take_child(&opened);
    delete_older(&mut world, &mut client);
    world.take_log();
    let opened = client.request(&mut world, Exchange::Informational, &notifies());
    assert!(opened.payloads().is_empty());
    // Nor does a notify that is none end anything.
    for body in [vec![], vec![0], vec![0, 9, 0x40, 0], vec![3, 255, 0, 24, 1]] {
        let opened = client.request(&mut world, Exchange::Informational, &[(Kind::Notify, body)]);
        assert!(opened.payloads().is_empty());
    }
    world.advance(Policy::default().half_open_lifetime);
    assert_eq!(world.take_log(), NOTHING);
    goes_on(&mut world, &mut client, "N60");
}
