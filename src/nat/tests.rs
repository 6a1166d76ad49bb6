//! The flow table against whole packets: what comes out must be right down to every checksum.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use proptest::prelude::*;

use super::icmp::{Kind, MAX_LEN, emit_error};
use super::{Flows, mtu};
use crate::base::{Random, Reason};
use crate::wire::ip::{self, Ipv4};
use crate::wire::{checksum, tcp, udp};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const A: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const B: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 3);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);

struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            self.0 = self.0.wrapping_mul(29).wrapping_add(71);
            *octet = self.0;
        }
    }
}

fn flows(capacity: usize) -> Flows {
    let mut flows = Flows::new(capacity, HOST, &mut Counting(1));
    flows.set_external(Some(EXTERNAL));
    flows
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(1000 + secs)
}

fn ends(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> (SocketAddrV4, SocketAddrV4) {
    (SocketAddrV4::new(src.0, src.1), SocketAddrV4::new(dst.0, dst.1))
}

fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let (src, dst) = ends(src, dst);
    udp::packet(0x4242, src, dst, payload).unwrap()
}

/// A packet of any protocol around `transport`, the checksum at `checksum_at` filled in.
fn packet(
    protocol: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    transport: &[u8],
    checksum_at: Option<usize>,
) -> Vec<u8> {
    let mut packet = vec![0; 20];
    ip::emit_header(&mut packet, 0x4242, protocol, src, dst, transport.len()).unwrap();
    packet.extend_from_slice(transport);
    if let Some(checksum_at) = checksum_at {
        let pseudo = match protocol {
            ip::ICMP => 0,
            _ => checksum::pseudo_v4(src.octets(), dst.octets(), protocol, transport.len() as u16),
        };
        let sum = !checksum::fold(checksum::sum(&packet[20..], pseudo));
        packet[20 + checksum_at..22 + checksum_at].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn tcp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 23];
    segment[..2].copy_from_slice(&src.1.to_be_bytes());
    segment[2..4].copy_from_slice(&dst.1.to_be_bytes());
    segment[12] = 0x50;
    segment[13] = flags;
    segment[20..].copy_from_slice(b"odd");
    packet(ip::TCP, src.0, dst.0, &segment, Some(16))
}

fn echo(kind: u8, src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> Vec<u8> {
    let [hi, lo] = id.to_be_bytes();
    packet(ip::ICMP, src, dst, &[kind, 0, 0, 0, hi, lo, 0, 1, 1, 2, 3], Some(2))
}

fn error(from: Ipv4Addr, kind: Kind, offending: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; MAX_LEN];
    let len = emit_error(&mut buf, from, kind, offending).unwrap();
    buf.truncate(len);
    buf
}

/// Asserts that the checksums of a whole packet are right; in an ICMP error, also those of the quoted packet.
#[track_caller]
fn assert_right(packet: &[u8]) {
    let header = Ipv4::parse(packet).unwrap();
    assert_eq!(checksum::of(&packet[..header.header_len]), 0, "IP header");
    if header.is_fragment() {
        return;
    }
    let payload = header.payload(packet);
    let pseudo =
        checksum::pseudo_v4(header.src.octets(), header.dst.octets(), header.protocol, payload.len() as u16);
    match header.protocol {
        ip::TCP => assert_eq!(checksum::fold(checksum::sum(payload, pseudo)), 0xffff, "TCP"),
        ip::UDP => assert!(udp::verify(header.src.octets(), header.dst.octets(), payload), "UDP"),
        ip::ICMP => {
            assert_eq!(checksum::of(payload), 0, "ICMP");
            if matches!(payload[0], 3 | 11 | 12) && Ipv4::parse(&payload[8..]).is_ok() {
                assert_right(&payload[8..]);
            }
        }
        _ => {}
    }
}

/// (source, source port, destination, destination port)
#[track_caller]
fn endpoints(packet: &[u8]) -> (Ipv4Addr, u16, Ipv4Addr, u16) {
    let header = Ipv4::parse(packet).unwrap();
    let payload = header.payload(packet);
    let port = |at| u16::from_be_bytes([payload[at], payload[at + 1]]);
    (header.src, port(0), header.dst, port(2))
}

#[track_caller]
fn out(flows: &mut Flows, now: Duration, mut packet: Vec<u8>) -> Vec<u8> {
    flows.translate_outbound(now, &mut packet).unwrap();
    assert_right(&packet);
    assert_eq!(Ipv4::parse(&packet).unwrap().src, EXTERNAL);
    packet
}

