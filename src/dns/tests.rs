//! DNS64 through the forwarder: what a client asks, what the server is asked and says, what the client gets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::{Random, Reason};
use crate::wire::dns::{
    CD, Field, Header, IN, QR, Question, RD, Record, Section, Sections, TC, Writer, kind, set_id,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const UDP: Transport = Transport::Udp(Ipv4Addr::new(198, 19, 255, 1));
const AD: u16 = 0x20;
const PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 1, 0x4f, 0x56, 0, 0, 0, 0];
const NOW: Duration = Duration::from_secs(100);

struct Sequence(u64);

impl Random for Sequence {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *octet = (self.0 >> 56) as u8;
        }
    }
}

fn forwarder() -> Forwarder {
    let mut forwarder = Forwarder::new(Box::new(Sequence(5)));
    let suffixes = ["corp.example", "internal"].map(|suffix| Suffix::parse(suffix).unwrap()).to_vec();
    forwarder.set_dns64(Some(Dns64 { prefix: PREFIX, suffixes }));
    forwarder.set_servers(&[SERVER]);
    forwarder
}

fn client() -> SocketAddrV4 {
    "198.19.255.2:4000".parse().unwrap()
}

/// Labels with dots between them; the empty text is the root.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn text(wire: &[u8]) -> String {
    let (mut rest, mut labels) = (wire, Vec::new());
    while let Some((&len @ 1.., tail)) = rest.split_first() {
        let (label, tail) = tail.split_at(len.into());
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = tail;
    }
    labels.join(".")
}

const KINDS: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("DNAME", 39),
    ("OPT", 41),
    ("RRSIG", 46),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", 255),
];

fn kind_of(name: &str) -> u16 {
    KINDS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// "owner TTL TYPE data"
fn record(text: &str) -> Record {
    let parts: Vec<&str> = text.split(' ').collect();
    let kind = kind_of(parts[2]);
    let data = match kind {
        kind::A => vec![Field::Octets(parts[3].parse::<Ipv4Addr>().unwrap().octets().to_vec())],
        kind::AAAA => vec![Field::Octets(parts[3].parse::<Ipv6Addr>().unwrap().octets().to_vec())],
        kind::SOA => vec![Field::Name(wire(parts[3])), Field::Name(wire("h")), Field::Octets(vec![7; 20])],
        kind::CNAME | kind::DNAME | kind::NS | kind::PTR => vec![Field::Name(wire(parts[3]))],
        _ => vec![Field::Octets(parts[3].as_bytes().to_vec())],
    };
    Record { owner: wire(parts[0]), kind, class: IN, ttl: parts[1].parse().unwrap(), data }
}

fn show(record: &Record) -> String {
    let kind = KINDS.iter().find(|(_, known)| *known == record.kind).unwrap().0;
    let data = match (record.kind, record.data.first()) {
        (kind::AAAA, Some(Field::Octets(o))) => {
            Ipv6Addr::from(<[u8; 16]>::try_from(&o[..]).unwrap()).to_string()
        }
        (kind::A, Some(Field::Octets(o))) => Ipv4Addr::from(<[u8; 4]>::try_from(&o[..]).unwrap()).to_string(),
        (_, Some(Field::Name(name))) => text(name),
        (_, Some(Field::Octets(octets))) => String::from_utf8_lossy(octets).into_owned(),
        (_, None) => format!("size={}", record.class),
    };
    format!("{} {} {kind} {data}", text(&record.owner), record.ttl)
}

/// Response code, TC, and the sections (without OPT): "0 | answers | authorities | additionals", records apart by ";".
fn show_message(message: &[u8]) -> String {
    let header = Header::parse(message).unwrap();
    let Sections { answers, authorities, additionals } = Sections::parse(message).unwrap();
    let [answers, authorities, additionals] = [answers, authorities, additionals].map(|records| {
        records.iter().filter(|r| r.kind != kind::OPT).map(show).collect::<Vec<_>>().join("; ")
    });
    let truncated = if header.is_truncated() { " TC" } else { "" };
    format!("{}{truncated} | {answers} | {authorities} | {additionals}", header.rcode())
}

/// "0 | records | records | records", TC too, as the answer to `asked`.
fn response(asked: &[u8], description: &str) -> Vec<u8> {
    let mut parts = description.split('|').map(str::trim);
    let code = parts.next().unwrap();
    let header = Header::parse(asked).unwrap();
    let mut flags = header.flags | QR | AD | 0x80;
    flags |= code.split(' ').next().unwrap().parse::<u16>().unwrap();
    flags |= if code.ends_with("TC") { TC } else { 0 };
    let question = Question::parse(asked).unwrap();
    let mut writer = Writer::new(header.id, flags, &question, 65535);
    for (section, records) in
        [Section::Answer, Section::Authority, Section::Additional].into_iter().zip(parts)
    {
        for text in records.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            assert!(writer.record(section, &record(text)));
        }
    }
    writer.finish()
}

