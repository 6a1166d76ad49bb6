//! How the gateway is reached and recognised: the whole daemon against the gateway double.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{happens, skipped_without, wall};
use lab::{Lab, Setup, eventually};
use pterodapter::crypto::pki::subject_public_key_info;
use pterodapter::crypto::{Secret, hash::sha256};
use pterodapter::demo::gateway::{
    CertificateKind, ClientCertificate, CloseStyle, Event, Handshake, Scenario, ServerCertificate, TlsKnobs,
};
use pterodapter::engine::{self, Config, Pin, Proxy, Transport};
use pterodapter::provision::Authority;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

const CONFIG: &str = "/remote/fortisslvpn_xml";
const KINDS: [CertificateKind; 6] = [
    CertificateKind::Good,
    CertificateKind::CommonNameOnly,
    CertificateKind::AuthorityAsLeaf,
    CertificateKind::Expired,
    CertificateKind::Version1,
    CertificateKind::WrongHost,
];

#[test]
fn f01_a_gateway_without_a_word_is_left_after_a_while() {
    let silent = TlsKnobs { handshake_times: Some(1), ..handshake(Handshake::Silent) };
    let lab = Lab::start(with_tls(silent));
    lab.wait_for_tunnel(1);
}

#[test]
fn f02_handshakes_that_break_are_tried_again() {
    for style in [Handshake::Reset, Handshake::Close] {
        let lab = Lab::start(with_tls(TlsKnobs { handshake_times: Some(1), ..handshake(style) }));
        lab.wait_for_tunnel(1);
    }
}

#[test]
fn f02_what_cannot_be_agreed_on_is_told() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    for (style, words) in [
        (Handshake::Alert(HANDSHAKE_FAILURE), "no cipher in common"),
        (Handshake::Alert(PROTOCOL_VERSION), "neither TLS 1.2 nor TLS 1.3"),
        (Handshake::Plaintext, "does not speak TLS"),
    ] {
        let lab = Lab::start(with_tls(handshake(style)));
        lab.wait_for_error(words);
    }
}

#[test]
fn f03_a_pin_that_does_not_fit_ends_everything_before_a_word() {
    let certificate = make(CertificateKind::Good, None);
    let seen = Pin::Certificate(sha256(&[certificate.leaf_der()]));
    let lab = Lab::start(pinned(certificate, false, |_| Pin::Certificate([7; 32])));
    lab.wait_for_failure("not the one that was pinned");
    let error = lab.errors().remove(0);
    assert!(error.contains(&format!("--trusted-cert {seen}")), "{error}");
    assert_nothing_was_said(&lab);
}

#[test]
fn f03_a_certificate_that_changes_under_way_gets_no_cookie() {
    let [first, second] = [(); 2].map(|()| make(CertificateKind::Good, None));
    let pin = Pin::Certificate(sha256(&[first.leaf_der()]));
    let tls =
        TlsKnobs { certificate: Some(first), certificate_after_login: Some(second), ..TlsKnobs::default() };
    let scenario = Scenario { tls, close_after_answer: true, ..Scenario::default() };
    let lab = Lab::start(Setup {
        configure: Box::new(move |config| config.transport.pins = vec![pin]),
        ..Setup::of(scenario)
    });
    lab.wait_for_failure("not the one that was pinned");
    assert!(lab.posts() > 0 && lab.requests(CONFIG) == 0, "{:?}", lab.gateway.journal());
}

#[test]
fn f03_a_pinned_certificate_without_its_key_is_worth_nothing() {
    let other =
        Authority::new("Somebody", wall(), 2).unwrap().issue_server(&["127.0.0.1"], wall(), 2).unwrap();
    let stolen = ServerCertificate::from_pem(&file("p256.cert.pem"), &other.key_pem).unwrap();
    for tls12_only in [false, true] {
        let pin = |certificate: &[u8]| Pin::Certificate(sha256(&[certificate]));
        let lab = Lab::start(pinned(stolen.clone(), tls12_only, pin));
        lab.wait_for_failure("did not prove that it has the key");
        assert_nothing_was_said(&lab);
    }
}

