//! From the company to the device (RFC 7915 section 4).

use std::ops::Range;

use super::icmp as translate;
use super::{Limits, Mapping, Refused, error, is_illegal, update_transport};
use crate::base::Reason;
use crate::nat::icmp::Kind;
use crate::wire::edit::{put, u8_at, u16_at};
use crate::wire::icmp::{self, Class};
use crate::wire::ip::{self, Ipv4};
use crate::wire::ipv6::{self, Fragment, Ipv6};
use crate::wire::{checksum, udp};

/// IGMP has no counterpart: MLD is ICMPv6.
const IGMP: u8 = 2;
/// Loose and strict source route (RFC 791).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

const BOTH_HEADERS: usize = ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN;

/// An IPv6 packet, whole or to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translated {
    /// Where it is.
    Whole(Range<usize>),
    /// It leaves as fragments.
    Split(Split),
}

/// A packet to be sent as fragments. The payload lies in the buffer; nothing was written in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    header: Ipv6,
    fragment: Fragment,
    payload: Range<usize>,
    room: usize,
}

/// One fragment: what to write in front of which octets of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// IPv6 header and Fragment header.
    pub headers: [u8; BOTH_HEADERS],
    /// Where its payload is.
    pub payload: Range<usize>,
}

impl Split {
    /// How many fragments there are.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.room)
    }

    /// The fragment of that index. A caller that moves payloads apart in the same buffer begins with the last.
    pub fn piece(&self, index: usize) -> Option<Piece> {
        let done = index.checked_mul(self.room).filter(|done| *done < self.payload.len())?;
        let len = self.room.min(self.payload.len() - done);
        let last = done + len == self.payload.len();
        let mut headers = [0; BOTH_HEADERS];
        Ipv6 { payload_len: ipv6::FRAGMENT_LEN + len, ..self.header }.emit(&mut headers)?;
        Fragment {
            offset: u16::try_from(usize::from(self.fragment.offset) + done).ok()?,
            more: self.fragment.more || !last,
            ..self.fragment
        }
        .emit(&mut headers, ipv6::HEADER_LEN)?;
        let start = self.payload.start + done;
        Some(Piece { headers, payload: start..start + len })
    }
}

/// The most fragments that an IPv4 packet of `total_len` octets can become.
pub fn max_pieces(limits: &Limits, total_len: usize) -> usize {
    total_len.div_ceil(piece_room(limits)).max(1)
}

/// Octets of payload in each fragment but the last.
fn piece_room(limits: &Limits) -> usize {
    (lowest_mtu(limits) - BOTH_HEADERS) & !7
}

fn lowest_mtu(limits: &Limits) -> usize {
    limits.lowest_ipv6_mtu.min(limits.mtu6).max(ipv6::MIN_MTU)
}

/// Octets that should be free in front of `packet` for [`translate_v4_to_v6`]: 20, with a Fragment header 28, and 128
/// for ICMP errors, whose quotes grow too.
pub fn room_in_front(packet: &[u8]) -> usize {
    match Ipv4::parse(packet) {
        Ok(header) if is_icmp_error(&header, packet) => 128,
        Ok(header) if header.is_fragment() => BOTH_HEADERS.saturating_sub(header.header_len),
        Ok(header) => ipv6::HEADER_LEN.saturating_sub(header.header_len),
        Err(_) => 0,
    }
}

fn is_icmp_error(header: &Ipv4, packet: &[u8]) -> bool {
    header.protocol == ip::ICMP
        && !header.is_fragment()
        && u8_at(header.payload(packet), 0).is_some_and(|kind| icmp::class(kind) == Class::Error)
}

/// Translates the IPv4 packet at `packet` of `buf`. The IPv6 packet ends where the IPv4 packet ended; all of `buf` in
/// front of that end may be written. See [`room_in_front`] for what it takes: an ICMP error that has less room quotes
/// less, other packets are refused as [`Reason::TooBig`].
pub fn translate_v4_to_v6(
    mapping: &Mapping,
    limits: &Limits,
    buf: &mut [u8],
    packet: Range<usize>,
) -> Result<Translated, Refused<Kind>> {
    let start = packet.start;
    let bytes = buf.get(packet).ok_or(Reason::InnerMalformed)?;
    let Admitted { header, v6, icmp_error } = admit(mapping, bytes)?;
    let protocol = v6.next_header;
    let payload_len = v6.payload_len;
    let (from, end) = (start + header.header_len, start + header.total_len);
    if icmp_error {
        let room = buf.get_mut(..end).ok_or(Reason::InnerMalformed)?;
        return Ok(Translated::Whole(error::translate_v4_to_v6(mapping, limits, room, from, &v6)?));
    }
    let headers_len = if header.is_fragment() { BOTH_HEADERS } else { ipv6::HEADER_LEN };
    let total_len = headers_len + payload_len;
    if header.dont_fragment && total_len > limits.mtu6 {
        // A fragment needs 8 octets more than a whole packet. It is told so only when the larger answer would bring the
        // same packet again, for its sender takes the answer for whole packets too.
        let whole = limits.mtu6.saturating_sub(20);
        let mtu = if header.total_len > whole { whole } else { whole.saturating_sub(8) };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        return Err(Refused::answered(Reason::TooBig, Kind::FragNeeded { mtu }));
    }
    if usize::from(header.fragment_offset) + payload_len > 0xffff {
        return Err(Reason::InnerMalformed.into()); // reaches beyond the largest packet
    }
    let split = !header.dont_fragment && total_len > lowest_mtu(limits);
    if !split && headers_len > from {
        return Err(Reason::TooBig.into());
    }
    let segment = buf.get_mut(from..end).ok_or(Reason::InnerMalformed)?;
    if protocol == ipv6::ICMPV6 {
        update_echo(segment, &v6)?;
    } else if header.fragment_offset == 0 {
        let no_checksum = protocol == ip::UDP && u16_at(segment, udp::CHECKSUM) == Some(0);
        if no_checksum && !header.more_fragments && limits.compute_udp_checksum {
            compute_udp_checksum(segment, &v6)?;
        } else if no_checksum {
            return Err(Reason::Nat64UdpZero.into());
        } else {
            update_transport(segment, protocol, mapping.v4_sum, mapping.v6_sum)?;
        }
    }
    let fragment = Fragment {
        next_header: protocol,
        offset: header.fragment_offset,
        more: header.more_fragments,
        id: u32::from(header.id),
    };
    if split {
        let header = Ipv6 { next_header: ipv6::FRAGMENT, ..v6 };
        let split = Split { header, fragment, payload: from..end, room: piece_room(limits) };
        return Ok(Translated::Split(split));
    }
    let new_start = from.checked_sub(headers_len).ok_or(Reason::TooBig)?;
    let room = buf.get_mut(new_start..end).ok_or(Reason::InnerMalformed)?;
    if header.is_fragment() {
        let v6 = Ipv6 { next_header: ipv6::FRAGMENT, payload_len: payload_len + ipv6::FRAGMENT_LEN, ..v6 };
        v6.emit(room).ok_or(Reason::InnerMalformed)?;
        fragment.emit(room, ipv6::HEADER_LEN).ok_or(Reason::InnerMalformed)?;
    } else {
        v6.emit(room).ok_or(Reason::InnerMalformed)?;
    }
    Ok(Translated::Whole(new_start..end))
}

