//! The built-in network of one client: datagrams are answered by hand, TCP by smoltcp.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Address};

use super::super::frame::Frames;
use super::super::ppp::IPV4;
use super::super::scenario::Scenario;
use super::datagram::{self, Reassembly};
use super::dns::Zone;
use super::service::Service;
use crate::wire::{Malformed, Reader, checksum};

/// Packets to the client are at most this large: the MRU that every FortiVPN client offers.
pub(super) const MTU: usize = 1354;
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PREFIX_LEN: u8 = 16;
const CONNECTIONS: usize = 128;
/// A connection that is silent for this long with data in flight is given up.
const SILENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(120);

/// The header of an IPv4 packet.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub len: usize,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub protocol: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    pub offset: usize,
}

impl Header {
    /// The header, and the packet cut to its total length.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(packet, "IPv4 packet");
        let version = reader.u8()?;
        let len = usize::from(version & 0x0f) * 4;
        reader.u8()?;
        let total = usize::from(reader.u16()?);
        let (id, fragment) = (reader.u16()?, reader.u16()?);
        reader.u8()?;
        let protocol = reader.u8()?;
        reader.u16()?;
        let (src, dst) = (reader.array()?, reader.array()?);
        let packet = packet.get(..total).ok_or(reader.malformed())?;
        let header = packet.get(..len).ok_or(reader.malformed())?;
        if version >> 4 != 4 || len < 20 || checksum::of(header) != 0 {
            return Err(reader.malformed());
        }
        let parsed = Self {
            len,
            src,
            dst,
            protocol,
            id,
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            offset: usize::from(fragment & 0x1fff) * 8,
        };
        Ok((parsed, packet))
    }
}

pub(crate) struct Builtin {
    interface: Interface,
    sockets: SocketSet<'static>,
    services: Vec<(SocketHandle, Service)>,
    reassembly: Reassembly,
    narrow_path: Option<(Ipv4Addr, u16)>,
    zone: Zone,
}

