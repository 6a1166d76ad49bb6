//! Sessions against a scripted gateway in memory, with a virtual clock.

mod drops;
mod factors;
mod renewal;
mod settings;
mod sign_in;
mod ways;
mod whole;

use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::fortivpn::config;
use crate::fortivpn::event::Event;
use crate::fortivpn::{Answer, Question, QuestionKind};
use crate::ppp;
use crate::wire::forti::{DATA_HEADER_LEN, emit_header};
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
    /// Bodies of the requests that have one.
    bodies: Vec<String>,
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
            bodies: Vec::new(),
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

    fn username() -> Self {
        Self::new(Credentials::Username { username: "alice".into() })
    }

    /// The password is not configured.
    fn asking() -> Self {
        Self::new(Credentials::Password { username: "alice".into(), password: None })
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
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("POST ") => {
                assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
                self.bodies.push(body.to_owned());
            }
            Some((head, body)) => assert!(body.is_empty() && !head.contains("Content-"), "{head}"),
            None => panic!("{text}"),
        }
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

    /// The last question.
    fn question(&self) -> &Question {
        let last = self.events.iter().rfind(|event| matches!(event, Output::Ask(_)));
        let Some(Output::Ask(question)) = last else { panic!("{:?}", self.events) };
        question
    }

    /// Answers the last question.
    fn answer(&mut self, answer: Answer) {
        let question = self.question().id;
        self.handle(Input::Answer { question, answer });
    }

    fn say(&mut self, text: &str) {
        self.answer(Answer::Text(Secret::from(text.as_bytes())));
    }

    fn questions(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Output::Ask(_))).count()
    }

    fn links(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Output::LoginNeeded { .. })).count()
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
