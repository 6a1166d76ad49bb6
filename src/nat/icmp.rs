//! Building ICMP errors (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3.2).

use std::net::Ipv4Addr;

use crate::wire::checksum;
use crate::wire::edit::{put, u8_at};
use crate::wire::icmp::{self, Class};
use crate::wire::ip::{self, Ipv4};

/// Longest error built here, as RFC 1812 section 4.3.2.3 has it.
pub const MAX_LEN: usize = 576;

/// What to tell the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too big for the next link, and DF is set (RFC 1191).
    FragNeeded {
        /// Largest packet that passes, in octets.
        mtu: u16,
    },
    /// No way to that network now.
    NetUnreachable,
    /// No way to that host now.
    HostUnreachable,
    /// Nobody listens on that UDP port.
    PortUnreachable,
    /// A source route that is not followed.
    SourceRouteFailed,
    /// A rule forbids it.
    AdminProhibited,
    /// The hop limit is used up.
    TtlExceeded,
}

impl Kind {
    const fn type_and_code(self) -> [u8; 2] {
        match self {
            Self::NetUnreachable => [icmp::UNREACHABLE, 0],
            Self::HostUnreachable => [icmp::UNREACHABLE, 1],
            Self::PortUnreachable => [icmp::UNREACHABLE, 3],
            Self::FragNeeded { .. } => [icmp::UNREACHABLE, 4],
            Self::SourceRouteFailed => [icmp::UNREACHABLE, 5],
            Self::AdminProhibited => [icmp::UNREACHABLE, 13],
            Self::TtlExceeded => [icmp::TIME_EXCEEDED, 0],
        }
    }
}

/// Writes the whole IPv4 packet that tells the source of `offending` what happened to it, and returns its length.
///
/// `None` where there must be no error (about an ICMP error or unknown ICMP message, a later fragment, a multicast or
/// broadcast, a source that is no single host) and where `buf` is shorter than [`MAX_LEN`] and the error does not fit.
pub fn emit_error(buf: &mut [u8], from: Ipv4Addr, kind: Kind, offending: &[u8]) -> Option<usize> {
    let header = Ipv4::parse(offending).ok()?;
    let payload = header.payload(offending);
    let about_icmp_error = header.protocol == ip::ICMP
        && matches!(u8_at(payload, 0).map(icmp::class), None | Some(Class::Error | Class::Other));
    if about_icmp_error || header.fragment_offset != 0 || !is_host(header.src) || is_group(header.dst) {
        return None;
    }
    let behind = ip::HEADER_LEN + icmp::HEADER_LEN;
    let quoted = offending.get(..header.total_len.min(MAX_LEN - behind))?;
    let len = behind + quoted.len();
    let packet = buf.get_mut(..len)?;
    ip::emit_header(packet, 0, ip::ICMP, from, header.src, len - ip::HEADER_LEN)?;
    let message = packet.get_mut(ip::HEADER_LEN..)?;
    let [kind_octet, code] = kind.type_and_code();
    put(message, 0, [kind_octet, code, 0, 0])?;
    let mtu = if let Kind::FragNeeded { mtu } = kind { mtu } else { 0 };
    put(message, 4, u32::from(mtu).to_be_bytes())?;
    message.get_mut(icmp::HEADER_LEN..)?.copy_from_slice(quoted);
    let sum = checksum::of(message);
    put(message, icmp::CHECKSUM, sum.to_be_bytes())?;
    Some(len)
}

/// Reserved addresses (240.0.0.0/4) count: they stand for devices that speak IPv6.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_multicast() || address.is_broadcast() || address.is_unspecified() || address.is_loopback())
}

/// Multicast, reserved and broadcast addresses.
fn is_group(address: Ipv4Addr) -> bool {
    address.octets().first().is_some_and(|octet| *octet >= 224)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::udp;

    fn datagram(src: &str, dst: &str, len: usize) -> Vec<u8> {
        udp::packet(9, src.parse().unwrap(), dst.parse().unwrap(), &vec![7; len]).unwrap()
    }

    #[test]
    fn errors_quote_and_are_well_formed() {
        let from = Ipv4Addr::new(198, 19, 255, 1);
        for (len, expected) in [(0, 56), (100, 156), (1000, 576), (3000, 576)] {
            let offending = datagram("198.19.255.2:1", "10.1.1.1:2", len);
            let mut buf = [0xaa; MAX_LEN];
            let n = emit_error(&mut buf, from, Kind::FragNeeded { mtu: 1354 }, &offending).unwrap();
            assert_eq!(n, expected);
            let header = Ipv4::parse(&buf[..n]).unwrap();
            assert_eq!((header.src, header.dst.octets()), (from, [198, 19, 255, 2]));
            let message = header.payload(&buf[..n]);
            assert_eq!(message[..2], [3, 4]);
            assert_eq!(message[4..8], [0, 0, 5, 74]);
            assert_eq!(checksum::of(message), 0);
            assert_eq!(message[8..], offending[..n - 28]);
            assert_eq!(emit_error(&mut buf[..n - 1], from, Kind::TtlExceeded, &offending), None);
        }
    }

    #[test]
    fn no_error_about_errors_later_pieces_and_groups() {
        let from = Ipv4Addr::new(198, 19, 255, 1);
        let mut buf = [0; MAX_LEN];
        let mut try_with = |offending: &[u8]| emit_error(&mut buf, from, Kind::HostUnreachable, offending);
        for src in ["10.0.0.1:1", "240.0.0.2:1"] {
            assert!(try_with(&datagram(src, "10.0.0.2:2", 3)).is_some(), "{src}");
        }
        for (src, dst) in [
            ("10.0.0.1:1", "224.0.0.251:5353"),
            ("10.0.0.1:1", "255.255.255.255:1"),
            ("0.0.0.0:1", "10.0.0.2:1"),
            ("127.0.0.1:1", "10.0.0.2:1"),
            ("239.0.0.1:1", "10.0.0.2:1"),
            ("255.255.255.255:1", "10.0.0.2:1"),
        ] {
            assert_eq!(try_with(&datagram(src, dst, 3)), None, "{src} {dst}");
        }
        let mut later = datagram("10.0.0.1:1", "10.0.0.2:2", 3);
        later[7] = 1;
        assert_eq!(try_with(&later), None);
        let mut message = datagram("10.0.0.1:1", "10.0.0.2:2", 3);
        message[9] = ip::ICMP;
        for (kind, allowed) in [(8, true), (0, true), (3, false), (5, false), (11, false), (12, false)] {
            message[20] = kind;
            assert_eq!(try_with(&message).is_some(), allowed, "ICMP type {kind}");
        }
        let whole = datagram("10.0.0.1:1", "10.0.0.2:2", 3);
        for len in 0..whole.len() {
            assert_eq!(try_with(&whole[..len]), None);
        }
    }
}
