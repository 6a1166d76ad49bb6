//! Stateless translation between IPv6 and IPv4 (RFC 7915).
//!
//! A device has one IPv6 address, mapped one to one to its IPv4 address in the pool (RFC 7757); the hosts of the
//! company are IPv4 addresses inside a [`Prefix96`]. Packets are translated in place: what follows the IP header stays
//! where it is, the new header ends where the old one ended. Checksums are brought up to date by what changed, so that
//! no payload octet is read and a wrong checksum stays as wrong as it was.
//!
//! The exceptions are a UDP datagram without a checksum, which must get one, and ICMP errors, which are rebuilt because
//! the packet that they quote is translated too.

mod answer;
mod error;
mod icmp;
mod quote;
mod v4_to_v6;
mod v6_to_v4;

pub use answer::{Kind6, MAX_LEN, emit_error};
pub use v4_to_v6::{Piece, Split, Translated, max_pieces, room_in_front, translate_v4_to_v6};
pub use v6_to_v4::{echo_piece_v6_to_v4, finish_echo_v6_to_v4, translate_v6_to_v4};

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Prefix96;
use crate::base::Reason;
use crate::wire::edit::{Edit, put, u16_at};
use crate::wire::{Malformed, checksum, ip, ipv6, tcp, udp};

#[cfg(test)]
mod tests;

/// Largest IPv4 packet that leaves without DF when it was no fragment: an IPv6 sender does not go below 1280 octets,
/// so that routers behind us must be allowed to cut (RFC 7915 section 5.1).
const MAX_WITHOUT_DF: usize = 1260;

/// Whose addresses stand for each other. Immutable, part of a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    prefix: Prefix96,
    device_v6: Ipv6Addr,
    device_v4: Ipv4Addr,
    host: Ipv4Addr,
    /// What the addresses of a packet weigh in a checksum, apart from the company's IPv4 address, which is in both.
    v6_sum: u64,
    v4_sum: u64,
}

impl Mapping {
    /// `device_v6` and `device_v4` are the device's addresses, the rest of IPv4 lies inside `prefix`. `host` is the
    /// in-tunnel host: packets to and from it are not forwarded any further, so that their hop limit stays.
    pub fn new(prefix: Prefix96, device_v6: Ipv6Addr, device_v4: Ipv4Addr, host: Ipv4Addr) -> Self {
        let network = checksum::sum(&prefix.network().octets(), 0);
        Self {
            prefix,
            device_v6,
            device_v4,
            host,
            v6_sum: checksum::sum(&device_v6.octets(), network),
            v4_sum: checksum::sum(&device_v4.octets(), 0),
        }
    }

    /// The prefix that stands for IPv4.
    pub fn prefix(&self) -> Prefix96 {
        self.prefix
    }

    /// The device's IPv6 address.
    pub fn device_v6(&self) -> Ipv6Addr {
        self.device_v6
    }

    /// The IPv6 address of the in-tunnel host.
    pub fn host_v6(&self) -> Ipv6Addr {
        self.prefix.embed(self.host)
    }

    fn v6(&self, address: Ipv4Addr) -> Ipv6Addr {
        if address == self.device_v4 { self.device_v6 } else { self.prefix.embed(address) }
    }

    fn v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if address == self.device_v6 { Some(self.device_v4) } else { self.prefix.extract(address) }
    }
}

/// What the links carry, in octets of IP packets, and the choices that RFC 7915 leaves to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest IPv6 packet towards the device; at least 1280.
    pub mtu6: usize,
    /// Largest IPv4 packet towards the company.
    pub mtu4: usize,
    /// IPv4 packets that may be fragmented become IPv6 packets of at most this size (RFC 7915 section 4); at least 1280.
    pub lowest_ipv6_mtu: usize,
    /// Give UDP datagrams without a checksum one (RFC 7915 section 4.5). Otherwise they are dropped.
    pub compute_udp_checksum: bool,
}

impl Limits {
    /// The usual choices: pieces of 1280 octets, checksums computed.
    pub const fn new(mtu6: usize, mtu4: usize) -> Self {
        Self { mtu6, mtu4, lowest_ipv6_mtu: ipv6::MIN_MTU, compute_udp_checksum: true }
    }
}

/// A packet that was not translated: why, and what to tell its sender, if anything.
///
/// Where there is an answer, the packet is untouched, for the answer to quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<K> {
    /// To be counted.
    pub reason: Reason,
    /// The ICMP error of the sender's family.
    pub answer: Option<K>,
}

impl<K> Refused<K> {
    const fn answered(reason: Reason, answer: K) -> Self {
        Self { reason, answer: Some(answer) }
    }
}

impl<K> From<Reason> for Refused<K> {
    fn from(reason: Reason) -> Self {
        Self { reason, answer: None }
    }
}

impl<K> From<Malformed> for Refused<K> {
    fn from(_: Malformed) -> Self {
        Reason::InnerMalformed.into()
    }
}

/// Addresses that stand for no single host that packets are forwarded to or come from (RFC 1812 section 5.3.7,
/// RFC 3927 section 7).
fn is_illegal(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    matches!(first, 0 | 127 | 224..) || (first, second) == (169, 254)
}

/// Brings the checksum of a TCP or UDP header at the front of `segment` up to date; `old` and `new` are what the pseudo
/// headers weigh. Other protocols have nothing that depends on the addresses, or cannot be helped (RFC 7915 section 4.5).
fn update_transport(segment: &mut [u8], protocol: u8, old: u64, new: u64) -> Result<(), Reason> {
    let at = match protocol {
        ip::TCP => tcp::CHECKSUM,
        ip::UDP => udp::CHECKSUM,
        _ => return Ok(()),
    };
    let field = u16_at(segment, at).ok_or(Reason::NatMalformed)?;
    let field = match checksum::update(field, old, new) {
        0 if protocol == ip::UDP => 0xffff, // zero would say "no checksum"
        field => field,
    };
    put(segment, at, field.to_be_bytes()).ok_or(Reason::NatMalformed)
}

/// Writes an IPv4 header that also has a TOS octet.
#[inline(always)]
fn emit_v4(header: &ip::Ipv4, tos: u8, buf: &mut [u8]) -> Option<()> {
    header.emit(buf)?;
    if tos != 0 {
        let mut edit = Edit::default();
        edit.replace(buf, 0, [0x45, tos])?;
        edit.update(buf, 10)?;
    }
    Some(())
}
