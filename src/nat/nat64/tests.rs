//! Own cases for each rule of RFC 7915, and properties over any packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::nat::icmp::Kind;
use crate::wire::ip::Ipv4;
use crate::wire::ipv6::{Fragment, Ipv6};

const V4: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const V6: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0x4f56, 0, 1, 0, 2);
const LIMITS: Limits = Limits::new(1438, 1354);
/// Octets free in front of each packet.
const ROOM: usize = 128;

fn mapping() -> Mapping {
    Mapping::new("64:ff9b:1:4f56::/96".parse().unwrap(), V6, V4, HOST)
}

fn peer6() -> Ipv6Addr {
    mapping().prefix().embed(PEER)
}

/// A packet from the device; `edit` changes the header.
fn packet6(next_header: u8, payload: &[u8], edit: impl FnOnce(&mut Ipv6)) -> Vec<u8> {
    let mut header = Ipv6 {
        traffic_class: 0,
        payload_len: payload.len(),
        next_header,
        hop_limit: 64,
        src: V6,
        dst: peer6(),
    };
    edit(&mut header);
    let mut packet = vec![0; 40];
    header.emit(&mut packet).unwrap();
    [packet, payload.to_vec()].concat()
}

/// A packet to the device; `edit` changes the header.
fn packet4(protocol: u8, payload: &[u8], edit: impl FnOnce(&mut Ipv4)) -> Vec<u8> {
    let mut header = Ipv4 {
        header_len: 20,
        total_len: 20 + payload.len(),
        id: 0x1234,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src: PEER,
        dst: V4,
    };
    edit(&mut header);
    let mut packet = vec![0; 20];
    header.emit(&mut packet).unwrap();
    [packet, payload.to_vec()].concat()
}

/// The same packet with options behind its header.
fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    packet[0] += (options.len() / 4) as u8;
    let total_len = packet.len() as u16;
    packet[2..4].copy_from_slice(&total_len.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20 + options.len()]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet
}

fn fragment6(next_header: u8, offset: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 8];
    Fragment { next_header, offset, more, id: 0xabcd_5678 }.emit(&mut payload, 0).unwrap();
    [payload, data.to_vec()].concat()
}

/// Puts the right checksum at `at` of a segment with this pseudo header.
fn summed(mut segment: Vec<u8>, at: usize, pseudo: u64) -> Vec<u8> {
    segment[at..at + 2].fill(0);
    let sum = match !checksum::fold(checksum::sum(&segment, pseudo)) {
        0 if at == udp::CHECKSUM => 0xffff,
        sum => sum,
    };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn pseudo6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: usize) -> u64 {
    checksum::pseudo_v6(src.octets(), dst.octets(), protocol, len as u32)
}

fn pseudo4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> u64 {
    checksum::pseudo_v4(src.octets(), dst.octets(), protocol, len as u16)
}

fn segment(protocol: u8, data: &[u8]) -> Vec<u8> {
    match protocol {
        ip::UDP => {
            let [high, low] = (8 + data.len() as u16).to_be_bytes();
            [&[0x12, 0x34, 0, 53, high, low, 0, 0], data].concat()
        }
        ip::TCP => {
            [&[0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 2, 0, 0, 0, 0, 0], data].concat()
        }
        ip::ICMP => [&[8, 0, 0, 0, 0x77, 0x77, 0, 1], data].concat(),
        ipv6::ICMPV6 => [&[128, 0, 0, 0, 0x77, 0x77, 0, 1], data].concat(),
        _ => data.to_vec(),
    }
}

const fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        ip::TCP => Some(tcp::CHECKSUM),
        ip::UDP => Some(udp::CHECKSUM),
        ip::ICMP | ipv6::ICMPV6 => Some(2),
        _ => None,
    }
}

/// A segment with a right checksum, from the device.
fn segment6(protocol: u8, data: &[u8]) -> Vec<u8> {
    let segment = segment(protocol, data);
    let pseudo = pseudo6(V6, peer6(), protocol, segment.len());
    checksum_at(protocol).map_or(segment.clone(), |at| summed(segment, at, pseudo))
}

/// A segment with a right checksum, to the device.
fn segment4(protocol: u8, data: &[u8]) -> Vec<u8> {
    let segment = segment(protocol, data);
    let pseudo = if protocol == ip::ICMP { 0 } else { pseudo4(PEER, V4, protocol, segment.len()) };
    checksum_at(protocol).map_or(segment.clone(), |at| summed(segment, at, pseudo))
}

fn transport_is_right6(packet: &[u8]) -> bool {
    let header = Ipv6::parse(packet).unwrap();
    let pseudo = pseudo6(header.src, header.dst, header.next_header, header.payload_len);
    checksum::fold(checksum::sum(&packet[40..], pseudo)) == 0xffff
}

fn transport_is_right4(packet: &[u8]) -> bool {
    let header = Ipv4::parse(packet).unwrap();
    let payload = header.payload(packet);
    let pseudo = match header.protocol {
        ip::ICMP => 0,
        protocol => pseudo4(header.src, header.dst, protocol, payload.len()),
    };
    checksum::fold(checksum::sum(payload, pseudo)) == 0xffff
}

fn to_v4_within(limits: &Limits, packet: &[u8]) -> Result<Vec<u8>, Refused<Kind6>> {
    let mut buf = [&[0xee; ROOM], packet].concat();
    let end = buf.len();
    let result = translate_v6_to_v4(&mapping(), limits, &mut buf, ROOM..end, 0x4242);
    match &result {
        Err(Refused { answer: Some(_), .. }) => assert_eq!(buf[ROOM..], *packet, "untouched, to be quoted"),
        Ok(range) => {
            let header = Ipv4::parse(&buf[range.clone()]).unwrap();
            assert_eq!((header.header_len, header.total_len, header.src), (20, range.len(), V4));
            assert_eq!(checksum::of(&buf[range.start..range.start + 20]), 0);
            let trailing = packet.len() - Ipv6::parse(packet).unwrap().total_len();
            assert_eq!(range.end, end - trailing);
        }
        Err(_) => {}
    }
    result.map(|range| buf[range].to_vec())
}

fn to_v4(packet: &[u8]) -> Result<Vec<u8>, Refused<Kind6>> {
    to_v4_within(&LIMITS, packet)
}

