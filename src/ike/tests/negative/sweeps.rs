//! Every truncation, and every single octet changed, of the messages of a whole dialogue: as they are sent, and inside
//! protection (sealed after the change).

use super::*;

/// The `index`th of what may become of `octets`: first all beginnings, then all copies of which one octet is changed, one
/// bit of it or all.
fn spoilt_at(octets: &[u8], index: usize) -> Option<Vec<u8>> {
    let Some(change) = index.checked_sub(octets.len()) else { return Some(octets[..index].to_vec()) };
    let at = change / 2;
    let mut changed = octets.to_vec();
    *changed.get_mut(at)? ^= if change % 2 == 0 { 1 << (at % 8) } else { 0xff };
    Some(changed)
}

/// All of them.
fn spoilt(octets: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..).map_while(|index| spoilt_at(octets, index))
}

/// Delivers all that may have become of `message`, which has no effect but answers to strangers.
fn sweep(world: &mut World, client: &Initiator, message: &[u8], case: &str) {
    let sas = world.responder.stats().ike_sas;
    for bytes in spoilt(message) {
        world.handle(Input::Datagram { path: client.path, bytes: &bytes });
        for (_, answer) in world.sent.drain(..) {
            assert!(answer.len() <= bytes.len() && bytes[17] >> 4 > 2, "{case}: what could be answered?");
        }
    }
    assert_eq!((world.take_log(), world.responder.stats().ike_sas), (vec![], sas), "{case}");
}

#[test]
fn every_message_cut_and_changed_on_its_way() {
    let mut world = World::new();
    let mut client = stranger(&world);
    let request = client.init_request();
    // The initial request is nobody's yet: what is left of it may be good, within what strangers are granted.
    for bytes in spoilt(&request) {
        world.handle(Input::Datagram { path: client.path, bytes: &bytes });
        assert!(world.sent.drain(..).all(|(_, answer)| answer.len() <= 3 * bytes.len()));
        assert!(world.responder.stats().half_open <= Policy::default().cookie_threshold_per_source);
    }
    nothing_left(&mut world, "IKE_SA_INIT");
    // Its answer, sent back to us.
    let mut client = stranger(&world);
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    sweep(&mut world, &client, &answer[0], "the answer to IKE_SA_INIT");
    assert_eq!(client.handle_init(&answer), InitAnswer::Done);
    // IKE_AUTH in pieces. One that is changed does not keep the good one out.
    let chain = chain_of(&client.auth_payloads());
    let fragments = client.seal_fragments(client.header(Exchange::IkeAuth, 1, false), &chain, 400);
    let (last, others) = fragments.split_last().unwrap();
    for fragment in others {
        sweep(&mut world, &client, fragment, "a piece of IKE_AUTH");
        assert!(world.exchange(client.path, std::slice::from_ref(fragment)).is_empty());
    }
    sweep(&mut world, &client, last, "the last piece of IKE_AUTH");
    let answer = world.exchange(client.path, std::slice::from_ref(last));
    client.next_id = 2;
    assert_eq!(client.handle_auth(&answer), Ok(()));
    world.take_log();
    // IKE_AUTH in one.
    let bob = Initiator::new(&world, world.client_cert("bob@example.com"), 4600);
    let mut whole = opened(&mut world, bob);
    let header = whole.header(Exchange::IkeAuth, 1, false);
    let chain = chain_of(&whole.auth_payloads());
    let message = whole.seal(header, &chain);
    sweep(&mut world, &whole, &message, "IKE_AUTH");
    assert_eq!(world.exchange(whole.path, &[message]).len(), answer.len());
    world.take_log();
    // Then both exchanges of an established IKE SA, and the answers to them.
    let child = new_child(&mut client);
    let rekey = vec![
        (Kind::Sa, emit_proposals(&[client.ike_proposal(1, &[9; 8])])),
        (Kind::Nonce, vec![1; 32]),
        (Kind::Ke, Ke { group: 31, data: &[9; 32] }.emit()),
    ];
    for (exchange, payloads) in [
        (Exchange::CreateChildSa, child),
        (Exchange::CreateChildSa, rekey),
        (Exchange::Informational, vec![(Kind::Delete, Delete::Ike.emit())]),
    ] {
        let request = client.protected_request(exchange, &payloads);
        sweep(&mut world, &client, &request[0], "a request");
        let answer = world.exchange(client.path, &request);
        assert_eq!(answer.len(), 1, "the good one still counts");
        world.take_log();
        client.next_id -= 1;
        let rest = world.responder.stats().ike_sas;
        for bytes in spoilt(&answer[0]) {
            world.handle(Input::Datagram { path: client.path, bytes: &bytes });
        }
        assert_eq!((world.take_log(), world.responder.stats().ike_sas), (vec![], rest));
        client.next_id += 1;
        world.take_sent();
    }
}