#[derive(Clone, Copy)]
struct Ask {
    name: &'static str,
    kind: &'static str,
    flags: u16,
    /// Size and flags of EDNS.
    edns: Option<(u16, u32)>,
}

fn ask(name: &'static str, kind: &'static str) -> Ask {
    Ask { name, kind, flags: RD, edns: None }
}

impl Ask {
    fn bytes(&self, id: u16) -> Vec<u8> {
        let (name, kind) = (wire(self.name), kind_of(self.kind));
        let mut writer = Writer::new(id, self.flags, &Question { name: &name, kind, class: IN }, 65535);
        if let Some((class, ttl)) = self.edns {
            let data = vec![Field::Octets(b"\0\x0a\0\x08clientck".to_vec())];
            writer.record(Section::Additional, &Record { owner: vec![0], kind: kind::OPT, class, ttl, data });
        }
        writer.finish()
    }
}

enum Step {
    Server(u16, Vec<u8>),
    Client(Vec<u8>),
}

#[track_caller]
fn step(f: &mut Forwarder) -> Step {
    match f.poll_output().unwrap() {
        Output::ToServer { local_port, bytes, .. } => Step::Server(local_port, bytes),
        Output::ToClient { bytes, .. } => Step::Client(bytes),
    }
}

/// What the server was asked ("name TYPE"; empty where it was not), and what the client got.
#[track_caller]
fn exchange(ask: Ask, transport: Transport, description: &str) -> (String, Vec<u8>, Vec<u8>) {
    let mut f = forwarder();
    let query = ask.bytes(0x1234);
    f.handle_query(NOW, client(), transport, &query).unwrap();
    let (asked, sent, answer) = match step(&mut f) {
        Step::Client(answer) => (String::new(), Vec::new(), answer),
        Step::Server(port, asked) => {
            let question = Question::parse(&asked).unwrap();
            let kind = KINDS.iter().find(|(_, known)| *known == question.kind).unwrap().0;
            let shown = format!("{} {kind}", text(question.name));
            f.handle_response(SERVER, port, &response(&asked, description)).unwrap();
            match step(&mut f) {
                Step::Client(answer) => (shown, asked, answer),
                Step::Server(..) => panic!("asked again"),
            }
        }
    };
    assert_eq!((f.poll_output(), f.pending()), (None, 0));
    assert_eq!(answer[..2], query[..2], "identifier");
    let end = Question::parse(&query).unwrap().end();
    assert_eq!(answer[12..end], query[12..end], "the very question");
    (asked, sent, answer)
}