fn to_v6_within(limits: &Limits, packet: &[u8]) -> Result<Vec<Vec<u8>>, Refused<Kind>> {
    let mut buf = [&[0xee; ROOM], packet].concat();
    let end = buf.len();
    let result = translate_v4_to_v6(&mapping(), limits, &mut buf, ROOM..end);
    if let Err(Refused { answer: Some(_), .. }) = &result {
        assert_eq!(buf[ROOM..], *packet, "untouched, to be quoted");
    }
    let packets = match result? {
        Translated::Whole(range) => {
            assert!(range.start + room_in_front(packet) >= ROOM, "less room would do");
            vec![buf[range].to_vec()]
        }
        Translated::Split(split) => {
            assert!(split.count() <= max_pieces(limits, packet.len()));
            assert_eq!(split.piece(split.count()), None);
            let piece = |index| split.piece(index).unwrap();
            (0..split.count()).map(piece).map(|p| [&p.headers[..], &buf[p.payload]].concat()).collect()
        }
    };
    for packet in &packets {
        let header = Ipv6::parse(packet).unwrap();
        assert_eq!((header.total_len(), header.dst), (packet.len(), V6));
    }
    Ok(packets)
}

fn to_v6(packet: &[u8]) -> Result<Vec<u8>, Refused<Kind>> {
    let mut packets = to_v6_within(&LIMITS, packet)?;
    assert_eq!(packets.len(), 1);
    Ok(packets.remove(0))
}

fn dropped<K>(reason: Reason) -> Refused<K> {
    reason.into()
}

// ---- from the device ------------------------------------------------------------------------------------------------

#[test]
fn ipv4_header_from_ipv6_header() {
    let udp = segment6(ip::UDP, &[7; 100]);
    let out = to_v4(&packet6(ip::UDP, &udp, |h| h.traffic_class = 0xb9)).unwrap();
    assert_eq!(out[..10], [0x45, 0xb9, 0, 128, 0x42, 0x42, 0, 0, 63, ip::UDP]);
    let header = Ipv4::parse(&out).unwrap();
    assert_eq!((header.src, header.dst), (V4, PEER));
    assert!(transport_is_right4(&out));

    // Protocols without a checksum over addresses pass as they are: ESP, AH, SCTP, nothing, DCCP, mobility.
    for protocol in [50, 51, 132, 59, 33, 135, 253] {
        let out = to_v4(&packet6(protocol, b"as it is", |_| {})).unwrap();
        assert_eq!((out[9], &out[20..]), (protocol, &b"as it is"[..]));
    }
}

#[test]
fn a_checksum_of_zero_is_written_as_all_ones() {
    // The data makes the sum of the translated datagram what the checksum then cancels to zero.
    let mut datagram = segment(ip::UDP, &[0, 0]);
    let sum = !checksum::fold(checksum::sum(&datagram, pseudo4(V4, PEER, ip::UDP, 10)));
    datagram[8..].copy_from_slice(&sum.to_be_bytes());
    let datagram = summed(datagram, udp::CHECKSUM, pseudo6(V6, peer6(), ip::UDP, 10));
    let out = to_v4(&packet6(ip::UDP, &datagram, |_| {})).unwrap();
    assert_eq!(out[26..28], [0xff, 0xff]);
    assert!(transport_is_right4(&out));
}

#[test]
fn df_is_set_above_1260_octets() {
    for (len, df) in [(1232, false), (1240, false), (1241, true), (1334, true)] {
        let out = to_v4(&packet6(253, &vec![0; len], |_| {})).unwrap();
        let header = Ipv4::parse(&out).unwrap();
        assert_eq!((header.dont_fragment, header.id, out.len()), (df, 0x4242, 20 + len));
    }
}

#[test]
fn extension_headers_are_left_out() {
    let udp = segment6(ip::UDP, b"x");
    let plain = to_v4(&packet6(ip::UDP, &udp, |_| {})).unwrap();
    let headers =
        [43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let payload = [&headers[..], &udp].concat();
    assert_eq!(to_v4(&packet6(0, &payload, |_| {})), Ok(plain));
}

#[test]
fn fragments_keep_their_fields() {
    let udp = segment6(ip::UDP, &[1; 24]);
    for (offset, more) in [(0, true), (0, false), (1232, true), (65528, false)] {
        let out = to_v4(&packet6(44, &fragment6(ip::UDP, offset, more, &udp), |_| {})).unwrap();
        let header = Ipv4::parse(&out).unwrap();
        assert_eq!(
            (header.id, header.dont_fragment, header.more_fragments, header.fragment_offset),
            (0x5678, false, more, offset)
        );
        assert_eq!(offset == 0, transport_is_right4(&out), "only the first piece has a checksum");
        assert_eq!(out[28..], udp[8..]);
    }
    let large = to_v4(&packet6(44, &fragment6(ip::UDP, 8, true, &[0; 1304]), |_| {})).unwrap();
    assert!(!Ipv4::parse(&large).unwrap().dont_fragment);
}

#[test]
fn what_a_device_must_not_send() {
    let udp = segment6(ip::UDP, b"x");
    let with = |edit: fn(&mut Ipv6)| to_v4(&packet6(ip::UDP, &segment6(ip::UDP, b"x"), edit));
    let in_prefix = |dst| {
        let dst = mapping().prefix().embed(dst);
        to_v4(&packet6(ip::UDP, &segment6(ip::UDP, b"x"), |h| h.dst = dst))
    };
    for src in ["64:ff9b:1:4f56:0:1:0:3", "fd00::1", "::1", "::", "ff02::1", "64:ff9b:1:4f56::a01:203"] {
        let spoofed = packet6(ip::UDP, &udp, |h| h.src = src.parse().unwrap());
        assert_eq!(to_v4(&spoofed), Err(dropped(Reason::InnerSpoofed)), "{src}");
    }
    assert_eq!(
        with(|h| h.dst = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        Err(Refused::answered(Reason::Nat64NotMapped, Kind6::NoRoute))
    );
    for dst in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.251",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        assert_eq!(in_prefix(dst.parse().unwrap()), Err(dropped(Reason::InnerIllegal)), "{dst}");
    }
    let expired = Err(Refused::answered(Reason::TtlExceeded, Kind6::HopLimitExceeded));
    assert_eq!(with(|h| h.hop_limit = 1), expired);
    assert_eq!(with(|h| h.hop_limit = 0), expired);
    assert_eq!(with(|h| h.hop_limit = 2).unwrap()[8], 1);
    assert_eq!(
        to_v4(&packet6(ip::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0], |_| {})),
        Err(dropped(Reason::Nat64Protocol))
    );
    for protocol in [0, 43, 44, 51, 60, 135, 139, 140] {
        let piece = packet6(44, &fragment6(protocol, 0, true, &[17, 0, 0, 0, 0, 0, 0, 0]), |_| {});
        let refused = Err(Refused::answered(Reason::Nat64Extension, Kind6::AdminProhibited));
        assert_eq!(to_v4(&piece), refused, "{protocol}");
    }
    let routed = [&[17, 2, 0, 1][..], &[0; 20], &udp].concat();
    let pointer =
        |pointer| Err(Refused::answered(Reason::Nat64SourceRoute, Kind6::ErroneousField { pointer }));
    assert_eq!(to_v4(&packet6(43, &routed, |_| {})), pointer(43));
    let later = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &routed].concat();
    assert_eq!(to_v4(&packet6(60, &later, |_| {})), pointer(51));

    let mut zero = udp;
    zero[6..8].fill(0);
    assert_eq!(to_v4(&packet6(ip::UDP, &zero, |_| {})), Err(dropped(Reason::Nat64UdpZero)));
    for (protocol, len) in [(ip::TCP, 17), (ip::UDP, 7), (ipv6::ICMPV6, 7)] {
        let short = segment6(protocol, b"x")[..len].to_vec();
        assert_eq!(
            to_v4(&packet6(protocol, &short, |_| {})),
            Err(dropped(Reason::NatMalformed)),
            "{protocol}"
        );
    }
    let whole = packet6(ip::UDP, &zero, |_| {});
    for len in 0..whole.len() {
        assert_eq!(to_v4(&whole[..len]), Err(dropped(Reason::InnerMalformed)));
    }
}

