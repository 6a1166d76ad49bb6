//! N53 to N58: Child SAs, traffic selectors and Deletes.

use std::net::Ipv4Addr;

use super::*;
use crate::base::TrafficSelector;
use crate::crypto::Group;
use crate::ike::selector::any_between;

/// One selector with any fields: type, protocol, length field, ports, addresses.
fn ts(kind: u8, protocol: u8, length: u16, ports: (u16, u16), addresses: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, protocol];
    out.extend(length.to_be_bytes());
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(addresses);
    out
}

fn list(selectors: &[Vec<u8>]) -> Vec<u8> {
    [vec![selectors.len() as u8, 0, 0, 0], selectors.concat()].concat()
}

const PORTS: (u16, u16) = (0, 65535);
const ALL4: [u8; 8] = [0, 0, 0, 0, 255, 255, 255, 255];

/// IKE_AUTH with other selectors; the error, or what they were narrowed to.
type Narrowed = Result<(Vec<TrafficSelector>, Vec<TrafficSelector>), u16>;

fn narrowed(world: &mut World, ts_i: Option<&[u8]>, ts_r: Option<&[u8]>) -> Narrowed {
    let mut client = half_open(world, 4500);
    let mut payloads = client.auth_payloads();
    for (kind, body) in [(Kind::TsI, ts_i), (Kind::TsR, ts_r)] {
        match body {
            Some(body) => replace(&mut payloads, kind, body.to_vec()),
            None => payloads.retain(|payload| payload.0 != kind),
        }
    }
    let result = authenticate(world, &mut client, &payloads);
    let child = client.children.last().cloned();
    says_goodbye(world, &mut client);
    world.take_log();
    result.map(|()| child.unwrap()).map(|child| (child.ts_i, child.ts_r))
}

