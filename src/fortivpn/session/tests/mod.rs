//! Sessions against a scripted gateway in memory, with a virtual clock.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::fortivpn::SecondFactor;
use crate::fortivpn::config;
use crate::wire::ppp::{Packet, code, protocol};

struct Middle;

impl Random for Middle {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0x80);
    }
}

/// What the gateway does with a request.
#[derive(Clone)]
enum Reply {
    /// A whole response.
    Http(String),
    /// Closes.
    Close(CloseReason),
    /// Nothing, ever.
    Silence,
    /// The tunnel opens.
    Tunnel,
}

use Reply::{Close, Http, Silence, Tunnel as Open};

fn ok(cookie: &str, body: &str) -> Reply {
    let head =
        if cookie.is_empty() { String::new() } else { format!("Set-Cookie: {cookie}; path=/; secure\r\n") };
    let chunk = if body.is_empty() { String::new() } else { format!("{:x}   \r\n{body}\r\n", body.len()) };
    Http(format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n0\r\n\r\n"))
}

fn status(line: &str) -> Reply {
    Http(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
}

fn accepted(cookie: &str) -> Reply {
    ok(&format!("SVPNCOOKIE={cookie}"), "ret=1,redir=/remote/index")
}

fn denied() -> Reply {
    ok("SVPNCOOKIE=", "ret=0,redir=/remote/login?&err=sslvpn_login_permission_denied&lang=en")
}

fn xml(address: &str, reuse: u8) -> Reply {
    ok(
        "",
        &format!(
            "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2'><auth-ses check-src-ip='1' \
             tun-connect-without-reauth='{reuse}' tun-user-ses-timeout='30' /><ipv4><dns ip='172.29.0.25' />\
             <assigned-addr ipv4='{address}' /></ipv4></sslvpn-tunnel>"
        ),
    )
}

/// A session and its gateway.
struct Bench {
    session: Session,
    now: Now,
    /// Replies by path; the last one of a path is repeated.
    script: HashMap<&'static str, Vec<Reply>>,
    /// What happens to connections; empty means they come up.
    refuse: Vec<CloseReason>,
    /// Path with query and cookie of each request, in order.
    requests: Vec<String>,
    /// Outputs but writes and connects.
    events: Vec<Output>,
    connects: usize,
    connected: bool,
    /// The gateway answers on the tunnel.
    alive: bool,
    nak_address: Option<Ipv4Addr>,
    packets: Vec<Vec<u8>>,
}

const PASSWORD: &str = "correct horse&";

impl Bench {
    fn new(credentials: Credentials) -> Self {
        let config = Config { realm: Some("staff".into()), ..Config::new("gw.example", 10443, credentials) };
        let now = Now { mono: Duration::ZERO, boot: Duration::ZERO, wall: Duration::ZERO };
        let script = HashMap::from([
            ("/remote/logincheck", vec![accepted("c1")]),
            ("/remote/saml/auth_id", vec![accepted("s1")]),
            ("/remote/hostcheck_install", vec![accepted("h1")]),
            ("/remote/fortisslvpn_xml", vec![xml("10.0.3.1", 0)]),
            ("/remote/sslvpn-tunnel", vec![Open]),
            ("/remote/logout", vec![status("302 Found\r\nLocation: /remote/login")]),
        ]);
        Self {
            session: Session::new(config, Box::new(Middle)),
            now,
            script,
            refuse: Vec::new(),
            requests: Vec::new(),
            events: Vec::new(),
            connects: 0,
            connected: false,
            alive: true,
            nak_address: None,
            packets: Vec::new(),
        }
    }

    fn password() -> Self {
        let password = Secret::from(PASSWORD.as_bytes());
        Self::new(Credentials::Password { username: "alice".into(), password: Some(password) })
    }

    fn saml() -> Self {
        Self::new(Credentials::Saml)
    }

    fn script(mut self, path: &'static str, replies: Vec<Reply>) -> Self {
        self.script.insert(path, replies);
        self
    }

    fn up(mut self) -> Self {
        self.handle(Input::Start);
        assert!(self.session.is_up(), "{:?} {:?}", self.events, self.requests);
        self
    }

    fn handle(&mut self, input: Input) {
        if matches!(input, Input::Closed(_)) {
            self.connected = false;
        }
        self.session.handle(self.now, input);
        self.pump();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let packets = &mut self.packets;
        self.session.handle_bytes(self.now, &mut bytes.to_vec(), &mut |packet| packets.push(packet.to_vec()));
    }

    fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    assert!(!self.connected, "one connection at a time");
                    self.connects += 1;
                    if self.refuse.is_empty() {
                        self.connected = true;
                        self.session.handle(self.now, Input::Connected);
                    } else {
                        let reason = self.refuse.remove(0);
                        self.session.handle(self.now, Input::Closed(reason));
                    }
                }
                Output::Disconnect { .. } => {
                    assert!(self.connected);
                    self.connected = false;
                }
                Output::Write(bytes) => {
                    assert!(self.connected, "writes need a connection");
                    if bytes.starts_with(b"GET ") || bytes.starts_with(b"POST ") {
                        self.serve(&bytes);
                    } else {
                        self.serve_frames(&bytes);
                    }
                }
                other => self.events.push(other),
            }
        }
    }

    fn serve(&mut self, request: &[u8]) {
        let text = String::from_utf8(request.to_vec()).unwrap();
        assert!(text.contains("\r\nHost: gw.example:10443\r\n"), "{text}");
        let target = text.split(' ').nth(1).unwrap().to_owned();
        let cookie = text.split("\r\nCookie: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap());
        self.requests.push(format!("{target} {}", cookie.unwrap_or("-")));
        let path = target.split('?').next().unwrap();
        let replies = self.script.get_mut(path).unwrap_or_else(|| panic!("no script for {path}"));
        let reply = if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() };
        match reply {
            Http(text) => self.bytes(text.as_bytes()),
            Close(reason) => {
                self.connected = false;
                self.session.handle(self.now, Input::Closed(reason));
            }
            Silence | Open => {}
        }
    }

    /// As much PPP as a FortiGate has.
    fn serve_frames(&mut self, mut bytes: &[u8]) {
        let mut out = Vec::new();
        while let [t0, t1, ..] = *bytes {
            let total = usize::from(u16::from_be_bytes([t0, t1]));
            let (frame, rest) = bytes.split_at(total);
            bytes = rest;
            let protocol = u16::from_be_bytes([frame[6], frame[7]]);
            let packet = Packet::parse(&frame[8..]).unwrap();
            let mut reply =
                |code, id, data: &[u8]| out.extend(frame_of(protocol, &Packet { code, id, data }.emit()));
            match (protocol, packet.code) {
                (protocol::LCP, code::CONFIGURE_REQUEST) => {
                    reply(code::CONFIGURE_REQUEST, 1, &[5, 6, 0x10, 0x9b, 0x22, 0x33]);
                    reply(code::CONFIGURE_ACK, packet.id, packet.data);
                }
                (protocol::IPCP, code::CONFIGURE_REQUEST) => match self.nak_address.take() {
                    Some(address) => {
                        reply(code::CONFIGURE_NAK, packet.id, &[&[3, 6][..], &address.octets()].concat())
                    }
                    None => {
                        reply(code::CONFIGURE_REQUEST, 1, &[3, 6, 192, 0, 2, 1]);
                        reply(code::CONFIGURE_ACK, packet.id, packet.data);
                    }
                },
                (_, code::ECHO_REQUEST) => reply(code::ECHO_REPLY, packet.id, packet.data),
                (_, code::TERMINATE_REQUEST) => {
                    self.requests.push("terminate".into());
                    reply(code::TERMINATE_ACK, packet.id, &[]);
                }
                _ => {}
            }
        }
        if self.alive {
            self.bytes(&out);
        }
    }

    /// Runs timers for `seconds`.
    fn run(&mut self, seconds: f64) {
        let end = self.now.mono + Duration::from_secs_f64(seconds);
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.at(at.max(self.now.mono));
            self.session.handle_timeout(self.now);
            self.pump();
        }
        self.at(end);
    }

    fn at(&mut self, mono: Duration) {
        self.now.boot += mono - self.now.mono;
        self.now.mono = mono;
    }

    fn sent(&self, path: &str) -> usize {
        self.requests.iter().filter(|request| request.starts_with(path)).count()
    }

    fn failed(&self) -> Option<&Error> {
        self.events.iter().find_map(|event| match event {
            Output::Failed(error) => Some(error),
            _ => None,
        })
    }

    fn addresses(&self) -> Vec<String> {
        let up = |event: &Output| match event {
            Output::Up(config) => Some(config.address.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(up).collect()
    }
}

fn frame_of(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; DATA_HEADER_LEN];
    emit_header(&mut header, protocol, payload.len());
    [&header[..], payload].concat()
}

