//! N35, N36, N41 to N45 and N47: what has its place when, identities, and messages that are not authentic. N46 (EAP) is
//! where EAP is. Certificates and signatures have files of their own.

use super::*;
use crate::base::Path;
use crate::ike::AuthError;

#[test]
fn n35_nothing_but_ike_auth_before_authentication() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    let child = new_child(&mut client);
    let delete = vec![(Kind::Delete, Delete::Ike.emit())];
    let rekey = vec![
        (Kind::Sa, emit_proposals(&[client.ike_proposal(1, &[9; 8])])),
        (Kind::Nonce, vec![1; 32]),
        (Kind::Ke, Ke { group: 31, data: &[9; 32] }.emit()),
    ];
    for (exchange, payloads) in [
        (Exchange::CreateChildSa, child),
        (Exchange::CreateChildSa, rekey),
        (Exchange::Informational, delete),
        (Exchange::Informational, vec![]),
    ] {
        for (id, response) in [0, 1, 2].into_iter().flat_map(|id| [(id, false), (id, true)]) {
            let message = client.seal(client.header(exchange, id, response), &chain_of(&payloads));
            let sent = world.exchange(client.path, &[message]);
            assert!(sent.is_empty(), "{exchange:?} {id}, response: {response}");
        }
    }
    assert_eq!((world.take_log(), world.responder.stats().child_sas), (vec![], 0));
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()), "the right one still works");
    goes_on(&mut world, &mut client, "N35");
    // Being asked does not keep a half-open IKE SA alive.
    let mut other = half_open(&mut world, 4501);
    world.advance(Policy::default().half_open_lifetime / 2);
    let ping = other.seal(other.header(Exchange::Informational, 1, false), &Chain::new());
    world.exchange(other.path, &[ping]);
    world.advance(Policy::default().half_open_lifetime / 2);
    assert_eq!((world.responder.stats().half_open, world.responder.stats().ike_sas), (0, 1));
}

#[test]
fn n36_ike_auth_out_of_place() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    let chain = chain_of(&client.auth_payloads());
    for id in [0, 2, 5, u32::MAX] {
        let message = client.seal(client.header(Exchange::IkeAuth, id, false), &chain);
        assert!(world.exchange(client.path, &[message]).is_empty(), "message ID {id} first");
        let fragments = client.seal_fragments(client.header(Exchange::IkeAuth, id, false), &chain, 300);
        assert!(world.exchange(client.path, &fragments).is_empty(), "message ID {id} first, in fragments");
    }
    assert_eq!(world.take_log(), NOTHING);
    let request = client.auth_request();
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Ok(()));
    world.take_log();
    assert_eq!(world.exchange(client.path, &request), answer, "the very same again: its answer again");
    for id in [1, 2, 3] {
        let message = client.seal(client.header(Exchange::IkeAuth, id, false), &chain);
        let expected = if id == 1 { answer.clone() } else { vec![] };
        assert_eq!(world.exchange(client.path, &[message]), expected, "message ID {id} when it is over");
    }
    assert_eq!((world.take_log(), world.installed.len()), (vec![], 1));
    goes_on(&mut world, &mut client, "N36");
}

