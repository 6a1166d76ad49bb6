//! No secret is printed, logged or shown, at any level, by the program or by the core's types.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use common::{happens, skipped_without};
use program::Program;
use pterodapter::base::{Now, Random};
use pterodapter::crypto::Secret;
use pterodapter::demo::gateway::{AnswerFault, CloseStyle, Factor, Fault, Scenario, User};
use pterodapter::demo::probe::Client;
use pterodapter::engine::{Proxy, ProxyKind, SignIn, Submission, Transport};
use pterodapter::fortivpn::{Answer, Config, Credentials, Input, Output, Session};

const PASSWORD: &str = "xyzzy-Passw0rd+%&";
const WRONG: &str = "plugh-Wr0ng";
const CODES: [&str; 2] = ["48291377", "90817263"];
const WRONG_CODE: &str = "11335577";
const MAGIC: &str = "3-8e4dm4g1c197";
/// How the double's cookies end.
const COOKIE_END: &str = "+/==%0a";
const LOGIN: &str = "/remote/logincheck";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);

/// Looks for secrets wherever they could be seen.
fn assert_silent(program: &Program, secrets: &[&str]) {
    let mut seen = vec![
        ("output", program.printed()),
        ("command line", program.proc_file("cmdline")),
        ("environment", program.proc_file("environ")),
        ("page", program.page("/")),
    ];
    let mut control = UnixStream::connect(program.control()).unwrap();
    control.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    writeln!(control, "{{\"command\":\"login\"}}").unwrap();
    let mut line = String::new();
    BufReader::new(control).read_line(&mut line).unwrap();
    assert!(line.contains("uplink"), "{line}");
    seen.push(("control socket", line));
    assert!(program.printed().contains("TRACE"), "everything is logged");
    for (place, text) in seen {
        assert!(!text.is_empty(), "{place}: nothing there");
        for secret in secrets.iter().chain(&[COOKIE_END]) {
            let forms = [(*secret).to_owned(), encoded(secret), format!("{:?}", secret.as_bytes())];
            for form in forms {
                if let Some(at) = text.find(&form) {
                    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
                    let line: String = text[start..].chars().take(300).collect();
                    panic!("{form:?} is in the {place}: {line}");
                }
            }
        }
    }
}

/// As in a form.
fn encoded(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.~".contains(&c);
    text.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}

fn wait_for(program: &Program, words: &str) {
    if !happens(Duration::from_secs(30), || program.printed().contains(words)) {
        panic!("{words:?} is not said: {}", program.printed());
    }
}

fn wait_for_tunnel(program: &Program, count: usize) {
    if !happens(Duration::from_secs(30), || program.tunnels() >= count) {
        panic!("no tunnel: {}", program.printed());
    }
}

fn start(scenario: Scenario, user: User, files: &[(&str, &str)], options: &[&str]) -> Program {
    let options = [&["--log-level=trace"], options].concat();
    Program::start(scenario, vec![user], files, &options)
}

const BY_PASSWORD: [&str; 2] = ["--username=alice", "--password-file={}/password"];

#[test]
fn password_codes_and_cookies_are_silent() {
    let user = User::new("alice", PASSWORD).with_factor(Factor::codes(&CODES));
    let files = [("password", PASSWORD), ("otp", CODES[0])];
    let mut program =
        start(Scenario::default(), user, &files, &[&BY_PASSWORD[..], &["--otp={}/otp"]].concat());
    let device = Client::connect(program.client_config("laptop.example")).unwrap();
    wait_for_tunnel(&program, 1);
    device.ping(SERVER).unwrap();
    // The session ends; the next code comes over the control socket.
    program.gateway.kick_tunnels(CloseStyle::Fin);
    if !happens(Duration::from_secs(30), || program.posts() == 3) {
        panic!("no new sign-in: {}", program.printed());
    }
    std::thread::sleep(Duration::from_millis(300));
    let said = program.login(CODES[1]);
    wait_for_tunnel(&program, 2);
    let said = [said.stdout, said.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(CODES[1]));
    assert_silent(&program, &[PASSWORD, CODES[0], CODES[1]]);
    assert!(program.stop().success());
    assert!(!program.printed().contains(COOKIE_END));
}

#[test]
fn refused_secrets_are_silent() {
    let program =
        start(Scenario::default(), User::new("alice", PASSWORD), &[("password", WRONG)], &BY_PASSWORD);
    wait_for(&program, "refused the sign-in");
    assert_silent(&program, &[WRONG, PASSWORD]);

    // A question whose magic is known here.
    let question = format!(
        "ret=2,reqid=139361911,polid=1-3-8e4d197,grp=,portal=,peer=,magic={MAGIC},tokeninfo=,chal_msg=Please enter your code"
    );
    let asks = AnswerFault::on(LOGIN, Fault::page(200, "text/plain", &question)).times(1);
    let scenario = Scenario { faults: vec![asks], ..Scenario::default() };
    let files = [("password", PASSWORD), ("otp", WRONG_CODE)];
    let options = [&BY_PASSWORD[..], &["--otp={}/otp"]].concat();
    let program = start(scenario, User::new("alice", PASSWORD), &files, &options);
    wait_for(&program, "refused the one-time code");
    assert_eq!(program.posts(), 2);
    assert_silent(&program, &[PASSWORD, WRONG_CODE, MAGIC]);
}

