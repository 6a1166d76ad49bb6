//! A sign-in whose gateway answers anything: short answers, pages with forms, redirections; and given cookies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pterodapter::crypto::Secret;
use pterodapter::fortivpn::{Answer, Config, Credentials, Input, Output, QuestionKind, Session, cookie};
use pterodapter_fuzz::{Counter, Events, now};

const STATUS: [&str; 5] = ["200 OK", "401 Authorization Required", "302 Found", "405 No", "503 Busy"];

fuzz_target!(|data: &[u8]| {
    if let Ok(cookie) = cookie::parse_given(data) {
        assert!(!cookie.is_empty() && cookie.expose().iter().all(u8::is_ascii_graphic));
    }
    let credentials = Credentials::Username { username: "alice".into() };
    let mut session = Session::new(Config::new("gw.example", 443, credentials), Box::new(Counter::default()));
    session.handle(now(0), Input::Start);
    for (millis, (kind, body)) in Events(data).enumerate() {
        let t = now(millis as u64);
        drain(&mut session, millis as u64);
        let status = STATUS.get(usize::from(kind % 8)).unwrap_or(&"200 OK");
        let mut response = match kind % 8 {
            // The body is the place to go to.
            2 => format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: ").into_bytes(),
            _ => format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
        };
        response.extend(body);
        if kind % 8 == 2 {
            response.extend(b"\r\n\r\n");
        }
        session.handle_bytes(t, &mut response, &mut |_| {});
    }
    session.handle(now(1_000_000), Input::Stop);
    drain(&mut session, 1_000_000);
});

/// A network that works, and a person who answers whatever is asked.
fn drain(session: &mut Session, millis: u64) {
    let secret = || Secret::from(&b"123456"[..]);
    while let Some(output) = session.poll_output() {
        match output {
            Output::Connect => session.handle(now(millis), Input::Connected),
            Output::Write(bytes) if bytes.starts_with(b"GET ") || bytes.starts_with(b"POST ") => {
                let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
                assert!(line.ends_with(b" HTTP/1.1") && line.iter().filter(|&&b| b == b' ').count() == 2);
            }
            Output::Ask(question) => {
                assert!(!question.text.chars().any(char::is_control));
                let answer = match question.kind {
                    QuestionKind::TwoCodes => Answer::TwoCodes(secret(), secret()),
                    _ => Answer::Text(secret()),
                };
                session.handle(now(millis), Input::Answer { question: question.id, answer });
            }
            _ => {}
        }
    }
}
