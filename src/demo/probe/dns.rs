//! As much DNS as a client needs (RFC 1035): one question, and the addresses of the answer.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ProbeError;
use super::client::inner;
use super::stream::Stream;
use crate::wire::{Malformed, Reader};

pub(super) const PORT: u16 = 53;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Text.
    Txt,
}

impl RecordType {
    const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Txt => 16,
        }
    }
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection of its own.
    Tcp,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// Response code; 0 = no error, 2 = SERVFAIL, 3 = no such name.
    pub rcode: u8,
    /// The TC bit: ask again by TCP.
    pub truncated: bool,
    /// Addresses in the answer section.
    pub addresses: Vec<IpAddr>,
    /// Number of records in the answer section.
    pub records: usize,
    /// Octets of the whole message.
    pub len: usize,
}

impl DnsAnswer {
    /// The first IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// The first IPv6 address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
    }
}

/// A query with recursion desired; `None` if `name` is not one.
pub(super) fn emit_query(id: u16, name: &str, record: RecordType) -> Option<Vec<u8>> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?;
        query.push(len);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(record.code().to_be_bytes());
    query.extend([0, 1]);
    Some(query)
}

/// Reads the response to the query with this ID.
pub(super) fn parse_response(bytes: &[u8], id: u16) -> Result<DnsAnswer, Malformed> {
    let mut r = Reader::new(bytes, "DNS response");
    let (its_id, flags) = (r.u16()?, r.u16()?);
    let (questions, answers, _, _) = (r.u16()?, r.u16()?, r.u16()?, r.u16()?);
    if its_id != id || flags & 0x8000 == 0 || questions != 1 {
        return Err(r.malformed());
    }
    skip_name(&mut r)?;
    r.take(4)?;
    let mut addresses = Vec::new();
    for _ in 0..answers {
        skip_name(&mut r)?;
        let (kind, _class, _ttl, len) = (r.u16()?, r.u16()?, r.u32()?, r.u16()?);
        let mut data = r.sub(usize::from(len), "DNS record")?;
        match kind {
            1 => addresses.push(IpAddr::from(data.array::<4>()?)),
            28 => addresses.push(IpAddr::from(data.array::<16>()?)),
            _ => {}
        }
    }
    let (rcode, truncated) = ((flags & 15) as u8, flags & 0x0200 != 0);
    Ok(DnsAnswer { rcode, truncated, addresses, records: usize::from(answers), len: bytes.len() })
}

/// Moves past a name; it ends at a zero octet or at a pointer.
fn skip_name(r: &mut Reader<'_>) -> Result<(), Malformed> {
    loop {
        match r.u8()? {
            0 => return Ok(()),
            pointer if pointer >= 0xc0 => return r.u8().map(drop),
            len => r.take(usize::from(len)).map(drop)?,
        }
    }
}

/// One query with its two octets of length in front (RFC 1035 section 4.2.2).
pub(super) fn exchange_tcp(mut stream: &Stream, query: &[u8]) -> Result<Vec<u8>, ProbeError> {
    let failed = |e: std::io::Error| inner(&format!("DNS over TCP: {e}"));
    let framed = [&(query.len() as u16).to_be_bytes(), query].concat();
    stream.write_all(&framed).map_err(failed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).map_err(failed)?;
    let mut response = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut response).map_err(failed)?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer() {
        let mut message = emit_query(7, "intranet.example.", RecordType::A).unwrap();
        assert_eq!(message.len(), 12 + 18 + 4);
        assert_eq!(emit_query(7, "a..b", RecordType::A), None);
        message[2] = 0x81;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        let answer = parse_response(&message, 7).unwrap();
        assert_eq!((answer.ipv4(), answer.rcode), (Some(Ipv4Addr::new(192, 0, 2, 7)), 0));
        assert!(parse_response(&message, 8).is_err());
        for end in 0..message.len() {
            assert!(parse_response(&message[..end], 7).is_err());
        }
    }
}
