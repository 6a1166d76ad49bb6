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
                found = text(value.tag, value.value);
            }
        }
    }
    Ok(found)
}

/// Whether the contents of two Names say the same (RFC 5280 section 7.1, but for the folding of cases): whole Names, the
/// same attributes in the same order.
pub(super) fn same_text(a: &[u8], b: &[u8]) -> Result<bool, Error> {
    let (mut a, mut b) = (Der::new(a, "distinguished name"), Der::new(b, "distinguished name"));
    let (mut a, mut b) = (whole_sequence(&mut a)?, whole_sequence(&mut b)?);
    while !a.is_empty() && !b.is_empty() {
        let (mut a, mut b) = (a.nested(der::SET)?, b.nested(der::SET)?);
        while !a.is_empty() && !b.is_empty() {
            let (mut a, mut b) = (a.nested(der::SEQUENCE)?, b.nested(der::SEQUENCE)?);
            let is_same_kind = a.value(der::OID)? == b.value(der::OID)?;
            let (one, other) = (a.any()?, b.any()?);
            a.finish()?;
            b.finish()?;
            let is_same_value = match (text(one.tag, one.value), text(other.tag, other.value)) {
                (Some(one), Some(other)) => one == other,
                _ => one.whole == other.whole,
            };
            if !is_same_kind || !is_same_value {
                return Ok(false);
            }
        }
        if a.is_empty() != b.is_empty() {
            return Ok(false);
        }
    }
    Ok(a.is_empty() && b.is_empty())
}

fn whole_sequence<'a>(name: &mut Der<'a>) -> Result<Der<'a>, Error> {
    let content = name.nested(der::SEQUENCE)?;
    name.finish()?;
    Ok(content)
}

/// A value as text, where it is a string of a kind that we read.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    const UTF8_STRING: u8 = 0x0c;
    const PRINTABLE_STRING: u8 = 0x13;
    const T61_STRING: u8 = 0x14;
    const IA5_STRING: u8 = 0x16;
    const BMP_STRING: u8 = 0x1e;

    match tag {
        UTF8_STRING => str::from_utf8(value).ok().map(str::to_owned),
        PRINTABLE_STRING | IA5_STRING | T61_STRING => ascii(value),
        BMP_STRING => utf16(value),
        _ => None,
    }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))).collect::<Result<_, _>>().ok()
}
