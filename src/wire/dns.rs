//! DNS messages (RFC 1035): header, question and names, enough to match answers to queries; and records, for messages
//! that are changed on their way.

mod record;

pub use record::{Field, Record, Section, Sections, Writer};

use super::edit::{put, u16_at};
use super::{Malformed, Reader};

/// Length of the header.
pub const HEADER_LEN: usize = 12;
/// Longest name in wire form, the root's empty label included.
pub const MAX_NAME: usize = 255;

/// Response code: the server could not answer.
pub const SERVFAIL: u8 = 2;
/// Response code: the message is malformed.
pub const FORMERR: u8 = 1;
/// Response code: this kind of query is not supported.
pub const NOTIMP: u8 = 4;

/// Response code: there is no such name.
pub const NXDOMAIN: u8 = 3;
/// The class of the Internet.
pub const IN: u16 = 1;

/// Flag: this is a response.
pub const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
/// Flag: the answer is authoritative.
pub const AA: u16 = 0x0400;
/// Flag: the message was cut to fit a datagram.
pub const TC: u16 = 0x0200;
/// Flag: recursion is desired.
pub const RD: u16 = 0x0100;
/// Flag: recursion is available.
pub const RA: u16 = 0x0080;
/// Flag: the client validates and wants no checking (RFC 4035 section 3.2.2).
pub const CD: u16 = 0x0010;

/// Pointers that one name may follow: as many as it can have labels.
const MAX_JUMPS: usize = 127;

/// Record types.
pub mod kind {
    #![expect(missing_docs, reason = "the names are those of the registry")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const ANY: u16 = 255;
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identifier, chosen by who asks.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, AD, CD and the response code, as on the wire.
    pub flags: u16,
    /// Entries in the question section.
    pub questions: u16,
    /// Records in the answer section.
    pub answers: u16,
    /// Records in the authority section.
    pub authorities: u16,
    /// Records in the additional section.
    pub additionals: u16,
}

impl Header {
    /// Reads the header.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(message, "DNS header");
        Ok(Self {
            id: r.u16()?,
            flags: r.u16()?,
            questions: r.u16()?,
            answers: r.u16()?,
            authorities: r.u16()?,
            additionals: r.u16()?,
        })
    }

    /// True for answers.
    pub fn is_response(&self) -> bool {
        self.flags & QR != 0
    }

    /// Kind of query; 0 is the standard one.
    pub fn opcode(&self) -> u8 {
        ((self.flags & OPCODE) >> 11) as u8
    }

    /// True where the answer was cut to fit a datagram.
    pub fn is_truncated(&self) -> bool {
        self.flags & TC != 0
    }

    /// The response code, without the extension of EDNS.
    pub fn rcode(&self) -> u8 {
        (self.flags & 0x000f) as u8
    }
}

/// An entry of the question section.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name in wire form: uncompressed labels, the empty one at the end.
    pub name: &'a [u8],
    /// QTYPE.
    pub kind: u16,
    /// QCLASS.
    pub class: u16,
}

impl PartialEq for Question<'_> {
    /// Names compare without regard to ASCII case (RFC 4343).
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.class) == (other.kind, other.class) && self.name.eq_ignore_ascii_case(other.name)
    }
}

impl<'a> Question<'a> {
    /// Reads the only question of a message, which stands right behind the header.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = Malformed("DNS question");
        if Header::parse(message)?.questions != 1 {
            return Err(malformed);
        }
        let end = skip_name(message, HEADER_LEN)?;
        let name = message.get(HEADER_LEN..end).ok_or(malformed)?;
        if name.last() != Some(&0) || name.len() > MAX_NAME {
            return Err(malformed); // a compression pointer has nothing to point to
        }
        let field = |at| u16_at(message, at).ok_or(malformed);
        Ok(Self { name, kind: field(end)?, class: field(end + 2)? })
    }

    /// Offset of what follows the question in its message.
    pub fn end(&self) -> usize {
        HEADER_LEN + self.name.len() + 4
    }
}

/// Offset of what follows the name at `at`. Pointers are not followed.
pub fn skip_name(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut r = Reader::new(message.get(at..).unwrap_or_default(), "DNS name");
    loop {
        match r.u8()? {
            0 => break,
            len @ 1..=63 => r.take(usize::from(len)).map(|_| ())?,
            0xc0.. => {
                r.u8()?;
                break;
            }
            _ => return Err(r.malformed()),
        }
    }
    Ok(message.len() - r.len())
}

/// The name at `at` without compression, in wire form. Each pointer must lead further back than the last (RFC 1035
/// section 4.1.4: to a prior occurrence), so that there is no loop; the name is at most [`MAX_NAME`] octets.
pub fn expand_name(message: &[u8], at: usize) -> Result<Vec<u8>, Malformed> {
    let mut name = Vec::new();
    let mut start = at;
    let mut jumps = 0;
    let mut r = Reader::new(message.get(start..).unwrap_or_default(), "DNS name");
    loop {
        match r.u8()? {
            0 if name.len() < MAX_NAME => {
                name.push(0);
                return Ok(name);
            }
            len @ 1..=63 if name.len() + usize::from(len) < MAX_NAME => {
                name.push(len);
                name.extend_from_slice(r.take(usize::from(len))?);
            }
            high @ 0xc0.. => {
                let target = usize::from(high & 0x3f) << 8 | usize::from(r.u8()?);
                jumps += 1;
                if target >= start || jumps > MAX_JUMPS {
                    return Err(r.malformed());
                }
                start = target;
                r = Reader::new(message.get(start..).unwrap_or_default(), "DNS name");
            }
            _ => return Err(r.malformed()),
        }
    }
}

