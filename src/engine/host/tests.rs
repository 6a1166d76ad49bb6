//! The host against clients and servers with stacks of their own, packets handed over in memory.

mod web;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::tcp::Queues;
use super::*;
use crate::wire::{checksum, dns};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);

struct Sequence(u64);

impl Random for Sequence {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *octet = (self.0 >> 56) as u8;
        }
    }
}

fn now(ms: u64) -> Now {
    let mono = Duration::from_millis(100_000 + ms);
    Now { mono, boot: mono, wall: mono }
}

fn host(servers: &[Ipv4Addr]) -> Host {
    let mut host = Host::new(HOST, Box::new(Sequence(3)));
    host.set_servers(servers);
    host
}

fn query(id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01"].concat()
}

/// An answer of about `len` octets.
fn answer(query: &[u8], len: usize) -> Vec<u8> {
    let mut answer = [query, &vec![0xab; len]].concat();
    answer[2] |= 0x80;
    answer
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A stack of its own at one address.
struct Peer {
    address: Ipv4Addr,
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
}

impl Peer {
    fn new(address: Ipv4Addr) -> Self {
        let mut queues = Queues { inward: VecDeque::new(), outward: VecDeque::new(), mtu: 1400 };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut queues, Instant::ZERO);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::Ipv4(address), 32)).unwrap());
        Self { address, interface, queues, sockets: SocketSet::new(Vec::new()) }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 100_000]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        self.connect_to(HOST, port)
    }

    fn connect_to(&mut self, address: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.socket();
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), (address, 53), port).unwrap();
        handle
    }

    fn listen(&mut self) -> SocketHandle {
        let handle = self.socket();
        let address = self.address;
        self.get(handle).listen((address, 53)).unwrap();
        handle
    }

    fn get(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'_>>(handle)
    }

    fn received(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut data = vec![0; 200_000];
        let len = self.get(handle).recv_slice(&mut data).unwrap_or(0);
        data.truncate(len);
        data
    }
}

/// Hands packets over until nobody has any.
fn settle(ms: u64, host: &mut Host, peers: &mut [&mut Peer]) {
    host.handle_timeout(now(ms));
    loop {
        let mut quiet = true;
        while let Some(packet) = host.poll_packet() {
            assert!(packet.len() <= MTU);
            let header = Ipv4::parse(&packet).unwrap();
            assert_eq!(checksum::of(&packet[..20]), 0);
            assert!(
                header.src == HOST || header.dst == DEVICE,
                "only devices hear from a server that we stand in for"
            );
            if let Some(peer) = peers.iter_mut().find(|peer| peer.address == header.dst) {
                peer.queues.inward.push_back(packet);
                quiet = false;
            }
        }
        for peer in peers.iter_mut() {
            let at = Instant::from_millis(100_000 + ms as i64);
            peer.interface.poll(at, &mut peer.queues, &mut peer.sockets);
            while let Some(packet) = peer.queues.outward.pop_front() {
                host.handle_packet(now(ms), &packet).unwrap();
                quiet = false;
            }
        }
        if quiet {
            return;
        }
    }
}

fn udp(src: (Ipv4Addr, u16), port: u16, payload: &[u8]) -> Vec<u8> {
    udp::packet(1, SocketAddrV4::new(src.0, src.1), SocketAddrV4::new(HOST, port), payload).unwrap()
}

/// The next packet, which must be a datagram from the host: its local port, who gets it, the data.
#[track_caller]
fn sent_udp(host: &mut Host) -> (u16, SocketAddrV4, Vec<u8>) {
    let packet = host.poll_packet().unwrap();
    let header = Ipv4::parse(&packet).unwrap();
    let payload = header.payload(&packet);
    assert!(header.src == HOST && udp::verify(header.src.octets(), header.dst.octets(), payload));
    let datagram = Udp::parse(payload).unwrap();
    (datagram.src_port, SocketAddrV4::new(header.dst, datagram.dst_port), datagram.payload.to_vec())
}

