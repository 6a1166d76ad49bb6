//! Names in certificates: subject alternative names, and the common name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::crypto::Error;
use crate::crypto::der::{self, Der};

/// One subject alternative name (RFC 5280 section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// dNSName.
    Dns(String),
    /// rfc822Name.
    Email(String),
    /// iPAddress.
    Ip(IpAddr),
    /// Any other form, or one of those with an impossible value; never matched.
    Other,
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Email(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
            Self::Other => f.write_str("(unnamed)"),
        }
    }
}

pub(super) fn parse_sans(extension: &[u8]) -> Result<Vec<SubjectAltName>, Error> {
    let mut names = der::sequence(extension, "subject alternative name")?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.any()?;
        let known = match name.tag {
            0x81 => ascii(name.value).map(SubjectAltName::Email),
            0x82 => ascii(name.value).map(SubjectAltName::Dns),
            0x87 => ip(name.value).map(SubjectAltName::Ip),
            _ => None,
        };
        found.push(known.unwrap_or(SubjectAltName::Other));
    }
    Ok(found)
}

/// An IA5String without a zero octet (which would end the name early in other people's eyes).
fn ascii(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?;
    (text.is_ascii() && !text.contains('\0')).then(|| text.to_owned())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// The last common name in the content of a Name (RFC 5280 section 4.1.2.4). `None` too if it is in a character set
/// of another century.
pub(super) fn common_name(name: &[u8]) -> Result<Option<String>, Error> {
    const COMMON_NAME: &[u8] = b"\x55\x04\x03";
    const UTF8_STRING: u8 = 0x0c;
    const PRINTABLE_STRING: u8 = 0x13;
    const T61_STRING: u8 = 0x14;
    const IA5_STRING: u8 = 0x16;
    const BMP_STRING: u8 = 0x1e;

    let mut found = None;
    let mut rdns = Der::new(name, "distinguished name");
    while !rdns.is_empty() {
        let mut rdn = rdns.nested(der::SET)?;
        while !rdn.is_empty() {
            let mut attribute = rdn.nested(der::SEQUENCE)?;
            let oid = attribute.value(der::OID)?;
            let value = attribute.any()?;
            attribute.finish()?;
            if oid == COMMON_NAME {
                found = match value.tag {
                    UTF8_STRING => str::from_utf8(value.value).ok().map(str::to_owned),
                    PRINTABLE_STRING | IA5_STRING | T61_STRING => ascii(value.value),
                    BMP_STRING => utf16(value.value),
                    _ => None,
                };
            }
        }
    }
    Ok(found)
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
}
