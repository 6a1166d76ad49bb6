//! Tunnels over real sockets.

use super::*;

/// A frame's PPP packet; the stream has to be at the start of a frame.
fn read_packet(stream: &mut Stream) -> Vec<u8> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[2..4], [0x50, 0x50]);
    let mut packet = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
    stream.read_exact(&mut packet).unwrap();
    packet
}

#[test]
fn tunnel_carries_and_checks_packets() {
    let bench = Bench::new(Scenario { tls12_only: true, frame_per_record: true, ..Scenario::default() });
    let cookie = format!("SVPNCOOKIE={}", bench.login().cookie("SVPNCOOKIE").unwrap());
    assert_eq!(bench.tunnel_status(&cookie), 403, "no configuration yet");
    let cookie = bench.session();
    let mut tunnel = bench.tunnel(&cookie);
    assert_eq!(tunnel.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    tunnel.write_all(&echo_frame(Ipv4Addr::new(10, 9, 9, 9))).unwrap();
    let reply = ping(&mut tunnel).unwrap();
    assert_eq!(reply[8..], {
        let mut frames = frame::Frames::default();
        let ip =
            frame::Ipv4Out { src: [10, 77, 1, 2], dst: ADDRESS.octets(), protocol: 1, id: 7, fragment: 0 };
        frames.push_ipv4(ip, 8, |icmp| icmp.copy_from_slice(&[0, 0, 0xff, 0xfd, 0, 1, 0, 1]));
        frames.bytes()[8..].to_vec()
    });
    tunnel.write_all(b"\x00\x0c\x50\x50\x00\x06\xc0\x21\x05\x06\x00\x04").unwrap();
    let mut acked = [0; 12];
    tunnel.read_exact(&mut acked).unwrap();
    assert_eq!(acked, *b"\x00\x0c\x50\x50\x00\x06\xc0\x21\x06\x06\x00\x04");
    drop(tunnel);
    bench.wait_for(|event| match event {
        Event::TunnelDown { why: TunnelEnd::ClientTerminated, counts, .. } => {
            (counts.spoofed, counts.packets_in) == (1, 2)
        }
        _ => false,
    });
    assert_eq!(bench.tunnel_status(&cookie), 403, "Terminate ends the session");
}

#[test]
fn tunnels_end_in_every_style() {
    for style in [
        CloseStyle::CloseNotify,
        CloseStyle::Fin,
        CloseStyle::HalfFrame,
        CloseStyle::Reset,
        CloseStyle::Alert(80),
        CloseStyle::BadRecord,
        CloseStyle::Terminate,
        CloseStyle::TerminateThenSilence,
        CloseStyle::Blackhole,
    ] {
        let drop_tunnel_after = Some((Duration::from_millis(200), style));
        let reuse = Some(Duration::from_secs(60));
        let bench = Bench::new(Scenario { drop_tunnel_after, reuse, ..Scenario::default() });
        let cookie = bench.session();
        let mut tunnel = bench.tunnel(&cookie);
        ping(&mut tunnel).unwrap();
        tunnel.sock.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut frame = [0; 64];
        let seen = tunnel.read(&mut frame);
        let expected = match style {
            CloseStyle::CloseNotify => matches!(&seen, Ok(0)),
            CloseStyle::Fin => seen.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof),
            CloseStyle::Reset => seen.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset),
            CloseStyle::HalfFrame => matches!(&seen, Ok(9)) && tunnel.read(&mut frame).is_err(),
            CloseStyle::Alert(_) => seen.as_ref().is_err_and(|e| e.to_string().contains("InternalError")),
            CloseStyle::BadRecord => seen.as_ref().is_err_and(|e| e.to_string().contains("decrypt")),
            CloseStyle::Terminate | CloseStyle::TerminateThenSilence => {
                seen.is_ok() && frame[6..9] == *b"\xc0\x21\x05"
            }
            CloseStyle::Blackhole => seen.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock),
        };
        assert!(expected, "{style:?}: {seen:?}");
        drop(tunnel);
        bench.wait_down(TunnelEnd::Dropped(style));
        bench.gateway.set_scenario(Scenario { reuse, ..Scenario::default() });
        if matches!(style, CloseStyle::Terminate | CloseStyle::TerminateThenSilence) {
            assert_eq!(bench.tunnel_status(&cookie), 403);
        } else {
            let mut second = bench.tunnel(&cookie);
            ping(&mut second).unwrap();
        }
    }
}

