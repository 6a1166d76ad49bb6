//! N62 and N63: what is inside authentic packets of a device.

use super::*;
use crate::base::DeviceId;
use crate::crypto::Secret;
use crate::nat::icmp;

const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const MTU: u16 = 1400;
const UDP: u8 = 17;

fn selector(first: &str, last: &str) -> TrafficSelector {
    let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
    TrafficSelector { first, last, protocol: 0, port_first: 0, port_last: u16::MAX }
}

/// A tunnel that opens what it seals, to 10.0.0.0/8; with IPv6 behind NAT64 where it is wanted.
fn tunnel(ts_local: Vec<TrafficSelector>, ipv6: bool) -> Tunnel {
    let pool = Pool::DEFAULT;
    let prefix: Prefix96 = "64:ff9b:1::/96".parse().unwrap();
    let cipher = Cipher::Aes128Gcm;
    let key = || Secret::new(vec![7; cipher.keymat_len()]);
    let child = ChildSa {
        device: DeviceId(1),
        spi_in: 0x1000,
        spi_out: 0x1000,
        cipher,
        key_in: key(),
        key_out: key(),
        address: DEVICE,
        address6: ipv6.then(|| "fd00::2".parse().unwrap()),
        ts_local,
        ts_remote: Vec::new(),
        path: Path {
            socket: 0,
            local: None,
            local_port: 4500,
            remote: "192.0.2.1:4500".parse().unwrap(),
            marker: true,
        },
        replaces: None,
    };
    Tunnel::new(&child, pool, ipv6.then_some(prefix)).unwrap()
}

fn company() -> Tunnel {
    tunnel(vec![selector("10.0.0.0", "10.255.255.255")], false)
}

/// What becomes of an inner packet that the device seals, and what is left of it.
fn opened(tunnel: &Tunnel, inner: &[u8]) -> (Verdict, Vec<u8>) {
    let mut buf = vec![0; tunnel.esp.sealed_len(inner.len())];
    buf[tunnel.esp.headroom()..][..inner.len()].copy_from_slice(inner);
    let len = esp::seal(&tunnel.esp, 1, &mut buf, inner.len()).unwrap();
    let origin = Origin::Company;
    let mut slot = Slot { range: 0..len, seq: 1, origin, inner: 0, verdict: Verdict::Pending };
    open(tunnel, &mut buf, &mut slot, MTU, None);
    (slot.verdict, buf.get(slot.range.clone()).unwrap().to_vec())
}

