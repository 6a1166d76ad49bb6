//! Certificates and handshakes, with rustls as the client.

use super::*;
use crate::provision::{Authority, Issued};

fn wall() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "certificates are checked against the real date")]
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

fn with_tls(tls: TlsKnobs) -> Scenario {
    Scenario { tls, ..Scenario::default() }
}

/// A client that trusts `authority`, with a certificate of its own or none.
fn client(authority: &[u8], own: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![CertificateDer::from(own.cert_der.clone())], key).unwrap()
        }
    })
}

impl Bench {
    /// What a new connection's first answer or error is.
    fn probe(&self) -> String {
        let mut stream = self.connect();
        let sent = stream.write_all(b"GET /remote/login HTTP/1.1\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        match sent.and_then(|()| stream.read_to_string(&mut text)) {
            Ok(_) => text,
            Err(e) => format!("{}; {e}", e.kind()),
        }
    }
}

#[test]
fn certificates_of_every_kind() {
    let authority = Authority::new("Test authority", wall(), 2).unwrap();
    let mut bench = Bench::new(Scenario::default());
    bench.tls = client(authority.cert_der(), None);
    for (kind, expected) in [
        (CertificateKind::Good, "200 OK"),
        (CertificateKind::CommonNameOnly, "not valid for"),
        (CertificateKind::AuthorityAsLeaf, "CaUsedAsEndEntity"),
        (CertificateKind::Expired, "expired"),
        (CertificateKind::Version1, "UnsupportedCertVersion"),
        (CertificateKind::WrongHost, "not valid for"),
    ] {
        for (signer, expected) in [(Some(&authority), expected), (None, "invalid peer certificate")] {
            let certificate = ServerCertificate::make(kind, signer, "127.0.0.1", wall()).unwrap();
            let parsed = crate::crypto::pki::Certificate::parse(certificate.leaf_der()).unwrap();
            assert_eq!(parsed.is_ca(), kind == CertificateKind::AuthorityAsLeaf);
            bench
                .gateway
                .set_scenario(with_tls(TlsKnobs { certificate: Some(certificate), ..TlsKnobs::default() }));
            let seen = bench.probe();
            assert!(seen.contains(expected), "{kind:?}: {seen}");
        }
    }
}

/// Most FortiGates have an RSA key; a client takes such a certificate by its digest.
#[test]
fn certificates_with_rsa_keys() {
    let key = include_str!("../../../../tests/data/pki/rsa.pkcs8.pem");
    let kind = CertificateKind::Version1;
    let certificate = ServerCertificate::make_for_key(key, kind, None, "127.0.0.1", wall()).unwrap();
    let parsed = crate::crypto::pki::Certificate::parse(certificate.leaf_der()).unwrap();
    assert_eq!(parsed.subject_der(), parsed.issuer_der());
    let authority = Authority::new("Test authority", wall(), 2).unwrap();
    let kind = CertificateKind::Good;
    let certificate =
        ServerCertificate::make_for_key(key, kind, Some(&authority), "127.0.0.1", wall()).unwrap();
    let mut bench = Bench::new(with_tls(TlsKnobs { certificate: Some(certificate), ..TlsKnobs::default() }));
    bench.tls = client(authority.cert_der(), None);
    assert!(bench.probe().contains("200 OK"), "{}", bench.probe());
}

#[test]
fn another_certificate_after_the_login() {
    let authority = Authority::new("Test authority", wall(), 2).unwrap();
    let other =
        ServerCertificate::make(CertificateKind::Good, Some(&authority), "127.0.0.1", wall()).unwrap();
    let bench =
        Bench::new(with_tls(TlsKnobs { certificate_after_login: Some(other), ..TlsKnobs::default() }));
    assert!(bench.probe().contains("200 OK"));
    assert!(bench.login().cookie("SVPNCOOKIE").is_some());
    assert!(bench.probe().contains("UnknownIssuer"), "{}", bench.probe());
}

#[test]
fn client_certificates() {
    let authority = Authority::new("Client authority", wall(), 2).unwrap();
    let carol = authority.issue_client("carol", wall(), 2).unwrap();
    let dave = authority.issue_client("dave", wall(), 2).unwrap();
    let users = vec![
        User::new("alice", "p+w"),
        User::new("carol", "pw").with_certificate("carol").with_factor(Factor::code("1")),
        User::new("dave", "").with_certificate("dave"),
    ];
    let scenario = |client_certificate| with_tls(TlsKnobs { client_certificate, ..TlsKnobs::default() });
    let ca = authority.cert_pem().to_owned();
    let mut bench = Bench::with_users(users, scenario(ClientCertificate::Optional(ca.clone())));
    let anonymous = bench.tls.clone();
    let root = CertificateDer::from_pem_slice(bench.ca_pem.as_bytes()).unwrap();
    let (as_carol, as_dave) = (client(&root, Some(&carol)), client(&root, Some(&dave)));
    let second = "username=carol&credential=pw&realm=&ajax=1";
    assert!(bench.login().cookie("SVPNCOOKIE").is_some());
    assert!(bench.post("/remote/logincheck", second).2.starts_with("ret=0"));
    assert_eq!(bench.get("/remote/login", "").cookie("SVPNCOOKIE"), None);
    bench.tls = as_carol;
    let asked = bench.post("/remote/logincheck", second);
    assert!(asked.2.contains(",peer=carol,"), "{}", asked.2);
    assert_eq!(bench.get("/remote/login", "").cookie("SVPNCOOKIE"), None, "a password is needed too");
    bench.tls = as_dave;
    let at_once = bench.get("/remote/login", "");
    assert!(at_once.cookie("SVPNCOOKIE").is_some() && at_once.2.contains("/remote/index"));
    let by_name = bench.post("/remote/logincheck", "username=dave&realm=&ajax=1&just_logged_in=1");
    assert!(by_name.cookie("SVPNCOOKIE").is_some());

    bench.gateway.set_scenario(scenario(ClientCertificate::Required(ca)));
    assert!(bench.get("/remote/login", "").cookie("SVPNCOOKIE").is_some());
    bench.tls = anonymous;
    assert!(bench.probe().contains("CertificateRequired"), "{}", bench.probe());
    bench.wait_for(|event| matches!(event, Event::TlsFailed(_)));
}

#[test]
fn handshakes_that_fail() {
    for (handshake, expected) in [
        (Handshake::Silent, "would block"),
        (Handshake::Close, "handshake"),
        (Handshake::Reset, "connection reset"),
        (Handshake::Alert(40), "HandshakeFailure"),
        (Handshake::Alert(70), "ProtocolVersion"),
        (Handshake::Plaintext, "InvalidContentType"),
    ] {
        let tls = TlsKnobs { handshake, handshake_times: Some(1), ..TlsKnobs::default() };
        let bench = Bench::new(with_tls(tls));
        let mut stream = bench.connect();
        stream.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let error = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        let seen = format!("{}; {error}", error.kind());
        let close = handshake == Handshake::Close && error.kind() != io::ErrorKind::WouldBlock;
        assert!(close || seen.contains(expected), "{handshake:?}: {seen}");
        drop(stream);
        assert!(bench.probe().contains("200 OK"), "{handshake:?}: once only");
    }
}

#[test]
fn groups_versions_and_tickets() {
    let bench = Bench::new(with_tls(TlsKnobs { p384_only: true, tickets: 500, ..TlsKnobs::default() }));
    let mut stream = bench.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).0, 302);
    let group = stream.conn.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::secp384r1);
    assert_eq!(stream.conn.handshake_kind(), Some(rustls::HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(stream.conn.tls13_tickets_received(), 500);
}
