//! The built-in client against the responder, with IPv6 inside: both families, domains, and a plan that changes. What
//! stands behind the tunnel is a small IPv6 host under its NAT64 addresses.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use pterodapter::base::{Path, TrafficSelector};
use pterodapter::crypto::{Certificate, PrivateKey, SystemRandom, TrustAnchors};
use pterodapter::demo::probe::{Client, ClientConfig, ProbeError, RecordType, Transport};
use pterodapter::engine::Clock;
use pterodapter::esp::{self, Sa, Sequence};
use pterodapter::ike::{ClientPlan, Config, Identity, Input, Nat64Plan, Output, Policy, Responder};
use pterodapter::provision::Authority;
use smoltcp::iface::{self, Interface, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

const SERVER_NAME: &str = "vpn.probe.test";
const TUNNEL_HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const NAT64: Nat64Plan = Nat64Plan { prefix: Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0) };
const MARKER: [u8; 4] = [0; 4];

fn plan(nat64: bool, hosts: &[Ipv4Addr]) -> ClientPlan {
    ClientPlan {
        ts: hosts.iter().map(|host| one(*host)).collect(),
        nat64: nat64.then_some(NAT64),
        domains: vec!["corp.example".into()],
        ..ClientPlan::full_tunnel(TUNNEL_HOST)
    }
}

fn one(address: impl Into<IpAddr> + Copy) -> TrafficSelector {
    let (first, last) = (address.into(), address.into());
    TrafficSelector { first, last, protocol: 0, port_first: 0, port_last: u16::MAX }
}

/// Packets on their way to and from the host behind the tunnel.
#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1400);
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// Responder, ESP, and the host with TCP port 7 (echo) and UDP port 53 (one AAAA record).
struct Server {
    clock: Clock,
    responder: Responder,
    sockets: [UdpSocket; 2],
    /// The newest last: packets go out on it.
    sas: Vec<(Sa, Sequence)>,
    peer: SocketAddr,
    wire: Wire,
    plans: Receiver<ClientPlan>,
}

