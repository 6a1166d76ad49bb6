//! PPP packets (RFC 1661): the protocol field, the code/identifier/length header, and configuration options.

use super::{Malformed, Reader};

/// PPP protocol numbers.
pub mod protocol {
    /// IPv4.
    pub const IPV4: u16 = 0x0021;
    /// IPv6.
    pub const IPV6: u16 = 0x0057;
    /// Link Control Protocol (RFC 1661).
    pub const LCP: u16 = 0xc021;
    /// IP Control Protocol (RFC 1332).
    pub const IPCP: u16 = 0x8021;
}

/// Codes of LCP packets (RFC 1661 section 5); IPCP uses the first seven.
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the RFC")]
    pub const CONFIGURE_REQUEST: u8 = 1;
    pub const CONFIGURE_ACK: u8 = 2;
    pub const CONFIGURE_NAK: u8 = 3;
    pub const CONFIGURE_REJECT: u8 = 4;
    pub const TERMINATE_REQUEST: u8 = 5;
    pub const TERMINATE_ACK: u8 = 6;
    pub const CODE_REJECT: u8 = 7;
    pub const PROTOCOL_REJECT: u8 = 8;
    pub const ECHO_REQUEST: u8 = 9;
    pub const ECHO_REPLY: u8 = 10;
    pub const DISCARD_REQUEST: u8 = 11;
    pub const IDENTIFICATION: u8 = 12;
    pub const TIME_REMAINING: u8 = 13;
}

/// The protocol of a PPP packet and the octets in front of its payload. Address and control (`FF 03`) may be
/// there or not, and the protocol may be compressed to one octet (RFC 1661 sections 2 and 6.5).
pub fn parse_protocol(packet: &[u8]) -> Result<(u16, usize), Malformed> {
    let (bare, skipped) = match packet {
        [0xff, 0x03, bare @ ..] => (bare, 2),
        bare => (bare, 0),
    };
    match bare {
        [low, ..] if low & 1 == 1 => Ok((u16::from(*low), skipped + 1)),
        [high, low, ..] => Ok((u16::from_be_bytes([*high, *low]), skipped + 2)),
        _ => Err(Malformed("PPP protocol field")),
    }
}

/// A control packet: LCP or an NCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// One of [`code`].
    pub code: u8,
    /// Identifier: matches answers to requests.
    pub id: u8,
    /// What follows the four octets of header, without padding.
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses the payload of an LCP or NCP packet; octets behind its Length are padding.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload, "PPP control packet");
        let (code, id, len) = (r.u8()?, r.u8()?, r.u16()?);
        let data = r.take(usize::from(len).checked_sub(4).ok_or(r.malformed())?)?;
        Ok(Self { code, id, data })
    }

    /// The packet as bytes. `data` must leave room for the header in a 16-bit length.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.data.len());
        out.extend([self.code, self.id]);
        out.extend(((4 + self.data.len()) as u16).to_be_bytes());
        out.extend(self.data);
        out
    }
}

/// One configuration option (RFC 1661 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigOption<'a> {
    /// Option type.
    pub kind: u8,
    /// Option data, without type and length.
    pub value: &'a [u8],
}

/// The options of a Configure packet. All of them are checked before any is given.
pub fn parse_options(data: &[u8]) -> Result<Vec<ConfigOption<'_>>, Malformed> {
    let mut r = Reader::new(data, "PPP options");
    let mut options = Vec::new();
    while !r.is_empty() {
        let (kind, len) = (r.u8()?, r.u8()?);
        let value = r.take(usize::from(len).checked_sub(2).ok_or(r.malformed())?)?;
        options.push(ConfigOption { kind, value });
    }
    Ok(options)
}

/// Appends one option; `value` has at most 253 octets.
pub fn emit_option(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend([kind, (value.len() + 2) as u8]);
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LCP Configure-Request with MRU 1354 and a magic number.
    const REQUEST: [u8; 14] = [1, 1, 0, 14, 1, 4, 0x05, 0x4a, 5, 6, 0xde, 0xad, 0xbe, 0xef];

    #[test]
    fn protocol_forms() {
        for (packet, expected) in [
            (&[0xc0, 0x21, 9][..], Ok((protocol::LCP, 2))),
            (&[0xff, 0x03, 0xc0, 0x21], Ok((protocol::LCP, 4))),
            (&[0x00, 0x21], Ok((protocol::IPV4, 2))),
            (&[0x21, 0x45], Ok((protocol::IPV4, 1))),
            (&[0xff, 0x03, 0x57], Ok((protocol::IPV6, 3))),
            (&[], Err(Malformed("PPP protocol field"))),
            (&[0xc0], Err(Malformed("PPP protocol field"))),
            (&[0xff, 0x03], Err(Malformed("PPP protocol field"))),
        ] {
            assert_eq!(parse_protocol(packet), expected, "{packet:02x?}");
        }
    }

    #[test]
    fn parses_and_emits_a_request() {
        let mut padded = REQUEST.to_vec();
        padded.extend([0; 3]);
        let packet = Packet::parse(&padded).unwrap();
        assert_eq!((packet.code, packet.id), (code::CONFIGURE_REQUEST, 1));
        assert_eq!(packet.emit(), REQUEST);
        let options = parse_options(packet.data).unwrap();
        assert_eq!(options.iter().map(|o| (o.kind, o.value.len())).collect::<Vec<_>>(), [(1, 2), (5, 4)]);
        let mut again = Vec::new();
        options.iter().for_each(|o| emit_option(&mut again, o.kind, o.value));
        assert_eq!(again, packet.data);
    }

    #[test]
    fn bad_lengths_are_errors() {
        for options in [&[1, 0][..], &[1, 1], &[1, 5, 0, 0], &[1], &[5, 6, 1, 2, 3]] {
            assert!(parse_options(options).is_err(), "{options:?}");
        }
        for packet in [&[1, 1, 0, 3][..], &[1, 1, 0, 15], &[1, 1, 0]] {
            assert!(Packet::parse(packet).is_err(), "{packet:?}");
        }
    }

    #[test]
    fn sweeps() {
        let parse = |bytes: &[u8]| {
            let _ = parse_protocol(bytes);
            if let Ok(packet) = Packet::parse(bytes) {
                let _ = parse_options(packet.data);
            }
        };
        for len in 0..REQUEST.len() {
            assert!(Packet::parse(&REQUEST[..len]).is_err());
            parse(&REQUEST[..len]);
        }
        for i in 0..REQUEST.len() {
            for value in 0..=255 {
                let mut bytes = REQUEST;
                bytes[i] = value;
                parse(&bytes);
            }
        }
    }
}
