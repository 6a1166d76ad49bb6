//! The IPv6 header, its Fragment header, and the way to the upper layer (RFC 8200).

use std::net::Ipv6Addr;

use super::edit::put;
use super::{Malformed, Reader};

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing header.
pub const ROUTING: u8 = 43;
/// Next header: Fragment header.
pub const FRAGMENT: u8 = 44;
/// Next header: authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header: ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Next headers: mobility (RFC 6275), HIP (RFC 7401), shim6 (RFC 5533).
const LATER_EXTENSIONS: [u8; 3] = [135, 139, 140];

/// Length of the header.
pub const HEADER_LEN: usize = 40;
/// Length of the Fragment header.
pub const FRAGMENT_LEN: usize = 8;
/// Every IPv6 link carries packets of this size (RFC 8200 section 5).
pub const MIN_MTU: usize = 1280;

/// More extension headers than this are not walked.
const MAX_EXTENSIONS: usize = 8;

/// The fields of an IPv6 header, but for the flow label: it is not read, and written as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Traffic class.
    pub traffic_class: u8,
    /// Octets behind the header, extension headers included.
    pub payload_len: usize,
    /// What follows the header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Ipv6 {
    /// Reads the header of a whole packet: version and payload length are checked against the slice (octets behind the
    /// packet are allowed, RFC 4303 section 2.7).
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_quoted(packet)?;
        if header.total_len() > packet.len() {
            return Err(Malformed("IPv6 payload length"));
        }
        Ok(header)
    }

    /// Reads the header of a packet that may be cut short, as ICMPv6 errors quote it. The header itself is whole.
    pub fn parse_quoted(packet: &[u8]) -> Result<Self, Malformed> {
        const HEADER: Malformed = Malformed("IPv6 header");
        // At one go: field by field costs as much as the rest of a translation.
        let &[a, b, c, d, len_high, len_low, next_header, hop_limit, ref addresses @ ..] =
            packet.first_chunk::<HEADER_LEN>().ok_or(HEADER)?;
        let ([src, dst], _) = addresses.as_chunks::<16>() else { return Err(HEADER) };
        let first = u32::from_be_bytes([a, b, c, d]);
        if first >> 28 != 6 {
            return Err(HEADER);
        }
        Ok(Self {
            traffic_class: (first >> 20) as u8,
            payload_len: usize::from(u16::from_be_bytes([len_high, len_low])),
            next_header,
            hop_limit,
            src: Ipv6Addr::from(*src),
            dst: Ipv6Addr::from(*dst),
        })
    }

    /// Octets of header and payload.
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Writes the header to the front of `buf`. `None` where `buf` is too short or the payload length does not fit
    /// 16 bits.
    pub fn emit(&self, buf: &mut [u8]) -> Option<()> {
        let payload_len = u16::try_from(self.payload_len).ok()?;
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        put(header, 0, (0x6000_0000 | u32::from(self.traffic_class) << 20).to_be_bytes())?;
        put(header, 4, payload_len.to_be_bytes())?;
        put(header, 6, [self.next_header, self.hop_limit])?;
        put(header, 8, self.src.octets())?;
        put(header, 24, self.dst.octets())
    }

    /// Walks the hop-by-hop, routing and destination options headers of `packet`, from which this header was parsed,
    /// up to and with a Fragment header. A header that `packet` does not hold whole is an error.
    #[inline(always)]
    pub fn upper(&self, packet: &[u8]) -> Result<Upper, Malformed> {
        const CHAIN: Malformed = Malformed("IPv6 extension headers");
        let mut upper =
            Upper { protocol: self.next_header, at: HEADER_LEN, fragment: None, source_route: None };
        for _ in 0..=MAX_EXTENSIONS {
            let rest = packet.get(upper.at..).ok_or(CHAIN)?;
            if upper.protocol == FRAGMENT {
                let fragment = Fragment::parse(rest)?;
                upper.at += FRAGMENT_LEN;
                upper.protocol = fragment.next_header;
                upper.fragment = Some(fragment);
                return Ok(upper);
            }
            if !matches!(upper.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
                return Ok(upper);
            }
            let &[next, len, _, segments_left] = rest.first_chunk().ok_or(CHAIN)?;
            if upper.protocol == ROUTING && segments_left != 0 && upper.source_route.is_none() {
                upper.source_route = Some(upper.at + 3);
            }
            upper.protocol = next;
            upper.at += (usize::from(len) + 1) * 8;
        }
        Err(CHAIN)
    }
}

/// Where the extension headers of a packet end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// What stands there.
    pub protocol: u8,
    /// Offset in the packet.
    pub at: usize,
    /// The Fragment header, where there is one; it is the last header that was walked.
    pub fragment: Option<Fragment>,
    /// Offset in the packet of a Segments Left field that is not zero.
    pub source_route: Option<usize>,
}

impl Upper {
    /// The Fragment header of a piece of a larger packet. A lone ("atomic") fragment is a whole packet (RFC 6946).
    pub fn piece(&self) -> Option<Fragment> {
        self.fragment.filter(|fragment| fragment.more || fragment.offset != 0)
    }
}

/// True for next headers that are extension headers, other than ESP.
pub fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
        || LATER_EXTENSIONS.contains(&next_header)
}

