//! Building ICMPv6 errors (RFC 4443) about packets that are not forwarded.

use std::net::Ipv6Addr;

use crate::wire::edit::{put, u8_at};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, icmpv6};

/// Longest error: what every IPv6 link carries (RFC 4443 section 2.4).
pub const MAX_LEN: usize = ipv6::MIN_MTU;

/// What to tell the sender of an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind6 {
    /// Nothing there is reached through us.
    NoRoute,
    /// A rule forbids it, or it cannot be translated.
    AdminProhibited,
    /// That host is not reached now.
    AddressUnreachable,
    /// Too big for the next link.
    PacketTooBig {
        /// Largest packet that passes, in octets.
        mtu: usize,
    },
    /// The hop limit is used up.
    HopLimitExceeded,
    /// A header field that cannot be honoured.
    ErroneousField {
        /// Offset of the field in the packet.
        pointer: usize,
    },
}

impl Kind6 {
    /// Type, code, and the four octets behind the checksum.
    fn head(self) -> ([u8; 2], u32) {
        let field = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match self {
            Self::NoRoute => ([icmpv6::UNREACHABLE, 0], 0),
            Self::AdminProhibited => ([icmpv6::UNREACHABLE, 1], 0),
            Self::AddressUnreachable => ([icmpv6::UNREACHABLE, 3], 0),
            Self::PacketTooBig { mtu } => ([icmpv6::PACKET_TOO_BIG, 0], field(mtu)),
            Self::HopLimitExceeded => ([icmpv6::TIME_EXCEEDED, 0], 0),
            Self::ErroneousField { pointer } => ([icmpv6::PARAMETER_PROBLEM, 0], field(pointer)),
        }
    }
}

/// Writes the whole IPv6 packet that tells the source of `offending` what happened to it, and returns its length.
///
/// `None` where there must be no error (RFC 4443 section 2.4: about an ICMPv6 error or a redirect, a multicast, a source
/// that is no single host; about a later fragment, as routers have it) and where it does not fit `buf`.
pub fn emit_error(buf: &mut [u8], from: Ipv6Addr, kind: Kind6, offending: &[u8]) -> Option<usize> {
    let header = Ipv6::parse(offending).ok()?;
    let offending = offending.get(..header.total_len())?;
    let upper = header.upper(offending).ok()?;
    let later = upper.fragment.is_some_and(|fragment| fragment.offset != 0);
    let about_error =
        upper.protocol == ipv6::ICMPV6 && u8_at(offending, upper.at).is_none_or(icmpv6::is_error);
    let (src, dst) = (header.src, header.dst);
    if later
        || about_error
        || src.is_multicast()
        || src.is_unspecified()
        || src.is_loopback()
        || dst.is_multicast()
    {
        return None;
    }
    let behind = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;
    let quoted = offending.get(..offending.len().min(MAX_LEN - behind))?;
    let packet = buf.get_mut(..behind + quoted.len())?;
    let payload_len = icmpv6::HEADER_LEN + quoted.len();
    Ipv6 { traffic_class: 0, payload_len, next_header: ipv6::ICMPV6, hop_limit: 64, src: from, dst: src }
        .emit(packet)?;
    let message = packet.get_mut(ipv6::HEADER_LEN..)?;
    let ([kind, code], rest) = kind.head();
    put(message, 0, [kind, code, 0, 0])?;
    put(message, 4, rest.to_be_bytes())?;
    message.get_mut(icmpv6::HEADER_LEN..)?.copy_from_slice(quoted);
    let len = u32::try_from(payload_len).ok()?;
    let pseudo = checksum::pseudo_v6(from.octets(), src.octets(), ipv6::ICMPV6, len);
    let sum = !checksum::fold(checksum::sum(message, pseudo));
    put(message, icmpv6::CHECKSUM, sum.to_be_bytes())?;
    Some(packet.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offending(src: &str, dst: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let header =
            Ipv6 { traffic_class: 0, payload_len: payload.len(), next_header, hop_limit: 1, src, dst };
        header.emit(&mut packet).unwrap();
        packet.extend_from_slice(payload);
        packet
    }

    const FROM: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0xc613, 0xff01);

    #[test]
    fn errors_quote_and_are_well_formed() {
        for (kind, head) in [
            (Kind6::NoRoute, [1, 0, 0, 0, 0, 0]),
            (Kind6::AdminProhibited, [1, 1, 0, 0, 0, 0]),
            (Kind6::AddressUnreachable, [1, 3, 0, 0, 0, 0]),
            (Kind6::PacketTooBig { mtu: 1374 }, [2, 0, 0, 0, 5, 0x5e]),
            (Kind6::HopLimitExceeded, [3, 0, 0, 0, 0, 0]),
            (Kind6::ErroneousField { pointer: 43 }, [4, 0, 0, 0, 0, 43]),
        ] {
            for (len, expected) in [(0, 88), (100, 188), (1192, 1280), (3000, 1280)] {
                let about = offending("fd00::2", "64:ff9b:1::1", 17, &vec![9; len]);
                let mut buf = [0xaa; MAX_LEN];
                let n = emit_error(&mut buf, FROM, kind, &about).unwrap();
                assert_eq!(n, expected);
                let header = Ipv6::parse(&buf[..n]).unwrap();
                assert_eq!((header.src, header.dst.to_string()), (FROM, "fd00::2".into()));
                assert_eq!(header.total_len(), n);
                let message = &buf[40..n];
                assert_eq!([&message[..2], &message[4..8]].concat(), head);
                assert_eq!(message[8..], about[..n - 48]);
                let pseudo =
                    checksum::pseudo_v6(FROM.octets(), header.dst.octets(), 58, message.len() as u32);
                assert_eq!(checksum::fold(checksum::sum(message, pseudo)), 0xffff);
                assert_eq!(emit_error(&mut buf[..n - 1], FROM, kind, &about), None);
            }
        }
    }

    #[test]
    fn no_error_about_errors_later_pieces_and_groups() {
        let mut buf = [0; MAX_LEN];
        let mut allowed = |packet: &[u8]| emit_error(&mut buf, FROM, Kind6::NoRoute, packet).is_some();
        assert!(allowed(&offending("fd00::2", "fd00::3", 17, &[0; 8])));
        for (src, dst) in
            [("::", "fd00::3"), ("::1", "fd00::3"), ("ff02::1", "fd00::3"), ("fd00::2", "ff02::fb")]
        {
            assert!(!allowed(&offending(src, dst, 17, &[0; 8])), "{src} {dst}");
        }
        for (kind, expected) in [(128, true), (129, true), (1, false), (2, false), (100, false), (137, false)]
        {
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(allowed(&offending("fd00::2", "fd00::3", 58, &message)), expected, "type {kind}");
            let hidden = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
            assert_eq!(allowed(&offending("fd00::2", "fd00::3", 0, &hidden)), expected, "behind options");
        }
        assert!(!allowed(&offending("fd00::2", "fd00::3", 58, &[])));
        assert!(allowed(&offending("fd00::2", "fd00::3", 44, &[17, 0, 0, 1, 0, 0, 0, 1])));
        assert!(!allowed(&offending("fd00::2", "fd00::3", 44, &[17, 0, 0, 9, 0, 0, 0, 1])));
        let whole = offending("fd00::2", "fd00::3", 17, &[0; 8]);
        for len in 0..whole.len() {
            assert!(!allowed(&whole[..len]));
        }
    }
}
