//! The in-tunnel host: the first pool address, where devices find their DNS server.
//!
//! It answers pings, forwards DNS queries that come by UDP or TCP, takes requests for the page, and refuses everything
//! else politely. No I/O here either: the event loop gives packets and takes packets, and routes the latter by their destination.

mod tcp;
mod web;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::reassembly::Reassembly;
use super::status::Level;
use crate::base::{Now, Random, Reason};
use crate::dns::lookup::{self, Answer, Found};
use crate::dns::{Dns64, Forwarder, Output, Suffix, Transport};
use crate::nat::icmp::{Kind, MAX_LEN, emit_error};
use crate::nat::{limit::RateLimit, mtu};
use crate::wire::ip::{self, Ipv4};
use crate::wire::udp::{self, Udp};
use crate::wire::{edit, icmp};

use tcp::Tcp;
pub use web::Visit;
use web::Web;

/// Largest packet that the host sends, in octets: passes every link on the way, whatever its MTU turns out to be.
const MTU: usize = 1280;
const DNS_PORT: u16 = 53;
/// Packets that wait for [`Host::poll_packet`].
const MAX_QUEUED: usize = 1024;

/// The in-tunnel host.
pub struct Host {
    address: Ipv4Addr,
    forwarder: Forwarder,
    tcp: Tcp,
    web: Web,
    reassembly: Reassembly,
    packets: VecDeque<Vec<u8>>,
    unreachables: RateLimit,
    next_id: u16,
    /// Lookups of our own, by number.
    lookups: HashMap<u16, Suffix>,
    resolved: VecDeque<Resolved>,
    next_lookup: u16,
}

/// The end of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name that was asked for.
    pub name: Suffix,
    /// What the servers said, if they did.
    pub found: Option<Found>,
}

impl Host {
    /// The host at `address`, without DNS servers to ask.
    pub fn new(address: Ipv4Addr, mut rng: Box<dyn Random>) -> Self {
        let mut seed = [0; 8];
        rng.fill(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        Self {
            address,
            forwarder: Forwarder::new(rng),
            tcp: Tcp::new(address, MTU, seed),
            web: Web::new(address, MTU, seed.rotate_left(32)),
            reassembly: Reassembly::default(),
            packets: VecDeque::new(),
            unreachables: RateLimit::new(20, 20),
            next_id: seed as u16,
            lookups: HashMap::new(),
            resolved: VecDeque::new(),
            next_lookup: 0,
        }
    }

    /// DNS queries that wait for an answer.
    pub fn dns_queries(&self) -> Level {
        Level { used: self.forwarder.pending(), limit: Forwarder::CAPACITY }
    }

    /// The DNS servers to ask from now on.
    pub fn set_servers(&mut self, servers: &[Ipv4Addr]) {
        self.forwarder.set_servers(servers);
    }

    /// Which names are answered with addresses in the NAT64 prefix from now on.
    pub fn set_dns64(&mut self, dns64: Option<Dns64>) {
        self.forwarder.set_dns64(dns64);
    }

    /// True for what a device sends to a DNS server, where that is answered here instead (as if by the server): with
    /// DNS64, for who asks the servers behind the VPN by their own addresses.
    pub fn stands_in(&self, packet: &[u8]) -> bool {
        Ipv4::parse(packet).is_ok_and(|header| {
            self.forwarder.stands_in_for(header.dst)
                && matches!(header.protocol, ip::UDP | ip::TCP)
                && !header.is_fragment()
                && edit::u16_at(header.payload(packet), 2) == Some(DNS_PORT)
        })
    }

    /// A packet to the host (or for which it [stands in](Host::stands_in)): from a device, or from the uplink after
    /// address translation. An error says why it had no effect.
    pub fn handle_packet(&mut self, now: Now, packet: &[u8]) -> Result<(), Reason> {
        let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        let ours = header.dst == self.address || self.stands_in(packet);
        if !ours || header.src == self.address {
            return Err(Reason::InnerIllegal);
        }
        if header.is_fragment() {
            return match self.reassembly.handle_piece(now.mono, &header, header.payload(packet)) {
                Some(whole) => self.handle_whole(now.mono, &whole),
                None => Ok(()),
            };
        }
        self.handle_whole(now.mono, packet)
    }

    /// The next packet that the host sends.
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front().or_else(|| self.tcp.poll_packet()).or_else(|| self.web.poll_packet())
    }

