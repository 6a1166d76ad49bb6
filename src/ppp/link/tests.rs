//! The link against a scripted FortiGate, with a virtual clock.

use super::*;
use crate::wire::ppp::{emit_option, parse_options};

struct Count(u8);

impl Random for Count {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_add(0x35);
            *byte = self.0;
        }
    }
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);
const LCP: u16 = protocol::LCP;
const IPCP: u16 = protocol::IPCP;
const PEER_REQUEST: &[u8] = &[1, 1, 0, 10, 5, 6, 0x10, 0x9b, 0x22, 0x33];
const PEER_ADDRESS: &[u8] = &[1, 1, 0, 10, 3, 6, 192, 0, 2, 1];

fn secs(mono: f64) -> Now {
    let mono = Duration::from_secs_f64(mono);
    Now { mono, boot: mono, wall: Duration::ZERO }
}

struct Bench {
    link: Link,
    rng: Count,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings { mru: 1354, address: ADDRESS, ask_dns: false })
    }

    fn with(settings: Settings) -> Self {
        let mut rng = Count(7);
        Self { link: Link::new(settings, secs(0.0), &mut rng), rng, now: secs(0.0) }
    }

    fn give(&mut self, protocol: u16, payload: &[u8]) {
        self.link.handle_alive(self.now);
        self.link.handle_packet(self.now, protocol, payload, &mut self.rng);
    }

    fn sent(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::iter::from_fn(|| self.link.poll_packet()).collect()
    }

    fn one(&mut self) -> (u16, Vec<u8>) {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:02x?}");
        sent.into_iter().next().unwrap()
    }

    /// Answers our only outstanding packet with `code` and the given or its own options.
    fn answer(&mut self, code: u8, options: Option<&[u8]>) {
        let (protocol, request) = self.one();
        let request = Packet::parse(&request).unwrap();
        let reply = Packet { code, id: request.id, data: options.unwrap_or(request.data) }.emit();
        self.give(protocol, &reply);
    }

    fn ack(&mut self) {
        self.answer(code::CONFIGURE_ACK, None);
    }

    /// Runs the clock to `until`, firing timers.
    fn run(&mut self, until: f64) {
        while let Some(at) = self.link.poll_timeout().filter(|at| *at <= secs(until).mono) {
            self.now = secs(at.as_secs_f64());
            self.link.handle_timeout(self.now);
        }
        self.now = secs(until);
    }

    fn open_lcp(&mut self) {
        self.ack();
        self.give(LCP, PEER_REQUEST);
        let sent = self.sent();
        assert_eq!((sent[0].0, sent[0].1[0]), (LCP, code::CONFIGURE_ACK));
        assert_eq!((sent[1].0, sent[1].1[0]), (IPCP, code::CONFIGURE_REQUEST));
        self.link.outbox.push_back(sent[1].clone());
    }

    fn open(mut self) -> Self {
        self.open_lcp();
        self.ack();
        self.give(IPCP, PEER_ADDRESS);
        self.sent();
        assert!(matches!(self.link.poll_event(), Some(Event::Opened { .. })));
        assert!(self.link.is_open());
        self
    }

    fn closed(&mut self) -> Closed {
        match self.link.poll_event() {
            Some(Event::Closed(why)) => why,
            other => panic!("{other:?}, not closed"),
        }
    }
}

fn options(pairs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    pairs.iter().for_each(|(kind, value)| emit_option(&mut out, *kind, value));
    out
}