#[test]
fn rules() {
    const SOA: &str = "corp.example 60 SOA corp.example";
    let soa = format!("0 |  | {SOA} | ");
    let soa = soa.as_str();
    let pool = "0 | www.corp.example 300 A 10.1.2.3";
    let reverse = "3.0.2.0.1.0.a.0.0.0.0.0.0.0.0.0.6.5.f.4.1.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";
    let partial = "1.0.a.0.0.0.0.0.0.0.0.0.6.5.f.4.1.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";
    let arpa_soa = "0.0.0.0.0.0.0.0.6.5.f.4.1.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";
    let of_prefix = |ttl: u32, primary: &str| format!("{arpa_soa} {ttl} SOA {primary}");
    let ask_a = "www.corp.example A";
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        // Synthesis: several addresses, TTLs kept, authority and additional copied.
        (
            "www.corp.example",
            "AAAA",
            ask_a,
            "0 | www.corp.example 300 A 10.1.2.3; www.corp.example 299 A 192.0.2.7 | corp.example 9 NS ns.corp.example | ns.corp.example 8 A 10.1.1.1",
            "0 | www.corp.example 300 AAAA 64:ff9b:1:4f56::a01:203; www.corp.example 299 AAAA 64:ff9b:1:4f56::c000:207 | corp.example 9 NS ns.corp.example | ns.corp.example 8 A 10.1.1.1",
        ),
        // The suffix itself, a suffix of one label, and deep below.
        (
            "corp.example",
            "AAAA",
            "corp.example A",
            "0 | corp.example 5 A 1.2.3.4",
            "0 | corp.example 5 AAAA 64:ff9b:1:4f56::102:304 |  | ",
        ),
        (
            "a.b.c.internal",
            "AAAA",
            "a.b.c.internal A",
            "0 | a.b.c.internal 5 A 1.2.3.4",
            "0 | a.b.c.internal 5 AAAA 64:ff9b:1:4f56::102:304 |  | ",
        ),
        // Chains are kept: the question's name decides.
        (
            "www.corp.example",
            "AAAA",
            ask_a,
            "0 | www.corp.example 9 CNAME a.corp.example; a.corp.example 8 CNAME lb.cdn.net; lb.cdn.net 7 A 192.0.2.1",
            "0 | www.corp.example 9 CNAME a.corp.example; a.corp.example 8 CNAME lb.cdn.net; lb.cdn.net 7 AAAA 64:ff9b:1:4f56::c000:201 |  | ",
        ),
        (
            "www.corp.example",
            "AAAA",
            ask_a,
            "0 | corp.example 9 DNAME d.net; www.corp.example 0 CNAME www.d.net; www.d.net 7 A 192.0.2.1",
            "0 | corp.example 9 DNAME d.net; www.corp.example 0 CNAME www.d.net; www.d.net 7 AAAA 64:ff9b:1:4f56::c000:201 |  | ",
        ),
        // Negative and failed answers stay what they are.
        ("www.corp.example", "AAAA", ask_a, "3 |  | corp.example 7 SOA m", "3 |  | corp.example 7 SOA m | "),
        (
            "www.corp.example",
            "AAAA",
            ask_a,
            "3 | www.corp.example 9 CNAME x.net | net 7 SOA m",
            "3 | www.corp.example 9 CNAME x.net | net 7 SOA m | ",
        ),
        ("www.corp.example", "AAAA", ask_a, "0 |  | corp.example 7 SOA m", "0 |  | corp.example 7 SOA m | "),
        ("www.corp.example", "AAAA", ask_a, "0", soa),
        ("www.corp.example", "AAAA", ask_a, "2", "2 |  |  | "),
        ("www.corp.example", "AAAA", ask_a, "5", "5 |  |  | "),
        // Neither native addresses, nor what is no address, nor addresses that mean nothing elsewhere.
        (
            "www.corp.example",
            "AAAA",
            ask_a,
            "0 | www.corp.example 9 AAAA 2001:db8::1; www.corp.example 9 RRSIG x; www.corp.example 9 A 127.0.0.1; www.corp.example 9 A 169.254.1.1; www.corp.example 9 A 0.0.0.0; www.corp.example 9 A 224.0.0.1; www.corp.example 9 A 255.255.255.255",
            soa,
        ),
        // What would lead past the tunnel is not told.
        ("www.corp.example", "A", ask_a, pool, soa),
        ("www.corp.example", "A", ask_a, "0 | www.corp.example 9 CNAME x.net; x.net 1 A 192.0.2.1", soa),
        ("www.corp.example", "A", ask_a, "0 TC | www.corp.example 9 A 192.0.2.1", soa),
        ("www.corp.example", "A", ask_a, "3 |  | corp.example 7 SOA m", "3 |  | corp.example 7 SOA m | "),
        ("www.corp.example", "A", ask_a, "0 |  | corp.example 7 SOA m", "0 |  | corp.example 7 SOA m | "),
        ("www.corp.example", "A", ask_a, "2", "2 |  |  | "),
        ("www.corp.example", "HTTPS", ask_a, pool, soa),
        ("www.corp.example", "SVCB", ask_a, pool, soa),
        ("www.corp.example", "HTTPS", ask_a, "3 |  | corp.example 7 SOA m", "3 |  | corp.example 7 SOA m | "),
        ("www.corp.example", "ANY", ask_a, pool, "0 | www.corp.example 60 HINFO \x07RFC8482\0 |  | "),
        ("www.corp.example", "ANY", ask_a, "3 |  | corp.example 7 SOA m", "3 |  | corp.example 7 SOA m | "),
        // Names that are answered here.
        (
            "use-application-dns.net",
            "A",
            "",
            "",
            "3 |  | use-application-dns.net 60 SOA use-application-dns.net | ",
        ),
        (
            "Use-Application-DNS.net",
            "AAAA",
            "",
            "",
            "3 |  | use-application-dns.net 60 SOA use-application-dns.net | ",
        ),
        ("_dns.resolver.arpa", "SVCB", "", "", "0 |  | resolver.arpa 60 SOA resolver.arpa | "),
        // Reverse.
        (
            reverse,
            "PTR",
            "3.2.1.10.in-addr.arpa PTR",
            "0 | 3.2.1.10.in-addr.arpa 77 PTR www.corp.example |  1.10.in-addr.arpa 5 NS ns.x",
            &format!("0 | {reverse} 77 PTR www.corp.example |  | "),
        ),
        (
            reverse,
            "PTR",
            "3.2.1.10.in-addr.arpa PTR",
            "0 | 3.2.1.10.in-addr.arpa 77 CNAME 3.0-127.2.1.10.in-addr.arpa; 3.0-127.2.1.10.in-addr.arpa 76 PTR w.x",
            &format!(
                "0 | {reverse} 77 CNAME 3.0-127.2.1.10.in-addr.arpa; 3.0-127.2.1.10.in-addr.arpa 76 PTR w.x |  | "
            ),
        ),
        (
            reverse,
            "PTR",
            "3.2.1.10.in-addr.arpa PTR",
            "3 |  | 10.in-addr.arpa 33 SOA m",
            &format!("3 |  | {} | ", of_prefix(33, "m")),
        ),
        (reverse, "PTR", "3.2.1.10.in-addr.arpa PTR", "2", "2 |  |  | "),
        (reverse, "TXT", "", "", &format!("0 |  | {} | ", of_prefix(60, arpa_soa))),
        (partial, "PTR", "", "", &format!("0 |  | {} | ", of_prefix(60, arpa_soa))),
    ];
    for (name, kind, asked, description, expected) in rows {
        let name: &'static str = String::leak((*name).to_owned());
        let kind: &'static str = String::leak((*kind).to_owned());
        for edns in [None, Some((4096, 0))] {
            for transport in [UDP, Transport::Tcp(1)] {
                let query = Ask { edns, ..ask(name, kind) };
                let (got_asked, _, answer) = exchange(query, transport, description);
                let got = (got_asked.as_str(), show_message(&answer));
                assert_eq!(got, (*asked, (*expected).to_owned()), "{name} {kind} {description}");
                let header = Header::parse(&answer).unwrap();
                assert_eq!(header.flags & (QR | RD | AD | CD), QR | RD, "AD is never set on what we made");
                let opt =
                    Sections::parse(&answer).unwrap().additionals.into_iter().find(|r| r.kind == kind::OPT);
                assert_eq!(opt.is_some(), edns.is_some());
                assert!(opt.is_none_or(|opt| opt.data.is_empty()), "the client's options are not echoed");
            }
        }
    }
}