#[test]
fn packets_too_big_for_ipv4_are_answered() {
    let sized =
        |mtu4, len: usize| to_v4_within(&Limits::new(1438, mtu4), &packet6(253, &vec![0; len - 40], |_| {}));
    let too_big = |mtu| Err(Refused::answered(Reason::TooBig, Kind6::PacketTooBig { mtu }));
    assert_eq!(sized(1354, 1374).map(|p| p.len()), Ok(1354));
    assert_eq!(sized(1354, 1375), too_big(1374));
    assert_eq!(sized(1430, 1451), too_big(1438), "no more than the IPv6 link carries");
    // No IPv6 sender goes below 1280: such packets leave without DF, to be fragmented.
    assert_eq!(sized(1000, 1281), too_big(1280));
    let out = sized(1000, 1280).unwrap();
    assert_eq!((out.len(), Ipv4::parse(&out).unwrap().dont_fragment), (1260, false));
}

// ---- to the device --------------------------------------------------------------------------------------------------

#[test]
fn ipv6_header_from_ipv4_header() {
    let mut packet = packet4(ip::UDP, &segment4(ip::UDP, b"hello"), |_| {});
    packet[1] = 0xb9;
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    let out = to_v6(&packet).unwrap();
    assert_eq!(out[..8], [0x6b, 0x90, 0, 0, 0, 13, ip::UDP, 63]);
    assert_eq!(Ipv6::parse(&out).unwrap().src, peer6());
    assert!(transport_is_right6(&out));
    for protocol in [50, 51, 132, 59, 33, 253] {
        let out = to_v6(&packet4(protocol, b"as it is", |_| {})).unwrap();
        assert_eq!((out[6], &out[40..]), (protocol, &b"as it is"[..]));
    }
    let own = to_v6(&packet4(253, b"", |h| (h.src, h.ttl) = (HOST, 1))).unwrap();
    assert_eq!(own[7], 1, "the hop limit of what the in-tunnel host sends stays");
    let own = to_v4(&packet6(253, b"", |h| (h.dst, h.hop_limit) = (mapping().host_v6(), 1))).unwrap();
    assert_eq!(own[8], 1, "and of what it gets");
}

#[test]
fn options_are_left_out_but_for_source_routes_in_use() {
    let packet = packet4(ip::UDP, &segment4(ip::UDP, b"x"), |_| {});
    let plain = to_v6(&packet);
    assert!(plain.is_ok());
    let refused = Err(Refused::answered(Reason::Nat64SourceRoute, Kind::SourceRouteFailed));
    for (options, expected) in [
        (&[1, 1, 1, 0][..], &plain),
        (&[7, 7, 4, 0, 0, 0, 0, 0], &plain),       // record route
        (&[68, 8, 5, 0, 0, 0, 0, 0], &plain),      // timestamp
        (&[148, 4, 0, 0], &plain),                 // router alert
        (&[131, 7, 8, 10, 0, 0, 1, 0], &plain),    // loose source route, used up
        (&[137, 7, 8, 10, 0, 0, 1, 0], &plain),    // strict source route, used up
        (&[131, 7, 4, 10, 0, 0, 1, 0], &refused),  // loose
        (&[137, 7, 4, 10, 0, 0, 1, 0], &refused),  // strict
        (&[1, 148, 4, 0, 0, 131, 3, 3], &refused), // behind others
        (&[0, 131, 7, 4, 10, 0, 0, 1], &plain),    // behind the end of the list
        (&[68, 0, 131, 3, 3, 0, 0, 0], &plain),    // an impossible length ends the list
        (&[1, 1, 1, 131], &plain),                 // cut off
    ] {
        assert_eq!(to_v6(&with_options(&packet, options)), *expected, "{options:?}");
    }
}

