//! One flow: what it maps, and how long it lives.

use std::net::Ipv4Addr;

use super::rewrite::Side;
use crate::wire::{ip, tcp};

/// A key of either table: by inside (address, and port or remote), or by outside (address 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    who: u64,
    what: u32,
}

impl Key {
    /// The key of a device's endpoint. `what` is the port or identifier, or the remote address of a port-less protocol.
    pub(super) fn inside(protocol: u8, address: Ipv4Addr, what: u32) -> Self {
        Self { who: u64::from(protocol) << 32 | u64::from(address.to_bits()), what }
    }

    /// The key of an endpoint at the external address.
    pub(super) fn outside(protocol: u8, what: u32) -> Self {
        Self::inside(protocol, Ipv4Addr::UNSPECIFIED, what)
    }
}

const TCP_ESTABLISHED: u32 = 2 * 3600 + 240; // RFC 5382 REQ-5: at least 2 h 4 min
const TCP_TRANSITORY: u32 = 240; // RFC 5382 REQ-5: at least 4 min
const UDP_TIMEOUT: u32 = 300; // RFC 4787 REQ-5: recommended 5 min
const DNS_TIMEOUT: u32 = 30;
const ICMP_TIMEOUT: u32 = 60; // RFC 5508 REQ-2: at least 60 s
const OTHER_TIMEOUT: u32 = 600;

/// Data seen from a side, FINs, and the end of the connection.
const DATA_OUT: u8 = 1;
const DATA_IN: u8 = 2;
const FIN_OUT: u8 = 4;
const FIN_IN: u8 = 8;
const CLOSED: u8 = 16;

/// A mapping of one inside endpoint to one outside endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) protocol: u8,
    pub(super) inside: Ipv4Addr,
    /// Port, identifier, or remote address.
    pub(super) inside_what: u32,
    pub(super) outside_what: u32,
    /// Monotonic seconds of the last packet.
    last_seen: u32,
    /// Connection state for TCP; for UDP nonzero once a port other than 53 was used.
    state: u8,
}

impl Flow {
    pub(super) fn new(protocol: u8, inside: Ipv4Addr, inside_what: u32, outside_what: u32, now: u32) -> Self {
        Self { protocol, inside, inside_what, outside_what, last_seen: now, state: 0 }
    }

    pub(super) fn key_inside(&self) -> Key {
        Key::inside(self.protocol, self.inside, self.inside_what)
    }

    pub(super) fn key_outside(&self) -> Key {
        Key::outside(self.protocol, self.outside_what)
    }

    /// The outside port or identifier, for protocols that have one.
    pub(super) fn outside_port(&self) -> Option<u16> {
        u16::try_from(self.outside_what).ok().filter(|_| super::rewrite::min_len(self.protocol) > 0)
    }

    /// The inside port or identifier, for protocols that have one.
    pub(super) fn inside_port(&self) -> Option<u16> {
        u16::try_from(self.inside_what).ok().filter(|_| super::rewrite::min_len(self.protocol) > 0)
    }

    pub(super) fn is_expired(&self, now: u32) -> bool {
        let timeout = match self.protocol {
            ip::TCP if self.state & (DATA_OUT | DATA_IN | CLOSED) == DATA_OUT | DATA_IN => TCP_ESTABLISHED,
            ip::TCP => TCP_TRANSITORY,
            ip::UDP if self.state == 0 => DNS_TIMEOUT,
            ip::UDP => UDP_TIMEOUT,
            ip::ICMP => ICMP_TIMEOUT,
            _ => OTHER_TIMEOUT,
        };
        now.saturating_sub(self.last_seen) > timeout
    }

    /// Notes a packet whose local side is `side` (source: it goes out).
    pub(super) fn touch(&mut self, now: u32, side: Side, transport: &[u8]) {
        self.last_seen = now;
        let outbound = side == Side::Source;
        match self.protocol {
            ip::UDP => {
                let remote_side = if outbound { Side::Destination } else { Side::Source };
                self.state |= u8::from(super::rewrite::port(ip::UDP, remote_side, transport) != Some(53));
            }
            ip::TCP => self.touch_tcp(outbound, tcp::flags(transport).unwrap_or_default()),
            _ => {}
        }
    }

    /// Several connections may share the mapping (it is endpoint-independent): the state is that of the last to change.
    fn touch_tcp(&mut self, outbound: bool, flags: u8) {
        let (data, fin) = if outbound { (DATA_OUT, FIN_OUT) } else { (DATA_IN, FIN_IN) };
        if flags & tcp::RST != 0 {
            self.state |= CLOSED;
        } else if flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
            // A new connection. From outside it does not shorten the life of one that goes on.
            if outbound || self.state & CLOSED != 0 {
                self.state = 0;
            }
        } else {
            self.state |= if flags & tcp::SYN == 0 { data } else { 0 };
            self.state |= if flags & tcp::FIN != 0 { fin } else { 0 };
            if self.state & (FIN_OUT | FIN_IN) == FIN_OUT | FIN_IN {
                self.state |= CLOSED;
            }
        }
    }
}