#[test]
fn password_happy_path() {
    let mut b = Bench::password().up();
    assert_eq!(
        b.requests,
        [
            "/remote/logincheck -",
            "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=c1",
            "/remote/sslvpn-tunnel SVPNCOOKIE=c1",
        ]
    );
    assert_eq!(b.connects, 1);
    let [Output::Up(config)] = &b.events[..] else { panic!("{:?}", b.events) };
    assert_eq!((config.address, config.mtu), ([10, 0, 3, 1].into(), 1354));
    assert_eq!(config.peer, Some([192, 0, 2, 1].into()));
    assert_eq!(config.dns, [Ipv4Addr::new(172, 29, 0, 25)]);
    b.bytes(&[frame_of(protocol::IPV4, b"one"), frame_of(protocol::IPV4, b"two")].concat());
    assert_eq!(b.packets, [b"one", b"two"]);
    assert_eq!((b.session.stats().packets, b.session.stats().ups), (2, 1));
    // Hours of echoes keep it up.
    b.run(7200.0);
    assert!(b.session.is_up() && b.connects == 1);
}

#[test]
fn saml_happy_path() {
    let mut b = Bench::saml();
    b.handle(Input::Start);
    let url = "https://gw.example:10443/remote/saml/start?redirect=1&realm=staff";
    assert_eq!(b.events, [Output::LoginNeeded { url: url.into(), left: None }]);
    assert!(!b.connected && b.requests.is_empty(), "only looked whether the gateway is there");
    b.handle(Input::SamlId("a b\r\n".into()));
    assert_eq!(b.events.len(), 1, "a bad id changes nothing");
    b.run(300.0);
    b.handle(Input::SamlId("6c1f-0a.9_e".into()));
    assert!(b.session.is_up());
    assert_eq!(b.requests[0], "/remote/saml/auth_id?id=6c1f-0a.9_e -");
    assert_eq!(b.requests[1], "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=s1");
    assert_eq!(b.events[1], Output::LoginDone);
    b.handle(Input::SamlId("another".into()));
    assert_eq!(b.sent("/remote/saml"), 1);
}