#[test]
fn n53_selectors_of_every_kind() {
    let mut world = World::new();
    let all = emit_selectors(&[everything()]);
    let unacceptable = notify_type::TS_UNACCEPTABLE;
    let v6 = [[0; 16], [0xff; 16]].concat();
    let whole = ts(7, 0, 16, PORTS, &ALL4);
    let cases: Vec<(&str, Option<Vec<u8>>, u16)> = vec![
        ("no payload", None, SYNTAX),
        ("empty body", Some(vec![]), SYNTAX),
        ("0 selectors", Some(list(&[])), SYNTAX),
        ("255 selectors", Some(list(&vec![whole.clone(); 255])), SYNTAX),
        ("65 selectors", Some(list(&vec![whole.clone(); 65])), SYNTAX),
        ("fewer than are said", Some([vec![2, 0, 0, 0], whole.clone()].concat()), SYNTAX),
        ("more than are said", Some([vec![1, 0, 0, 0], whole.clone(), whole.clone()].concat()), SYNTAX),
        ("start behind end", Some(list(&[ts(7, 0, 16, PORTS, &[9, 0, 0, 0, 1, 0, 0, 0])])), SYNTAX),
        ("IPv6 start behind end", Some(list(&[ts(8, 0, 40, PORTS, &[[9; 16], [1; 16]].concat())])), SYNTAX),
        ("length 0", Some(list(&[ts(7, 0, 0, PORTS, &ALL4)])), SYNTAX),
        ("length 3", Some(list(&[ts(7, 0, 3, PORTS, &ALL4)])), SYNTAX),
        ("length 7", Some(list(&[ts(7, 0, 7, PORTS, &ALL4)])), SYNTAX),
        ("length 15", Some(list(&[ts(7, 0, 15, PORTS, &ALL4)])), SYNTAX),
        ("length 17", Some(list(&[ts(7, 0, 17, PORTS, &[&ALL4[..], &[0]].concat())])), SYNTAX),
        ("length 39", Some(list(&[ts(8, 0, 39, PORTS, &v6[..31])])), SYNTAX),
        ("length 41", Some(list(&[ts(8, 0, 41, PORTS, &[&v6[..], &[0]].concat())])), SYNTAX),
        ("IPv4 in the length of IPv6", Some(list(&[ts(7, 0, 40, PORTS, &v6)])), SYNTAX),
        ("length beyond the payload", Some(list(&[ts(7, 0, 65535, PORTS, &ALL4)])), SYNTAX),
        ("IPv6 only", Some(list(&[ts(8, 0, 40, PORTS, &v6)])), unacceptable),
        ("OPAQUE ports only", Some(list(&[ts(7, 0, 16, (65535, 0), &ALL4)])), unacceptable),
        ("unknown type only", Some(list(&[ts(9, 0, 16, PORTS, &ALL4)])), unacceptable),
    ];
    for (name, body, expected) in &cases {
        let body = body.as_deref();
        assert_eq!(narrowed(&mut world, body, Some(&all)), Err(*expected), "TSi: {name}");
        assert_eq!(narrowed(&mut world, Some(&all), body), Err(*expected), "TSr: {name}");
        assert_eq!((world.installed.len(), world.responder.stats().devices), (0, 0), "{name}");
    }
    let address = Ipv4Addr::new(198, 19, 255, 2);
    let mine = any_between(address, address);
    let (tcp, web) = (
        TrafficSelector { protocol: 6, ..everything() },
        TrafficSelector { protocol: 17, port_first: 53, port_last: 80, ..everything() },
    );
    for (name, ts_i, ts_r, expected) in [
        ("64 selectors", list(&vec![whole.clone(); 64]), all.clone(), (vec![mine], vec![everything()])),
        ("TCP only", all.clone(), list(&[ts(7, 6, 16, PORTS, &ALL4)]), (vec![mine], vec![tcp])),
        (
            "ports",
            list(&[ts(7, 17, 16, (7, 9), &ALL4)]),
            list(&[ts(7, 17, 16, (53, 80), &ALL4)]),
            (vec![TrafficSelector { protocol: 17, port_first: 7, port_last: 9, ..mine }], vec![web]),
        ),
        (
            "a good one among odd ones",
            list(&[ts(9, 0, 16, PORTS, &ALL4), ts(7, 0, 16, (9, 1), &ALL4), whole.clone()]),
            list(&[ts(8, 0, 40, PORTS, &v6), whole]),
            (vec![mine], vec![everything()]),
        ),
    ] {
        assert_eq!(narrowed(&mut world, Some(&ts_i), Some(&ts_r)), Ok(expected), "{name}");
    }
    nothing_left(&mut world, "N53");
}

/// CREATE_CHILD_SA with REKEY_SA for `spi`, and these selectors.
fn rekey(
    world: &mut World,
    client: &mut Initiator,
    notify: &Notify<'_>,
    selectors: Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)>,
) -> Opened {
    let mut payloads = new_child(client);
    payloads.insert(0, (Kind::Notify, notify.emit()));
    if let Some((ts_i, ts_r)) = selectors {
        replace(&mut payloads, Kind::TsI, emit_selectors(&ts_i));
        replace(&mut payloads, Kind::TsR, emit_selectors(&ts_r));
    }
    client.request(world, Exchange::CreateChildSa, &payloads)
}

/// Deletes all Child SAs of a client but the last one.
pub(super) fn delete_older(world: &mut World, client: &mut Initiator) {
    let (newest, older) = client.children.split_last().unwrap();
    let older: Vec<_> = older.iter().map(|child| child.spi).collect();
    let newest = newest.clone();
    client.request(world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(older).emit())]);
    client.children = vec![newest];
    assert_eq!(world.installed.len(), 1);
}