#[test]
fn all_else_passes_byte_for_byte() {
    let odd = Ask { flags: 0x0110 | AD, edns: Some((1400, 0x8000)), ..ask("wWw.corp.example", "AAAA") };
    let rows = [
        ask("www.example", "AAAA"),
        ask("www.example", "A"),
        ask("www.example", "HTTPS"),
        ask("www.example", "ANY"),
        ask("xcorp.example", "AAAA"),
        ask("corp.example.net", "AAAA"),
        ask("internal.example", "A"),
        ask("1.0.0.127.in-addr.arpa", "PTR"),
        ask("1.0.0.0.ip6.arpa", "PTR"),
        // Below a suffix, what does not lead past the tunnel.
        ask("corp.example", "MX"),
        ask("corp.example", "TXT"),
        ask("corp.example", "NS"),
        ask("corp.example", "SOA"),
        // A client that validates (DO and CD) gets what was signed (RFC 6147 section 5.5).
        odd,
        Ask { kind: "A", ..odd },
        Ask { kind: "HTTPS", ..odd },
    ];
    for row in rows {
        let query = row.bytes(0x1234);
        let mut f = forwarder();
        f.handle_query(NOW, client(), UDP, &query).unwrap();
        let Step::Server(port, asked) = step(&mut f) else { panic!("{}", row.name) };
        assert_eq!(asked[2..], query[2..], "{} {}", row.name, row.kind);
        let reply = [&response(&asked, "0 TC | x 9 A 10.0.0.1; x 9 TXT hello")[..], b"trailing"].concat();
        f.handle_response(SERVER, port, &reply).unwrap();
        let Step::Client(answer) = step(&mut f) else { panic!() };
        assert_eq!((&answer[..2], &answer[2..]), (&query[..2], &reply[2..]));
    }
    // Other classes, and without DNS64 everything.
    let mut chaos = ask("www.corp.example", "AAAA").bytes(1);
    *chaos.last_mut().unwrap() = 3;
    let mut off = forwarder();
    off.set_dns64(None);
    for (mut f, query) in [(forwarder(), chaos), (off, ask("use-application-dns.net", "A").bytes(1))] {
        f.handle_query(NOW, client(), UDP, &query).unwrap();
        let Step::Server(_, asked) = step(&mut f) else { panic!() };
        assert_eq!(asked[2..], query[2..]);
    }
}

