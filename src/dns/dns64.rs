//! DNS64 (RFC 6147) for some names: what is answered otherwise than the servers would, and how.

use std::net::Ipv4Addr;

use super::reply::{BADVERS, Edns, Reply, stand_in};
use super::reverse::{self, Reverse};
use super::suffix::Suffix;
use crate::wire::dns::{self, AA, CD, Field, Header, IN, Question, Record, Sections, is_within, kind};

/// Lifetime of what we make up, in seconds: a changed configuration is seen soon.
const TTL: u32 = 60;

/// Special names (RFC 9462, and the canary by which Firefox asks whether to keep to this resolver).
const RESOLVER: &[u8] = b"\x08resolver\x04arpa\0";
const CANARY: &[u8] = b"\x13use-application-dns\x03net\0";

/// Whose names lead through the tunnel by IPv6, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// The NAT64 prefix, a /96.
    pub prefix: [u8; 12],
    /// The domains whose names, and those below, get AAAA records made from their A records.
    pub suffixes: Vec<Suffix>,
}

/// What to do with a query.
pub(super) enum Plan {
    /// Nothing but pass it on.
    Pass,
    /// Answer it so.
    Answer(Reply),
    /// Ask something else and make the answer of that.
    Ask(Rewrite),
}

/// How the answer to another question becomes the answer to the client's.
pub(super) struct Rewrite {
    /// The query for the servers.
    pub(super) asked: Vec<u8>,
    rule: Rule,
    /// Owner of the SOA record, where one has to be made up.
    zone: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Rule {
    /// A becomes AAAA.
    Synthesise([u8; 12]),
    /// The name exists or does not, but has nothing of this type.
    Nothing,
    /// The name exists or does not; RFC 8482 section 4.2.
    Any,
    /// PTR below `in-addr.arpa` becomes PTR below `ip6.arpa`.
    Reverse,
}

impl Dns64 {
    /// What to do with a well-formed query with one question.
    pub(super) fn plan(&self, query: &[u8]) -> Plan {
        let Ok(question) = Question::parse(query) else { return Plan::Pass };
        if question.class != IN {
            return Plan::Pass;
        }
        if let Some(reply) = self.special(&question) {
            return Plan::Answer(reply);
        }
        match reverse::parse(question.name, &self.prefix) {
            Some(Reverse::Address(address, zone)) if question.kind == kind::PTR => {
                let name = reverse::in_addr_arpa(address);
                return ask(query, Rule::Reverse, &Question { name: &name, ..question }, zone);
            }
            Some(Reverse::Address(_, zone) | Reverse::Part(zone)) => return Plan::Answer(negative(0, zone)),
            None => {}
        }
        let Some(zone) = self.suffix(&question) else { return Plan::Pass };
        let rule = match question.kind {
            kind::AAAA => Rule::Synthesise(self.prefix),
            kind::A | kind::HTTPS | kind::SVCB => Rule::Nothing,
            kind::ANY => Rule::Any,
            _ => return Plan::Pass,
        };
        // A query for A tells whether the name exists; servers that do not know HTTPS may not even answer.
        ask(query, rule, &Question { kind: kind::A, ..question }, zone)
    }

    fn suffix(&self, question: &Question<'_>) -> Option<&[u8]> {
        self.suffixes.iter().map(Suffix::wire).find(|zone| is_within(question.name, zone))
    }

    /// The names that are answered here, and never asked for.
    fn special(&self, question: &Question<'_>) -> Option<Reply> {
        let name = question.name;
        if is_within(name, CANARY) {
            return Some(negative(dns::NXDOMAIN, CANARY));
        }
        if is_within(name, RESOLVER) {
            return Some(negative(0, RESOLVER));
        }
        // ipv4only.arpa (RFC 7050) is left alone: a client that learned the prefix from it would send every IPv4
        // literal through the tunnel.
        None
    }
}

impl Rewrite {
    /// What `response`, which answers [`Rewrite::asked`], means as an answer to `query`.
    pub(super) fn reply(&self, query: &[u8], response: &[u8]) -> Reply {
        let failed = Reply { rcode: dns::SERVFAIL.into(), ..Reply::default() };
        let (Ok(header), Ok(sections), Ok(question)) =
            (Header::parse(response), Sections::parse(response), Question::parse(query))
        else {
            return failed;
        };
        let mut reply = Reply {
            rcode: rcode(&header, &sections),
            authoritative: header.flags & AA != 0,
            truncated: header.is_truncated(),
            sections,
        };
        let Sections { answers, authorities, additionals } = &mut reply.sections;
        for section in [&mut *answers, authorities, additionals] {
            // Between two neighbours (OPT, TSIG), or signatures over what is no longer there.
            section.retain(|record| !matches!(record.kind, kind::OPT | kind::RRSIG | kind::TSIG));
        }
        let negative = match self.rule {
            Rule::Synthesise(prefix) => {
                let records = std::mem::take(answers);
                *answers = records.into_iter().filter_map(|record| synthesise(record, &prefix)).collect();
                !answers.iter().any(|record| record.kind == kind::AAAA)
            }
            Rule::Nothing | Rule::Any => {
                // No chain: a client would follow it to names outside, past the tunnel.
                answers.clear();
                additionals.clear();
                authorities.retain(|record| record.kind == kind::SOA);
                reply.truncated = false;
                true
            }
            Rule::Reverse => {
                self.move_to_prefix(&question, &mut reply.sections);
                !reply.sections.answers.iter().any(|record| record.kind == kind::PTR)
            }
        };
        let Sections { answers, authorities, .. } = &mut reply.sections;
        if matches!(self.rule, Rule::Any) && reply.rcode == 0 {
            authorities.clear();
            *answers = vec![own(question.name, kind::HINFO, vec![Field::Octets(b"\x07RFC8482\0".to_vec())])];
        } else if negative
            && reply.rcode == 0
            && !reply.truncated
            && !authorities.iter().any(|record| record.kind == kind::SOA)
        {
            authorities.push(soa(&self.zone));
        }
        // The question's own spelling, which the owner then shares by a pointer.
        for record in answers.iter_mut().filter(|r| r.owner.eq_ignore_ascii_case(question.name)) {
            record.owner = question.name.to_vec();
        }
        reply
    }

