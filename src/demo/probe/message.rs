//! IKEv2 messages as the probe writes and reads them (RFC 7296 section 3). Written apart from `wire::ike` on
//! purpose: what both ends of a test share, the test cannot check.

use crate::base::TrafficSelector;
use crate::wire::{Malformed, Reader};
use std::net::IpAddr;

/// Octets of the IKE header.
pub(super) const HEADER_LEN: usize = 28;
/// Flag: sent by the original initiator of the IKE SA.
pub(super) const FLAG_INITIATOR: u8 = 0x08;
/// Flag: a response.
pub(super) const FLAG_RESPONSE: u8 = 0x20;

/// Exchange types.
pub(super) mod exchange {
    pub(in super::super) const IKE_SA_INIT: u8 = 34;
    pub(in super::super) const IKE_AUTH: u8 = 35;
    pub(in super::super) const CREATE_CHILD_SA: u8 = 36;
    pub(in super::super) const INFORMATIONAL: u8 = 37;
}

/// Payload types.
pub(super) mod kind {
    pub(in super::super) const SA: u8 = 33;
    pub(in super::super) const KE: u8 = 34;
    pub(in super::super) const IDI: u8 = 35;
    pub(in super::super) const IDR: u8 = 36;
    pub(in super::super) const CERT: u8 = 37;
    pub(in super::super) const CERTREQ: u8 = 38;
    pub(in super::super) const AUTH: u8 = 39;
    pub(in super::super) const NONCE: u8 = 40;
    pub(in super::super) const NOTIFY: u8 = 41;
    pub(in super::super) const DELETE: u8 = 42;
    pub(in super::super) const TSI: u8 = 44;
    pub(in super::super) const TSR: u8 = 45;
    pub(in super::super) const SK: u8 = 46;
    pub(in super::super) const CP: u8 = 47;
    pub(in super::super) const SKF: u8 = 53;
}

/// Notify message types that the probe sends or understands.
pub(super) mod notify {
    pub(in super::super) const INVALID_KE_PAYLOAD: u16 = 17;
    pub(in super::super) const NO_ADDITIONAL_SAS: u16 = 35;
    /// Types below are errors, from here on status.
    pub(in super::super) const FIRST_STATUS: u16 = 16384;
    pub(in super::super) const INITIAL_CONTACT: u16 = 16384;
    pub(in super::super) const NAT_DETECTION_SOURCE_IP: u16 = 16388;
    pub(in super::super) const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
    pub(in super::super) const COOKIE: u16 = 16390;
    pub(in super::super) const REKEY_SA: u16 = 16393;
    pub(in super::super) const MOBIKE_SUPPORTED: u16 = 16396;
    pub(in super::super) const UPDATE_SA_ADDRESSES: u16 = 16400;
    pub(in super::super) const COOKIE2: u16 = 16401;
    pub(in super::super) const FRAGMENTATION_SUPPORTED: u16 = 16430;
    pub(in super::super) const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
}

/// Configuration attributes.
pub(super) mod attribute {
    pub(in super::super) const IP4_ADDRESS: u16 = 1;
    pub(in super::super) const IP4_DNS: u16 = 3;
    pub(in super::super) const IP6_ADDRESS: u16 = 8;
    pub(in super::super) const IP6_DNS: u16 = 10;
    pub(in super::super) const DNS_DOMAIN: u16 = 25;
}

/// The fixed header, without the length (that is the message's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub spi_i: u64,
    pub spi_r: u64,
    pub next: u8,
    pub exchange: u8,
    pub flags: u8,
    pub message_id: u32,
}

impl Header {
    /// Reads the header of a whole message; its length field must be the message's.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(message, "IKE header");
        let (spi_i, spi_r, next, version) = (r.u64()?, r.u64()?, r.u8()?, r.u8()?);
        let (exchange, flags, message_id, length) = (r.u8()?, r.u8()?, r.u32()?, r.u32()?);
        if version != 0x20 || length as usize != message.len() {
            return Err(r.malformed());
        }
        Ok(Self { spi_i, spi_r, next, exchange, flags, message_id })
    }

    /// Writes the header of a message with `body` octets behind it.
    pub fn emit(&self, out: &mut Vec<u8>, body: usize) {
        out.extend(self.spi_i.to_be_bytes());
        out.extend(self.spi_r.to_be_bytes());
        out.extend([self.next, 0x20, self.exchange, self.flags]);
        out.extend(self.message_id.to_be_bytes());
        out.extend(((HEADER_LEN + body) as u32).to_be_bytes());
    }
}