#[test]
fn b22_pins_stand_for_certificates_of_every_kind() {
    let by_certificate = |certificate: &[u8]| Pin::Certificate(sha256(&[certificate]));
    let by_key = |certificate: &[u8]| Pin::Key(sha256(&[subject_public_key_info(certificate).unwrap()]));
    for kind in KINDS {
        Lab::start(pinned(make(kind, None), false, by_certificate)).wait_for_tunnel(1);
        Lab::start(pinned(make(kind, None), true, by_key)).wait_for_tunnel(1);
    }
    for name in ["rsa", "p384"] {
        let [cert, key] = ["cert", "key"].map(|kind| file(&format!("{name}.{kind}.pem")));
        let certificate = ServerCertificate::from_pem(&cert, &key).unwrap();
        for tls12_only in [false, true] {
            Lab::start(pinned(certificate.clone(), tls12_only, by_certificate)).wait_for_tunnel(1);
        }
    }
}

#[test]
fn b22_certificates_that_nobody_vouches_for_are_explained() {
    let authority = Authority::new("Company authority", wall(), 2).unwrap();
    for (kind, signed, words) in [
        (
            CertificateKind::Good,
            false,
            "its issuer is no authority that is trusted (subject 127.0.0.1, self-signed)",
        ),
        (CertificateKind::CommonNameOnly, true, "has no alternative name"),
        (
            CertificateKind::AuthorityAsLeaf,
            true,
            "an authority's, not a server's (subject FGT60FTK20012345, issuer",
        ),
        (CertificateKind::Expired, true, "it expired 1 days ago"),
        (CertificateKind::Version1, true, "X.509 version 1"),
        (CertificateKind::WrongHost, true, "it is for elsewhere.example, not for 127.0.0.1"),
    ] {
        let certificate = make(kind, signed.then_some(&authority));
        let pin = Pin::Certificate(sha256(&[certificate.leaf_der()]));
        let lab = Lab::start(trusting(&authority, certificate, |_| {}));
        lab.wait_for_failure(words);
        let error = lab.errors().remove(0);
        assert!(
            error.contains(&format!("--trusted-cert {pin}")) && error.contains("--gateway-ca"),
            "{error}"
        );
        assert_nothing_was_said(&lab);
    }
}

#[test]
fn b22_the_name_to_look_for_can_be_given() {
    let authority = Authority::new("Company authority", wall(), 2).unwrap();
    let certificate = make(CertificateKind::WrongHost, Some(&authority));
    let lab = Lab::start(trusting(&authority, certificate, |transport| {
        transport.server_name = Some("elsewhere.example".try_into().unwrap());
    }));
    lab.wait_for_tunnel(1);
}

#[test]
fn b22_versions_and_groups() {
    for (tls12_only, p384_only) in [(true, true), (true, false), (false, true)] {
        let tls = TlsKnobs { p384_only, ..TlsKnobs::default() };
        Lab::start(Setup::of(Scenario { tls, tls12_only, ..Scenario::default() })).wait_for_tunnel(1);
    }
}

#[test]
fn b22_client_certificates() {
    let [authority, other] = ["Users", "Others"].map(|name| Authority::new(name, wall(), 2).unwrap());
    let required = ClientCertificate::Required(authority.cert_pem().to_owned());
    let optional = ClientCertificate::Optional(authority.cert_pem().to_owned());
    for tls12_only in [false, true] {
        for (wanted, issuer, error) in [
            (&required, Some(&authority), None),
            (&optional, Some(&authority), None),
            (&optional, None, None),
            (&required, None, Some("--user-cert and --user-key")),
            (&required, Some(&other), Some("refused the one of --user-cert")),
        ] {
            let tls = TlsKnobs { client_certificate: wanted.clone(), ..TlsKnobs::default() };
            let client = issuer.map(client_certificate);
            let lab = Lab::start(Setup {
                configure: Box::new(move |config| config.transport.client = client),
                ..Setup::of(Scenario { tls, tls12_only, ..Scenario::default() })
            });
            match error {
                None => lab.wait_for_tunnel(1),
                Some(words) => lab.wait_for_failure(words),
            }
        }
    }
}