impl Server {
    fn run(mut self) {
        let mut interface =
            Interface::new(iface::Config::new(HardwareAddress::Ip), &mut self.wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for address in [WEB, TUNNEL_HOST] {
                addresses.push(IpCidr::new(NAT64.map(address).into(), 128)).unwrap();
            }
        });
        interface.routes_mut().add_default_ipv6_route(NAT64.map(WEB)).unwrap();
        let mut hosts = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; 20_000]);
        let mut echo = tcp::Socket::new(buffer(), buffer());
        echo.listen(7).unwrap();
        let echo = hosts.add(echo);
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
        let mut dns = udp::Socket::new(buffer(), buffer());
        dns.bind(53).unwrap();
        let dns = hosts.add(dns);
        loop {
            match self.plans.try_recv() {
                Ok(plan) => self.responder.handle(self.clock.now(), Input::Plan(plan)),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            for socket in 0..2 {
                self.receive(socket);
            }
            self.pump();
            let now = Instant::from_micros(self.clock.now().mono.as_micros() as i64);
            interface.poll(now, &mut self.wire, &mut hosts);
            let socket = hosts.get_mut::<tcp::Socket>(echo);
            if socket.can_recv() && socket.can_send() {
                let data = socket.recv(|data| (data.len(), data.to_vec())).unwrap();
                assert_eq!(socket.send_slice(&data), Ok(data.len()));
            }
            if socket.state() == tcp::State::CloseWait {
                socket.close();
            }
            let socket = hosts.get_mut::<udp::Socket>(dns);
            if let Ok((query, from)) = socket.recv() {
                let answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], &query[12..]].concat();
                let record = [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16];
                let answer = [&answer[..], &record, &NAT64.map(WEB).octets()].concat();
                let reply = udp::UdpMetadata { endpoint: from.endpoint, ..from };
                socket.send_slice(&answer, reply).unwrap();
            }
            interface.poll(now, &mut self.wire, &mut hosts);
            while let Some(packet) = self.wire.tx.pop_front() {
                self.seal(&packet);
            }
        }
    }

    fn receive(&mut self, socket: u8) {
        let mut buffer = [0; 4096];
        while let Ok((len, remote)) = self.sockets[usize::from(socket)].recv_from(&mut buffer) {
            let (bytes, marker) = (&mut buffer[..len], socket == 1);
            let path = Path { socket, local: None, local_port: 0, remote, marker };
            match bytes.strip_prefix(&MARKER).filter(|_| marker) {
                Some(message) => {
                    let message = message.to_vec();
                    self.responder.handle(self.clock.now(), Input::Datagram { path, bytes: &message });
                }
                None if marker => {
                    let spi = esp::sequence(bytes).map(|(spi, _)| spi);
                    let Some((sa, _)) = self.sas.iter().find(|(sa, _)| Some(sa.spi_in) == spi) else {
                        continue;
                    };
                    let opened = esp::open(sa, bytes).unwrap();
                    match echo_reply(&bytes[opened.inner.clone()]) {
                        Some(reply) => self.wire.tx.push_back(reply),
                        None => self.wire.rx.push_back(bytes[opened.inner].to_vec()),
                    }
                }
                None => self.responder.handle(self.clock.now(), Input::Datagram { path, bytes }),
            }
            self.peer = remote;
            self.pump();
        }
    }

    fn seal(&mut self, packet: &[u8]) {
        let (sa, sequence) = self.sas.last_mut().unwrap();
        let mut buffer = vec![0; sa.sealed_len(packet.len())];
        buffer[sa.headroom()..][..packet.len()].copy_from_slice(packet);
        esp::seal(sa, sequence.reserve(1).unwrap(), &mut buffer, packet.len()).unwrap();
        self.sockets[1].send_to(&buffer, self.peer).unwrap();
    }

    fn pump(&mut self) {
        let now = self.clock.now();
        self.responder.handle_timeout(now);
        while let Some(output) = self.responder.poll_output() {
            match output {
                Output::Send { path, bytes } => {
                    let marker = if path.marker { &MARKER[..] } else { &[] };
                    let datagram = [marker, &bytes].concat();
                    self.sockets[usize::from(path.socket)].send_to(&datagram, path.remote).unwrap();
                }
                Output::Install(child) => {
                    self.sas.push((Sa::new(&child).unwrap(), Sequence::new()));
                    self.responder.handle(now, Input::Installed { spi_in: child.spi_in });
                }
                Output::Remove { spi_in } => self.sas.retain(|(sa, _)| sa.spi_in != spi_in),
                _ => {}
            }
        }
    }
}

/// The answer to an ICMPv6 echo request.
fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let mut reply = packet.to_vec();
    if packet[6] != 58 || packet[40] != 128 {
        return None;
    }
    reply[8..24].copy_from_slice(&packet[24..40]);
    reply[24..40].copy_from_slice(&packet[8..24]);
    reply[40] = 129;
    // The message's first word is larger by 0x100, so its checksum is smaller by that (RFC 1624).
    let checksum = u16::from_be_bytes([packet[42], packet[43]]);
    let (checksum, borrow) = checksum.overflowing_sub(0x100);
    reply[42..44].copy_from_slice(&(checksum - u16::from(borrow)).to_be_bytes());
    Some(reply)
}

