//! F22 to F30: the tunnel's first answer, frames, LCP and IPCP.

use std::net::Ipv4Addr;
use std::time::Duration;

use pterodapter::demo::gateway::{
    Acks, AnswerFault, DnsOffer, Echo, Event, Fault, Magic, Moment, Mru, Order, PppKnobs, Scenario,
    TunnelEnd, frame,
};

use pterodapter::engine::Uplink;

use super::lab::{Lab, Setup, eventually};
use super::*;

/// PPP packets: protocol number, then what it carries.
const IPV4: u16 = 0x0021;
const IPV6: u16 = 0x0057;
const APPLE: u16 = 0x8235;

fn negotiating(ppp: PppKnobs) -> Scenario {
    Scenario { ppp, ..Scenario::default() }
}

fn packet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    frame(&[&protocol.to_be_bytes(), payload].concat())
}

/// Octets that the tunnel sends at this moment.
fn sending(moment: Moment, bytes: Vec<u8>) -> Scenario {
    Scenario { orders: vec![(moment, Order::Send(bytes))], ..Scenario::default() }
}

const SOON: Moment = Moment::UpFor(Duration::from_millis(100));

/// How often the client broke the connection or its rules.
fn ends(lab: &Lab) -> usize {
    lab.count(|event| matches!(event, Event::TunnelDown { .. }))
}

#[test]
fn f22_an_http_answer_in_place_of_frames_is_told_by_its_status() {
    let cases = [
        (vec![Fault::status(403)], "status 403"),
        (vec![Fault::status(401)], "status 401"),
        (vec![Fault::status(403), Fault::Split(2)], "status 403"),
        (vec![Fault::status(403), Fault::Split(9)], "status 403"),
        (vec![Fault::status(200)], "status 200"),
        (vec![Fault::redirect("/remote/login")], "status 302"),
        (vec![Fault::status(404)], "no SSL VPN tunnel mode"),
        (vec![Fault::EndlessHead, Fault::status(403)], "HTTP head is longer"),
    ];
    each(cases, |(what, words)| {
        let scenario = faulty(what.into_iter().map(|what| AnswerFault::on(TUNNEL, what)));
        let lab = fails(Setup::of(scenario), words);
        assert_eq!((lab.posts(), lab.requests(TUNNEL), lab.tunnels()), (1, 1, 0));
    });
}

#[test]
fn f22_an_accident_in_place_of_frames_is_got_over() {
    let scenarios = [
        once(TUNNEL, Fault::status(500)),
        once(TUNNEL, Fault::status(503)),
        once(TUNNEL, Fault::Close),
        once(TUNNEL, Fault::Reset),
        once(TUNNEL, Fault::Bytes(b"HTTP".to_vec())),
        sending(Moment::FirstFrame, b"HTTP/1.1 200 OK\r\nServer: xxxxxxxx-xxxxx\r\n\r\n".to_vec()),
    ];
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        assert_eq!(lab.posts(), 1);
    });
    // It stays so: an error, after a second try with the same session.
    each([Fault::Close, Fault::Reset], |what| {
        let lab = fails(Setup::of(fault(TUNNEL, what)), "it closes the connection");
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn f23_frames_that_are_none_end_the_tunnel_and_it_comes_back() {
    let broken: [&[u8]; 4] = [
        b"\x00\x0c\x50\x51\x00\x06\xc0\x21\x09\x05\x00\x04",
        b"\x00\x0c\x50\x50\x00\x07\xc0\x21\x09\x05\x00\x04",
        b"\x00\x00\x50\x50\x00\x00",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
    ];
    each(broken, |bytes| {
        let lab = works(Setup::default());
        let device = device(&lab);
        lab.gateway.order_tunnels(&Order::Send(bytes.to_vec()));
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!(lab.errors(), ["the gateway's frames are out of step"]);
    });
}

#[test]
fn f23_odd_frames_stay_in_step() {
    let forty: Vec<u8> = (0..40).flat_map(|n| packet(IPV4, &[n; 100])).collect();
    let odd = [frame(&[]), frame(&[0]), frame(&[0x21]), frame(&vec![0; 65_529]), forty];
    let scenarios = odd.map(|bytes| sending(SOON, bytes)).into_iter().chain([
        Scenario { record_limit: Some(1), ..Scenario::default() },
        Scenario { record_limit: Some(5), ..Scenario::default() },
        Scenario { record_limit: Some(40), random_records: true, ..Scenario::default() },
        Scenario { frame_per_record: true, ..Scenario::default() },
        negotiating(PppKnobs { address_control: true, ..PppKnobs::default() }),
    ]);
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        let device = device(&lab);
        std::thread::sleep(Duration::from_millis(300));
        flows(&lab, &device);
        assert_eq!((lab.tunnels(), ends(&lab)), (1, 0));
    });
}

