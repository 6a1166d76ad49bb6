//! Small payload bodies: KE, Nonce, ID, CERT, CERTREQ, AUTH, Delete (RFC 7296 sections 3.4 to 3.9, 3.11).

use crate::wire::{Malformed, Reader};

/// Key Exchange payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ke<'a> {
    /// Transform ID of the group.
    pub group: u16,
    /// Public value.
    pub data: &'a [u8],
}

impl<'a> Ke<'a> {
    /// Reads the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "KE payload");
        let (group, _reserved) = (r.u16()?, r.u16()?);
        Ok(Self { group, data: r.rest() })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = self.group.to_be_bytes().to_vec();
        out.extend([0, 0]);
        out.extend(self.data);
        out
    }
}

/// Checks the body of a Nonce payload: 16 to 256 octets.
pub fn parse_nonce(body: &[u8]) -> Result<&[u8], Malformed> {
    if (16..=256).contains(&body.len()) { Ok(body) } else { Err(Malformed("Nonce payload")) }
}

/// Identification types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdType {
    /// ID_IPV4_ADDR.
    Ipv4,
    /// ID_FQDN.
    Fqdn,
    /// ID_RFC822_ADDR.
    Rfc822,
    /// ID_IPV6_ADDR.
    Ipv6,
    /// ID_DER_ASN1_DN.
    Dn,
    /// ID_KEY_ID.
    KeyId,
    /// Any other.
    Other(u8),
}

impl IdType {
    const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Ipv4,
            2 => Self::Fqdn,
            3 => Self::Rfc822,
            5 => Self::Ipv6,
            9 => Self::Dn,
            11 => Self::KeyId,
            other => Self::Other(other),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 1,
            Self::Fqdn => 2,
            Self::Rfc822 => 3,
            Self::Ipv6 => 5,
            Self::Dn => 9,
            Self::KeyId => 11,
            Self::Other(number) => number,
        }
    }
}

/// Identification payload (IDi or IDr).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    /// Its type.
    pub kind: IdType,
    /// The identity: text, address or DER, by type.
    pub data: &'a [u8],
}

impl<'a> Id<'a> {
    /// Reads the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "ID payload");
        let (kind, _reserved) = (r.u8()?, r.take(3)?);
        Ok(Self { kind: IdType::from_u8(kind), data: r.rest() })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![self.kind.number(), 0, 0, 0];
        out.extend(self.data);
        out
    }
}

/// Certificate payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cert<'a> {
    /// Cert Encoding.
    pub encoding: u8,
    /// Certificate data; for [`Cert::X509`] one certificate in DER.
    pub data: &'a [u8],
}

impl<'a> Cert<'a> {
    /// X.509 Certificate - Signature.
    pub const X509: u8 = 4;

    /// Reads the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "CERT payload");
        Ok(Self { encoding: r.u8()?, data: r.rest() })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![self.encoding];
        out.extend(self.data);
        out
    }
}

/// Reads the hashes of a CERTREQ for X.509; other encodings ask for nothing that we know.
pub fn parse_cert_request(body: &[u8]) -> Result<&[[u8; 20]], Malformed> {
    let mut r = Reader::new(body, "CERTREQ payload");
    if r.u8()? != Cert::X509 {
        return Ok(&[]);
    }
    Ok(r.rest().as_chunks().0)
}

/// Writes a CERTREQ: SHA-1 of the SubjectPublicKeyInfo of each authority.
pub fn emit_cert_request(spki_hashes: &[[u8; 20]]) -> Vec<u8> {
    let mut out = vec![Cert::X509];
    out.extend(spki_hashes.as_flattened());
    out
}

/// Authentication methods (RFC 7296 section 3.8, RFC 4754, RFC 7427).
pub mod auth_method {
    /// RSA Digital Signature.
    pub const RSA: u8 = 1;
    /// Shared Key Message Integrity Code.
    pub const SHARED_KEY: u8 = 2;
    /// ECDSA with SHA-256 on P-256.
    pub const ECDSA_256: u8 = 9;
    /// ECDSA with SHA-384 on P-384.
    pub const ECDSA_384: u8 = 10;
    /// Digital Signature, with an AlgorithmIdentifier in front.
    pub const DIGITAL_SIGNATURE: u8 = 14;
}

/// Authentication payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// One of [`auth_method`].
    pub method: u8,
    /// Authentication data.
    pub data: &'a [u8],
}

impl<'a> Auth<'a> {
    /// Reads the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "AUTH payload");
        let (method, _reserved) = (r.u8()?, r.take(3)?);
        Ok(Self { method, data: r.rest() })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![self.method, 0, 0, 0];
        out.extend(self.data);
        out
    }

    /// Splits the data of [`auth_method::DIGITAL_SIGNATURE`] into AlgorithmIdentifier (DER) and signature.
    pub fn split_digital_signature(&self) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        let mut r = Reader::new(self.data, "AUTH payload");
        let len = usize::from(r.u8()?);
        Ok((r.take(len)?, r.rest()))
    }
}

/// Delete payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The IKE SA that carries the message.
    Ike,
    /// ESP SAs, by the SPIs of the sender's inbound side.
    Esp(Vec<u32>),
    /// Another protocol; nothing of ours.
    Other,
}

impl Delete {
    /// Reads the body.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "Delete payload");
        let (protocol, spi_len, count) = (r.u8()?, r.u8()?, usize::from(r.u16()?));
        if Some(r.len()) != usize::from(spi_len).checked_mul(count) {
            return Err(r.malformed());
        }
        match (protocol, spi_len) {
            (super::protocol::IKE, 0) => Ok(Self::Ike),
            (super::protocol::ESP, 4) => {
                Ok(Self::Esp(r.rest().as_chunks().0.iter().map(|spi| u32::from_be_bytes(*spi)).collect()))
            }
            (super::protocol::IKE | super::protocol::ESP, _) => Err(r.malformed()),
            _ => Ok(Self::Other),
        }
    }

    /// Writes the body. `Other` has none and gives an IKE-less, empty AH deletion.
    pub fn emit(&self) -> Vec<u8> {
        match self {
            Self::Ike => vec![super::protocol::IKE, 0, 0, 0],
            Self::Other => vec![2, 4, 0, 0],
            Self::Esp(spis) => {
                let mut out = vec![super::protocol::ESP, 4];
                out.extend(u16::try_from(spis.len()).unwrap_or(u16::MAX).to_be_bytes());
                out.extend(spis.iter().flat_map(|spi| spi.to_be_bytes()));
                out
            }
        }
    }
}
