//! Answers that go wrong, and a restart.

use super::*;

const LOGIN: &str = "/remote/login";

fn bench(faults: Vec<AnswerFault>) -> Bench {
    Bench::new(Scenario { faults, ..Scenario::default() })
}

impl Bench {
    /// All octets until the connection ends or is silent for `limit`, and whether it ended by close_notify.
    fn raw(&self, target: &str, limit: Duration) -> (String, Option<bool>) {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: gw\r\n\r\n").unwrap();
        stream.sock.set_read_timeout(Some(limit)).unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
        let end = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Some(true),
                Ok(len) => bytes.extend_from_slice(&buffer[..len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break None,
                Err(_) => break Some(false),
            }
            if bytes.len() > 1 << 20 {
                break None;
            }
        };
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }
}

#[test]
fn faults_of_an_answer() {
    let short = Duration::from_millis(400);
    // What, what the octets contain, how the connection ends: by close_notify, by a cut, or not within `short`.
    for (fault, contains, end) in [
        (Fault::status(500), "HTTP/1.1 500 Internal", None),
        (Fault::redirect("https://elsewhere.example/"), "Location: https://elsewhere.example/\r\n", None),
        (Fault::Bytes(b"HTTP/1.1 200 OK\r\n\r\nuntil EOF".to_vec()), "until EOF", Some(false)),
        (Fault::Close, "", Some(true)),
        (Fault::Reset, "", Some(false)),
        (Fault::Hang, "", None),
        (Fault::Lost, "", Some(true)),
        (Fault::Delay(short / 4), "200 OK", None),
        (Fault::Dribble(Duration::from_micros(100)), "\r\n0\r\n\r\n", None),
        (Fault::Split(2), "HTTP/1.1 200 OK", None),
        (Fault::Framing(Framing::Length), "Content-Length: ", None),
        (Fault::Framing(Framing::UntilClose), "\r\n\r\n<!DOCTYPE", Some(true)),
        (Fault::Framing(Framing::UntilCut), "\r\n\r\n<!DOCTYPE", Some(false)),
        (Fault::Framing(Framing::UpperCase), "\r\n\r\n000002", None),
        (Fault::Framing(Framing::Extension), "0;last\r\nX-Trailer: 1\r\n\r\n", None),
        (Fault::Framing(Framing::BadSize("-5")), "\r\n\r\n-5\r\n<!DOCTYPE", None),
        (Fault::Framing(Framing::NoLastChunk), "</html>\r\n", Some(false)),
        (Fault::Gzip, "Content-Encoding: gzip\r\n", None),
        (Fault::KeptOpen, "Connection: close\r\n", None),
        (Fault::ClosedSilently, "Connection: Keep-Alive\r\n", Some(false)),
    ] {
        let bench = bench(vec![AnswerFault::on(LOGIN, fault.clone()).times(1)]);
        let (octets, seen) = bench.raw(LOGIN, short);
        assert!(octets.contains(contains) && seen == end, "{fault:?}: {seen:?} {octets}");
        assert_eq!(bench.get(LOGIN, "").0, 200, "{fault:?}: once only");
    }
}

#[test]
fn long_and_endless_answers() {
    let bench = bench(vec![AnswerFault::on(LOGIN, Fault::Padding(65_536))]);
    assert!(bench.get(LOGIN, "").1.len() > 65_536);
    for fault in [Fault::EndlessHead, Fault::EndlessBody] {
        bench
            .gateway
            .set_scenario(Scenario { faults: vec![AnswerFault::on("*", fault)], ..Scenario::default() });
        assert!(bench.raw(LOGIN, Duration::from_secs(5)).0.len() > 1 << 20);
    }
}

#[test]
fn faults_have_their_turn() {
    let late = AnswerFault::on(LOGIN, Fault::status(503)).after(1).times(2);
    let bench = bench(vec![late, AnswerFault::on("/remote/info", Fault::status(500))]);
    let seen: Vec<_> = (0..5).map(|_| bench.get(LOGIN, "").0).collect();
    assert_eq!(seen, [200, 503, 503, 200, 200]);
    assert_eq!((bench.get("/remote/info", "").0, bench.get("/remote/index", "").0), (500, 302));
}

#[test]
fn cookies_of_every_style() {
    for (style, line) in [
        (CookieStyle::LowerCase, "set-cookie:SVPNCOOKIE="),
        (CookieStyle::TwoSpaces, "Set-Cookie:  SVPNCOOKIE="),
        (CookieStyle::NoSemicolon, "%0a\r\n"),
        (CookieStyle::SameSite, ";httponly;samesite=Strict\r\n"),
        (CookieStyle::ClearingFirst, "secure; httponly\r\nSet-Cookie: SVPNCOOKIE="),
        (CookieStyle::ClearingLast, "Set-Cookie: SVPNCOOKIE=; path=/; expires"),
        (CookieStyle::Lookalikes, "XSVPNCOOKIE=wrong2"),
        (CookieStyle::Zero, "SVPNCOOKIE=0;"),
        (CookieStyle::Missing, ""),
    ] {
        let scenario = Scenario {
            faults: vec![AnswerFault::on("/remote/logincheck", Fault::Cookie(style))],
            cookie_length: 4000,
            ..Scenario::default()
        };
        let head = Bench::new(scenario).login().1;
        assert!(head.contains(line), "{style:?}: {head}");
        let gone = matches!(style, CookieStyle::Zero | CookieStyle::Missing);
        assert_eq!(head.len() > 4000, !gone, "{style:?}");
    }
}

#[test]
fn the_source_may_change() {
    let bench = Bench::new(Scenario::default());
    let cookie = bench.session();
    let source = Some("192.0.2.9".parse().unwrap());
    bench.gateway.set_scenario(Scenario { source, ..Scenario::default() });
    assert_eq!(bench.get("/remote/index", &cookie).0, 302);
}

#[test]
fn a_restart_ends_everything() {
    let bench = Bench::new(Scenario { reuse: Some(Duration::from_secs(60)), ..Scenario::default() });
    let cookie = bench.session();
    let mut tunnel = bench.tunnel(&cookie);
    let mut waiting = bench.connect();
    waiting.write_all(b"GET /remote/info HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut waiting).0, 200);
    bench.gateway.restart(Duration::from_millis(300));
    assert!(ping(&mut tunnel).is_err() && waiting.read(&mut [0]).is_err());
    assert!(TcpStream::connect(bench.gateway.addr()).is_err(), "down");
    bench.wait_for(|event| *event == Event::Restarted);
    assert_eq!(bench.tunnel_status(&cookie), 403, "forgotten");
    ping(&mut bench.tunnel(&bench.session())).unwrap();
}