#[test]
fn f24_packets_at_the_wrong_time_or_of_unknown_protocols_are_harmless() {
    let ip =
        [&[0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 80, 10, 212, 134, 200][..], &[0; 4]].concat();
    let six = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0; 32]].concat();
    let cases = [
        (Moment::FirstFrame, packet(IPV4, &ip)),
        (Moment::LcpOpen, packet(IPV4, &ip)),
        (SOON, packet(IPV4, &ip)),
        (SOON, packet(IPV6, &six)),
        (SOON, packet(APPLE, &[1, 1, 0, 4])),
        (SOON, packet(APPLE, &[1, 1, 0, 4]).repeat(1000)),
        (SOON, packet(0x80fd, &[1, 1, 0, 4])),
        // Compressed and uncompressed fields.
        (SOON, frame(&[&[0x21][..], &ip].concat())),
        (SOON, frame(&[&[0xff, 0x03, 0x00, 0x21][..], &ip].concat())),
    ];
    each(cases, |(moment, bytes)| {
        let lab = works(Setup::of(sending(moment, bytes)));
        let device = device(&lab);
        std::thread::sleep(Duration::from_millis(300));
        flows(&lab, &device);
        assert_eq!((lab.tunnels(), ends(&lab)), (1, 0));
    });
}

#[test]
fn f25_lcp_with_options_of_every_kind() {
    let knobs = PppKnobs::default;
    let cases = [
        // Some gateways never ask.
        (PppKnobs { ask_lcp: false, ..knobs() }, 1354),
        (PppKnobs { mru: Mru::Nak(1280), ..knobs() }, 1280),
        (PppKnobs { mru: Mru::Reject, ..knobs() }, 1500),
        (PppKnobs { magic: Magic::Reject, ..knobs() }, 1354),
        // As if the line were looped back, until another number is suggested.
        (PppKnobs { magic: Magic::Same, ..knobs() }, 1354),
        (PppKnobs { ask_auth: true, ..knobs() }, 1354),
        (PppKnobs { ask_field_compression: true, ..knobs() }, 1354),
        (PppKnobs { own_mru: Some(576), ..knobs() }, 576),
        (PppKnobs { own_mru: Some(9000), ..knobs() }, 1354),
        (PppKnobs { lcp_naks: 5, ..knobs() }, 0),
    ];
    each(cases, |(ppp, mtu)| {
        let lab = works(Setup::of(negotiating(ppp)));
        let config = lab.state().tunnel.unwrap();
        assert!(mtu == 0 || config.mtu == mtu, "{}", config.mtu);
        assert_eq!((lab.posts(), lab.tunnels()), (1, 1));
    });
}

#[test]
fn f25_lcp_that_makes_no_sense_ends_in_an_error() {
    let knobs = PppKnobs::default;
    let cases = [
        (PppKnobs { lcp_naks: 100, ..knobs() }, "refused every PPP option set"),
        (PppKnobs { ipcp_naks: 100, ..knobs() }, "refused every PPP option set"),
    ];
    each(cases, |(ppp, words)| {
        let lab = fails(Setup::of(negotiating(ppp)), words);
        assert_eq!((lab.posts(), lab.tunnels()), (1, 0));
    });
}

#[test]
fn f25_options_of_impossible_lengths_are_an_error_in_time() {
    slow("f25");
}

pub(crate) fn impossible_lengths() {
    each([vec![7, 0], vec![7, 1], vec![7, 200]], |more_options| {
        let ppp = PppKnobs { more_options, ..PppKnobs::default() };
        let lab = Lab::start(Setup::of(negotiating(ppp)));
        if !happens(Duration::from_secs(50), || lab.state().uplink == Uplink::Failed) {
            panic!("did not fail: {:?}", lab.state());
        }
        assert!(lab.errors()[0].contains("negotiation in time"), "{:?}", lab.errors());
        assert_eq!((lab.posts(), lab.tunnels()), (1, 0));
    });
}

#[test]
fn f26_lost_packets_are_sent_again() {
    slow("f26");
}

pub(crate) fn lost_packets() {
    each(1..=3, |ignore_frames| {
        let start = clock();
        let lab = works(Setup::of(Scenario { ignore_frames, ..Scenario::default() }));
        assert_eq!((lab.posts(), lab.tunnels()), (1, 1));
        assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
    });
}