#[test]
fn happy_path_as_captured() {
    let mut b = Bench::new();
    let (protocol, request) = b.sent().remove(0);
    assert_eq!((protocol, &request[..8]), (LCP, &[1, 1, 0, 14, 1, 4, 0x05, 0x4a][..]));
    let magic = request[10..14].to_vec();
    b.give(LCP, PEER_REQUEST);
    assert_eq!(b.one().1, [&[2, 1, 0, 10][..], &PEER_REQUEST[4..]].concat());
    b.give(LCP, &[&[2][..], &request[1..]].concat());
    assert_eq!(b.one(), (IPCP, vec![1, 1, 0, 10, 3, 6, 10, 0, 3, 1]));
    b.give(IPCP, PEER_ADDRESS);
    assert_eq!(b.one(), (IPCP, vec![2, 1, 0, 10, 3, 6, 192, 0, 2, 1]));
    assert!(!b.link.is_open());
    b.give(IPCP, &[2, 1, 0, 10, 3, 6, 10, 0, 3, 1]);
    let opened =
        Event::Opened { address: ADDRESS, peer: Some([192, 0, 2, 1].into()), dns: vec![], mtu: 1354 };
    assert_eq!(b.link.poll_event(), Some(opened));
    // Echo: our magic in the answer, and its data; our own after ten idle seconds.
    b.give(LCP, &[9, 5, 0, 9, 0x10, 0x9b, 0x22, 0x33, 0x77]);
    assert_eq!(b.one(), (LCP, [&[10, 5, 0, 9][..], &magic, &[0x77]].concat()));
    b.run(10.0);
    assert_eq!(b.one(), (LCP, [&[9, 2, 0, 8][..], &magic].concat()));
}

#[test]
fn lost_requests_are_repeated_and_at_last_given_up() {
    for lost in 0..3 {
        let mut b = Bench::new();
        for i in 0..lost {
            b.sent();
            b.run(3.0 * f64::from(i + 1));
        }
        b.open();
    }
    let mut b = Bench::new();
    b.run(60.0);
    assert_eq!(b.closed(), Closed::Fault(Fault::Timeout));
    assert_eq!(b.sent().len(), 7, "at 0, 3, .. 18 s");
    assert_eq!(b.link.poll_timeout(), None);
}

#[test]
fn peer_without_a_request_of_its_own() {
    // After the grace time ..
    let mut b = Bench::new();
    b.ack();
    b.run(1.9);
    assert!(b.sent().is_empty());
    b.run(2.0);
    b.ack();
    b.give(IPCP, PEER_ADDRESS);
    assert!(b.link.is_open());
    // .. a late request is no renegotiation.
    b.sent();
    b.give(LCP, PEER_REQUEST);
    assert_eq!(b.one().1[0], code::CONFIGURE_ACK);
    assert!(b.link.is_open());
    // The same in IPCP.
    let mut b = Bench::new();
    b.open_lcp();
    b.ack();
    b.run(1.9);
    assert!(!b.link.is_open());
    b.run(2.0);
    assert!(matches!(b.link.poll_event(), Some(Event::Opened { peer: None, .. })));
    // Or as soon as IPCP comes.
    let mut b = Bench::new();
    b.ack();
    b.give(IPCP, PEER_ADDRESS);
    let codes: Vec<_> = b.sent().iter().map(|(p, d)| (*p, d[0])).collect();
    assert_eq!(codes, [(IPCP, code::CONFIGURE_REQUEST), (IPCP, code::CONFIGURE_ACK)]);
}

