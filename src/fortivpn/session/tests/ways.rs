//! The other ways to sign in: a password that is asked for, a user name, a client certificate, a cookie.

use super::*;
use crate::fortivpn::HostCheckValues;
use crate::fortivpn::cookie::Error::NoCookie;

fn cookie(value: &str) -> Secret {
    Secret::from(value.as_bytes())
}

#[test]
fn a_password_is_asked_for_when_the_gateway_is_there() {
    let mut b = Bench::asking();
    b.refuse = vec![CloseReason::Refused("down".into())];
    b.handle(Input::Start);
    assert_eq!(b.questions(), 0);
    b.run(2.0);
    let question =
        Question { id: 1, kind: QuestionKind::Password, text: String::new(), sent_to: None, again: false };
    assert_eq!((b.question(), b.requests.len(), b.connected), (&question, 0, false));
    // What is no answer to it changes nothing.
    b.say("");
    b.answer(Answer::Push);
    b.handle(Input::Answer { question: 7, answer: Answer::Text(cookie("x")) });
    assert_eq!(b.requests.len(), 0);
    b.run(590.0);
    b.say("p w");
    assert!(b.session.is_up());
    assert_eq!(b.bodies, ["username=alice&credential=p%20w&realm=staff&ajax=1&just_logged_in=1"]);
    b.say("again");
    assert_eq!(b.bodies.len(), 1, "an answer counts once");
    // It was good: it signs in again by itself.
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3.0);
    assert!(b.session.is_up());
    assert_eq!((b.questions(), b.bodies.len()), (1, 2));

    let mut b = Bench::asking();
    b.handle(Input::Start);
    b.run(601.0);
    assert_eq!(b.events[1..], [Output::LoginDone, Output::Failed(Error::SignInTimeout)]);
}

#[test]
fn the_second_refusal_in_a_minute_is_a_lockout() {
    for (wait, error) in [(30.0, Error::LockedOut), (61.0, Error::Denied)] {
        let mut b = Bench::password().script("/remote/logincheck", vec![denied()]);
        b.handle(Input::Start);
        b.handle(Input::Retry);
        b.run(wait);
        b.say("other");
        assert_eq!(b.events.last(), Some(&Output::Failed(error)));
        assert_eq!(b.bodies.len(), 2);
    }
}

#[test]
fn a_user_name_without_a_password() {
    let b = Bench::username().up();
    assert_eq!(b.bodies, ["username=alice&realm=staff&ajax=1&redir=%2Fremote%2Findex&just_logged_in=1"]);
    let mut b = Bench::username().script("/remote/logincheck", vec![denied()]);
    b.handle(Input::Start);
    b.run(600.0);
    assert_eq!((b.failed(), b.bodies.len()), (Some(&Error::Denied), 1));
    b.handle(Input::Retry);
    assert_eq!(b.bodies.len(), 2);
}

#[test]
fn the_client_certificate_alone() {
    let b = Bench::new(Credentials::Certificate).script("/remote/login", vec![accepted("z")]).up();
    assert_eq!(
        b.requests[..2],
        ["/remote/login?realm=staff -", "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=z"]
    );
    assert!(b.bodies.is_empty());
    // Once to the login page in another language, not on and on.
    let other = status("303 See Other\r\nLocation: /remote/login?realm=staff&lang=en");
    let script = vec![other.clone(), accepted("z")];
    let b = Bench::new(Credentials::Certificate).script("/remote/login", script).up();
    assert_eq!(b.requests[1], "/remote/login?realm=staff&lang=en -");
    for reply in [other, ok("", "<html><form action='/remote/logincheck'>"), status("403 Forbidden")] {
        let mut b = Bench::new(Credentials::Certificate).script("/remote/login", vec![reply]);
        b.handle(Input::Start);
        b.run(60.0);
        assert_eq!(b.failed(), Some(&Error::CertificateAlone));
        assert!(b.sent("/remote/login") <= 2);
    }
    // Nothing secret is sent, so it is tried again.
    let script = vec![Close(CloseReason::Eof), accepted("z")];
    let mut b = Bench::new(Credentials::Certificate).script("/remote/login", script);
    b.handle(Input::Start);
    b.run(2.0);
    assert!(b.session.is_up());
}

#[test]
fn a_client_certificate_that_is_refused_or_missing_is_said_at_once() {
    let reason = CloseReason::ClientCertificate("alert".into());
    let error = Error::ClientCertificate("alert".into());
    // TLS 1.2 says it in the handshake, TLS 1.3 in place of the first answer.
    let mut early = Bench::password();
    early.refuse = vec![reason.clone()];
    let late = Bench::password().script("/remote/logincheck", vec![Close(reason.clone())]);
    for mut b in [early, late] {
        b.handle(Input::Start);
        b.run(600.0);
        assert_eq!((b.failed(), b.connects), (Some(&error), 1));
        b.script.insert("/remote/logincheck", vec![accepted("c")]);
        b.handle(Input::Retry);
        assert!(b.session.is_up(), "the password was not refused");
    }
}