#[test]
fn saml_refused_ids_and_nobody_signing_in() {
    for refusal in [status("403 Forbidden"), ok("SVPNCOOKIE=", ""), Close(CloseReason::Eof), Silence] {
        let mut b = Bench::saml().script("/remote/saml/auth_id", vec![refusal, accepted("s2")]);
        b.handle(Input::Start);
        b.handle(Input::SamlId("one".into()));
        b.run(60.0);
        let asked = b.events.iter().filter(|e| matches!(e, Output::LoginNeeded { .. })).count();
        assert_eq!((asked, b.sent("/remote/saml")), (2, 1), "{:?}", b.events);
        b.handle(Input::SamlId("two".into()));
        assert!(b.session.is_up());
    }
    let mut b = Bench::saml();
    b.handle(Input::Start);
    b.run(601.0);
    assert_eq!(b.events[1..], [Output::LoginDone, Output::Failed(Error::SignInTimeout)]);
    b.handle(Input::Retry);
    assert!(matches!(b.events[3], Output::LoginNeeded { .. }));
}

#[test]
fn host_check_hop_verbatim_and_bounded() {
    let target = "/remote/hostcheck_install?auth_type=1&user=61&&grpname=73&rip=198.51.100.7&realm=staff";
    let hop = ok("SVPNTMPCOOKIE=tmp", &format!("ret=1,redir={target}"));
    let b = Bench::password().script("/remote/logincheck", vec![hop.clone()]).up();
    assert_eq!(b.requests[1], format!("{target} SVPNTMPCOOKIE=tmp"));
    assert_eq!(b.requests[2], "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=h1");

    let mut b = Bench::password().script("/remote/logincheck", vec![hop.clone()]);
    b.script.insert("/remote/hostcheck_install", vec![hop]);
    b.handle(Input::Start);
    assert_eq!(b.failed(), Some(&Error::HostCheck));
    assert_eq!(b.sent("/remote/hostcheck_install"), 2);
}