#[test]
fn lcp_option_faults() {
    let mru = |b: &mut Bench| {
        let (_, request) = b.link.outbox[0].clone();
        let options = parse_options(&request[4..]).unwrap();
        options.iter().find(|o| o.kind == 1).map(|o| u16::from_be_bytes(o.value.try_into().unwrap()))
    };
    // Nak of our MRU: the lower wins. Rejects drop the option.
    for (code, option, expected) in [
        (code::CONFIGURE_NAK, options(&[(1, &1280u16.to_be_bytes())]), Some(1280)),
        (code::CONFIGURE_NAK, options(&[(1, &1500u16.to_be_bytes())]), Some(1354)),
        (code::CONFIGURE_NAK, options(&[(1, &9u16.to_be_bytes())]), Some(576)),
        (code::CONFIGURE_NAK, options(&[(1, &[1])]), Some(1354)),
        (code::CONFIGURE_REJECT, options(&[(1, &1354u16.to_be_bytes())]), None),
        (code::CONFIGURE_REJECT, options(&[(5, &[0; 4])]), Some(1354)),
    ] {
        let mut b = Bench::new();
        b.answer(code, Some(&option));
        assert_eq!(mru(&mut b), expected, "{code} {option:?}");
        assert_eq!(b.link.outbox[0].1[1], 2, "a new identifier");
        b.open();
    }
    // Requests of the peer.
    for (asked, code, answer) in [
        (options(&[(1, &9000u16.to_be_bytes())]), code::CONFIGURE_ACK, None),
        (options(&[(1, &576u16.to_be_bytes())]), code::CONFIGURE_ACK, None),
        (
            options(&[(1, &100u16.to_be_bytes())]),
            code::CONFIGURE_NAK,
            Some(options(&[(1, &1500u16.to_be_bytes())])),
        ),
        (options(&[(3, &[0xc0, 0x23])]), code::CONFIGURE_REJECT, None),
        (options(&[(8, &[]), (5, &[1; 4])]), code::CONFIGURE_REJECT, Some(options(&[(8, &[])]))),
        (options(&[]), code::CONFIGURE_ACK, None),
    ] {
        let mut b = Bench::new();
        b.sent();
        b.give(LCP, &Packet { code: 1, id: 9, data: &asked }.emit());
        assert_eq!(b.one().1, Packet { code, id: 9, data: &answer.unwrap_or(asked) }.emit());
    }
    // Malformed options: no answer, no effect.
    for bad in [&[1, 9, 0, 6, 1, 0][..], &[1, 9, 0, 6, 1, 1], &[1, 9, 0, 6, 1, 9], &[1, 9, 0, 99]] {
        let mut b = Bench::new();
        b.sent();
        b.give(LCP, bad);
        assert!(b.sent().is_empty());
        b.run(3.0);
        b.open();
    }
}

#[test]
fn a_small_mru_of_the_peer_limits_both_ways() {
    let mut b = Bench::new();
    b.ack();
    b.give(LCP, &Packet { code: 1, id: 1, data: &options(&[(1, &1280u16.to_be_bytes())]) }.emit());
    b.link.outbox.pop_front();
    b.ack();
    b.give(IPCP, PEER_ADDRESS);
    assert!(matches!(b.link.poll_event(), Some(Event::Opened { mtu: 1280, .. })));
}

#[test]
fn looped_line_is_noticed() {
    let mut b = Bench::new();
    for _ in 0..20 {
        for (protocol, packet) in b.sent() {
            b.give(protocol, &packet);
        }
    }
    assert_eq!(b.closed(), Closed::Fault(Fault::Loopback));
}

#[test]
fn stale_altered_and_stormy_answers() {
    let mut b = Bench::new();
    let (_, request) = b.sent().remove(0);
    let mut stale = request.clone();
    (stale[0], stale[1]) = (code::CONFIGURE_ACK, 77);
    b.give(LCP, &stale);
    let mut altered = request.clone();
    altered[0] = code::CONFIGURE_ACK;
    altered[7] ^= 1;
    b.give(LCP, &altered);
    assert!(!b.link.lcp.is_half_open());
    let mut good = request;
    good[0] = code::CONFIGURE_ACK;
    b.give(LCP, &good);
    b.give(LCP, &good);
    assert!(b.link.lcp.is_half_open());

    let mut b = Bench::new();
    for _ in 0..10 {
        b.answer(code::CONFIGURE_NAK, Some(&options(&[(1, &1500u16.to_be_bytes())])));
    }
    b.answer(code::CONFIGURE_NAK, Some(&[]));
    assert_eq!(b.closed(), Closed::Fault(Fault::NotConverging));
}