#[test]
fn f27_stale_double_and_altered_acks_and_storms_of_naks() {
    each([Acks::StaleFirst, Acks::Twice, Acks::AlteredFirst], |acks| {
        let lab = works(Setup::of(negotiating(PppKnobs { acks, ..PppKnobs::default() })));
        assert_eq!((lab.posts(), lab.tunnels()), (1, 1));
    });
    each([(100, 0), (0, 100)], |(lcp_naks, ipcp_naks)| {
        let ppp = PppKnobs { lcp_naks, ipcp_naks, ..PppKnobs::default() };
        let lab = fails(Setup::of(negotiating(ppp)), "refused every PPP option set");
        assert_eq!((lab.posts(), lab.requests(TUNNEL)), (1, 2), "bounded");
        let frames =
            lab.count(|event| matches!(event, Event::TunnelDown { counts, .. } if counts.frames_in > 40));
        assert_eq!(frames, 0, "each try is bounded");
    });
}

#[test]
fn f28_ipcp_with_other_addresses_and_options() {
    let knobs = PppKnobs::default;
    let no_dns = |dns| Scenario { dns: Vec::new(), ..negotiating(PppKnobs { dns, ..knobs() }) };
    let scenarios = [
        negotiating(PppKnobs { offer_vj: true, ..knobs() }),
        negotiating(PppKnobs { own_address: Ipv4Addr::new(10, 212, 134, 200), ..knobs() }),
        negotiating(PppKnobs { own_address: Ipv4Addr::UNSPECIFIED, ..knobs() }),
        negotiating(PppKnobs { insist_on_pair: true, ..knobs() }),
        negotiating(PppKnobs { ipcp_naks: 3, ..knobs() }),
        no_dns(DnsOffer::Nak),
        no_dns(DnsOffer::Zero),
        no_dns(DnsOffer::Reject),
    ];
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        assert_eq!((lab.posts(), lab.tunnels()), (1, 1));
    });
    // The address that PPP gives is the one that counts.
    let other = Ipv4Addr::new(10, 212, 134, 99);
    let lab = Lab::start(Setup::of(negotiating(PppKnobs { client_address: Some(other), ..knobs() })));
    lab.wait_for_tunnel(1);
    let adopted = || lab.state().tunnel.is_some_and(|config| config.address == other);
    eventually(Duration::from_secs(5), "the address is adopted", adopted);
    let lab =
        fails(Setup::of(negotiating(PppKnobs { reject_address: true, ..knobs() })), "no address in PPP");
    assert_eq!((lab.posts(), lab.tunnels()), (1, 0));
}

#[test]
fn f29_a_new_negotiation_in_the_session_keeps_the_tunnel() {
    let lab = works(Setup::default());
    let device = device(&lab);
    for times in 1..4 {
        lab.gateway.order_tunnels(&Order::Renegotiate);
        eventually(Duration::from_secs(10), "the link opens again", || {
            lab.count(|event| matches!(event, Event::LinkAgain(_))) == times
        });
        flows(&lab, &device);
    }
    assert_eq!((lab.posts(), lab.requests(TUNNEL), ends(&lab)), (1, 1, 0), "it is the same tunnel");
}

#[test]
fn f30_echoes_may_be_missing_wrong_or_a_flood() {
    slow("f30");
}

pub(crate) fn odd_echoes() {
    let knobs = PppKnobs::default;
    let flood = Some(Duration::from_millis(1));
    let cases = [
        PppKnobs { answer_echo: false, ..knobs() },
        PppKnobs { echo: Echo::WrongMagic, ..knobs() },
        PppKnobs { echo: Echo::WrongId, ..knobs() },
        PppKnobs { echo_every: flood, ..knobs() },
    ];
    each(cases, |ppp| {
        let has_data = !ppp.answer_echo;
        let floods = ppp.echo_every.is_some();
        let lab = works(Setup::of(negotiating(ppp)));
        let device = device(&lab);
        // Longer than the 28 s after which a silent gateway is dead, where that can be the question.
        for _ in 0..if has_data { 32 } else { 3 } {
            device.ping(SERVER).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
        flows(&lab, &device);
        assert_eq!((lab.tunnels(), ends(&lab)), (1, 0));
        if floods {
            let mut lab = lab;
            lab.stop();
            let counts = lab.gateway.journal().into_iter().find_map(|entry| match entry.event {
                Event::TunnelDown { why: TunnelEnd::ClientTerminated, counts, .. } => Some(counts),
                _ => None,
            });
            let counts = counts.unwrap();
            assert!(counts.frames_in < 150, "answers are limited: {counts:?}");
        }
    });
}
