//! The end of a session that is known beforehand, changes of the network, and sleep.

use super::*;

fn life(seconds: u64, reuse: u8) -> Reply {
    let Http(text) = xml("10.0.3.1", reuse) else { unreachable!() };
    let (_, body) = text.split_once("<?xml").unwrap();
    let body = format!("<?xml{}", body.split("\r\n").next().unwrap());
    ok("", &body.replace("</sslvpn-tunnel>", &format!("<auth-timeout val='{seconds}' /></sslvpn-tunnel>")))
}

fn signed_in(seconds: u64, reuse: u8) -> Bench {
    let mut b = Bench::saml().script("/remote/fortisslvpn_xml", vec![life(seconds, reuse)]);
    b.handle(Input::Start);
    b.run(30.0);
    b.handle(Input::SamlId("one".into()));
    assert!(b.session.is_up());
    assert_eq!(b.session.session_ends(), Some(b.now.boot + Duration::from_secs(seconds)));
    b
}

fn left(b: &Bench) -> Vec<u64> {
    let left = |event: &Output| match event {
        Output::LoginNeeded { left, .. } => left.map(|left| left.as_secs()),
        Output::Note(Event::SessionEnds(left)) => Some(left.as_secs()),
        _ => None,
    };
    b.events.iter().filter_map(left).collect()
}

#[test]
fn a_person_is_told_in_time() {
    for (seconds, expected) in
        [(28_800, vec![600, 60]), (1200, vec![600, 60]), (600, vec![300, 60]), (100, vec![50]), (10, vec![5])]
    {
        let mut b = signed_in(seconds, 0);
        b.run(seconds as f64 - 1.0);
        assert_eq!(left(&b), expected);
        assert!(b.session.is_up() && b.connects == 2);
    }
    // Others sign in by themselves when it is time.
    let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![life(1200, 0)]).up();
    b.run(1190.0);
    assert_eq!(left(&b), [600, 60]);
    assert_eq!(b.links(), 0);
    // Asleep over the first time: told of what is left.
    let mut b = signed_in(28_800, 0);
    b.now.boot += Duration::from_secs(28_700);
    b.session.handle_timeout(b.now);
    b.pump();
    assert_eq!(left(&b), [100]);
    b.run(50.0);
    assert_eq!(left(&b), [100, 60]);
}

#[test]
fn the_time_counts_from_the_sign_in_over_drops() {
    let mut b = signed_in(1200, 1);
    let ends = b.session.session_ends();
    b.run(300.0);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(1.0);
    assert!(b.session.is_up());
    assert_eq!(b.session.session_ends(), ends);
    b.run(300.0);
    assert_eq!(left(&b), [600]);
    // A drop with the link open takes it back, and gives it again.
    b.handle(Input::Closed(CloseReason::Eof));
    assert!(b.events.iter().rev().take(3).any(|e| *e == Output::LoginDone), "{:?}", b.events);
    b.run(1.0);
    b.run(59.0 * 9.0);
    assert!(b.session.is_up());
    // At the end the old cookie is not tried again.
    b.run(1200.0 - 300.0 - 300.0 - 2.0 - 59.0 * 9.0 - 1.0);
    let tunnels = b.sent("/remote/sslvpn-tunnel");
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(10.0);
    assert_eq!(b.sent("/remote/sslvpn-tunnel"), tunnels);
    assert!(matches!(b.events.last(), Some(Output::LoginNeeded { left: None, .. })), "{:?}", b.events);
}

#[test]
fn a_sign_in_before_the_end_changes_over() {
    let mut b = signed_in(1200, 0);
    b.handle(Input::SamlId("early".into()));
    assert_eq!(b.sent("/remote/saml"), 1, "not before it is asked for");
    b.run(700.0);
    b.script.insert("/remote/saml/auth_id", vec![accepted("s2")]);
    b.handle(Input::SamlId("a b".into()));
    assert!(b.session.is_up());
    b.handle(Input::SamlId("two".into()));
    assert!(b.session.is_up(), "{:?}", b.events);
    assert_eq!(
        b.requests[3..],
        [
            "/remote/saml/auth_id?id=two -",
            "/remote/logout SVPNCOOKIE=s1",
            "/remote/fortisslvpn_xml?dual_stack=1 SVPNCOOKIE=s2",
            "/remote/sslvpn-tunnel SVPNCOOKIE=s2",
        ]
    );
    let down = b.events.iter().position(|e| *e == Output::Down(DownReason::Renewing)).unwrap();
    assert_eq!(b.events[down - 1], Output::LoginDone);
    assert_eq!(b.session.session_ends(), Some(b.now.boot + Duration::from_secs(1200)));
    b.run(650.0);
    assert_eq!(left(&b), [600, 600]);
    b.handle(Input::SamlId("three".into()));
    assert!(b.session.is_up() && b.session.renewal.old.is_none());
}

