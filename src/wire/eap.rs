//! EAP packets (RFC 3748 section 4).

use super::{Malformed, Reader};

/// Codes of packets.
pub mod code {
    /// The server asks.
    pub const REQUEST: u8 = 1;
    /// The client answers.
    pub const RESPONSE: u8 = 2;
    /// The end: the client is who it says.
    pub const SUCCESS: u8 = 3;
    /// The end: it is not.
    pub const FAILURE: u8 = 4;
}

/// Types of requests and responses.
pub mod kind {
    /// Who is there?
    pub const IDENTITY: u8 = 1;
    /// Not this method; the types of others follow.
    pub const NAK: u8 = 3;
    /// EAP-TLS (RFC 5216, RFC 9190).
    pub const TLS: u8 = 13;
    /// EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2).
    pub const MSCHAPV2: u8 = 26;
}

/// A request or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// One of [`code`], and only the first two.
    pub code: u8,
    /// A response has the one of its request.
    pub identifier: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// What the type says.
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a request or response; octets behind its length are refused, as nothing pads EAP in IKEv2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, "EAP packet");
        let (code, identifier, length) = (r.u8()?, r.u8()?, r.u16()?);
        if usize::from(length) != bytes.len() || !matches!(code, code::REQUEST | code::RESPONSE) {
            return Err(r.malformed());
        }
        Ok(Self { code, identifier, kind: r.u8()?, data: r.rest() })
    }

    /// The octets. Ours are far below the 65,530 of data that can be expressed.
    pub fn emit(&self) -> Vec<u8> {
        let length = u16::try_from(5 + self.data.len()).unwrap_or(u16::MAX);
        let mut out = vec![self.code, self.identifier];
        out.extend(length.to_be_bytes());
        out.push(self.kind);
        out.extend(self.data);
        out
    }
}

/// A success or failure: four octets.
pub fn emit_end(code: u8, identifier: u8) -> Vec<u8> {
    vec![code, identifier, 0, 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_there_and_back_and_lying_lengths() {
        let packet = Packet { code: code::RESPONSE, identifier: 7, kind: kind::IDENTITY, data: b"alice" };
        let bytes = packet.emit();
        assert_eq!(bytes, [&[2, 7, 0, 10, 1][..], b"alice"].concat());
        assert_eq!(Packet::parse(&bytes), Ok(packet));
        for cut in 0..bytes.len() {
            assert!(Packet::parse(&bytes[..cut]).is_err(), "{cut}");
        }
        for wrong in [&[2, 7, 0, 9, 1, 0, 0, 0, 0, 0][..], &[3, 7, 0, 4], &[2, 7, 0, 4], &[0, 7, 0, 5, 1]] {
            assert!(Packet::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