#[test]
fn what_the_server_is_asked() {
    let plain = ask("wWw.CORP.example", "AAAA");
    for (query, flags, edns) in [
        (plain, RD, None),
        (Ask { flags: 0, ..plain }, 0, None),
        (Ask { flags: RD | CD | AD, ..plain }, RD | CD, None),
        (Ask { edns: Some((600, 0)), ..plain }, RD, Some((1232, 0))),
        (Ask { edns: Some((600, 0x8000)), ..plain }, RD, Some((1232, 0))),
    ] {
        let (asked, sent, answer) = exchange(query, UDP, "0 | www.corp.example 9 A 10.1.2.3");
        assert_eq!(asked, "wWw.CORP.example A", "its case is kept");
        let header = Header::parse(&sent).unwrap();
        assert_eq!(header.flags, flags);
        let opt = Sections::parse(&sent).unwrap().additionals;
        assert_eq!(opt.first().map(|opt| (opt.class, opt.ttl)), edns);
        assert!(opt.iter().all(|opt| opt.data.is_empty()), "options are the client's own business with us");
        // The answer points to the question, so it has its case; DO comes back.
        let sections = Sections::parse(&answer).unwrap();
        assert_eq!(text(&sections.answers[0].owner), "wWw.CORP.example");
        let asked_do = query.edns.map(|(_, flags)| flags);
        assert_eq!(sections.additionals.first().map(|opt| opt.ttl), asked_do);
        assert_eq!(Header::parse(&answer).unwrap().flags & CD, query.flags & CD);
    }
}

#[test]
fn answers_fit_or_say_that_they_do_not() {
    let many = |count: usize| {
        let records: Vec<_> = (0..count).map(|n| format!("www.corp.example 60 A 10.1.2.{n}")).collect();
        format!("0 | {}", records.join(";"))
    };
    // 34 octets of header and question, 11 of OPT, 28 of each record.
    for (edns, transport, count, fits) in [
        (None, UDP, 17, 17),
        (None, UDP, 18, 17),
        (Some((100, 0)), UDP, 17, 16),
        (Some((512, 0)), UDP, 16, 16),
        (Some((1232, 0)), UDP, 42, 42),
        (Some((1232, 0)), UDP, 43, 42),
        (Some((4096, 0)), UDP, 144, 144),
        (Some((65535, 0)), UDP, 145, 144),
        (None, Transport::Tcp(1), 200, 200),
        (Some((512, 0)), Transport::Tcp(1), 200, 200),
    ] {
        let query = Ask { edns, ..ask("www.corp.example", "AAAA") };
        let (_, _, answer) = exchange(query, transport, &many(count));
        let header = Header::parse(&answer).unwrap();
        let found = (usize::from(header.answers), header.is_truncated(), header.additionals);
        assert_eq!(found, (fits, fits < count, u16::from(edns.is_some())), "{edns:?} {count}");
        assert_eq!(answer.len(), 34 + 28 * fits + if edns.is_some() { 11 } else { 0 });
    }
    // The server's TC is passed on with what there is.
    let (_, _, answer) = exchange(ask("w.internal", "AAAA"), UDP, "0 TC | w.internal 9 A 10.0.0.1");
    assert_eq!(show_message(&answer), "0 TC | w.internal 9 AAAA 64:ff9b:1:4f56::a00:1 |  | ");
    let (_, _, answer) = exchange(ask("w.internal", "AAAA"), UDP, "0 TC");
    assert_eq!(show_message(&answer), "0 TC |  |  | ", "empty, but not because there is nothing");
    // Additional and authority records give way without TC; those of a negative answer do not.
    let spare: Vec<_> = (0..40).map(|n| format!("n{n}.internal 9 A 10.0.0.1")).collect();
    let spare = spare.join(";");
    for (description, truncated) in [
        (format!("0 | w.internal 9 A 10.0.0.1 |  | {spare}"), false),
        (format!("0 | w.internal 9 A 10.0.0.1 | {spare}"), false),
        (format!("0 |  | {spare}"), true),
    ] {
        let (_, _, answer) = exchange(ask("w.internal", "AAAA"), UDP, &description);
        assert_eq!(Header::parse(&answer).unwrap().is_truncated(), truncated);
        assert!(answer.len() <= 512);
    }
}

