//! Inner packets and the SA that both benches use.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pterodapter::base::{ChildSa, DeviceId, Path, TrafficSelector};
use pterodapter::crypto::{Aead, Secret};
use pterodapter::wire::checksum;

/// The device's inner address, where the bench itself assigns it.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
/// Our address in the company network.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);
/// A host in the company network.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
/// The device's port.
pub const DEVICE_PORT: u16 = 4000;
/// The host's port.
pub const SERVER_PORT: u16 = 9000;
/// Where the number of a packet is in it: behind the IPv4 and UDP headers.
pub const NUMBER_AT: usize = 28;

/// A UDP packet of `len` octets that carries `number`, with right checksums.
pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), len: usize, number: u32) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&from.0.octets());
    packet[16..20].copy_from_slice(&to.0.octets());
    let header = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    packet[20..22].copy_from_slice(&from.1.to_be_bytes());
    packet[22..24].copy_from_slice(&to.1.to_be_bytes());
    packet[24..26].copy_from_slice(&(len as u16 - 20).to_be_bytes());
    packet[26..28].fill(0);
    packet[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&number.to_be_bytes());
    let pseudo = checksum::pseudo_v4(from.0.octets(), to.0.octets(), 17, len as u16 - 20);
    let sum = !checksum::fold(checksum::sum(&packet[20..], pseudo));
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A packet from the device to the host.
pub fn outbound(device: Ipv4Addr, len: usize, number: u32) -> Vec<u8> {
    udp((device, DEVICE_PORT), (SERVER, SERVER_PORT), len, number)
}

/// A packet from the host to the device, as the gateway sends it.
pub fn inbound(len: usize, number: u32) -> Vec<u8> {
    udp((SERVER, SERVER_PORT), (EXTERNAL, DEVICE_PORT), len, number)
}

/// A Child SA with the same key in both directions, so that what was sealed with it can be opened with it.
pub fn child_sa(aead: Aead) -> ChildSa {
    let key = || Secret::new(vec![0x17; aead.keymat_len()]);
    let any = |first: [u8; 4], last: [u8; 4]| TrafficSelector {
        first: IpAddr::from(first),
        last: IpAddr::from(last),
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    };
    ChildSa {
        device: DeviceId(1),
        spi_in: 0x1001,
        spi_out: 0x1001,
        aead,
        key_in: key(),
        key_out: key(),
        address: DEVICE,
        address6: None,
        ts_local: vec![any([0; 4], [255; 4])],
        ts_remote: vec![any(DEVICE.octets(), DEVICE.octets())],
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