#[test]
fn f39_dead_addresses_cost_little() {
    // One that refuses, one that swallows everything, one that hangs up, and the gateway's.
    let [hole, hang_up] = [39, 40].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let lab = Lab::start(Setup {
        configure: Box::new(move |config| {
            let at = |ip: Ipv4Addr| SocketAddr::new(ip.into(), config.uplink.port);
            std::mem::forget(full_listener(at(hole)));
            let listener = TcpListener::bind(at(hang_up)).unwrap();
            std::thread::spawn(move || listener.incoming().for_each(drop));
            let more = [hole, hang_up, Ipv4Addr::LOCALHOST].map(IpAddr::V4);
            config.transport.addresses = [&[IpAddr::V6(Ipv6Addr::LOCALHOST)], more.as_slice()].concat();
        }),
        ..Setup::default()
    });
    for tunnel in [1, 2] {
        assert!(happens(Duration::from_secs(4), || lab.tunnels() == tunnel), "{:?}", lab.state());
        lab.gateway.kick_tunnels(CloseStyle::Fin);
    }
}

#[test]
fn an_http_proxy_is_passed() {
    if skipped_without("tinyproxy") {
        return;
    }
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let settings = directory.path().join("tinyproxy.conf");
    let text = format!(
        "Port {port}\nListen 127.0.0.1\nBind {SOURCE}\nBasicAuth alice {PROXY_PASSWORD}\nTimeout 60\nMaxClients 10\n"
    );
    std::fs::File::create(&settings).unwrap().write_all(text.as_bytes()).unwrap();
    let _proxy = Program::start(Command::new("tinyproxy").arg("-d").arg("-c").arg(&settings), port);
    passes("http", port);
}

#[test]
fn a_socks_proxy_is_passed() {
    if skipped_without("microsocks") {
        return;
    }
    let (port, source) = (free_port(), SOURCE.to_string());
    let port_text = port.to_string();
    let arguments = ["-i", "127.0.0.1", "-p", &port_text, "-u", "alice", "-P", PROXY_PASSWORD, "-b", &source];
    let _proxy = Program::start(Command::new("microsocks").args(arguments), port);
    passes("socks5", port);
}

#[test]
fn a_keepalive_holds_an_idle_tunnel() {
    let idle = Duration::from_millis(1500);
    let start = |keepalive: Option<Duration>| {
        let scenario = Scenario { idle_timeout: idle, echo_is_activity: false, ..Scenario::default() };
        let configure: Box<dyn FnOnce(&mut Config) + Send> =
            Box::new(move |config| config.transport.keepalive = keepalive);
        let lab = Lab::start(Setup { configure, ..Setup::of(scenario) });
        lab.wait_for_tunnel(1);
        lab
    };
    let (held, left) = (start(Some(Duration::from_millis(500))), start(None));
    let downs = |lab: &Lab| lab.count(|event| matches!(event, Event::TunnelDown { .. }));
    assert!(happens(idle * 2, || downs(&left) > 0), "the gateway ends idle tunnels");
    assert_eq!(downs(&held), 0);
}

/// Where the proxies' own connections come from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
const PROXY_PASSWORD: &str = "open-sesame";
const BAD_USER: &str = "the proxy refuses the user name or the password";

fn handshake(handshake: Handshake) -> TlsKnobs {
    TlsKnobs { handshake, ..TlsKnobs::default() }
}

fn with_tls(tls: TlsKnobs) -> Setup {
    Setup::of(Scenario { tls, ..Scenario::default() })
}

fn make(kind: CertificateKind, authority: Option<&Authority>) -> ServerCertificate {
    ServerCertificate::make(kind, authority, "127.0.0.1", wall()).unwrap()
}