/// A packet that may be translated, and the header that it is to get where it needs no Fragment header.
struct Admitted {
    header: Ipv4,
    v6: Ipv6,
    icmp_error: bool,
}

/// Everything that the header of a packet decides, but for its size.
fn admit(mapping: &Mapping, packet: &[u8]) -> Result<Admitted, Refused<Kind>> {
    let header = Ipv4::parse(packet)?;
    let octets = packet.get(..header.header_len).ok_or(Reason::InnerMalformed)?;
    if header.dst != mapping.device_v4 {
        return Err(Reason::Nat64NotMapped.into());
    }
    // IPv6 has no header checksum: what would be thrown away there is thrown away here.
    if checksum::of(octets) != 0 {
        return Err(Reason::InnerMalformed.into());
    }
    let icmp_error = is_icmp_error(&header, packet);
    if is_illegal(header.src) && !icmp_error {
        return Err(Reason::Nat64IllegalSource.into());
    }
    if has_source_route(octets) {
        return Err(Refused::answered(Reason::Nat64SourceRoute, Kind::SourceRouteFailed));
    }
    let from_us = header.src == mapping.host;
    if header.ttl <= 1 && !from_us {
        return Err(Refused::answered(Reason::TtlExceeded, Kind::TtlExceeded));
    }
    let next_header = match header.protocol {
        ip::ICMP if header.is_fragment() => return Err(Reason::Nat64IcmpFragment.into()),
        ip::ICMP => ipv6::ICMPV6,
        IGMP
        | ipv6::HOP_BY_HOP
        | ipv6::ROUTING
        | ipv6::FRAGMENT
        | ipv6::ICMPV6
        | ipv6::DESTINATION_OPTIONS => return Err(Reason::Nat64Protocol.into()),
        other => other,
    };
    let v6 = Ipv6 {
        traffic_class: u8_at(octets, 1).ok_or(Reason::InnerMalformed)?,
        payload_len: header.total_len - header.header_len,
        next_header,
        hop_limit: if from_us { header.ttl } else { header.ttl - 1 },
        src: mapping.prefix.embed(header.src),
        dst: mapping.device_v6,
    };
    Ok(Admitted { header, v6, icmp_error })
}

/// True where an IPv4 header has a source route that still leads somewhere (RFC 7915 section 4.1).
fn has_source_route(header: &[u8]) -> bool {
    let mut options = header.get(ip::HEADER_LEN..).unwrap_or_default();
    loop {
        match *options {
            [] | [0, ..] => return false,
            [1, ref rest @ ..] => options = rest,
            [kind, len, pointer, ..] if SOURCE_ROUTES.contains(&kind) && pointer <= len => return true,
            [_, len, ..] if len >= 2 => options = options.get(usize::from(len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// Turns an ICMPv4 echo message into an ICMPv6 one (RFC 7915 section 4.2).
fn update_echo(message: &mut [u8], header: &Ipv6) -> Result<(), Reason> {
    let pseudo = translate::pseudo_v6(header.src, header.dst, message.len())?;
    translate::update_echo(message, translate::query_to_v6, 0, pseudo)
}

/// Gives a whole datagram the checksum that it lacks.
fn compute_udp_checksum(segment: &mut [u8], header: &Ipv6) -> Result<(), Reason> {
    let len = u16_at(segment, 4).ok_or(Reason::NatMalformed)?;
    let datagram = segment.get(..usize::from(len)).ok_or(Reason::NatMalformed)?;
    let pseudo = checksum::pseudo_v6(header.src.octets(), header.dst.octets(), ip::UDP, u32::from(len));
    let sum = udp::checksum_of(datagram, pseudo);
    put(segment, udp::CHECKSUM, sum.to_be_bytes()).ok_or(Reason::NatMalformed)
}
