//! Faults that last: F01, F13, F17, F22, F30, F31, F34 and F42 at the core of the uplink, with a clock that the test sets.

use std::time::Duration;

use pterodapter::base::{Now, Random};
use pterodapter::crypto::Secret;
use pterodapter::fortivpn::{
    CloseReason, Config, Credentials, DownReason, Error, Event, Input, Output, Question, Session,
};

const XML: &str = "<sslvpn-tunnel><auth-ses tun-connect-without-reauth='1' tun-user-ses-timeout='240'/>\
    <ipv4><dns ip='10.77.0.53'/><assigned-addr ipv4='10.212.134.200'/></ipv4><auth-timeout val='28800'/></sslvpn-tunnel>";
const COOKIE: &str = "Set-Cookie: SVPNCOOKIE=abc; path=/\r\n";
const DATA: &[u8] =
    b"\x00\x1c\x50\x50\x00\x16\x00\x21\x45\x00\x00\x14\0\0\0\0\x40\x01\0\0\x0a\x4d\0\x50\x0a\xd4\x86\xc8";

struct Dice(u8);

impl Random for Dice {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(17);
            *byte = self.0;
        }
    }
}

/// What the gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    /// No connection comes about.
    Away,
    /// It works.
    Healthy,
    /// It asks for a push, and says nothing more.
    Push,
    /// It takes requests and data, and says nothing.
    Silent,
    /// It answers all but echoes.
    NoEchoes,
    /// It signs in, and has no configuration for the moment.
    Busy,
}

/// The core and a gateway in memory.
struct Bench {
    session: Session,
    gateway: Gateway,
    mono: Duration,
    slept: Duration,
    tunnel: bool,
    posts: usize,
    connects: Vec<Duration>,
    echoes: Vec<Duration>,
    ups: usize,
    downs: Vec<(Duration, DownReason)>,
    failed: Option<(Duration, Error)>,
    links: Vec<(Duration, Option<Duration>)>,
    notes: Vec<Event>,
    questions: Vec<Question>,
}

impl Bench {
    fn new(credentials: Credentials, gateway: Gateway) -> Self {
        let config = Config::new("gw.example", 443, credentials);
        let mut bench = Self {
            session: Session::new(config, Box::new(Dice(1))),
            gateway,
            mono: Duration::from_secs(1000),
            slept: Duration::ZERO,
            tunnel: false,
            posts: 0,
            connects: Vec::new(),
            echoes: Vec::new(),
            ups: 0,
            downs: Vec::new(),
            failed: None,
            links: Vec::new(),
            notes: Vec::new(),
            questions: Vec::new(),
        };
        bench.handle(Input::Start);
        bench
    }

    fn password(gateway: Gateway) -> Self {
        let password = Some(Secret::from(&b"correct horse"[..]));
        Self::new(Credentials::Password { username: "alice".into(), password }, gateway)
    }

    fn now(&self) -> Now {
        let boot = self.mono + self.slept;
        Now { mono: self.mono, boot, wall: boot + Duration::from_secs(1_700_000_000) }
    }

    fn handle(&mut self, input: Input) {
        self.session.handle(self.now(), input);
        self.settle();
    }

    /// The gateway sends these octets.
    fn give(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(self.now(), &mut bytes.to_vec(), &mut |_| {});
    }

    fn respond(&mut self, headers: &str, body: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        self.give(answer.as_bytes());
    }