#[track_caller]
fn back(flows: &mut Flows, now: Duration, mut packet: Vec<u8>) -> Result<Vec<u8>, Reason> {
    let before = packet.clone();
    match flows.translate_inbound(now, &mut packet) {
        Ok(device) => {
            assert_right(&packet);
            assert_eq!(Ipv4::parse(&packet).unwrap().dst, device);
            Ok(packet)
        }
        Err(reason) => {
            assert_eq!(packet, before, "a refused packet is unchanged");
            Err(reason)
        }
    }
}

#[test]
fn devices_with_the_same_port_get_ports_of_their_own() {
    let mut flows = flows(64);
    for (make, wanted) in [(udp as fn(_, _, &[u8]) -> Vec<u8>, 5001), (udp, 700)] {
        let first = endpoints(&out(&mut flows, at(0), make((A, wanted), (SERVER, 80), b"x")));
        let second = endpoints(&out(&mut flows, at(0), make((B, wanted), (SERVER, 80), b"x")));
        assert_eq!((first.1, second.1 == wanted), (wanted, false));
        assert_eq!(second.1 % 2, wanted % 2, "parity");
        assert_eq!(second.1 < 1024, wanted < 1024, "range");
        // The same mapping for another server, whoever answers (endpoint-independent).
        let other = endpoints(&out(&mut flows, at(1), make((B, wanted), (ROUTER, 81), b"x")));
        assert_eq!(other.1, second.1);
        for (port, device) in [(first.1, A), (second.1, B)] {
            let answer = back(&mut flows, at(1), udp((SERVER, 9), (EXTERNAL, port), b"odd")).unwrap();
            assert_eq!(endpoints(&answer), (SERVER, 9, device, wanted));
        }
    }
    assert_eq!(flows.len(), 4);
}

#[test]
fn tcp_and_udp_ports_are_apart_and_the_host_is_a_device() {
    let mut flows = flows(64);
    out(&mut flows, at(0), udp((A, 4000), (SERVER, 80), b""));
    let segment = out(&mut flows, at(0), tcp((B, 4000), (SERVER, 80), tcp::SYN));
    assert_eq!(endpoints(&segment), (EXTERNAL, 4000, SERVER, 80));
    let answer = back(&mut flows, at(0), tcp((SERVER, 80), (EXTERNAL, 4000), tcp::SYN | tcp::ACK)).unwrap();
    assert_eq!(endpoints(&answer), (SERVER, 80, B, 4000));
    let query = out(&mut flows, at(0), udp((HOST, 4001), (SERVER, 53), b"q"));
    assert_eq!(endpoints(&query), (EXTERNAL, 4001, SERVER, 53));
    let answer = back(&mut flows, at(0), udp((SERVER, 53), (EXTERNAL, 4001), b"a")).unwrap();
    assert_eq!(endpoints(&answer).2, HOST);
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut flows = flows(8);
    let mut packet = udp((A, 4000), (SERVER, 80), b"odd");
    packet[26..28].fill(0);
    assert_eq!(out(&mut flows, at(0), packet)[26..28], [0, 0]);
    // And one with a checksum never gets to look as if it had none.
    for word in 0..=u16::MAX {
        let packet = out(&mut flows, at(0), udp((A, 4000), (SERVER, 80), &word.to_be_bytes()));
        assert_ne!(packet[26..28], [0, 0]);
    }
}

#[test]
fn identifications_are_ours_where_a_packet_may_be_fragmented() {
    let mut flows = flows(8);
    let id = |packet: &[u8]| Ipv4::parse(packet).unwrap().id;
    let ids = [A, B].map(|device| id(&out(&mut flows, at(0), udp((device, 1), (SERVER, 80), b""))));
    assert_ne!(ids[0], ids[1]);
    let mut atomic = udp((A, 1), (SERVER, 80), b"");
    atomic[6] = 0x40;
    atomic[10..12].fill(0);
    let sum = checksum::of(&atomic[..20]).to_be_bytes();
    atomic[10..12].copy_from_slice(&sum);
    assert_eq!(id(&out(&mut flows, at(0), atomic)), 0x4242);
}

