//! The page as a browser gets it: which requests do what, and what each state says.

use std::time::Duration;

use super::*;
use crate::base::DeviceId;
use crate::engine::Snapshot;
use crate::engine::state::Device;
use crate::engine::status::{Moment, Queues, UplinkStatus};
use crate::fortivpn::{DownReason, Error, Input, Output, Question};

const ID: &str = "6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11";
const URL: &str = "https://gw.example/remote/saml/start?redirect=1";
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const PHONE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 3);

struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            self.0 += 1;
            *octet = self.0;
        }
    }
}

fn now(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now { mono, boot: mono, wall: Duration::from_secs(1_764_033_600 + seconds) }
}

/// A page, and what it is about.
struct Stage {
    page: Page,
    state: State,
    desk: Desk,
    visitor: Visitor,
    now: Now,
}

impl Stage {
    fn new() -> Self {
        let image = "64:ff9b::c613:ff01".parse().unwrap();
        let page = Page::new(
            &mut Counting(0),
            &["127.0.0.1:8020".parse().unwrap(), "192.0.2.7:8020".parse().unwrap()],
            vec![HOST.into(), image],
        );
        let state = State::new("gw.example:443".into(), now(0));
        Self { page, state, desk: Desk::default(), visitor: Visitor::Local, now: now(60) }
    }

    /// As the event loop does it.
    fn output(&mut self, output: &Output) {
        self.state.handle_uplink(self.now, output);
        self.desk.handle_output(self.now, output);
    }

    fn link() -> Self {
        let mut stage = Self::new();
        stage.output(&Output::LoginNeeded { url: URL.into(), left: None });
        stage
    }

    fn question(kind: QuestionKind) -> Self {
        let mut stage = Self::new();
        let text = "Enter <b>code</b> & go".into();
        let sent_to = Some("a***@corp.example".into());
        stage.output(&Output::Ask(Question { id: 5, kind, text, sent_to, again: false }));
        stage
    }

    fn up() -> Self {
        let mut stage = Self::new();
        let xml = b"<sslvpn-tunnel><ipv4><dns ip='10.0.0.53'/><assigned-addr ipv4='10.9.8.7'/></ipv4></sslvpn-tunnel>";
        stage.output(&Output::Up(fortivpn::TunnelConfig::parse(xml).unwrap()));
        stage
    }

    fn with_devices(mut self) -> Self {
        for (number, (identity, address)) in
            [("laptop.example", Ipv4Addr::new(198, 19, 255, 2)), ("<phone>.example", PHONE)]
                .into_iter()
                .enumerate()
        {
            self.state.devices.push(Device {
                id: DeviceId(number as u32),
                identity: identity.into(),
                system: None,
                address,
                address6: None,
                suite: String::new(),
                remote: "192.0.2.1:4500".parse().unwrap(),
                since: now(10).wall,
            });
        }
        self
    }

    fn send(&mut self, request: &str) -> String {
        let visit = Visit { now: self.now, state: &self.state, visitor: self.visitor, metrics: None };
        String::from_utf8(self.page.answer(request.as_bytes(), &visit, &mut self.desk).unwrap()).unwrap()
    }

    /// With `/metrics`, as it is on this host.
    fn send_with_metrics(&mut self, request: &str) -> String {
        let status = |desk: &Desk| status_of(&self.state, desk);
        let visit =
            Visit { now: self.now, state: &self.state, visitor: self.visitor, metrics: Some(&status) };
        String::from_utf8(self.page.answer(request.as_bytes(), &visit, &mut self.desk).unwrap()).unwrap()
    }

    fn get(&mut self, target: &str) -> String {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:8020\r\n\r\n"))
    }

    /// A form as the browser sends it, with the right token in place of `TOKEN`.
    fn post(&mut self, path: &str, form: &str) -> String {
        let form = form.replace("TOKEN", &self.page.token);
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:8020\r\nOrigin: http://localhost:8020\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
    }

    /// What went to the session, with the secrets.
    fn inputs(&mut self) -> Vec<String> {
        let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        std::iter::from_fn(|| self.desk.poll_input())
            .map(|input| match input {
                Input::SamlId(id) => format!("id {id}"),
                Input::Answer { question, answer: fortivpn::Answer::Text(a) } => {
                    format!("{question}: {}", text(&a))
                }
                Input::Answer { question, answer: fortivpn::Answer::TwoCodes(a, b) } => {
                    format!("{question}: {} {}", text(&a), text(&b))
                }
                other => format!("{other:?}").to_lowercase(),
            })
            .collect()
    }
}