#[test]
fn ipcp_option_faults() {
    let other = Ipv4Addr::new(10, 0, 3, 99);
    let asking = Settings { mru: 1354, address: ADDRESS, ask_dns: true };
    let dns = |a: u8| -> (u8, [u8; 4]) { (a, [172, 29, 0, a]) };
    let (d1, d2) = (dns(129), dns(131));
    for (code, refused, result) in [
        (code::CONFIGURE_NAK, options(&[(3, &other.octets())]), Ok((other, vec![]))),
        (code::CONFIGURE_NAK, options(&[(3, &[0; 4])]), Err(Fault::NoAddress)),
        (code::CONFIGURE_REJECT, options(&[(3, &[0; 4])]), Err(Fault::NoAddress)),
        (code::CONFIGURE_REJECT, options(&[(129, &[0; 4]), (131, &[0; 4])]), Ok((ADDRESS, vec![]))),
        (code::CONFIGURE_NAK, options(&[(129, &[0; 4])]), Ok((ADDRESS, vec![]))),
        (
            code::CONFIGURE_NAK,
            options(&[(d1.0, &d1.1), (d2.0, &d2.1)]),
            Ok((ADDRESS, vec![d1.1.into(), d2.1.into()])),
        ),
    ] {
        let mut b = Bench::with(asking);
        b.open_lcp();
        b.answer(code, Some(&refused));
        match result {
            Err(fault) => assert_eq!(b.closed(), Closed::Fault(fault)),
            Ok((address, dns)) => {
                b.ack();
                b.give(IPCP, PEER_ADDRESS);
                let peer = Some(Ipv4Addr::new(192, 0, 2, 1));
                assert_eq!(b.link.poll_event(), Some(Event::Opened { address, peer, dns, mtu: 1354 }));
            }
        }
    }
    // The peer's side: VJ rejected, any address acknowledged (also ours), deprecated addresses if the second is ours.
    let mut b = Bench::new();
    b.open_lcp();
    b.sent();
    let vj = [2, 6, 0, 0x2d, 0x0f, 1];
    let pair = [[192, 0, 2, 1], ADDRESS.octets()].concat();
    for (asked, code, answer) in [
        ([&vj[..], &[3, 6, 1, 2, 3, 4]].concat(), code::CONFIGURE_REJECT, vj.to_vec()),
        (options(&[(3, &ADDRESS.octets())]), code::CONFIGURE_ACK, options(&[(3, &ADDRESS.octets())])),
        (options(&[(1, &[0; 8])]), code::CONFIGURE_REJECT, options(&[(1, &[0; 8])])),
        (options(&[(1, &pair)]), code::CONFIGURE_ACK, options(&[(1, &pair)])),
        (vec![], code::CONFIGURE_ACK, vec![]),
    ] {
        b.give(IPCP, &Packet { code: 1, id: 3, data: &asked }.emit());
        assert_eq!(b.one(), (IPCP, Packet { code, id: 3, data: &answer }.emit()));
    }
    // Rejects do not go on for ever.
    let mut b = Bench::new();
    b.open_lcp();
    b.ack();
    for id in 1..=11 {
        b.give(IPCP, &Packet { code: 1, id, data: &vj }.emit());
    }
    assert_eq!((b.sent().len(), b.closed()), (10, Closed::Fault(Fault::NotConverging)));
}

#[test]
fn unknown_protocols_and_codes_are_rejected_at_a_bounded_rate() {
    let mut b = Bench::new().open();
    b.give(0x80fd, &[1, 1, 0, 4]);
    let (protocol, packet) = b.one();
    assert_eq!((protocol, &packet[..]), (LCP, &[8, 2, 0, 10, 0x80, 0xfd, 1, 1, 0, 4][..]));
    b.give(LCP, &[99, 1, 0, 4]);
    assert_eq!(b.one().1, [7, 3, 0, 8, 99, 1, 0, 4]);
    for _ in 0..1000 {
        b.give(LCP, &[9, 5, 0, 8, 1, 2, 3, 4]);
        b.give(0x8235, &[1]);
    }
    assert_eq!(b.sent().len(), 8);
    assert!(b.link.is_open());
    // Its own rejects end only what they name.
    b.give(LCP, &[8, 9, 0, 10, 0x80, 0x57, 1, 1, 0, 4]);
    assert!(b.link.is_open());
    b.give(LCP, &[8, 9, 0, 10, 0x80, 0x21, 1, 1, 0, 4]);
    assert_eq!(b.closed(), Closed::Fault(Fault::Refused));
}