#[test]
fn udp_queries_are_forwarded_and_answered() {
    let mut host = host(&[SERVER, OTHER]);
    host.handle_packet(now(0), &udp((DEVICE, 4000), 53, &query(7))).unwrap();
    let (port, to, asked) = sent_udp(&mut host);
    assert_eq!((to, &asked[2..]), (SocketAddrV4::new(SERVER, 53), &query(7)[2..]));
    let spoofed = udp((OTHER, 53), port, &answer(&asked, 9));
    assert_eq!(host.handle_packet(now(1), &spoofed), Err(Reason::DnsUnexpected));
    let mut damaged = udp((SERVER, 53), port, &answer(&asked, 9));
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(host.handle_packet(now(1), &damaged), Err(Reason::InnerMalformed), "checksum");
    host.handle_packet(now(1), &udp((SERVER, 53), port, &answer(&asked, 9))).unwrap();
    let expected = (53, SocketAddrV4::new(DEVICE, 4000), answer(&query(7), 9));
    assert_eq!(sent_udp(&mut host), expected);
    assert_eq!((host.poll_packet(), host.poll_timeout()), (None, None));
}

#[test]
fn the_second_server_is_asked_on_silence_and_on_port_unreachable() {
    let mut host = host(&[SERVER, OTHER]);
    host.handle_packet(now(0), &udp((DEVICE, 4000), 53, &query(7))).unwrap();
    sent_udp(&mut host);
    assert_eq!(host.poll_timeout(), Some(now(2000).mono));
    host.handle_timeout(now(2000));
    assert_eq!(*sent_udp(&mut host).1.ip(), OTHER);

    host.handle_packet(now(3000), &udp((DEVICE, 4001), 53, &query(8))).unwrap();
    let refused = host.poll_packet().unwrap();
    let mut error = vec![0; MAX_LEN];
    let len = emit_error(&mut error, SERVER, Kind::PortUnreachable, &refused).unwrap();
    host.handle_packet(now(3010), &error[..len]).unwrap();
    assert_eq!(*sent_udp(&mut host).1.ip(), OTHER);
}

#[test]
fn large_answers_travel_in_pieces() {
    let mut host = host(&[SERVER]);
    host.handle_packet(now(0), &udp((DEVICE, 4000), 53, &query(7))).unwrap();
    let (port, _, asked) = sent_udp(&mut host);
    let mut whole = udp((SERVER, 53), port, &answer(&asked, 4000));
    let mut pieces = Vec::new();
    mtu::fragment(&mut whole, 1354, |piece| pieces.push(piece.to_vec())).unwrap();
    pieces.rotate_left(1);
    for piece in pieces {
        host.handle_packet(now(1), &piece).unwrap();
    }
    let mut data = Vec::new();
    while let Some(piece) = host.poll_packet() {
        assert!(piece.len() <= MTU);
        data.extend_from_slice(Ipv4::parse(&piece).unwrap().payload(&piece));
    }
    assert!(udp::verify(HOST.octets(), DEVICE.octets(), &data));
    assert_eq!(Udp::parse(&data).unwrap().payload, answer(&query(7), 4000));
}

#[test]
fn tcp_queries_share_a_connection_and_each_has_one_upstream() {
    let mut host = host(&[SERVER]);
    let (mut device, mut server) = (Peer::new(DEVICE), Peer::new(SERVER));
    let listeners = [server.listen(), server.listen()];
    let client = device.connect(4000);
    settle(0, &mut host, &mut [&mut device, &mut server]);
    assert_eq!(device.get(client).state(), State::Established);

    // Two queries, cut at an odd place.
    let queries = [framed(&query(1)), framed(&query(2))].concat();
    device.get(client).send_slice(&queries[..40]).unwrap();
    settle(5, &mut host, &mut [&mut device, &mut server]);
    device.get(client).send_slice(&queries[40..]).unwrap();
    settle(10, &mut host, &mut [&mut device, &mut server]);

    // The second is answered first, and is as large as can be.
    for (listener, len) in [(listeners[1], 65_000), (listeners[0], 100)] {
        let asked = server.received(listener);
        assert_eq!(asked[4..], query(0)[2..]);
        let reply = framed(&answer(&asked[2..], len));
        server.get(listener).send_slice(&reply).unwrap();
        for ms in 0..10 {
            settle(20 + 50 * ms, &mut host, &mut [&mut device, &mut server]);
        }
        let got = device.received(client);
        assert_eq!(got.len(), reply.len());
        assert_eq!(got[4..], reply[4..]);
        assert!(matches!(got[3], 1 | 2), "the client's identifier");
        assert_eq!(server.get(listener).state(), State::CloseWait, "one query, then we close");
    }
    device.get(client).close();
    settle(2000, &mut host, &mut [&mut device, &mut server]);
    settle(2100, &mut host, &mut [&mut device, &mut server]);
    assert_eq!(device.get(client).state(), State::TimeWait);
    assert_eq!(host.poll_timeout(), None, "nothing is left");
}