#[test]
fn echo_identifiers_are_ports() {
    let mut flows = flows(8);
    let id = |packet: &[u8]| u16::from_be_bytes([packet[24], packet[25]]);
    let first = out(&mut flows, at(0), echo(8, A, SERVER, 7));
    let second = out(&mut flows, at(0), echo(8, B, SERVER, 7));
    assert_eq!((id(&first), id(&second) == 7), (7, false));
    let answer = back(&mut flows, at(0), echo(0, SERVER, EXTERNAL, id(&second))).unwrap();
    assert_eq!((id(&answer), Ipv4::parse(&answer).unwrap().dst), (7, B));
    // A ping from the company has no flow; the device's answer keeps the identifier.
    let mut ping = echo(8, SERVER, EXTERNAL, 7);
    assert_eq!(back(&mut flows, at(0), ping.clone()), Err(Reason::NatNoFlow));
    flows.forward_unsolicited(at(0), &mut ping, B).unwrap();
    assert_right(&ping);
    assert_eq!((id(&ping), Ipv4::parse(&ping).unwrap().dst), (7, B));
    assert_eq!(id(&out(&mut flows, at(0), echo(0, B, SERVER, 7))), 7);
    assert_eq!(back(&mut flows, at(0), echo(5, SERVER, EXTERNAL, 7)), Err(Reason::InnerIllegal));
    let mut redirect = echo(5, A, SERVER, 7);
    assert_eq!(flows.translate_outbound(at(0), &mut redirect), Err(Reason::InnerIllegal));
}

#[test]
fn unsolicited_packets_stick_to_the_device_that_answers() {
    let mut flows = flows(8);
    let mut syn = tcp((SERVER, 999), (EXTERNAL, 22), tcp::SYN);
    assert_eq!(back(&mut flows, at(0), syn.clone()), Err(Reason::NatNoFlow));
    flows.forward_unsolicited(at(0), &mut syn, A).unwrap();
    assert_right(&syn);
    assert_eq!((endpoints(&syn), flows.len()), ((SERVER, 999, A, 22), 0));
    out(&mut flows, at(0), tcp((A, 22), (SERVER, 999), tcp::SYN | tcp::ACK));
    assert_eq!(
        endpoints(&back(&mut flows, at(0), tcp((SERVER, 999), (EXTERNAL, 22), tcp::ACK)).unwrap()).2,
        A
    );
}

#[test]
fn icmp_errors_follow_the_quoted_packet_both_ways() {
    let mut flows = flows(64);
    out(&mut flows, at(0), udp((A, 5001), (SERVER, 80), b"x"));
    out(&mut flows, at(0), tcp((A, 5001), (SERVER, 80), tcp::SYN));
    out(&mut flows, at(0), echo(8, A, SERVER, 5001));
    out(&mut flows, at(0), packet(47, A, SERVER, b"gre", None));
    for sent in [
        udp((B, 5001), (SERVER, 80), &[7; 601]),
        udp((B, 5001), (SERVER, 80), b"odd"),
        tcp((B, 5001), (SERVER, 80), tcp::SYN),
        echo(8, B, SERVER, 5001),
        packet(47, B, ROUTER, b"gre", None),
    ] {
        let seen_outside = out(&mut flows, at(0), sent.clone());
        let mut told = error(ROUTER, Kind::FragNeeded { mtu: 1300 }, &seen_outside);
        if sent.len() < 500 {
            told = back(&mut flows, at(0), told).unwrap();
        } else {
            assert_eq!(flows.translate_inbound(at(0), &mut told), Ok(B));
            let message = Ipv4::parse(&told).unwrap().payload(&told).to_vec();
            assert_eq!(checksum::of(&message), 0);
        }
        let quoted = &told[28..];
        // The identification stays that of the outside; the rest is what the device sent.
        let skip = |packet: &[u8]| [&packet[..4], &packet[6..10], &packet[12..quoted.len()]].concat();
        assert_eq!(skip(quoted), skip(&sent), "protocol {}", sent[9]);
    }
    // The device (or the in-tunnel host for it) complains about what it got.
    let got = back(&mut flows, at(0), udp((SERVER, 80), (EXTERNAL, 5001), b"odd")).unwrap();
    for from in [A, HOST] {
        let told = out(&mut flows, at(0), error(from, Kind::PortUnreachable, &got));
        assert_eq!(endpoints(&told[28..]), (SERVER, 80, EXTERNAL, 5001));
    }
    // What came in unsolicited has no mapping, and its port is as it was, unless the port is another's.
    for (port, expected) in [(6000, Ok(())), (5001, Err(Reason::NatNoFlow))] {
        flows = self::flows(64);
        out(&mut flows, at(0), udp((A, 5001), (SERVER, 80), b"x"));
        let got = udp((SERVER, 80), (B, port), b"odd");
        let mut told = error(B, Kind::PortUnreachable, &got);
        assert_eq!(flows.translate_outbound(at(0), &mut told), expected);
        if expected.is_ok() {
            assert_right(&told);
            assert_eq!(endpoints(&told[28..]), (SERVER, 80, EXTERNAL, port));
        }
    }
    let mut spoofed = error(B, Kind::PortUnreachable, &got);
    assert_eq!(flows.translate_outbound(at(0), &mut spoofed), Err(Reason::InnerSpoofed));
}

