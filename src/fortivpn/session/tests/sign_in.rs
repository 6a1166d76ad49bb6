//! Signing in: the ways that are taken most.

use super::*;

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
        (ok("", "ret=0,redir=/remote/login?&err=sslvpn_login_unknown_user"), Error::UnknownUser),
        (ok("", "ret=0,redir=/remote/login?&err=sslvpn_login_no_matching_policy"), Error::NoPolicy),
        (ok("", "ret=1,redir=/remote/loginconfirm?x"), Error::SessionExists),
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
        // What was refused is forgotten; what never got an answer was not refused.
        if !b.session.is_up() {
            assert!(matches!(error, Error::Denied | Error::PasswordExpired | Error::UnknownUser), "{error}");
            let Question { kind, again, .. } = b.question().clone();
            assert_eq!((kind, again, b.requests.len()), (QuestionKind::Password, true, 1));
            b.say("other");
            assert!(b.bodies[1].contains("&credential=other&"), "{}", b.bodies[1]);
        }
        assert!(b.session.is_up());
    }
}