/// True where `name` is `zone` or below it: whole labels, without regard to ASCII case. Both in wire form.
pub fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest.eq_ignore_ascii_case(zone) {
            return true;
        }
        match rest.split_first() {
            Some((&len @ 1.., labels)) => rest = labels.get(usize::from(len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// Overwrites the identifier. False where there is none.
pub fn set_id(message: &mut [u8], id: u16) -> bool {
    put(message, 0, id.to_be_bytes()).is_some()
}

/// The answer that says only `rcode`: header, and the question where there is a well-formed one.
pub fn refusal(query: &[u8], rcode: u8) -> Option<Vec<u8>> {
    let header = Header::parse(query).ok()?;
    let question = Question::parse(query).ok();
    let mut answer = query.get(..question.map_or(HEADER_LEN, |question| question.end()))?.to_vec();
    let flags = header.flags & (OPCODE | RD | CD) | QR | RA | u16::from(rcode & 0x0f);
    put(&mut answer, 2, flags.to_be_bytes())?;
    put(&mut answer, 4, [0, u8::from(question.is_some()), 0, 0, 0, 0, 0, 0])?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03wWw\x07example\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    const ANSWER: &[u8] =
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03www\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x01\x02\x03";

    #[test]
    fn header_and_question() {
        let header = Header::parse(QUERY).unwrap();
        assert_eq!(
            (header.id, header.opcode(), header.is_response(), header.additionals),
            (0x1234, 0, false, 1)
        );
        let question = Question::parse(QUERY).unwrap();
        assert_eq!((question.name, question.kind, question.class), (&b"\x03wWw\x07example\0"[..], 1, 1));
        assert_eq!(Question::parse(ANSWER), Ok(question), "case does not count");
        assert!(Header::parse(ANSWER).unwrap().is_response());
        assert_eq!(QUERY[question.end()..].len(), 11);
        let mut other = ANSWER.to_vec();
        other[26] = 28;
        assert_ne!(Question::parse(&other), Ok(question), "type");
    }

    #[test]
    fn names_are_skipped_and_expanded() {
        let end = Question::parse(ANSWER).unwrap().end();
        assert_eq!(skip_name(ANSWER, end), Ok(end + 2));
        assert_eq!(expand_name(ANSWER, end).unwrap(), b"\x03www\x07example\0");
        assert_eq!(expand_name(ANSWER, HEADER_LEN + 4).unwrap(), b"\x07example\0");
        for (bytes, at) in [
            (&b"\xc0\x00"[..], 0),    // to itself
            (b"\xc0\x02\xc0\x00", 2), // forwards, then back
            (b"\x01a\xc0\x00", 2),    // a loop through a label
            (b"\xc0", 0),
            (b"\x40a\0", 0), // reserved label type
            (b"\x03ab", 0),
            (b"", 0),
            (b"\0", 9),
        ] {
            assert!(expand_name(bytes, at).is_err(), "{bytes:?}");
        }
        // As long as can be: 4 labels, 255 octets; one more is too long.
        let long = |last: u8| {
            let labels = [63, 63, 63, last].map(|len| [vec![len], vec![b'x'; len.into()]].concat());
            [labels.concat(), vec![0]].concat()
        };
        assert_eq!(expand_name(&long(61), 0).map(|name| name.len()), Ok(MAX_NAME));
        assert!(expand_name(&long(62), 0).is_err());
    }

    #[test]
    fn names_are_within_zones_by_whole_labels() {
        let zone = b"\x04Corp\x07example\0";
        for (name, within) in [
            (&b"\x04corp\x07EXAMPLE\0"[..], true),
            (b"\x01a\x04corp\x07example\0", true),
            (b"\x05xcorp\x07example\0", false),
            (b"\x07example\0", false),
            (b"\x04corp\x07example\x01x\0", false),
            // The zone's octets, but inside a label.
            (b"\x0e\x04corp\x07example\0\0", false),
            (b"\0", false),
            (b"", false),
        ] {
            assert_eq!(is_within(name, zone), within, "{name:?}");
            assert_eq!(is_within(name, b"\0"), !name.is_empty(), "the root holds all");
        }
    }

    #[test]
    fn chains_of_pointers_are_bounded() {
        let mut message = vec![0];
        for hop in 0..128u8 {
            message.extend([0xc0, if hop == 0 { 0 } else { 2 * hop - 1 }]);
        }
        let at = |hop: usize| 2 * hop + 1;
        assert_eq!(expand_name(&message, at(126)).unwrap(), [0]);
        assert!(expand_name(&message, at(127)).is_err());
    }

    #[test]
    fn refusals_keep_identifier_and_question() {
        let answer = refusal(QUERY, SERVFAIL).unwrap();
        let header = Header::parse(&answer).unwrap();
        assert_eq!((header.id, header.flags, header.rcode()), (0x1234, 0x8182, SERVFAIL));
        assert_eq!((header.questions, header.answers, header.additionals), (1, 0, 0));
        assert_eq!(Question::parse(&answer), Question::parse(QUERY));
        assert_eq!(refusal(&QUERY[..20], FORMERR).map(|answer| answer.len()), Some(HEADER_LEN));
        assert_eq!(refusal(&QUERY[..11], FORMERR), None);
    }

    #[test]
    fn truncations_and_flips_do_not_panic() {
        let end = Question::parse(QUERY).unwrap().end();
        for len in 0..end {
            assert!(Question::parse(&QUERY[..len]).is_err());
        }
        for bit in 0..ANSWER.len() * 8 {
            let mut message = ANSWER.to_vec();
            message[bit / 8] ^= 1 << (bit % 8);
            let _ = (Question::parse(&message), refusal(&message, SERVFAIL));
            for at in 0..message.len() {
                let _ = (skip_name(&message, at), expand_name(&message[..at], at / 2));
            }
        }
    }
}