    /// Lets time pass, in the order of the timers.
    fn run(&mut self, time: Duration) {
        let until = self.mono + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.mono = self.mono.max(at);
            self.session.handle_timeout(self.now());
            self.settle();
        }
        self.mono = until;
    }

    fn settle(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    self.connects.push(self.mono);
                    let input = match self.gateway {
                        Gateway::Away => Input::Closed(CloseReason::Refused("nobody listens".into())),
                        _ => Input::Connected,
                    };
                    self.session.handle(self.now(), input);
                }
                Output::Disconnect { .. } => self.tunnel = false,
                Output::Write(bytes) => self.receive(&bytes),
                Output::Up(_) => self.ups += 1,
                Output::Down(reason) => self.downs.push((self.mono, reason)),
                Output::Failed(error) => self.failed = Some((self.mono, error)),
                Output::LoginNeeded { left, .. } => self.links.push((self.mono, left)),
                Output::Ask(question) => self.questions.push(question),
                Output::Note(event) => self.notes.push(event),
                Output::LoginDone | Output::Stopped => {}
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let is = |start: &str| bytes.starts_with(start.as_bytes());
        self.posts += usize::from(is("POST "));
        match self.gateway {
            Gateway::Silent if is("GET /remote/sslvpn-tunnel") => self.tunnel = true,
            Gateway::Silent | Gateway::Away => {}
            Gateway::Push if is("POST ") && self.posts == 1 => self.respond(
                "",
                "ret=2,reqid=139361911,polid=1-3-8e4d197,grp=,portal=,peer=,magic=3-8e4d197,tokeninfo=ftm_push,chal_msg=x",
            ),
            Gateway::Push if is("POST ") => {}
            _ if is("POST ") => self.respond(COOKIE, "ret=1,redir=/remote/index"),
            _ if is("GET /remote/saml/auth_id") => self.respond(COOKIE, ""),
            Gateway::Busy if is("GET /remote/fortisslvpn_xml") => {
                self.give(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
            }
            _ if is("GET /remote/fortisslvpn_xml") => self.respond("", XML),
            _ if is("GET /remote/sslvpn-tunnel") => self.tunnel = true,
            _ if is("GET ") => self.respond("", ""),
            _ => self.receive_frames(bytes),
        }
    }

    /// PPP as a FortiGate speaks it.
    fn receive_frames(&mut self, mut bytes: &[u8]) {
        while let [high, low, 0x50, 0x50, _, _, protocol @ ..] = bytes {
            let total = usize::from(u16::from_be_bytes([*high, *low]));
            let packet = &protocol[..total - 6];
            bytes = &bytes[total..];
            let (protocol, code, id) = (u16::from_be_bytes([packet[0], packet[1]]), packet[2], packet[3]);
            let own: &[u8] = match protocol {
                0xc021 => &[5, 6, 1, 2, 3, 4],
                _ => &[3, 6, 192, 0, 2, 1],
            };
            match (protocol, code) {
                (0xc021 | 0x8021, 1) => {
                    self.control(protocol, 2, id, &packet[6..]);
                    self.control(protocol, 1, 1, own);
                }
                (0xc021, 9) => {
                    self.echoes.push(self.mono);
                    if self.gateway != Gateway::NoEchoes {
                        self.control(protocol, 10, id, &[1, 2, 3, 4]);
                    }
                }
                _ => {}
            }
        }
    }

    fn control(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) {
        let size = data.len() as u16 + 6;
        let header =
            [(size + 6).to_be_bytes(), [0x50, 0x50], size.to_be_bytes(), protocol.to_be_bytes()].concat();
        self.give(&[&header, &[code, id][..], &(size - 2).to_be_bytes(), data].concat());
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn f01_a_gateway_that_is_away_is_tried_for_ever_and_nothing_is_sent() {
    let mut bench = Bench::password(Gateway::Away);
    bench.run(secs(3600));
    let gaps: Vec<_> = bench.connects.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() > 50, "{gaps:?}");
    assert!(gaps[0] <= secs(2) && gaps.iter().all(|gap| *gap <= secs(72)), "{gaps:?}");
    assert!(gaps[10..].iter().all(|gap| *gap >= secs(48)), "{gaps:?}");
    assert_eq!((bench.posts, bench.failed.as_ref()), (0, None));
    bench.gateway = Gateway::Healthy;
    bench.run(secs(73));
    assert_eq!((bench.posts, bench.ups), (1, 1));
    // What was refused before does not count any more: the next drop is got over at once.
    bench.run(secs(120));
    bench.tunnel = false;
    bench.handle(Input::Closed(CloseReason::Eof));
    bench.run(secs(1));
    assert_eq!((bench.posts, bench.ups), (1, 2));
}

#[test]
fn f13_a_push_that_is_approved_after_55_s_works() {
    for seconds in [55, 115] {
        let mut bench = Bench::password(Gateway::Push);
        assert_eq!(bench.posts, 2);
        assert!(bench.notes.contains(&Event::ApproveOnPhone));
        bench.run(secs(seconds));
        assert_eq!((bench.posts, bench.failed.as_ref()), (2, None));
        bench.gateway = Gateway::Healthy;
        bench.respond(COOKIE, "ret=1,redir=/remote/index");
        bench.settle();
        assert_eq!((bench.posts, bench.ups), (2, 1));
    }
}

#[test]
fn f13_a_push_that_nobody_approves_is_told_in_time() {
    let mut bench = Bench::password(Gateway::Push);
    bench.run(secs(400));
    let (at, error) = bench.failed.clone().unwrap();
    assert_eq!((error, bench.posts), (Error::PushTimeout, 2));
    assert!(at - secs(1000) <= secs(310), "{at:?}");
    bench.run(secs(3600));
    assert_eq!(bench.posts, 2);
}

#[test]
fn f17_a_trade_that_takes_20_s_works_and_one_that_takes_for_ever_does_not_hang() {
    let mut bench = Bench::new(Credentials::Saml, Gateway::Healthy);
    assert_eq!(bench.links.len(), 1);
    bench.gateway = Gateway::Silent;
    bench.handle(Input::SamlId("6c1f0a9e".into()));
    bench.run(secs(20));
    bench.gateway = Gateway::Healthy;
    bench.respond(COOKIE, "");
    bench.settle();
    assert_eq!((bench.ups, bench.links.len()), (1, 1));

    let mut bench = Bench::new(Credentials::Saml, Gateway::Healthy);
    bench.gateway = Gateway::Silent;
    bench.handle(Input::SamlId("6c1f0a9e".into()));
    bench.run(secs(60));
    assert_eq!((bench.ups, bench.links.len()), (0, 2), "a new sign-in is asked for");
}

