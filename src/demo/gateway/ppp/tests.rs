use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);

/// A link and the packets that it sends, without their frame header.
struct Link(Ppp);

impl Link {
    fn new(knobs: PppKnobs) -> Self {
        let dns = vec![Ipv4Addr::new(172, 29, 0, 25), Ipv4Addr::new(172, 29, 0, 26)];
        Self(Ppp::new(knobs, ADDRESS, dns, [0x10, 0x9b, 0x22, 0x33]))
    }

    fn send(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Frames::default();
        self.0.handle(Duration::ZERO, packet, &mut out);
        out.iter().map(|frame| frame[6..].to_vec()).collect()
    }

    fn open(&mut self) {
        self.send(b"\xc0\x21\x01\x01\x00\x0a\x05\x06\xde\xad\xbe\xef");
        self.send(b"\xc0\x21\x02\x01\x00\x0a\x05\x06\x10\x9b\x22\x33");
        self.send(b"\x80\x21\x01\x01\x00\x0a\x03\x06\x0a\x00\x03\x01");
        self.send(b"\x80\x21\x02\x01\x00\x0a\x03\x06\xc0\x00\x02\x01");
        assert!(self.0.is_up());
    }
}

#[test]
fn negotiates_as_in_the_captured_exchange() {
    let mut link = Link::new(PppKnobs::default());
    let lcp = link.send(b"\xff\x03\xc0\x21\x01\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef");
    assert_eq!(
        lcp,
        [
            b"\xc0\x21\x01\x01\x00\x0a\x05\x06\x10\x9b\x22\x33".as_slice(),
            b"\xc0\x21\x02\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef",
        ],
        "request and Ack together"
    );
    let ipcp = link.send(b"\xc0\x21\x02\x01\x00\x0a\x05\x06\x10\x9b\x22\x33");
    assert_eq!(ipcp, [b"\x80\x21\x01\x01\x00\x0a\x03\x06\xc0\x00\x02\x01"]);
    let nak = link.send(
        b"\x80\x21\x01\x01\x00\x16\x03\x06\x0a\x00\x03\x01\x81\x06\x00\x00\x00\x00\x83\x06\x00\x00\x00\x00",
    );
    assert_eq!(
        nak,
        [b"\x80\x21\x03\x01\x00\x10\x81\x06\xac\x1d\x00\x19\x83\x06\xac\x1d\x00\x1a".as_slice()],
        "the DNS servers only"
    );
    let mut out = Frames::default();
    link.send(b"\x80\x21\x01\x02\x00\x0a\x03\x06\x0a\x00\x03\x01");
    assert!(!link.0.is_up());
    let up = link.0.handle(Duration::ZERO, b"\x80\x21\x02\x01\x00\x0a\x03\x06\xc0\x00\x02\x01", &mut out);
    assert_eq!(up, Received::Up);
}

#[test]
fn refuses_what_a_fortigate_refuses() {
    let mut link = Link::new(PppKnobs::default());
    let answers = link
        .send(b"\xc0\x21\x01\x01\x00\x10\x02\x06\x00\x00\x00\x00\x07\x02\x08\x02\x05\x06\x01\x02\x03\x04");
    assert!(answers.is_empty() || answers.len() == 1, "a length that lies is no request: {answers:x?}");
    let answers =
        link.send(b"\xc0\x21\x01\x01\x00\x12\x02\x06\x00\x00\x00\x00\x07\x02\x08\x02\x05\x04\x01\x02");
    assert_eq!(answers, [b"\xc0\x21\x04\x01\x00\x0e\x02\x06\x00\x00\x00\x00\x07\x02\x08\x02"], "Reject only");
    link.open();
    assert_eq!(
        link.send(b"\x80\x57\x01\x01\x00\x04"),
        [b"\xc0\x21\x08\x01\x00\x0a\x80\x57\x01\x01\x00\x04"],
        "Protocol-Reject of IPV6CP"
    );
    assert_eq!(
        link.send(b"\x80\xfd\x01\x01\x00\x08\x1a\x04\x78\x00"),
        [b"\x80\xfd\x04\x01\x00\x08\x1a\x04\x78\x00"]
    );
    assert_eq!(
        link.send(b"\xc0\x21\x09\x05\x00\x08\xde\xad\xbe\xef"),
        [b"\xc0\x21\x0a\x05\x00\x08\x10\x9b\x22\x33"]
    );
}

#[test]
fn insists_on_its_address_then_tries_the_old_option() {
    let mut link = Link::new(PppKnobs::default());
    link.send(b"\xc0\x21\x01\x01\x00\x0a\x05\x06\xde\xad\xbe\xef");
    let mut last = link.send(b"\xc0\x21\x02\x01\x00\x0a\x05\x06\x10\x9b\x22\x33");
    for _ in 0..u32::from(LAST_ADDRESS_ID) {
        let id = last[0][3];
        last = link.send(&[0x80, 0x21, 3, id, 0, 10, 3, 6, 169, 254, 2, 1]);
    }
    assert_eq!(last, [b"\x80\x21\x01\x66\x00\x0a\x03\x06\xc0\x00\x02\x01"]);
    last = link.send(b"\x80\x21\x03\x66\x00\x0a\x03\x06\xa9\xfe\x02\x01");
    assert_eq!(last, [b"\x80\x21\x01\x67\x00\x0e\x01\x0a\xc0\x00\x02\x01\x0a\x00\x03\x01"]);
    last = link.send(b"\x80\x21\x04\x67\x00\x0e\x01\x0a\xc0\x00\x02\x01\x0a\x00\x03\x01");
    assert_eq!(last, [b"\x80\x21\x01\x68\x00\x04"], "nothing left to ask for");
}