#[test]
fn a_server_without_tcp_leads_to_the_next_and_then_to_servfail() {
    let mut host = host(&[SERVER, OTHER]);
    let (mut device, mut server, mut other) = (Peer::new(DEVICE), Peer::new(SERVER), Peer::new(OTHER));
    let client = device.connect(4000);
    settle(0, &mut host, &mut [&mut device, &mut server, &mut other]);
    device.get(client).send_slice(&framed(&query(9))).unwrap();
    settle(10, &mut host, &mut [&mut device, &mut server, &mut other]);
    let got = device.received(client);
    let header = dns::Header::parse(&got[2..]).unwrap();
    assert_eq!((header.id, header.rcode()), (9, dns::SERVFAIL));

    // A server that is silent: the client gets its SERVFAIL when the query expires, and the connection goes.
    host.set_servers(&[SERVER]);
    let listener = server.listen();
    device.get(client).send_slice(&framed(&query(10))).unwrap();
    settle(20, &mut host, &mut [&mut device, &mut server]);
    assert!(!server.received(listener).is_empty());
    for second in 1..14 {
        settle(20 + second * 1000, &mut host, &mut [&mut device, &mut server]);
    }
    let header = dns::Header::parse(&device.received(client)[2..]).unwrap();
    assert_eq!((header.id, header.rcode()), (10, dns::SERVFAIL));
    assert_eq!(server.get(listener).state(), State::Closed, "reset");
}

#[test]
fn idle_and_half_open_connections_end() {
    let mut host = host(&[SERVER]);
    let mut device = Peer::new(DEVICE);
    let client = device.connect(4000);
    settle(0, &mut host, &mut [&mut device]);
    settle(14_000, &mut host, &mut [&mut device]);
    assert_eq!(device.get(client).state(), State::Established);
    settle(15_000, &mut host, &mut [&mut device]);
    assert_eq!(device.get(client).state(), State::CloseWait);
    // It never closes its side, and another never finishes its handshake.
    device.connect(4001);
    device.interface.poll(Instant::from_millis(115_000), &mut device.queues, &mut device.sockets);
    let syn = device.queues.outward.pop_front().unwrap();
    host.handle_packet(now(15_000), &syn).unwrap();
    for ms in (15_000..60_000).step_by(250) {
        host.handle_timeout(now(ms));
        while host.poll_packet().is_some() {}
    }
    assert_eq!(host.poll_timeout(), None);
}

#[test]
fn connections_are_bounded_and_places_come_back() {
    let mut host = host(&[SERVER]);
    let mut device = Peer::new(DEVICE);
    let clients: Vec<_> = (0..40).map(|n| device.connect(4000 + n)).collect();
    settle(0, &mut host, &mut [&mut device]);
    let established =
        |device: &mut Peer| clients.iter().filter(|c| device.get(**c).state() == State::Established).count();
    assert_eq!(established(&mut device), 32);
    for client in &clients {
        device.get(*client).abort();
    }
    settle(10, &mut host, &mut [&mut device]);
    let again = device.connect(5000);
    settle(20, &mut host, &mut [&mut device]);
    assert_eq!(device.get(again).state(), State::Established);
}

#[test]
fn a_repeated_syn_does_no_harm() {
    let mut host = host(&[SERVER]);
    let mut device = Peer::new(DEVICE);
    // Occupy and free a place, so that the listener stands before the next connection.
    let first = device.connect(4000);
    settle(0, &mut host, &mut [&mut device]);
    device.get(first).abort();
    settle(1, &mut host, &mut [&mut device]);
    let client = device.connect(4001);
    device.interface.poll(Instant::from_millis(100_002), &mut device.queues, &mut device.sockets);
    let syn = device.queues.outward.front().unwrap().clone();
    device.queues.outward.push_back(syn.clone());
    settle(2, &mut host, &mut [&mut device]);
    host.handle_packet(now(3), &syn).unwrap();
    settle(4, &mut host, &mut [&mut device]);
    device.get(client).send_slice(&framed(&query(1))).unwrap();
    settle(5, &mut host, &mut [&mut device]);
    assert_eq!(device.get(client).state(), State::Established);
}

