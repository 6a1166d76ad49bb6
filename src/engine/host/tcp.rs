//! The TCP side of the in-tunnel host: DNS over TCP (RFC 7766) on smoltcp.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration as TcpDuration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::DNS_PORT;
use crate::dns::{Forwarder, Transport};
use crate::wire::edit::u16_at;
use crate::wire::ip::Ipv4;
use crate::wire::tcp;

/// Connections of clients, and to servers.
const MAX_CLIENTS: usize = 32;
const MAX_UPSTREAMS: usize = 32;
/// Queries of one connection that wait for answers, and octets of answers that wait to be sent, before more are read.
const MAX_PENDING: usize = 16;
const MAX_BACKLOG: usize = 64 * 1024;
/// Longest query, without its length.
const MAX_QUERY: usize = 4096;
const BUFFER: usize = 16 * 1024;
/// An idle client connection is closed after this time (RFC 7766 section 6.2.3); the forwarder gives up earlier.
const IDLE: Duration = Duration::from_secs(15);
/// A connection to a server lasts no longer than this.
const UPSTREAM: Duration = Duration::from_secs(12);
/// A peer that is silent for longer is gone. smoltcp counts this for idle connections too, so it is more than [`IDLE`].
const SILENCE: TcpDuration = TcpDuration::from_secs(20);
/// Packets from smoltcp that wait to be taken.
const MAX_QUEUED: usize = 256;

/// The network device of smoltcp: two queues.
pub(super) struct Queues {
    pub(super) inward: VecDeque<Vec<u8>>,
    pub(super) outward: VecDeque<Vec<u8>>,
    pub(super) mtu: usize,
}

