//! Answers that we put together, and what a query says about the form they may have.

use crate::wire::Malformed;
use crate::wire::dns::{
    self, AA, CD, Header, QR, Question, RA, RD, Record, Section, Sections, TC, Writer, kind,
};

/// Longest datagram for a client without EDNS (RFC 1035 section 4.2.1).
const CLASSIC: u16 = 512;
/// Longest datagram for a client that takes more, and what we say that we take.
const LARGEST: u16 = 4096;
/// Largest datagram to ask a server for: it travels in one piece.
const UPSTREAM: u16 = 1232;
/// The DNSSEC OK bit in the TTL field of OPT.
const DO: u32 = 0x8000;

/// Extended response code: a version of EDNS that we do not speak.
pub(super) const BADVERS: u16 = 16;

/// The OPT record of a query (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    size: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
}

impl Edns {
    /// Reads the only OPT record of a query, if there is one.
    pub(super) fn parse(query: &[u8]) -> Result<Option<Self>, Malformed> {
        let sections = Sections::parse(query)?;
        let mut found = sections.additionals.iter().filter(|record| record.kind == kind::OPT);
        let Some(opt) = found.next() else { return Ok(None) };
        if found.next().is_some() || opt.owner != [0] {
            return Err(Malformed("EDNS"));
        }
        let [_, version, ..] = opt.ttl.to_be_bytes();
        Ok(Some(Self { size: opt.class, version, dnssec_ok: opt.ttl & DO != 0 }))
    }
}

fn opt(size: u16, rcode: u16, dnssec_ok: bool) -> Record {
    let ttl = u32::from(rcode >> 4) << 24 | if dnssec_ok { DO } else { 0 };
    Record { owner: vec![0], kind: kind::OPT, class: size, ttl, data: Vec::new() }
}

/// Octets of an OPT record without options.
const OPT_LEN: usize = 11;

/// The query that stands in for a client's: another question, its flags RD and CD, and EDNS if the client has it. DO is
/// not passed on: signatures of what will be replaced are of no use.
pub(super) fn stand_in(query: &Header, question: &Question<'_>, edns: Option<Edns>) -> Vec<u8> {
    let mut writer = Writer::new(query.id, query.flags & (RD | CD), question, usize::from(CLASSIC));
    if edns.is_some() {
        writer.record(Section::Additional, &opt(UPSTREAM, 0, false));
    }
    writer.finish()
}

/// An answer without the form that the client wants.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// With the extension of EDNS.
    pub(super) rcode: u16,
    pub(super) authoritative: bool,
    /// Records are missing already.
    pub(super) truncated: bool,
    pub(super) sections: Sections,
}

impl Reply {
    /// The answer to `query`: its identifier and the very octets of its question, no more octets than it takes, AD clear
    /// (RFC 6147 section 5.5: what we make up is not authentic data).
    pub(super) fn emit(mut self, query: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let header = Header::parse(query).ok()?;
        let question = Question::parse(query).ok()?;
        let edns = Edns::parse(query).ok().flatten();
        let limit = match edns {
            _ if !over_udp => u16::MAX,
            Some(edns) => edns.size.clamp(CLASSIC, LARGEST),
            None => CLASSIC,
        };
        // FORMERR is how a server says that it does not know EDNS (RFC 6891 section 7): it does not use it, then.
        let with_opt = edns.filter(|_| self.rcode != u16::from(dns::FORMERR));
        if self.rcode > 15 && with_opt.is_none() {
            self.rcode = dns::SERVFAIL.into();
        }
        let reserved = if with_opt.is_some() { OPT_LEN } else { 0 };
        let flags = QR
            | RA
            | header.flags & (RD | CD)
            | if self.authoritative { AA } else { 0 }
            | if self.truncated { TC } else { 0 }
            | self.rcode & 15;
        let mut writer = Writer::new(header.id, flags, &question, usize::from(limit) - reserved);
        if !self.write(&mut writer) {
            writer.set_truncated();
        }
        if let Some(edns) = with_opt {
            writer.extend_limit(reserved);
            writer.record(Section::Additional, &opt(LARGEST, self.rcode, edns.dnssec_ok));
        }
        Some(writer.finish())
    }

    /// False where a record that matters does not fit. Authority records matter to negative answers, additional ones
    /// never do (RFC 2181 section 9).
    fn write(&self, writer: &mut Writer) -> bool {
        let Sections { answers, authorities, additionals } = &self.sections;
        if !answers.iter().all(|record| writer.record(Section::Answer, record)) {
            return false;
        }
        if !authorities.iter().all(|record| writer.record(Section::Authority, record)) {
            return !answers.is_empty();
        }
        let _ = additionals.iter().all(|record| writer.record(Section::Additional, record));
        true
    }
}