#[test]
fn f22_silence_in_place_of_frames_is_given_up_after_20_s() {
    let mut bench = Bench::password(Gateway::Healthy);
    bench.gateway = Gateway::Silent;
    bench.handle(Input::Closed(CloseReason::Eof));
    bench.run(secs(1));
    assert_eq!((bench.ups, bench.connects.len()), (1, 2));
    bench.run(secs(18));
    assert_eq!((bench.ups, bench.connects.len()), (1, 2), "still waiting");
    bench.run(Duration::from_millis(1800));
    bench.gateway = Gateway::Healthy;
    bench.run(secs(30));
    assert_eq!((bench.ups, bench.posts), (2, 2), "a new sign-in and a new tunnel");
}

#[test]
fn f30_a_gateway_that_answers_no_echo_is_alive_while_data_flows() {
    let mut bench = Bench::password(Gateway::NoEchoes);
    for _ in 0..1000 {
        bench.run(secs(25));
        bench.give(DATA);
    }
    assert_eq!((bench.ups, bench.downs.len()), (1, 0));
    assert!(bench.echoes.len() >= 1000);
    bench.run(secs(30));
    assert_eq!(bench.downs.len(), 1, "in silence it is not");
}

#[test]
fn f31_silence_is_noticed_within_30_s_wherever_it_begins() {
    for start in 0..30 {
        let mut bench = Bench::password(Gateway::Healthy);
        bench.run(secs(start));
        let since = bench.mono;
        bench.gateway = Gateway::Silent;
        bench.run(secs(31));
        let (at, reason) = bench.downs[0].clone();
        assert_eq!(reason, DownReason::Unanswered);
        assert!(at - since <= secs(30), "{start}: {:?}", at - since);
    }
}

#[test]
fn f34_the_end_of_a_session_is_told_in_time() {
    let mut bench = Bench::new(Credentials::Saml, Gateway::Healthy);
    bench.handle(Input::SamlId("6c1f0a9e".into()));
    assert_eq!(bench.ups, 1);
    let since = bench.mono;
    bench.run(secs(28_799));
    let told: Vec<_> =
        bench.links[1..].iter().map(|(at, left)| (at.saturating_sub(since), left.unwrap())).collect();
    let near = |time: Duration, wanted: u64| time >= secs(wanted - 2) && time <= secs(wanted + 2);
    assert!(told.iter().any(|(at, left)| near(*at, 28_200) && near(*left, 600)), "{told:?}");
    assert_eq!(bench.downs.len(), 0, "the tunnel is up all the time");
    // With a password nobody has to do anything.
    let mut bench = Bench::password(Gateway::Healthy);
    bench.run(secs(28_800));
    bench.tunnel = false;
    bench.handle(Input::Closed(CloseReason::Eof));
    bench.run(secs(3));
    assert_eq!((bench.posts, bench.ups, bench.links.len()), (2, 2, 0));
}

#[test]
fn f38_a_fresh_session_is_not_left_to_die_however_many_tunnels_were_lost_before() {
    let mut bench = Bench::password(Gateway::Healthy);
    for lost in 1..8 {
        bench.control(0xc021, 5, 9, b"");
        bench.settle();
        if lost == 7 {
            bench.gateway = Gateway::Busy;
        }
        // Sign-ins in a row are up to a minute apart ...
        let posts = bench.posts;
        while bench.posts == posts {
            bench.run(secs(1));
        }
        bench.run(secs(2));
    }
    // ... but a cookie that has no tunnel yet dies within half a minute.
    let (ups, posts) = (bench.ups, bench.posts);
    bench.gateway = Gateway::Healthy;
    bench.run(secs(5));
    assert_eq!((bench.ups, bench.posts), (ups + 1, posts));
}

#[test]
fn f42_an_hour_of_sleep_is_no_false_death_and_a_real_one_is_seen_at_once() {
    for dies in [false, true] {
        let mut bench = Bench::password(Gateway::Healthy);
        bench.run(secs(100));
        let before = bench.echoes.len();
        // The monotonic clock stands still meanwhile; timers fire when the host is awake.
        bench.slept += secs(3600);
        if dies {
            bench.gateway = Gateway::Silent;
        }
        bench.session.handle_timeout(bench.now());
        bench.settle();
        assert_eq!(bench.downs.len(), 0);
        if dies {
            bench.run(secs(5));
            assert_eq!(bench.downs.len(), 1, "three questions in three seconds");
        } else {
            assert_eq!(bench.echoes.len(), before + 1, "one question");
            bench.run(secs(60));
            assert_eq!((bench.downs.len(), bench.ups, bench.posts), (0, 1, 1));
        }
    }
    // A clock that runs on in sleep, and a leap of the wall clock, are no deaths either.
    let mut bench = Bench::password(Gateway::Healthy);
    bench.run(secs(100));
    bench.mono += secs(3600);
    bench.run(secs(60));
    assert_eq!((bench.downs.len(), bench.ups), (0, 1));
}