#[test]
fn icmp_errors_about_nothing_of_ours_are_refused() {
    let mut flows = flows(8);
    let strange = udp((EXTERNAL, 5001), (SERVER, 80), b"x");
    let told = error(ROUTER, Kind::HostUnreachable, &strange);
    assert_eq!(back(&mut flows, at(0), told.clone()), Err(Reason::NatNoFlow));
    assert_eq!(flows.forward_unsolicited(at(0), &mut told.clone(), A), Err(Reason::NatNoFlow));
    let mut other = error(ROUTER, Kind::HostUnreachable, &udp((SERVER, 5001), (A, 80), b"x"));
    other[16..20].copy_from_slice(&EXTERNAL.octets());
    assert_eq!(back(&mut flows, at(0), other), Err(Reason::NatNotOurs));
    // Quotes of 8 octets are the least that RFC 792 asks for.
    out(&mut flows, at(0), tcp((A, 6000), (SERVER, 80), tcp::SYN));
    let outside = tcp((EXTERNAL, 6000), (SERVER, 80), tcp::SYN);
    let quote = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &outside[..28]].concat();
    let told = packet(ip::ICMP, ROUTER, EXTERNAL, &quote, Some(2));
    let told = back(&mut flows, at(0), told).unwrap();
    assert_eq!((&told[40..44], &told[48..50]), (&A.octets()[..], &6000_u16.to_be_bytes()[..]));
}

#[test]
fn other_protocols_have_one_flow_per_remote() {
    let mut flows = flows(8);
    out(&mut flows, at(0), packet(47, A, SERVER, b"gre", None));
    out(&mut flows, at(0), packet(47, B, ROUTER, b"gre", None));
    let mut taken = packet(47, B, SERVER, b"gre", None);
    assert_eq!(flows.translate_outbound(at(0), &mut taken), Err(Reason::NatFull));
    for (remote, device) in [(SERVER, A), (ROUTER, B)] {
        let answer = back(&mut flows, at(0), packet(47, remote, EXTERNAL, b"", None)).unwrap();
        assert_eq!(Ipv4::parse(&answer).unwrap().dst, device);
    }
    assert_eq!(back(&mut flows, at(0), packet(50, SERVER, EXTERNAL, b"esp", None)), Err(Reason::NatNoFlow));
}

fn pieces(mut packet: Vec<u8>, id: u16) -> Vec<Vec<u8>> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut pieces = Vec::new();
    mtu::fragment(&mut packet, 576, |piece| pieces.push(piece.to_vec())).unwrap();
    assert_eq!(pieces.len(), 3);
    pieces
}

/// Puts the pieces of one packet together again and checks it as a whole.
#[track_caller]
fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut sorted: Vec<_> = pieces.iter().map(|piece| (Ipv4::parse(piece).unwrap(), piece)).collect();
    sorted.sort_by_key(|(header, _)| header.fragment_offset);
    let header = sorted[0].0;
    let data = sorted.iter().flat_map(|(header, piece)| header.payload(piece).to_vec()).collect::<Vec<_>>();
    let mut whole = vec![0; 20];
    Ipv4 { total_len: 20 + data.len(), more_fragments: false, ..header }.emit(&mut whole).unwrap();
    whole.extend(data);
    assert_right(&whole);
    whole
}