    /// Asks the servers for the IPv4 addresses of a name. [`Host::poll_resolved`] gives the answer, or says that there is
    /// none, at the latest after the time that the forwarder gives a query.
    pub fn resolve(&mut self, now: Now, name: Suffix) {
        let number = self.next_lookup;
        self.next_lookup = number.wrapping_add(1);
        self.lookups.insert(number, name);
        self.look_up(now.mono, number, false);
        self.advance(now.mono);
    }

    /// Pings the first DNS server, so that something goes through the tunnel. Nobody waits for the answer.
    pub fn ping_server(&mut self) {
        let Some(server) = self.forwarder.servers().first().copied() else { return };
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(packet) = icmp::echo_request(self.next_id, self.address, server) {
            self.send(packet);
        }
    }

    /// The next name that was asked for.
    pub fn poll_resolved(&mut self) -> Option<Resolved> {
        self.resolved.pop_front()
    }

    /// The next request for the page.
    pub fn poll_visit(&mut self) -> Option<Visit> {
        self.web.poll_visit()
    }

    /// Answers a request with a whole response, and closes its connection.
    pub fn answer_visit(&mut self, now: Now, number: u32, response: Vec<u8>) {
        self.web.answer(now.mono, number, response);
    }

    /// When to call [`Host::handle_timeout`], in monotonic time.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [self.forwarder.poll_timeout(), self.tcp.poll_timeout(), self.web.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Retransmits, asks next servers, gives up.
    pub fn handle_timeout(&mut self, now: Now) {
        self.forwarder.handle_timeout(now.mono);
        self.advance(now.mono);
    }

    fn handle_whole(&mut self, now: Duration, packet: &[u8]) -> Result<(), Reason> {
        let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        let payload = header.payload(packet);
        let result = match header.protocol {
            ip::TCP if header.dst == self.address && edit::u16_at(payload, 2) == Some(web::PORT) => {
                self.web.handle_packet(&header, packet);
                Ok(())
            }
            ip::TCP => {
                self.tcp.handle_packet(&header, packet);
                Ok(())
            }
            ip::UDP => self.handle_udp(now, &header, packet),
            ip::ICMP => {
                self.handle_icmp(now, &header, payload);
                Ok(())
            }
            _ => Err(Reason::InnerIllegal),
        };
        self.advance(now);
        result
    }

    fn handle_udp(&mut self, now: Duration, header: &Ipv4, packet: &[u8]) -> Result<(), Reason> {
        let payload = header.payload(packet);
        let datagram = Udp::parse(payload).map_err(|_| Reason::InnerMalformed)?;
        let covered = payload.get(..udp::HEADER_LEN + datagram.payload.len()).unwrap_or(payload);
        if !udp::verify(header.src.octets(), header.dst.octets(), covered) {
            return Err(Reason::InnerMalformed);
        }
        if datagram.dst_port == DNS_PORT {
            let client = SocketAddrV4::new(header.src, datagram.src_port);
            return self.forwarder.handle_query(now, client, Transport::Udp(header.dst), datagram.payload);
        }
        if datagram.src_port == DNS_PORT {
            return self.forwarder.handle_response(header.src, datagram.dst_port, datagram.payload);
        }
        if !self.unreachables.allow(now) {
            return Err(Reason::RateLimited);
        }
        let mut error = vec![0; MAX_LEN];
        if let Some(len) = emit_error(&mut error, self.address, Kind::PortUnreachable, packet) {
            error.truncate(len);
            self.send(error);
        }
        Ok(())
    }

