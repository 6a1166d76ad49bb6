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
use super::datagram::{self, Reassembly};
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
        }
    }

    pub fn set_narrow_path(&mut self, narrow_path: Option<(Ipv4Addr, u16)>) {
        self.narrow_path = narrow_path;
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
            return datagram::answer(packet, &header, out);
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
                service.step(self.sockets.get_mut(*handle));
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
