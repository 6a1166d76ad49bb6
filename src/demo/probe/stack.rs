//! The inner host: a smoltcp stack whose packets are sealed straight into a burst of datagrams.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};

use super::esp::{self, Outbound};

/// Sealed packets on their way out, one behind the other.
#[derive(Default)]
pub(super) struct Burst {
    pub bytes: Vec<u8>,
    pub lengths: Vec<usize>,
}

impl Burst {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }
}

/// The link layer for one call into smoltcp: at most one packet in, any number out.
struct Port<'a> {
    rx: Option<&'a [u8]>,
    tx: Tx<'a>,
    mtu: usize,
}

struct Rx<'a>(&'a [u8]);

struct Tx<'a> {
    burst: &'a mut Burst,
    out: &'a mut Outbound,
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx { burst: self.tx.burst, out: self.tx.out }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx { burst: self.tx.burst, out: self.tx.out })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let start = self.burst.bytes.len();
        let cipher = self.out.cipher();
        let sealed_len = esp::sealed_len(cipher, len);
        self.burst.bytes.resize(start + sealed_len, 0);
        let (_, slot) = self.burst.bytes.split_at_mut(start);
        let (_, inner) = slot.split_at_mut(esp::head_len(cipher));
        let result = f(inner.split_at_mut(len).0);
        // An exhausted SA sends nothing more: the packet is lost like any other.
        match self.out.seal(slot, len) {
            Ok(()) => self.burst.lengths.push(sealed_len),
            Err(_) => self.burst.bytes.truncate(start),
        }
        result
    }
}

/// The stack and its sockets.
pub(super) struct Stack {
    pub sockets: SocketSet<'static>,
    pub burst: Burst,
    interface: Interface,
    mtu: usize,
    next_port: u16,
    closing: Vec<SocketHandle>,
}

impl Stack {
    pub fn new(
        (address, address6): (Ipv4Addr, Option<Ipv6Addr>),
        mtu: usize,
        seed: u64,
        out: &mut Outbound,
    ) -> Self {
        let mut burst = Burst::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut port = Port { rx: None, tx: Tx { burst: &mut burst, out }, mtu };
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(address, 32)));
            if let Some(address6) = address6 {
                let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(address6, 128)));
            }
        });
        // On a point-to-point medium the gateway's address is never looked up.
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        if let Some(address6) = address6 {
            let _ = interface.routes_mut().add_default_ipv6_route(address6);
        }
        Self {
            sockets: SocketSet::new(Vec::new()),
            burst,
            interface,
            mtu,
            next_port: 49152 + (seed % 8192) as u16,
            closing: Vec::new(),
        }
    }

    /// A packet from the tunnel.
    pub fn handle_packet(&mut self, now: Duration, packet: &[u8], out: &mut Outbound) {
        let tx = Tx { burst: &mut self.burst, out };
        let mut port = Port { rx: Some(packet), tx, mtu: self.mtu };
        self.interface.poll_ingress_single(instant(now), &mut port, &mut self.sockets);
    }

    /// Lets the sockets send what they have, into `burst`.
    pub fn poll(&mut self, now: Duration, out: &mut Outbound) {
        let tx = Tx { burst: &mut self.burst, out };
        let mut port = Port { rx: None, tx, mtu: self.mtu };
        while self.interface.poll_egress(instant(now), &mut port, &mut self.sockets) != PollResult::None {}
        let sockets = &mut self.sockets;
        self.closing.retain(|handle| {
            let state = sockets.get::<tcp::Socket>(*handle).state();
            let done = matches!(state, tcp::State::Closed | tcp::State::TimeWait);
            if done {
                sockets.remove(*handle);
            }
            !done
        });
    }

    /// How long until the sockets want to be polled again.
    pub fn poll_delay(&mut self, now: Duration) -> Option<Duration> {
        self.interface.poll_delay(instant(now), &self.sockets).map(Into::into)
    }

    /// A local port that was not used for a while.
    pub fn take_port(&mut self) -> u16 {
        self.next_port = if self.next_port == u16::MAX { 49152 } else { self.next_port + 1 };
        self.next_port
    }

    /// Starts a TCP connection with `buffer` octets each way.
    pub fn connect(&mut self, to: SocketAddr, buffer: usize) -> Option<SocketHandle> {
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; buffer]),
            tcp::SocketBuffer::new(vec![0; buffer]),
        );
        socket.set_nagle_enabled(false);
        let port = self.take_port();
        socket.connect(self.interface.context(), (IpAddress::from(to.ip()), to.port()), port).ok()?;
        Some(self.sockets.add(socket))
    }

    /// Closes a TCP connection in good order; the socket goes when the peer has closed too.
    pub fn close(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket>(handle).close();
        self.closing.push(handle);
    }

    /// A UDP socket on a fresh port.
    pub fn bind_udp(&mut self) -> Option<SocketHandle> {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 65_536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(self.take_port()).ok()?;
        Some(self.sockets.add(socket))
    }

    /// An ICMP socket for echo replies with this identifier.
    pub fn bind_echo(&mut self, identifier: u16) -> Option<SocketHandle> {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 16_384]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(identifier)).ok()?;
        Some(self.sockets.add(socket))
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