#[test]
fn a_bad_id_does_not_cost_the_session() {
    for refusal in
        [status("403 Forbidden"), ok("SVPNCOOKIE=", ""), Close(CloseReason::Eof), Silence, status("503 No")]
    {
        let mut b = signed_in(1200, 1);
        b.run(700.0);
        b.script.insert("/remote/saml/auth_id", vec![refusal, accepted("s2")]);
        b.handle(Input::SamlId("bogus".into()));
        b.run(42.0);
        assert!(b.session.is_up(), "{:?}", b.events);
        assert_eq!(b.requests.last().unwrap(), "/remote/sslvpn-tunnel SVPNCOOKIE=s1");
        assert_eq!((b.sent("/remote/logout"), b.links()), (0, 3), "{:?}", b.events);
        b.handle(Input::SamlId("good".into()));
        assert!(b.session.is_up() && b.requests.last().unwrap().ends_with("=s2"));
    }
}

#[test]
fn one_session_per_user_ends_the_old_one_first() {
    let mut b = signed_in(1200, 0);
    b.run(700.0);
    b.script
        .insert("/remote/saml/auth_id", vec![ok("", "ret=1,redir=/remote/loginconfirm?x"), accepted("s2")]);
    b.handle(Input::SamlId("two".into()));
    assert_eq!(b.requests.last().unwrap(), "/remote/logout SVPNCOOKIE=s1");
    assert!(matches!(b.events.last(), Some(Output::LoginNeeded { left: None, .. })));
    b.handle(Input::SamlId("three".into()));
    assert!(b.session.is_up());
}

#[test]
fn stopping_in_the_middle_of_a_change_logs_out() {
    let mut b = signed_in(1200, 0);
    b.run(700.0);
    b.script.insert("/remote/saml/auth_id", vec![Silence]);
    b.handle(Input::SamlId("two".into()));
    b.handle(Input::Stop);
    assert_eq!(b.requests.last().unwrap(), "/remote/logout SVPNCOOKIE=s1");
    assert_eq!(b.events.last(), Some(&Output::Stopped));
}

#[test]
fn a_change_of_the_network_is_looked_into_at_once() {
    let mut b = Bench::password().script("/remote/fortisslvpn_xml", vec![xml("10.0.3.1", 1)]).up();
    b.handle(Input::NetworkChanged);
    b.run(5.0);
    assert!(b.session.is_up() && b.connects == 1, "still there");
    b.alive = false;
    b.handle(Input::NetworkChanged);
    b.run(2.9);
    assert!(b.session.is_up());
    b.alive = true;
    b.run(0.2);
    assert_eq!(b.events.last(), Some(&Output::Note(Event::Resuming)));
    assert_eq!(b.events[1], Output::Down(DownReason::Unanswered));
    b.run(1.0);
    assert!(b.session.is_up());
    // Waiting to try again: not any longer.
    let mut b = Bench::password();
    b.refuse = vec![CloseReason::Refused("no route".into()); 8];
    b.handle(Input::Start);
    b.run(130.0);
    assert!(!b.session.is_up() && b.refuse.is_empty());
    b.handle(Input::NetworkChanged);
    assert!(b.session.is_up());
    b.handle(Input::Stop);
    b.handle(Input::NetworkChanged);
    assert_eq!(b.events.last(), Some(&Output::Stopped));
}

#[test]
fn after_sleep_nothing_waits_any_longer() {
    let mut b = Bench::password();
    b.refuse = vec![CloseReason::Refused("no route".into()); 8];
    b.handle(Input::Start);
    b.run(130.0);
    b.session.handle_timeout(b.now);
    b.pump();
    assert!(!b.session.is_up() && b.refuse.is_empty());
    b.now.boot += Duration::from_secs(3600);
    b.session.handle_timeout(b.now);
    b.pump();
    assert!(b.session.is_up());
    // A tunnel that died in the meantime is noticed in three seconds.
    b.alive = false;
    b.now.boot += Duration::from_secs(3600);
    b.session.handle_timeout(b.now);
    b.pump();
    b.run(3.1);
    assert!(!b.session.is_up());
}