#[test]
fn echo_death_and_liveness_by_any_frame() {
    let mut b = Bench::new().open();
    for t in 1..30 {
        b.run(f64::from(t) * 9.0);
        b.link.handle_alive(b.now);
    }
    assert!(b.sent().is_empty() && b.link.is_open(), "data keeps it alive without echoes");
    b.run(9.0 * 29.0 + 29.0);
    assert_eq!(b.closed(), Closed::Unanswered);
    assert_eq!(b.sent().len(), 3);
}

#[test]
fn terminate_both_ways() {
    let mut b = Bench::new().open();
    b.give(LCP, b"\x05\x06\x00\x0aidle\x1b\n");
    assert_eq!(b.one().1, [6, 6, 0, 4]);
    assert_eq!(b.closed(), Closed::ByPeer("idle".into()));

    let mut b = Bench::new().open();
    b.link.close(b.now);
    assert_eq!(b.one().1, [5, 2, 0, 4]);
    assert!(!b.link.is_open());
    b.give(LCP, &[6, 2, 0, 4]);
    assert_eq!(b.closed(), Closed::ByUs);

    let mut b = Bench::new().open();
    b.link.close(b.now);
    b.run(1.0);
    assert_eq!(b.closed(), Closed::ByUs);
    assert_eq!(b.now.mono, Duration::from_secs(1));
}

#[test]
fn renegotiation_holds_packets_and_opens_again() {
    let mut b = Bench::new().open();
    b.give(LCP, PEER_REQUEST);
    assert_eq!(b.one().1[0], code::CONFIGURE_ACK);
    assert!(b.link.is_open(), "a repeated request is only answered again");
    b.give(LCP, &[1, 2, 0, 10, 5, 6, 1, 1, 1, 1]);
    assert_eq!(b.link.poll_event(), Some(Event::Renegotiating));
    assert!(!b.link.is_open());
    let sent = b.sent();
    assert_eq!(sent.iter().map(|(_, d)| d[0]).collect::<Vec<_>>(), [1, 2]);
    b.link.outbox.push_back(sent[0].clone());
    b.ack();
    b.ack();
    b.give(IPCP, PEER_ADDRESS);
    assert!(matches!(b.link.poll_event(), Some(Event::Opened { .. })));
}

#[test]
fn sweeps_do_not_panic() {
    let samples: [(u16, &[u8]); 6] = [
        (LCP, PEER_REQUEST),
        (LCP, &[3, 1, 0, 8, 1, 4, 5, 0]),
        (LCP, &[9, 5, 0, 8, 1, 2, 3, 4]),
        (LCP, &[8, 2, 0, 10, 0x80, 0x57, 1, 1, 0, 4]),
        (IPCP, PEER_ADDRESS),
        (IPCP, &[3, 1, 0, 10, 3, 6, 10, 0, 3, 7]),
    ];
    for (protocol, sample) in samples {
        for len in 0..sample.len() {
            let mut b = Bench::new();
            b.give(protocol, &sample[..len]);
            let mut b = Bench::new().open();
            b.give(protocol, &sample[..len]);
        }
        for i in 0..sample.len() {
            for value in 0..=255 {
                let mut bytes = sample.to_vec();
                bytes[i] = value;
                let mut b = Bench::new();
                b.open_lcp();
                b.give(protocol, &bytes);
                b.run(30.0);
            }
        }
    }
}