#[test]
fn n54_rekeys_with_other_selectors_or_of_nothing() {
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    let net = |a: [u8; 4], b: [u8; 4]| any_between(Ipv4Addr::from(a), Ipv4Addr::from(b));
    let company = net([10, 0, 0, 0], [10, 255, 255, 255]);
    let host = Ipv4Addr::new(198, 19, 255, 1);
    world.handle(Input::Plan(crate::ike::ClientPlan {
        ts: vec![company],
        ..crate::ike::ClientPlan::full_tunnel(host)
    }));
    client.connect(&mut world).unwrap();
    let first = client.children[0].clone();
    let mine = first.ts_i.clone();
    let part = net([10, 1, 0, 0], [10, 1, 255, 255]);
    for (name, offered, expected) in [
        ("wider", (vec![everything()], vec![everything()]), first.ts_r.clone()),
        (
            "partly outside",
            (vec![everything()], vec![net([9, 0, 0, 0], [10, 1, 255, 255])]),
            vec![net([10, 0, 0, 0], [10, 1, 255, 255])],
        ),
        ("narrower", (vec![everything()], vec![part]), vec![part]),
        ("wider again, which it does not get", (vec![everything()], vec![everything()]), vec![part]),
    ] {
        let spi = client.children[0].spi.to_be_bytes();
        let notify = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
        let opened = rekey(&mut world, &mut client, &notify, Some(offered));
        assert_eq!(opened.error(), None, "{name}");
        client.take_child(&opened);
        let new = client.children.last().unwrap();
        assert_eq!((&new.ts_i, &new.ts_r), (&mine, &expected), "{name}");
        delete_older(&mut world, &mut client);
    }
    let spi = client.children[0].spi.to_be_bytes();
    let esp = |spi| Notify { protocol: protocol::ESP, spi, kind: notify_type::REKEY_SA, data: &[] };
    let foreign = net([1, 0, 0, 0], [1, 0, 0, 9]);
    let ours = client.children[0].peer_spi.to_be_bytes();
    let unacceptable = notify_type::TS_UNACCEPTABLE;
    let not_found = notify_type::CHILD_SA_NOT_FOUND;
    for (name, notify, selectors, expected) in [
        ("disjoint TSr", esp(&spi[..]), Some((vec![everything()], vec![foreign])), unacceptable),
        ("disjoint TSi", esp(&spi), Some((vec![foreign], vec![everything()])), unacceptable),
        ("an unknown SPI", esp(&[0, 0, 9, 9]), None, not_found),
        ("our SPI", esp(&ours), None, not_found),
        ("protocol 0", Notify { protocol: 0, ..esp(&spi) }, None, SYNTAX),
        ("AH", Notify { protocol: 2, ..esp(&spi) }, None, SYNTAX),
        ("IKE", Notify { protocol: 1, ..esp(&spi) }, None, SYNTAX),
        ("no SPI", esp(&[]), None, SYNTAX),
        ("3 octets of SPI", esp(&[1, 2, 3]), None, SYNTAX),
        ("8 octets of SPI", esp(&[1; 8]), None, SYNTAX),
    ] {
        let refused = rekey(&mut world, &mut client, &notify, selectors);
        assert_eq!(refused.error(), Some(expected), "{name}");
        if expected == not_found {
            let told = Notify::parse(refused.body(Kind::Notify).unwrap()).unwrap();
            assert_eq!((told.protocol, told.spi), (protocol::ESP, notify.spi), "{name}");
        }
    }
    goes_on(&mut world, &mut client, "N54");
}

#[test]
fn n55_rekeys_with_and_without_key_exchange() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let (p256, p384, x25519) = (Some(Group::P256), Some(Group::P384), Some(Group::X25519));
    for (name, ke, offered) in [
        ("with, where the first had none", p256, &[p256][..]),
        ("without, where the one before had one", None, &[None]),
        ("a group", x25519, &[x25519]),
        ("another group", p384, &[p384]),
        ("a group or none, with KE", p256, &[p256, None]),
        ("a group or none, without KE", None, &[p256, None]),
        ("none or a group, without KE", None, &[None, p256]),
    ] {
        let old = client.children[0].spi;
        assert!(client.rekey_child(&mut world, old, ke, offered).is_ok(), "{name}");
        delete_older(&mut world, &mut client);
    }
    // NONE within one list of groups.
    let mut payloads = new_child(&mut client);
    let spi = client.children[0].spi.to_be_bytes();
    let mut proposals = parse_proposals(&payloads[0].1).unwrap();
    proposals[0].transforms.extend([19, 0, 20].map(|id| Transform::new(transform_type::KE, id)));
    payloads[0].1 = emit_proposals(&proposals);
    let notify = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
    payloads.push((Kind::Notify, notify.emit()));
    let opened = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!((opened.error(), opened.body(Kind::Ke)), (None, None), "NONE is taken where there is no KE");
    assert_eq!(client.take_child(&opened), None);
    delete_older(&mut world, &mut client);
    // What cannot be: the group is told, and nothing was made.
    world.advance(Duration::from_secs(60)); // a client may rekey ten times a minute
    let old = client.children[0].spi;
    for (ke, offered) in [(None, &[p256][..]), (x25519, &[p256]), (p384, &[p256])] {
        let refused = client.rekey_child(&mut world, old, ke, offered).map(|child| child.spi);
        assert_eq!(refused, Err(notify_type::INVALID_KE_PAYLOAD), "{ke:?} for {offered:?}");
    }
    assert_eq!(world.installed.len(), 1);
    assert!(client.rekey_child(&mut world, old, p256, &[p256]).is_ok(), "and then it works");
    delete_older(&mut world, &mut client);
    goes_on(&mut world, &mut client, "N55");
}