#[test]
fn oversized_queries_and_other_ports_are_reset() {
    let mut host = host(&[SERVER]);
    let mut device = Peer::new(DEVICE);
    let client = device.connect(4000);
    let handle = device.socket();
    let socket = device.sockets.get_mut::<Socket<'_>>(handle);
    socket.connect(device.interface.context(), (HOST, 81), 4001).unwrap();
    settle(0, &mut host, &mut [&mut device]);
    assert_eq!(device.get(handle).state(), State::Closed);
    device.get(client).send_slice(&[0xff; 10]).unwrap();
    settle(1, &mut host, &mut [&mut device]);
    assert_eq!(device.get(client).state(), State::Closed);
}

#[test]
fn pings_are_answered_and_other_udp_ports_refused() {
    let mut host = host(&[SERVER]);
    let mut ping = vec![0; 20];
    ip::emit_header(&mut ping, 1, ip::ICMP, DEVICE, HOST, 12).unwrap();
    ping.extend([8, 0, 0, 0, 1, 2, 3, 4, b'p', b'i', b'n', b'g']);
    let sum = checksum::of(&ping[20..]).to_be_bytes();
    ping[22..24].copy_from_slice(&sum);
    host.handle_packet(now(0), &ping).unwrap();
    let reply = host.poll_packet().unwrap();
    assert_eq!((reply[20], &reply[24..], checksum::of(&reply[20..])), (0, &ping[24..], 0));

    let results: Vec<_> =
        (0..30).map(|_| host.handle_packet(now(0), &udp((DEVICE, 4000), 123, b"x"))).collect();
    let refused: Vec<_> = std::iter::from_fn(|| host.poll_packet()).collect();
    assert_eq!((refused.len(), &refused[0][20..22]), (20, &[3, 3][..]));
    assert_eq!(results[29], Err(Reason::RateLimited));
    for (src, dst) in [(HOST, HOST), (DEVICE, DEVICE)] {
        let packet =
            udp::packet(1, SocketAddrV4::new(src, 1), SocketAddrV4::new(dst, 53), &query(1)).unwrap();
        assert_eq!(host.handle_packet(now(0), &packet), Err(Reason::InnerIllegal));
    }
}

#[test]
fn names_of_the_tunnel_are_answered_by_udp_and_tcp_also_in_place_of_a_server() {
    let dns64 = Dns64 {
        prefix: [0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0],
        suffixes: vec![crate::dns::Suffix::parse("example").unwrap()],
    };
    let query = |id: u16| {
        let mut query = query(id);
        let at = query.len() - 3;
        query[at] = 28;
        query
    };
    let a_record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x01\x02\x03";
    let reply_to = |asked: &[u8]| {
        assert_eq!(asked[2..], self::query(0)[2..], "A in place of AAAA");
        let mut reply = [asked, a_record].concat();
        (reply[2], reply[7]) = (0x81, 1);
        reply
    };
    let address = b"\0\x64\xff\x9b\0\x01\0\0\0\0\0\0\x0a\x01\x02\x03";

    let mut host = host(&[SERVER]);
    let direct = |port| {
        let (from, to) = (SocketAddrV4::new(DEVICE, 4000), SocketAddrV4::new(SERVER, port));
        udp::packet(1, from, to, &query(7)).unwrap()
    };
    assert!(!host.stands_in(&direct(53)), "without DNS64 the server is asked itself");
    assert_eq!(host.handle_packet(now(0), &direct(53)), Err(Reason::InnerIllegal));
    host.set_dns64(Some(dns64));
    assert!(host.stands_in(&direct(53)) && !host.stands_in(&direct(54)));
    for (packet, from) in [(udp((DEVICE, 4000), 53, &query(7)), HOST), (direct(53), SERVER)] {
        host.handle_packet(now(0), &packet).unwrap();
        let (port, to, asked) = sent_udp(&mut host);
        assert_eq!(*to.ip(), SERVER);
        host.handle_packet(now(1), &udp((SERVER, 53), port, &reply_to(&asked))).unwrap();
        let packet = host.poll_packet().unwrap();
        let header = Ipv4::parse(&packet).unwrap();
        let payload = header.payload(&packet);
        assert!(udp::verify(header.src.octets(), header.dst.octets(), payload));
        let datagram = Udp::parse(payload).unwrap();
        assert_eq!((header.src, header.dst, datagram.src_port, datagram.dst_port), (from, DEVICE, 53, 4000));
        assert!(datagram.payload.ends_with(address));
    }

    let (mut device, mut server) = (Peer::new(DEVICE), Peer::new(SERVER));
    let listeners = [server.listen(), server.listen()];
    // The same port to both addresses: two connections.
    let clients = [device.connect(4000), device.connect_to(SERVER, 4000)];
    settle(10, &mut host, &mut [&mut device, &mut server]);
    for client in clients {
        assert_eq!(device.get(client).state(), State::Established);
        device.get(client).send_slice(&framed(&query(9))).unwrap();
    }
    settle(20, &mut host, &mut [&mut device, &mut server]);
    for listener in listeners {
        let asked = server.received(listener);
        let reply = framed(&reply_to(&asked[2..]));
        server.get(listener).send_slice(&reply).unwrap();
    }
    settle(30, &mut host, &mut [&mut device, &mut server]);
    for client in clients {
        let got = device.received(client);
        assert!(got[2..4] == [0, 9] && got.ends_with(address));
    }
}