#[test]
fn outbound_pieces_of_two_devices_do_not_mix() {
    let mut flows = flows(8);
    let payload = vec![3; 1501];
    let first = pieces(udp((A, 5001), (SERVER, 80), &payload), 99);
    let second = pieces(udp((B, 5001), (SERVER, 80), &payload), 99);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for index in [2, 0, 1] {
        left.push(out(&mut flows, at(0), first[index].clone()));
        right.push(out(&mut flows, at(0), second[index].clone()));
    }
    let ids = |pieces: &[Vec<u8>]| pieces.iter().map(|p| Ipv4::parse(p).unwrap().id).collect::<Vec<_>>();
    let (left_ids, right_ids) = (ids(&left), ids(&right));
    assert!(left_ids.iter().all(|id| *id == left_ids[0]) && right_ids.iter().all(|id| *id == right_ids[0]));
    assert_ne!(left_ids[0], right_ids[0]);
    assert_eq!(endpoints(&join(&left)), (EXTERNAL, 5001, SERVER, 80));
    assert_eq!(join(&right).len(), 1529);
}

#[test]
fn inbound_pieces_wait_for_their_first() {
    let mut flows = flows(8);
    out(&mut flows, at(0), udp((B, 5001), (SERVER, 80), b"x"));
    let sent = pieces(udp((SERVER, 80), (EXTERNAL, 5001), &[3; 1501]), 99);
    for piece in [&sent[2], &sent[1]] {
        assert_eq!(back(&mut flows, at(0), piece.clone()), Err(Reason::NatFragment));
    }
    assert!(flows.poll_held().is_none());
    let mut got = vec![back(&mut flows, at(1), sent[0].clone()).unwrap()];
    while let Some(piece) = flows.poll_held() {
        got.push(back(&mut flows, at(1), piece).unwrap());
    }
    assert_eq!(endpoints(&join(&got)), (SERVER, 80, B, 5001));
    // Once the first is known the others pass at once, and are forgotten after a while.
    let again = back(&mut flows, at(2), sent[1].clone()).unwrap();
    assert_eq!(Ipv4::parse(&again).unwrap().dst, B);
    flows.handle_timeout(at(60));
    assert_eq!(back(&mut flows, at(60), sent[1].clone()), Err(Reason::NatFragment));
    // Two seconds later it is too late for it.
    flows.handle_timeout(at(63));
    back(&mut flows, at(63), sent[0].clone()).unwrap();
    assert!(flows.poll_held().is_none());
    // An identification that is used again is remembered as long as any.
    back(&mut flows, at(80), sent[0].clone()).unwrap();
    flows.handle_timeout(at(95));
    back(&mut flows, at(95), sent[1].clone()).unwrap();
    // Unsolicited packets: the engine's choice counts for all pieces.
    let sent = pieces(udp((SERVER, 80), (EXTERNAL, 9), &[3; 1501]), 100);
    assert_eq!(back(&mut flows, at(63), sent[1].clone()), Err(Reason::NatFragment));
    let mut first = sent[0].clone();
    assert_eq!(back(&mut flows, at(63), first.clone()), Err(Reason::NatNoFlow));
    flows.forward_unsolicited(at(63), &mut first, A).unwrap();
    let held = flows.poll_held().unwrap();
    assert_eq!((&held, flows.translate_inbound(at(63), &mut held.clone())), (&sent[1], Ok(A)));
    assert_eq!(flows.translate_inbound(at(63), &mut sent[2].clone()), Ok(A));
}

#[test]
fn the_store_of_waiting_pieces_and_the_fragment_tables_are_bounded() {
    let mut flows = flows(8);
    for id in 0..5000 {
        let mut piece = pieces(udp((SERVER, 80), (EXTERNAL, 9), &[3; 1501]), id).remove(1);
        assert_eq!(flows.translate_inbound(at(0), &mut piece), Err(Reason::NatFragment));
        let mut piece = pieces(udp((A, 5001), (SERVER, 80), &[3; 1501]), id).remove(1);
        flows.translate_outbound(at(0), &mut piece).unwrap();
    }
    for id in 0..5000 {
        let mut first = pieces(udp((SERVER, 80), (EXTERNAL, 9), &[3; 1501]), id).remove(0);
        flows.forward_unsolicited(at(1), &mut first, A).unwrap();
    }
    assert_eq!(std::iter::from_fn(|| flows.poll_held()).count(), 64);
}