#[test]
fn a_refused_password_is_never_sent_again_without_a_person() {
    for (reply, error) in [
        (denied(), Error::Denied),
        (status("405 Method Not Allowed"), Error::Denied),
        (status("403 Forbidden"), Error::Denied),
        (ok("SVPNCOOKIE=", ""), Error::Denied),
        (
            ok("", "ret=0,redir=/remote/login?&err=sslvpn_login_password_expired&lang=en"),
            Error::PasswordExpired,
        ),
        (ok("", "ret=2,reqid=1,tokeninfo=ftm_push"), Error::SecondFactor(SecondFactor::Token { push: true })),
        (status("503 Busy"), Error::LoginUnanswered("status 503".into())),
        (Close(CloseReason::Eof), Error::LoginUnanswered(CloseReason::Eof.to_string())),
        (Silence, Error::LoginUnanswered(CloseReason::Timeout.to_string())),
        (status("302 Found\r\nLocation: https://other.example/remote/login"), Error::OtherHost),
        (
            Http("garbage\r\n\r\n".into()),
            Error::BadAnswer(crate::wire::http::Error::Head(httparse::Error::Version)),
        ),
    ] {
        let mut b = Bench::password().script("/remote/logincheck", vec![reply, accepted("c2")]);
        b.handle(Input::Start);
        b.run(3600.0);
        b.handle(Input::Start);
        assert_eq!(b.events, [Output::Failed(error.clone())]);
        assert_eq!((b.connects, b.requests.len(), b.connected), (1, 1, false), "{error}");
        assert_eq!(b.session.poll_timeout(), None);
        assert!(!error.to_string().is_empty());
        b.handle(Input::Retry);
        assert!(b.session.is_up());
    }
}

#[test]
fn no_network_is_retried_for_ever_and_no_trust_never() {
    let mut b = Bench::password();
    b.refuse = vec![CloseReason::Refused("refused".into()); 20];
    b.handle(Input::Start);
    b.run(1.0 + 2.0 + 4.0 + 8.0 + 0.5);
    assert_eq!(b.connects, 5, "after 1, 2, 4, 8 s");
    b.run(1500.0);
    assert!(b.session.is_up() && b.connects == 21);

    let mut b = Bench::password();
    b.refuse = vec![CloseReason::Trust("pin mismatch".into())];
    b.handle(Input::Start);
    b.run(3600.0);
    assert_eq!(b.failed(), Some(&Error::Trust("pin mismatch".into())));
    assert_eq!((b.connects, b.requests.len()), (1, 0));
}

