//! Those of the negative cases N01 to N70 that need sockets, packets or the uplink: the whole daemon on loopback. The
//! others are in src/ike/tests/negative, `esp` and `engine::job`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::happens;
use lab::{Lab, Setup, eventually, password};
use pterodapter::demo::gateway::CloseStyle;
use pterodapter::demo::probe::RawTunnel;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const MARKER: [u8; 4] = [0; 4];
const A_MOMENT: Duration = Duration::from_millis(300);

/// A stranger's socket.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(A_MOMENT)).unwrap();
    socket
}

/// What comes back within a moment.
fn answer(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).ok()?;
    Some(buffer[..len].to_vec())
}

fn ports(lab: &Lab) -> [SocketAddr; 2] {
    [lab.daemon().ike_addresses()[0], lab.daemon().nat_addresses()[0]]
}

fn drops(lab: &Lab, name: &str) -> u64 {
    lab.daemon().counters().snapshot().drops.get(name).copied().unwrap_or(0)
}

/// A client connects and works.
fn serves(lab: &Lab) {
    let client = lab.connect("laptop.example").unwrap();
    client.dpd().unwrap();
    client.disconnect().unwrap();
    eventually(Duration::from_secs(5), "the client is gone", || lab.state().devices.is_empty());
}

/// An IKE_SA_INIT request with a vendor ID and nothing else: IKE that is answered, by INVALID_SYNTAX, which is shorter.
fn empty_init(spi_i: u64) -> Vec<u8> {
    let mut message = spi_i.to_be_bytes().to_vec();
    message.extend([0; 8]);
    message.extend([43, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 48]);
    message.extend([0, 0, 0, 20]);
    message.extend([7; 16]);
    message
}

#[test]
fn n01_datagrams_that_are_too_short_on_both_ports() {
    let lab = Lab::start(Setup::default());
    let socket = socket();
    for port in ports(&lab) {
        for len in 0..32 {
            for fill in [0, 1, 0xff] {
                let short = vec![fill; len];
                socket.send_to(&short, port).unwrap();
                socket.send_to(&[&MARKER[..], &short].concat(), port).unwrap();
            }
            // Zeros, then something: a marker, or the beginning of an SPI.
            let zeros: Vec<u8> = (0..len).map(|at| if at < 4 { 0 } else { at as u8 }).collect();
            socket.send_to(&zeros, port).unwrap();
        }
    }
    assert_eq!(answer(&socket), None);
    assert!(drops(&lab, "udp_garbage") > 0);
    serves(&lab);
}

#[test]
fn n09_an_initiators_spi_that_begins_like_the_marker() {
    let lab = Lab::start(Setup::default());
    let [ike, nat] = ports(&lab);
    let message = empty_init(0x0000_0000_1234_5678);
    let socket = socket();
    socket.send_to(&message, ike).unwrap();
    let told = answer(&socket).unwrap();
    assert_eq!((&told[..8], told[18]), (&message[..8], 34), "IKE, without a marker");
    socket.send_to(&[&MARKER[..], &message].concat(), nat).unwrap();
    let told = answer(&socket).unwrap();
    assert_eq!((&told[..4], &told[4..12]), (&MARKER[..], &message[..8]), "the same with one");
    serves(&lab);
}

/// What a datagram is shows its content: of the two ports neither is for one kind only.
#[test]
fn n10_esp_on_the_port_of_ike_and_ike_without_marker_on_the_other() {
    let lab = Lab::start(Setup::default());
    let [ike, nat] = ports(&lab);
    let socket = socket();
    for len in [8, 28, 60, 1400] {
        let mut esp = vec![0x5a; len];
        esp[..4].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        let before = drops(&lab, "esp_unknown_spi");
        socket.send_to(&esp, ike).unwrap();
        let dropped = || drops(&lab, "esp_unknown_spi") == before + 1;
        eventually(Duration::from_secs(5), "dropped and counted", dropped);
    }
    assert_eq!(answer(&socket), None);
    // A message without marker where there should be one: an SPI that is nobody's, unless it is IKE to the last octet.
    let message = empty_init(0x1234_5678_0000_0001);
    let before = drops(&lab, "esp_unknown_spi");
    socket.send_to(&[&message[..], &[0]].concat(), nat).unwrap();
    eventually(Duration::from_secs(5), "ESP of an SPI that is nobody's", || {
        drops(&lab, "esp_unknown_spi") == before + 1
    });
    assert_eq!(answer(&socket), None);
    socket.send_to(&message, nat).unwrap();
    assert_eq!(answer(&socket).unwrap()[..8], message[..8], "answered as it came, without a marker");
    serves(&lab);
}

/// Behind a marker the message ID stands where the length would be without one: here it is the length, too.
#[test]
fn n10_message_ids_that_are_also_lengths() {
    let lab = Lab::start(Setup::default());
    let client = lab.connect("laptop.example").unwrap();
    for number in 0..150 {
        assert!(client.dpd().is_ok(), "request {number}");
    }
    client.disconnect().unwrap();
}