#[test]
fn mappings_expire_by_kind_and_state() {
    let synack = tcp::SYN | tcp::ACK;
    let fin = tcp::FIN | tcp::ACK;
    // packets of one flow (true: out), and how long the mapping lives after the last
    type Case<'a> = (&'a str, &'a [(bool, u8)], u64);
    let cases: &[Case<'_>] = &[
        ("syn", &[(true, tcp::SYN)], 240),
        ("half open", &[(true, tcp::SYN), (false, synack)], 240),
        ("established", &[(true, tcp::SYN), (false, synack), (true, tcp::ACK), (false, tcp::ACK)], 7440),
        ("picked up", &[(true, tcp::ACK), (false, tcp::ACK)], 7440),
        ("half closed", &[(true, tcp::ACK), (false, tcp::ACK), (true, fin)], 7440),
        ("closed", &[(true, tcp::ACK), (false, tcp::ACK), (true, fin), (false, fin), (true, tcp::ACK)], 240),
        ("reset", &[(true, tcp::ACK), (false, tcp::ACK), (false, tcp::RST)], 240),
        (
            "again from outside",
            &[(true, tcp::RST), (false, tcp::SYN), (true, synack), (false, tcp::ACK), (true, tcp::ACK)],
            7440,
        ),
        ("scanned", &[(true, tcp::ACK), (false, tcp::ACK), (false, tcp::SYN)], 7440),
    ];
    for (name, segments, lifetime) in cases {
        for (later, alive) in [(*lifetime, true), (lifetime + 1, false)] {
            let mut flows = flows(4);
            for (outbound, flags) in *segments {
                if *outbound {
                    out(&mut flows, at(0), tcp((A, 5001), (SERVER, 80), *flags));
                } else {
                    back(&mut flows, at(0), tcp((SERVER, 80), (EXTERNAL, 5001), *flags)).unwrap();
                }
            }
            let answer = back(&mut flows, at(later), tcp((SERVER, 80), (EXTERNAL, 5001), tcp::ACK));
            assert_eq!(answer.is_ok(), alive, "{name} after {later} s");
        }
    }
    for (port, lifetime) in [(53, 30), (443, 300)] {
        let mut flows = flows(4);
        out(&mut flows, at(0), udp((A, 5001), (SERVER, port), b""));
        back(&mut flows, at(lifetime), udp((SERVER, port), (EXTERNAL, 5001), b"")).unwrap();
        flows.handle_timeout(at(2 * lifetime));
        assert_eq!(flows.len(), 1, "the answer renewed it");
        flows.handle_timeout(at(2 * lifetime + 1));
        assert_eq!(flows.len(), 0);
    }
}

#[test]
fn a_full_table_refuses_until_something_expires() {
    let mut flows = flows(16);
    let mut ask =
        |device, port, secs| flows.translate_outbound(at(secs), &mut udp((device, port), (SERVER, 80), b"x"));
    let one: Vec<_> = (0..16).map(|n| ask(A, 2000 + n, 0)).collect();
    assert_eq!(
        (one[11], one[12], one[15]),
        (Ok(()), Err(Reason::NatFull), Err(Reason::NatFull)),
        "three quarters"
    );
    let other: Vec<_> = (0..5).map(|n| ask(B, 3000 + n, 0)).collect();
    assert_eq!((other[3], other[4]), (Ok(()), Err(Reason::NatFull)));
    assert_eq!(ask(A, 2007, 300), Ok(()), "known mappings go on");
    assert_eq!(ask(B, 4000, 300), Err(Reason::NatFull));
    assert_eq!(ask(B, 4000, 301), Ok(()));
    assert_eq!(flows.len(), 2, "the expired ones went, the refreshed one stayed");
    for n in 0..11 {
        flows.translate_outbound(at(301), &mut udp((A, 5000 + n), (SERVER, 80), b"x")).unwrap();
    }
    assert_eq!(flows.len(), 13, "the device's share came back");
}

#[test]
fn a_port_of_an_expired_mapping_is_free_again() {
    let mut flows = flows(8);
    out(&mut flows, at(0), udp((A, 2000), (SERVER, 80), b"x"));
    let mapped = endpoints(&out(&mut flows, at(301), udp((B, 2000), (SERVER, 80), b"x")));
    assert_eq!((mapped.1, flows.len()), (2000, 1));
    // The first device is back: the port is no longer its own.
    let moved = endpoints(&out(&mut flows, at(302), udp((A, 2000), (SERVER, 80), b"x")));
    assert_ne!(moved.1, 2000);
    for (port, device) in [(2000, B), (moved.1, A)] {
        let answer = back(&mut flows, at(302), udp((SERVER, 80), (EXTERNAL, port), b"x")).unwrap();
        assert_eq!(endpoints(&answer), (SERVER, 80, device, 2000));
    }
}

