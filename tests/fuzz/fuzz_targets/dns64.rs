//! DNS64 both ways: clients that ask anything, servers that answer anything, and a suffix that is any text.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pterodapter::dns::{Dns64, Forwarder, Output, Suffix, Transport};
use pterodapter::wire::dns::{self, Field, Header, IN, QR, Question, RD, Section, Sections, Writer, kind};
use pterodapter_fuzz::{Counter, Events};

const PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0];
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 53);
const BELOW: &[u8] = b"\x01w\x04corp\x07example\0";

fuzz_target!(|data: &[u8]| {
    rewritten(data);
    let mut suffixes = vec![Suffix::parse("corp.example").expect("a good suffix")];
    let client = SocketAddrV4::new(Ipv4Addr::new(198, 19, 255, 2), 5353);
    let mut forwarder = Forwarder::new(Box::new(Counter::default()));
    forwarder.set_servers(&[SERVER]);
    for (event, bytes) in Events(data) {
        if event % 8 == 7 {
            suffixes.extend(std::str::from_utf8(bytes).ok().and_then(|text| Suffix::parse(text).ok()));
            assert!(suffixes.iter().all(|suffix| suffix.wire().len() <= dns::MAX_NAME));
        }
        forwarder.set_dns64(Some(Dns64 { prefix: PREFIX, suffixes: suffixes.clone() }));
        let transport = if event & 8 == 0 { Transport::Udp(HOST) } else { Transport::Tcp(1) };
        let query = match event % 8 {
            0 => bytes.to_vec(),
            // Any answer to a question that is answered by another.
            which => question_below(which, event),
        };
        if forwarder.handle_query(Duration::ZERO, client, transport, &query).is_err() {
            continue;
        }
        while let Some(output) = forwarder.poll_output() {
            match output {
                Output::ToServer { local_port, bytes: asked, .. } => {
                    let end = Question::parse(&asked).expect("we ask well-formed questions").end();
                    let mut reply = asked[..end].to_vec();
                    reply[2] |= 0x80;
                    // The rest of the header, and what follows, is the fuzzer's.
                    let (head, tail) = bytes.split_at(bytes.len().min(7));
                    let places = [3, 6, 7, 8, 9, 10, 11];
                    places.into_iter().zip(head).for_each(|(at, octet)| reply[at] = *octet);
                    reply.extend_from_slice(tail);
                    assert!(forwarder.handle_response(SERVER, local_port, &reply).is_ok());
                }
                Output::ToClient { bytes: answer, .. } => check(&query, &answer, transport),
            }
        }
        assert_eq!(forwarder.pending(), 0);
    }
});

fn question_below(which: u8, event: u8) -> Vec<u8> {
    let kind = match which {
        1 => kind::A,
        2 => kind::HTTPS,
        3 => kind::ANY,
        _ => kind::AAAA,
    };
    let mut writer = Writer::new(7, RD, &Question { name: BELOW, kind, class: IN }, 512);
    if event & 16 != 0 {
        let class = u16::from(event) << 3;
        let opt = dns::Record { owner: vec![0], kind: kind::OPT, class, ttl: 0, data: Vec::new() };
        writer.record(Section::Additional, &opt);
    }
    writer.finish()
}

fn check(query: &[u8], answer: &[u8], transport: Transport) {
    let header = Header::parse(answer).expect("a header");
    assert!(header.is_response() && answer[..2] == query[..2]);
    let Ok(question) = Question::parse(query) else { return };
    let ours = dns::is_within(question.name, b"\x04corp\x07example\0") && question.class == IN;
    if !ours || ![kind::A, kind::AAAA, kind::HTTPS].contains(&question.kind) || header.questions == 0 {
        return;
    }
    let validates = Sections::parse(query).is_ok_and(|sections| {
        sections.additionals.iter().any(|r| r.kind == kind::OPT && r.ttl & 0x8000 != 0)
    });
    if validates {
        return;
    }
    assert_eq!(Question::parse(answer), Ok(question));
    assert!(transport == Transport::Tcp(1) || answer.len() <= 4096 + 300);
    let sections = Sections::parse(answer).expect("what we write is well-formed");
    for record in sections.answers {
        assert!(matches!(record.kind, kind::AAAA | kind::CNAME | kind::DNAME));
        if record.kind == kind::AAAA {
            assert!(record.octets().is_some_and(|data| data.len() == 16 && data.starts_with(&PREFIX)));
        }
        assert!(question.kind == kind::AAAA, "nothing leads past the tunnel");
    }
}

/// Reading, writing and reading again changes nothing.
fn rewritten(message: &[u8]) {
    let (Ok(header), Ok(question), Ok(sections)) =
        (Header::parse(message), Question::parse(message), Sections::parse(message))
    else {
        return;
    };
    let mut writer = Writer::new(header.id, header.flags | QR, &question, usize::from(u16::MAX));
    let mut all = true;
    for (section, records) in [
        (Section::Answer, &sections.answers),
        (Section::Authority, &sections.authorities),
        (Section::Additional, &sections.additionals),
    ] {
        for record in records {
            all &= record.data.iter().all(|field| !matches!(field, Field::Name(name) if name.is_empty()));
            all &= writer.record(section, record);
        }
    }
    let again = writer.finish();
    assert!(again.len() <= usize::from(u16::MAX));
    if all {
        assert_eq!(Sections::parse(&again), Ok(sections));
    }
}