fn status(response: &str) -> &str {
    &response[9..12]
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn requests_and_their_status() {
    for (request, expected) in [
        ("GET /", "200"),
        ("HEAD /", "200"),
        ("GET /?x=y", "200"),
        ("GET /?idx=1", "200"),
        ("GET /favicon.ico", "204"),
        ("HEAD /favicon.ico", "204"),
        ("OPTIONS /", "204"),
        ("OPTIONS *", "204"),
        ("GET /favicon.ico?id=6c1f", "204"),
        ("GET /other", "404"),
        ("GET //", "404"),
        ("GET /../etc/passwd", "404"),
        ("GET http://127.0.0.1:8020/", "404"),
        ("POST /", "405"),
        ("POST /?id=6c1f", "405"),
        ("PUT /paste", "405"),
        ("GET /paste", "405"),
        ("GET /retry", "405"),
        ("TRACE /", "405"),
        ("POST /other", "404"),
    ] {
        let mut stage = Stage::link();
        let response = stage.send(&format!("{request} HTTP/1.1\r\nHost: 127.0.0.1:8020\r\n\r\n"));
        assert_eq!(status(&response), expected, "{request}");
        assert_eq!(stage.inputs(), [""; 0], "{request}");
        assert!(!response.to_ascii_lowercase().contains("access-control"), "{request}");
        if request.starts_with("HEAD") || expected == "204" {
            assert_eq!(body(&response), "", "{request}");
        }
    }
    assert_eq!(status(&Stage::new().send("\x16\x03\x01\r\n\r\n")), "400");
    assert_eq!(status(&Stage::new().send(&"G".repeat(request::MAX_HEAD))), "431");
    assert_eq!(
        status(&Stage::new().send("POST /paste HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")),
        "413"
    );
}

#[test]
fn only_our_own_addresses_are_served() {
    for (visitor, host, expected) in [
        (Visitor::Local, "127.0.0.1:8020", "200"),
        (Visitor::Local, "127.0.0.1", "200"),
        (Visitor::Local, "localhost:8020", "200"),
        (Visitor::Local, "LocalHost:18020", "200"),
        (Visitor::Local, "[::1]:8020", "200"),
        (Visitor::Local, "192.0.2.7:8020", "200"),
        (Visitor::Local, "192.0.2.8:8020", "421"),
        (Visitor::Local, "198.19.255.1", "421"),
        (Visitor::Local, "rebound.example:8020", "421"),
        (Visitor::Local, "127.0.0.1.rebound.example:8020", "421"),
        (Visitor::Local, "localhost.rebound.example", "421"),
        (Visitor::Local, "", "421"),
        (Visitor::Local, "[::1", "421"),
        (Visitor::Device(PHONE), "198.19.255.1", "200"),
        (Visitor::Device(PHONE), "198.19.255.1:80", "200"),
        (Visitor::Device(PHONE), "[64:ff9b::c613:ff01]", "200"),
        (Visitor::Device(PHONE), "[64:ff9b::198.19.255.1]:80", "200"),
        (Visitor::Device(PHONE), "127.0.0.1", "421"),
        (Visitor::Device(PHONE), "localhost", "421"),
        (Visitor::Device(PHONE), "rebound.example", "421"),
    ] {
        let mut stage = Stage { visitor, ..Stage::link() };
        let response = stage.send(&format!("GET /?id={ID} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status(&response), expected, "{host}");
        assert_eq!(stage.inputs().len(), usize::from(expected == "200"), "{host}");
    }
    let any = Page::new(&mut Counting(0), &["0.0.0.0:8020".parse().unwrap()], Vec::new());
    let mut stage = Stage { page: any, ..Stage::new() };
    assert_eq!(status(&stage.send("GET / HTTP/1.1\r\nHost: 192.0.2.99:8020\r\n\r\n")), "200");
    assert_eq!(status(&stage.send("GET / HTTP/1.1\r\nHost: nas.example:8020\r\n\r\n")), "421");
}

#[test]
fn the_browser_brings_the_id() {
    let mut stage = Stage::link();
    for hostile in [
        "",
        "a%0d%0aX:y",
        "../x",
        "..%2f..",
        "a%00",
        "SVPNCOOKIE=x",
        "Cookie:SVPNCOOKIE",
        "a+b",
        &"a".repeat(10_000),
        "\u{430}",
    ] {
        let response = stage.get(&format!("/?id={hostile}"));
        assert_eq!(status(&response), "400", "{hostile:.20}");
        assert!(body(&response).contains("no sign-in. Please open its link again"), "{hostile:.20}");
    }
    assert_eq!(stage.inputs(), [""; 0]);
    assert_eq!(status(&stage.send(&format!("HEAD /?id={ID} HTTP/1.1\r\nHost: localhost\r\n\r\n"))), "200");
    assert_eq!(stage.inputs(), [""; 0], "a HEAD changes nothing");

    let response = stage.get(&format!("/?x=y&id={ID}&z"));
    assert_eq!(status(&response), "200");
    assert!(body(&response).contains("Signed in, you can close this tab."), "{response}");
    assert!(body(&response).contains("http-equiv=\"refresh\" content=\"2;url=/\""), "{response}");
    assert!(!response.contains(ID));
    assert_eq!(stage.inputs(), [format!("id {ID}")]);

    // Not even the name of a cookie makes one of it.
    assert_eq!(status(&Stage::up().get("/?id=SVPNCOOKIE.x")), "200");
    let mut stage = Stage::link();
    stage.get("/?id=SVPNCOOKIE.x");
    assert_eq!(stage.inputs(), ["id SVPNCOOKIE.x"]);

    // The session took it; the browser repeats its request, or somebody brings another.
    stage.output(&Output::LoginDone);
    assert!(body(&stage.get(&format!("/?id={ID}"))).contains("Already signed in; the tunnel is not up yet."));
    let mut stage = Stage::up();
    let response = stage.get("/?id=another");
    assert!(body(&response).contains("Already signed in, you can close this tab."));
    let mut stage = Stage::new();
    stage.output(&Output::Failed(Error::SignInTimeout));
    let response = stage.get(&format!("/?id={ID}"));
    assert_eq!(status(&response), "409");
    assert!(body(&response).contains("Nobody asked for this sign-in now"));
    assert_eq!(stage.inputs(), [""; 0]);
}

#[test]
fn forms_bring_what_a_person_says() {
    let code = QuestionKind::Code { push: true };
    let new = QuestionKind::NewPassword { may_skip: true };
    for (mut stage, path, form, result, input) in [
        (Stage::link(), "/paste", format!("token=TOKEN&address={ID}"), "303", format!("id {ID}")),
        (
            Stage::link(),
            "/paste",
            format!("token=TOKEN&address=http%3A%2F%2F127.0.0.1%3A8020%2F%3Fid%3D{ID}"),
            "303",
            format!("id {ID}"),
        ),
        (Stage::link(), "/paste", "token=TOKEN&address=".into(), "409", "nothing was filled in".into()),
        (Stage::link(), "/paste", "token=TOKEN&address=%0d%0a%2f..".into(), "409", "not the address".into()),
        (
            Stage::new(),
            "/paste",
            format!("token=TOKEN&address={ID}"),
            "409",
            "no sign-in is asked for".into(),
        ),
        (Stage::new(), "/retry", "token=TOKEN".into(), "303", "retry".into()),
        (
            Stage::question(QuestionKind::Password),
            "/answer",
            "token=TOKEN&question=5&answer=a+%2B%c3%a9".into(),
            "303",
            "5: a +é".into(),
        ),
        (
            Stage::question(code),
            "/answer",
            "token=TOKEN&question=5&answer=123456".into(),
            "303",
            "5: 123456".into(),
        ),
        (
            Stage::question(code),
            "/answer",
            "token=TOKEN&question=5&answer=&how=push".into(),
            "303",
            "answer(5, [redacted])".into(),
        ),
        (
            Stage::question(code),
            "/answer",
            "token=TOKEN&question=5&answer=".into(),
            "409",
            "nothing was filled".into(),
        ),
        (
            Stage::question(code),
            "/answer",
            "token=TOKEN&question=4&answer=1".into(),
            "409",
            "not open any more".into(),
        ),
        (
            Stage::question(code),
            "/answer",
            "token=TOKEN&answer=1".into(),
            "409",
            "the form is not whole".into(),
        ),
        (
            Stage::question(QuestionKind::TwoCodes),
            "/answer",
            "token=TOKEN&question=5&answer=1&second=2".into(),
            "303",
            "5: 1 2".into(),
        ),
        (
            Stage::question(QuestionKind::TwoCodes),
            "/answer",
            "token=TOKEN&question=5&answer=1".into(),
            "409",
            "the second code is missing".into(),
        ),
        (
            Stage::question(new),
            "/answer",
            "token=TOKEN&question=5&answer=n&second=n".into(),
            "303",
            "5: n".into(),
        ),
        (
            Stage::question(new),
            "/answer",
            "token=TOKEN&question=5&answer=n&second=m".into(),
            "409",
            "the two passwords differ".into(),
        ),
        (
            Stage::question(new),
            "/answer",
            "token=TOKEN&question=5&answer=&second=&how=skip".into(),
            "303",
            "answer(5, [redacted])".into(),
        ),
        (Stage::link(), "/paste", format!("address={ID}"), "403", "Nothing was done".into()),
        (Stage::link(), "/paste", format!("token=&address={ID}"), "403", "Nothing was done".into()),
        (Stage::link(), "/paste", format!("token=0{{}}TOKEN&address={ID}"), "403", "Nothing was done".into()),
        (Stage::new(), "/retry", String::new(), "403", "Nothing was done".into()),
    ] {
        let response = stage.post(path, &form);
        assert_eq!(status(&response), result, "{path} {form}");
        if result == "303" {
            assert!(response.contains("\r\nLocation: /\r\n"), "{path} {form}");
            assert_eq!(stage.inputs(), [input], "{path} {form}");
        } else {
            assert!(body(&response).contains(&input), "{path} {form}: {response}");
            assert_eq!(stage.inputs(), [""; 0], "{path} {form}");
        }
    }
}

#[test]
fn forms_of_other_sites_are_refused() {
    for (origin, expected) in [
        ("Origin: http://127.0.0.1:8020\r\n", "303"),
        ("", "303"),
        ("Origin: null\r\n", "403"),
        ("Origin: http://localhost:8020\r\n", "403"),
        ("Origin: http://127.0.0.1:8021\r\n", "403"),
        ("Origin: https://127.0.0.1:8020\r\n", "403"),
        ("Origin: https://evil.example\r\n", "403"),
    ] {
        let mut stage = Stage::new();
        let form = format!("token={}", stage.page.token);
        let response = stage.send(&format!(
            "POST /retry HTTP/1.1\r\nHost: 127.0.0.1:8020\r\n{origin}Content-Length: {}\r\n\r\n{form}",
            form.len()
        ));
        assert_eq!(status(&response), expected, "{origin}");
        assert_eq!(stage.inputs().len(), usize::from(expected == "303"), "{origin}");
    }
}

#[test]
fn each_state_says_what_to_do_next() {
    let mut failed = Stage::new();
    failed.output(&Output::Failed(Error::Denied));
    let mut down = Stage::up();
    down.output(&Output::Down(DownReason::Unanswered));
    let mut again = Stage::up();
    again.output(&Output::LoginNeeded { url: URL.into(), left: Some(Duration::from_secs(300)) });
    let mut device = Stage { visitor: Visitor::Device(PHONE), ..Stage::link() };
    let get = |stage: &mut Stage| body(&stage.get("/")).to_owned();
    let in_tunnel = body(&device.send("GET / HTTP/1.1\r\nHost: 198.19.255.1\r\n\r\n")).to_owned();
    for (page, refreshes, texts) in [
        (get(&mut Stage::new()), true, &["Connecting to the gateway", "gw.example:443", "(1 min ago)"][..]),
        (
            get(&mut Stage::link()),
            false,
            &[
                "Waiting for a sign-in",
                "href=\"https://gw.example/remote/saml/start?redirect=1\"",
                "another device?",
            ],
        ),
        (
            get(&mut Stage::up()),
            false,
            &["The tunnel is up", "you can close this page", "10.9.8.7", "10.0.0.53"],
        ),
        (get(&mut again), false, &["The tunnel is up", "Sign in now", "in 5 min", "action=\"/paste\""]),
        (get(&mut down), true, &["reconnecting", "comes back by itself", "Last errors"]),
        (
            get(&mut failed),
            false,
            &["No tunnel", "check user name", "action=\"/retry\"", "2025-11-25 01:21 UTC"],
        ),
        (
            in_tunnel,
            false,
            &["target=\"_blank\"", "copy the address of that page", "open it on another device"],
        ),
    ] {
        for text in texts {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert_eq!(page.contains("http-equiv=\"refresh\""), refreshes, "{page}");
    }
}

#[test]
fn questions_have_the_fields_of_their_kind() {
    for (kind, texts) in [
        (QuestionKind::Password, &["Password of the account", "type=\"password\""][..]),
        (QuestionKind::Code { push: false }, &["Code of the token", "one-time-code"]),
        (QuestionKind::Code { push: true }, &["Code of the token", "value=\"push\" formnovalidate"]),
        (QuestionKind::EmailCode, &["Code from the e-mail", "numeric"]),
        (QuestionKind::SmsCode, &["Code from the SMS", "numeric"]),
        (QuestionKind::TwoCodes, &["name=\"answer\"", "name=\"second\""]),
        (QuestionKind::Challenge, &["Question of the gateway", "name=\"answer\""]),
        (QuestionKind::NewPassword { may_skip: false }, &["new-password", "name=\"second\""]),
        (QuestionKind::NewPassword { may_skip: true }, &["value=\"skip\" formnovalidate"]),
    ] {
        let page = Stage::question(kind).get("/");
        for text in texts.iter().chain(&[
            "Enter &lt;b&gt;code&lt;/b&gt; &amp; go",
            "a***@corp.example",
            "value=\"5\"",
        ]) {
            assert!(page.contains(text), "{kind:?}, {text}: {page}");
        }
        assert!(!page.contains("refused") && !page.contains("refresh"), "{kind:?}");
    }
    let page = Stage::question(QuestionKind::Code { push: false }).get("/");
    assert!(!page.contains("value=\"push\""));
}

#[test]
fn a_device_hears_nothing_of_the_others() {
    let mut stage = Stage::up().with_devices();
    let page = stage.get("/");
    for text in ["Devices connected: 2", "laptop.example", "&lt;phone&gt;.example", "198.19.255.2"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    stage.visitor = Visitor::Device(PHONE);
    let page = stage.send("GET / HTTP/1.1\r\nHost: 198.19.255.1\r\n\r\n");
    assert!(page.contains("Devices connected: 2") && page.contains("This device: <bdi>&lt;phone"), "{page}");
    assert!(!page.contains("laptop.example") && !page.contains("198.19.255.2"), "{page}");
}

#[test]
fn every_answer_is_locked_down_and_small() {
    let mut crowded = Stage::link().with_devices();
    for number in 0..300 {
        let device = crowded.state.devices[number % 2].clone();
        crowded.state.devices.push(device);
        crowded.output(&Output::Failed(Error::Trust("because ".repeat(100))));
    }
    crowded.output(&Output::LoginNeeded { url: URL.into(), left: None });
    let page = crowded.get("/");
    assert!(page.len() < 16 * 1024, "{}", page.len());
    let usual = Stage::link().with_devices().get("/");
    assert!(usual.len() < 6 * 1024, "{}", usual.len());
    for response in
        [page, usual, crowded.get("/x"), crowded.post("/retry", "token=TOKEN"), crowded.get("/favicon.ico")]
    {
        let head = response.split_once("\r\n\r\n").unwrap().0;
        for line in [
            "Cache-Control: no-store",
            "Connection: close",
            "default-src 'none'; style-src 'sha256-",
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            "Referrer-Policy: same-origin",
            "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY",
            "Cross-Origin-Opener-Policy: same-origin",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        let body = body(&response);
        assert!(
            !body.contains("<script") && !body.contains(" style=") && !body.contains("javascript:"),
            "{body}"
        );
    }
}

/// A status with what these two know.
fn status_of(state: &State, desk: &Desk) -> Status {
    Status {
        version: "1.2.3".into(),
        now: Moment(now(60).wall),
        started: Moment(state.started),
        uplink: UplinkStatus::new(now(60), state, desk),
        devices: Vec::new(),
        counters: Snapshot { drops: [("nat_no_flow".to_owned(), 4)].into(), ..Snapshot::default() },
        queues: Queues::default(),
        ike: crate::ike::Stats { bad_tag: 7, ..Default::default() },
    }
}

#[test]
fn metrics_are_there_where_they_are_on() {
    let request = |method: &str| format!("{method} /metrics HTTP/1.1\r\nHost: 127.0.0.1:8020\r\n\r\n");
    let mut stage = Stage::question(QuestionKind::Password);
    assert!(stage.send(&request("GET")).starts_with("HTTP/1.1 404 "), "off");
    let answer = stage.send_with_metrics(&request("GET"));
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
    );
    for line in [
        "pterodapter_build_info{version=\"1.2.3\"} 1",
        "pterodapter_start_time_seconds 1764033600",
        "pterodapter_uplink_state{state=\"waiting\"} 1",
        "pterodapter_uplink_state{state=\"up\"} 0",
        "pterodapter_sign_in_wanted 1",
        "pterodapter_dropped_packets_total{reason=\"nat_no_flow\"} 4",
        "pterodapter_dropped_packets_total{reason=\"udp_garbage\"} 0",
        "pterodapter_ike_refused_messages_total{reason=\"bad_tag\"} 7",
    ] {
        assert!(answer.lines().any(|shown| shown == line), "{line} is not in {answer}");
    }
    let head = stage.send_with_metrics(&request("HEAD"));
    assert!(head.contains("text/plain") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(stage.send_with_metrics(&request("POST")).starts_with("HTTP/1.1 405 "));
    let rebound = request("GET").replace("127.0.0.1:8020", "rebound.example");
    assert!(stage.send_with_metrics(&rebound).starts_with("HTTP/1.1 421 "));
}