#[test]
fn what_must_not_reach_a_device() {
    let udp = segment4(ip::UDP, b"x");
    let with = |edit: &dyn Fn(&mut Ipv4)| to_v6(&packet4(ip::UDP, &udp, edit));
    assert_eq!(with(&|h| h.dst = PEER), Err(dropped(Reason::Nat64NotMapped)));
    for src in ["0.0.0.0", "127.0.0.1", "169.254.9.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        let src: Ipv4Addr = src.parse().unwrap();
        assert_eq!(with(&|h| h.src = src), Err(dropped(Reason::Nat64IllegalSource)), "{src}");
    }
    let expired = Err(Refused::answered(Reason::TtlExceeded, Kind::TtlExceeded));
    assert_eq!(with(&|h| h.ttl = 1), expired);
    assert_eq!(with(&|h| h.ttl = 0), expired);
    assert_eq!(with(&|h| h.ttl = 2).unwrap()[7], 1);
    for protocol in [0, 2, 43, 44, 58, 60] {
        assert_eq!(
            to_v6(&packet4(protocol, &udp, |_| {})),
            Err(dropped(Reason::Nat64Protocol)),
            "{protocol}"
        );
    }
    for (protocol, len) in [(ip::TCP, 17), (ip::UDP, 7), (ip::ICMP, 7)] {
        let short = segment4(protocol, b"x")[..len].to_vec();
        assert_eq!(
            to_v6(&packet4(protocol, &short, |_| {})),
            Err(dropped(Reason::NatMalformed)),
            "{protocol}"
        );
    }
    let whole = packet4(ip::UDP, &udp, |_| {});
    for len in 0..whole.len() {
        assert_eq!(to_v6(&whole[..len]), Err(dropped(Reason::InnerMalformed)));
    }
    for at in 0..20 {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        assert!(to_v6(&bad).is_err(), "header checksum, octet {at}");
    }
    let beyond = packet4(253, &[0; 16], |h| (h.dont_fragment, h.fragment_offset) = (false, 65528));
    assert_eq!(to_v6(&beyond), Err(dropped(Reason::InnerMalformed)));
    let mut buf = [&[0; 19][..], &whole].concat();
    let end = buf.len();
    assert_eq!(
        translate_v4_to_v6(&mapping(), &LIMITS, &mut buf, 19..end),
        Err(dropped(Reason::TooBig)),
        "room"
    );
}

#[test]
fn datagrams_without_checksum_get_one() {
    for data in [&b""[..], b"odd", b"even", &[0xff; 300]] {
        let zero = segment(ip::UDP, data);
        let out = to_v6(&packet4(ip::UDP, &zero, |_| {})).unwrap();
        assert!(transport_is_right6(&out));
        let off = Limits { compute_udp_checksum: false, ..LIMITS };
        let refused = to_v6_within(&off, &packet4(ip::UDP, &zero, |_| {}));
        assert_eq!(refused, Err(dropped(Reason::Nat64UdpZero)));
        // The checksum of a datagram in pieces cannot be computed from one of them.
        let first = packet4(ip::UDP, &zero, |h| (h.more_fragments, h.dont_fragment) = (true, false));
        assert_eq!(to_v6(&first), Err(dropped(Reason::Nat64UdpZero)));
        let later = packet4(ip::UDP, &zero, |h| h.fragment_offset = 8);
        assert!(to_v6(&later).is_ok());
    }
    let mut lying = segment(ip::UDP, b"abc");
    lying[5] = 200;
    assert_eq!(to_v6(&packet4(ip::UDP, &lying, |_| {})), Err(dropped(Reason::NatMalformed)));
    let large = packet4(ip::UDP, &segment(ip::UDP, &[3; 3000]), |h| h.dont_fragment = false);
    let pieces = to_v6_within(&LIMITS, &large).unwrap();
    let data: Vec<u8> = pieces.iter().flat_map(|piece| piece[48..].to_vec()).collect();
    assert_eq!(checksum::fold(checksum::sum(&data, pseudo6(peer6(), V6, ip::UDP, data.len()))), 0xffff);
}

#[test]
fn mtu_and_fragments_towards_ipv6() {
    let limits = Limits { mtu6: 1400, ..LIMITS };
    // total length, DF, fragment: what becomes of it
    let lens = |total: usize, df, more| {
        let packet = packet4(253, &vec![9; total - 20], |h| (h.dont_fragment, h.more_fragments) = (df, more));
        to_v6_within(&limits, &packet).map(|pieces| pieces.iter().map(Vec::len).collect::<Vec<_>>())
    };
    let too_big = |mtu| Err(Refused::answered(Reason::TooBig, Kind::FragNeeded { mtu }));
    assert_eq!(lens(1380, true, false), Ok(vec![1400]));
    assert_eq!(lens(1381, true, false), too_big(1380));
    assert_eq!(lens(1260, false, false), Ok(vec![1280]));
    assert_eq!(lens(1261, false, false), Ok(vec![1280, 57]));
    assert_eq!(lens(5000, false, false), Ok(vec![1280, 1280, 1280, 1280, 100]));
    assert_eq!(lens(1252, false, true), Ok(vec![1280]));
    assert_eq!(lens(1260, false, true), Ok(vec![1280, 56]));
    assert_eq!(lens(1372, true, true), Ok(vec![1400]), "lowest_ipv6_mtu is not for packets with DF");
    assert_eq!(
        lens(1380, true, true),
        too_big(1372),
        "a smaller answer, or the same packet would come again"
    );
    assert_eq!(lens(1388, true, true), too_big(1380));

    let wide = Limits { lowest_ipv6_mtu: 1402, mtu6: 1500, ..LIMITS };
    let packet = packet4(253, &[1; 1400], |h| {
        (h.dont_fragment, h.more_fragments, h.fragment_offset) = (false, true, 800)
    });
    let pieces = to_v6_within(&wide, &packet).unwrap();
    let fields: Vec<_> = pieces.iter().map(|piece| Fragment::parse(&piece[40..]).unwrap()).collect();
    let expected = |offset, more| Fragment { next_header: 253, offset, more, id: 0x1234 };
    assert_eq!(fields, [expected(800, true), expected(800 + 1352, true)], "the rest of a middle piece has M");
    let narrow = Limits { lowest_ipv6_mtu: 1400, mtu6: 1280, ..LIMITS };
    let packet = packet4(253, &[1; 1300], |h| h.dont_fragment = false);
    assert_eq!(to_v6_within(&narrow, &packet).unwrap()[0].len(), 1280, "never more than the link carries");
}

// ---- ICMP -----------------------------------------------------------------------------------------------------------