/// IKE_AUTH with these payloads fails in every respect: the notify, nothing installed, no address lent, the IKE SA gone
/// at once. Gives what the operator reads.
pub(super) fn refused(
    world: &mut World,
    client: &mut Initiator,
    payloads: &[(Kind, Vec<u8>)],
    notify: u16,
    case: &str,
) -> AuthError {
    world.notes.clear();
    let before = world.responder.stats();
    let header = client.header(Exchange::IkeAuth, client.next_id, false);
    client.next_id += 1;
    let request = client.seal(header, &chain_of(payloads));
    let answer = world.exchange(client.path, std::slice::from_ref(&request));
    assert_eq!(client.handle_auth(&answer), Err(notify), "{case}");
    let stats = world.responder.stats();
    assert_eq!((world.take_log(), stats.devices, stats.child_sas), (vec![], 0, 0), "{case}");
    assert_eq!(stats.auth_failed, before.auth_failed + 1, "{case}");
    // It answers the same request, and nothing else.
    assert_eq!(world.exchange(client.path, &[request]), answer, "{case}");
    for exchange in [Exchange::IkeAuth, Exchange::CreateChildSa, Exchange::Informational] {
        let message = client.seal(client.header(exchange, client.next_id, false), &Chain::new());
        assert!(world.exchange(client.path, &[message]).is_empty(), "{case}: {exchange:?}");
    }
    let [crate::ike::Event::AuthFailed { why, .. }] = world.notes.as_slice() else {
        panic!("{case}: {:?}", world.notes)
    };
    let why = why.clone();
    let mut bob = world.connect("bob@example.com", 4998);
    assert_eq!(bob.address, Some([198, 19, 255, 2].into()), "{case}: no address was lent");
    says_goodbye(world, &mut bob);
    world.take_log();
    world.advance(60 * SECOND); // the budget of notes
    why
}

#[test]
fn n41_identities_that_are_not_the_certificates() {
    let mut world = World::new();
    let mail = b"alice@example.com";
    for (name, kind, data) in [
        ("another mail address", IdType::Rfc822, &b"bob@example.com"[..]),
        ("a part of it", IdType::Rfc822, b"alice@example.co"),
        ("with a NUL", IdType::Rfc822, b"alice@example.com\0"),
        ("not UTF-8", IdType::Rfc822, b"\xff\xfe"),
        ("empty mail address", IdType::Rfc822, b""),
        ("empty host name", IdType::Fqdn, b""),
        ("empty address", IdType::Ipv4, b""),
        ("empty name", IdType::Dn, b""),
        ("a host name", IdType::Fqdn, mail),
        ("an address", IdType::Ipv4, &[203, 0, 113, 7]),
        ("an address of 17 octets", IdType::Ipv6, &[0; 17]),
        ("the subject of another", IdType::Dn, b"\x30\x00"),
        ("a key ID", IdType::KeyId, mail),
        ("type 0", IdType::Other(0), mail),
        ("type 4", IdType::Other(4), mail),
        ("type 255", IdType::Other(255), mail),
        ("4 KiB", IdType::Rfc822, &[b'a'; 4096]),
    ] {
        let mut client = half_open(&mut world, 4500);
        client.id_i = (kind, data.to_vec());
        let payloads = client.auth_payloads();
        let why = refused(&mut world, &mut client, &payloads, FAILED, name);
        assert_eq!(why, AuthError::NotTheCertificates, "{name}");
    }
    for body in [vec![], vec![3], vec![3, 0, 0]] {
        let mut client = half_open(&mut world, 4500);
        let mut payloads = client.auth_payloads();
        replace(&mut payloads, Kind::IdI, body);
        refused(&mut world, &mut client, &payloads, SYNTAX, "a cut payload");
    }
    nothing_left(&mut world, "N41");
}

#[test]
fn n42_our_identity_is_the_one_asked_for_only_if_it_is_ours() {
    let fqdn = |name: &str| (IdType::Fqdn, name.as_bytes().to_vec());
    for (asked, expected) in [
        (None, fqdn("vpn.example")),
        (Some(fqdn("VPN.EXAMPLE")), fqdn("VPN.EXAMPLE")),
        (Some(fqdn("other.example")), fqdn("vpn.example")),
        (Some(fqdn("")), fqdn("vpn.example")),
        (Some(fqdn("192.0.2.1")), fqdn("192.0.2.1")),
        (Some((IdType::Ipv4, vec![192, 0, 2, 1])), (IdType::Ipv4, vec![192, 0, 2, 1])),
        (Some((IdType::Ipv4, vec![192, 0, 2, 2])), fqdn("vpn.example")),
        (Some((IdType::KeyId, b"vpn.example".to_vec())), fqdn("vpn.example")),
        (Some((IdType::Other(255), b"vpn.example".to_vec())), fqdn("vpn.example")),
    ] {
        let mut world = World::new();
        let mut client = half_open(&mut world, 4500);
        client.id_r.clone_from(&asked);
        let request = client.auth_request();
        let answer = world.exchange(client.path, &request);
        let opened = client.open(&answer);
        let id = Id::parse(opened.body(Kind::IdR).unwrap()).unwrap();
        assert_eq!((id.kind, id.data.to_vec()), expected, "{asked:?}");
        assert_eq!(client.handle_auth(&answer), Ok(()), "what is signed is what is said");
        goes_on(&mut world, &mut client, "N42");
    }
}

