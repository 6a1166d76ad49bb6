//! Resource records, read out of a message with their names made whole, and written into another.

use std::collections::HashMap;

use super::{HEADER_LEN, Header, Question, TC, expand_name, kind, skip_name};
use crate::wire::edit::put;
use crate::wire::{Malformed, Reader};

/// Offsets that a compression pointer can name.
const POINTER_REACH: usize = 0x4000;

/// A piece of a record's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A name in wire form, without compression.
    Name(Vec<u8>),
    /// Anything else.
    Octets(Vec<u8>),
}

/// A resource record that does not depend on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner in wire form, without compression.
    pub owner: Vec<u8>,
    /// TYPE.
    pub kind: u16,
    /// CLASS.
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// RDATA.
    pub data: Vec<Field>,
}

impl Record {
    /// Reads the record at `at`; also returns where the next begins.
    fn parse(message: &[u8], at: usize) -> Result<(Self, usize), Malformed> {
        let owner = expand_name(message, at)?;
        let fixed = skip_name(message, at)?;
        let mut r = Reader::new(message.get(fixed..).unwrap_or_default(), "DNS record");
        let (kind, class, ttl, len) = (r.u16()?, r.u16()?, r.u32()?, r.u16()?);
        r.take(usize::from(len))?;
        let end = message.len() - r.len();
        let data = fields(message, kind, end - usize::from(len), end)?;
        Ok((Self { owner, kind, class, ttl, data }, end))
    }

    /// The data of a record that is one piece without names.
    pub fn octets(&self) -> Option<&[u8]> {
        match self.data.as_slice() {
            [Field::Octets(octets)] => Some(octets),
            _ => None,
        }
    }
}

/// Where names stand in the data of the types whose names may be compressed (RFC 3597 section 4): octets before the
/// first, and how many there are.
fn names_in(kind: u16) -> Option<(usize, usize)> {
    Some(match kind {
        kind::NS | kind::CNAME | kind::PTR | kind::DNAME | 3 | 4 | 7..=9 => (0, 1),
        kind::SOA | 14 | 17 => (0, 2), // MINFO, RP
        kind::MX | 18 | 21 | 36 => (2, 1),
        26 => (2, 2), // PX
        kind::SRV => (6, 1),
        _ => return None,
    })
}

/// Compression in the data of other types is not for us to write (RFC 3597 section 4).
fn may_compress(kind: u16) -> bool {
    matches!(kind, kind::NS | kind::CNAME | kind::PTR | kind::SOA | kind::MX)
}

fn fields(message: &[u8], kind: u16, start: usize, end: usize) -> Result<Vec<Field>, Malformed> {
    let malformed = Malformed("DNS record data");
    // What stands behind the data is not a part of it, so names may not reach there.
    let message = message.get(..end).ok_or(malformed)?;
    let octets = |from: usize, to: usize| message.get(from..to).map(<[u8]>::to_vec).ok_or(malformed);
    let mut fields = Vec::new();
    let mut at = start;
    if let Some((before, names)) = names_in(kind) {
        at += before;
        fields.push(Field::Octets(octets(start, at)?));
        for _ in 0..names {
            fields.push(Field::Name(expand_name(message, at)?));
            at = skip_name(message, at)?;
        }
    }
    fields.push(Field::Octets(octets(at, end)?));
    fields.retain(|field| *field != Field::Octets(Vec::new()));
    Ok(fields)
}

/// The record sections of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authorities: Vec<Record>,
    /// The additional section.
    pub additionals: Vec<Record>,
}

impl Sections {
    /// Reads all records. The counts of the header are claims: a message that ends earlier is malformed, unless it says
    /// itself that it was cut (TC). What follows the last record is ignored.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header = Header::parse(message)?;
        let mut at = match header.questions {
            0 => HEADER_LEN,
            _ => Question::parse(message)?.end(),
        };
        let mut sections = Self::default();
        let Self { answers, authorities, additionals } = &mut sections;
        'message: for (section, count) in
            [(answers, header.answers), (authorities, header.authorities), (additionals, header.additionals)]
        {
            for _ in 0..count {
                match Record::parse(message, at) {
                    Ok((record, next)) => {
                        section.push(record);
                        at = next;
                    }
                    Err(_) if header.is_truncated() => break 'message,
                    Err(malformed) => return Err(malformed),
                }
            }
        }
        Ok(sections)
    }
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The answer section.
    Answer = 6,
    /// The authority section.
    Authority = 8,
    /// The additional section.
    Additional = 10,
}