#[test]
fn echo_and_messages_without_counterpart() {
    let reply = |mut message: Vec<u8>, kind| {
        message[0] = kind;
        message
    };
    let out = to_v4(&packet6(58, &segment6(58, b"ping"), |_| {})).unwrap();
    assert_eq!((out[9], &out[20..22], &out[24..]), (1, &[8, 0][..], &b"\x77\x77\0\x01ping"[..]));
    assert!(transport_is_right4(&out));
    let message = summed(reply(segment(58, b"pong"), 129), 2, pseudo6(V6, peer6(), 58, 12));
    let out = to_v4(&packet6(58, &message, |_| {})).unwrap();
    assert!(out[20] == 0 && transport_is_right4(&out));

    let out = to_v6(&packet4(1, &segment4(1, b"ping"), |_| {})).unwrap();
    assert_eq!((out[6], &out[40..42], &out[44..]), (58, &[128, 0][..], &b"\x77\x77\0\x01ping"[..]));
    assert!(transport_is_right6(&out));
    let out = to_v6(&packet4(1, &summed(reply(segment(1, b"pong"), 0), 2, 0), |_| {})).unwrap();
    assert!(out[40] == 129 && transport_is_right6(&out));

    // A large echo is cut like any packet, its checksum covers the whole.
    let large = packet4(1, &segment4(1, &[5; 2000]), |h| h.dont_fragment = false);
    let pieces = to_v6_within(&LIMITS, &large).unwrap();
    let data: Vec<u8> = pieces.iter().flat_map(|piece| piece[48..].to_vec()).collect();
    assert_eq!(checksum::fold(checksum::sum(&data, pseudo6(peer6(), V6, 58, data.len()))), 0xffff);

    for kind in 0..=255 {
        if !matches!(kind, 0 | 8 | 3 | 11 | 12) {
            let message = summed(reply(segment(1, b""), kind), 2, 0);
            assert_eq!(to_v6(&packet4(1, &message, |_| {})), Err(dropped(Reason::Nat64IcmpType)), "{kind}");
        }
        if !matches!(kind, 128 | 129 | 1..=4) {
            let message = summed(reply(segment(58, b""), kind), 2, pseudo6(V6, peer6(), 58, 8));
            assert_eq!(to_v4(&packet6(58, &message, |_| {})), Err(dropped(Reason::Nat64IcmpType)), "{kind}");
        }
    }
    for (offset, more) in [(0, true), (8, false)] {
        let piece = packet6(44, &fragment6(58, offset, more, &segment6(58, b"ping")), |_| {});
        assert_eq!(to_v4(&piece), Err(dropped(Reason::Nat64IcmpFragment)));
        let piece =
            packet4(1, &segment4(1, b"ping"), |h| (h.fragment_offset, h.more_fragments) = (offset, more));
        assert_eq!(to_v6(&piece), Err(dropped(Reason::Nat64IcmpFragment)));
    }
}

#[test]
fn echo_messages_in_pieces_become_whole() {
    let data: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let message = segment6(58, &data);
    let mut whole = Vec::new();
    let mut last = None;
    for (index, chunk) in message.chunks(1232).enumerate() {
        let more = index < 2;
        let piece = packet6(44, &fragment6(58, index as u16 * 1232, more, chunk), |_| {});
        assert_eq!(to_v4(&piece), Err(dropped(Reason::Nat64IcmpFragment)));
        let mapping = mapping();
        let (header, data) = echo_piece_v6_to_v4(&mapping, &piece).unwrap();
        assert_eq!((header.id, header.protocol, header.ttl), (0x5678, 58, 63));
        assert_eq!((usize::from(header.fragment_offset), header.more_fragments), (whole.len(), more));
        assert_eq!(header.total_len, 20 + data.len());
        whole.extend_from_slice(data);
        last = Some(header);
    }
    let header = Ipv4 { total_len: 20 + whole.len(), fragment_offset: 0, ..last.unwrap() };
    let mut packet = vec![0; 20];
    header.emit(&mut packet).unwrap();
    packet.extend_from_slice(&whole);
    finish_echo_v6_to_v4(&mapping(), &mut packet).unwrap();
    assert_eq!((packet[9], packet[20], checksum::of(&packet[..20])), (1, 8, 0));
    assert!(transport_is_right4(&packet));
    assert_eq!(packet[28..], data);
    assert_eq!(finish_echo_v6_to_v4(&mapping(), &mut packet), Err(Reason::Nat64Protocol), "only once");

    let other = packet6(44, &fragment6(ip::UDP, 0, true, &message), |_| {});
    assert_eq!(echo_piece_v6_to_v4(&mapping(), &other), Err(dropped(Reason::Nat64IcmpFragment)));
    let spoofed = packet6(44, &fragment6(58, 0, true, &message), |h| h.src = h.dst);
    assert_eq!(echo_piece_v6_to_v4(&mapping(), &spoofed), Err(dropped(Reason::InnerSpoofed)));
}

/// An ICMPv6 error from the device about `quote`.
fn error6(head: [u8; 8], quote: &[u8]) -> Vec<u8> {
    let message = [&head, quote].concat();
    let pseudo = pseudo6(V6, peer6(), 58, message.len());
    packet6(58, &summed(message, 2, pseudo), |_| {})
}

/// An ICMPv4 error to the device about `quote`.
fn error4(head: [u8; 8], quote: &[u8]) -> Vec<u8> {
    packet4(1, &summed([&head, quote].concat(), 2, 0), |_| {})
}

/// What the device got, to be quoted by it.
fn received6(protocol: u8, data: &[u8]) -> Vec<u8> {
    let message = segment(protocol, data);
    let pseudo = pseudo6(peer6(), V6, protocol, message.len());
    packet6(protocol, &summed(message, checksum_at(protocol).unwrap(), pseudo), |h| {
        (h.src, h.dst, h.hop_limit) = (h.dst, h.src, 1);
    })
}

/// What the company got, to be quoted to the device.
fn received4(protocol: u8, data: &[u8]) -> Vec<u8> {
    let message = segment(protocol, data);
    let pseudo = if protocol == 1 { 0 } else { pseudo4(V4, PEER, protocol, message.len()) };
    packet4(protocol, &summed(message, checksum_at(protocol).unwrap(), pseudo), |h| {
        (h.src, h.dst, h.ttl) = (h.dst, h.src, 1);
    })
}

