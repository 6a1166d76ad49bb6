//! IPv4 addresses inside an IPv6 prefix of 96 bits (RFC 6052).

use std::fmt;
use std::net::{AddrParseError, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A prefix whose last 32 bits take an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix96([u8; 12]);

/// Why a prefix cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not written as an IPv6 address and a length.
    Syntax,
    /// The length is not 96.
    Length,
    /// One of the last 32 bits is set.
    HostBits,
    /// Bits 64 to 71 are not zero (RFC 6052 section 2.2).
    ReservedOctet,
    /// Unspecified, IPv4-mapped, link-local or multicast: no addresses that a router forwards.
    Scope,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "write it as an IPv6 prefix, for example 64:ff9b:1::/96",
            Self::Length => "only prefixes of length 96 are supported",
            Self::HostBits => "the last 32 bits take the IPv4 address and must be zero",
            Self::ReservedOctet => "bits 64 to 71 must be zero (RFC 6052)",
            Self::Scope => "this prefix is special; take one from 64:ff9b:1::/48 or a unique local one",
        })
    }
}

impl std::error::Error for PrefixError {}

impl From<AddrParseError> for PrefixError {
    fn from(_: AddrParseError) -> Self {
        Self::Syntax
    }
}

impl Prefix96 {
    /// The well-known prefix `64:ff9b::/96`.
    const WELL_KNOWN: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    /// `::ffff:0:0/96`, in which IPv6 sockets show IPv4 peers.
    const IPV4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

    /// The prefix that begins with `address`, whose last 32 bits are zero.
    pub fn new(address: Ipv6Addr) -> Result<Self, PrefixError> {
        let [a, b, c, d, e, f, g, h, reserved, j, k, l, host @ ..] = address.octets();
        if host != [0; 4] {
            return Err(PrefixError::HostBits);
        }
        if reserved != 0 {
            return Err(PrefixError::ReservedOctet);
        }
        let prefix = [a, b, c, d, e, f, g, h, reserved, j, k, l];
        if address.is_unspecified()
            || address.is_multicast()
            || address.is_unicast_link_local()
            || prefix == Self::IPV4_MAPPED
        {
            return Err(PrefixError::Scope);
        }
        Ok(Self(prefix))
    }

    /// The IPv6 address that stands for `address` (RFC 6052 section 2.2).
    pub fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        let [m, n, o, p] = address.octets();
        Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The IPv4 address for which `address` stands. `None` outside the prefix.
    pub fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let (prefix, host) = octets.split_first_chunk::<12>()?;
        let host: [u8; 4] = host.try_into().ok()?;
        (*prefix == self.0).then(|| Ipv4Addr::from(host))
    }

    /// The 96 bits.
    pub fn octets(&self) -> [u8; 12] {
        self.0
    }

    /// The first address of the prefix.
    pub fn network(&self) -> Ipv6Addr {
        self.embed(Ipv4Addr::UNSPECIFIED)
    }

    /// True for `64:ff9b::/96`, which must not stand for private IPv4 addresses (RFC 6052 section 3.1).
    pub fn is_well_known(&self) -> bool {
        self.0 == Self::WELL_KNOWN
    }
}

impl FromStr for Prefix96 {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = text.split_once('/').ok_or(PrefixError::Syntax)?;
        let address: Ipv6Addr = address.parse()?;
        if len != "96" {
            return Err(if len.parse::<u8>().is_ok() { PrefixError::Length } else { PrefixError::Syntax });
        }
        Self::new(address)
    }
}

impl fmt::Display for Prefix96 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/96", self.network())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_6052() {
        for (prefix, v6) in [
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
            ("64:ff9b:1:ffff::/96", "64:ff9b:1:ffff::c000:221"),
        ] {
            let prefix: Prefix96 = prefix.parse().unwrap();
            let (v4, v6): (Ipv4Addr, Ipv6Addr) = ("192.0.2.33".parse().unwrap(), v6.parse().unwrap());
            assert_eq!(prefix.embed(v4), v6);
            assert_eq!(prefix.extract(v6), Some(v4));
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
        let prefix: Prefix96 = "64:ff9b::/96".parse().unwrap();
        assert!(prefix.is_well_known());
        for outside in ["64:ff9b:1::192.0.2.33", "64:ff9b::1:c000:221", "::c000:221"] {
            assert_eq!(prefix.extract(outside.parse().unwrap()), None, "{outside}");
        }
        assert!(!"64:ff9b:1::/96".parse::<Prefix96>().unwrap().is_well_known());
    }

    #[test]
    fn bad_prefixes_are_refused_with_the_reason() {
        for (text, why) in [
            ("64:ff9b::", PrefixError::Syntax),
            ("10.0.0.0/96", PrefixError::Syntax),
            ("64:ff9b::/x", PrefixError::Syntax),
            ("64:ff9b:1::/48", PrefixError::Length),
            ("64:ff9b::1/96", PrefixError::HostBits),
            ("2001:db8::100:0:0:0/96", PrefixError::ReservedOctet),
            ("::/96", PrefixError::Scope),
            ("::ffff:0:0/96", PrefixError::Scope),
            ("fe80::/96", PrefixError::Scope),
            ("ff0e::/96", PrefixError::Scope),
        ] {
            assert_eq!(text.parse::<Prefix96>(), Err(why), "{text}");
        }
        assert!("2001:db8::ff:0:0:0/96".parse::<Prefix96>().is_ok(), "the rest of the suffix is free");
    }
}
