//! The UDP header (RFC 768).

use std::net::SocketAddrV4;

use super::edit::put;
use super::{Malformed, Reader, checksum, ip};

/// Length of the header.
pub const HEADER_LEN: usize = 8;
/// Offset of the checksum in the header.
pub const CHECKSUM: usize = 6;

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The data, cut to the length field.
    pub payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Reads a whole datagram from the payload of an IP packet. The checksum is not verified.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, "UDP header");
        let (src_port, dst_port) = (r.u16()?, r.u16()?);
        let len = usize::from(r.u16()?);
        let _checksum = r.u16()?;
        let payload = r.take(len.checked_sub(HEADER_LEN).ok_or(r.malformed())?)?;
        Ok(Self { src_port, dst_port, payload })
    }
}

/// True where the checksum of the datagram `bytes` (header and data) is right or absent.
pub fn verify(src: [u8; 4], dst: [u8; 4], bytes: &[u8]) -> bool {
    let Ok(len) = u16::try_from(bytes.len()) else { return false };
    bytes.get(CHECKSUM..HEADER_LEN) == Some(&[0, 0])
        || checksum::fold(checksum::sum(bytes, checksum::pseudo_v4(src, dst, ip::UDP, len))) == 0xffff
}

/// The checksum of a datagram whose checksum field is zero; `pseudo` is the sum of the pseudo header.
pub fn checksum_of(datagram: &[u8], pseudo: u64) -> u16 {
    match !checksum::fold(checksum::sum(datagram, pseudo)) {
        0 => 0xffff, // zero would say "no checksum"
        sum => sum,
    }
}

/// Builds a whole IPv4 packet with one datagram. `None` where `payload` is too long for it.
pub fn packet(id: u16, src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(HEADER_LEN + payload.len()).ok()?;
    let mut packet = vec![0; ip::HEADER_LEN + HEADER_LEN];
    ip::emit_header(&mut packet, id, ip::UDP, *src.ip(), *dst.ip(), usize::from(len))?;
    put(&mut packet, 20, src.port().to_be_bytes())?;
    put(&mut packet, 22, dst.port().to_be_bytes())?;
    put(&mut packet, 24, len.to_be_bytes())?;
    packet.extend_from_slice(payload);
    let pseudo = checksum::pseudo_v4(src.ip().octets(), dst.ip().octets(), ip::UDP, len);
    let sum = checksum_of(packet.get(ip::HEADER_LEN..)?, pseudo);
    put(&mut packet, 26, sum.to_be_bytes())?;
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_parsed_and_every_truncation_refused() {
        let (src, dst) = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:53".parse().unwrap());
        for payload in [&b""[..], b"x", b"odd", b"even"] {
            let packet = packet(1, src, dst, payload).unwrap();
            let datagram = &packet[20..];
            assert_eq!(Udp::parse(datagram), Ok(Udp { src_port: 4000, dst_port: 53, payload }));
            assert!(verify(src.ip().octets(), dst.ip().octets(), datagram));
            for len in 0..datagram.len() {
                assert!(Udp::parse(&datagram[..len]).is_err());
            }
            let mut bad = datagram.to_vec();
            bad[0] ^= 1;
            assert!(!verify(src.ip().octets(), dst.ip().octets(), &bad));
        }
        assert_eq!(super::packet(1, src, dst, &vec![0; 65_530]), None);
    }
}