#[test]
fn n43_certificates_by_reference_in_masses_and_of_great_length() {
    let mut world = World::new();
    let reference =
        |encoding| Cert { encoding, data: &[&[1; 20][..], b"http://192.0.2.9/c"].concat() }.emit();
    for encoding in [0, 1, 7, 11, 12, 13, 200] {
        let mut client = half_open(&mut world, 4500);
        let mut payloads = client.auth_payloads();
        replace(&mut payloads, Kind::Cert, reference(encoding));
        let why = refused(&mut world, &mut client, &payloads, FAILED, "no certificate but a reference");
        assert_eq!(why, AuthError::NoCertificate, "encoding {encoding}: nothing is fetched");
    }
    let certs = |client: &mut Initiator, count: usize, body: Vec<u8>| {
        let mut payloads = client.auth_payloads();
        payloads.extend(vec![(Kind::Cert, body); count]);
        payloads
    };
    for (name, count, long) in [("50", 49, false), ("one of 17 KiB", 1, true)] {
        let mut client = half_open(&mut world, 4500);
        let own = Cert { encoding: Cert::X509, data: &client.cert.cert_der }.emit();
        let body = if long { [vec![Cert::X509], vec![0x30; 17 << 10]].concat() } else { own };
        let payloads = certs(&mut client, count, body);
        refused(&mut world, &mut client, &payloads, SYNTAX, name);
    }
    // As long as a datagram can be.
    let mut client = half_open(&mut world, 4500);
    let payloads = certs(&mut client, 1, [vec![Cert::X509], vec![0x30; 60 << 10]].concat());
    refused(&mut world, &mut client, &payloads, SYNTAX, "60 KiB");
    for body in [vec![], vec![Cert::X509], [vec![Cert::X509], vec![0x30, 0x82, 0xff, 0xff]].concat()] {
        let mut client = half_open(&mut world, 4500);
        let mut payloads = client.auth_payloads();
        let notify = if body.is_empty() { SYNTAX } else { FAILED };
        replace(&mut payloads, Kind::Cert, body);
        refused(&mut world, &mut client, &payloads, notify, "a certificate that is none");
    }
    // Beside the certificate itself references do no harm.
    let mut client = half_open(&mut world, 4500);
    let mut payloads = client.auth_payloads();
    payloads.insert(0, (Kind::Cert, reference(12)));
    payloads.extend(vec![(Kind::Cert, reference(13)); 20]);
    assert_eq!(authenticate(&mut world, &mut client, &payloads), Ok(()));
    goes_on(&mut world, &mut client, "N43");
}

#[test]
fn n44_certificate_requests_of_any_content() {
    for body in [
        vec![],
        vec![Cert::X509],
        [vec![Cert::X509], vec![1; 19]].concat(),
        [vec![Cert::X509], vec![1; 21]].concat(),
        [vec![Cert::X509], vec![1; 53 * 20]].concat(),
        [vec![0], vec![1; 20]].concat(),
        [vec![200], vec![1; 7]].concat(),
    ] {
        let mut world = World::new();
        let mut client = stranger(&world);
        let mut hello = Hello::of(&mut client);
        hello.payloads.push((Kind::CertReq, body.clone()));
        assert_eq!(told(&world.exchange(client.path, &[hello.message()])), Told::Accepted, "{body:?}");
        let mut client = half_open(&mut world, 4501);
        let mut payloads = client.auth_payloads();
        payloads.extend([(Kind::CertReq, body.clone()), (Kind::CertReq, body.clone())]);
        assert_eq!(authenticate(&mut world, &mut client, &payloads), Ok(()), "{body:?}");
        world.advance(Policy::default().half_open_lifetime);
        goes_on(&mut world, &mut client, "N44");
    }
}