#[test]
fn a_stale_connection_is_noticed_and_replaced() {
    for path in ["/remote/fortisslvpn_xml", "/remote/sslvpn-tunnel"] {
        let mut b = Bench::password();
        b.script.get_mut(path).unwrap().insert(0, Close(CloseReason::Eof));
        b.handle(Input::Start);
        assert!(b.session.is_up());
        assert_eq!((b.connects, b.sent(path), b.sent("/remote/logincheck")), (2, 2, 1));
    }
}

#[test]
fn the_end_of_a_connection_that_we_left_is_no_news() {
    let Http(login) = accepted("c1") else { unreachable!() };
    let login = login.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut b = Bench::password().script("/remote/logincheck", vec![Silence]);
    b.handle(Input::Start);
    // Answer and end of stream come in one read, before the outputs are taken.
    b.bytes(login.as_bytes());
    b.session.handle(b.now, Input::Closed(CloseReason::Eof));
    b.pump();
    assert!(b.session.is_up());
    assert_eq!((b.connects, b.events.len()), (2, 1), "{:?}", b.events);
}

#[test]
fn configuration_answers() {
    for (reply, error) in [
        (status("401 Unauthorized"), Error::SessionRefused),
        (status("403 Forbidden"), Error::SessionRefused),
        (status("302 Found\r\nLocation: /remote/login"), Error::SessionRefused),
        (ok("", "<html><form action='/remote/logincheck'>"), Error::SessionRefused),
        (status("404 Not Found"), Error::NoTunnelMode),
        (ok("", "<other/>"), Error::BadConfig(config::Error::Malformed)),
    ] {
        let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![reply]);
        b.handle(Input::Start);
        b.run(600.0);
        assert_eq!(b.failed(), Some(&error));
        assert_eq!(b.requests.len(), 2);
    }
    let mut b =
        Bench::password().script("/remote/fortisslvpn_xml", vec![status("500 No"), xml("10.0.3.1", 0)]);
    b.handle(Input::Start);
    b.run(1.5);
    assert!(b.session.is_up());
    // No address is free: slowly again, with the same cookie.
    let mut b =
        Bench::password().script("/remote/fortisslvpn_xml", vec![xml("error", 0), xml("10.0.3.1", 0)]);
    b.handle(Input::Start);
    b.run(40.0);
    assert_eq!(b.requests.len(), 2);
    b.run(40.0);
    assert!(b.session.is_up() && b.sent("/remote/logincheck") == 1);
    // By then the gateway may have forgotten the sign-in: the reason is still the address.
    let mut b =
        Bench::password().script("/remote/fortisslvpn_xml", vec![xml("error", 0), status("403 Forbidden")]);
    b.handle(Input::Start);
    b.run(80.0);
    assert_eq!(b.failed(), Some(&Error::BadConfig(config::Error::NoAddress)));
}

#[test]
fn cookie_replaced_in_the_configuration() {
    let Http(text) = xml("10.0.3.1", 0) else { unreachable!() };
    let replaced = text.replacen("\r\n", "\r\nSet-Cookie: SVPNCOOKIE=c9; path=/\r\n", 1);
    let b = Bench::password().script("/remote/fortisslvpn_xml", vec![Http(replaced)]).up();
    assert_eq!(b.requests[2], "/remote/sslvpn-tunnel SVPNCOOKIE=c9");
}