#[test]
fn n56_rekeys_in_a_row_and_children_without_end() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    let old = client.children[0].clone();
    let new = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
    for _ in 0..3 {
        let again = client.rekey_child(&mut world, old.spi, None, &[None]).map(|child| child.spi);
        assert_eq!(again, Err(notify_type::TEMPORARY_FAILURE), "it is being replaced already");
    }
    assert_eq!(world.installed.len(), 2);
    world.take_log();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(vec![new.spi]).emit())]);
    assert_eq!(world.take_log(), ["use", "remove"], "the old one is in charge again");
    client.children.truncate(1);
    assert!(client.rekey_child(&mut world, old.spi, None, &[None]).is_ok());
    delete_older(&mut world, &mut client);
    let mut made = vec![];
    for number in 2..=101 {
        let payloads = new_child(&mut client);
        let answer = client.request(&mut world, Exchange::CreateChildSa, &payloads);
        let expected = (number > 4).then_some(notify_type::NO_ADDITIONAL_SAS);
        assert_eq!(answer.error(), expected, "Child SA {number}");
        if expected.is_none() {
            made.push(world.installed.last().unwrap().spi_out);
        }
    }
    assert_eq!((world.responder.stats().child_sas, world.installed.len()), (4, 4));
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Esp(made).emit())]);
    goes_on(&mut world, &mut client, "N56");
}

#[test]
fn n57_rekeys_of_the_ike_sa() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let offer = |client: &Initiator, spi: u64| {
        let pair = crate::crypto::dh::KeyPair::generate(Group::X25519).unwrap();
        [
            (Kind::Sa, emit_proposals(&[client.ike_proposal(1, &spi.to_be_bytes())])),
            (Kind::Nonce, vec![1; 32]),
            (Kind::Ke, Ke { group: 31, data: pair.public() }.emit()),
        ]
    };
    let payloads = offer(&client, 0);
    let refused = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!(refused.error(), Some(SYNTAX), "SPI 0");
    assert_eq!(world.responder.stats().ike_sas, 1);
    client.rekey_ike(&mut world, 1).unwrap();
    assert_eq!(client.next_id, 0, "message IDs begin again");
    let child = client.children[0].clone();
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[]);
    // The old one makes nothing and has nothing: the Child SA is of the new one.
    let payloads = new_child(&mut client);
    let request = client.protected_request(Exchange::CreateChildSa, &payloads);
    assert!(world.exchange(client.path, &request).is_empty(), "no Child SA on the old one");
    client.next_id -= 1;
    let delete = [(Kind::Delete, Delete::Esp(vec![child.spi]).emit())];
    let answer = client.request(&mut world, Exchange::Informational, &delete);
    assert!(answer.payloads().is_empty(), "it is not the old one's to delete");
    client.swap_old();
    client.rekey_child(&mut world, child.spi, None, &[None]).unwrap();
    delete_older(&mut world, &mut client);
    client.swap_old();
    client.request(&mut world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    client.swap_old();
    world.advance(Policy::default().half_open_lifetime);
    assert!(world.take_log().iter().all(|line| !line.starts_with("gone")));
    goes_on(&mut world, &mut client, "N57");
    // The SPI of the peer may be the one that it had: ours tells them apart.
    let payloads = offer(&client, client.spi_i);
    let opened = client.request(&mut world, Exchange::CreateChildSa, &payloads);
    assert_eq!(opened.error(), None);
    let proposals = parse_proposals(opened.body(Kind::Sa).unwrap()).unwrap();
    assert_ne!(proposals[0].spi, client.spi_r.to_be_bytes());
    client.request(&mut world, Exchange::Informational, &[]);
    assert_eq!(world.responder.stats().devices, 1);
}

