//! From the device to the company (RFC 7915 section 5).

use std::ops::Range;

use super::answer::Kind6;
use super::{Limits, MAX_WITHOUT_DF, Mapping, Refused, emit_v4, error, is_illegal, update_transport};
use crate::base::Reason;
use crate::wire::edit::{put, u8_at, u16_at};
use crate::wire::ip::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, icmp, icmpv6, udp};

/// Translates the IPv6 packet at `packet` of `buf` and returns where the IPv4 packet is: it ends where the IPv6 packet
/// ended. All of `buf` in front of that end may be written; what starts at most 20 octets behind `packet.start` is an
/// ICMP error whose quote was padded (RFC 4884).
///
/// `id` becomes the identification where the packet has no Fragment header. The result may be larger than
/// `limits.mtu4` only where it is at most 1260 octets: it is then to be fragmented (its DF is clear).
pub fn translate_v6_to_v4(
    mapping: &Mapping,
    limits: &Limits,
    buf: &mut [u8],
    packet: Range<usize>,
    id: u16,
) -> Result<Range<usize>, Refused<Kind6>> {
    let start = packet.start;
    let bytes = buf.get(packet).ok_or(Reason::InnerMalformed)?;
    let header = Ipv6::parse(bytes)?;
    let bytes = bytes.get(..header.total_len()).ok_or(Reason::InnerMalformed)?;
    if header.src != mapping.device_v6 {
        return Err(Reason::InnerSpoofed.into());
    }
    let dst = mapping
        .prefix
        .extract(header.dst)
        .ok_or(Refused::answered(Reason::Nat64NotMapped, Kind6::NoRoute))?;
    if is_illegal(dst) {
        return Err(Reason::InnerIllegal.into());
    }
    let upper = header.upper(bytes)?;
    if let Some(pointer) = upper.source_route {
        return Err(Refused::answered(Reason::Nat64SourceRoute, Kind6::ErroneousField { pointer }));
    }
    if upper.fragment.is_some() && ipv6::is_extension(upper.protocol) {
        return Err(Refused::answered(Reason::Nat64Extension, Kind6::AdminProhibited));
    }
    let for_us = dst == mapping.host;
    if header.hop_limit <= 1 && !for_us {
        return Err(Refused::answered(Reason::TtlExceeded, Kind6::HopLimitExceeded));
    }
    let piece = upper.piece();
    let total_len = ip::HEADER_LEN + bytes.len() - upper.at;
    let mut v4 = Ipv4 {
        header_len: ip::HEADER_LEN,
        total_len,
        id: upper.fragment.map_or(id, |fragment| fragment.id as u16),
        dont_fragment: upper.fragment.is_none() && total_len > MAX_WITHOUT_DF,
        more_fragments: piece.is_some_and(|fragment| fragment.more),
        fragment_offset: piece.map_or(0, |fragment| fragment.offset),
        ttl: if for_us { header.hop_limit } else { header.hop_limit - 1 },
        protocol: upper.protocol,
        src: mapping.device_v4,
        dst,
    };
    let (from, end) = (start + upper.at, start + bytes.len());
    match upper.protocol {
        ip::ICMP => return Err(Reason::Nat64Protocol.into()),
        ipv6::ICMPV6 => {
            v4.protocol = ip::ICMP;
            if piece.is_some() {
                return Err(Reason::Nat64IcmpFragment.into());
            }
            if u8_at(bytes, upper.at).is_some_and(icmpv6::is_error) {
                let room = buf.get_mut(..end).ok_or(Reason::InnerMalformed)?;
                let headers = error::Headers6 { v6: header, v4, whole: upper.fragment.is_none() };
                return Ok(error::translate_v6_to_v4(mapping, limits, room, from, &headers)?);
            }
        }
        _ => {}
    }
    if total_len > limits.mtu4.max(MAX_WITHOUT_DF) && !for_us {
        let mtu = (limits.mtu4 + 20).min(limits.mtu6).max(ipv6::MIN_MTU);
        return Err(Refused::answered(Reason::TooBig, Kind6::PacketTooBig { mtu }));
    }
    let segment = buf.get_mut(from..end).ok_or(Reason::InnerMalformed)?;
    if upper.protocol == ipv6::ICMPV6 {
        update_echo(segment, &header)?;
    } else if v4.fragment_offset == 0 {
        if upper.protocol == ip::UDP && u16_at(segment, udp::CHECKSUM) == Some(0) {
            return Err(Reason::Nat64UdpZero.into());
        }
        update_transport(segment, upper.protocol, mapping.v6_sum, mapping.v4_sum)?;
    }
    let new_start = from - ip::HEADER_LEN;
    let room = buf.get_mut(new_start..end).ok_or(Reason::InnerMalformed)?;
    emit_v4(&v4, header.traffic_class, room).ok_or(Reason::InnerMalformed)?;
    Ok(new_start..end)
}

/// Turns an ICMPv6 echo message into an ICMPv4 one (RFC 7915 section 5.2).
fn update_echo(message: &mut [u8], header: &Ipv6) -> Result<(), Reason> {
    let &[old_kind, code, high, low, ..] =
        message.first_chunk::<{ icmp::HEADER_LEN }>().ok_or(Reason::NatMalformed)?;
    let kind = super::icmp::query_to_v4(old_kind).ok_or(Reason::Nat64IcmpType)?;
    let len = u32::try_from(message.len()).map_err(|_| Reason::InnerMalformed)?;
    let pseudo = checksum::pseudo_v6(header.src.octets(), header.dst.octets(), ipv6::ICMPV6, len);
    let old = pseudo + u64::from(u16::from_be_bytes([old_kind, code]));
    let new = u64::from(u16::from_be_bytes([kind, code]));
    let [high, low] = checksum::update(u16::from_be_bytes([high, low]), old, new).to_be_bytes();
    put(message, 0, [kind, code, high, low]).ok_or(Reason::NatMalformed)
}