#[test]
fn a_refused_tunnel_after_a_fresh_login_is_final() {
    for (line, error) in [
        ("403 Forbidden", Error::TunnelRefused(Some(403))),
        ("302 Found", Error::TunnelRefused(Some(302))),
        ("404 Not Found", Error::NoTunnelMode),
    ] {
        let mut b = Bench::password().script("/remote/sslvpn-tunnel", vec![status(line)]);
        b.handle(Input::Start);
        b.run(600.0);
        assert_eq!((b.failed(), b.sent("/remote/sslvpn-tunnel")), (Some(&error), 1));
    }
    // The refusal in two pieces.
    let mut b = Bench::password().script("/remote/sslvpn-tunnel", vec![Silence]);
    b.alive = false;
    b.handle(Input::Start);
    b.bytes(b"HT");
    b.bytes(b"TP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    b.pump();
    assert_eq!(b.failed(), Some(&Error::TunnelRefused(Some(403))));
    // Trouble inside the gateway, and a closed connection: again. Silence: once again.
    let mut b = Bench::password().script("/remote/sslvpn-tunnel", vec![status("500 No"), Open]);
    b.handle(Input::Start);
    b.run(1.5);
    assert!(b.session.is_up());
    let mut b = Bench::password().script("/remote/sslvpn-tunnel", vec![Close(CloseReason::Eof)]);
    b.handle(Input::Start);
    b.run(60.0);
    assert_eq!((b.failed(), b.sent("/remote/sslvpn")), (Some(&Error::TunnelRefused(None)), 3));
    let mut b = Bench::password();
    b.alive = false;
    b.handle(Input::Start);
    b.run(60.0);
    assert_eq!(b.failed(), Some(&Error::Ppp(ppp::Fault::Timeout)));
    assert_eq!(b.sent("/remote/sslvpn-tunnel"), 2);
}

#[test]
fn drops_resume_with_the_cookie_where_that_is_allowed() {
    let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![xml("10.0.3.1", 1)]).up();
    b.handle(Input::Closed(CloseReason::Reset));
    assert_eq!(b.events[1], Output::Down(DownReason::Connection(CloseReason::Reset)));
    b.run(1.0);
    assert!(b.session.is_up());
    assert_eq!(b.requests[3..], ["/remote/sslvpn-tunnel SVPNCOOKIE=c1"]);
    // Refused: the configuration once more, then the tunnel.
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.script.insert("/remote/fortisslvpn_xml", vec![xml("10.0.3.7", 1)]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(1.0);
    assert!(b.session.is_up());
    assert_eq!(b.addresses(), ["10.0.3.1", "10.0.3.1", "10.0.3.7"]);
    assert_eq!(b.sent("/remote/logincheck"), 1);
    // Refused again and again: a new sign-in, once.
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), status("403 Forbidden"), Open]);
    b.script.insert("/remote/logincheck", vec![accepted("c2")]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(5.0);
    assert!(b.session.is_up());
    assert_eq!(b.sent("/remote/logincheck"), 2);
    assert_eq!(b.requests.last().unwrap(), "/remote/sslvpn-tunnel SVPNCOOKIE=c2");
}

#[test]
fn resuming_is_tried_three_times_in_the_window() {
    let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![xml("10.0.3.1", 1)]).up();
    b.script.insert("/remote/sslvpn-tunnel", vec![Close(CloseReason::Eof)]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(4.0);
    assert_eq!(b.sent("/remote/sslvpn-tunnel"), 4);
    assert_eq!(b.sent("/remote/logincheck"), 1);
    b.script.insert("/remote/sslvpn-tunnel", vec![Open]);
    b.run(2.0);
    assert!(b.session.is_up() && b.sent("/remote/logincheck") == 2);
}

#[test]
fn without_reuse_one_try_then_a_new_sign_in() {
    let mut b = Bench::password().up();
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.script.insert("/remote/logincheck", vec![accepted("c2")]);
    b.script.insert("/remote/fortisslvpn_xml", vec![xml("10.0.3.2", 0)]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3.0);
    assert!(b.session.is_up());
    assert_eq!(
        b.requests[3..],
        [
            "/remote/sslvpn-tunnel SVPNCOOKIE=c1",
            "/remote/logincheck -",
            "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=c2",
            "/remote/sslvpn-tunnel SVPNCOOKIE=c2",
        ]
    );
    assert_eq!(b.addresses(), ["10.0.3.1", "10.0.3.2"]);
    // The password was changed meanwhile: one try, then a person.
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden")]);
    b.script.insert("/remote/logincheck", vec![denied()]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3600.0);
    assert_eq!((b.failed(), b.sent("/remote/logincheck")), (Some(&Error::Denied), 3));
}