#[test]
fn n45_initial_contact_of_somebody_else_or_in_the_clear() {
    let mut world = World::new();
    let mut alice = world.connect("alice@example.com", 4500);
    world.take_log();
    let mut bob = Initiator::new(&world, world.client_cert("bob@example.com"), 4501);
    bob.initial_contact = true;
    assert_eq!(bob.connect(&mut world), Ok(()));
    assert_eq!(world.take_log(), ["install", "connected bob@example.com 198.19.255.3"]);
    assert!(world.take_sent().is_empty(), "alice is not even asked");
    alice.request(&mut world, Exchange::Informational, &[]);
    // In the clear it is nobody's word: neither before nor with the SPIs of alice.
    let mut mallory = stranger(&world);
    mallory.path = alice.path;
    let mut hello = Hello::of(&mut mallory);
    hello.payloads.push((Kind::Notify, Notify::new(notify_type::INITIAL_CONTACT, &[]).emit()));
    assert_eq!(told(&world.exchange(mallory.path, &[hello.message()])), Told::Accepted);
    let clear = chain_of(&[(Kind::Notify, Notify::new(notify_type::INITIAL_CONTACT, &[]).emit())]);
    for exchange in [Exchange::IkeAuth, Exchange::Informational] {
        let message = clear.emit_message(alice.header(exchange, alice.next_id, false));
        assert!(world.exchange(alice.path, &[message]).is_empty());
    }
    world.advance(Policy::default().half_open_lifetime);
    assert_eq!(world.take_log(), NOTHING);
    assert_eq!(world.responder.stats().devices, 2);
    says_goodbye(&mut world, &mut bob);
    world.take_log();
    goes_on(&mut world, &mut alice, "N45");
}

#[test]
fn n47_every_bit_of_a_protected_message_counts() {
    let mut world = World::new();
    let mut client = world.connect("alice@example.com", 4500);
    world.take_log();
    let goodbye = client.protected_request(Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
    client.next_id -= 1;
    let elsewhere = Path { remote: ([192, 0, 2, 200], 9).into(), ..client.path };
    let heard = world.heard;
    for bit in 0..goodbye[0].len() * 8 {
        let mut flipped = goodbye[0].clone();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        world.handle(Input::Datagram { path: elsewhere, bytes: &flipped });
        let sent = world.take_sent();
        // Only of another version is anything said, and that is what any stranger is told.
        let version = flipped[17] >> 4;
        assert_eq!(sent.len(), usize::from(version > 2), "bit {bit}");
        assert!(sent.iter().all(|bytes| bytes.len() <= flipped.len()));
    }
    assert_eq!((world.take_log(), world.heard), (vec![], heard), "nobody moved, nobody was heard");
    // Nor does it count as a sign of life: the client is asked when it would have been without all this.
    goes_on(&mut world, &mut client, "N47");
    let spoilt = |client: &mut Initiator| {
        let mut ping = client.protected_request(Exchange::Informational, &[]);
        client.next_id -= 1;
        *ping[0].last_mut().unwrap() ^= 1;
        ping.remove(0)
    };
    let after = Policy::default().liveness_after;
    while world.take_sent().is_empty() {
        world.advance(SECOND);
        let bytes = spoilt(&mut client);
        world.handle(Input::Datagram { path: client.path, bytes: &bytes });
        assert!(world.now.mono < Duration::from_secs(1100) + after, "the client is never asked");
    }
}