impl Builtin {
    pub fn new() -> Self {
        let mut link = Link { packet: None, out: &mut Frames::default(), limit: 0 };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut link, Instant::ZERO);
        // One address and one route of room each are there from the start.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(ROUTER), PREFIX_LEN));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(ROUTER);
        interface.set_any_ip(true);
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            services: Vec::new(),
            reassembly: Reassembly::default(),
            narrow_path: None,
            zone: Zone::default(),
        }
    }

    pub fn set_scenario(&mut self, scenario: &Scenario) {
        self.narrow_path = scenario.narrow_path;
        self.zone = Zone { moving: scenario.moving };
    }

    /// Takes a packet from the client; ICMP and UDP are answered at once.
    pub fn handle_packet(&mut self, now: Duration, packet: &[u8], out: &mut Frames) {
        let Ok((header, packet)) = Header::parse(packet) else { return };
        if header.dst[..2] != ROUTER.octets()[..2] {
            return datagram::emit_unreachable(packet, &header, ROUTER, datagram::Why::NoNetwork, out);
        }
        if let Some((host, mtu)) = self.narrow_path
            && header.dst == host.octets()
            && packet.len() > usize::from(mtu)
            && header.dont_fragment
        {
            return datagram::emit_unreachable(packet, &header, ROUTER, datagram::Why::TooBig(mtu), out);
        }
        if header.more_fragments || header.offset > 0 {
            if let Some(whole) = self.reassembly.add(packet, &header) {
                self.handle_packet(now, &whole, out);
            }
            return;
        }
        if header.protocol != datagram::TCP {
            return datagram::answer(packet, &header, self.zone, out);
        }
        self.listen(packet, &header);
        let mut link = Link { packet: Some(packet), out, limit: usize::MAX };
        self.interface.poll_ingress_single(instant(now), &mut link, &mut self.sockets);
    }

    /// Lets the services work and appends the segments that they send.
    pub fn poll(&mut self, now: Duration, out: &mut Frames, limit: usize) {
        let mut link = Link { packet: None, out, limit };
        loop {
            for (handle, service) in &mut self.services {
                service.step(self.sockets.get_mut(*handle), self.zone);
            }
            if self.interface.poll_egress(instant(now), &mut link, &mut self.sockets) == PollResult::None {
                break;
            }
        }
        self.services.retain(|(handle, _)| {
            use tcp::State::{Closed, Listen, TimeWait};
            let over =
                matches!(self.sockets.get::<tcp::Socket<'_>>(*handle).state(), Closed | Listen | TimeWait);
            if over {
                self.sockets.remove(*handle);
            }
            !over
        });
    }

    pub fn poll_delay(&mut self, now: Duration) -> Option<Duration> {
        self.interface.poll_delay(instant(now), &self.sockets).map(Into::into)
    }

    /// Makes a socket for a SYN to a port that has a service, unless there is one for it.
    fn listen(&mut self, packet: &[u8], header: &Header) {
        let mut reader = Reader::new(&packet[header.len..], "TCP segment");
        let (Ok(src_port), Ok(dst_port), Ok(_), Ok(flags)) =
            (reader.u16(), reader.u16(), reader.array::<9>(), reader.u8())
        else {
            return;
        };
        if flags & 0x12 != 0x02 {
            return;
        }
        let remote = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::from(header.src)), src_port);
        let local = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::from(header.dst)), dst_port);
        let known = self.services.iter().any(|(handle, _)| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(*handle);
            socket.remote_endpoint() == Some(remote) && socket.local_endpoint() == Some(local)
        });
        let Some(service) = Service::at(Ipv4Addr::from(header.dst), dst_port) else { return };
        if known || self.services.len() >= CONNECTIONS {
            return;
        }
        let (receive, send) = service.buffer_sizes();
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(vec![0; receive]), tcp::SocketBuffer::new(vec![0; send]));
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(SILENCE));
        if socket.listen(local).is_ok() {
            self.services.push((self.sockets.add(socket), service));
        }
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// The device of the stack: at most one packet in, frames out.
struct Link<'a> {
    packet: Option<&'a [u8]>,
    out: &'a mut Frames,
    limit: usize,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a>(&'a mut Frames);

impl phy::Device for Link<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        Some((Incoming(self.packet.take()?), Outgoing(self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        (self.out.size() < self.limit).then_some(Outgoing(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.push_with(IPV4, len, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::frame::Ipv4Out;
    use super::*;

    const CLIENT: [u8; 4] = [10, 212, 134, 200];

    fn packet(protocol: u8, dst: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut frames = Frames::default();
        let ip = Ipv4Out { src: CLIENT, dst, protocol, id: 9, fragment };
        frames.push_ipv4(ip, payload.len(), |buf| buf.copy_from_slice(payload));
        frames.bytes()[8..].to_vec()
    }

    /// The answers to a packet, without their frame headers.
    fn answers(network: &mut Builtin, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Frames::default();
        network.handle_packet(Duration::ZERO, packet, &mut out);
        network.poll(Duration::ZERO, &mut out, 1 << 20);
        out.iter().map(|frame| frame[8..].to_vec()).collect()
    }

    fn echo(len: usize) -> Vec<u8> {
        let mut message = vec![0; 8 + len];
        message[0] = 8;
        let sum = checksum::of(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// UDP without a checksum.
    fn udp(port: u16, data: &[u8]) -> Vec<u8> {
        let len = (data.len() + 8) as u16;
        [&4000_u16.to_be_bytes(), &port.to_be_bytes(), &len.to_be_bytes(), &[0, 0], data].concat()
    }

    fn syn(dst: [u8; 4], port: u16) -> Vec<u8> {
        let ports = [4000_u16.to_be_bytes(), port.to_be_bytes()].concat();
        let mut segment = [ports.as_slice(), &[0; 8], &[0x50, 2, 4, 0, 0, 0, 0, 0]].concat();
        let sum = !checksum::fold(checksum::sum(&segment, checksum::pseudo_v4(CLIENT, dst, 6, 20)));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    #[test]
    fn answers_each_protocol() {
        let web = [10, 77, 0, 80];
        let table: [(&str, Vec<u8>, u8, usize, u8); 8] = [
            // what; packet; protocol of the answer, octet in it, value there
            ("echo", packet(1, [10, 77, 9, 9], 0, &echo(20)), 1, 20, 0),
            ("UDP echo", packet(17, web, 0, &udp(7, b"hello")), 17, 28, b'h'),
            ("closed UDP port", packet(17, web, 0, &udp(99, b"x")), 1, 21, 3),
            ("no such protocol", packet(99, web, 0, b"x"), 1, 21, 2),
            ("no such network", packet(17, [8, 8, 8, 8], 0, &udp(7, b"x")), 1, 21, 0),
            ("SYN", packet(6, web, 0, &syn(web, 80)), 6, 33, 0x12),
            ("SYN to a closed port", packet(6, web, 0, &syn(web, 81)), 6, 33, 0x14),
            ("narrow path", packet(17, [10, 77, 5, 5], 0x4000, &udp(7, &[0; 1300])), 1, 21, 4),
        ];
        for (what, packet, protocol, at, value) in table {
            let mut network = Builtin::new();
            let narrow_path = Some((Ipv4Addr::new(10, 77, 5, 5), 1280));
            network.set_scenario(&Scenario { narrow_path, ..Scenario::default() });
            let answers = answers(&mut network, &packet);
            assert_eq!(answers.len(), 1, "{what}");
            assert!(Header::parse(&answers[0]).is_ok(), "{what}");
            assert_eq!((answers[0][9], answers[0][at]), (protocol, value), "{what}");
            assert_eq!(answers[0][16..20], CLIENT, "{what}");
        }
    }

    #[test]
    fn puts_fragments_together() {
        let mut network = Builtin::new();
        let message = echo(2992);
        let dst = [10, 77, 9, 9];
        assert!(
            answers(&mut network, &packet(1, dst, 250, &message[2000..])).is_empty(),
            "the last one first"
        );
        assert!(answers(&mut network, &packet(1, dst, 0x2000, &message[..1000])).is_empty());
        let reply = answers(&mut network, &packet(1, dst, 0x2000 | 125, &message[1000..2000]));
        let sizes: Vec<_> = reply.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1348, 1348, 20 + 3000 - 2 * 1328]);
    }

    #[test]
    fn no_packet_breaks_it() {
        let web = [10, 77, 0, 80];
        let mut network = Builtin::new();
        for sample in [
            packet(1, web, 0, &echo(8)),
            packet(17, web, 0, &udp(7, b"hello")),
            packet(17, [10, 77, 0, 53], 0, &udp(53, b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01")),
            packet(6, web, 0, &syn(web, 80)),
            packet(1, web, 0x2001, &echo(8)),
        ] {
            for at in 0..sample.len() {
                answers(&mut network, &sample[..at]);
                for bit in 0..8 {
                    let mut packet = sample.clone();
                    packet[at] ^= 1 << bit;
                    // Once as it is, and once with a right header checksum.
                    answers(&mut network, &packet);
                    let len = usize::from(packet[0] & 15) * 4;
                    if let Some(header) = packet.get_mut(..len).filter(|header| header.len() >= 20) {
                        header[10..12].fill(0);
                        let sum = checksum::of(header);
                        header[10..12].copy_from_slice(&sum.to_be_bytes());
                        answers(&mut network, &packet);
                    }
                }
            }
        }
    }
}