    /// Makes records of the reverse tree of IPv4 those of the prefix.
    fn move_to_prefix(&self, question: &Question<'_>, sections: &mut Sections) {
        let Ok(asked) = Question::parse(&self.asked) else { return };
        for record in &mut sections.answers {
            if record.owner.eq_ignore_ascii_case(asked.name) {
                record.owner = question.name.to_vec();
            }
        }
        // Negative answers are cached below the owner of the SOA record only.
        sections.authorities.retain(|record| record.kind == kind::SOA);
        for record in &mut sections.authorities {
            record.owner.clone_from(&self.zone);
        }
        sections.additionals.clear();
    }
}

/// Asks `question` in place of the one of `query`.
fn ask(query: &[u8], rule: Rule, question: &Question<'_>, zone: &[u8]) -> Plan {
    let (Ok(header), Ok(edns)) = (Header::parse(query), Edns::parse(query)) else {
        return Plan::Answer(Reply { rcode: dns::FORMERR.into(), ..Reply::default() });
    };
    if edns.is_some_and(|edns| edns.version != 0) {
        return Plan::Answer(Reply { rcode: BADVERS, ..Reply::default() });
    }
    // RFC 6147 section 5.5: this client validates by itself, and gets what was signed. (Names in the prefix are known to
    // nobody else, signed or not.)
    let validates = edns.is_some_and(|edns| edns.dnssec_ok) && header.flags & CD != 0;
    if validates && !matches!(rule, Rule::Reverse) {
        return Plan::Pass;
    }
    Plan::Ask(Rewrite { asked: stand_in(&header, question, edns), rule, zone: zone.to_vec() })
}

/// A as AAAA; what leads there as it is; nothing of the rest.
fn synthesise(record: Record, prefix: &[u8; 12]) -> Option<Record> {
    match record.kind {
        kind::CNAME | kind::DNAME => Some(record),
        kind::A if record.class == IN => {
            let octets = <[u8; 4]>::try_from(record.octets()?).ok()?;
            let data = vec![Field::Octets(embed(prefix, octets))];
            is_routable(octets.into()).then_some(Record { kind: kind::AAAA, data, ..record })
        }
        _ => None,
    }
}

fn embed(prefix: &[u8; 12], [a, b, c, d]: [u8; 4]) -> Vec<u8> {
    let mut address = prefix.to_vec();
    address.extend([a, b, c, d]);
    address
}

/// False for addresses that mean something else to each host, or nothing (RFC 6147 section 5.1.4 for IPv6).
pub(super) fn is_routable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(matches!(first, 0 | 127 | 224..) || address.is_link_local())
}

/// The response code with its extension.
fn rcode(header: &Header, sections: &Sections) -> u16 {
    let opt = sections.additionals.iter().find(|record| record.kind == kind::OPT);
    let high = opt.map_or(0, |opt| (opt.ttl >> 24) as u16);
    high << 4 | u16::from(header.rcode())
}

fn own(owner: &[u8], kind: u16, data: Vec<Field>) -> Record {
    Record { owner: owner.to_vec(), kind, class: IN, ttl: TTL, data }
}

/// A SOA record for negative answers (RFC 2308): who says so, and for how long it holds.
fn soa(zone: &[u8]) -> Record {
    let timers: Vec<u8> = [1u32, 3600, 1200, 604_800, TTL].iter().flat_map(|n| n.to_be_bytes()).collect();
    let data = vec![
        Field::Name(zone.to_vec()),
        Field::Name(b"\x06nobody\x07invalid\0".to_vec()),
        Field::Octets(timers),
    ];
    own(zone, kind::SOA, data)
}

fn negative(rcode: u8, zone: &[u8]) -> Reply {
    let sections = Sections { authorities: vec![soa(zone)], ..Sections::default() };
    Reply { rcode: rcode.into(), sections, ..Reply::default() }
}