#[test]
fn n11_keepalives_and_what_looks_like_them() {
    let lab = Lab::start(Setup::default());
    let [_, nat] = ports(&lab);
    let socket = socket();
    for datagram in [&[0xff][..], &[0xff, 0xff], &[], &[0xff; 4], &[0xff; 7]] {
        socket.send_to(datagram, nat).unwrap();
        assert_eq!(answer(&socket), None, "{datagram:?}");
    }
    assert_eq!(drops(&lab, "udp_garbage"), 3, "what is neither a keepalive nor nothing");
    serves(&lab);
}

/// An echo request of the tunnel's device to the company, sealed.
fn echo(tunnel: &mut RawTunnel, number: u8) -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum = words.sum::<u32>();
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    };
    let mut inner = vec![0x45, 0, 0, 28, 0, number, 0, 0, 64, 1, 0, 0];
    inner.extend(tunnel.address.octets());
    inner.extend(SERVER.octets());
    let header_sum = sum(&inner);
    inner[10..12].copy_from_slice(&header_sum);
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, number];
    let icmp_sum = sum(&icmp);
    icmp[2..4].copy_from_slice(&icmp_sum);
    inner.extend(icmp);
    tunnel.seal(&inner).unwrap()
}

/// The number of the echo reply that comes to this socket within a moment.
fn reply(tunnel: &mut RawTunnel, socket: &UdpSocket) -> Option<u8> {
    socket.set_read_timeout(Some(A_MOMENT)).unwrap();
    loop {
        let mut packet = answer(socket)?;
        // Requests of IKE are not answered here.
        if !packet.starts_with(&MARKER)
            && let Some(inner) = tunnel.open(&mut packet)
            && inner[20] == 0
        {
            return Some(inner[27]);
        }
    }
}

/// A tunnel through which the company answers.
fn tunnel(lab: &Lab) -> RawTunnel {
    lab.wait_for_tunnel(1);
    let mut tunnel = RawTunnel::connect(&lab.client_config("laptop.example")).unwrap();
    let socket = tunnel.socket.try_clone().unwrap();
    let mut number = 0;
    let works = happens(Duration::from_secs(10), || {
        number += 1;
        let packet = echo(&mut tunnel, number);
        socket.send_to(&packet, tunnel.server).unwrap();
        reply(&mut tunnel, &socket) == Some(number)
    });
    assert!(works, "no echo");
    tunnel
}

#[test]
fn n61_repeated_and_late_packets() {
    let lab = Lab::start(Setup::default());
    let mut tunnel = tunnel(&lab);
    let socket = tunnel.socket.try_clone().unwrap();
    let packets: Vec<_> = (100..110).map(|number| echo(&mut tunnel, number)).collect();
    let server = tunnel.server;
    let send = |packet: &[u8]| socket.send_to(packet, server).unwrap();
    // All but one, then that one, then all again.
    for (index, packet) in packets.iter().enumerate().filter(|(index, _)| *index != 3) {
        send(packet);
        assert_eq!(reply(&mut tunnel, &socket), Some(100 + index as u8));
    }
    send(&packets[3]);
    assert_eq!(reply(&mut tunnel, &socket), Some(103), "late, but new");
    let before = drops(&lab, "esp_replayed");
    for packet in &packets {
        send(packet);
    }
    assert_eq!(reply(&mut tunnel, &socket), None);
    assert_eq!(drops(&lab, "esp_replayed"), before + 10);
}

#[test]
fn n64_a_device_moves_and_a_captured_packet_moves_nobody() {
    let lab = Lab::start(Setup::default());
    let mut tunnel = tunnel(&lab);
    let (old, new, third) = (tunnel.socket.try_clone().unwrap(), socket(), socket());
    let captured = echo(&mut tunnel, 200);
    old.send_to(&captured, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &old), Some(200));
    let delayed = echo(&mut tunnel, 201);
    let packet = echo(&mut tunnel, 202);
    new.send_to(&packet, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &new), Some(202), "the answer goes where the newest packet came from");
    third.send_to(&captured, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &third), None);
    third.send_to(&delayed, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &third), None, "authentic, but not the newest: nobody moves");
    assert_eq!(reply(&mut tunnel, &new), Some(201));
    let mut spoilt = echo(&mut tunnel, 203);
    *spoilt.last_mut().unwrap() ^= 1;
    third.send_to(&spoilt, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &third), None);
    let packet = echo(&mut tunnel, 204);
    new.send_to(&packet, tunnel.server).unwrap();
    assert_eq!(reply(&mut tunnel, &new), Some(204));
    assert_eq!((drops(&lab, "esp_replayed"), drops(&lab, "esp_bad_tag")), (1, 1));
}

/// Counts what is logged about packets.
struct PacketLines;

