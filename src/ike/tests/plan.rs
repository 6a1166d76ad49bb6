//! What clients get: both families, domains, and changes while they are connected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::TrafficSelector;
use crate::ike::plan::ASK_AGAIN;
use crate::ike::selector::any_between;
use crate::ike::testing::*;
use crate::ike::{ClientPlan, Event, Input, Nat64Plan, System};
use crate::wire::ike::*;

const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const PREFIX: &str = "64:ff9b:1::";
const APPLE: [u16; 7] = [1, 2, 3, 8, 10, 25, 27];
const BOTH: [u16; 4] = [1, 3, 8, 10];

fn only(address: impl Into<IpAddr> + Copy) -> TrafficSelector {
    any_between(address, address)
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn mapped() -> TrafficSelector {
    any_between(v6("64:ff9b:1::"), v6("64:ff9b:1::ffff:ffff"))
}

fn company(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// These hosts of the company, without and with NAT64.
fn plan(hosts: &[u8], nat64: bool) -> ClientPlan {
    ClientPlan {
        ts: hosts.iter().map(|last| only(company(*last))).collect(),
        nat64: nat64.then(|| Nat64Plan { prefix: v6(PREFIX) }),
        domains: vec!["corp.example".to_owned(), "xn--bcher-kva.example".to_owned()],
        ..ClientPlan::full_tunnel(HOST)
    }
}

/// A client that asks for these attributes and offers both families, connected.
fn connect(world: &mut World, asked: &[u16]) -> Initiator {
    let mut client = Initiator::new(world, world.client_cert("alice@example.com"), 4500);
    (client.asked, client.offered) = (asked.to_vec(), vec![everything(), everything6()]);
    client.connect(world).unwrap();
    world.take_log();
    client
}

#[test]
fn each_family_that_is_asked_for_and_on() {
    let device = v6("64:ff9b:1:0:7074:6572:c613:ff02");
    for (name, nat64, asked, address, address6, domains) in [
        ("both", true, &APPLE[..], Some(FIRST), Some(device), 2),
        ("IPv4", true, &[1, 3], Some(FIRST), None, 0),
        ("IPv6", true, &[8, 10, 25], None, Some(device), 2),
        ("IPv6 is off", false, &APPLE, Some(FIRST), None, 2),
    ] {
        let mut world = World::new();
        world.handle(Input::Plan(plan(&[7], nat64)));
        let client = connect(&mut world, asked);
        assert_eq!(
            (client.address, client.address6, client.domains.len()),
            (address, address6, domains),
            "{name}"
        );
        let dns6 = address6.map(|_| v6("64:ff9b:1::c613:ff01"));
        assert_eq!(
            (client.dns, client.dns6),
            (address.map(|_| HOST).into_iter().collect(), Vec::from_iter(dns6))
        );
        let (mut ts_i, mut ts_r) = (vec![], vec![]);
        if let Some(address) = address {
            ts_i.push(only(address));
            ts_r.extend([only(company(7)), only(HOST)]);
        }
        if let Some(address6) = address6 {
            ts_i.push(only(address6));
            ts_r.push(mapped());
        }
        assert_eq!((&client.children[0].ts_i, &client.children[0].ts_r), (&ts_i, &ts_r), "{name}");
        let sa = &world.installed[0];
        assert_eq!((sa.address, sa.address6), (FIRST, address6), "{name}: the pool address is always known");
        assert_eq!((&sa.ts_remote, &sa.ts_local), (&ts_i, &ts_r), "{name}");
    }
    let mut world = World::new();
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    client.asked = vec![8, 10];
    assert_eq!(client.connect(&mut world), Err(notify_type::FAILED_CP_REQUIRED), "only IPv6, which is off");
}

#[test]
fn domains_are_told_as_they_are() {
    let mut world = World::new();
    world.handle(Input::Plan(plan(&[7], false)));
    assert_eq!(connect(&mut world, &APPLE).domains, ["corp.example", "xn--bcher-kva.example"]);
}

#[test]
fn selectors_without_counterpart_are_left_out() {
    for (offered, ts_i, ts_r) in [
        (everything(), only(FIRST), vec![only(company(7)), only(HOST)]),
        (everything6(), only(v6("64:ff9b:1:0:7074:6572:c613:ff02")), vec![mapped()]),
    ] {
        let mut world = World::new();
        world.handle(Input::Plan(plan(&[7], true)));
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        (client.asked, client.offered) = (BOTH.to_vec(), vec![offered]);
        client.connect(&mut world).unwrap();
        assert!(client.address.is_some() && client.address6.is_some(), "other Child SAs may use them");
        assert_eq!((&client.children[0].ts_i, &client.children[0].ts_r), (&vec![ts_i], &ts_r));
    }
    // Selectors of different families have no packet in common.
    let mut world = World::new();
    world.handle(Input::Plan(plan(&[7], true)));
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    client.asked = BOTH.to_vec();
    let request = client.init_request();
    let answer = world.exchange(client.path, &[request]);
    client.handle_init(&answer);
    let mut payloads = client.auth_payloads();
    payloads.retain(|payload| payload.0 != Kind::TsR);
    payloads.push((Kind::TsR, emit_selectors(&[everything6()])));
    let request = client.protected_request(Exchange::IkeAuth, &payloads);
    let answer = world.exchange(client.path, &request);
    assert_eq!(client.handle_auth(&answer), Err(notify_type::TS_UNACCEPTABLE));
}

/// What the responder proposes in the rekey that it has sent, ours and the client's selectors; taken by the client,
/// which answers with its narrower selectors, if any.
fn take_rekey(
    world: &mut World,
    client: &mut Initiator,
    narrower: Option<&[TrafficSelector]>,
) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let request = client.open(&world.take_sent());
    assert_eq!(request.header.exchange, Exchange::CreateChildSa);
    let old = client.children.pop().unwrap();
    let notify = Notify::parse(request.body(Kind::Notify).unwrap()).unwrap();
    assert_eq!((notify.kind, notify.spi), (notify_type::REKEY_SA, &old.peer_spi.to_be_bytes()[..]));
    let proposal = parse_proposals(request.body(Kind::Sa).unwrap()).unwrap().remove(0);
    let peer_spi = u32::from_be_bytes(proposal.spi.as_slice().try_into().unwrap());
    let selectors = |kind| parse_selectors(request.body(kind).unwrap()).unwrap();
    let (ours, his) = (selectors(Kind::TsI), selectors(Kind::TsR));
    let new = HisChild {
        spi: old.spi + 0x0100_0000,
        peer_spi,
        ts_i: his.clone(),
        ts_r: narrower.map_or(ours.clone(), <[_]>::to_vec),
    };
    let answer = [
        (Kind::Sa, emit_proposals(&[Proposal { spi: new.spi.to_be_bytes().to_vec(), ..proposal }])),
        (Kind::Nonce, vec![5; 32]),
        (Kind::TsI, emit_selectors(&new.ts_r)),
        (Kind::TsR, emit_selectors(&new.ts_i)),
    ];
    let delete = client.answer(world, &request, &answer);
    let sa = world.installed.last().unwrap();
    assert_eq!((sa.spi_in, sa.replaces), (peer_spi, Some(old.peer_spi)));
    assert_eq!((&sa.ts_remote, &sa.ts_local), (&new.ts_i, &new.ts_r));
    let delete = client.open(&delete);
    let gone = [(Kind::Delete, Delete::Esp(vec![old.spi]).emit())];
    let next = client.answer(world, &delete, &gone);
    world.sent.extend(next.into_iter().map(|bytes| (client.path, bytes)));
    client.children.push(new);
    (ours, his)
}

#[test]
fn a_changed_plan_reaches_the_client_by_our_rekey() {
    let mut world = World::new();
    world.handle(Input::Plan(plan(&[7], true)));
    let mut client = connect(&mut world, &BOTH);
    world.handle(Input::Plan(plan(&[7], true)));
    let same_selectors = ClientPlan { domains: vec![], ..plan(&[7], true) };
    world.handle(Input::Plan(same_selectors));
    assert!(world.sent.is_empty(), "nothing has changed for it");

    world.handle(Input::Plan(plan(&[8, 9], true)));
    assert_eq!(world.installed[0].ts_local[0], only(company(7)), "what vanished stays until the rekey");
    // One more change while the first is under way: it is not forgotten.
    world.handle(Input::Plan(plan(&[9], true)));
    let his = client.children[0].ts_i.clone();
    let proposed = take_rekey(&mut world, &mut client, None);
    let first = vec![only(company(8)), only(company(9)), only(HOST), mapped()];
    assert_eq!(proposed, (first, his.clone()));
    let proposed = take_rekey(&mut world, &mut client, None);
    assert_eq!(proposed, (vec![only(company(9)), only(HOST), mapped()], his));
    assert!(world.sent.is_empty() && world.notes.is_empty());
    assert_eq!((world.installed.len(), world.responder.stats().child_rekeys), (1, 2));
    assert_eq!(world.installed[0].address6, client.address6);

    // Forth and back before the client has answered a DPD: nothing to do.
    let device = world.installed[0].device;
    world.advance(crate::ike::Policy::default().liveness_after);
    let dpd = client.open(&world.take_sent());
    world.handle(Input::Plan(plan(&[1], true)));
    world.handle(Input::Plan(plan(&[9], true)));
    assert!(client.answer(&mut world, &dpd, &[]).is_empty());
    world.handle(Input::Alive { device });
    // A client that takes less is left in peace.
    world.handle(Input::Plan(plan(&[1, 2], true)));
    take_rekey(&mut world, &mut client, Some(&[only(company(1)), mapped()]));
    assert!(world.sent.is_empty());
    assert_eq!(world.installed[0].ts_local, [only(company(1)), mapped()]);
}

#[test]
fn a_changed_plan_waits_for_those_who_take_no_rekey() {
    let nt5 = 0x1e2b_5169_0599_1c7d_7c96_fcbf_b587_e461_u128.to_be_bytes();
    for (asked, vendor) in [
        (vec![1, 3, 23456], None),
        (vec![1, 3, 23457], None),
        (vec![1, 3], Some([&nt5[..], &[0, 0, 0, 9]].concat())),
    ] {
        let mut world = World::new();
        world.handle(Input::Plan(plan(&[7], false)));
        let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
        (client.asked, client.vendors) = (asked, Vec::from_iter(vendor));
        client.connect(&mut world).unwrap();
        assert_eq!(world.system, Some(System::Windows));
        world.handle(Input::Plan(plan(&[8], false)));
        assert!(world.sent.is_empty(), "Windows is left alone");
        let old = client.children[0].clone();
        let new = client.rekey_child(&mut world, old.spi, None, &[None]).unwrap();
        assert_eq!(new.ts_r, [only(company(8)), only(HOST)], "its own rekey takes the new plan");
        assert_eq!(new.ts_i, old.ts_i);
        assert!(world.sent.is_empty());
    }
}

#[test]
fn a_client_that_refuses_our_rekey_keeps_what_it_has() {
    let mut world = World::new();
    world.handle(Input::Plan(plan(&[7], false)));
    let mut client = connect(&mut world, &BOTH);
    let refuse = |world: &mut World, client: &mut Initiator, kind| {
        let request = client.open(&world.take_sent());
        assert_eq!(request.header.exchange, Exchange::CreateChildSa);
        let answer = client.answer(world, &request, &[(Kind::Notify, Notify::new(kind, &[]).emit())]);
        assert!(answer.is_empty());
    };
    world.handle(Input::Plan(plan(&[8], false)));
    refuse(&mut world, &mut client, notify_type::TEMPORARY_FAILURE);
    assert_eq!(world.notes, []);
    world.advance(ASK_AGAIN);
    refuse(&mut world, &mut client, notify_type::NO_ADDITIONAL_SAS);
    assert_eq!(world.notes, [Event::PlanRefused { identity: "alice@example.com".to_owned() }]);
    world.handle(Input::Plan(plan(&[9], false)));
    world.advance(ASK_AGAIN);
    assert!(world.sent.is_empty(), "not asked again");
    assert_eq!(world.take_log(), [] as [&str; 0], "and still connected");
    let old = client.children[0].spi;
    let new = client.rekey_child(&mut world, old, None, &[None]).unwrap();
    assert_eq!(new.ts_r, [only(company(9)), only(HOST)]);
}

#[test]
fn a_plan_that_changes_in_the_middle_of_an_exchange() {
    // While the data path has not acknowledged the first Child SA.
    let mut world = World::new();
    world.auto_install = false;
    world.handle(Input::Plan(plan(&[7], false)));
    let mut client = Initiator::new(&world, world.client_cert("alice@example.com"), 4500);
    client.asked = vec![1, 3];
    assert_eq!(client.connect(&mut world), Err(0));
    world.handle(Input::Plan(plan(&[7, 8], false)));
    assert!(world.sent.is_empty());
    let spi_in = world.installed[0].spi_in;
    world.auto_install = true;
    world.handle(Input::Installed { spi_in });
    let (rekey, answer): (Vec<_>, Vec<_>) = world.take_sent().into_iter().partition(|bytes| bytes[18] == 36);
    client.handle_auth(&answer).unwrap();
    world.sent.extend(rekey.into_iter().map(|bytes| (client.path, bytes)));
    take_rekey(&mut world, &mut client, None);
    assert_eq!(world.installed[0].ts_local, [only(company(7)), only(company(8)), only(HOST)]);

    // While the client's rekey, with the selectors that it has, waits for the data path.
    client.offered = [client.children[0].ts_i.clone(), client.children[0].ts_r.clone()].concat();
    world.auto_install = false;
    let mut payloads = client.child_payloads(&[None]);
    let (spi, peer_spi) = (client.children[0].spi, client.children[0].peer_spi);
    let spi_octets = spi.to_be_bytes();
    let rekey = Notify { protocol: protocol::ESP, spi: &spi_octets, kind: notify_type::REKEY_SA, data: &[] };
    payloads.extend([(Kind::Notify, rekey.emit()), (Kind::Nonce, vec![6; 32])]);
    world.handle(Input::Plan(plan(&[8, 9], false)));
    let ours = client.open(&world.take_sent());
    let busy = [(Kind::Notify, Notify::new(notify_type::TEMPORARY_FAILURE, &[]).emit())];
    client.answer(&mut world, &ours, &busy);
    let request = client.protected_request(Exchange::CreateChildSa, &payloads);
    assert!(world.exchange(client.path, &request).is_empty());
    let sa = world.installed.last().unwrap();
    assert_eq!((sa.replaces, &sa.ts_local), (Some(peer_spi), &vec![only(company(8)), only(HOST)]));
    let spi_in = sa.spi_in;
    world.auto_install = true;
    world.handle(Input::Installed { spi_in });
    let (rekey, answer): (Vec<_>, Vec<_>) =
        world.take_sent().into_iter().partition(|bytes| bytes[19] & 0x20 == 0);
    let answer = client.open(&answer);
    client.take_child(&answer);
    world.sent.extend(rekey.into_iter().map(|bytes| (client.path, bytes)));
    take_rekey(&mut world, &mut client, None);
    let all = [only(company(8)), only(company(9)), only(HOST)];
    assert_eq!(world.installed.last().unwrap().ts_local, all, "what it did not ask for comes by our rekey");
}

#[test]
fn a_changed_plan_survives_an_ike_rekey() {
    let mut world = World::new();
    world.handle(Input::Plan(plan(&[7], false)));
    let mut client = connect(&mut world, &BOTH);
    world.handle(Input::Plan(plan(&[8], false)));
    let request = client.open(&world.take_sent());
    let busy = [(Kind::Notify, Notify::new(notify_type::TEMPORARY_FAILURE, &[]).emit())];
    client.answer(&mut world, &request, &busy);
    client.rekey_ike(&mut world, 1).unwrap();
    // On the new IKE SA it is asked at once, without waiting.
    take_rekey(&mut world, &mut client, None);
    assert_eq!(world.installed[0].ts_local, [only(company(8)), only(HOST)]);
}

#[test]
fn more_selectors_than_clients_take() {
    let mut world = World::new();
    let hosts = |count: u8| (0..count).map(|n| only(Ipv4Addr::new(10, n, 0, 7))).collect::<Vec<_>>();
    // The in-tunnel host and the prefix have their places.
    for (count, expected) in [(62, None), (63, Some((64, 63))), (250, Some((251, 63)))] {
        world.notes.clear();
        world.handle(Input::Plan(ClientPlan { ts: hosts(count), ..plan(&[], true) }));
        let note = expected.map(|(wanted, offered)| Event::SelectorsSummarised { wanted, offered });
        assert_eq!(world.notes, Vec::from_iter(note), "{count}");
        let mut client = Initiator::new(&world, world.client_cert("bob@example.com"), 4500);
        (client.asked, client.offered) = (BOTH.to_vec(), vec![everything(), everything6()]);
        client.connect(&mut world).unwrap();
        let selectors = &client.children[0].ts_r;
        assert_eq!(selectors.len(), 64);
        assert_eq!(selectors.last(), Some(&mapped()));
        for host in hosts(count).iter().chain([&only(HOST)]) {
            assert!(selectors.iter().any(|ts| ts.first <= host.first && host.last <= ts.last), "{host:?}");
        }
    }
    assert_eq!(world.responder.stats().summarised, 2);
}