#[test]
fn compressed_names_in_data_are_made_whole() {
    let mut f = forwarder();
    f.handle_query(NOW, client(), UDP, &ask("www.corp.example", "AAAA").bytes(7)).unwrap();
    let Step::Server(port, asked) = step(&mut f) else { panic!() };
    let mut reply = asked.clone();
    reply[2] |= 0x80;
    reply[7] = 2;
    reply[11] = 1;
    reply.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x06\x03lb1\xc0\x10"); // lb1.corp.example at 46
    reply.extend(b"\xc0\x2e\0\x01\0\x01\0\0\0\x08\0\x04\x0a\0\0\x01");
    reply.extend(b"\xc0\x10\0\x0f\0\x01\0\0\0\x07\0\x05\0\x0a\x01m\xc0"); // cut in the middle of a pointer
    let broken = reply.clone();
    reply.truncate(reply.len() - 5);
    reply[11] = 0;
    f.handle_response(SERVER, port, &reply).unwrap();
    let Step::Client(answer) = step(&mut f) else { panic!() };
    let expected =
        "0 | www.corp.example 9 CNAME lb1.corp.example; lb1.corp.example 8 AAAA 64:ff9b:1:4f56::a00:1 |  | ";
    assert_eq!(show_message(&answer), expected);

    f.handle_query(NOW, client(), UDP, &ask("www.corp.example", "AAAA").bytes(7)).unwrap();
    let Step::Server(port, asked) = step(&mut f) else { panic!() };
    let broken = [&asked[..2], &broken[2..]].concat();
    f.handle_response(SERVER, port, &broken).unwrap();
    let Step::Client(answer) = step(&mut f) else { panic!() };
    assert_eq!(show_message(&answer), "2 |  |  | ", "a malformed answer is a failure of the server");
}

#[test]
fn answers_to_other_questions_are_not_taken() {
    let mut f = forwarder();
    let query = ask("www.corp.example", "AAAA").bytes(7);
    f.handle_query(NOW, client(), UDP, &query).unwrap();
    let Step::Server(port, asked) = step(&mut f) else { panic!() };
    let good = response(&asked, "0 | www.corp.example 9 A 10.0.0.1");
    let mut other = query.clone();
    set_id(&mut other, Header::parse(&asked).unwrap().id);
    let native = response(&other, "0 | www.corp.example 9 AAAA 2001:db8::1");
    let mut wrong_id = good.clone();
    wrong_id[0] ^= 1;
    for (server, port, bytes) in [
        (SERVER, port, &native),
        (SERVER, port, &wrong_id),
        (SERVER, port ^ 1, &good),
        (Ipv4Addr::new(10, 1, 1, 2), port, &good),
    ] {
        assert_eq!(f.handle_response(server, port, bytes), Err(Reason::DnsUnexpected));
    }
    assert_eq!((f.pending(), f.poll_output()), (1, None));
    // A bare header with an error is an answer, too.
    let bare = [&asked[..2], b"\x81\x81\0\0\0\0\0\0\0\0"].concat();
    f.handle_response(SERVER, port, &bare).unwrap();
    let Step::Client(answer) = step(&mut f) else { panic!() };
    assert_eq!(show_message(&answer), "1 |  |  | ");

    // Silence: the same question again, then SERVFAIL to the client's own.
    f.handle_query(NOW, client(), UDP, &query).unwrap();
    let Step::Server(_, first) = step(&mut f) else { panic!() };
    f.handle_timeout(NOW + Duration::from_secs(2));
    let Step::Server(_, second) = step(&mut f) else { panic!() };
    assert_eq!(first[2..], second[2..]);
    f.handle_timeout(NOW + Duration::from_secs(10));
    let Step::Client(answer) = step(&mut f) else { panic!() };
    assert_eq!((show_message(&answer).as_str(), f.pending()), ("2 |  |  | ", 0));
    assert_eq!(Question::parse(&answer), Question::parse(&query));
}