static LINES: AtomicUsize = AtomicUsize::new(0);

impl log::Log for PacketLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let about_packets = ["engine::datapath", "engine::job", "esp", "engine::counters"];
        if about_packets.iter().any(|module| record.target().contains(module)) {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

#[test]
fn n66_a_flood_of_packets_for_nobody() {
    const PACKETS: u32 = 100_000;
    let logs = log::set_boxed_logger(Box::new(PacketLines)).is_ok();
    log::set_max_level(log::LevelFilter::Debug);
    let lab = Lab::start(Setup::default());
    let client = lab.connect("laptop.example").unwrap();
    lab.wait_for_tunnel(1);
    client.ping(SERVER).unwrap();
    let [_, nat] = ports(&lab);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let socket = socket();
            let mut packet = [0x5a; 100];
            for number in 0..PACKETS {
                // SPIs from all over the place; the kernel may lose some.
                packet[..4].copy_from_slice(&(number.wrapping_mul(2_654_435_761) | 0x100).to_be_bytes());
                let _ = socket.send_to(&packet, nat);
            }
        });
        while !flood.is_finished() {
            client.ping(SERVER).unwrap();
            client.dpd().unwrap();
        }
    });
    let dropped = drops(&lab, "esp_unknown_spi");
    assert!((1..=u64::from(PACKETS)).contains(&dropped), "{dropped}");
    assert_eq!(LINES.load(Ordering::Relaxed), 0, "nothing is logged per packet ({logs})");
    client.ping(SERVER).unwrap();
    client.disconnect().unwrap();
}

#[test]
fn n69_the_uplink_is_down_when_a_client_comes() {
    let lab = Lab::start(Setup { credentials: password("wrong"), ..Setup::default() });
    eventually(Duration::from_secs(10), "the uplink has failed", || !lab.errors().is_empty());
    for _ in 0..10 {
        let mut config = lab.client_config("laptop.example");
        config.timeout = Duration::from_millis(200);
        let client = pterodapter::demo::probe::Client::connect(config).unwrap();
        client.dpd().unwrap();
        assert!(client.ping(SERVER).is_err());
        client.disconnect().unwrap();
    }
    assert_eq!(drops(&lab, "uplink_down"), 10, "each packet was counted, and answered by ICMP");
    eventually(Duration::from_secs(5), "nobody is left", || lab.state().devices.is_empty());
}

#[test]
fn n69_the_uplink_goes_down_in_a_session() {
    let lab = Lab::start(Setup::default());
    let client = lab.connect("desktop.example").unwrap();
    for tunnels in 1..4 {
        lab.wait_for_tunnel(tunnels);
        eventually(Duration::from_secs(10), "packets flow", || client.ping(SERVER).is_ok());
        lab.gateway.kick_tunnels(CloseStyle::Reset);
        client.dpd().unwrap();
        // Others come and go meanwhile.
        lab.connect("laptop.example").unwrap().disconnect().unwrap();
    }
    lab.wait_for_tunnel(4);
    eventually(Duration::from_secs(10), "packets flow", || client.ping(SERVER).is_ok());
    eventually(Duration::from_secs(5), "one is left", || lab.state().devices.len() == 1);
    assert!(!client.is_closed());
}

#[test]
fn n70_the_end_is_told_and_waits_for_nobody_for_long() {
    let mut lab = Lab::start(Setup::default());
    lab.wait_for_tunnel(1);
    let clients = ["one.example", "two.example"].map(|name| lab.connect(name).unwrap());
    // One that hears nothing more.
    let silent = RawTunnel::connect(&lab.client_config("silent.example")).unwrap();
    eventually(Duration::from_secs(5), "three devices", || lab.state().devices.len() == 3);
    let done = std::thread::scope(|scope| {
        let end = scope.spawn(|| lab.stop());
        let done = happens(Duration::from_secs(15), || end.is_finished());
        assert!(end.join().unwrap(), "an orderly end");
        done
    });
    assert!(done, "two seconds for devices, three for the gateway, and some");
    for client in &clients {
        eventually(Duration::from_secs(2), "the client was told", || client.is_closed());
    }
    let mut told = false;
    while let Some(datagram) = answer(&silent.socket) {
        told |= datagram.starts_with(&MARKER);
    }
    assert!(told, "a Delete was sent to the silent one, too");
}

/// All Rust sources below `directory`.
fn sources(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_list_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    ["src", "tests"].iter().for_each(|directory| sources(&root.join(directory), &mut all));
    let tests: Vec<&str> = all
        .split("#[test]")
        .skip(1)
        .filter_map(|rest| rest.split_once("fn "))
        .map(|(_, name)| name)
        .collect();
    let missing: Vec<_> = (1..=70)
        .filter(|number| !tests.iter().any(|name| name.starts_with(&format!("n{number:02}_"))))
        .collect();
    assert!(missing.is_empty(), "no test is named n{missing:02?}");
}
