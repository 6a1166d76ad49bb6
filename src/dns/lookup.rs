//! Lookups of our own: a question for the IPv4 addresses of a name, and what an answer says.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::dns64::is_routable;
use super::suffix::Suffix;
use crate::wire::dns::{self, Field, Header, IN, Question, RD, Record, Sections, Writer, kind};

/// Longest chain of CNAME records that is followed.
const MAX_CHAIN: usize = 16;
/// Addresses that one name can have.
const MAX_ADDRESSES: usize = 32;
/// Lookups have no EDNS, so that every server understands them. What does not fit comes over TCP.
const CLASSIC: usize = 512;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its addresses; none where there is no such name, or it has none.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// How long that holds; zero where nothing was found.
    pub ttl: Duration,
}

/// What an answer to a lookup says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses.
    Found(Found),
    /// To ask again over TCP.
    Truncated,
    /// Nothing: the server could not answer, or not be understood.
    Failed,
}

/// The query for the addresses of `name`, without an identifier.
pub fn query(name: &Suffix) -> Vec<u8> {
    Writer::new(0, RD, &Question { name: name.wire(), kind: kind::A, class: IN }, CLASSIC).finish()
}

/// Reads the answer to [`query`]. Records that do not belong to the name do not count; addresses that cannot be the
/// company's (loopback, multicast and the like) neither.
pub fn parse(name: &Suffix, message: &[u8]) -> Answer {
    let Ok(header) = Header::parse(message) else { return Answer::Failed };
    if header.is_truncated() {
        return Answer::Truncated;
    }
    let answers = match Sections::parse(message) {
        Ok(sections) if matches!(header.rcode(), 0 | dns::NXDOMAIN) => sections.answers,
        _ => return Answer::Failed,
    };
    let mut owner = name.wire();
    let mut ttl = u32::MAX;
    for _ in 0..MAX_CHAIN {
        let Some((target, link_ttl)) = alias(&answers, owner) else { break };
        owner = target;
        ttl = ttl.min(link_ttl);
    }
    let mut addresses = BTreeSet::new();
    for record in answers.iter().filter(|record| is_of(record, owner, kind::A)) {
        if let Some(address) = record.octets().and_then(|octets| <[u8; 4]>::try_from(octets).ok())
            && is_routable(address.into())
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.insert(address.into());
            ttl = ttl.min(record.ttl);
        }
    }
    let ttl = if addresses.is_empty() { 0 } else { ttl };
    Answer::Found(Found { addresses, ttl: Duration::from_secs(ttl.into()) })
}

fn is_of(record: &Record, owner: &[u8], kind: u16) -> bool {
    record.class == IN && record.kind == kind && record.owner.eq_ignore_ascii_case(owner)
}

/// Where the CNAME record of a name leads, and how long it lives.
fn alias<'a>(answers: &'a [Record], owner: &[u8]) -> Option<(&'a [u8], u32)> {
    let record = answers.iter().find(|record| is_of(record, owner, kind::CNAME))?;
    match record.data.as_slice() {
        [Field::Name(target)] => Some((target, record.ttl)),
        _ => None,
    }
}
