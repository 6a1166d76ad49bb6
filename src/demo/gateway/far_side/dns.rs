//! The DNS server of the built-in network (RFC 1035): authoritative for a small zone.

use std::net::Ipv4Addr;

use super::super::scenario::Scenario;
use crate::wire::{Malformed, Reader};

/// Where the server is.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);
const ZONE: &str = "corp.example";
/// Addresses of the zone. `big.corp.example` has a TXT record too large for a datagram.
const ADDRESSES: [(&str, Ipv4Addr); 4] = [
    ("corp.example", Ipv4Addr::new(10, 77, 0, 80)),
    ("www.corp.example", Ipv4Addr::new(10, 77, 0, 80)),
    ("ns.corp.example", SERVER),
    ("big.corp.example", Ipv4Addr::new(10, 77, 0, 81)),
];
const MOVING: &str = "moving.corp.example";
const BIG_TXT: usize = 3000;

const A: u16 = 1;
const SOA: u16 = 6;
const TXT: u16 = 16;
const OPT: u16 = 41;
const ANY: u16 = 255;
const TTL: [u8; 4] = 60_u32.to_be_bytes();

/// What the query came over; decides about truncation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

struct Query {
    id: u16,
    flags: u16,
    question: Vec<u8>,
    name: String,
    kind: u16,
    /// The size of datagrams that the client takes, when it said so (EDNS).
    payload_size: Option<u16>,
}

/// The part of the zone that scenarios change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone {
    /// The address of `moving.corp.example`.
    pub moving: Ipv4Addr,
}

impl Default for Zone {
    fn default() -> Self {
        Self { moving: Scenario::default().moving }
    }
}

impl Zone {
    /// The answer to a query; `None` for bytes that are none.
    pub(super) fn answer(self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = parse(query).ok()?;
        let mut records = Vec::new();
        let mut known = false;
        for (name, address) in ADDRESSES.into_iter().chain([(MOVING, self.moving)]) {
            if name == query.name {
                known = true;
                if matches!(query.kind, A | ANY) {
                    records.push(record(A, &address.octets()));
                }
            }
        }
        if query.name == "big.corp.example" && query.kind == TXT {
            let text = vec![b'x'; BIG_TXT];
            let strings = text.chunks(255).flat_map(|part| [&[part.len() as u8], part].concat());
            records.push(record(TXT, &strings.collect::<Vec<_>>()));
        }
        let in_zone = query.name == ZONE || query.name.ends_with(&format!(".{ZONE}"));
        let code = match (known, in_zone) {
            (true, _) => 0,
            (false, true) => 3,
            (false, false) => 5,
        };
        let limit = match transport {
            Transport::Udp => usize::from(query.payload_size.unwrap_or(512).max(512)),
            Transport::Tcp => usize::from(u16::MAX),
        };
        let whole = emit(&query, code, &records, in_zone, false);
        Some(if whole.len() > limit { emit(&query, code, &[], false, true) } else { whole })
    }
}

fn parse(bytes: &[u8]) -> Result<Query, Malformed> {
    let mut reader = Reader::new(bytes, "DNS query");
    let (id, flags, questions) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let (answers, authorities, additional) = (reader.u16()?, reader.u16()?, reader.u16()?);
    if flags & 0xf800 != 0 || questions != 1 || answers != 0 || authorities != 0 {
        return Err(reader.malformed());
    }
    let start = reader.clone();
    let mut labels = Vec::new();
    loop {
        let len = reader.u8()?;
        if len == 0 {
            break;
        }
        if len > 63 {
            return Err(reader.malformed());
        }
        labels.push(String::from_utf8_lossy(reader.take(usize::from(len))?).to_ascii_lowercase());
    }
    let kind = reader.u16()?;
    reader.u16()?;
    let question = start.clone().take(start.len() - reader.len())?.to_vec();
    let mut payload_size = None;
    if additional > 0 && reader.u8()? == 0 && reader.u16()? == OPT {
        payload_size = Some(reader.u16()?);
    }
    Ok(Query { id, flags, question, name: labels.join("."), kind, payload_size })
}

/// A record of the name in the question.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&[0, 1]);
    record.extend_from_slice(&TTL);
    record.extend_from_slice(&(data.len() as u16).to_be_bytes());
    record.extend_from_slice(data);
    record
}

/// The message; a negative answer of the zone has its SOA record for caches (RFC 2308).
fn emit(query: &Query, code: u16, records: &[Vec<u8>], in_zone: bool, truncated: bool) -> Vec<u8> {
    let negative = records.is_empty() && in_zone;
    let flags = 0x8400 | (query.flags & 0x0100) | 0x0080 | code | if truncated { 0x0200 } else { 0 };
    let counts = [1, records.len() as u16, u16::from(negative), u16::from(query.payload_size.is_some())];
    let mut message = query.id.to_be_bytes().to_vec();
    message.extend_from_slice(&flags.to_be_bytes());
    counts.iter().for_each(|count| message.extend_from_slice(&count.to_be_bytes()));
    message.extend_from_slice(&query.question);
    records.iter().for_each(|record| message.extend_from_slice(record));
    if negative {
        let zone = b"\x04corp\x07example\x00";
        let mut soa = [b"\x02ns".as_slice(), zone, b"\x04root", zone].concat();
        for field in [1_u32, 3600, 600, 86400, 60] {
            soa.extend_from_slice(&field.to_be_bytes());
        }
        message.extend_from_slice(zone);
        message.extend_from_slice(&record(SOA, &soa)[2..]);
    }
    if query.payload_size.is_some() {
        message.extend_from_slice(&[0, 0, OPT as u8, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8, edns: bool) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend_from_slice(&[0, 0, kind, 0, 1]);
        if edns {
            bytes.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn answers_its_zone() {
        let table: [(&str, u8, bool, u8, u8, u8); 8] = [
            // name, type, EDNS; flags (high octet), code, answers
            ("www.corp.example", 1, false, 0x85, 0, 1),
            ("moving.corp.example", 1, false, 0x85, 0, 1),
            ("WWW.Corp.Example", 1, true, 0x85, 0, 1),
            ("www.corp.example", 28, false, 0x85, 0, 0),
            ("none.corp.example", 1, false, 0x85, 3, 0),
            ("example.org", 1, false, 0x85, 5, 0),
            ("big.corp.example", 16, false, 0x87, 0, 0),
            ("big.corp.example", 16, true, 0x85, 0, 1),
        ];
        for (name, kind, edns, flags, code, answers) in table {
            let got = Zone::default().answer(&query(name, kind, edns), Transport::Udp).unwrap();
            assert_eq!((got[2], got[3] & 0x0f, got[7]), (flags, code, answers), "{name} {kind}");
        }
        let whole = Zone::default().answer(&query("big.corp.example", 16, false), Transport::Tcp).unwrap();
        assert!(whole.len() > BIG_TXT && whole[2] & 2 == 0);
        let www = Zone::default().answer(&query("www.corp.example", 1, false), Transport::Udp).unwrap();
        assert!(www.ends_with(&[10, 77, 0, 80]));
    }

    #[test]
    fn no_query_breaks_it() {
        let sample = query("www.corp.example", 1, true);
        for at in 0..sample.len() {
            Zone::default().answer(&sample[..at], Transport::Udp);
            for bit in 0..8 {
                let mut bytes = sample.clone();
                bytes[at] ^= 1 << bit;
                Zone::default().answer(&bytes, Transport::Tcp);
            }
        }
    }
}