/// A gateway with `certificate`, and a daemon with the pin that `pin` makes of it.
fn pinned(certificate: ServerCertificate, tls12_only: bool, pin: impl Fn(&[u8]) -> Pin) -> Setup {
    let pin = pin(certificate.leaf_der());
    let tls = TlsKnobs { certificate: Some(certificate), ..TlsKnobs::default() };
    Setup {
        configure: Box::new(move |config| config.transport.pins = vec![pin]),
        ..Setup::of(Scenario { tls, tls12_only, ..Scenario::default() })
    }
}

/// A gateway with `certificate`, and a daemon that trusts `authority`.
fn trusting(
    authority: &Authority,
    certificate: ServerCertificate,
    also: impl FnOnce(&mut Transport) + Send + 'static,
) -> Setup {
    let root = authority.cert_der().to_vec().into();
    let configure = move |config: &mut Config| {
        config.transport.roots = vec![root];
        also(&mut config.transport);
    };
    Setup {
        configure: Box::new(configure),
        ..with_tls(TlsKnobs { certificate: Some(certificate), ..TlsKnobs::default() })
    }
}

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/pki/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn client_certificate(authority: &Authority) -> engine::ClientCertificate {
    let issued = authority.issue_client("alice", wall(), 2).unwrap();
    engine::ClientCertificate {
        chain: vec![issued.cert_der.into()],
        key: PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
    }
}

fn assert_nothing_was_said(lab: &Lab) {
    assert_eq!(lab.count(|event| matches!(event, Event::Request(_))), 0, "{:?}", lab.gateway.journal());
}

/// A listener that accepts nobody and whose queue is full: connects to it are never answered.
fn full_listener(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind(address).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
        assert!(waiting.len() < 10_000, "the queue has no end");
    }
    (listener, waiting)
}

/// The tunnel comes up through the proxy at `port`; with a wrong password it does not, and that is tried only once.
fn passes(scheme: &str, port: u16) {
    let daemon = |password: &'static str| {
        let mut proxy: Proxy = format!("{scheme}://alice@127.0.0.1:{port}").parse().unwrap();
        proxy.user = Some(("alice".into(), Secret::from(password.as_bytes())));
        Lab::start(Setup {
            configure: Box::new(move |config| config.transport.proxy = Some(proxy)),
            ..Setup::default()
        })
    };
    let lab = daemon(PROXY_PASSWORD);
    lab.wait_for_tunnel(1);
    let through = |event: &Event| matches!(event, Event::Accepted(peer) if peer.ip() == IpAddr::V4(SOURCE));
    let accepted = |event: &Event| matches!(event, Event::Accepted(_));
    assert!(
        lab.count(accepted) > 0 && lab.count(accepted) == lab.count(through),
        "{:?}",
        lab.gateway.journal()
    );
    let lab = daemon("wrong");
    lab.wait_for_error(BAD_USER);
    assert_eq!(lab.count(accepted), 0);
}

#[test]
fn a_password_that_a_proxy_refuses_is_sent_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut proxy: Proxy = format!("socks5://alice@{}", listener.local_addr().unwrap()).parse().unwrap();
    proxy.user = Some(("alice".into(), Secret::from(b"wrong".as_slice())));
    let lab = Lab::start(Setup {
        configure: Box::new(move |config| config.transport.proxy = Some(proxy)),
        ..Setup::default()
    });
    let sent_over = |mut stream: TcpStream| {
        let mut octets = [0; 64];
        let _methods = stream.read(&mut octets).unwrap();
        stream.write_all(b"\x05\x02").unwrap();
        let len = stream.read(&mut octets).unwrap_or(0);
        let _nobody_may_listen = stream.write_all(b"\x01\x01");
        len > 0
    };
    assert!(sent_over(listener.accept().unwrap().0));
    lab.wait_for_error(BAD_USER);
    // The next tries come to nothing here.
    let again = listener.accept().unwrap().0;
    again.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!((&again).read(&mut [0; 64]).unwrap_or(0), 0);
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A program that runs until it is dropped.
struct Program(Child);

impl Program {
    /// Starts it and waits until it listens on `port`.
    fn start(command: &mut Command, port: u16) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Self(quiet.spawn().unwrap());
        eventually(Duration::from_secs(10), "the program listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
