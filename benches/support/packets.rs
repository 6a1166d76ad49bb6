//! Inner packets and the SA that both benches use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pterodapter::base::{ChildSa, DeviceId, Path, TrafficSelector};
use pterodapter::crypto::{Cipher, Secret};
use pterodapter::nat::Prefix96;
use pterodapter::wire::ip::{self, Ipv4};
use pterodapter::wire::ipv6::{self, Ipv6};
use pterodapter::wire::{checksum, tcp, udp};

/// The device's inner address, where the bench itself assigns it.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
/// The same by IPv6, where it is asked for.
pub const DEVICE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Our address in the company network.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);
/// A host in the company network.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
/// The device's port.
pub const DEVICE_PORT: u16 = 4000;
/// The host's port.
pub const SERVER_PORT: u16 = 9000;
/// An IPv6 header is so much longer than an IPv4 header.
pub const NAT64_GROWTH: usize = 20;

/// The prefix that stands for IPv4 where a device speaks IPv6.
pub const PREFIX: &str = "64:ff9b:1::/96";

/// The same, parsed.
pub fn prefix() -> Prefix96 {
    PREFIX.parse().expect("a prefix")
}

/// A UDP packet of `len` octets that carries `number`, with right checksums.
pub fn udp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, len: usize, number: u32) -> Vec<u8> {
    packet(ip::UDP, from, to, len, number)
}

/// The same of UDP or TCP: then in the middle of a connection. The addresses are of one family.
pub fn packet(
    protocol: u8,
    from: impl Into<SocketAddr>,
    to: impl Into<SocketAddr>,
    len: usize,
    number: u32,
) -> Vec<u8> {
    let (from, to) = (from.into(), to.into());
    let mut packet = vec![0x5a; len];
    let (segment_at, pseudo) = match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4 {
                header_len: ip::HEADER_LEN,
                total_len: len,
                id: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol,
                src,
                dst,
            };
            header.emit(&mut packet).expect("room");
            let segment_len = (len - ip::HEADER_LEN) as u16;
            (ip::HEADER_LEN, checksum::pseudo_v4(src.octets(), dst.octets(), protocol, segment_len))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let payload_len = len - ipv6::HEADER_LEN;
            let header =
                Ipv6 { traffic_class: 0, payload_len, next_header: protocol, hop_limit: 64, src, dst };
            header.emit(&mut packet).expect("room");
            let pseudo = checksum::pseudo_v6(src.octets(), dst.octets(), protocol, payload_len as u32);
            (ipv6::HEADER_LEN, pseudo)
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    let segment = &mut packet[segment_at..];
    let [len_high, len_low] = (segment.len() as u16).to_be_bytes();
    let (header, checksum_at): (&[u8], usize) = match protocol {
        // Sequence numbers; a header of 20 octets, ACK; window.
        ip::TCP => (&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0], tcp::CHECKSUM),
        _ => (&[len_high, len_low, 0, 0], udp::CHECKSUM),
    };
    let start =
        [&from.port().to_be_bytes(), &to.port().to_be_bytes(), header, &number.to_be_bytes()].concat();
    segment[..start.len()].copy_from_slice(&start);
    let sum = match !checksum::fold(checksum::sum(segment, pseudo)) {
        0 => 0xffff, // zero would say "no checksum"
        sum => sum,
    };
    segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A packet from the device to the host, which has `len` octets as IPv4. A device with an IPv6 address sends IPv6.
pub fn outbound(device: impl Into<IpAddr>, len: usize, number: u32) -> Vec<u8> {
    match device.into() {
        IpAddr::V4(device) => udp((device, DEVICE_PORT), (SERVER, SERVER_PORT), len, number),
        IpAddr::V6(device) => {
            udp((device, DEVICE_PORT), (prefix().embed(SERVER), SERVER_PORT), len + NAT64_GROWTH, number)
        }
    }
}

/// A packet from the host to the device, as the gateway sends it.
pub fn inbound(len: usize, number: u32) -> Vec<u8> {
    udp((SERVER, SERVER_PORT), (EXTERNAL, DEVICE_PORT), len, number)
}

/// A Child SA with the same key in both directions, so that what was sealed with it can be opened with it.
pub fn child_sa(cipher: Cipher) -> ChildSa {
    let key = || Secret::new(vec![0x17; cipher.keymat_len()]);
    let any = |first: IpAddr, last: IpAddr| TrafficSelector {
        first,
        last,
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    };
    ChildSa {
        device: DeviceId(1),
        spi_in: 0x1001,
        spi_out: 0x1001,
        cipher,
        key_in: key(),
        key_out: key(),
        address: DEVICE,
        address6: Some(DEVICE6),
        ts_local: vec![
            any([0; 4].into(), [255; 4].into()),
            any(prefix().network().into(), prefix().embed(Ipv4Addr::BROADCAST).into()),
        ],
        ts_remote: vec![any(DEVICE.into(), DEVICE.into()), any(DEVICE6.into(), DEVICE6.into())],
        path: Path {
            socket: 0,
            local: None,
            local_port: 4500,
            remote: SocketAddr::from(([127, 0, 0, 1], 4500)),
            marker: true,
        },
        replaces: None,
    }
}

/// Octets in front of the inner packet with AES-GCM: ESP header and IV.
pub const ESP_HEAD: usize = 8 + 8;
/// Octets of an AES-GCM tag.
pub const TAG: usize = 16;

/// Octets of the ESP packet around an inner packet of `len`, with AES-GCM.
pub const fn sealed_len(len: usize) -> usize {
    ESP_HEAD + (len + 2).next_multiple_of(4) + TAG
}
