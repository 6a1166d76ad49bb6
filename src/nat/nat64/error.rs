//! ICMP errors, rebuilt around the translated packet that they quote, with their extensions (RFC 4884).

use std::ops::Range;

use super::icmp::{self, Head};
use super::{Limits, MAX_WITHOUT_DF, Mapping, emit_v4, quote};
use crate::base::Reason;
use crate::nat::icmp::MAX_LEN as MAX_V4;
use crate::wire::checksum;
use crate::wire::edit::put;
use crate::wire::icmp::{CHECKSUM, HEADER_LEN};
use crate::wire::ip::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6, MIN_MTU as MAX_V6};

/// A quoted packet with an extension behind it has at least this length (RFC 4884 section 3).
const LEAST_QUOTE: usize = 128;

/// What the caller knows of an ICMPv6 error: the header that it came with, and the header that it is to get.
pub(super) struct Headers6 {
    pub(super) v6: Ipv6,
    pub(super) v4: Ipv4,
    /// Without a Fragment header, so that DF is for us to choose.
    pub(super) whole: bool,
}

/// An ICMP error, taken apart.
struct Message<'a> {
    head: Head,
    quote: &'a [u8],
    extension: &'a [u8],
}

impl<'a> Message<'a> {
    /// `unit` is how many octets the length field counts, `length_at` where in the last four octets of the header it is.
    fn parse(
        message: &'a [u8],
        unit: usize,
        length_at: usize,
        extensible: fn(&Head) -> bool,
    ) -> Option<Self> {
        let &[kind, code, _, _, a, b, c, d] = message.first_chunk::<HEADER_LEN>()?;
        let body = message.get(HEADER_LEN..)?;
        let mut rest = [a, b, c, d];
        let mut head = Head { kind, code, rest: u32::from_be_bytes(rest) };
        let mut split = body.len();
        if extensible(&head) {
            let length = rest.get_mut(length_at)?;
            // A length beyond the end is no length.
            split = match usize::from(*length) * unit {
                0 => body.len(),
                told => told.min(body.len()),
            };
            *length = 0;
            head.rest = u32::from_be_bytes(rest);
        }
        let (quote, extension) = body.split_at_checked(split)?;
        Some(Self { head, quote, extension })
    }
}

/// Translates the ICMPv6 error at `from..` of `buf` to an IPv4 packet that ends where `buf` ends.
pub(super) fn translate_v6_to_v4(
    mapping: &Mapping,
    limits: &Limits,
    buf: &mut [u8],
    from: usize,
    headers: &Headers6,
) -> Result<Range<usize>, Reason> {
    let mut out = [0; MAX_V4];
    let room = MAX_V4.min(limits.mtu4).min(buf.len()).saturating_sub(ip::HEADER_LEN);
    let out = out.get_mut(..room).ok_or(Reason::Nat64Quote)?;
    let bytes = buf.get(from..).ok_or(Reason::InnerMalformed)?;
    let pseudo = icmp::pseudo_v6(headers.v6.src, headers.v6.dst, bytes.len())?;
    if checksum::fold(checksum::sum(bytes, pseudo)) != 0xffff {
        return Err(Reason::Nat64IcmpChecksum);
    }
    let mut message = Message::parse(bytes, 8, 0, Head::extensible_v6).ok_or(Reason::NatMalformed)?;
    let head = icmp::error_to_v4(message.head, limits).ok_or(Reason::Nat64IcmpType)?;
    if !message.extension.is_empty() {
        message.quote =
            unpadded(message.quote, Ipv6::parse_quoted(message.quote).ok().map(|h| h.total_len()));
    }
    let quote_room = out.get_mut(HEADER_LEN..).ok_or(Reason::Nat64Quote)?;
    let quoted = quote::to_v4(mapping, message.quote, quote_room)?;
    let (len, words) = extend(out, quoted, message.extension, 4).ok_or(Reason::Nat64Quote)?;
    // Octet 5 of the message counts the words of the quote.
    emit_head(out, head, u32::from(words) << 16).ok_or(Reason::Nat64Quote)?;
    let out = out.get_mut(..len).ok_or(Reason::Nat64Quote)?;
    let sum = checksum::of(out);
    put(out, CHECKSUM, sum.to_be_bytes()).ok_or(Reason::Nat64Quote)?;

    let total_len = ip::HEADER_LEN + len;
    let dont_fragment = headers.whole && total_len > MAX_WITHOUT_DF;
    let v4 = Ipv4 { total_len, dont_fragment, ..headers.v4 };
    let start = buf.len().checked_sub(total_len).ok_or(Reason::Nat64Quote)?;
    let packet = buf.get_mut(start..).ok_or(Reason::Nat64Quote)?;
    emit_v4(&v4, headers.v6.traffic_class, packet).ok_or(Reason::Nat64Quote)?;
    packet.get_mut(ip::HEADER_LEN..).ok_or(Reason::Nat64Quote)?.copy_from_slice(out);
    Ok(start..start + total_len)
}