#[test]
fn edns_that_breaks_its_rules() {
    let good = Ask { edns: Some((1232, 0)), ..ask("w.internal", "AAAA") };
    let (_, _, answer) = exchange(Ask { edns: Some((1232, 1 << 16)), ..good }, UDP, "");
    let sections = Sections::parse(&answer).unwrap();
    assert_eq!(
        (show_message(&answer).as_str(), sections.additionals[0].ttl),
        ("0 |  |  | ", 1 << 24),
        "BADVERS"
    );
    let mut twice = good.bytes(0x1234);
    let opt = twice[Question::parse(&twice).unwrap().end()..].to_vec();
    twice.extend(&opt);
    twice[11] = 2;
    let mut cut = good.bytes(0x1234);
    cut.pop();
    for query in [twice, cut] {
        let mut f = forwarder();
        f.handle_query(NOW, client(), UDP, &query).unwrap();
        let Step::Client(answer) = step(&mut f) else { panic!() };
        assert_eq!(show_message(&answer), "1 |  |  | ", "FORMERR");
    }
    // An extended response code of the server: as it is, or SERVFAIL to who does not know them.
    let refused = Record { owner: vec![0], kind: kind::OPT, class: 512, ttl: 1 << 24, data: Vec::new() };
    for (query, expected) in [(good, "0 |  |  | "), (Ask { edns: None, ..good }, "2 |  |  | ")] {
        let mut f = forwarder();
        f.handle_query(NOW, client(), UDP, &query.bytes(1)).unwrap();
        let Step::Server(port, asked) = step(&mut f) else { panic!() };
        let header = Header::parse(&asked).unwrap();
        let mut writer = Writer::new(header.id, QR, &Question::parse(&asked).unwrap(), 512);
        writer.record(Section::Additional, &refused);
        f.handle_response(SERVER, port, &writer.finish()).unwrap();
        let Step::Client(answer) = step(&mut f) else { panic!() };
        assert_eq!(show_message(&answer), expected);
        let opt = Sections::parse(&answer).unwrap().additionals;
        assert!(opt.iter().all(|opt| opt.ttl == 1 << 24));
    }
}

#[test]
fn special_names_are_answered_without_servers() {
    let mut f = forwarder();
    f.set_servers(&[]);
    for (query, rcode) in [(ask("use-application-dns.net", "AAAA"), 3), (ask("www.corp.example", "AAAA"), 2)]
    {
        f.handle_query(NOW, client(), UDP, &query.bytes(1)).unwrap();
        let Step::Client(answer) = step(&mut f) else { panic!() };
        assert_eq!(Header::parse(&answer).unwrap().rcode(), rcode);
    }
}

/// Feeds a query, and the answer to whatever it leads to; what comes out must be well-formed.
fn feed(query: &[u8], reply: &[u8], transport: Transport) {
    let mut f = forwarder();
    if f.handle_query(NOW, client(), transport, query).is_err() {
        return;
    }
    let mut port = None;
    while let Some(output) = f.poll_output() {
        match output {
            Output::ToServer { local_port, bytes, .. } => {
                assert!(Question::parse(&bytes).is_ok());
                let mut reply = reply.to_vec();
                set_id(&mut reply, Header::parse(&bytes).unwrap().id);
                let _ = f.handle_response(SERVER, local_port, &reply);
                port = Some(local_port);
            }
            Output::ToClient { bytes, .. } => {
                assert!(Header::parse(&bytes).unwrap().is_response());
                // What passed is the server's own affair.
                if port.is_none() {
                    Sections::parse(&bytes).unwrap();
                }
            }
        }
    }
}

const REPLIES: [&str; 3] = [
    "0 | w.corp.example 9 CNAME lb.internal; lb.internal 9 A 10.0.0.1 | corp.example 5 SOA ns.corp.example | a 1 TXT x",
    "3 | | corp.example 5 SOA ns.corp.example",
    "0 | 3.2.1.10.in-addr.arpa 77 CNAME 3.0-127.2.1.10.in-addr.arpa; 3.0-127.2.1.10.in-addr.arpa 76 PTR w.x",
];
const REVERSE: &str = "3.0.2.0.1.0.a.0.0.0.0.0.0.0.0.0.6.5.f.4.1.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";

#[test]
fn truncations_and_flips_do_not_panic() {
    for (name, kind, asked, reply) in [
        ("w.corp.example", "AAAA", ask("w.corp.example", "A"), REPLIES[0]),
        ("w.corp.example", "HTTPS", ask("w.corp.example", "A"), REPLIES[1]),
        (REVERSE, "PTR", ask("3.2.1.10.in-addr.arpa", "PTR"), REPLIES[2]),
    ] {
        let query = Ask { edns: Some((1232, 0)), ..ask(name, kind) }.bytes(1);
        let reply = response(&asked.bytes(1), reply);
        for len in 0..query.len().max(reply.len()) {
            feed(query.get(..len).unwrap_or(&query), &reply, UDP);
            feed(&query, reply.get(..len).unwrap_or(&reply), UDP);
        }
        for bit in 0..query.len().max(reply.len()) * 8 {
            let flipped = |message: &[u8]| {
                let mut message = message.to_vec();
                if let Some(octet) = message.get_mut(bit / 8) {
                    *octet ^= 1 << (bit % 8);
                }
                message
            };
            feed(&flipped(&query), &reply, Transport::Tcp(1));
            feed(&query, &flipped(&reply), UDP);
        }
    }
}

