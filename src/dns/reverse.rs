//! Names of the reverse trees.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

const IP6_ARPA: &[u8] = b"\x03ip6\x04arpa\0";
/// Hexadecimal digits of a /96, and of an address.
const PREFIX_DIGITS: usize = 24;
const ADDRESS_DIGITS: usize = 32;

/// What a name below `ip6.arpa` stands for, seen from a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reverse<'a> {
    /// An address in the prefix; the second is the name of the prefix.
    Address(Ipv4Addr, &'a [u8]),
    /// Some of the addresses of the prefix, whose name follows.
    Part(&'a [u8]),
}

/// Reads `name`. None where it is not in the prefix.
pub(super) fn parse<'a>(name: &'a [u8], prefix: &[u8; 12]) -> Option<Reverse<'a>> {
    let (labels, tree) = name.split_at_checked(name.len().checked_sub(IP6_ARPA.len())?)?;
    if !tree.eq_ignore_ascii_case(IP6_ARPA) {
        return None;
    }
    let (pairs, []) = labels.as_chunks::<2>() else { return None };
    let mut digits = Vec::new();
    for [len, digit] in pairs.iter().rev() {
        let digit = char::from(*digit).to_digit(16).filter(|_| *len == 1)?;
        digits.push(digit as u8);
    }
    let octets: Vec<u8> = digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect();
    let embedded = octets.strip_prefix(prefix.as_slice())?;
    let zone = name.get((digits.len() - PREFIX_DIGITS) * 2..)?;
    match <[u8; 4]>::try_from(embedded) {
        Ok(octets) if digits.len() == ADDRESS_DIGITS => Some(Reverse::Address(octets.into(), zone)),
        _ => Some(Reverse::Part(zone)),
    }
}

/// The name of `address` below `in-addr.arpa`.
pub(super) fn in_addr_arpa(address: Ipv4Addr) -> Vec<u8> {
    let mut name = Vec::new();
    for octet in address.octets().into_iter().rev() {
        let mut label = String::new();
        let _ = write!(label, "{octet}"); // into a String: cannot fail
        name.push(label.len() as u8);
        name.extend(label.into_bytes());
    }
    name.extend(b"\x07in-addr\x04arpa\0");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 1, 0xab, 0xcd, 0, 0, 0, 0];

    fn name(digits: &str, tree: &[u8]) -> Vec<u8> {
        let labels: Vec<u8> = digits.bytes().rev().flat_map(|digit| [1, digit]).collect();
        [&labels[..], tree].concat()
    }

    #[test]
    fn names_in_the_prefix_are_recognised() {
        let prefix = "0064FF9b0001abcd00000000";
        let zone = name(prefix, IP6_ARPA);
        for (digits, expected) in [
            ("0a010203", Some(Reverse::Address([10, 1, 2, 3].into(), &zone))),
            ("0A0102fF", Some(Reverse::Address([10, 1, 2, 255].into(), &zone))),
            ("", Some(Reverse::Part(&zone))),
            ("0", Some(Reverse::Part(&zone))),
            ("0a01020", Some(Reverse::Part(&zone))),
            ("0a0102030", Some(Reverse::Part(&zone))),
            ("0a0102g3", None),
        ] {
            assert_eq!(parse(&name(&format!("{prefix}{digits}"), IP6_ARPA), &PREFIX), expected, "{digits}");
        }
        let upper = name(&format!("{prefix}0a010203"), b"\x03IP6\x04ArPa\0");
        assert!(matches!(parse(&upper, &PREFIX), Some(Reverse::Address(..))));
        for other in [
            name("0064ff9b0001abcd0000000", IP6_ARPA),
            name("0064ff9b0001abcd000000010a010203", IP6_ARPA),
            name("0064ff9b0001abcd000000000a010203", b"\x03ip6\x03int\0"),
            [b"\x02ab", &zone[..]].concat(),
            IP6_ARPA.to_vec(),
            b"\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(parse(&other, &PREFIX), None, "{other:?}");
        }
    }

    #[test]
    fn addresses_get_names() {
        let name = in_addr_arpa([10, 0, 203, 1].into());
        assert_eq!(name, b"\x011\x03203\x010\x0210\x07in-addr\x04arpa\0");
    }
}
