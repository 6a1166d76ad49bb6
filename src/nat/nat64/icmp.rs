//! Which ICMP message says what an ICMPv6 message says, and the other way round (RFC 7915 sections 4.2 and 5.2).

use std::net::Ipv6Addr;

use super::Limits;
use crate::base::Reason;
use crate::wire::edit::put;
use crate::wire::ipv6::{self, MIN_MTU};
use crate::wire::{checksum, icmp, icmpv6};

/// Path MTUs that are worth trying where a router does not tell one (RFC 1191 section 7), from 1280 up.
const PLATEAUS: [usize; 7] = [65535, 32000, 17914, 8166, 4352, 2002, 1492];
/// Least IPv4 MTU (RFC 791).
const MIN_MTU4: usize = 68;

/// Type, code and the four octets behind the checksum, without a length of the quoted packet (RFC 4884).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) rest: u32,
}

impl Head {
    const fn new(kind: u8, code: u8, rest: u32) -> Self {
        Self { kind, code, rest }
    }

    /// True for the ICMP messages in which octet 5 counts the words of the quoted packet (RFC 4884 section 4).
    pub(super) const fn extensible_v4(&self) -> bool {
        matches!(self.kind, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
    }

    /// True for the ICMPv6 messages in which octet 4 counts the double words of the quoted packet.
    pub(super) const fn extensible_v6(&self) -> bool {
        matches!(self.kind, icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED)
    }
}

/// Echo request or reply.
pub(super) const fn query_to_v4(kind: u8) -> Option<u8> {
    match kind {
        icmpv6::ECHO_REQUEST => Some(icmp::ECHO_REQUEST),
        icmpv6::ECHO_REPLY => Some(icmp::ECHO_REPLY),
        _ => None,
    }
}

/// Echo request or reply.
pub(super) const fn query_to_v6(kind: u8) -> Option<u8> {
    match kind {
        icmp::ECHO_REQUEST => Some(icmpv6::ECHO_REQUEST),
        icmp::ECHO_REPLY => Some(icmpv6::ECHO_REPLY),
        _ => None,
    }
}

/// Gives an echo message the kind that `translate` says. `old` and `new` are the sums of the pseudo headers before and
/// after; ICMPv4 has none.
pub(super) fn update_echo(
    message: &mut [u8],
    translate: fn(u8) -> Option<u8>,
    old: u64,
    new: u64,
) -> Result<(), Reason> {
    let &[old_kind, code, high, low, ..] =
        message.first_chunk::<{ icmp::HEADER_LEN }>().ok_or(Reason::NatMalformed)?;
    let kind = translate(old_kind).ok_or(Reason::Nat64IcmpType)?;
    let old = old + u64::from(u16::from_be_bytes([old_kind, code]));
    let new = new + u64::from(u16::from_be_bytes([kind, code]));
    let [high, low] = checksum::update(u16::from_be_bytes([high, low]), old, new).to_be_bytes();
    put(message, 0, [kind, code, high, low]).ok_or(Reason::NatMalformed)
}

/// The sum of the pseudo header of an ICMPv6 message of `len` octets.
pub(super) fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> Result<u64, Reason> {
    let len = u32::try_from(len).map_err(|_| Reason::InnerMalformed)?;
    Ok(checksum::pseudo_v6(src.octets(), dst.octets(), ipv6::ICMPV6, len))
}

/// The ICMPv6 error for an ICMPv4 error. `quoted_len` is the total length of the packet that it quotes.
pub(super) fn error_to_v6(v4: Head, quoted_len: usize, limits: &Limits) -> Option<Head> {
    use icmpv6::{PACKET_TOO_BIG, PARAMETER_PROBLEM, TIME_EXCEEDED, UNREACHABLE};
    Some(match (v4.kind, v4.code) {
        (icmp::UNREACHABLE, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => Head::new(UNREACHABLE, 0, 0),
        // Protocol unreachable: the pointer is at the Next Header field.
        (icmp::UNREACHABLE, 2) => Head::new(PARAMETER_PROBLEM, 1, 6),
        (icmp::UNREACHABLE, 3) => Head::new(UNREACHABLE, 4, 0),
        (icmp::UNREACHABLE, 4) => {
            let told = (v4.rest & 0xffff) as usize;
            Head::new(PACKET_TOO_BIG, 0, mtu_to_v6(told, quoted_len, limits))
        }
        (icmp::UNREACHABLE, 9 | 10 | 13 | 15) => Head::new(UNREACHABLE, 1, 0),
        (icmp::TIME_EXCEEDED, code @ (0 | 1)) => Head::new(TIME_EXCEEDED, code, 0),
        (icmp::PARAMETER_PROBLEM, 0 | 2) => Head::new(PARAMETER_PROBLEM, 0, pointer_to_v6(v4.rest >> 24)?),
        _ => return None,
    })
}

/// The ICMPv4 error for an ICMPv6 error.
pub(super) fn error_to_v4(v6: Head, limits: &Limits) -> Option<Head> {
    use icmp::{PARAMETER_PROBLEM, TIME_EXCEEDED, UNREACHABLE};
    Some(match (v6.kind, v6.code) {
        (icmpv6::UNREACHABLE, 0 | 2 | 3) => Head::new(UNREACHABLE, 1, 0),
        (icmpv6::UNREACHABLE, 1) => Head::new(UNREACHABLE, 10, 0),
        (icmpv6::UNREACHABLE, 4) => Head::new(UNREACHABLE, 3, 0),
        (icmpv6::PACKET_TOO_BIG, 0) => Head::new(UNREACHABLE, 4, mtu_to_v4(v6.rest, limits)),
        (icmpv6::TIME_EXCEEDED, code @ (0 | 1)) => Head::new(TIME_EXCEEDED, code, 0),
        (icmpv6::PARAMETER_PROBLEM, 0) => Head::new(PARAMETER_PROBLEM, 0, pointer_to_v4(v6.rest)? << 24),
        (icmpv6::PARAMETER_PROBLEM, 1) => Head::new(UNREACHABLE, 2, 0),
        _ => return None,
    })
}

/// Octets are added for the larger header, and no sender is told less than every IPv6 link carries.
fn mtu_to_v6(told: usize, quoted_len: usize, limits: &Limits) -> u32 {
    let path = match told {
        0 => PLATEAUS.into_iter().find(|plateau| *plateau < quoted_len).unwrap_or(0),
        told => told,
    };
    let mtu = (path + 20).min(limits.mtu6).min(limits.mtu4 + 20).max(MIN_MTU);
    u32::try_from(mtu).unwrap_or(u32::MAX)
}

fn mtu_to_v4(told: u32, limits: &Limits) -> u32 {
    let told = usize::try_from(told).unwrap_or(usize::MAX);
    let mtu = told.min(limits.mtu6).saturating_sub(20).min(limits.mtu4).clamp(MIN_MTU4, 0xffff);
    u32::try_from(mtu).unwrap_or(0)
}

/// Where in an IPv6 header the field is that has this offset in an IPv4 header (RFC 7915 figure 3).
fn pointer_to_v6(pointer: u32) -> Option<u32> {
    Some(match pointer {
        0 | 1 => pointer,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Where in an IPv4 header the field is that has this offset in an IPv6 header (RFC 7915 figure 6).
fn pointer_to_v4(pointer: u32) -> Option<u32> {
    Some(match pointer {
        0 | 1 => pointer,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits::new(1500, 1400);

    #[test]
    fn every_icmpv4_error() {
        for kind in 0..=255 {
            for code in 0..=20 {
                let expected = match (kind, code) {
                    (3, 0 | 1 | 5..=8 | 11 | 12) => Some((1, 0, 0)),
                    (3, 2) => Some((4, 1, 6)),
                    (3, 3) => Some((1, 4, 0)),
                    (3, 4) => Some((2, 0, 1280)),
                    (3, 9 | 10 | 13 | 15) => Some((1, 1, 0)),
                    (11, 0) => Some((3, 0, 0)),
                    (11, 1) => Some((3, 1, 0)),
                    (12, 0 | 2) => Some((4, 0, 0)),
                    _ => None,
                };
                let got = error_to_v6(Head::new(kind, code, 1000), 1400, &LIMITS);
                assert_eq!(got.map(|h| (h.kind, h.code, h.rest)), expected, "{kind}/{code}");
            }
        }
    }

    #[test]
    fn every_icmpv6_error() {
        for kind in 0..=255 {
            for code in 0..=10 {
                let expected = match (kind, code) {
                    (1, 0 | 2 | 3) => Some((3, 1, 0)),
                    (1, 1) => Some((3, 10, 0)),
                    (1, 4) => Some((3, 3, 0)),
                    (2, 0) => Some((3, 4, 68)),
                    (3, 0) => Some((11, 0, 0)),
                    (3, 1) => Some((11, 1, 0)),
                    (4, 0) => Some((12, 0, 0x0800_0000)),
                    (4, 1) => Some((3, 2, 0)),
                    _ => None,
                };
                let got = error_to_v4(Head::new(kind, code, 7), &LIMITS);
                assert_eq!(got.map(|h| (h.kind, h.code, h.rest)), expected, "{kind}/{code}");
            }
        }
    }

    #[test]
    fn queries() {
        for kind in 0..=255 {
            let v6 = match kind {
                8 => Some(128),
                0 => Some(129),
                _ => None,
            };
            assert_eq!(query_to_v6(kind), v6);
            let v4 = match kind {
                128 => Some(8),
                129 => Some(0),
                _ => None,
            };
            assert_eq!(query_to_v4(kind), v4);
        }
    }

    #[test]
    fn mtus_to_ipv6() {
        // told, length of the quoted packet, what the sender learns with links of 1500 (IPv6) and 1400 (IPv4)
        for (told, quoted, expected) in [
            (1261, 1400, 1281),
            (1260, 1400, 1280),
            (68, 1400, 1280),
            (1380, 1400, 1400),
            (1390, 1400, 1410),
            (1480, 1500, 1420),
            (65535, 1500, 1420),
            (0, 1300, 1280),
            (0, 1492, 1280),
            (0, 1493, 1420),
        ] {
            assert_eq!(mtu_to_v6(told, quoted, &LIMITS), expected, "{told} {quoted}");
        }
        let wide = Limits::new(80_000, 80_000);
        for (quoted, expected) in [
            (65536, 65555),
            (65535, 32020),
            (20_000, 17934),
            (17914, 8186),
            (8166, 4372),
            (4352, 2022),
            (2003, 2022),
            (2002, 1512),
            (1400, 1280),
        ] {
            assert_eq!(mtu_to_v6(0, quoted, &wide), expected, "{quoted}");
        }
        assert_eq!(mtu_to_v6(1480, 1500, &Limits::new(1438, 1500)), 1438);
    }

    #[test]
    fn mtus_to_ipv4() {
        for (told, expected) in
            [(1280, 1260), (1420, 1400), (1500, 1400), (u32::MAX, 1400), (0, 68), (1000, 980)]
        {
            assert_eq!(mtu_to_v4(told, &LIMITS), expected, "{told}");
        }
        assert_eq!(mtu_to_v4(1500, &Limits::new(1300, 1500)), 1280);
    }

    #[test]
    fn pointers() {
        let to_v6 =
            [Some(0), Some(1), Some(4), Some(4), None, None, None, None, Some(7), Some(6), None, None];
        for pointer in 0..=300 {
            let expected = match pointer {
                0..=11 => to_v6[pointer as usize],
                12..=15 => Some(8),
                16..=19 => Some(24),
                _ => None,
            };
            assert_eq!(pointer_to_v6(pointer), expected, "{pointer}");
        }
        let to_v4 = [Some(0), Some(1), None, None, Some(2), Some(2), Some(9), Some(8)];
        for pointer in 0..=300 {
            let expected = match pointer {
                0..=7 => to_v4[pointer as usize],
                8..=23 => Some(12),
                24..=39 => Some(16),
                _ => None,
            };
            assert_eq!(pointer_to_v4(pointer), expected, "{pointer}");
        }
        assert_eq!(pointer_to_v4(u32::MAX), None);
    }
}