pub(super) struct Received(Vec<u8>);
pub(super) struct Slot<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Slot<'_>)> {
        let packet = self.inward.pop_front()?;
        Some((Received(packet), Slot(&mut self.outward)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Slot<'_>> {
        (self.outward.len() < MAX_QUEUED).then_some(Slot(&mut self.outward))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// Length-prefixed messages over one socket.
struct Stream {
    handle: SocketHandle,
    input: Vec<u8>,
    output: VecDeque<u8>,
}

impl Stream {
    fn new(handle: SocketHandle) -> Self {
        Self { handle, input: Vec::new(), output: VecDeque::new() }
    }

    /// Takes what the socket has got, up to `limit` octets in hand. True where something came.
    fn fill(&mut self, socket: &mut Socket<'_>, limit: usize) -> bool {
        let before = self.input.len();
        while self.input.len() < limit && socket.can_recv() {
            let room = limit - self.input.len();
            let taken = socket.recv(|data| {
                let data = data.get(..room).unwrap_or(data);
                self.input.extend_from_slice(data);
                (data.len(), ())
            });
            if taken.is_err() {
                break;
            }
        }
        self.input.len() > before
    }

    /// The next whole message in hand.
    fn take_message(&mut self) -> Option<Vec<u8>> {
        let end = 2 + usize::from(u16_at(&self.input, 0)?);
        let message = self.input.get(2..end)?.to_vec();
        self.input.drain(..end);
        Some(message)
    }

    fn queue_message(&mut self, message: &[u8]) {
        if let Ok(len) = u16::try_from(message.len()) {
            self.output.extend(len.to_be_bytes());
            self.output.extend(message);
        }
    }

    /// Gives the socket what it takes. True where something went.
    fn flush(&mut self, socket: &mut Socket<'_>) -> bool {
        let before = self.output.len();
        while socket.can_send() && !self.output.is_empty() {
            match socket.send_slice(self.output.as_slices().0) {
                Ok(sent) if sent > 0 => drop(self.output.drain(..sent)),
                _ => break,
            }
        }
        self.output.len() < before
    }
}

struct Client {
    stream: Stream,
    number: u32,
    remote: SocketAddrV4,
    /// The address that it connected to.
    local: Ipv4Addr,
    pending: usize,
    last_active: Duration,
}

struct Upstream {
    stream: Stream,
    server: Ipv4Addr,
    local_port: u16,
    answered: bool,
    /// When even the forwarder has given up.
    until: Duration,
}

/// All connections of the host.
pub(super) struct Tcp {
    address: Ipv4Addr,
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    /// The socket that waits for the next client; none while all places are taken.
    listener: Option<SocketHandle>,
    clients: Vec<Client>,
    upstreams: Vec<Upstream>,
    next_number: u32,
    timeout: Option<Duration>,
}

impl Tcp {
    pub(super) fn new(address: Ipv4Addr, mtu: usize, seed: u64) -> Self {
        let mut queues = Queues { inward: VecDeque::new(), outward: VecDeque::new(), mtu };
        let mut interface = new_interface(address, &mut queues, seed);
        // Connections to DNS servers may be for us, too; the host says which packets are.
        interface.set_any_ip(true);
        let mut tcp = Self {
            address,
            interface,
            queues,
            sockets: SocketSet::new(Vec::new()),
            listener: None,
            clients: Vec::new(),
            upstreams: Vec::new(),
            next_number: 0,
            timeout: None,
        };
        tcp.listen();
        tcp
    }

    /// Queues a packet for [`Tcp::advance`].
    pub(super) fn handle_packet(&mut self, header: &Ipv4, packet: &[u8]) {
        let known =
            |remote| self.clients.iter().any(|client| (client.remote, client.local) == (remote, header.dst));
        if !is_repeated_syn(header, packet, known) {
            self.queues.inward.push_back(packet.to_vec());
        }
    }

    pub(super) fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.queues.outward.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Sends an answer to a client's connection, if it is still there.
    pub(super) fn answer(&mut self, now: Duration, number: u32, message: &[u8]) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.number == number) {
            client.stream.queue_message(message);
            client.pending = client.pending.saturating_sub(1);
            client.last_active = now;
        }
    }

    /// Opens a connection for one query. False where that is not possible now.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        server: SocketAddrV4,
        local_port: u16,
        message: &[u8],
    ) -> bool {
        if self.upstreams.len() >= MAX_UPSTREAMS {
            return false;
        }
        let mut socket = new_socket();
        let (remote, local) = ((*server.ip(), server.port()), (self.address, local_port));
        if socket.connect(self.interface.context(), remote, local).is_err() {
            return false;
        }
        let mut stream = Stream::new(self.sockets.add(socket));
        stream.queue_message(message);
        let until = now + UPSTREAM;
        self.upstreams.push(Upstream { stream, server: *server.ip(), local_port, answered: false, until });
        true
    }

    /// Lets smoltcp work, and carries messages between the connections and the forwarder.
    pub(super) fn advance(&mut self, now: Duration, forwarder: &mut Forwarder) {
        loop {
            self.interface.poll(instant(now), &mut self.queues, &mut self.sockets);
            self.accept(now);
            let clients = self.advance_clients(now, forwarder);
            let upstreams = self.advance_upstreams(now, forwarder);
            if !clients && !upstreams {
                break;
            }
        }
        let next = self.interface.poll_at(instant(now), &self.sockets).map(|at| micros(at).max(now));
        let idle = self.clients.iter().map(|client| client.last_active + IDLE);
        let upstreams = self.upstreams.iter().map(|upstream| upstream.until);
        self.timeout = idle.chain(upstreams).chain(next).min();
    }

    fn listen(&mut self) {
        if self.listener.is_none() && self.clients.len() < MAX_CLIENTS {
            let mut socket = new_socket();
            if socket.listen(DNS_PORT).is_ok() {
                self.listener = Some(self.sockets.add(socket));
            }
        }
    }

    /// Makes a client of the listener once somebody connects to it, and puts another in its place.
    fn accept(&mut self, now: Duration) {
        if let Some(handle) = self.listener {
            let socket = self.sockets.get::<Socket<'_>>(handle);
            if let (
                false,
                Some(IpEndpoint { addr: IpAddress::Ipv4(ip), port }),
                Some(IpEndpoint { addr: IpAddress::Ipv4(local), .. }),
            ) = (socket.is_listening(), socket.remote_endpoint(), socket.local_endpoint())
            {
                self.clients.push(Client {
                    stream: Stream::new(handle),
                    number: self.next_number,
                    remote: SocketAddrV4::new(ip, port),
                    local,
                    pending: 0,
                    last_active: now,
                });
                self.next_number = self.next_number.wrapping_add(1);
                self.listener = None;
            } else if !socket.is_listening() {
                self.sockets.remove(handle);
                self.listener = None;
            }
        }
        self.listen();
    }

    fn advance_clients(&mut self, now: Duration, forwarder: &mut Forwarder) -> bool {
        let mut moved = false;
        let sockets = &mut self.sockets;
        self.clients.retain_mut(|client| {
            let socket = sockets.get_mut::<Socket<'_>>(client.stream.handle);
            if is_over(socket) {
                sockets.remove(client.stream.handle);
                return false;
            }
            moved |= client.advance(now, socket, forwarder);
            true
        });
        moved
    }

    fn advance_upstreams(&mut self, now: Duration, forwarder: &mut Forwarder) -> bool {
        let mut moved = false;
        let sockets = &mut self.sockets;
        self.upstreams.retain_mut(|upstream| {
            let socket = sockets.get_mut::<Socket<'_>>(upstream.stream.handle);
            // A server that does not close after us is not waited for.
            if is_over(socket) || upstream.answered && socket.state() == State::FinWait2 {
                if !upstream.answered {
                    forwarder.handle_failure(now, upstream.local_port);
                }
                sockets.remove(upstream.stream.handle);
                return false;
            }
            moved |= upstream.advance(now, socket, forwarder);
            true
        });
        moved
    }
}

