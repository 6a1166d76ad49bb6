//! The Configuration payload (RFC 7296 section 3.15).

use crate::wire::{Malformed, Reader};

/// Attribute types that we send or understand.
pub mod attribute {
    /// An inner IPv4 address (0 or 4 octets).
    pub const INTERNAL_IP4_ADDRESS: u16 = 1;
    /// Its netmask.
    pub const INTERNAL_IP4_NETMASK: u16 = 2;
    /// A DNS server.
    pub const INTERNAL_IP4_DNS: u16 = 3;
    /// A DHCP server. Apple's clients ask for it.
    pub const INTERNAL_IP4_DHCP: u16 = 6;
    /// An inner IPv6 address (0 or 17 octets).
    pub const INTERNAL_IP6_ADDRESS: u16 = 8;
    /// A DNS server, by IPv6.
    pub const INTERNAL_IP6_DNS: u16 = 10;
    /// A DHCP server, by IPv6.
    pub const INTERNAL_IP6_DHCP: u16 = 12;
    /// A domain for which the DNS servers are meant (RFC 8598).
    pub const INTERNAL_DNS_DOMAIN: u16 = 25;
    /// Microsoft: an IPv4 server. Only Windows asks for it.
    pub const INTERNAL_IP4_SERVER: u16 = 23456;
    /// Microsoft: an IPv6 server. Only Windows asks for it.
    pub const INTERNAL_IP6_SERVER: u16 = 23457;
}

/// CFG Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfgType {
    /// CFG_REQUEST.
    Request,
    /// CFG_REPLY.
    Reply,
    /// CFG_SET, CFG_ACK or unknown.
    Other(u8),
}

/// One attribute; an empty value asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// One of [`attribute`], or another.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// A Configuration payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// What it is.
    pub cfg_type: CfgType,
    /// Its attributes, in order.
    pub attributes: Vec<Attribute<'a>>,
}

impl<'a> Configuration<'a> {
    /// Reads the body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body, "CP payload");
        let (cfg_type, _reserved) = (r.u8()?, r.take(3)?);
        let mut attributes = Vec::new();
        while !r.is_empty() {
            let (kind, length) = (r.u16()? & 0x7fff, usize::from(r.u16()?));
            attributes.push(Attribute { kind, value: r.take(length)? });
        }
        let cfg_type = match cfg_type {
            1 => CfgType::Request,
            2 => CfgType::Reply,
            other => CfgType::Other(other),
        };
        Ok(Self { cfg_type, attributes })
    }

    /// Writes the body.
    pub fn emit(&self) -> Vec<u8> {
        let cfg_type = match self.cfg_type {
            CfgType::Request => 1,
            CfgType::Reply => 2,
            CfgType::Other(other) => other,
        };
        let mut out = vec![cfg_type, 0, 0, 0];
        for Attribute { kind, value } in &self.attributes {
            out.extend(kind.to_be_bytes());
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(*value);
        }
        out
    }

    /// True if an attribute of this type is present.
    pub fn asks(&self, kind: u16) -> bool {
        self.attributes.iter().any(|attribute| attribute.kind == kind)
    }
}
