//! F31 to F38 and F40: tunnels that break, stall or end, and how they come back.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pterodapter::demo::gateway::{
    AnswerFault, CloseStyle, Entry, Event, Fault, Handshake, Moment, Order, PppKnobs, Scenario, TlsKnobs,
    TunnelEnd, frame,
};
use pterodapter::engine::Uplink;

use super::lab::{Lab, Setup, eventually};
use super::*;

const WINDOW: Option<Duration> = Some(Duration::from_secs(30));

fn reusable() -> Scenario {
    Scenario { reuse: WINDOW, ..Scenario::default() }
}

fn address(lab: &Lab) -> Option<Ipv4Addr> {
    lab.state().tunnel.map(|config| config.address)
}

#[test]
fn f31_a_black_hole_is_noticed_within_thirty_seconds() {
    slow("f31");
}

pub(crate) fn black_holes() {
    // In the middle of traffic, and in silence.
    let after_packets = vec![(Moment::Packets(5), Order::Drop(CloseStyle::Blackhole))];
    let after_time = vec![(Moment::UpFor(Duration::from_millis(500)), Order::Drop(CloseStyle::Blackhole))];
    each([after_packets, after_time], |orders| {
        let pings = matches!(orders.first(), Some((Moment::Packets(_), _)));
        let lab = Lab::start(Setup::of(Scenario { orders, ..Scenario::default() }));
        let device = device(&lab);
        lab.wait_for_tunnel(1);
        lab.gateway.set_scenario(Scenario::default());
        if pings {
            while device.ping(SERVER).is_ok() {}
        }
        eventually(Duration::from_secs(31), "the black hole is noticed", || !lab.errors().is_empty());
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!(lab.errors(), ["the gateway answers nothing any more"]);
        assert!(lab.posts() <= 2);
    });
}

#[test]
fn f32_however_a_tunnel_ends_it_comes_back_and_devices_do_not_notice() {
    use CloseStyle::*;
    let styles = [
        (CloseNotify, "the gateway closed the connection"),
        (Fin, "the gateway closed the connection"),
        (HalfFrame, "the gateway closed the connection"),
        (Reset, "the connection was reset"),
        (Alert(50), "TLS failed"),
        (BadRecord, "TLS failed"),
        (Terminate, "session ended by the administrator"),
        (TerminateThenSilence, "session ended by the administrator"),
    ];
    each(styles, |(style, words)| {
        let lab = works(Setup::default());
        let device = device(&lab);
        lab.gateway.kick_tunnels(style);
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        lab.wait_for_error(words);
        assert!(!device.is_closed());
        assert_eq!((lab.posts(), lab.state().uplink), (2, Uplink::Up), "one new sign-in");
        // The cookie of a session that was ended on purpose is not even tried.
        let tried = if matches!(style, Terminate | TerminateThenSilence) { 2 } else { 3 };
        assert_eq!(lab.requests(TUNNEL), tried);
    });
}

#[test]
fn f32_connections_of_devices_survive_a_reconnection_with_the_same_address() {
    use CloseStyle::*;
    each([CloseNotify, Fin, HalfFrame, Reset, Alert(80), BadRecord], |style| {
        let lab = Lab::start(Setup::of(reusable()));
        let client = lab.connect("laptop.example").unwrap();
        lab.wait_for_tunnel(1);
        let stream = client.tcp_connect((IpAddr::V4(SERVER), 7)).unwrap();
        for (tunnels, words) in [(2, b"before"), (3, b"after.")] {
            (&stream).write_all(words).unwrap();
            lab.gateway.kick_tunnels(style);
            lab.wait_for_tunnel(tunnels);
            let mut answer = [0; 6];
            (&stream).read_exact(&mut answer).unwrap();
            assert_eq!(&answer, words);
        }
        assert_eq!(
            (lab.posts(), lab.requests(TUNNEL), lab.requests(CONFIG)),
            (1, 3, 1),
            "the cookie is used again"
        );
    });
}

#[test]
fn f33_a_cookie_is_used_again_where_the_gateway_said_so_and_not_elsewhere() {
    slow("f33");
}

pub(crate) fn cookies_again() {
    let short = Some(Duration::from_secs(1));
    // What the gateway says and does at first, then; sign-ins; addresses stay.
    let cases = [
        ("allowed", reusable(), reusable(), 1, true),
        ("not allowed", Scenario::default(), Scenario::default(), 2, false),
        (
            "expired",
            Scenario { reuse: short, ..reusable() },
            Scenario { reuse: short, tls: refusing(4), ..reusable() },
            2,
            false,
        ),
        (
            "from elsewhere",
            reusable(),
            Scenario { source: Some([127, 0, 0, 9].into()), ..reusable() },
            2,
            false,
        ),
        (
            "after another look at the configuration",
            reusable(),
            Scenario { faults: vec![AnswerFault::on(TUNNEL, Fault::status(403)).times(1)], ..reusable() },
            1,
            true,
        ),
        (
            "after another look, which ends the session",
            Scenario { refetch_ends_session: true, ..reusable() },
            Scenario {
                faults: vec![AnswerFault::on(TUNNEL, Fault::status(403)).times(1)],
                refetch_ends_session: true,
                ..reusable()
            },
            2,
            false,
        ),
        (
            "no address at the second look",
            Scenario { config_fetches: Some(1), ..reusable() },
            Scenario {
                faults: vec![AnswerFault::on(TUNNEL, Fault::status(403)).times(1)],
                config_fetches: Some(1),
                ..reusable()
            },
            2,
            false,
        ),
    ];
    each(cases, |(name, first, then, sign_ins, stays)| {
        let lab = works(Setup::of(first));
        let device = device(&lab);
        let before = address(&lab);
        lab.gateway.set_scenario(then);
        lab.gateway.kick_tunnels(CloseStyle::Fin);
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!(lab.posts(), sign_ins, "{name}");
        assert_eq!(address(&lab) == before, stays, "{name}");
        assert!(!device.is_closed());
    });
}