/// Writes a message, names compressed. Records come in the order of the sections.
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    /// Names, and ends of names, that a pointer may lead to. Case counts: nobody's spelling is changed.
    names: HashMap<Vec<u8>, u16>,
}

impl Writer {
    /// A message of at most `limit` octets with a header and one question (which is written whatever the limit).
    pub fn new(id: u16, flags: u16, question: &Question<'_>, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend(id.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        let mut writer = Self { bytes, limit, names: HashMap::new() };
        writer.name(question.name, true);
        writer.bytes.extend(question.kind.to_be_bytes());
        writer.bytes.extend(question.class.to_be_bytes());
        writer
    }

    /// Adds a record. False where it does not fit; the message is then as before.
    pub fn record(&mut self, section: Section, record: &Record) -> bool {
        let start = self.bytes.len();
        let written = self.try_record(record) && self.bytes.len() <= self.limit && self.count(section);
        if !written {
            self.bytes.truncate(start);
            self.names.retain(|_, at| usize::from(*at) < start);
        }
        written
    }

    /// Octets kept free for a last record are given back.
    pub fn extend_limit(&mut self, octets: usize) {
        self.limit += octets;
    }

    /// Says that records are missing (TC).
    pub fn set_truncated(&mut self) {
        if let Some(high) = self.bytes.get_mut(2) {
            *high |= (TC >> 8) as u8;
        }
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn try_record(&mut self, record: &Record) -> bool {
        self.name(&record.owner, true);
        self.bytes.extend(record.kind.to_be_bytes());
        self.bytes.extend(record.class.to_be_bytes());
        self.bytes.extend(record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend([0, 0]);
        for field in &record.data {
            match field {
                Field::Name(name) => self.name(name, may_compress(record.kind)),
                Field::Octets(octets) => self.bytes.extend_from_slice(octets),
            }
        }
        u16::try_from(self.bytes.len() - at - 2)
            .is_ok_and(|len| put(&mut self.bytes, at, len.to_be_bytes()).is_some())
    }

    fn count(&mut self, section: Section) -> bool {
        let at = section as usize;
        let count = crate::wire::edit::u16_at(&self.bytes, at).and_then(|count| count.checked_add(1));
        count.is_some_and(|count| put(&mut self.bytes, at, count.to_be_bytes()).is_some())
    }

    fn name(&mut self, name: &[u8], compress: bool) {
        let mut rest = name;
        while let Some((&len @ 1.., labels)) = rest.split_first() {
            if compress && let Some(at) = self.names.get(rest) {
                self.bytes.extend((0xc000 | at).to_be_bytes());
                return;
            }
            let at = self.bytes.len();
            if at < POINTER_REACH {
                self.names.entry(rest.to_vec()).or_insert(at as u16);
            }
            let Some((label, after)) = labels.split_at_checked(usize::from(len)) else { break };
            self.bytes.push(len);
            self.bytes.extend_from_slice(label);
            rest = after;
        }
        self.bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Question www.example A; answers: CNAME with compressed data, A, SRV with compressed data; authority: SOA.
    const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x03\0\x01\0\x01\x03www\x07example\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x04\x01a\xc0\x10\
        \xc0\x29\0\x01\0\x01\0\0\0\x06\0\x04\x0a\x01\x02\x03\
        \xc0\x0c\0\x21\0\x01\0\0\0\x07\0\x0a\0\x01\0\x02\0\x50\x01b\xc0\x10\
        \xc0\x10\0\x06\0\x01\0\0\0\x08\0\x1a\x02ns\xc0\x10\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\
        \0\0\x29\x04\xd0\0\0\x80\0\0\0trailing";

    fn rewrite(message: &[u8], limit: usize) -> (Vec<u8>, usize) {
        let header = Header::parse(message).unwrap();
        let question = Question::parse(message).unwrap();
        let mut writer = Writer::new(header.id, header.flags, &question, limit);
        let sections = Sections::parse(message).unwrap();
        let mut left = 0;
        for (section, records) in [
            (Section::Answer, &sections.answers),
            (Section::Authority, &sections.authorities),
            (Section::Additional, &sections.additionals),
        ] {
            left += records.iter().filter(|record| !writer.record(section, record)).count();
        }
        (writer.finish(), left)
    }

    #[test]
    fn records_are_read_and_written_back() {
        let sections = Sections::parse(ANSWER).unwrap();
        let kinds: Vec<_> = sections.answers.iter().map(|r| (r.kind, r.ttl)).collect();
        assert_eq!(kinds, [(5, 5), (1, 6), (33, 7)]);
        assert_eq!(sections.answers[0].data, [Field::Name(b"\x01a\x07example\0".to_vec())]);
        assert_eq!(sections.answers[1].owner, b"\x01a\x07example\0");
        assert_eq!(sections.answers[1].octets(), Some(&[10, 1, 2, 3][..]));
        assert_eq!(sections.answers[0].octets(), None);
        let priority = Field::Octets(vec![0, 1, 0, 2, 0, 80]);
        assert_eq!(sections.answers[2].data, [priority, Field::Name(b"\x01b\x07example\0".to_vec())]);
        let Field::Name(primary) = &sections.authorities[0].data[0] else { panic!() };
        assert_eq!((&primary[..], sections.authorities[0].data.len()), (&b"\x02ns\x07example\0"[..], 3));
        assert_eq!(sections.additionals[0].kind, kind::OPT);

        let (again, left) = rewrite(ANSWER, 65535);
        assert_eq!((Sections::parse(&again).unwrap(), left), (sections, 0));
        // Nothing but the target of SRV grew: the same compression, and no trailing octets.
        assert_eq!(again.len(), ANSWER.len() - b"trailing".len() + b"\x07example\0".len() - 2);
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let (whole, _) = rewrite(ANSWER, 65535);
        for limit in 0..whole.len() {
            let (cut, left) = rewrite(ANSWER, limit);
            assert!(left > 0 && cut.len() <= limit.max(29), "{limit}");
            let header = Header::parse(&cut).unwrap();
            let count = header.answers + header.authorities + header.additionals;
            assert_eq!(usize::from(count), 5 - left);
            Sections::parse(&cut).unwrap();
        }
    }

    #[test]
    fn pointers_stay_within_reach() {
        let question = Question { name: b"\x01q\0", kind: 1, class: 1 };
        let mut writer = Writer::new(1, 0, &question, 65535);
        let mut record = Record {
            owner: b"\x01q\0".to_vec(),
            kind: 16,
            class: 1,
            ttl: 0,
            data: vec![Field::Octets(vec![0; 20_000])],
        };
        assert!(writer.record(Section::Answer, &record));
        record.owner = b"\x03far\x01q\0".to_vec();
        assert!(writer.record(Section::Answer, &record) && writer.record(Section::Answer, &record));
        record.data = vec![Field::Octets(vec![0; 65_536])];
        assert!(!writer.record(Section::Answer, &record), "longer than a record can be");
        writer.set_truncated();
        let message = writer.finish();
        assert!(Header::parse(&message).unwrap().is_truncated());
        let owners: Vec<_> =
            Sections::parse(&message).unwrap().answers.into_iter().map(|r| r.owner).collect();
        assert_eq!(owners, [&b"\x01q\0"[..], b"\x03far\x01q\0", b"\x03far\x01q\0"]);
    }

    #[test]
    fn counts_are_claims() {
        let mut message = ANSWER.to_vec();
        message[7] = 200;
        assert!(Sections::parse(&message).is_err());
        message[2] |= 2;
        assert!(Sections::parse(&message).unwrap().answers.len() >= 5, "TC: what there is");
    }

    #[test]
    fn truncations_and_flips_do_not_panic() {
        let end = ANSWER.len() - b"trailing".len();
        for len in 0..end {
            assert!(Sections::parse(&ANSWER[..len]).is_err(), "{len}");
        }
        for bit in 0..ANSWER.len() * 8 {
            let mut message = ANSWER.to_vec();
            message[bit / 8] ^= 1 << (bit % 8);
            if Sections::parse(&message).is_ok() && Question::parse(&message).is_ok() {
                let (again, _) = rewrite(&message, 65535);
                assert_eq!(Sections::parse(&again), Sections::parse(&message), "bit {bit}");
            }
        }
    }
}