/// One request of a browser; where it leads.
fn redirect_of(url: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{redirect_url}", url])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sign_in_ids_are_silent() {
    if skipped_without("curl") {
        return;
    }
    let program = start(Scenario::default(), User::new("alice", PASSWORD), &[], &[]);
    wait_for(&program, "/remote/saml/start");
    let provider = redirect_of(&format!("https://{}/remote/saml/start?redirect=1", program.gateway.addr()));
    let relay = provider.split("magic%3D").nth(1).unwrap().to_owned();
    let back = redirect_of(&redirect_of(&provider));
    let id = back.split("id=").nth(1).unwrap().to_owned();
    // A bad one first.
    let bad = "b4db4d-0123456789";
    let answer = program.page(&format!("/?id={bad}"));
    assert!(!answer.contains(bad), "{answer}");
    wait_for(&program, "refused the browser's sign-in");
    let answer = program.page(&format!("/?id={id}"));
    assert!(!answer.contains(&id), "{answer}");
    wait_for_tunnel(&program, 1);
    assert_silent(&program, &[&id, &relay, bad]);
}

#[test]
fn cookies_from_elsewhere_are_silent() {
    if skipped_without("curl") {
        return;
    }
    let dead = "ZGVhZC1jb29raWU";
    let program = start(
        Scenario::default(),
        User::new("alice", PASSWORD),
        &[("cookie", &format!("SVPNCOOKIE={dead}; path=/\n"))],
        &["--cookie-file={}/cookie"],
    );
    wait_for(&program, "refuses the cookie");
    let form = format!("username=alice&credential={}&realm=&ajax=1", encoded(PASSWORD));
    let url = format!("https://{}{LOGIN}", program.gateway.addr());
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--include", "--data", &form, &url])
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let cookie = answer.split("SVPNCOOKIE=").nth(1).unwrap().split(';').next().unwrap();
    let said = program.login(&format!("SVPNCOOKIE={cookie}\n"));
    wait_for_tunnel(&program, 1);
    assert!(!String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).contains(cookie));
    assert_silent(&program, &[dead, cookie]);
}

struct Dice;

impl Random for Dice {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(7);
    }
}

#[test]
fn the_types_of_the_core_show_no_secret() {
    let secret = || Secret::from(PASSWORD.as_bytes());
    let mut shown = Vec::new();
    let mut show = |value: &dyn Debug| {
        shown.push(format!("{value:?}"));
        shown.push(format!("{value:#?}"));
    };
    show(&secret());
    let by_password = Credentials::Password { username: "alice".into(), password: Some(secret()) };
    let cookie = Credentials::Cookie(Secret::from(&b"xyzzy-Passw0rd"[..]));
    for credentials in [by_password, cookie] {
        show(&credentials);
        let config = Config::new("gw.example", 443, credentials);
        show(&config);
        let now =
            Now { mono: Duration::from_secs(9), boot: Duration::from_secs(9), wall: Duration::from_secs(9) };
        let mut session = Session::new(config, Box::new(Dice));
        show(&session);
        session.handle(now, Input::Start);
        session.handle(now, Input::Connected);
        let outputs: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
        assert!(outputs.iter().any(|output| matches!(output, Output::Write(_))));
        show(&outputs);
        let body = format!("ret=2,reqid=1,polid=1,magic={PASSWORD},tokeninfo=");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        session.handle_bytes(now, &mut answer.into_bytes(), &mut |_| {});
        show(&session);
        let outputs: Vec<Output> = std::iter::from_fn(|| session.poll_output()).collect();
        show(&outputs);
        session.handle(now, Input::Cookie(Secret::from(&b"xyzzy-Passw0rd"[..])));
        show(&session);
    }
    show(&[Input::SamlId(PASSWORD.into()), Input::Cookie(secret())]);
    for answer in [Answer::Text(secret()), Answer::TwoCodes(secret(), secret())] {
        show(&answer);
        show(&Input::Answer { question: 1, answer: answer.clone() });
        show(&Submission::Answer { question: 1, answer });
    }
    show(&Submission::Pasted(secret()));
    show(&Submission::Typed { question: 1, text: secret() });
    show(&SignIn { otp: Some(secret()), ..SignIn::default() });
    let proxy = Proxy {
        kind: ProxyKind::Http,
        host: "proxy.example".into(),
        port: 3128,
        user: Some(("alice".into(), secret())),
    };
    show(&Transport { proxy: Some(proxy), ..Transport::default() });
    for text in shown {
        assert!(!text.contains("xyzzy"), "{text}");
        assert!(!text.contains(&format!("{:?}", b"xyzzy").replace(']', "")), "{text}");
    }
}