/// One payload: type and what follows the generic header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl Payload {
    pub fn new(kind: u8, body: impl Into<Vec<u8>>) -> Self {
        Self { kind, body: body.into() }
    }

    /// A Notify payload without SPI.
    pub fn notify(kind: u16, data: &[u8]) -> Self {
        Self::notify_spi(0, &[], kind, data)
    }

    /// A Notify payload about an SA.
    pub fn notify_spi(protocol: u8, spi: &[u8], kind: u16, data: &[u8]) -> Self {
        let mut body = vec![protocol, spi.len() as u8];
        body.extend(kind.to_be_bytes());
        body.extend(spi);
        body.extend(data);
        Self::new(self::kind::NOTIFY, body)
    }

    /// A KE payload.
    pub fn key_exchange(group: u16, public: &[u8]) -> Self {
        let mut body = group.to_be_bytes().to_vec();
        body.extend([0, 0]);
        body.extend(public);
        Self::new(kind::KE, body)
    }

    /// An ESP Delete payload for one SPI, or with `None` the Delete of the IKE SA itself.
    pub fn delete(spi: Option<u32>) -> Self {
        let body = match spi {
            Some(spi) => [&[3, 4, 0, 1], &spi.to_be_bytes()[..]].concat(),
            None => vec![1, 0, 0, 0],
        };
        Self::new(kind::DELETE, body)
    }

    /// A TSi or TSr payload with all of IPv4, and of IPv6 if `ipv6`.
    pub fn everything(kind: u8, ipv6: bool) -> Self {
        let mut body = [&[1, 0, 0, 0, 7, 0, 0, 16, 0, 0, 0xff, 0xff][..], &[0; 4], &[0xff; 4]].concat();
        if ipv6 {
            body.splice(..1, [2]);
            body.extend([&[8, 0, 0, 40, 0, 0, 0xff, 0xff][..], &[0; 16], &[0xff; 16]].concat());
        }
        Self::new(kind, body)
    }
}

/// Joins payloads to a chain: the first type and the octets.
pub(super) fn emit_chain(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut out = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        let next = payloads.get(index + 1).map_or(0, |p| p.kind);
        out.extend([next, 0]);
        out.extend(((payload.body.len() + 4) as u16).to_be_bytes());
        out.extend(&payload.body);
    }
    (payloads.first().map_or(0, |p| p.kind), out)
}

/// Splits a chain of payloads whose first type is `next`.
pub(super) fn parse_chain(mut next: u8, bytes: &[u8]) -> Result<Vec<Payload>, Malformed> {
    let mut r = Reader::new(bytes, "payload chain");
    let mut payloads = Vec::new();
    while next != 0 {
        let kind = next;
        next = r.u8()?;
        let _critical = r.u8()?;
        let body_len = usize::from(r.u16()?).checked_sub(4).ok_or(r.malformed())?;
        payloads.push(Payload::new(kind, r.take(body_len)?));
    }
    r.finish()?;
    Ok(payloads)
}

/// A decrypted (or IKE_SA_INIT) message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub header: Header,
    pub payloads: Vec<Payload>,
}

impl Message {
    /// Body of the first payload of this type.
    pub fn find(&self, kind: u8) -> Option<&[u8]> {
        self.payloads.iter().find(|p| p.kind == kind).map(|p| p.body.as_slice())
    }

    /// Bodies of all payloads of this type.
    pub fn all(&self, kind: u8) -> impl Iterator<Item = &[u8]> {
        self.payloads.iter().filter(move |p| p.kind == kind).map(|p| p.body.as_slice())
    }

    /// Type and data of every Notify payload that can be read.
    pub fn notifies(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.all(kind::NOTIFY).filter_map(|body| {
            let mut r = Reader::new(body, "notify");
            let (_protocol, spi_len, kind) = (r.u8().ok()?, r.u8().ok()?, r.u16().ok()?);
            r.take(usize::from(spi_len)).ok()?;
            Some((kind, r.rest()))
        })
    }

    /// Data of the first Notify payload of this type.
    pub fn notify(&self, kind: u16) -> Option<&[u8]> {
        self.notifies().find(|(k, _)| *k == kind).map(|(_, data)| data)
    }

    /// The first error notify.
    pub fn error(&self) -> Option<u16> {
        self.notifies().map(|(kind, _)| kind).find(|kind| *kind < notify::FIRST_STATUS)
    }
}

/// Group and public value of a KE payload.
pub(super) fn parse_key_exchange(body: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let mut r = Reader::new(body, "KE payload");
    let (group, _) = (r.u16()?, r.u16()?);
    Ok((group, r.rest()))
}