/// Translates the ICMPv4 error at `from..` of `buf` to an IPv6 packet that ends where `buf` ends.
pub(super) fn translate_v4_to_v6(
    mapping: &Mapping,
    limits: &Limits,
    buf: &mut [u8],
    from: usize,
    v6: &Ipv6,
) -> Result<Range<usize>, Reason> {
    let mut out = [0; MAX_V6];
    let room = MAX_V6.min(buf.len()).saturating_sub(ipv6::HEADER_LEN);
    let out = out.get_mut(..room).ok_or(Reason::Nat64Quote)?;
    let bytes = buf.get(from..).ok_or(Reason::InnerMalformed)?;
    if checksum::of(bytes) != 0 {
        return Err(Reason::Nat64IcmpChecksum);
    }
    let mut message = Message::parse(bytes, 4, 1, Head::extensible_v4).ok_or(Reason::NatMalformed)?;
    let original_len = Ipv4::parse_quoted(message.quote).map_err(|_| Reason::Nat64Quote)?.total_len;
    let head = icmp::error_to_v6(message.head, original_len, limits).ok_or(Reason::Nat64IcmpType)?;
    if !message.extension.is_empty() {
        message.quote = unpadded(message.quote, Some(original_len));
    }
    if !head.extensible_v6() {
        message.extension = &[];
    }
    let quote_room = out.get_mut(HEADER_LEN..).ok_or(Reason::Nat64Quote)?;
    let quoted = quote::to_v6(mapping, message.quote, quote_room)?;
    let (len, double_words) = extend(out, quoted, message.extension, 8).ok_or(Reason::Nat64Quote)?;
    // Octet 4 of the message counts the double words of the quote.
    emit_head(out, head, u32::from(double_words) << 24).ok_or(Reason::Nat64Quote)?;
    let out = out.get_mut(..len).ok_or(Reason::Nat64Quote)?;
    let sum = !checksum::fold(checksum::sum(out, icmp::pseudo_v6(v6.src, v6.dst, len)?));
    put(out, CHECKSUM, sum.to_be_bytes()).ok_or(Reason::Nat64Quote)?;

    let start = buf.len().checked_sub(ipv6::HEADER_LEN + len).ok_or(Reason::Nat64Quote)?;
    let packet = buf.get_mut(start..).ok_or(Reason::Nat64Quote)?;
    Ipv6 { payload_len: len, ..*v6 }.emit(packet).ok_or(Reason::Nat64Quote)?;
    packet.get_mut(ipv6::HEADER_LEN..).ok_or(Reason::Nat64Quote)?.copy_from_slice(out);
    Ok(start..start + ipv6::HEADER_LEN + len)
}

/// Without the zeros that make room for an extension behind a short packet of `original_len` octets.
fn unpadded(quote: &[u8], original_len: Option<usize>) -> &[u8] {
    original_len.and_then(|len| quote.get(..len)).unwrap_or(quote)
}

/// Puts `extension` behind the `quoted` octets of quote in the message `out`, with the padding that it needs. Returns
/// the length of the message and of the quote in units.
///
/// Where not everything fits, the first 128 octets of the quote come first, then the extension, then the rest of the
/// quote: an extension is useful only whole.
fn extend(out: &mut [u8], quoted: usize, extension: &[u8], unit: usize) -> Option<(usize, u8)> {
    let room = out.len().checked_sub(HEADER_LEN)?;
    let quote_room = room.checked_sub(extension.len()).filter(|room| *room >= LEAST_QUOTE);
    let Some(quote_room) = quote_room.filter(|_| !extension.is_empty()) else {
        return Some((HEADER_LEN + quoted, 0));
    };
    let len = if quoted <= LEAST_QUOTE { LEAST_QUOTE } else { quoted.min(quote_room) / unit * unit };
    let padding = HEADER_LEN + quoted.min(len)..HEADER_LEN + len;
    out.get_mut(padding)?.fill(0);
    out.get_mut(HEADER_LEN + len..)?.get_mut(..extension.len())?.copy_from_slice(extension);
    Some((HEADER_LEN + len + extension.len(), u8::try_from(len / unit).ok()?))
}

fn emit_head(out: &mut [u8], head: Head, length: u32) -> Option<()> {
    put(out, 0, [head.kind, head.code, 0, 0])?;
    put(out, 4, (head.rest | length).to_be_bytes())
}