const REQUEST: &[u8] = b"\xc0\x21\x01\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef";
const IPCP_REQUEST: &[u8] = b"\x80\x21\x01\x01\x00\x0a\x03\x06\x0a\x00\x03\x01";

/// What a link with `knobs` answers to the first LCP request, after its own request if it makes one.
fn first(knobs: PppKnobs) -> Vec<Vec<u8>> {
    Link::new(knobs).send(REQUEST)
}

#[test]
fn lcp_as_odd_as_wanted() {
    let usual = PppKnobs::default;
    let nak = [b"\xc0\x21\x03\x01\x00\x08\x01\x04\x05\x00"];
    assert_eq!(first(PppKnobs { mru: Mru::Nak(1280), ..usual() })[1..], nak);
    assert_eq!(first(PppKnobs { magic: Magic::Reject, ..usual() })[1][..3], *b"\xc0\x21\x04");
    assert!(first(PppKnobs { magic: Magic::Same, ..usual() })[0].ends_with(b"\xde\xad\xbe\xef"));
    let asks = first(PppKnobs { ask_field_compression: true, own_mru: Some(576), ..usual() });
    assert_eq!(asks[0][6..10], *b"\x01\x04\x02\x40");
    assert!(asks[0].ends_with(b"\x07\x02\x08\x02"));
    assert!(first(PppKnobs { more_options: vec![5, 0], ..usual() })[0].ends_with(&[5, 0]));
    let stale = first(PppKnobs { acks: Acks::StaleFirst, ..usual() });
    assert_eq!((stale[1][3], stale[2][3]), (0, 1));
    assert_eq!(first(PppKnobs { acks: Acks::Twice, ..usual() }).len(), 3);

    let mut link = Link::new(PppKnobs { acks: Acks::AlteredFirst, ..usual() });
    assert_ne!(link.send(REQUEST)[1][6..], REQUEST[6..]);
    assert_eq!(link.send(REQUEST)[0][6..], REQUEST[6..]);

    let mut link = Link::new(PppKnobs { lcp_naks: 100, ..usual() });
    for _ in 0..100 {
        assert_eq!(link.send(REQUEST).last().unwrap()[..3], *b"\xc0\x21\x03");
    }
    assert_eq!(link.send(REQUEST)[0][..3], *b"\xc0\x21\x02");
    let magic = link.send(b"\xc0\x21\x03\x01\x00\x0a\x05\x06\x01\x02\x03\x04");
    assert_eq!((magic[0].len(), magic[0][..4].to_vec()), (12, b"\xc0\x21\x01\x02".to_vec()));
}

#[test]
fn ipcp_and_echo_as_odd_as_wanted() {
    let usual = PppKnobs::default;
    let answer = |knobs: PppKnobs| {
        let mut link = Link::new(knobs);
        link.send(REQUEST);
        let asked = link.send(b"\xc0\x21\x02\x01\x00\x0a\x05\x06\x10\x9b\x22\x33").remove(0);
        (asked, link.send(IPCP_REQUEST).remove(0), link)
    };
    let (_, rejected, _) = answer(PppKnobs { reject_address: true, ..usual() });
    assert_eq!(rejected, b"\x80\x21\x04\x01\x00\x0a\x03\x06\x0a\x00\x03\x01");
    let (asked, _, mut link) = answer(PppKnobs { insist_on_pair: true, ..usual() });
    assert_eq!(asked[6..8], [1, 10]);
    let again = link.send(b"\x80\x21\x04\x01\x00\x0e\x01\x0a\xc0\x00\x02\x01\x0a\x00\x03\x01");
    assert_eq!(again[0][6..], asked[6..]);
    let (_, nak, mut link) = answer(PppKnobs { ipcp_naks: 1, dns: DnsOffer::Zero, ..usual() });
    assert_eq!(nak[..3], *b"\x80\x21\x03");
    let dns = link.send(b"\x80\x21\x01\x02\x00\x0a\x81\x06\x00\x00\x00\x00");
    assert_eq!(dns, [b"\x80\x21\x03\x02\x00\x0a\x81\x06\x00\x00\x00\x00"]);
    let (_, _, mut link) = answer(PppKnobs { ipv6: Some([1; 8]), ..usual() });
    let ipv6 = link.send(b"\x80\x57\x01\x01\x00\x0e\x01\x0a\x00\x00\x00\x00\x00\x00\x00\x02");
    assert_eq!((ipv6[0][2], ipv6[1][2]), (1, 2), "request and Ack");

    let echo = b"\xc0\x21\x09\x05\x00\x08\xde\xad\xbe\xef";
    let (_, _, mut link) = answer(PppKnobs { echo: Echo::WrongId, ack_terminate: false, ..usual() });
    assert_eq!(link.send(echo)[0][3], 105);
    assert!(link.send(b"\xc0\x21\x05\x06\x00\x04").is_empty());
    let (_, _, mut link) = answer(PppKnobs { echo: Echo::WrongMagic, ..usual() });
    assert_ne!(link.send(echo)[0][6..], link.0.magic);
}

#[test]
fn no_packet_breaks_it() {
    let samples: [&[u8]; 4] = [
        b"\xc0\x21\x01\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef",
        b"\x80\x21\x01\x01\x00\x0a\x03\x06\x0a\x00\x03\x01",
        b"\x80\xfd\x01\x01\x00\x08\x1a\x04\x78\x00",
        b"\xc0\x21\x09\x05\x00\x08\xde\xad\xbe\xef",
    ];
    for sample in samples {
        for at in 0..sample.len() {
            let mut link = Link::new(PppKnobs::default());
            link.open();
            link.send(&sample[..at]);
            for bit in 0..8 {
                let mut packet = sample.to_vec();
                packet[at] ^= 1 << bit;
                link.send(&packet);
            }
        }
    }
}