/// A server with this plan; it ends when the sender of further plans is dropped.
fn start(first: ClientPlan) -> (ClientConfig, Sender<ClientPlan>) {
    let clock = Clock::start();
    let now = clock.now();
    let authority = Authority::new("IPv6 test authority", now.wall, 2).unwrap();
    let issued = authority.issue_server(&[SERVER_NAME], now.wall, 2).unwrap();
    let config = Config {
        identity: Identity::new(
            SERVER_NAME,
            vec![Certificate::parse(&issued.cert_der).unwrap()],
            PrivateKey::from_pem(issued.key_pem.as_bytes()).unwrap(),
            TrustAnchors::new(&[Certificate::parse(authority.cert_der()).unwrap()]).unwrap(),
        ),
        pool: Ipv4Addr::new(198, 19, 255, 0),
        pool_prefix_len: 24,
        policy: Policy::default(),
    };
    let mut responder = Responder::new(config, Box::new(SystemRandom::new()), now);
    responder.handle(now, Input::Plan(first));
    let sockets = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    let [ike, nat] = [0, 1].map(|index: usize| sockets[index].local_addr().unwrap());
    let (sender, plans) = channel();
    let server = Server { clock, responder, sockets, sas: vec![], peer: ike, wire: Wire::default(), plans };
    thread::spawn(move || server.run());
    let client = authority.issue_client("alice@probe.test", now.wall, 2).unwrap();
    let client_config = ClientConfig {
        ca_pem: authority.cert_pem().to_owned(),
        cert_pem: client.cert_pem,
        key_pem: client.key_pem,
        ipv6: true,
        ..ClientConfig::new(ike, nat.port(), SERVER_NAME)
    };
    (client_config, sender)
}

#[test]
fn both_families_and_everything_over_ipv6() {
    let (config, plans) = start(plan(true, &[WEB]));
    let client = Client::connect(config).unwrap();
    let address6 = NAT64.device(client.address());
    assert_eq!(client.address6(), Some(address6));
    assert_eq!(client.dns_servers(), [TUNNEL_HOST]);
    assert_eq!(client.dns_servers6(), [NAT64.map(TUNNEL_HOST)]);
    assert_eq!(client.domains(), ["corp.example"]);
    assert_eq!(client.routes(), [one(WEB), one(TUNNEL_HOST)]);
    let [route] = client.routes6()[..] else { panic!("one IPv6 route") };
    assert_eq!(route.first, IpAddr::V6(NAT64.map(Ipv4Addr::UNSPECIFIED)));
    assert_eq!(route.last, IpAddr::V6(NAT64.map(Ipv4Addr::BROADCAST)));

    let all_over_ipv6 = || {
        client.ping6(NAT64.map(WEB)).unwrap();
        let server = client.dns_servers6()[0];
        let answer = client.dns_at(server, "web.corp.example", RecordType::Aaaa, Transport::Udp).unwrap();
        assert_eq!(answer.ipv6(), Some(NAT64.map(WEB)));
    };
    all_over_ipv6();
    let mut stream = client.tcp_connect((NAT64.map(WEB), 7)).unwrap();
    let sent: Vec<u8> = (0..10_000_u16).map(|n| n as u8).collect();
    let mut back = vec![0; sent.len()];
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut back).unwrap();
    assert!(back == sent);

    // The plan changes: our rekey brings it, and traffic goes on.
    let other = Ipv4Addr::new(10, 0, 0, 8);
    plans.send(plan(true, &[WEB, other])).unwrap();
    let wanted = [one(WEB), one(other), one(TUNNEL_HOST)];
    let waited = (0..100).find(|_| {
        thread::sleep(Duration::from_millis(20));
        client.routes() == wanted
    });
    assert!(waited.is_some(), "{:?}", client.routes());
    all_over_ipv6();
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut back).unwrap();
    client.rekey_child(true).unwrap();
    all_over_ipv6();
    assert_eq!((client.counters().esp_bad, client.counters().esp_unknown_spi), (0, 0));
    drop(stream);
    client.disconnect().unwrap();
}

#[test]
fn a_server_without_ipv6_gives_none() {
    let (config, _plans) = start(plan(false, &[WEB]));
    let client = Client::connect(config).unwrap();
    assert_eq!((client.address6(), client.dns_servers6(), client.routes6().len()), (None, &[][..], 0));
    assert_eq!(client.domains(), ["corp.example"]);
    assert!(matches!(client.ping6(NAT64.map(WEB)), Err(ProbeError::Inner(_))));
}
