//! The page for devices: TCP port 80 of the in-tunnel host, on smoltcp. It carries requests and responses; what they
//! say is `engine::page`'s matter.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::{IpAddress, IpEndpoint};
use zeroize::Zeroizing;

use super::tcp::{Queues, instant, is_over, is_repeated_syn, micros, new_interface, new_socket};
use crate::engine::page::request::{self, MAX_REQUEST};
use crate::wire::ip::Ipv4;

/// The port of the page.
pub(super) const PORT: u16 = 80;
/// Connections at a time, of all devices and of one; a browser opens two or three.
const VISITORS: usize = 32;
const VISITORS_OF_DEVICE: usize = 8;
/// A connection lasts no longer than this.
const LIFETIME: Duration = Duration::from_secs(5);

/// A whole request, or what will never be one.
#[derive(Debug)]
pub struct Visit {
    /// Names it in the answer.
    pub number: u32,
    /// Who asks.
    pub from: Ipv4Addr,
    /// The request, which may be secret.
    pub bytes: Zeroizing<Vec<u8>>,
}

struct Visitor {
    handle: SocketHandle,
    number: u32,
    remote: SocketAddrV4,
    /// Until the request is whole.
    input: Option<Zeroizing<Vec<u8>>>,
    /// From the time that there is an answer.
    output: Option<(Vec<u8>, usize)>,
    until: Duration,
}

/// All connections to the page.
pub(super) struct Web {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    /// The socket that waits for the next visitor.
    listener: Option<SocketHandle>,
    /// The oldest first.
    visitors: VecDeque<Visitor>,
    visits: VecDeque<Visit>,
    next_number: u32,
    timeout: Option<Duration>,
}

impl Web {
    pub(super) fn new(address: Ipv4Addr, mtu: usize, seed: u64) -> Self {
        let mut queues = Queues { inward: VecDeque::new(), outward: VecDeque::new(), mtu };
        let interface = new_interface(address, &mut queues, seed);
        let sockets = SocketSet::new(Vec::new());
        let (visitors, visits) = (VecDeque::new(), VecDeque::new());
        Self { interface, queues, sockets, listener: None, visitors, visits, next_number: 0, timeout: None }
    }

    /// Queues a packet for [`Web::advance`].
    pub(super) fn handle_packet(&mut self, header: &Ipv4, packet: &[u8]) {
        if !is_repeated_syn(header, packet, |remote| self.visitors.iter().any(|v| v.remote == remote)) {
            self.queues.inward.push_back(packet.to_vec());
        }
    }

    pub(super) fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.queues.outward.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The next request to answer.
    pub(super) fn poll_visit(&mut self) -> Option<Visit> {
        self.visits.pop_front()
    }

    /// Answers a request, if the visitor is still there.
    pub(super) fn answer(&mut self, now: Duration, number: u32, response: Vec<u8>) {
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.number == number) {
            visitor.output = Some((response, 0));
        }
        self.advance(now);
    }

    /// Lets smoltcp work, and carries data between it and the visitors.
    pub(super) fn advance(&mut self, now: Duration) {
        if self.visitors.is_empty() && self.queues.inward.is_empty() {
            self.timeout = None;
            return;
        }
        self.listen();
        loop {
            self.interface.poll(instant(now), &mut self.queues, &mut self.sockets);
            self.accept(now);
            if !self.advance_visitors(now) {
                break;
            }
        }
        let next = self.interface.poll_at(instant(now), &self.sockets).map(|at| micros(at).max(now));
        self.timeout = self.visitors.iter().map(|visitor| visitor.until).chain(next).min();
    }

    fn listen(&mut self) {
        if self.listener.is_none() {
            let mut socket = new_socket();
            if socket.listen(PORT).is_ok() {
                self.listener = Some(self.sockets.add(socket));
            }
        }
    }

    /// Makes a visitor of the listener once somebody connects to it, and puts another in its place.
    fn accept(&mut self, now: Duration) {
        let Some(handle) = self.listener else { return };
        let socket = self.sockets.get::<Socket<'_>>(handle);
        if socket.is_listening() {
            return;
        }
        self.listener = None;
        if let Some(IpEndpoint { addr: IpAddress::Ipv4(from), port }) = socket.remote_endpoint() {
            self.make_room(from);
            let number = self.next_number;
            self.next_number = number.wrapping_add(1);
            let remote = SocketAddrV4::new(from, port);
            let input = Some(Zeroizing::new(Vec::with_capacity(MAX_REQUEST)));
            let until = now + LIFETIME;
            self.visitors.push_back(Visitor { handle, number, remote, input, output: None, until });
        } else {
            self.sockets.remove(handle);
        }
        self.listen();
    }

    /// Ends the device's oldest connection, or the oldest of all, where there are too many: nobody can keep a browser out
    /// by keeping connections open.
    fn make_room(&mut self, from: Ipv4Addr) {
        let of_device = |visitor: &Visitor| *visitor.remote.ip() == from;
        let oldest =
            if self.visitors.iter().filter(|visitor| of_device(visitor)).count() >= VISITORS_OF_DEVICE {
                self.visitors.iter().position(of_device)
            } else {
                (self.visitors.len() >= VISITORS).then_some(0)
            };
        if let Some(visitor) = oldest.and_then(|index| self.visitors.remove(index)) {
            self.sockets.remove(visitor.handle);
        }
    }

    /// True where something moved.
    fn advance_visitors(&mut self, now: Duration) -> bool {
        let Self { sockets, visitors, visits, .. } = self;
        let mut moved = false;
        visitors.retain_mut(|visitor| {
            let socket = sockets.get_mut::<Socket<'_>>(visitor.handle);
            if is_over(socket) {
                sockets.remove(visitor.handle);
                return false;
            }
            moved |= visitor.advance(now, socket, visits);
            true
        });
        moved
    }
}

impl Visitor {
    /// True where something moved.
    fn advance(&mut self, now: Duration, socket: &mut Socket<'_>, visits: &mut VecDeque<Visit>) -> bool {
        let abandoned = self.input.is_some() && socket.state() == State::CloseWait && !socket.can_recv();
        if now >= self.until || abandoned {
            socket.abort();
            return true;
        }
        let read = self.read(socket);
        if read && self.input.as_ref().is_some_and(|input| request::parse(input) != Ok(None)) {
            let (number, from) = (self.number, *self.remote.ip());
            visits.extend(self.input.take().map(|bytes| Visit { number, from, bytes }));
        }
        self.write(socket) || read
    }

    /// Takes what the socket has got; what comes behind the request is thrown away.
    fn read(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while socket.can_recv() {
            let taken = socket.recv(|data| {
                let room = self.input.as_ref().map_or(data.len(), |input| MAX_REQUEST - input.len());
                let data = data.get(..room).unwrap_or(data);
                if let Some(input) = &mut self.input {
                    input.extend_from_slice(data);
                }
                (data.len(), data.len())
            });
            match taken {
                Ok(count) if count > 0 => moved = true,
                _ => break,
            }
        }
        moved
    }

    fn write(&mut self, socket: &mut Socket<'_>) -> bool {
        let Some((response, written)) = &mut self.output else { return false };
        let before = *written;
        while let Some(rest) = response.get(*written..).filter(|rest| !rest.is_empty()) {
            match socket.send_slice(rest) {
                Ok(sent) if sent > 0 => *written += sent,
                _ => break,
            }
        }
        if *written == response.len() {
            socket.close();
            self.output = None;
            return true;
        }
        *written > before
    }
}
