//! A connected client and what it can be asked to do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, udp};
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpAddress,
};

use super::dns::{self, DnsAnswer, RecordType, Transport};
use super::esp::{Inbound, Outbound};
use super::handshake::{self, Assigned, agree, random, random_spi};
use super::http::{self, HttpResponse};
use super::link::{self, Link};
use super::message::{Payload, exchange, kind, notify};
use super::proposal::{emit_esp, emit_ike, parse_esp, parse_ike};
use super::sa::IkeSa;
use super::shared::{Core, Shared};
use super::stack::Stack;
use super::stream::Stream;
use super::{ClientConfig, Clock, Counters, ProbeError};
use crate::base::TrafficSelector;
use crate::crypto::dh::KeyPair;
use crate::wire::Malformed;

/// A connected IKEv2 client. All methods block; they may be called from several threads. Dropping it without
/// [`Client::disconnect`] is a client that vanishes: the server hears nothing.
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    config: ClientConfig,
    assigned: Assigned,
}

impl Client {
    /// Connects: IKE_SA_INIT to the IKE port, IKE_AUTH and all that follows to the NAT port.
    pub fn connect(config: ClientConfig) -> Result<Self, ProbeError> {
        let clock = Clock::start();
        let mut counters = Counters::default();
        let established = handshake::connect(&config, &clock, &mut counters)?;
        let mut outbound = established.outbound;
        let seed = u64::from_be_bytes(random());
        let assigned = established.assigned;
        let addresses = (assigned.address, assigned.address6);
        let stack = Stack::new(addresses, config.mtu, seed, &mut outbound);
        let link = Link::new(established.socket, established.server)?;
        let mut core = Core::new(link, established.ike, outbound, established.inbound, stack, clock);
        core.counters = counters;
        core.routes = established.routes;
        let shared = Arc::new(Shared::new(core, config.timeout));
        let thread = {
            let shared = shared.clone();
            let run = move || {
                let closer = Closer(shared);
                // Without its socket the client is closed, which is all there is to say.
                let _ = closer.0.run();
            };
            thread::Builder::new().name("probe".to_owned()).spawn(run)?
        };
        Ok(Self { shared, thread: Some(thread), config, assigned })
    }

    /// The inner address that the server assigned.
    pub fn address(&self) -> Ipv4Addr {
        self.assigned.address
    }

    /// The inner IPv6 address that the server assigned, if it was asked for one and gave it.
    pub fn address6(&self) -> Option<Ipv6Addr> {
        self.assigned.address6
    }

    /// The DNS servers that the server announced.
    pub fn dns_servers(&self) -> &[Ipv4Addr] {
        &self.assigned.dns
    }

    /// The DNS servers that the server announced by IPv6.
    pub fn dns_servers6(&self) -> &[Ipv6Addr] {
        &self.assigned.dns6
    }

    /// The domains that the DNS servers are meant for (RFC 8598).
    pub fn domains(&self) -> &[String] {
        &self.assigned.domains
    }

    /// The server's side of the tunnel as it is now: IPv4.
    pub fn routes(&self) -> Vec<TrafficSelector> {
        self.routes_if(|route| route.first.is_ipv4())
    }

    /// The server's side of the tunnel as it is now: IPv6.
    pub fn routes6(&self) -> Vec<TrafficSelector> {
        self.routes_if(|route| route.first.is_ipv6())
    }