#[test]
fn a_cookie_from_outside() {
    let mut b = Bench::new(Credentials::Cookie(cookie("COOKIE='SVPNCOOKIE=out+side=='\n"))).up();
    assert_eq!(b.requests[0], "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=out+side==");
    assert!(!format!("{:?}", b.session).contains("out+side"));
    assert_eq!(b.session.session_ends(), None);
    // Its session is over: only another cookie helps.
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(60.0);
    assert_eq!((b.failed(), b.connects), (Some(&Error::CookieOver), 2));
    b.handle(Input::Retry);
    assert_eq!(b.connects, 2);
    b.handle(Input::Cookie(cookie("two words")));
    assert_eq!(b.connects, 2);
    assert_eq!(b.events.last(), Some(&Output::Note(Event::NoCookie(NoCookie))));
    b.handle(Input::Cookie(cookie("Set-Cookie: SVPNCOOKIE=new; path=/\r\n")));
    assert!(b.session.is_up());
    assert_eq!(b.requests.last().unwrap(), "/remote/sslvpn-tunnel SVPNCOOKIE=new");

    let mut b = Bench::new(Credentials::Cookie(cookie("two words")));
    b.handle(Input::Start);
    assert_eq!((b.failed(), b.connects), (Some(&Error::BadCookie(NoCookie)), 0));

    let refused = status("302 Found\r\nLocation: /remote/login");
    let mut b = Bench::new(Credentials::Cookie(cookie("x"))).script("/remote/fortisslvpn_xml", vec![refused]);
    b.handle(Input::Start);
    b.run(60.0);
    assert_eq!((b.failed(), b.requests.len()), (Some(&Error::CookieRefused), 1));
}

#[test]
fn a_cookie_is_taken_wherever_a_sign_in_is_wanted() {
    let take = |mut b: Bench| {
        b.handle(Input::Cookie(cookie("given")));
        assert!(b.session.is_up(), "{:?}", b.events);
        assert!(b.requests.contains(&"/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=given".to_owned()));
        b
    };
    take(Bench::saml());
    let mut b = Bench::saml();
    b.handle(Input::Start);
    assert_eq!(take(b).events[1], Output::LoginDone);
    let mut b = Bench::asking();
    b.handle(Input::Start);
    assert_eq!(take(b).events[1], Output::LoginDone);
    let mut b = Bench::password().script("/remote/logincheck", vec![denied()]);
    b.handle(Input::Start);
    take(b);
    let mut b = Bench::password();
    b.refuse = vec![CloseReason::Refused("down".into())];
    b.handle(Input::Start);
    take(b);
    let mut b = Bench::password().up();
    b.handle(Input::Cookie(cookie("given")));
    assert_eq!(b.requests.len(), 3, "not while the tunnel is up");
}

#[test]
fn host_check_values() {
    let form = ok("", "<html><form action=\"/remote/hostcheck_validate?x=1&amp;y=2\" method=post>");
    let hop = ok("SVPNTMPCOOKIE=tmp", "ret=1,redir=/remote/hostcheck_install?a=1");
    let bench = |values: bool| {
        let mut b = Bench::password().script("/remote/logincheck", vec![hop.clone()]);
        b.script.insert("/remote/hostcheck_install", vec![form.clone()]);
        b.script.insert("/remote/hostcheck_validate", vec![accepted("v")]);
        b.session.config.host_check = values
            .then(|| HostCheckValues { hostcheck: "0100,10.0,A B".into(), virtual_desktop: "0".into() });
        b
    };
    let b = bench(true).up();
    assert_eq!(b.requests[2], "/remote/hostcheck_validate?x=1&y=2 SVPNTMPCOOKIE=tmp");
    assert_eq!(b.bodies[1], "hostcheck=0100%2C10.0%2CA%20B&check_virtual_desktop=0");
    let mut b = bench(false);
    b.handle(Input::Start);
    assert_eq!((b.failed(), b.bodies.len()), (Some(&Error::HostCheck), 1));
    let mut b = bench(true).script("/remote/hostcheck_validate", vec![form.clone()]);
    b.handle(Input::Start);
    assert_eq!((b.failed(), b.sent("/remote/hostcheck")), (Some(&Error::HostCheck), 2));
    // Refused there, the password is not to blame.
    let mut b = bench(true).script("/remote/hostcheck_validate", vec![denied()]);
    b.handle(Input::Start);
    assert_eq!(b.failed(), Some(&Error::HostCheck));
    b.handle(Input::Retry);
    assert_eq!((b.questions(), b.sent("/remote/logincheck")), (0, 2));
}