#[test]
fn lookups_of_our_own_know_no_dns64_and_go_on_over_tcp() {
    let name = Suffix::parse("www.example").unwrap();
    let reply_to = |asked: &[u8]| {
        assert_eq!(asked[2..], query(0)[2..], "A, and nothing but A");
        let mut reply = [asked, b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x01\x02\x03"].concat();
        (reply[2], reply[7]) = (0x81, 1);
        reply
    };
    let addresses = [Ipv4Addr::new(10, 1, 2, 3)].into();
    let found = Some(Found { addresses, ttl: Duration::from_secs(5) });
    let resolved = |found| Some(Resolved { name: name.clone(), found });

    let mut host = host(&[SERVER]);
    host.set_dns64(Some(Dns64 { prefix: [1; 12], suffixes: vec![name.clone()] }));
    host.resolve(now(0), name.clone());
    let (port, to, asked) = sent_udp(&mut host);
    assert_eq!((to, host.poll_resolved()), (SocketAddrV4::new(SERVER, 53), None));
    host.handle_packet(now(1), &udp((SERVER, 53), port, &reply_to(&asked))).unwrap();
    assert_eq!(host.poll_resolved(), resolved(found.clone()));

    host.resolve(now(10), name.clone());
    let (port, _, asked) = sent_udp(&mut host);
    let mut cut = reply_to(&asked);
    cut[2] |= 2;
    let mut server = Peer::new(SERVER);
    let listener = server.listen();
    host.handle_packet(now(11), &udp((SERVER, 53), port, &cut)).unwrap();
    settle(12, &mut host, &mut [&mut server]);
    let asked = server.received(listener);
    server.get(listener).send_slice(&framed(&reply_to(&asked[2..]))).unwrap();
    settle(13, &mut host, &mut [&mut server]);
    assert_eq!(host.poll_resolved(), resolved(found));

    host.resolve(now(20), name.clone());
    host.handle_timeout(now(10_020));
    assert_eq!(host.poll_resolved(), resolved(None), "silence");
    host.set_servers(&[]);
    host.resolve(now(20_000), name.clone());
    assert_eq!((host.poll_resolved(), host.poll_resolved()), (resolved(None), None), "nobody to ask");
    assert!(host.lookups.is_empty());
}

#[test]
fn damaged_packets_do_not_panic() {
    let mut host = host(&[SERVER]);
    let mut device = Peer::new(DEVICE);
    let client = device.connect(4000);
    settle(0, &mut host, &mut [&mut device]);
    device.get(client).send_slice(&framed(&query(1))).unwrap();
    device.interface.poll(Instant::from_millis(100_001), &mut device.queues, &mut device.sockets);
    let segment = device.queues.outward.pop_front().unwrap();
    for sample in [segment, udp((DEVICE, 4000), 53, &query(1))] {
        for len in 0..sample.len() {
            let _ = host.handle_packet(now(1), &sample[..len]);
        }
        for bit in 0..sample.len() * 8 {
            let mut packet = sample.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let _ = host.handle_packet(now(1), &packet);
            if packet[9] != ip::TCP || packet.len() < 40 {
                continue;
            }
            // With a right checksum the damage reaches deeper.
            packet[36..38].fill(0);
            let Ok(header) = Ipv4::parse(&packet) else { continue };
            let len = header.payload(&packet).len() as u16;
            let pseudo = checksum::pseudo_v4(header.src.octets(), header.dst.octets(), ip::TCP, len);
            let sum = !checksum::fold(checksum::sum(header.payload(&packet), pseudo));
            packet[36..38].copy_from_slice(&sum.to_be_bytes());
            let _ = host.handle_packet(now(1), &packet);
        }
        while host.poll_packet().is_some() {}
    }
}