/// So many connections come to nothing.
fn refusing(times: u32) -> TlsKnobs {
    TlsKnobs { handshake: Handshake::Reset, handshake_times: Some(times), ..TlsKnobs::default() }
}

#[test]
fn f34_sessions_that_expire_are_followed_by_a_new_sign_in() {
    let (idle, auth) = (Duration::from_secs(2), Duration::from_secs(3));
    let timeouts = [(Duration::ZERO, auth), (idle, Duration::ZERO)];
    let styles = [CloseStyle::CloseNotify, CloseStyle::Reset, CloseStyle::Terminate];
    each(timeouts.iter().flat_map(|timeout| styles.map(|style| (*timeout, style))), |(timeout, style)| {
        let (idle_timeout, auth_timeout) = timeout;
        let scenario = Scenario { idle_timeout, auth_timeout, timeout_close: style, ..reusable() };
        let lab = works(Setup::of(scenario.clone()));
        let device = device(&lab);
        eventually(Duration::from_secs(10), "the session expires", || {
            lab.count(|event| {
                matches!(event, Event::TunnelDown { why: TunnelEnd::Idle | TunnelEnd::AuthExpired, .. })
            }) == 1
        });
        lab.gateway.set_scenario(reusable());
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!(lab.posts(), 2);
    });
}

#[test]
fn f34_echoes_keep_a_session_where_they_count_as_activity() {
    slow("f34");
}

pub(crate) fn echoes_as_activity() {
    each([true, false], |echo_is_activity| {
        let scenario = Scenario { idle_timeout: Duration::from_secs(13), echo_is_activity, ..reusable() };
        let lab = works(Setup::of(scenario));
        std::thread::sleep(Duration::from_secs(16));
        let idle = |event: &Event| matches!(event, Event::TunnelDown { why: TunnelEnd::Idle, .. });
        assert_eq!(lab.count(idle), usize::from(!echo_is_activity));
        flows(&lab, &device(&lab));
    });
}

#[test]
fn f35_a_gateway_that_stops_reading_costs_packets_not_memory() {
    slow("f35");
}

pub(crate) fn no_reading() {
    let lab = works(Setup::default());
    let device = device(&lab);
    lab.gateway.order_tunnels(&Order::PauseReading(Duration::from_secs(5)));
    let uplink_full = || {
        let drops = lab.daemon().counters().snapshot().drops;
        drops.iter().any(|(name, count)| *name == "uplink_full" && *count > 0)
    };
    // The kernel's buffers fill, then ours, then there is no more.
    for _ in 0..20_000 {
        device.udp_send((IpAddr::V4(SERVER), 9), &[7; 1200]).unwrap();
        if uplink_full() {
            break;
        }
    }
    assert!(uplink_full(), "{:?}", lab.daemon().counters().snapshot());
    flows(&lab, &device);
    assert_eq!((lab.tunnels(), lab.posts()), (1, 1));
}

#[test]
fn f35_a_gateway_that_reads_octet_by_octet() {
    let lab = works(Setup::default());
    let device = device(&lab);
    lab.gateway.order_tunnels(&Order::ReadSlowly(1, Duration::from_micros(100)));
    flows(&lab, &device);
    assert_eq!((lab.tunnels(), lab.posts()), (1, 1));
}

/// An IPv4 packet from the company to `to`, UDP to a port that nobody uses.
fn inner(to: Ipv4Addr, from: Ipv4Addr, len: u16, dont_fragment: bool) -> Vec<u8> {
    let mut packet = vec![0; usize::from(len)];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    packet[6] = if dont_fragment { 0x40 } else { 0 };
    (packet[8], packet[9]) = (64, 17);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let sum =
        packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..24].copy_from_slice(&[0, 99, 0x9c, 0x40]);
    packet[24..26].copy_from_slice(&(len - 20).to_be_bytes());
    packet
}

