//! From the device to the company (RFC 7915 section 5).

use std::net::Ipv6Addr;
use std::ops::Range;

use super::answer::Kind6;
use super::icmp as translate;
use super::{Limits, MAX_WITHOUT_DF, Mapping, Refused, emit_v4, error, is_illegal, update_transport};
use crate::base::Reason;
use crate::wire::edit::{Edit, u8_at, u16_at};
use crate::wire::ip::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6, Upper};
use crate::wire::{icmpv6, udp};

/// Translates the IPv6 packet at `packet` of `buf` and returns where the IPv4 packet is: it ends where the IPv6 packet
/// ended and starts 20 or more octets later. Only an ICMP error whose short quote had to be padded (RFC 4884) may start
/// earlier, down to the start of `buf`: what a caller needs for frame headers it keeps out of `buf`.
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
    let Admitted { header, upper, v4, for_us } = admit(mapping, bytes, id)?;
    let (from, end) = (start + upper.at, start + header.total_len());
    if upper.protocol == ipv6::ICMPV6 {
        if upper.piece().is_some() {
            return Err(Reason::Nat64IcmpFragment.into());
        }
        if u8_at(bytes, upper.at).is_some_and(icmpv6::is_error) {
            let room = buf.get_mut(..end).ok_or(Reason::InnerMalformed)?;
            let headers = error::Headers6 { v6: header, v4, whole: upper.fragment.is_none() };
            return Ok(error::translate_v6_to_v4(mapping, limits, room, from, &headers)?);
        }
    }
    if v4.total_len > limits.mtu4.max(MAX_WITHOUT_DF) && !for_us {
        let mtu = (limits.mtu4 + 20).min(limits.mtu6).max(ipv6::MIN_MTU);
        return Err(Refused::answered(Reason::TooBig, Kind6::PacketTooBig { mtu }));
    }
    let segment = buf.get_mut(from..end).ok_or(Reason::InnerMalformed)?;
    if upper.protocol == ipv6::ICMPV6 {
        update_echo(segment, header.src, header.dst)?;
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

/// The piece `packet` of an ICMPv6 message, as a piece of an IPv4 packet to be put together: its header and data.
///
/// RFC 7915 leaves such pieces out ([`Reason::Nat64IcmpFragment`]): the checksum covers the length of the whole, which
/// no piece tells. But they are what `ping` sends above the MTU, and worth a detour. The protocol stays ICMPv6 to tell
/// them apart; the whole goes through [`finish_echo_v6_to_v4`].
pub fn echo_piece_v6_to_v4<'a>(
    mapping: &Mapping,
    packet: &'a [u8],
) -> Result<(Ipv4, &'a [u8]), Refused<Kind6>> {
    let Admitted { header, upper, mut v4, .. } = admit(mapping, packet, 0)?;
    if upper.protocol != ipv6::ICMPV6 || upper.piece().is_none() {
        return Err(Reason::Nat64IcmpFragment.into());
    }
    v4.protocol = ipv6::ICMPV6;
    let data = packet.get(upper.at..header.total_len()).ok_or(Reason::InnerMalformed)?;
    Ok((v4, data))
}

/// Makes an ICMPv4 echo message of an ICMPv6 one in an IPv4 packet without options, as put together from
/// [`echo_piece_v6_to_v4`]. It has no DF and may be larger than the next link carries.
pub fn finish_echo_v6_to_v4(mapping: &Mapping, packet: &mut [u8]) -> Result<(), Reason> {
    let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    if header.protocol != ipv6::ICMPV6 || header.header_len != ip::HEADER_LEN || header.is_fragment() {
        return Err(Reason::Nat64Protocol);
    }
    let message = packet.get_mut(ip::HEADER_LEN..header.total_len).ok_or(Reason::InnerMalformed)?;
    update_echo(message, mapping.device_v6, mapping.prefix.embed(header.dst))?;
    let mut edit = Edit::default();
    edit.replace(packet, 8, [header.ttl, ip::ICMP]).ok_or(Reason::InnerMalformed)?;
    edit.update(packet, 10).ok_or(Reason::InnerMalformed)?;
    Ok(())
}

/// A packet that may be translated, and the header that it is to get.
struct Admitted {
    header: Ipv6,
    upper: Upper,
    v4: Ipv4,
    for_us: bool,
}

/// Everything that the headers of a packet decide. `id` is for packets without a Fragment header.
#[inline(always)] // as `Ipv6::upper` and `emit_v4`: results of their size cost more to hand over than to make
fn admit(mapping: &Mapping, packet: &[u8], id: u16) -> Result<Admitted, Refused<Kind6>> {
    let header = Ipv6::parse(packet)?;
    let packet = packet.get(..header.total_len()).ok_or(Reason::InnerMalformed)?;
    if header.src != mapping.device_v6 {
        return Err(Reason::InnerSpoofed.into());
    }
    let no_route = Refused::answered(Reason::Nat64NotMapped, Kind6::NoRoute);
    let dst = mapping.prefix.extract(header.dst).ok_or(no_route)?;
    if is_illegal(dst) {
        return Err(Reason::InnerIllegal.into());
    }
    let upper = header.upper(packet)?;
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
    let protocol = match upper.protocol {
        ip::ICMP => return Err(Reason::Nat64Protocol.into()),
        ipv6::ICMPV6 => ip::ICMP,
        other => other,
    };
    let piece = upper.piece();
    let total_len = ip::HEADER_LEN + packet.len() - upper.at;
    let v4 = Ipv4 {
        header_len: ip::HEADER_LEN,
        total_len,
        id: upper.fragment.map_or(id, |fragment| fragment.id as u16),
        dont_fragment: upper.fragment.is_none() && total_len > MAX_WITHOUT_DF,
        more_fragments: piece.is_some_and(|fragment| fragment.more),
        fragment_offset: piece.map_or(0, |fragment| fragment.offset),
        ttl: if for_us { header.hop_limit } else { header.hop_limit - 1 },
        protocol,
        src: mapping.device_v4,
        dst,
    };
    Ok(Admitted { header, upper, v4, for_us })
}

/// Turns an ICMPv6 echo message from `src` to `dst` into an ICMPv4 one (RFC 7915 section 5.2).
fn update_echo(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), Reason> {
    let pseudo = translate::pseudo_v6(src, dst, message.len())?;
    translate::update_echo(message, translate::query_to_v4, pseudo, 0)
}