#[test]
fn quoted_packets_are_translated_with_their_checksums() {
    for protocol in [ip::TCP, ip::UDP, ip::ICMP] {
        let protocol6 = if protocol == ip::ICMP { 58 } else { protocol };
        let out = to_v4(&error6([1, 4, 0, 0, 0, 0, 0, 0], &received6(protocol6, b"data"))).unwrap();
        assert!(transport_is_right4(&out));
        assert_eq!(out[20..22], [3, 3]);
        let quote = Ipv4::parse(&out[28..]).unwrap();
        assert_eq!((quote.src, quote.dst, quote.ttl, quote.protocol), (PEER, V4, 1, protocol));
        assert_eq!((checksum::of(&out[28..48]), transport_is_right4(&out[28..])), (0, true));

        let out = to_v6(&error4([3, 3, 0, 0, 0, 0, 0, 0], &received4(protocol, b"data"))).unwrap();
        assert!(transport_is_right6(&out));
        assert_eq!(out[40..42], [1, 4]);
        let quote = Ipv6::parse(&out[48..]).unwrap();
        assert_eq!((quote.src, quote.dst, quote.hop_limit, quote.next_header), (V6, peer6(), 1, protocol6));
        assert!(transport_is_right6(&out[48..]));
    }
}

#[test]
fn quotes_may_be_short_but_not_of_anything() {
    let quote = received4(ip::TCP, &[1; 500]);
    let out = to_v6(&error4([11, 0, 0, 0, 0, 0, 0, 0], &quote[..28])).unwrap();
    let inner = Ipv6::parse_quoted(&out[48..]).unwrap();
    assert_eq!((out.len(), inner.payload_len), (96, 520), "the length is that of the original");
    assert_eq!(out[88..96], quote[20..28]);
    let quote = received6(ip::TCP, &[1; 500]);
    let out = to_v4(&error6([3, 0, 0, 0, 0, 0, 0, 0], &quote[..48])).unwrap();
    assert_eq!((out.len(), Ipv4::parse_quoted(&out[28..]).unwrap().total_len), (56, 540));

    let refused6 = |quote: &[u8]| to_v4(&error6([1, 4, 0, 0, 0, 0, 0, 0], quote));
    let refused4 = |quote: &[u8]| to_v6(&error4([3, 3, 0, 0, 0, 0, 0, 0], quote));
    for len in 0..40 {
        assert_eq!(refused6(&quote[..len]), Err(dropped(Reason::Nat64Quote)), "{len}");
    }
    for len in 0..20 {
        assert_eq!(refused4(&received4(ip::UDP, b"")[..len]), Err(dropped(Reason::Nat64Quote)), "{len}");
    }
    // An error about an error, a foreign address, a piece of an ICMP message, ICMPv4 in IPv6.
    let mut inner = received6(58, b"");
    inner[40] = 1;
    assert_eq!(refused6(&inner), Err(dropped(Reason::Nat64Quote)));
    let mut inner = received4(1, b"");
    inner[20] = 3;
    assert_eq!(refused4(&inner), Err(dropped(Reason::Nat64Quote)));
    let foreign = packet6(17, &[0; 8], |h| h.src = Ipv6Addr::LOCALHOST);
    assert_eq!(refused6(&foreign), Err(dropped(Reason::Nat64Quote)));
    assert_eq!(
        refused6(&packet6(44, &fragment6(58, 0, true, &segment(58, b"")), |_| {})),
        Err(dropped(Reason::Nat64Quote))
    );
    assert_eq!(refused6(&packet6(1, &[8, 0, 0, 0, 0, 0, 0, 0], |_| {})), Err(dropped(Reason::Nat64Quote)));
    assert_eq!(refused4(&packet4(58, &[128, 0, 0, 0, 0, 0, 0, 0], |_| {})), Err(dropped(Reason::Nat64Quote)));
    assert_eq!(
        refused4(&packet4(1, &segment(1, b""), |h| h.more_fragments = true)),
        Err(dropped(Reason::Nat64Quote))
    );
}

#[test]
fn quoted_fragments_and_missing_checksums() {
    let piece = packet6(44, &fragment6(ip::UDP, 1232, true, &[4; 64]), |h| (h.src, h.dst) = (h.dst, h.src));
    let out = to_v4(&error6([3, 1, 0, 0, 0, 0, 0, 0], &piece)).unwrap();
    let quote = Ipv4::parse(&out[28..]).unwrap();
    assert_eq!(
        (quote.id, quote.more_fragments, quote.fragment_offset, quote.total_len),
        (0x5678, true, 1232, 84)
    );
    assert_eq!(out[48..], [4; 64]);

    let piece = packet4(ip::UDP, &[4; 64], |h| {
        (h.src, h.dst, h.dont_fragment, h.fragment_offset) = (h.dst, h.src, false, 80);
    });
    let out = to_v6(&error4([11, 1, 0, 0, 0, 0, 0, 0], &piece)).unwrap();
    assert_eq!(Ipv6::parse(&out[48..]).unwrap().payload_len, 72);
    let expected = Fragment { next_header: ip::UDP, offset: 80, more: false, id: 0x1234 };
    assert_eq!(Fragment::parse(&out[88..]), Ok(expected));

    let no_checksum = packet4(ip::UDP, &segment(ip::UDP, b"q"), |h| (h.src, h.dst) = (h.dst, h.src));
    let out = to_v6(&error4([3, 3, 0, 0, 0, 0, 0, 0], &no_checksum)).unwrap();
    assert_eq!(out[94..96], [0, 0], "the device sent none");
}

#[test]
fn errors_with_wrong_checksums_are_dropped_and_illegal_sources_pass() {
    let mut bad = error6([1, 4, 0, 0, 0, 0, 0, 0], &received6(17, b""));
    bad[42] ^= 1;
    assert_eq!(to_v4(&bad), Err(dropped(Reason::Nat64IcmpChecksum)));
    let mut bad = error4([3, 3, 0, 0, 0, 0, 0, 0], &received4(17, b""));
    bad[22] ^= 1;
    assert_eq!(to_v6(&bad), Err(dropped(Reason::Nat64IcmpChecksum)));
    let message = summed([&[11, 0, 0, 0, 0, 0, 0, 0][..], &received4(17, b"")].concat(), 2, 0);
    let out = to_v6(&packet4(1, &message, |h| h.src = Ipv4Addr::LOCALHOST)).unwrap();
    assert_eq!(Ipv6::parse(&out).unwrap().src, mapping().prefix().embed(Ipv4Addr::LOCALHOST));
}

