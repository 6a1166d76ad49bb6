//! The packet that an ICMP error quotes (RFC 7915 sections 4.3 and 5.3).
//!
//! It is translated like any packet, but its hop limit stays, its lengths are those of the original, and it may be cut
//! short: eight octets of the transport header are enough, and a checksum behind the cut stays behind it.

use super::{MAX_WITHOUT_DF, Mapping, emit_v4, icmp};
use crate::base::Reason;
use crate::wire::edit::{put, u8_at, u16_at};
use crate::wire::ip::{self, Ipv4};
use crate::wire::ipv6::{self, Fragment, Ipv6};
use crate::wire::{checksum, icmpv6, tcp, udp};

/// Writes the IPv4 form of the quoted IPv6 packet `quote` to `out`, as far as it fits; returns its length.
pub(super) fn to_v4(mapping: &Mapping, quote: &[u8], out: &mut [u8]) -> Result<usize, Reason> {
    let header = Ipv6::parse_quoted(quote).map_err(|_| Reason::Nat64Quote)?;
    let upper = header.upper(quote).map_err(|_| Reason::Nat64Quote)?;
    let (Some(src), Some(dst)) = (mapping.v4(header.src), mapping.v4(header.dst)) else {
        return Err(Reason::Nat64Quote);
    };
    let piece = upper.piece();
    let payload_len = header.total_len().checked_sub(upper.at).ok_or(Reason::Nat64Quote)?;
    let total_len = ip::HEADER_LEN + payload_len;
    let mut v4 = Ipv4 {
        header_len: ip::HEADER_LEN,
        total_len,
        // The identification that the packet had on its way is not known any more.
        id: upper.fragment.map_or(0, |fragment| fragment.id as u16),
        dont_fragment: upper.fragment.is_none() && total_len > MAX_WITHOUT_DF,
        more_fragments: piece.is_some_and(|fragment| fragment.more),
        fragment_offset: piece.map_or(0, |fragment| fragment.offset),
        ttl: header.hop_limit,
        protocol: upper.protocol,
        src,
        dst,
    };
    let segment = quote.get(upper.at..).ok_or(Reason::Nat64Quote)?;
    let old = checksum::pseudo_v6(header.src.octets(), header.dst.octets(), 0, 0);
    let new = checksum::sum(&dst.octets(), checksum::sum(&src.octets(), 0));
    let copied = copy(segment, out, ip::HEADER_LEN).ok_or(Reason::Nat64Quote)?;
    match upper.protocol {
        ip::ICMP => return Err(Reason::Nat64Quote),
        ipv6::ICMPV6 => {
            v4.protocol = ip::ICMP;
            let kind = u8_at(copied, 0).and_then(icmp::query_to_v4);
            let (Some(kind), None) = (kind, piece) else { return Err(Reason::Nat64Quote) };
            let len = u64::try_from(payload_len).map_err(|_| Reason::Nat64Quote)?;
            update_query(copied, kind, old + u64::from(ipv6::ICMPV6) + len, 0).ok_or(Reason::Nat64Quote)?;
        }
        protocol if v4.fragment_offset == 0 => update_transport(copied, protocol, old, new),
        _ => {}
    }
    let len = ip::HEADER_LEN + copied.len();
    emit_v4(&v4, header.traffic_class, out).ok_or(Reason::Nat64Quote)?;
    Ok(len)
}

/// Writes the IPv6 form of the quoted IPv4 packet `quote` to `out`, as far as it fits; returns its length.
pub(super) fn to_v6(mapping: &Mapping, quote: &[u8], out: &mut [u8]) -> Result<usize, Reason> {
    let header = Ipv4::parse_quoted(quote).map_err(|_| Reason::Nat64Quote)?;
    let (src, dst) = (mapping.v6(header.src), mapping.v6(header.dst));
    let fragment_len = if header.is_fragment() { ipv6::FRAGMENT_LEN } else { 0 };
    let payload_len = header.total_len - header.header_len;
    let mut v6 = Ipv6 {
        traffic_class: u8_at(quote, 1).ok_or(Reason::Nat64Quote)?,
        payload_len: fragment_len + payload_len,
        next_header: header.protocol,
        hop_limit: header.ttl,
        src,
        dst,
    };
    let segment = quote.get(header.header_len..).ok_or(Reason::Nat64Quote)?;
    let old = checksum::sum(&header.dst.octets(), checksum::sum(&header.src.octets(), 0));
    let new = checksum::pseudo_v6(src.octets(), dst.octets(), 0, 0);
    let headers_len = ipv6::HEADER_LEN + fragment_len;
    let copied = copy(segment, out, headers_len).ok_or(Reason::Nat64Quote)?;
    match header.protocol {
        ip::ICMP => {
            v6.next_header = ipv6::ICMPV6;
            let kind = u8_at(copied, 0).and_then(icmp::query_to_v6);
            let (Some(kind), false) = (kind, header.is_fragment()) else { return Err(Reason::Nat64Quote) };
            let len = u64::try_from(payload_len).map_err(|_| Reason::Nat64Quote)?;
            update_query(copied, kind, 0, new + u64::from(ipv6::ICMPV6) + len).ok_or(Reason::Nat64Quote)?;
        }
        protocol if ipv6::is_extension(protocol) || protocol == ipv6::ICMPV6 => {
            return Err(Reason::Nat64Quote);
        }
        protocol if header.fragment_offset == 0 => update_transport(copied, protocol, old, new),
        _ => {}
    }
    let len = headers_len + copied.len();
    if header.is_fragment() {
        let fragment = Fragment {
            next_header: v6.next_header,
            offset: header.fragment_offset,
            more: header.more_fragments,
            id: u32::from(header.id),
        };
        v6.next_header = ipv6::FRAGMENT;
        fragment.emit(out, ipv6::HEADER_LEN).ok_or(Reason::Nat64Quote)?;
    }
    v6.emit(out).ok_or(Reason::Nat64Quote)?;
    Ok(len)
}

/// Copies `segment` to `out` from `at` on, as far as it fits.
fn copy<'a>(segment: &[u8], out: &'a mut [u8], at: usize) -> Option<&'a mut [u8]> {
    let room = out.get_mut(at..)?;
    let len = segment.len().min(room.len());
    let copied = room.get_mut(..len)?;
    copied.copy_from_slice(segment.get(..len)?);
    Some(copied)
}

/// Like [`super::update_transport`], for a segment that may end before its checksum, and a checksum that may be absent.
fn update_transport(segment: &mut [u8], protocol: u8, old: u64, new: u64) {
    let at = if protocol == ip::UDP { udp::CHECKSUM } else { tcp::CHECKSUM };
    match u16_at(segment, at) {
        None => {}
        Some(0) if protocol == ip::UDP => {}
        Some(_) => drop(super::update_transport(segment, protocol, old, new)),
    }
}

/// Changes the type of an echo message and its checksum as far as it is there.
fn update_query(message: &mut [u8], kind: u8, old_pseudo: u64, new_pseudo: u64) -> Option<()> {
    let [old_kind, code] = u16_at(message, 0)?.to_be_bytes();
    put(message, 0, [kind, code])?;
    if let Some(field) = u16_at(message, icmpv6::CHECKSUM) {
        let old = old_pseudo + u64::from(u16::from_be_bytes([old_kind, code]));
        let new = new_pseudo + u64::from(u16::from_be_bytes([kind, code]));
        put(message, icmpv6::CHECKSUM, checksum::update(field, old, new).to_be_bytes())?;
    }
    Some(())
}
