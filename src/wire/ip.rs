//! The IPv4 header (RFC 791).

use std::net::Ipv4Addr;

use super::edit::{Edit, put};
use super::{Malformed, Reader, checksum};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

/// The fields of an IPv4 header that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Octets of the header, options included: 20 to 60.
    pub header_len: usize,
    /// Octets of header and payload.
    pub total_len: usize,
    /// Identification.
    pub id: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// The MF bit.
    pub more_fragments: bool,
    /// Offset of this fragment, in octets.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Ipv4 {
    /// Reads the header of a whole packet: version, header length and total length are checked against the slice
    /// (octets behind the packet are allowed, RFC 4303 section 2.7), the header checksum is not.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_quoted(packet)?;
        if header.total_len > packet.len() {
            return Err(Malformed("IPv4 total length"));
        }
        Ok(header)
    }

    /// Reads the header of a packet that may be cut short, as ICMP errors quote it. The header itself is whole.
    pub fn parse_quoted(packet: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(packet, "IPv4 header");
        let version_ihl = r.u8()?;
        let header_len = usize::from(version_ihl & 0x0f) * 4;
        let _tos = r.u8()?;
        let total_len = usize::from(r.u16()?);
        let id = r.u16()?;
        let flags = r.u16()?;
        let ttl = r.u8()?;
        let protocol = r.u8()?;
        let _checksum = r.u16()?;
        let src = Ipv4Addr::from(r.array::<4>()?);
        let dst = Ipv4Addr::from(r.array::<4>()?);
        if version_ihl >> 4 != 4
            || header_len < HEADER_LEN
            || header_len > packet.len()
            || total_len < header_len
        {
            return Err(r.malformed());
        }
        Ok(Self {
            header_len,
            total_len,
            id,
            dont_fragment: flags & 0x4000 != 0,
            more_fragments: flags & 0x2000 != 0,
            fragment_offset: (flags & 0x1fff) << 3,
            ttl,
            protocol,
            src,
            dst,
        })
    }

    /// True for a piece of a larger packet, the first one included.
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// The payload of `packet`, from which this header was parsed. Empty where the slice ends early.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.header_len..self.total_len.min(packet.len())).unwrap_or_default()
    }

    /// Writes this header without options (`header_len` is taken as 20) and with a right checksum to the front of `buf`.
    /// `None` where `buf` is too short or the total length does not fit 16 bits.
    pub fn emit(&self, buf: &mut [u8]) -> Option<()> {
        let total_len = u16::try_from(self.total_len).ok()?;
        let flags = u16::from(self.dont_fragment) << 14
            | u16::from(self.more_fragments) << 13
            | self.fragment_offset >> 3;
        let header = buf.first_chunk_mut::<HEADER_LEN>()?;
        put(header, 0, [0x45, 0])?;
        put(header, 2, total_len.to_be_bytes())?;
        put(header, 4, self.id.to_be_bytes())?;
        put(header, 6, flags.to_be_bytes())?;
        put(header, 8, [self.ttl, self.protocol, 0, 0])?;
        put(header, 12, self.src.octets())?;
        put(header, 16, self.dst.octets())?;
        let sum = checksum::of(header);
        put(header, 10, sum.to_be_bytes())
    }
}

/// Writes the header of a new, unfragmented packet (TTL 64, DF clear) with `payload_len` octets behind it.
pub fn emit_header(
    buf: &mut [u8],
    id: u16,
    protocol: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    payload_len: usize,
) -> Option<()> {
    Ipv4 {
        header_len: HEADER_LEN,
        total_len: HEADER_LEN.checked_add(payload_len)?,
        id,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src,
        dst,
    }
    .emit(buf)
}

/// Lowers the TTL of a parsed packet by one. False, and nothing changed, where it would reach zero.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    let Some([ttl, protocol]) = packet.get(8..).and_then(|rest| rest.first_chunk::<2>()).copied() else {
        return false;
    };
    if ttl <= 1 {
        return false;
    }
    let mut edit = Edit::default();
    edit.replace(packet, 8, [ttl - 1, protocol]).and_then(|()| edit.update(packet, 10)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut packet = vec![0; 28];
        emit_header(&mut packet, 7, UDP, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), 8).unwrap();
        packet
    }

    #[test]
    fn what_is_emitted_is_parsed() {
        let mut packet = sample();
        assert_eq!(checksum::of(&packet[..20]), 0);
        let header = Ipv4::parse(&packet).unwrap();
        assert_eq!((header.header_len, header.total_len, header.id, header.protocol), (20, 28, 7, UDP));
        assert_eq!(header.payload(&packet).len(), 8);
        let piece = Ipv4 { more_fragments: true, fragment_offset: 1480, dont_fragment: true, ..header };
        piece.emit(&mut packet).unwrap();
        assert_eq!(Ipv4::parse(&packet), Ok(piece));
        packet.push(0);
        assert_eq!(Ipv4::parse(&packet).map(|h| h.total_len), Ok(28), "octets behind the packet");
    }

    #[test]
    fn truncations_and_flips_do_not_panic() {
        let sample = sample();
        for len in 0..sample.len() {
            assert!(Ipv4::parse(&sample[..len]).is_err());
        }
        for at in 0..sample.len() {
            for bit in 0..8 {
                let mut packet = sample.clone();
                packet[at] ^= 1 << bit;
                if let Ok(header) = Ipv4::parse(&packet) {
                    assert!(header.payload(&packet).len() <= 8);
                }
            }
        }
        for bad in [0x55, 0x44, 0x46, 0x4f] {
            let mut packet = sample.clone();
            packet[0] = bad;
            assert_eq!(Ipv4::parse(&packet).is_ok(), bad == 0x46, "{bad:#x}");
        }
    }

    #[test]
    fn ttl_goes_down_to_one() {
        let mut packet = sample();
        for ttl in (1..64).rev() {
            assert!(decrement_ttl(&mut packet));
            assert_eq!((packet[8], checksum::of(&packet[..20])), (ttl, 0));
        }
        assert!(!decrement_ttl(&mut packet));
        assert_eq!(packet[8], 1);
        assert!(!decrement_ttl(&mut []));
    }
}