#[test]
fn mtus_and_pointers_in_errors() {
    let out = to_v4(&error6([2, 0, 0, 0, 0, 0, 5, 20], &received6(17, b""))).unwrap();
    assert_eq!((&out[20..22], &out[24..28]), (&[3, 4][..], &[0, 0, 5, 0][..]));
    let out = to_v6(&error4([3, 4, 0, 0, 9, 9, 5, 0], &received4(17, b""))).unwrap();
    assert_eq!((&out[40..42], &out[44..48]), (&[2, 0][..], &[0, 0, 5, 20][..]));
    let out = to_v4(&error6([4, 0, 0, 0, 0, 0, 0, 24], &received6(17, b""))).unwrap();
    assert_eq!((&out[20..22], &out[24..28]), (&[12, 0][..], &[16, 0, 0, 0][..]));
    let out = to_v6(&error4([12, 0, 0, 0, 16, 0, 0, 0], &received4(17, b""))).unwrap();
    assert_eq!((&out[40..42], &out[44..48]), (&[4, 0][..], &[0, 0, 0, 24][..]));
    assert_eq!(
        to_v6(&error4([12, 0, 0, 0, 20, 0, 0, 0], &received4(17, b""))),
        Err(dropped(Reason::Nat64IcmpType))
    );
}

#[test]
fn extensions_of_errors() {
    // A quote of 76 octets, padded to 128, and 12 octets of extension: no padding is taken for quote.
    let extension = [0x20, 0, 0xab, 0xcd, 0, 8, 1, 1, 1, 2, 3, 4];
    let quote = received4(17, &[6; 48]);
    let padded = [&quote[..], &[0; 52], &extension].concat();
    let out = to_v6(&error4([11, 0, 0, 0, 0, 32, 0, 0], &padded)).unwrap();
    assert!(transport_is_right6(&out));
    assert_eq!((out.len(), &out[44..48]), (40 + 8 + 128 + 12, &[16, 0, 0, 0][..]));
    assert_eq!((&out[48 + 96..48 + 128], &out[48 + 128..]), (&[0; 32][..], &extension[..]));

    let quote = received6(17, &[6; 84]);
    let padded = [&quote[..], &[0; 4], &extension].concat();
    let out = to_v4(&error6([1, 0, 0, 0, 17, 0, 0, 0], &padded)).unwrap();
    assert!(transport_is_right4(&out));
    assert_eq!((out.len(), &out[24..28]), (20 + 8 + 128 + 12, &[0, 32, 0, 0][..]));
    assert_eq!(out[28 + 128..], extension);

    // Messages without a length field in ICMPv6 lose it.
    let padded = [&received4(17, &[6; 48])[..], &[0; 52], &extension].concat();
    for head in [[3, 4, 0, 0, 0, 32, 5, 0], [12, 0, 0, 0, 9, 32, 0, 0], [3, 2, 0, 0, 0, 32, 0, 0]] {
        let out = to_v6(&error4(head, &padded)).unwrap();
        assert_eq!(out.len(), 48 + 96, "{head:?}");
        assert!(out[44] == 0 && transport_is_right6(&out));
    }
    // A length beyond the message, and room for nothing but the quote.
    let out = to_v6(&error4([11, 0, 0, 0, 0, 255, 0, 0], &received4(17, &[6; 48]))).unwrap();
    assert_eq!((out.len(), out[44]), (144, 0));
    let packet = error4([11, 0, 0, 0, 0, 32, 0, 0], &padded);
    let mut buf = [&[0; 20], &packet[..]].concat();
    let end = buf.len();
    let Ok(Translated::Whole(range)) = translate_v4_to_v6(&mapping(), &LIMITS, &mut buf, 20..end) else {
        panic!()
    };
    assert!(range.start < 20 && transport_is_right6(&buf[range]));
}

// ---- properties -----------------------------------------------------------------------------------------------------

fn protocols() -> impl Strategy<Value = u8> {
    prop_oneof![Just(ip::TCP), Just(ip::UDP), Just(ipv6::ICMPV6), Just(253)]
}

/// Back to front: the same packet, from the other side.
fn mirrored4(mut packet: Vec<u8>) -> Vec<u8> {
    let header = Ipv4::parse(&packet).unwrap();
    let tos = packet[1];
    emit_v4(&Ipv4 { src: header.dst, dst: header.src, ..header }, tos, &mut packet).unwrap();
    packet
}

fn mirrored6(mut packet: Vec<u8>) -> Vec<u8> {
    let header = Ipv6::parse(&packet).unwrap();
    Ipv6 { src: header.dst, dst: header.src, ..header }.emit(&mut packet).unwrap();
    packet
}