/// The Fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What the fragmentable part begins with.
    pub next_header: u8,
    /// Offset of this fragment, in octets; a multiple of 8.
    pub offset: u16,
    /// The M flag: more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Fragment {
    /// Reads the header at the front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, "IPv6 Fragment header");
        let [next_header, _reserved] = r.array()?;
        let field = r.u16()?;
        Ok(Self { next_header, offset: field & !7, more: field & 1 != 0, id: r.u32()? })
    }

    /// Writes the header to `buf` at `at`. `None` where `buf` is too short.
    pub fn emit(&self, buf: &mut [u8], at: usize) -> Option<()> {
        let [high, low] = ((self.offset & !7) | u16::from(self.more)).to_be_bytes();
        let [a, b, c, d] = self.id.to_be_bytes();
        put(buf, at, [self.next_header, 0, high, low, a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Ipv6 = Ipv6 {
        traffic_class: 0xa5,
        payload_len: 0,
        next_header: 17,
        hop_limit: 64,
        src: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    };

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        Ipv6 { next_header, payload_len: payload.len(), ..HEADER }.emit(&mut packet).unwrap();
        packet.extend_from_slice(payload);
        packet
    }

    fn upper(packet: &[u8]) -> Result<Upper, Malformed> {
        Ipv6::parse(packet)?.upper(packet)
    }

    #[test]
    fn what_is_emitted_is_parsed() {
        let mut bytes = packet(17, &[1, 2, 3]);
        assert_eq!(bytes[..4], [0x6a, 0x50, 0, 0]);
        let header = Ipv6::parse(&bytes).unwrap();
        assert_eq!(header, Ipv6 { payload_len: 3, ..HEADER });
        bytes.push(0);
        assert_eq!(Ipv6::parse(&bytes), Ok(header), "octets behind the packet");
        for len in 0..43 {
            assert!(Ipv6::parse(&bytes[..len]).is_err());
            assert_eq!(Ipv6::parse_quoted(&bytes[..len]).is_ok(), len >= 40);
        }
        bytes[0] = 0x45;
        assert!(Ipv6::parse(&bytes).is_err());

        let fragment = Fragment { next_header: 6, offset: 0xfff8, more: true, id: 0x0102_0304 };
        let mut bytes = [0; 9];
        fragment.emit(&mut bytes, 1).unwrap();
        assert_eq!(bytes, [0, 6, 0, 0xff, 0xf9, 1, 2, 3, 4]);
        assert_eq!(Fragment::parse(&bytes[1..]), Ok(fragment));
        assert_eq!(fragment.emit(&mut bytes, 2), None);
    }

    #[test]
    fn the_upper_layer_is_found() {
        let hop = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let long = |next| [&[next, 1, 1, 12][..], &[0; 12]].concat();
        let routing = |next, left| [next, 0, 0, left, 0, 0, 0, 0];
        let fragment = |next| [next, 0, 0, 0x09, 0, 0, 0, 7];
        let found = |next, payload: &[u8]| {
            upper(&packet(next, payload)).map(|u| (u.protocol, u.at, u.fragment.is_some(), u.source_route))
        };
        assert_eq!(found(17, &[]), Ok((17, 40, false, None)));
        assert_eq!(found(59, &[]), Ok((59, 40, false, None)));
        assert_eq!(found(0, &hop(6)), Ok((6, 48, false, None)));
        assert_eq!(found(60, &long(50)), Ok((50, 56, false, None)));
        assert_eq!(found(43, &routing(17, 0)), Ok((17, 48, false, None)));
        assert_eq!(found(43, &routing(17, 2)), Ok((17, 48, false, Some(43))));
        assert_eq!(
            found(0, &[&hop(43)[..], &routing(44, 1), &fragment(60), &hop(17)].concat()),
            Ok((60, 64, true, Some(51))),
            "nothing behind the Fragment header is walked"
        );
        let chain: Vec<u8> = (0..8).flat_map(|i| hop(if i == 7 { 17 } else { 60 })).collect();
        assert_eq!(found(60, &chain), Ok((17, 104, false, None)));
        let chain: Vec<u8> = (0..9).flat_map(|i| hop(if i == 8 { 17 } else { 60 })).collect();
        assert!(found(60, &chain).is_err(), "too many");
        assert!(found(0, &[17, 0, 0]).is_err());
        assert!(found(0, &[17, 1, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(found(44, &[17, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn lone_fragments_are_whole_packets() {
        let piece = |field: u8| upper(&packet(44, &[17, 0, 0, field, 0, 0, 0, 7])).unwrap().piece();
        assert_eq!(piece(0), None);
        assert!(piece(1).is_some() && piece(8).is_some() && piece(9).is_some());
    }

    #[test]
    fn truncations_and_flips_do_not_panic() {
        let sample =
            packet(0, &[43, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 8, 0, 0, 0, 1, 9]);
        for len in 0..sample.len() {
            assert!(upper(&sample[..len]).is_err());
        }
        for at in 0..sample.len() {
            for bit in 0..8 {
                let mut bytes = sample.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(upper) = upper(&bytes) {
                    assert!(upper.at <= bytes.len());
                }
            }
        }
    }
}