proptest! {
    #[test]
    fn no_reply_panics(
        tail in proptest::collection::vec(any::<u8>(), 0..300),
        counts in any::<[u8; 3]>(),
        flags in any::<u16>(),
        which in 0..4usize,
        edns in proptest::option::of(any::<(u16, u32)>()),
    ) {
        let (name, kind) =
            [("w.corp.example", "AAAA"), ("w.corp.example", "A"), ("w.corp.example", "ANY"), (REVERSE, "PTR")][which];
        let query = Ask { edns, flags: flags & !QR & !0x7800, ..ask(name, kind) }.bytes(1);
        let asked = if kind == "PTR" { ask("3.2.1.10.in-addr.arpa", "PTR") } else { ask(name, "A") };
        let mut reply = asked.bytes(1);
        reply[2..4].copy_from_slice(&(flags | QR).to_be_bytes());
        [reply[7], reply[9], reply[11]] = counts;
        reply.extend(tail);
        feed(&query, &reply, UDP);
    }

    #[test]
    fn no_query_panics(mut query in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Some(flags) = query.get_mut(2) {
            *flags = 1;
        }
        feed(&query, &query, Transport::Tcp(1));
    }

    #[test]
    fn every_address_finds_its_way_back(address in any::<[u8; 4]>()) {
        let mut hex: Vec<char> = PREFIX.iter().chain(&address).flat_map(|o| format!("{o:02x}").chars().collect::<Vec<_>>()).collect();
        hex.reverse();
        let labels: Vec<String> = hex.into_iter().map(String::from).collect();
        let name = wire(&format!("{}.ip6.arpa", labels.join(".")));
        let [a, b, c, d] = address;
        let found = super::reverse::parse(&name, &PREFIX);
        prop_assert!(matches!(found, Some(super::reverse::Reverse::Address(x, _)) if x.octets() == address));
        prop_assert_eq!(text(&super::reverse::in_addr_arpa(address.into())), format!("{d}.{c}.{b}.{a}.in-addr.arpa"));
    }
}

#[test]
fn lookups_follow_the_chain_and_take_what_belongs_to_it() {
    use super::lookup::{Answer, Found, parse, query};
    let name = Suffix::parse("www.corp.example").unwrap();
    let asked = query(&name);
    let question = Question::parse(&asked).unwrap();
    assert_eq!((text(question.name).as_str(), question.kind), ("www.corp.example", kind::A));
    for (description, expected) in [
        ("0 | www.corp.example 60 A 10.1.2.4; www.corp.example 50 A 10.1.2.3", "50 10.1.2.3 10.1.2.4"),
        ("0 | WWW.Corp.Example 60 A 10.1.2.3; www.corp.example 60 A 10.1.2.3", "60 10.1.2.3"),
        ("0 | b.net 70 A 10.1.2.3; a.net 20 CNAME b.net; www.corp.example 30 CNAME a.net", "20 10.1.2.3"),
        ("0 | www.corp.example 60 A 10.1.2.3; other.example 5 A 10.9.9.9", "60 10.1.2.3"),
        ("0 | www.corp.example 9 CNAME a.net | | a.net 9 A 10.1.2.3", "0"),
        ("0 | www.corp.example 9 CNAME a.net; a.net 9 CNAME www.corp.example", "0"),
        ("0 | www.corp.example 9 A 127.0.0.1; www.corp.example 9 A 0.0.0.0", "0"),
        ("0 | | corp.example 7 SOA m", "0"),
        ("3 | | corp.example 7 SOA m", "0"),
        ("0 TC | www.corp.example 60 A 10.1.2.3", "truncated"),
        ("2", "failed"),
        ("5", "failed"),
    ] {
        let shown = match parse(&name, &response(&asked, description)) {
            Answer::Truncated => "truncated".to_owned(),
            Answer::Failed => "failed".to_owned(),
            Answer::Found(Found { addresses, ttl }) => {
                addresses.iter().fold(ttl.as_secs().to_string(), |all, address| format!("{all} {address}"))
            }
        };
        assert_eq!(shown, expected, "{description}");
    }
    let whole = response(&asked, "0 | www.corp.example 9 CNAME a.net; a.net 9 A 10.1.2.3");
    for at in 0..whole.len() {
        assert_eq!(parse(&name, &whole[..at]), Answer::Failed);
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            parse(&name, &damaged);
        }
    }
}