    fn routes_if(&self, wanted: impl Fn(&TrafficSelector) -> bool) -> Vec<TrafficSelector> {
        self.shared.lock().routes.iter().copied().filter(wanted).collect()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// True once either side has closed the IKE SA.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// One ICMP echo; how long the reply took.
    pub fn ping(&self, to: Ipv4Addr) -> Result<Duration, ProbeError> {
        let (identifier, payload) = (u16::from_be_bytes(random()), random::<32>());
        let echo = Icmpv4Repr::EchoRequest { ident: identifier, seq_no: 1, data: &payload };
        let mut request = vec![0; echo.buffer_len()];
        echo.emit(&mut Icmpv4Packet::new_unchecked(&mut request), &ChecksumCapabilities::default());
        self.echo(IpAddress::Ipv4(to), identifier, &request, |reply| {
            let reply = Icmpv4Packet::new_checked(reply).ok();
            reply.is_some_and(|r| r.msg_type() == Icmpv4Message::EchoReply && r.data() == payload)
        })
    }

    /// One ICMPv6 echo; how long the reply took.
    pub fn ping6(&self, to: Ipv6Addr) -> Result<Duration, ProbeError> {
        let own = self.address6().ok_or(inner("no IPv6 address"))?;
        let (identifier, payload) = (u16::from_be_bytes(random()), random::<32>());
        let echo = Icmpv6Repr::EchoRequest { ident: identifier, seq_no: 1, data: &payload };
        let mut request = vec![0; echo.buffer_len()];
        let checksums = ChecksumCapabilities::default();
        echo.emit(&own, &to, &mut Icmpv6Packet::new_unchecked(&mut request), &checksums);
        self.echo(IpAddress::Ipv6(to), identifier, &request, |reply| {
            let reply = Icmpv6Packet::new_checked(reply).ok();
            reply.is_some_and(|r| r.msg_type() == Icmpv6Message::EchoReply && r.payload() == payload)
        })
    }

    /// Sends an echo request and waits for a reply from there that `is_reply` knows.
    fn echo(
        &self,
        to: IpAddress,
        identifier: u16,
        request: &[u8],
        is_reply: impl Fn(&[u8]) -> bool,
    ) -> Result<Duration, ProbeError> {
        let mut core = self.shared.lock();
        let start = core.clock.now();
        let handle = core.stack.bind_echo(identifier).ok_or(inner("no ICMP socket"))?;
        let sent = core.stack.sockets.get_mut::<icmp::Socket>(handle).send_slice(request, to);
        drop(core);
        let answered = sent.map_err(|_| inner("echo not sent")).and_then(|()| {
            self.shared.wait(self.config.timeout, "an echo reply", |core| {
                let (packet, from) = core.stack.sockets.get_mut::<icmp::Socket>(handle).recv().ok()?;
                (from == to && is_reply(packet)).then(|| core.clock.now().saturating_sub(start))
            })
        });
        self.shared.lock().stack.sockets.remove(handle);
        answered
    }

    /// One UDP datagram for which no answer is waited.
    pub fn udp_send(&self, to: impl Into<SocketAddr>, payload: &[u8]) -> Result<(), ProbeError> {
        let to = to.into();
        let mut core = self.shared.lock();
        let handle = core.stack.bind_udp().ok_or(inner("no UDP socket"))?;
        let target = (IpAddress::from(to.ip()), to.port());
        let sent = core.stack.sockets.get_mut::<udp::Socket>(handle).send_slice(payload, target);
        core.pump();
        core.stack.sockets.remove(handle);
        sent.map_err(|_| inner("datagram not sent"))
    }

    /// One UDP datagram and the first that comes back from where it went.
    pub fn udp_exchange(&self, to: impl Into<SocketAddr>, payload: &[u8]) -> Result<Vec<u8>, ProbeError> {
        let to = to.into();
        let target = (IpAddress::from(to.ip()), to.port());
        let mut core = self.shared.lock();
        let handle = core.stack.bind_udp().ok_or(inner("no UDP socket"))?;
        let sent = core.stack.sockets.get_mut::<udp::Socket>(handle).send_slice(payload, target);
        drop(core);
        let answered = sent.map_err(|_| inner("datagram not sent")).and_then(|()| {
            self.shared.wait(self.config.timeout, "a UDP answer", |core| {
                let (bytes, from) = core.stack.sockets.get_mut::<udp::Socket>(handle).recv().ok()?;
                let same = (from.endpoint.addr, from.endpoint.port) == target;
                same.then(|| bytes.to_vec())
            })
        });
        self.shared.lock().stack.sockets.remove(handle);
        answered
    }

    /// Asks the first DNS server that was announced by IPv4.
    pub fn dns(&self, name: &str, record: RecordType, transport: Transport) -> Result<DnsAnswer, ProbeError> {
        let server = self.assigned.dns.first().ok_or(inner("the server announced no DNS server"))?;
        self.dns_at(*server, name, record, transport)
    }

    /// Asks this DNS server.
    pub fn dns_at(
        &self,
        server: impl Into<IpAddr>,
        name: &str,
        record: RecordType,
        transport: Transport,
    ) -> Result<DnsAnswer, ProbeError> {
        let to = SocketAddr::new(server.into(), dns::PORT);
        let id = u16::from_be_bytes(random());
        let query = dns::emit_query(id, name, record).ok_or(ProbeError::Config("not a host name"))?;
        let response = match transport {
            Transport::Udp => self.udp_exchange(to, &query)?,
            Transport::Tcp => dns::exchange_tcp(&self.tcp_connect(to)?, &query)?,
        };
        Ok(dns::parse_response(&response, id)?)
    }

    /// A TCP connection through the tunnel.
    pub fn tcp_connect(&self, to: impl Into<SocketAddr>) -> Result<Stream, ProbeError> {
        Stream::connect(&self.shared, to.into(), self.config.tcp_buffer)
    }

    /// Fetches a page: `http://host[:port]/path`. Names are asked of the tunnel's DNS server; with an inner IPv6
    /// address, one of theirs goes before IPv4 (RFC 6724).
    pub fn http_get(&self, url: &str) -> Result<HttpResponse, ProbeError> {
        let target =
            http::parse_url(url).ok_or(ProbeError::Config("only http://host[:port]/path is fetched"))?;
        let address = match target.host.parse() {
            Ok(address) => address,
            Err(_) => self.resolve(target.host)?,
        };
        http::get(&self.tcp_connect((address, target.port))?, &target)
    }

    fn resolve(&self, name: &str) -> Result<IpAddr, ProbeError> {
        if self.address6().is_some()
            && let Some(address) = self.dns(name, RecordType::Aaaa, Transport::Udp)?.ipv6()
        {
            return Ok(address.into());
        }
        let address = self.dns(name, RecordType::A, Transport::Udp)?.ipv4();
        address.map(IpAddr::V4).ok_or_else(|| ProbeError::Inner(format!("{name} has no address")))
    }

    /// Replaces the Child SA, with a key exchange of its own if `pfs` (RFC 7296 section 1.3.3).
    pub fn rekey_child(&self, pfs: bool) -> Result<(), ProbeError> {
        let (group, old) = {
            let core = self.shared.lock();
            let ike = core.ikes.last().ok_or(ProbeError::Closed)?;
            (ike.suite.group, core.inbound.last().ok_or(ProbeError::Closed)?.spi)
        };
        let pair = if pfs { Some(KeyPair::generate(group)?) } else { None };
        let spi_in = random_spi();
        let nonce_i = random::<32>();
        let mut request = vec![
            Payload::notify_spi(3, &old.to_be_bytes(), notify::REKEY_SA, &[]),
            emit_esp(&self.config.esp, spi_in, pair.as_ref().map(KeyPair::group)),
            Payload::new(kind::NONCE, nonce_i),
        ];
        request.extend(pair.as_ref().map(|p| Payload::key_exchange(p.group().transform_id(), p.public())));
        request.extend([kind::TSI, kind::TSR].map(|kind| Payload::everything(kind, self.config.ipv6)));
        let message = self.shared.request(None, exchange::CREATE_CHILD_SA, &request)?;

        let nonce_r = message.find(kind::NONCE).ok_or(Malformed("rekey: no nonce"))?;
        let routes = handshake::selectors(&message, &self.assigned)?;
        let sa = message.find(kind::SA).ok_or(Malformed("rekey: no SA"))?;
        let (cipher, spi_out) = parse_esp(sa, &self.config.esp, pair.as_ref().map(KeyPair::group))?;
        {
            let mut core = self.shared.lock();
            let ike = core.ikes.last().ok_or(ProbeError::Closed)?;
            let shared = pair.map(|pair| agree(pair, group, &message)).transpose()?;
            let [key_out, key_in] =
                ike.keys.child(shared.as_ref(), [&nonce_i, nonce_r], cipher.keymat_len())?;
            let now = core.clock.now();
            core.inbound.iter_mut().for_each(|sa| sa.replaced_at = sa.replaced_at.or(Some(now)));
            core.inbound.push(Inbound::new(cipher, spi_in, spi_out, &key_in)?);
            core.outbound = Outbound::new(cipher, spi_out, &key_out)?;
            core.routes = routes;
        }
        self.shared.request(None, exchange::INFORMATIONAL, &[Payload::delete(Some(old))]).map(drop)
    }

    /// Replaces the IKE SA (RFC 7296 section 1.3.2). The Child SA moves over to the new one.
    pub fn rekey_ike(&self) -> Result<(), ProbeError> {
        let (suite, old) = {
            let core = self.shared.lock();
            let ike = core.ikes.last().ok_or(ProbeError::Closed)?;
            (ike.suite, ike.spi_i)
        };
        let pair = KeyPair::generate(suite.group)?;
        let spi_i = u64::from_be_bytes(random()) | 1;
        let nonce_i = random::<32>();
        let request = [
            emit_ike(&[suite], &spi_i.to_be_bytes()),
            Payload::new(kind::NONCE, nonce_i),
            Payload::key_exchange(suite.group.transform_id(), pair.public()),
        ];
        let message = self.shared.request(None, exchange::CREATE_CHILD_SA, &request)?;

        let nonce_r = message.find(kind::NONCE).ok_or(Malformed("rekey: no nonce"))?;
        let sa = message.find(kind::SA).ok_or(Malformed("rekey: no SA"))?;
        let (suite, spi_r) = parse_ike(sa, &[suite])?;
        let spi_r = u64::from_be_bytes(spi_r.try_into().map_err(|_| Malformed("rekey: IKE SPI"))?);
        let shared = agree(pair, suite.group, &message)?;
        {
            let mut core = self.shared.lock();
            let ike = core.ikes.last().ok_or(ProbeError::Closed)?;
            let keys = ike.keys.rekeyed(suite, &shared, [&nonce_i, nonce_r], [spi_i, spi_r])?;
            let fragment_size = ike.fragment_size;
            core.ikes.push(IkeSa::new(suite, keys, [spi_i, spi_r], fragment_size));
        }
        let deleted = self.shared.request(Some(old), exchange::INFORMATIONAL, &[Payload::delete(None)]);
        self.shared.lock().ikes.retain(|sa| sa.spi_i != old);
        deleted.map(drop)
    }

    /// An empty INFORMATIONAL exchange; how long the answer took.
    pub fn dpd(&self) -> Result<Duration, ProbeError> {
        let clock = Clock::start();
        self.shared.request(None, exchange::INFORMATIONAL, &[]).map(|_| clock.now())
    }

    /// The UDP port that IKE and ESP leave from.
    pub fn local_port(&self) -> Result<u16, ProbeError> {
        Ok(self.shared.lock().link.socket.local_addr()?.port())
    }

    /// Goes on from another UDP port, silently, as when a NAT forgets its mapping.
    pub fn rebind(&self) -> Result<(), ProbeError> {
        let mut core = self.shared.lock();
        let server = core.link.server;
        core.link = Arc::new(Link::new(link::bind(server)?, server)?);
        Ok(())
    }

    /// Goes on from another UDP port and says so (MOBIKE, RFC 4555).
    pub fn rebind_mobike(&self) -> Result<(), ProbeError> {
        self.rebind()?;
        let moved = [
            Payload::notify(notify::UPDATE_SA_ADDRESSES, &[]),
            Payload::notify(notify::NAT_DETECTION_SOURCE_IP, &random::<20>()),
            Payload::notify(notify::NAT_DETECTION_DESTINATION_IP, &random::<20>()),
        ];
        self.shared.request(None, exchange::INFORMATIONAL, &moved).map(drop)
    }

    /// Deletes the IKE SA and ends; the counters as they were at the end.
    pub fn disconnect(self) -> Result<Counters, ProbeError> {
        let deleted = self.shared.request(None, exchange::INFORMATIONAL, &[Payload::delete(None)]);
        let counters = self.counters();
        self.shared.close();
        deleted.map(|_| counters)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// However the receiving thread ends, nobody waits for it any longer.
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(super) fn inner(why: &str) -> ProbeError {
    ProbeError::Inner(why.to_owned())
}
