//! Drops, and the way back.

use super::*;

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