#[test]
fn the_uplink_comes_and_goes() {
    let mut flows = flows(8);
    out(&mut flows, at(0), udp((A, 2000), (SERVER, 80), b"x"));
    out(&mut flows, at(0), udp((B, 2000), (SERVER, 80), b"x"));
    flows.set_external(None);
    let mut packet = udp((A, 2000), (SERVER, 80), b"x");
    assert_eq!(flows.translate_outbound(at(1), &mut packet), Err(Reason::UplinkDown));
    let mut answer = udp((SERVER, 80), (EXTERNAL, 2000), b"x");
    assert_eq!(flows.translate_inbound(at(1), &mut answer), Err(Reason::UplinkDown));
    let other = Ipv4Addr::new(10, 212, 134, 201);
    flows.set_external(Some(other));
    flows.translate_outbound(at(2), &mut packet).unwrap();
    assert_right(&packet);
    assert_eq!(endpoints(&packet), (other, 2000, SERVER, 80));
    assert_eq!(flows.translate_inbound(at(2), &mut answer), Err(Reason::NatNotOurs));
    assert_eq!(flows.len(), 2);
}

#[test]
fn damaged_packets_do_not_panic() {
    let mut table = flows(64);
    let inner = out(&mut table, at(0), udp((A, 5001), (SERVER, 80), b"odd"));
    let got = back(&mut table, at(0), udp((SERVER, 80), (EXTERNAL, 5001), b"odd")).unwrap();
    let samples = [
        udp((A, 5001), (SERVER, 80), b"odd"),
        udp((SERVER, 80), (EXTERNAL, 5001), b"odd"),
        tcp((A, 5001), (SERVER, 80), tcp::SYN),
        echo(8, A, SERVER, 9),
        error(ROUTER, Kind::HostUnreachable, &inner),
        error(A, Kind::PortUnreachable, &got),
    ];
    for sample in samples {
        let damaged =
            (0..sample.len()).map(|len| sample[..len].to_vec()).chain((0..sample.len() * 8).map(|bit| {
                let mut packet = sample.clone();
                packet[bit / 8] ^= 1 << (bit % 8);
                packet
            }));
        for packet in damaged {
            // Lengths in the header that fit a truncated packet reach deeper.
            let mut fitted = packet.clone();
            if fitted.len() >= 20 {
                let len = (fitted.len() as u16).to_be_bytes();
                fitted[2..4].copy_from_slice(&len);
            }
            for packet in [packet, fitted] {
                let _ = table.translate_outbound(at(0), &mut packet.clone());
                let _ = table.translate_inbound(at(0), &mut packet.clone());
                let _ = table.forward_unsolicited(at(0), &mut packet.clone(), A);
                while table.poll_held().is_some() {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checksums_stay_right_for_any_content(
        payload in proptest::collection::vec(any::<u8>(), 0..90),
        device in 2_u8..254,
        ports in any::<(u16, u16)>(),
        remote in any::<u32>(),
        external in any::<u32>(),
    ) {
        let (device, remote) = (Ipv4Addr::new(198, 19, 255, device), Ipv4Addr::from(remote));
        let external = Ipv4Addr::from(external);
        let mut flows = Flows::new(8, HOST, &mut Counting(3));
        flows.set_external(Some(external));
        // Someone else holds the port, so that port and address both change.
        flows.translate_outbound(at(0), &mut udp((HOST, ports.0), (SERVER, 80), b"")).unwrap();
        let original = udp((device, ports.0), (remote, ports.1), &payload);
        let mut packet = original.clone();
        flows.translate_outbound(at(0), &mut packet).unwrap();
        assert_right(&packet);
        let (_, mapped, _, _) = endpoints(&packet);
        let mut answer = udp((remote, ports.1), (external, mapped), &payload);
        prop_assert_eq!(flows.translate_inbound(at(0), &mut answer), Ok(device));
        assert_right(&answer);
        prop_assert_eq!(endpoints(&answer), (remote, ports.1, device, ports.0));
        prop_assert_eq!(&answer[28..], &payload[..]);
    }
}