#[test]
fn n58_deletes_of_every_kind() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let child = client.children[0].clone();
    let esp = |spis: Vec<u32>| Delete::Esp(spis).emit();
    let delete = |world: &mut World, client: &mut Initiator, bodies: &[Vec<u8>]| {
        let payloads: Vec<_> = bodies.iter().map(|body| (Kind::Delete, body.clone())).collect();
        client.request(world, Exchange::Informational, &payloads)
    };
    for (name, bodies) in [
        ("none", vec![]),
        ("0 SPIs", vec![esp(vec![])]),
        ("an unknown SPI", vec![esp(vec![0x0bad_cafe])]),
        ("our own SPI", vec![esp(vec![child.peer_spi])]),
        ("1000 unknown ones", vec![esp((1000..2000).collect())]),
        ("AH", vec![[&[2, 4, 0, 1][..], &child.spi.to_be_bytes()].concat()]),
        ("another protocol", vec![[&[9, 4, 0, 1][..], &child.spi.to_be_bytes()].concat()]),
        ("several of nothing", vec![esp(vec![]), vec![2, 4, 0, 0], esp(vec![5])]),
    ] {
        assert!(delete(&mut world, &mut client, &bodies).payloads().is_empty(), "{name}");
    }
    let four = [&[3, 4, 0, 2][..], &child.spi.to_be_bytes()].concat();
    for (name, body) in [
        ("IKE with SPI", [&[1, 8, 0, 1][..], &client.spi_i.to_be_bytes()].concat()),
        ("IKE with SPI size 8, none", vec![1, 8, 0, 0]),
        ("ESP with SPI size 8", [&[3, 8, 0, 1][..], &[0; 4], &child.spi.to_be_bytes()].concat()),
        ("ESP with SPI size 0", vec![3, 0, 0, 1]),
        ("more than there are", four),
        ("fewer than there are", [&[3, 4, 0, 0][..], &child.spi.to_be_bytes()].concat()),
        ("cut", vec![3, 4]),
        ("empty", vec![]),
    ] {
        // One that is wrong spoils the whole message, the good one beside it included.
        let refused = delete(&mut world, &mut client, &[esp(vec![child.spi]), body]);
        assert_eq!(refused.error(), Some(SYNTAX), "{name}");
    }
    assert_eq!(world.take_log(), NOTHING);
    goes_on(&mut world, &mut client, "N58");
    // Several at once: all of them, each named once.
    let mut spis = vec![child.spi];
    for _ in 0..3 {
        let payloads = new_child(&mut client);
        client.request(&mut world, Exchange::CreateChildSa, &payloads);
        spis.push(world.installed.last().unwrap().spi_out);
    }
    let ours: Vec<_> = world.installed.iter().map(|child| child.spi_in).collect();
    world.take_log();
    let bodies = [esp(vec![spis[0], spis[0]]), esp(spis[1..].to_vec()), esp(spis.clone())];
    let answer = delete(&mut world, &mut client, &bodies);
    assert_eq!(Delete::parse(answer.body(Kind::Delete).unwrap()), Ok(Delete::Esp(ours)));
    assert_eq!(world.take_log(), ["remove"; 4]);
    says_goodbye(&mut world, &mut client);
    assert_eq!(world.take_log(), ["gone alice@example.com: disconnected by the client"]);
    nothing_left(&mut world, "N58");
}
