//! Configuration, tunnel, stop, and all of it together.

use super::*;

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