/// The same number in one's complement: a checksum of 0xffff may come back as 0.
fn normalized(mut packet: Vec<u8>, at: Option<usize>) -> Vec<u8> {
    if let Some(at) = at
        && packet.get(at..at + 2) == Some(&[0xff, 0xff])
    {
        packet[at..at + 2].fill(0);
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_from_ipv6(
        protocol in protocols(),
        data in proptest::collection::vec(any::<u8>(), 0..400),
        flips in any::<[u8; 2]>(),
        (traffic_class, hop_limit) in (any::<u8>(), 3_u8..),
        piece in proptest::option::of((0_u16..8000, any::<bool>())),
    ) {
        let mut message = segment6(protocol, &data);
        let at = checksum_at(protocol);
        if let Some(at) = at {
            message[at] ^= flips[0];
            message[at + 1] ^= flips[1];
            prop_assume!(protocol != ip::UDP || message[at..at + 2] != [0, 0]);
        }
        let piece = piece.filter(|_| protocol != ipv6::ICMPV6).filter(|(offset, more)| *more || *offset > 0);
        let (next_header, payload, shift) = match piece {
            Some((offset, more)) => {
                let mut payload = fragment6(protocol, offset * 8, more, &message);
                payload[4..6].fill(0); // the high half of the identification does not survive
                (44, payload, 48)
            }
            None => (protocol, message, 40),
        };
        let before = packet6(next_header, &payload, |h| (h.traffic_class, h.hop_limit) = (traffic_class, hop_limit));
        let there = mirrored4(to_v4(&before).unwrap());
        let mut back = mirrored6(to_v6(&there).unwrap());
        prop_assert_eq!(back[7], hop_limit - 2);
        back[7] = hop_limit;
        let at = at.map(|at| at + shift);
        prop_assert_eq!(normalized(back, at), normalized(before, at));
    }

    #[test]
    fn there_and_back_from_ipv4(
        protocol in prop_oneof![Just(ip::TCP), Just(ip::UDP), Just(ip::ICMP), Just(253)],
        data in proptest::collection::vec(any::<u8>(), 0..400),
        flips in any::<[u8; 2]>(),
        ttl in 3_u8..,
        piece in proptest::option::of((0_u16..8000, any::<bool>())),
    ) {
        let mut message = segment4(protocol, &data);
        let at = checksum_at(protocol);
        if let Some(at) = at {
            message[at] ^= flips[0];
            message[at + 1] ^= flips[1];
            prop_assume!(protocol != ip::UDP || message[at..at + 2] != [0, 0]);
        }
        let piece = piece.filter(|_| protocol != ip::ICMP).filter(|(offset, more)| *more || *offset > 0);
        let before = packet4(protocol, &message, |h| {
            h.ttl = ttl;
            (h.id, h.dont_fragment) = (0x4242, false);
            if let Some((offset, more)) = piece {
                (h.fragment_offset, h.more_fragments) = (offset * 8, more);
            }
        });
        let there = mirrored6(to_v6(&before).unwrap());
        let back = mirrored4(to_v4(&there).unwrap());
        let header = Ipv4::parse(&back).unwrap();
        prop_assert_eq!(header, Ipv4 { ttl: ttl - 2, ..Ipv4::parse(&before).unwrap() });
        let at = at.map(|at| at + 20);
        prop_assert_eq!(&normalized(back, at)[20..], &normalized(before, at)[20..]);
    }

    #[test]
    fn right_checksums_stay_right(
        protocol in prop_oneof![Just(ip::TCP), Just(ip::UDP), Just(ipv6::ICMPV6)],
        data in proptest::collection::vec(any::<u8>(), 0..1200),
        device in any::<(u128, u32)>(),
        host in any::<u32>(),
    ) {
        let host = Ipv4Addr::from(host);
        prop_assume!(!is_illegal(host) && Ipv4Addr::from(device.1) != host);
        let prefix = mapping().prefix();
        let (v6, v4) = (Ipv6Addr::from(device.0), Ipv4Addr::from(device.1));
        let mapping = Mapping::new(prefix, v6, v4, HOST);
        let message = segment(protocol, &data);
        let at = checksum_at(protocol).unwrap();
        let pseudo = pseudo6(v6, prefix.embed(host), protocol, message.len());
        let mut buf = packet6(protocol, &summed(message, at, pseudo), |h| (h.src, h.dst) = (v6, prefix.embed(host)));
        let end = buf.len();
        let range = translate_v6_to_v4(&mapping, &LIMITS, &mut buf, 0..end, 1).unwrap();
        prop_assert!(transport_is_right4(&buf[range.clone()]));
        let mut packet = mirrored4(buf[range].to_vec());
        let mut buf = [&[0; 20][..], &packet].concat();
        let end = buf.len();
        packet.clear();
        let Ok(Translated::Whole(range)) = translate_v4_to_v6(&mapping, &LIMITS, &mut buf, 20..end) else {
            return Err(TestCaseError::fail("not translated"));
        };
        prop_assert!(transport_is_right6(&buf[range]));
    }

    #[test]
    fn no_octets_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        sample in 0_usize..8,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
        front in 0_usize..130,
    ) {
        let extension = [&received4(17, &[6; 48])[..], &[0; 52], &[0x20; 12]].concat();
        let samples = [
            bytes.clone(),
            packet6(0, &[&[43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0][..], &fragment6(17, 0, true, &segment6(17, &bytes))].concat(), |_| {}),
            error6([1, 0, 0, 0, 9, 0, 0, 0], &[&received6(6, &[6; 84])[..], &bytes].concat()),
            packet6(58, &segment6(58, &bytes), |_| {}),
            with_options(&packet4(17, &segment4(17, &bytes), |_| {}), &[131, 7, 8, 10, 0, 0, 1, 0]),
            error4([11, 0, 0, 0, 0, 32, 0, 0], &extension),
            packet4(1, &segment4(1, &bytes), |h| h.dont_fragment = false),
            packet4(17, &[7; 4000], |h| (h.dont_fragment, h.more_fragments) = (false, true)),
        ];
        let mut packet = samples[sample].clone();
        for (at, flip) in flips {
            if !packet.is_empty() {
                let at = at.index(packet.len());
                packet[at] ^= flip;
            }
        }
        // The header checksum would hide the rest from the test.
        if packet.len() >= 20 && packet[0] >> 4 == 4 {
            let len = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..len]).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        packet.truncate(cut.index(packet.len() + 1).max(packet.len() / 2));
        let _ = to_v4(&packet);
        let _ = to_v6_within(&LIMITS, &packet);
        let mut buf = [&vec![0; front][..], &packet].concat();
        let end = buf.len();
        let _ = translate_v4_to_v6(&mapping(), &LIMITS, &mut buf, front..end);
        let _ = translate_v4_to_v6(&mapping(), &LIMITS, &mut buf, end..front);
        let _ = translate_v6_to_v4(&mapping(), &LIMITS, &mut buf, front..end + 1, 0);
        let _ = room_in_front(&packet);
        let mut error = [0; MAX_LEN];
        let _ = emit_error(&mut error, V6, Kind6::NoRoute, &packet);
        let _ = echo_piece_v6_to_v4(&mapping(), &packet);
        let _ = finish_echo_v6_to_v4(&mapping(), &mut packet);
    }
}