/// What the payloads of a request are, by exchange.
fn recorded(client: &mut Initiator, exchange: Exchange, what: &str) -> Chain {
    chain_of(&match (exchange, what) {
        (Exchange::IkeAuth, _) => client.auth_payloads(),
        (Exchange::CreateChildSa, "child") => new_child(client),
        (Exchange::CreateChildSa, "rekey of a child") => {
            let spi = client.children[0].spi.to_be_bytes();
            let kind = notify_type::REKEY_SA;
            let mut payloads =
                vec![(Kind::Notify, Notify { protocol: protocol::ESP, spi: &spi, kind, data: &[] }.emit())];
            payloads.extend(client.child_payloads(&[Some(crate::crypto::Group::P256), None]));
            let pair = crate::crypto::dh::KeyPair::generate(crate::crypto::Group::P256).unwrap();
            payloads.push((Kind::Nonce, vec![1; 32]));
            payloads.push((Kind::Ke, Ke { group: 19, data: pair.public() }.emit()));
            payloads
        }
        (Exchange::CreateChildSa, _) => vec![
            (Kind::Sa, emit_proposals(&[client.ike_proposal(1, &[9; 8])])),
            (Kind::Nonce, vec![1; 32]),
            (Kind::Ke, Ke { group: 31, data: &[9; 32] }.emit()),
        ],
        (_, "deletes") => vec![
            (Kind::Delete, Delete::Other.emit()),
            (Kind::Delete, Delete::Esp(vec![1, client.children[0].spi, 2]).emit()),
        ],
        _ => vec![
            (Kind::Notify, Notify::new(16400, &[]).emit()),
            (Kind::Notify, Notify::new(16388, &[1; 20]).emit()),
            (Kind::Vendor, vec![1; 9]),
        ],
    })
}

/// An authentic request with anything inside: it has an answer, which says what is wrong or does what is asked, and the
/// limits stand.
fn inside(exchange: Exchange, what: &str) {
    let authenticating = exchange == Exchange::IkeAuth;
    let mut world = without_cookies();
    let mut carried_out = 0;
    let mut index = 0;
    let mut client = None;
    loop {
        let mut peer = client.take().unwrap_or_else(|| {
            if authenticating {
                half_open_by_curve(&mut world)
            } else {
                // INITIAL_CONTACT: of the connection before nothing is left.
                let mut alice = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
                alice.initial_contact = true;
                alice.connect(&mut world).unwrap();
                alice
            }
        });
        let chain = recorded(&mut peer, exchange, what);
        let Some(bytes) = spoilt_at(chain.bytes(), index) else { break };
        index += 1;
        let header = peer.header(exchange, peer.next_id, false);
        let message = peer.seal_raw(header, chain.first(), &bytes);
        peer.next_id += 1;
        let answer = world.exchange(peer.path, &[message]);
        assert!(!answer.is_empty(), "{what} {index}: an authentic request has an answer");
        let opened = peer.open(&answer);
        let stats = world.responder.stats();
        if opened.error().is_none() {
            carried_out += 1;
            assert!(stats.devices <= 1 && stats.child_sas <= 2, "{what} {index}: {stats:?}");
        } else if authenticating {
            assert_eq!((stats.devices, stats.child_sas), (0, 0), "{what} {index}");
        } else {
            assert_eq!((stats.devices, stats.child_sas), (1, 1), "{what} {index}");
            peer.request(&mut world, Exchange::Informational, &[]);
        }
        if !authenticating && opened.error().is_some() {
            client = Some(peer);
        } else if authenticating && opened.body(Kind::Auth).is_some() {
            says_goodbye(&mut world, &mut peer);
        }
        world.take_sent();
        world.take_log();
    }
    assert!(index > 60 && carried_out < index, "{what}: {carried_out} of {index} were good enough");
    world.advance(3 * Policy::default().half_open_lifetime);
    let left = if authenticating { 0 } else { 1 };
    assert!(world.responder.stats().ike_sas <= left, "{what}");
    let mut bob = world.connect("bob@example.com", 4999);
    bob.request(&mut world, Exchange::Informational, &[]);
}

/// An initiator whose signature is always as long.
fn half_open_by_curve(world: &mut World) -> Initiator {
    let mut client = stranger(world);
    client.signing = Signing::EcdsaByCurve;
    opened(world, client)
}

#[test]
fn ike_auth_cut_and_changed_inside_protection() {
    inside(Exchange::IkeAuth, "IKE_AUTH");
}

#[test]
fn create_child_sa_cut_and_changed_inside_protection() {
    inside(Exchange::CreateChildSa, "child");
    inside(Exchange::CreateChildSa, "rekey of a child");
    inside(Exchange::CreateChildSa, "rekey of the IKE SA");
}

#[test]
fn informational_cut_and_changed_inside_protection() {
    inside(Exchange::Informational, "deletes");
    inside(Exchange::Informational, "notifies");
}