/// An IPv4 packet with options, flags and offset, and a payload.
fn ipv4(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    options: &[u8],
    fragment: u16,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = (header_len + payload.len()) as u16;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(options);
    let sum = checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn udp(port: u16) -> Vec<u8> {
    [&9u16.to_be_bytes()[..], &port.to_be_bytes(), &[0, 16, 0, 0], &[5; 8]].concat()
}

fn plain(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    ipv4(src, dst, &[], 0, UDP, &udp(53))
}

#[test]
fn n62_lengths_of_the_packet_inside() {
    let tunnel = company();
    let good = plain(DEVICE, SERVER);
    assert_eq!(opened(&tunnel, &good).0, Verdict::Forward);
    let malformed = Verdict::Drop(Reason::InnerMalformed);
    for len in 1..good.len() {
        assert_eq!(opened(&tunnel, &good[..len]).0, malformed, "cut to {len} octets");
    }
    let with_length = |length: u16| {
        let mut bad = good.clone();
        bad[2..4].copy_from_slice(&length.to_be_bytes());
        bad
    };
    for length in [0, 1, 19, good.len() as u16 + 1, u16::MAX] {
        assert_eq!(opened(&tunnel, &with_length(length)).0, malformed, "said to be {length} octets long");
    }
    for header in [0x40, 0x44, 0x4f] {
        let mut bad = good.clone();
        bad[0] = header;
        assert_eq!(opened(&tunnel, &bad).0, malformed, "header {header:x}");
    }
}

#[test]
fn n63_addresses_that_a_device_may_not_use() {
    let tunnel = company();
    let other = Ipv4Addr::new(198, 19, 255, 3);
    let drop = Verdict::Drop;
    for (name, src, dst, expected) in [
        ("as it should be", DEVICE, SERVER, Verdict::Forward),
        ("the source of another device", other, SERVER, drop(Reason::InnerSpoofed)),
        ("a source of the company", SERVER, SERVER, drop(Reason::InnerSpoofed)),
        ("no source", Ipv4Addr::UNSPECIFIED, SERVER, drop(Reason::InnerSpoofed)),
        ("our own source", Pool::DEFAULT.host(), SERVER, drop(Reason::InnerSpoofed)),
        ("outside the selectors", DEVICE, Ipv4Addr::new(11, 0, 0, 1), drop(Reason::InnerSelector)),
        ("another device", DEVICE, other, drop(Reason::InnerHairpin)),
        ("itself", DEVICE, DEVICE, drop(Reason::InnerHairpin)),
        ("loopback", DEVICE, Ipv4Addr::LOCALHOST, drop(Reason::InnerIllegal)),
        ("multicast", DEVICE, Ipv4Addr::new(224, 0, 0, 251), drop(Reason::InnerIllegal)),
        ("broadcast", DEVICE, Ipv4Addr::BROADCAST, drop(Reason::InnerIllegal)),
        ("nowhere", DEVICE, Ipv4Addr::UNSPECIFIED, drop(Reason::InnerIllegal)),
        ("the in-tunnel host", DEVICE, Pool::DEFAULT.host(), Verdict::Local),
    ] {
        assert_eq!(opened(&tunnel, &plain(src, dst)).0, expected, "{name}");
    }
}

#[test]
fn n63_selectors_with_ports_and_fragments() {
    let dns = TrafficSelector {
        protocol: UDP,
        port_first: 53,
        port_last: 53,
        ..selector("10.0.0.0", "10.0.0.255")
    };
    let tunnel = tunnel(vec![dns], false);
    let server = Ipv4Addr::new(10, 0, 0, 53);
    let (more, later) = (0x2000, 0x0010);
    let outside = Verdict::Drop(Reason::InnerSelector);
    for (name, packet, expected) in [
        ("its port", ipv4(DEVICE, server, &[], 0, UDP, &udp(53)), Verdict::Forward),
        ("another port", ipv4(DEVICE, server, &[], 0, UDP, &udp(54)), outside),
        ("another protocol", ipv4(DEVICE, server, &[], 0, 6, &udp(53)), outside),
        ("the first fragment", ipv4(DEVICE, server, &[], more, UDP, &udp(53)), Verdict::Forward),
        ("the first fragment of another port", ipv4(DEVICE, server, &[], more, UDP, &udp(54)), outside),
        // It has no port: what it belongs to went by address and protocol, and its first fragment was looked at.
        ("a later fragment", ipv4(DEVICE, server, &[], later, UDP, &udp(54)), Verdict::Forward),
        ("a later fragment elsewhere", ipv4(DEVICE, SERVER, &[], later, UDP, &udp(53)), outside),
        ("too short for a port", ipv4(DEVICE, server, &[], 0, UDP, &[9]), Verdict::Forward),
        ("behind options", ipv4(DEVICE, server, &[1; 8], 0, UDP, &udp(53)), Verdict::Forward),
        ("another port behind options", ipv4(DEVICE, server, &[1; 8], 0, UDP, &udp(54)), outside),
    ] {
        assert_eq!(opened(&tunnel, &packet).0, expected, "{name}");
    }
}

#[test]
fn n63_odd_packets_inside() {
    let tunnel = company();
    // Options of the greatest length, and those that would choose a route, which no option does here.
    for options in [vec![1; 40], vec![0x83, 7, 4, 8, 8, 8, 8, 0], vec![0x44, 40, 5, 0]] {
        let packet = ipv4(DEVICE, SERVER, &options, 0, UDP, &udp(53));
        assert_eq!(opened(&tunnel, &packet).0, Verdict::Forward, "options {options:?}");
    }
    // An ICMP error about a packet of the company: it goes where its own header says.
    let mut error = [0; 576];
    let quoted = plain(SERVER, DEVICE);
    let len = icmp::emit_error(&mut error, DEVICE, Kind::TtlExceeded, &quoted).unwrap();
    assert_eq!(opened(&tunnel, &error[..len]).0, Verdict::Forward);
    // What follows the packet in its padding is not sent on.
    let good = plain(DEVICE, SERVER);
    let (verdict, rest) = opened(&tunnel, &[&good[..], &[0xaa; 200]].concat());
    assert_eq!((verdict, rest.len()), (Verdict::Forward, good.len()), "traffic flow confidentiality");
    // Its time is over, and it is too large: told by ICMP.
    let mut old = good.clone();
    old[8] = 1;
    assert!(matches!(opened(&tunnel, &old).0, Verdict::Answer(Reason::TtlExceeded, _)));
    let large = ipv4(DEVICE, SERVER, &[], 0x4000, UDP, &[7; 1500]);
    assert!(matches!(opened(&tunnel, &large).0, Verdict::Answer(Reason::TooBig, _)));
    assert_eq!(opened(&tunnel, &ipv4(DEVICE, SERVER, &[], 0, UDP, &[7; 1500])).0, Verdict::Fragment);
}

/// An IPv6 packet with a chain of extension headers in front of UDP.
fn ipv6(src: &str, dst: &str, extensions: &[(u8, Vec<u8>)], port: u16) -> Vec<u8> {
    let mut payload = vec![];
    let next = extensions.iter().skip(1).map(|extension| extension.0).chain([UDP]);
    for ((_, body), next) in extensions.iter().zip(next) {
        payload.push(next);
        payload.extend(body);
    }
    let mut datagram = udp(port);
    datagram[6] = 1; // some checksum: without one there is no UDP over IPv6
    payload.extend(datagram);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([extensions.first().map_or(UDP, |extension| extension.0), 64]);
    packet.extend(src.parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend(dst.parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend(payload);
    packet
}

#[test]
fn n63_ipv6_inside() {
    let (device, server) = ("fd00::2", "64:ff9b:1::a4d:50");
    let good = ipv6(device, server, &[], 53);
    assert_eq!(opened(&company(), &good).0, Verdict::Drop(Reason::InnerFamily), "in a tunnel for IPv4");
    let tunnel = tunnel(vec![selector("64:ff9b:1::", "64:ff9b:1::ffff:ffff")], true);
    assert_eq!(opened(&tunnel, &good).0, Verdict::Forward);
    for len in 1..good.len() {
        let verdict = opened(&tunnel, &good[..len]).0;
        assert_eq!(verdict, Verdict::Drop(Reason::InnerMalformed), "cut to {len} octets");
    }
    let outside = Verdict::Drop(Reason::InnerSelector);
    for (name, src, dst, expected) in [
        ("another source", "fd00::3", server, Verdict::Drop(Reason::InnerSpoofed)),
        ("no source", "::", server, Verdict::Drop(Reason::InnerSpoofed)),
        ("outside the selectors", device, "2001:db8::1", outside),
        ("loopback", device, "::1", outside),
        ("multicast", device, "ff02::1", outside),
        ("another device", device, "64:ff9b:1::c613:ff03", Verdict::Drop(Reason::InnerHairpin)),
        ("IPv4's loopback", device, "64:ff9b:1::7f00:1", Verdict::Drop(Reason::InnerIllegal)),
        ("the in-tunnel host", device, "64:ff9b:1::c613:ff01", Verdict::Local),
    ] {
        assert_eq!(opened(&tunnel, &ipv6(src, dst, &[], 53)).0, expected, "{name}");
    }
    assert_eq!(opened(&tunnel, &plain(DEVICE, SERVER)).0, outside, "IPv4 was not agreed on");
    // Extension headers: options and spent routes are left out, what cannot be translated is refused; none panics.
    let options = || vec![0, 1, 4, 0, 0, 0, 0];
    let hop_by_hop = (0, options());
    let destination = (60, options());
    let spent_route = (43, vec![0, 0, 0, 0, 0, 0, 0]);
    let chain = ipv6(device, server, &[hop_by_hop, destination, spent_route], 53);
    assert_eq!(opened(&tunnel, &chain).0, Verdict::Forward, "left out");
    let route = (43, vec![2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (name, extensions) in [
        ("a route that is not spent", vec![route]),
        ("a header longer than the packet", vec![(60, vec![255, 1, 4, 0, 0, 0, 0])]),
        ("a long chain of nothing", vec![(60, options()); 200]),
    ] {
        let packet = ipv6(device, server, &extensions, 53);
        let (verdict, _) = opened(&tunnel, &packet);
        let refused = matches!(verdict, Verdict::Drop(_) | Verdict::Answer6(..));
        assert!(refused || name.starts_with("a long"), "{name}: {verdict:?}");
        for cut in 41..packet.len().min(200) {
            let mut cut_short = packet[..cut].to_vec();
            cut_short[4..6].copy_from_slice(&((cut - 40) as u16).to_be_bytes());
            opened(&tunnel, &cut_short);
        }
    }
}