/// Protocol and SPIs of a Delete payload.
pub(super) fn parse_delete(body: &[u8]) -> Result<(u8, Vec<u32>), Malformed> {
    let mut r = Reader::new(body, "Delete payload");
    let (protocol, spi_len, count) = (r.u8()?, r.u8()?, r.u16()?);
    if spi_len != if protocol == 1 { 0 } else { 4 } {
        return Err(r.malformed());
    }
    let spis = if protocol == 1 { 0 } else { count };
    Ok((protocol, (0..spis).map(|_| r.u32()).collect::<Result<_, _>>()?))
}

/// The selectors of a TS payload; types other than address ranges are an error.
pub(super) fn parse_selectors(body: &[u8]) -> Result<Vec<TrafficSelector>, Malformed> {
    let mut r = Reader::new(body, "TS payload");
    let (count, _) = (r.u8()?, r.array::<3>()?);
    let mut selectors = Vec::new();
    for _ in 0..count {
        let (ts_type, protocol, len) = (r.u8()?, r.u8()?, r.u16()?);
        let mut body = r.sub(usize::from(len).saturating_sub(4), "traffic selector")?;
        let (port_first, port_last) = (body.u16()?, body.u16()?);
        let (first, last) = match ts_type {
            7 => (IpAddr::from(body.array::<4>()?), IpAddr::from(body.array::<4>()?)),
            8 => (IpAddr::from(body.array::<16>()?), IpAddr::from(body.array::<16>()?)),
            _ => return Err(body.malformed()),
        };
        body.finish()?;
        selectors.push(TrafficSelector { first, last, protocol, port_first, port_last });
    }
    r.finish()?;
    Ok(selectors)
}

/// A CFG_REQUEST that asks for one IPv4 address and DNS servers, and with `ipv6` for the same of IPv6 and for domains.
pub(super) fn emit_config_request(ipv6: bool) -> Payload {
    let mut body = vec![1, 0, 0, 0];
    let both =
        if ipv6 { &[attribute::IP6_ADDRESS, attribute::IP6_DNS, attribute::DNS_DOMAIN][..] } else { &[] };
    for kind in [attribute::IP4_ADDRESS, attribute::IP4_DNS].iter().chain(both) {
        body.extend(kind.to_be_bytes());
        body.extend([0, 0]);
    }
    Payload::new(kind::CP, body)
}

/// Type and value of the attributes of a CFG_REPLY.
pub(super) fn parse_config_reply(body: &[u8]) -> Result<Vec<(u16, &[u8])>, Malformed> {
    let mut r = Reader::new(body, "CP payload");
    let (cfg_type, _) = (r.u8()?, r.array::<3>()?);
    if cfg_type != 2 {
        return Err(r.malformed());
    }
    let mut attributes = Vec::new();
    while !r.is_empty() {
        let (attribute, len) = (r.u16()? & 0x7fff, r.u16()?);
        attributes.push((attribute, r.take(usize::from(len))?));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_round_trip_and_truncations() {
        let payloads = vec![
            Payload::key_exchange(31, &[7; 32]),
            Payload::notify(16430, &[]),
            Payload::everything(kind::TSI, true),
        ];
        let (first, bytes) = emit_chain(&payloads);
        assert_eq!(parse_chain(first, &bytes), Ok(payloads.clone()));
        for end in 0..bytes.len() {
            assert!(parse_chain(first, &bytes[..end]).is_err(), "cut at {end}");
        }
        let selectors = parse_selectors(&payloads[2].body).unwrap();
        let lasts = [IpAddr::from([255; 4]), IpAddr::from([255; 16])];
        assert_eq!(selectors.iter().map(|ts| ts.last).collect::<Vec<_>>(), lasts);
        let ipv4 = parse_selectors(&Payload::everything(kind::TSI, false).body);
        assert_eq!(ipv4.unwrap(), selectors[..1]);
        for end in 0..payloads[2].body.len() {
            assert!(parse_selectors(&payloads[2].body[..end]).is_err());
        }
    }

    #[test]
    fn notifies_and_deletes() {
        let header = Header { spi_i: 1, spi_r: 2, next: 41, exchange: 37, flags: 0x20, message_id: 3 };
        let payloads = vec![Payload::notify(16388, b"x"), Payload::notify_spi(3, &[1, 2, 3, 4], 14, b"")];
        let message = Message { header, payloads };
        assert_eq!((message.error(), message.notify(16388)), (Some(14), Some(&b"x"[..])));
        assert_eq!(parse_delete(&Payload::delete(Some(0x0102_0304)).body), Ok((3, vec![0x0102_0304])));
        assert_eq!(parse_delete(&Payload::delete(None).body), Ok((1, vec![])));
        assert!(parse_delete(&[3, 8, 0, 1, 0, 0, 0, 0]).is_err());
    }
}