#[test]
fn one_sign_in_per_drop_even_if_it_leads_nowhere() {
    let mut b = Bench::password().up();
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden")]);
    b.script.insert("/remote/fortisslvpn_xml", vec![status("403 Forbidden")]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3600.0);
    assert_eq!((b.failed(), b.sent("/remote/logincheck")), (Some(&Error::SessionRefused), 2));
}

#[test]
fn flapping_sign_ins_slow_down() {
    let mut b = Bench::password().up();
    let terminate = frame_of(protocol::LCP, b"\x05\x09\x00\x08idle");
    for _ in 0..200 {
        if b.session.is_up() {
            b.bytes(&terminate);
            b.pump();
        }
        b.run(3.0);
    }
    assert!((8..=18).contains(&b.sent("/remote/logincheck")), "{}", b.sent("/remote/logincheck"));
    assert_eq!(b.events[1], Output::Down(DownReason::Terminated("idle".into())));
    assert_eq!(
        b.sent("/remote/sslvpn-tunnel"),
        b.sent("/remote/logincheck"),
        "a terminated session is not resumed"
    );
}

#[test]
fn browser_is_asked_again_only_when_the_gateway_is_there() {
    let mut b = Bench::saml();
    b.handle(Input::Start);
    b.handle(Input::SamlId("one".into()));
    assert!(b.session.is_up());
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(0.6);
    b.refuse = vec![CloseReason::Refused("down".into()); 3];
    b.run(5.0);
    let asked = |b: &Bench| b.events.iter().filter(|e| matches!(e, Output::LoginNeeded { .. })).count();
    assert_eq!(asked(&b), 1);
    b.run(20.0);
    assert_eq!(asked(&b), 2);
    b.handle(Input::SamlId("two".into()));
    assert!(b.session.is_up());
}

#[test]
fn dead_gateway_and_lost_step_are_noticed() {
    let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![xml("10.0.3.1", 1)]).up();
    b.alive = false;
    b.run(27.0);
    assert!(b.session.is_up());
    b.run(1.5);
    assert!(!b.session.is_up());
    assert_eq!(b.events[1], Output::Down(DownReason::Unanswered));
    b.alive = true;
    b.run(5.0);
    assert!(b.session.is_up());
    b.bytes(b"\x00\x10\x50\x51\x00\x0a..........");
    b.pump();
    assert!(b.events.contains(&Output::Down(DownReason::OutOfSync)) && !b.session.is_up());
    b.run(1.0);
    assert!(b.session.is_up());
}

#[test]
fn an_hour_of_sleep_is_no_reason_to_drop() {
    let mut b = Bench::password().up();
    b.now.boot += Duration::from_secs(3600);
    b.run(11.0);
    assert!(b.session.is_up() && b.connects == 1);
}

#[test]
fn ppp_address_is_adopted_and_early_data_dropped() {
    let mut b = Bench::password();
    b.nak_address = Some([10, 0, 3, 99].into());
    b.handle(Input::Start);
    assert_eq!(b.addresses(), ["10.0.3.99"]);
    assert!(b.events.contains(&Output::Note(Event::AddressAdopted)));
    let mut b = Bench::password();
    b.alive = false;
    b.handle(Input::Start);
    b.bytes(&frame_of(protocol::IPV4, b"early"));
    assert_eq!((b.packets.len(), b.session.stats().early), (0, 1));
}