#[test]
fn reuse_of_the_cookie() {
    let bench = Bench::new(Scenario::default());
    let cookie = bench.session();
    let tunnel = bench.tunnel(&cookie);
    assert_eq!(bench.tunnel_status(&cookie), 403, "one tunnel only");
    drop(tunnel);
    bench.wait_down(TunnelEnd::ClientClosed);
    assert_eq!(bench.tunnel_status(&cookie), 403, "once only");

    let scenario = Scenario { reuse: Some(Duration::from_millis(150)), ..Scenario::default() };
    // The next session here would have the next address, and the client of this test asks for the first one.
    let bench = Bench::new(scenario.clone());
    let cookie = bench.session();
    let mut old = bench.tunnel(&cookie);
    let mut new = bench.tunnel(&cookie);
    assert!(ping(&mut old).is_err(), "replaced");
    ping(&mut new).unwrap();
    drop(new);
    bench.wait_down(TunnelEnd::ClientClosed);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.tunnel_status(&cookie), 403, "too late");

    bench.gateway.set_scenario(Scenario { tunnels_allowed: Some(2), ..scenario });
    let cookie = bench.session();
    assert_eq!(bench.tunnel_status(&cookie), 403, "no more tunnels");
    bench.wait_for(|event| *event == Event::TunnelRefused("number of tunnels"));
    bench.gateway.set_scenario(Scenario { tunnel_status: Some(500), ..Scenario::default() });
    assert_eq!(bench.tunnel_status(&cookie), 500);
}

#[test]
fn timeouts() {
    let short = Duration::from_millis(200);
    let healthy = Scenario::default;
    for (scenario, why) in [
        (Scenario { idle_timeout: short, ..healthy() }, TunnelEnd::Idle),
        (Scenario { auth_timeout: short, ..healthy() }, TunnelEnd::AuthExpired),
    ] {
        let bench = Bench::new(scenario);
        let cookie = bench.session();
        let mut tunnel = bench.tunnel(&cookie);
        assert_eq!(tunnel.read(&mut [0; 64]).unwrap(), 0);
        bench.wait_down(why);
        assert_eq!(bench.get(CONFIGURATION, &cookie).location(), "/remote/login");
    }
    let bench = Bench::new(Scenario { login_timeout: short, ..healthy() });
    let cookie = bench.session();
    std::thread::sleep(short * 2);
    assert_eq!(bench.tunnel_status(&cookie), 403);
}

#[test]
fn orders_are_followed_at_their_moment() {
    let note = |text: &str| Order::Send(frame(&[b"\xc0\x21\x0b\x01".as_slice(), text.as_bytes()].concat()));
    let orders = vec![
        (Moment::UpFor(Duration::ZERO), note("up")),
        (Moment::Packets(2), note("second")),
        (Moment::UpFor(Duration::from_millis(150)), Order::UpdateKeys),
        (Moment::UpFor(Duration::from_millis(300)), note("later")),
        (Moment::Packets(3), Order::Drop(CloseStyle::Fin)),
    ];
    let bench = Bench::new(Scenario { orders, ..Scenario::default() });
    let mut tunnel = bench.tunnel(&bench.session());
    assert!(read_packet(&mut tunnel).ends_with(b"up"));
    ping(&mut tunnel).unwrap();
    tunnel.write_all(&echo_frame(ADDRESS)).unwrap();
    let both = [read_packet(&mut tunnel), read_packet(&mut tunnel)];
    assert!(both.iter().any(|packet| packet.ends_with(b"second")), "{both:x?}");
    assert!(read_packet(&mut tunnel).ends_with(b"later"), "behind new keys");
    bench.gateway.order_tunnels(&note("from outside"));
    assert!(read_packet(&mut tunnel).ends_with(b"from outside"));
    tunnel.write_all(&echo_frame(ADDRESS)).unwrap();
    while tunnel.read(&mut [0; 64]).is_ok() {}
    bench.wait_down(TunnelEnd::Dropped(CloseStyle::Fin));
}

/// Records that rustls does not make are made here, and the tunnel goes on; in each version and with each cipher.
#[test]
fn records_of_our_own() {
    use rustls::crypto::ring::cipher_suite as suite;
    for cipher in [
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        let mut bench = Bench::new(Scenario { reuse: Some(Duration::from_secs(60)), ..Scenario::default() });
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![cipher],
            ..rustls::crypto::ring::default_provider()
        };
        bench.tls = bench.client_with(provider);
        let mut tunnel = bench.tunnel(&bench.session());
        ping(&mut tunnel).unwrap();
        bench.gateway.order_tunnels(&Order::EmptyRecords(5));
        ping(&mut tunnel).unwrap();
        bench.gateway.order_tunnels(&Order::HelloRequest);
        for _ in 0..3 {
            ping(&mut tunnel).unwrap_or_else(|e| panic!("{cipher:?}: {e}"));
        }
        let tls12 = tunnel.conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2);
        if tls12 {
            // rustls takes one such request and no more.
            bench.gateway.order_tunnels(&Order::HelloRequest);
            let error = tunnel.read(&mut [0; 64]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        } else {
            bench.gateway.kick_tunnels(CloseStyle::CloseNotify);
            assert_eq!(tunnel.read(&mut [0; 64]).unwrap(), 0);
        }
    }
}