impl Client {
    /// True where something moved.
    fn advance(&mut self, now: Duration, socket: &mut Socket<'_>, forwarder: &mut Forwarder) -> bool {
        let mut moved = self.stream.flush(socket);
        while self.pending < MAX_PENDING && self.stream.output.len() < MAX_BACKLOG {
            moved |= self.stream.fill(socket, 2 + MAX_QUERY);
            let Some(query) = self.stream.take_message() else { break };
            moved = true;
            self.last_active = now;
            self.pending += 1;
            if forwarder.handle_query(now, self.remote, Transport::Tcp(self.number), &query).is_err() {
                socket.abort();
                return true;
            }
        }
        let waiting = self.pending > 0 || !self.stream.output.is_empty();
        let hopeless = u16_at(&self.stream.input, 0).is_some_and(|len| usize::from(len) > MAX_QUERY);
        let idle = now >= self.last_active + IDLE;
        if hopeless || idle && waiting || idle && socket.state() != State::Established {
            socket.abort();
            return true;
        }
        // Half a message may be left where the client has closed: nothing will complete it.
        if !waiting
            && socket.send_queue() == 0
            && (idle || socket.state() == State::CloseWait && !socket.can_recv())
        {
            socket.close();
            moved = true;
            self.last_active = now;
        }
        moved
    }
}

impl Upstream {
    /// True where something moved.
    fn advance(&mut self, now: Duration, socket: &mut Socket<'_>, forwarder: &mut Forwarder) -> bool {
        if now >= self.until {
            socket.abort();
            return true;
        }
        let mut moved = self.stream.flush(socket);
        if self.answered {
            return moved;
        }
        moved |= self.stream.fill(socket, 2 + usize::from(u16::MAX));
        if let Some(answer) = self.stream.take_message() {
            // A message that answers something else is the end of it, too: there is one query per connection.
            self.answered = forwarder.handle_response(self.server, self.local_port, &answer).is_ok();
            if self.answered {
                socket.close()
            } else {
                socket.abort()
            }
            return true;
        }
        if socket.state() == State::CloseWait && !socket.can_recv() {
            socket.abort();
            return true;
        }
        moved
    }
}

/// True for a SYN from where a connection is `known` to come from. It must not find the listener: its connection
/// exists, and repeats its own answer.
pub(super) fn is_repeated_syn(
    header: &Ipv4,
    packet: &[u8],
    known: impl FnOnce(SocketAddrV4) -> bool,
) -> bool {
    let segment = header.payload(packet);
    let syn = tcp::flags(segment).is_some_and(|flags| flags & (tcp::SYN | tcp::ACK) == tcp::SYN);
    syn && known(SocketAddrV4::new(header.src, u16_at(segment, 0).unwrap_or_default()))
}

/// A stack at one address.
pub(super) fn new_interface(address: Ipv4Addr, queues: &mut Queues, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, queues, Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        // There is room for one.
        let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 32));
    });
    interface
}

/// True where nothing is left to say or to hear. TIME-WAIT is not kept: places are few, and ports are random.
pub(super) fn is_over(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::Closed | State::TimeWait)
}

pub(super) fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_timeout(Some(SILENCE));
    socket.set_nagle_enabled(false);
    socket
}

pub(super) fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

pub(super) fn micros(at: Instant) -> Duration {
    Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or_default())
}