#[test]
fn stop_terminates_logs_out_and_is_bounded() {
    let mut b = Bench::password().up();
    b.handle(Input::Stop);
    assert_eq!(b.events[1..], [Output::Down(DownReason::Stopped), Output::Stopped]);
    assert_eq!(b.requests[3..], ["terminate", "/remote/logout SVPNCOOKIE=c1"]);
    assert_eq!((b.connects, b.connected, b.session.poll_timeout()), (2, false, None));

    // Neither Terminate nor logout is answered.
    let mut b = Bench::password().script("/remote/logout", vec![Silence]).up();
    b.alive = false;
    b.handle(Input::Stop);
    b.run(0.9);
    assert_eq!(b.sent("/remote/logout"), 0);
    b.run(0.2);
    assert_eq!((b.sent("/remote/logout"), b.events.last() == Some(&Output::Stopped)), (1, false));
    b.run(1.95);
    assert_eq!(b.events.last(), Some(&Output::Stopped));

    // No way to log out: over at once.
    let mut b = Bench::password().up();
    b.refuse = vec![CloseReason::Refused("down".into())];
    b.handle(Input::Stop);
    assert_eq!(b.events.last(), Some(&Output::Stopped));
    b.handle(Input::Retry);
    b.handle(Input::Stop);
    b.run(100.0);
    assert_eq!(b.events.iter().filter(|e| **e == Output::Stopped).count(), 1);

    // In every other state.
    let mut b = Bench::password();
    b.handle(Input::Stop);
    assert_eq!(b.events, [Output::Stopped]);
    let mut b = Bench::saml();
    b.handle(Input::Start);
    b.handle(Input::Stop);
    assert_eq!(b.events[1..], [Output::LoginDone, Output::Stopped]);
    let mut b = Bench::password().script("/remote/logincheck", vec![Silence]);
    b.handle(Input::Start);
    b.handle(Input::Stop);
    assert_eq!((b.events, b.connected), (vec![Output::Stopped], false));
    let mut b = Bench::password().up();
    b.handle(Input::Closed(CloseReason::Eof));
    b.handle(Input::Stop);
    assert_eq!(b.requests.last().unwrap(), "/remote/logout SVPNCOOKIE=c1");
    assert_eq!(b.events.last(), Some(&Output::Stopped));
}

#[test]
fn any_split_of_the_gateways_octets_works() {
    let login = accepted("c1");
    let Http(login) = login else { unreachable!() };
    for cut in 0..login.len() {
        let mut b = Bench::password().script("/remote/logincheck", vec![Silence]);
        b.handle(Input::Start);
        b.bytes(&login.as_bytes()[..cut]);
        b.bytes(&login.as_bytes()[cut..]);
        b.pump();
        assert!(b.session.is_up(), "split at {cut}: {:?}", b.events);
    }
}

#[test]
fn no_secret_in_debug_output() {
    let mut b = Bench::password().up();
    let shown = format!("{:?} {:?}", b.session, b.events);
    for secret in ["correct", "c1", "horse"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!format!("{:?}", Input::SamlId("one-time".into())).contains("one-time"));
    b.session.handle(b.now, Input::Stop);
    while let Some(output) = b.session.poll_output() {
        assert!(!format!("{output:?}").contains("66"), "{output:?}");
    }
    assert!(!format!("{:?}", Output::Write(b"Cookie: SVPNCOOKIE=c1".to_vec())).contains("c1"));
}

proptest! {
    #[test]
    fn whatever_the_gateway_sends_nothing_panics_and_stop_ends_it(
        login in prop::collection::vec(any::<u8>(), 0..200),
        frames in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        seconds in 0..100u32,
    ) {
        let mut b = Bench::password().script("/remote/logincheck", vec![Silence]);
        b.handle(Input::Start);
        b.bytes(&login);
        b.pump();
        let mut b = Bench::password().up();
        b.alive = false;
        for (protocol, payload) in frames {
            let protocol = if protocol & 1 == 0 { protocol::LCP } else { protocol };
            b.bytes(&frame_of(protocol, &payload));
            b.pump();
        }
        b.bytes(&login);
        b.pump();
        b.run(f64::from(seconds));
        b.handle(Input::Stop);
        b.run(3.0);
        prop_assert_eq!(b.events.last(), Some(&Output::Stopped));
        prop_assert_eq!(b.session.poll_timeout(), None);
    }
}