#[test]
fn f36_oversized_and_wrong_packets_are_cut_answered_or_dropped_by_name() {
    let us = Ipv4Addr::new(10, 212, 134, 200);
    let mut bad_sum = inner(us, SERVER, 100, false);
    bad_sum[10] ^= 1;
    let mut bad_length = inner(us, SERVER, 100, false);
    bad_length[2] = 9;
    let cases = [
        // Name of the drop; `None`: it gets through to the device that was last active.
        (inner(us, SERVER, 100, false), None),
        (inner(us, SERVER, 1500, false), None),
        (inner(us, SERVER, 9000, false), None),
        (inner(us, SERVER, 1500, true), Some("too_big")),
        (inner(us, SERVER, 9000, true), Some("too_big")),
        (bad_length, Some("inner_malformed")),
        (inner(Ipv4Addr::new(10, 212, 134, 77), SERVER, 100, false), Some("nat_not_ours")),
        (inner(us, Ipv4Addr::LOCALHOST, 100, false), Some("inner_illegal")),
        (inner(us, Ipv4Addr::new(224, 0, 0, 1), 100, false), Some("inner_illegal")),
        (vec![0x45; 10], Some("inner_malformed")),
        (vec![0x65; 60], Some("inner_malformed")),
    ];
    each(cases, |(packet, drop)| {
        let lab = works(Setup::default());
        let device = device(&lab);
        flows(&lab, &device);
        let before = device.counters().esp_in;
        lab.gateway.order_tunnels(&Order::Send(frame(&[&[0, 0x21], &packet[..]].concat())));
        match drop {
            None => {
                eventually(Duration::from_secs(5), "the packet arrives", || device.counters().esp_in > before)
            }
            Some(name) => eventually(Duration::from_secs(5), name, || {
                let drops = lab.daemon().counters().snapshot().drops;
                assert!(drops.iter().all(|(other, _)| *other == name), "{drops:?}, not {name}");
                !drops.is_empty()
            }),
        }
        flows(&lab, &device);
        assert_eq!((lab.tunnels(), lab.posts()), (1, 1));
    });
}

#[test]
fn f37_the_end_does_not_wait_for_a_gateway_that_does_not_answer() {
    let silent = PppKnobs { ack_terminate: false, ..PppKnobs::default() };
    let scenarios = [
        Scenario { ppp: silent.clone(), ..Scenario::default() },
        fault(LOGOUT, Fault::Hang),
        Scenario { ppp: silent, ..fault(LOGOUT, Fault::Hang) },
        Scenario {
            orders: vec![(Moment::UpFor(Duration::ZERO), Order::Drop(CloseStyle::Blackhole))],
            ..Scenario::default()
        },
    ];
    each(scenarios, |scenario| {
        let mut lab = Lab::start(Setup::of(scenario));
        lab.wait_for_tunnel(1);
        let start = clock();
        assert!(lab.stop(), "an orderly end");
        // Deletes to devices, of which there are none, and three seconds for the gateway.
        assert!(start.elapsed() < Duration::from_millis(5500), "{:?}", start.elapsed());
        let terminated = |entry: &Entry| {
            matches!(
                &entry.event,
                Event::TunnelDown { why: TunnelEnd::ClientTerminated | TunnelEnd::Dropped(_), .. }
            )
        };
        eventually(Duration::from_secs(2), "the tunnel ends", || {
            lab.gateway.journal().iter().any(terminated)
        });
    });
}

#[test]
fn f38_a_gateway_that_restarts_costs_one_sign_in() {
    slow("f38");
}

pub(crate) fn restarts() {
    each([1, 5], |downtime| {
        let lab = works(Setup::of(reusable()));
        let device = device(&lab);
        lab.gateway.restart(Duration::from_secs(downtime));
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!(lab.posts(), 2);
        assert!(!device.is_closed());
    });
}

#[test]
fn f40_tls_does_what_it_may_in_a_session() {
    let old = |order| Scenario { tls12_only: true, orders: vec![(LATER, order)], ..Scenario::default() };
    const LATER: Moment = Moment::UpFor(Duration::from_millis(100));
    let scenarios = [
        Scenario { orders: vec![(LATER, Order::UpdateKeys); 20], ..Scenario::default() },
        Scenario { tls: TlsKnobs { tickets: 100, ..TlsKnobs::default() }, ..Scenario::default() },
        old(Order::HelloRequest),
        Scenario { orders: vec![(LATER, Order::EmptyRecords(3))], ..Scenario::default() },
        old(Order::EmptyRecords(3)),
    ];
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        let device = device(&lab);
        std::thread::sleep(Duration::from_millis(500));
        flows(&lab, &device);
        assert_eq!((lab.tunnels(), lab.posts()), (1, 1));
    });
    // Without end: an error, and the tunnel comes back.
    each([old(Order::HelloRequest), old(Order::EmptyRecords(1000))], |mut scenario| {
        let last = scenario.orders.last().cloned().unwrap();
        scenario.orders = vec![last; 10];
        let lab = works(Setup::of(scenario));
        let device = device(&lab);
        lab.gateway.set_scenario(Scenario { tls12_only: true, ..Scenario::default() });
        std::thread::sleep(Duration::from_secs(1));
        lab.wait_for_tunnel(lab.errors().len() + 1);
        flows(&lab, &device);
        assert!(lab.errors().iter().all(|error| error.contains("TLS failed")), "{:?}", lab.errors());
    });
}