    fn handle_icmp(&mut self, now: Duration, header: &Ipv4, message: &[u8]) {
        if let Some(port) = self.unreachable_query(message) {
            self.forwarder.handle_failure(now, port);
        } else if let Some(reply) = icmp::echo_reply(self.next_id, self.address, header.src, message) {
            self.next_id = self.next_id.wrapping_add(1);
            self.send(reply);
        }
    }

    /// The local port of the DNS query that a destination unreachable message (other than "fragmentation needed", which
    /// cannot be about packets of ours) quotes.
    fn unreachable_query(&self, message: &[u8]) -> Option<u16> {
        let quoted = message.get(icmp::HEADER_LEN..)?;
        let about = Ipv4::parse_quoted(quoted).ok()?;
        let ports = quoted.get(about.header_len..)?;
        let ours = about.src == self.address
            && about.protocol == ip::UDP
            && about.fragment_offset == 0
            && edit::u16_at(ports, 2) == Some(DNS_PORT);
        let unreachable = message.first() == Some(&icmp::UNREACHABLE) && message.get(1) != Some(&4);
        if ours && unreachable { edit::u16_at(ports, 0) } else { None }
    }

    /// Moves data between the TCP connections and the forwarder until nothing moves any more.
    fn advance(&mut self, now: Duration) {
        self.web.advance(now);
        loop {
            self.tcp.advance(now, &mut self.forwarder);
            let mut moved = false;
            while let Some(output) = self.forwarder.poll_output() {
                moved = true;
                self.carry_out(now, output);
            }
            if !moved {
                return;
            }
        }
    }

    fn carry_out(&mut self, now: Duration, output: Output) {
        match output {
            Output::ToClient { client, transport: Transport::Udp(asked), bytes } => {
                self.send_udp(SocketAddrV4::new(asked, DNS_PORT), client, &bytes);
            }
            Output::ToClient { transport: Transport::Tcp(connection), bytes, .. } => {
                self.tcp.answer(now, connection, &bytes);
            }
            Output::ToClient { client, transport: Transport::Own { over_tcp }, bytes } => {
                let number = client.port();
                match self.lookups.get(&number).map(|name| lookup::parse(name, &bytes)) {
                    Some(Answer::Found(found)) => self.finish_lookup(number, Some(found)),
                    Some(Answer::Truncated) if !over_tcp => self.look_up(now, number, true),
                    _ => self.finish_lookup(number, None),
                }
            }
            Output::ToServer { server, local_port, bytes, over_tcp: false } => {
                let (from, to) =
                    (SocketAddrV4::new(self.address, local_port), SocketAddrV4::new(server, DNS_PORT));
                self.send_udp(from, to, &bytes);
            }
            Output::ToServer { server, local_port, bytes, over_tcp: true } => {
                if !self.tcp.ask(now, SocketAddrV4::new(server, DNS_PORT), local_port, &bytes) {
                    self.forwarder.handle_failure(now, local_port);
                }
            }
        }
    }

    fn look_up(&mut self, now: Duration, number: u16, over_tcp: bool) {
        let Some(query) = self.lookups.get(&number).map(lookup::query) else { return };
        let client = SocketAddrV4::new(self.address, number);
        if self.forwarder.handle_query(now, client, Transport::Own { over_tcp }, &query).is_err() {
            self.finish_lookup(number, None);
        }
    }

    fn finish_lookup(&mut self, number: u16, found: Option<Found>) {
        let name = self.lookups.remove(&number);
        self.resolved.extend(name.map(|name| Resolved { name, found }));
    }

    fn send_udp(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(mut packet) = udp::packet(self.next_id, from, to, payload) {
            // It cannot fail: the packet is ours, and DF is clear.
            let _ = mtu::fragment(&mut packet, MTU, |piece| self.send(piece.to_vec()));
        }
    }

    fn send(&mut self, packet: Vec<u8>) {
        if self.packets.len() < MAX_QUEUED {
            self.packets.push_back(packet);
        }
    }
}

#[cfg(test)]
mod tests;
