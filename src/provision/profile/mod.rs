//! What a device's own VPN client reads: texts made from a [`Profile`], one module per system. No files are touched.

pub mod android;
pub mod apple;
pub mod networkmanager;
pub mod strongswan;
pub mod windows;

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::hash::sha1;

use super::Issued;

/// One device's way to one server.
#[derive(Clone, Debug)]
pub struct Profile<'a> {
    /// The name that the device dials and that is in the server's certificate.
    pub server: &'a str,
    /// The server's UDP port for IKE and ESP behind NAT, if it is not the usual 4500.
    pub port: Option<u16>,
    /// The name in the device's certificate: its identity.
    pub device: &'a str,
    /// The device's certificate and key.
    pub identity: &'a Issued,
    /// Common name of the authority of both certificates.
    pub authority_name: &'a str,
    /// The authority's certificate in PEM.
    pub authority_pem: &'a str,
    /// The authority's certificate in DER.
    pub authority_der: &'a [u8],
    /// Key and certificates of the device, as PKCS#12.
    pub pkcs12: &'a [u8],
    /// The DNS server inside the tunnel.
    pub dns_server: Ipv4Addr,
    /// The prefix inside which the company is reached over IPv6.
    pub nat64_prefix: Option<String>,
    /// Only a part of the traffic takes the tunnel.
    pub split: bool,
    /// Networks that take the tunnel, for systems that must be told; others hear it from the server.
    pub routes: &'a [String],
    /// Domains of the company, for systems that must be told.
    pub domains: &'a [String],
    /// Connect when it is needed, without being asked.
    pub on_demand: bool,
}

/// A name-based UUID (RFC 9562, version 5): the same names give the same UUID, so that a new profile replaces the old.
pub fn uuid(names: &[&str]) -> String {
    /// Our own namespace, chosen at random.
    const NAMESPACE: [u8; 16] =
        [0x5e, 0x0d, 0x8b, 0x4a, 0x77, 0x1c, 0x4f, 0x2e, 0x9a, 0x63, 0x1d, 0xc8, 0x30, 0xb5, 0xe4, 0x96];
    let digest = u128::from_be_bytes(
        *sha1(&[&NAMESPACE, names.join("\n").as_bytes()]).first_chunk().unwrap_or(&[0; 16]),
    );
    let version = digest & !(0xf << 76) | 5 << 76;
    let value = format!("{:032X}", version & !(0b11 << 62) | 0b10 << 62);
    let (mut text, mut rest) = (String::new(), value.as_str());
    for len in [8, 4, 4, 4] {
        let (group, behind) = rest.split_at(len);
        text.push_str(group);
        text.push('-');
        rest = behind;
    }
    text + rest
}

/// Base64 without line ends.
fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Text as XML content.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A JSON string, with its quotes.
fn json(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests;