#[test]
fn the_first_frame_may_be_anything() {
    let prologue = b"HTTP/1.1 200 OK\r\n\r\n";
    let orders = vec![(Moment::FirstFrame, Order::Send(prologue.to_vec()))];
    let bench = Bench::new(Scenario { orders, ..Scenario::default() });
    let mut tunnel = bench.connect();
    write!(tunnel, "{TUNNEL}Cookie: {}\r\n\r\n", bench.session()).unwrap();
    tunnel.write_all(&frame(b"\xc0\x21\x01\x01\x00\x0a\x05\x06\xde\xad\xbe\xef")).unwrap();
    let mut seen = [0; 19];
    tunnel.read_exact(&mut seen).unwrap();
    assert_eq!(seen, *prologue);
    assert_eq!(read_packet(&mut tunnel)[..3], *b"\xc0\x21\x01");
}

#[test]
fn reading_may_pause_and_be_slow() {
    let bench = Bench::new(Scenario { random_records: true, record_limit: Some(5), ..Scenario::default() });
    let mut tunnel = bench.tunnel(&bench.session());
    bench.gateway.order_tunnels(&Order::PauseReading(Duration::from_millis(400)));
    std::thread::sleep(Duration::from_millis(100));
    let asked = clock();
    ping(&mut tunnel).unwrap();
    assert!(asked.elapsed() > Duration::from_millis(200), "{:?}", asked.elapsed());
    bench.gateway.order_tunnels(&Order::ReadSlowly(10, Duration::from_millis(20)));
    std::thread::sleep(Duration::from_millis(100));
    let asked = clock();
    ping(&mut tunnel).unwrap();
    assert!(asked.elapsed() > Duration::from_millis(50), "{:?}", asked.elapsed());
}

#[test]
fn the_link_may_be_negotiated_anew() {
    let bench = Bench::new(Scenario::default());
    let mut tunnel = bench.tunnel(&bench.session());
    ping(&mut tunnel).unwrap();
    bench.gateway.order_tunnels(&Order::Renegotiate);
    let asked = read_packet(&mut tunnel);
    assert_eq!(asked[..3], *b"\xc0\x21\x01");
    let ack = [b"\xc0\x21\x02".as_slice(), &asked[3..]].concat();
    tunnel.write_all(&frame(&ack)).unwrap();
    tunnel.write_all(&frame(b"\xc0\x21\x01\x09\x00\x0a\x05\x06\xde\xad\xbe\xef")).unwrap();
    assert_eq!(read_packet(&mut tunnel)[..4], *b"\xc0\x21\x02\x09");
    assert_eq!(read_packet(&mut tunnel)[..3], *b"\x80\x21\x01", "IPCP again");
}

#[test]
fn a_second_fetch_may_end_the_session() {
    let bench = Bench::new(Scenario {
        refetch_ends_session: true,
        reuse: Some(Duration::from_secs(60)),
        configuration: Some("<sslvpn-tunnel>{address}</sslvpn-tunnel>".into()),
        ..Scenario::default()
    });
    let cookie = bench.session();
    let again = bench.get(CONFIGURATION, &cookie);
    assert_eq!(again.2, format!("<sslvpn-tunnel>{ADDRESS}</sslvpn-tunnel>"));
    assert_eq!(bench.tunnel_status(&cookie), 403);
}

#[test]
fn packets_may_be_reflected() {
    let options =
        Options { users: vec![User::new("alice", "p+w")], far_side: FarSide::Reflect, ..Options::default() };
    let bench = Bench::of(options);
    let mut tunnel = bench.tunnel(&bench.session());
    let reply = ping(&mut tunnel).unwrap();
    let sent = echo_frame(ADDRESS);
    assert_eq!((&reply[20..24], &reply[24..28]), (&sent[24..28], &sent[20..24]));
    assert_eq!((&reply[..20], &reply[28..]), (&sent[..20], &sent[28..]));
}
