//! Every way to sign in that openconnect and openfortivpn know: the double has to be a FortiGate for them too.

use pterodapter::crypto::hash::sha256;
use pterodapter::crypto::pki::Certificate;
use pterodapter::demo::gateway::{
    AnswerFault, CertificateKind, ClientCertificate, CookieStyle, Decision, Factor, FactorOutcome, Fault,
    Framing, Order, ServerCertificate, Step, TlsKnobs,
};
use pterodapter::provision::Authority;

use super::*;

const PASSWORD: &str = "p@ss+word & more";
const SHORT: Duration = Duration::from_millis(100);

fn wall() -> Duration {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn alice(factors: &[Factor]) -> User {
    factors.iter().cloned().fold(User::new("alice", PASSWORD), User::with_factor)
}

/// What `openconnect --cookieonly` prints, if it gets a cookie, and what else it says.
fn cookie_of(
    dir: &Path,
    gateway: &Gateway,
    realm: &str,
    args: &[&str],
    stdin: &str,
) -> (Option<String>, String) {
    let ca = format!("--cafile={}", dir.join("ca.pem").display());
    let url = format!("https://{}/{realm}", gateway.addr());
    let mut all = vec!["-k", "5", "20", "openconnect", "--protocol=fortinet", "--cookieonly", "-vvv"];
    all.extend([ca.as_str(), "-u", "alice"]);
    all.extend(args);
    all.push(&url);
    let mut child = Command::new("timeout")
        .args(all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let cookie = text(&output.stdout).lines().find(|line| line.starts_with("SVPNCOOKIE=")).map(str::to_owned);
    (cookie, text(&output.stderr))
}

/// Why nothing can be tested; with CI=true that is a failure.
fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run here: {program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    missing
}

/// What became of the answers to second factors.
fn outcomes(gateway: &Gateway) -> Vec<(Step, FactorOutcome)> {
    let events = gateway.journal().into_iter().filter_map(|entry| match entry.event {
        Event::SecondFactor { step, outcome, .. } => Some((step, outcome)),
        _ => None,
    });
    events.collect()
}

/// This version has no push: it answers with a code only.
#[test]
fn openconnect_answers_second_factors() {
    if is_missing("openconnect") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let code = "--form-entry=_challenge:code=123456";
    // The form of the page has no name that an entry could give: the code is typed.
    let form = "--form-entry=unused:unused=";
    let push = || Factor::push(Decision::Never, SHORT).or_code("123456");
    for (factors, realm, entry, steps) in [
        (vec![], "", code, &[][..]),
        (vec![Factor::code("123456")], "", code, &[Step::Code]),
        (vec![Factor::code("123456")], "staff", code, &[Step::Code]),
        (vec![push()], "", code, &[Step::Push]),
        (
            vec![Factor::email("a@b", "123456"), Factor::sms("+49", "123456")],
            "",
            code,
            &[Step::Email, Step::Sms],
        ),
        (vec![Factor::form("123456")], "", form, &[Step::Form]),
        (vec![Factor::form("123456")], "staff", form, &[Step::Form]),
    ] {
        let gateway = start_with(dir.path(), vec![alice(&factors).in_realm(realm)], Scenario::default());
        let args = ["--passwd-on-stdin", entry];
        let stdin = format!("{PASSWORD}\n123456\n");
        let (cookie, log) = cookie_of(dir.path(), &gateway, realm, &args, &stdin);
        let accepted: Vec<_> = steps.iter().map(|&step| (step, FactorOutcome::Accepted)).collect();
        assert_eq!(outcomes(&gateway), accepted, "{log}");
        assert!(cookie.is_some(), "{steps:?}\n{log}");
    }
    // It would ask again for ever after a denial that is not 403.
    let denials = Scenario { deny_mode: DenyMode::Status403, ..Scenario::default() };
    let gateway = start_with(dir.path(), vec![alice(&[Factor::code("654321")])], denials);
    let args = ["--passwd-on-stdin", "--non-inter", code];
    let (cookie, log) = cookie_of(dir.path(), &gateway, "", &args, &format!("{PASSWORD}\n"));
    assert_eq!(outcomes(&gateway), [(Step::Code, FactorOutcome::Refused)], "{log}");
    assert_eq!(cookie, None, "{log}");
}

/// Certificates that GnuTLS accepts by the digest of their key, answers in every framing, cookies of every style.
#[test]
fn openconnect_takes_odd_certificates_answers_and_cookies() {
    if is_missing("openconnect") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let stdin = format!("{PASSWORD}\n");
    let check = |what: &str, scenario: Scenario, args: &[&str]| {
        let gateway = start_with(dir.path(), vec![alice(&[])], scenario);
        let args = [&["--passwd-on-stdin", "--non-inter"], args].concat();
        let (cookie, log) = cookie_of(dir.path(), &gateway, "", &args, &stdin);
        assert!(cookie.is_some(), "{what}\n{log}");
        log
    };
    for kind in [
        CertificateKind::CommonNameOnly,
        CertificateKind::AuthorityAsLeaf,
        CertificateKind::Expired,
        CertificateKind::Version1,
        CertificateKind::WrongHost,
    ] {
        let made = if kind == CertificateKind::Version1 {
            let key = include_str!("../data/pki/rsa.pkcs8.pem");
            ServerCertificate::make_for_key(key, kind, None, "127.0.0.1", wall())
        } else {
            ServerCertificate::make(kind, None, "127.0.0.1", wall())
        };
        let certificate = made.unwrap();
        let key = Certificate::parse(certificate.leaf_der()).unwrap();
        let digest: String = sha256(&[key.spki_der()]).iter().map(|octet| format!("{octet:02x}")).collect();
        let pin = format!("--servercert=sha256:{digest}");
        let tls = TlsKnobs { certificate: Some(certificate), p384_only: true, ..TlsKnobs::default() };
        let scenario = Scenario { tls, tls12_only: kind == CertificateKind::Version1, ..Scenario::default() };
        let log = check(&format!("{kind:?}"), scenario, &[&pin]);
        assert!(log.contains("SECP384R1"), "{log}");
    }
    let faults = [
        Fault::Framing(Framing::Length),
        Fault::Framing(Framing::UpperCase),
        Fault::Framing(Framing::UntilClose),
        Fault::ClosedSilently,
        Fault::Dribble(Duration::from_micros(100)),
        Fault::Cookie(CookieStyle::LowerCase),
        Fault::Cookie(CookieStyle::SameSite),
        Fault::Cookie(CookieStyle::NoSemicolon),
        Fault::Cookie(CookieStyle::ClearingFirst),
        Fault::Cookie(CookieStyle::Lookalikes),
    ];
    for fault in faults {
        let faults = vec![AnswerFault::on("*", fault.clone())];
        check(&format!("{fault:?}"), Scenario { faults, ..Scenario::default() }, &[]);
    }
}

#[test]
fn openconnect_shows_a_client_certificate() {
    if is_missing("openconnect") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("Client authority", wall(), 2).unwrap();
    let own = authority.issue_client("alice", wall(), 2).unwrap();
    let (cert, key) = (dir.path().join("client.pem"), dir.path().join("client.key"));
    fs::write(&cert, &own.cert_pem).unwrap();
    fs::write(&key, &own.key_pem).unwrap();
    let files = [format!("--certificate={}", cert.display()), format!("--sslkey={}", key.display())];
    let scenario = || Scenario {
        tls: TlsKnobs {
            client_certificate: ClientCertificate::Required(authority.cert_pem().to_owned()),
            ..TlsKnobs::default()
        },
        deny_mode: DenyMode::Status403,
        ..Scenario::default()
    };
    let args =
        ["--passwd-on-stdin", "--non-inter", &files[0], &files[1], "--form-entry=_challenge:code=123456"];
    let user = alice(&[Factor::code("123456")]).with_certificate("alice");
    // It always asks for a password, so the certificate alone is one with an empty password.
    for (user, args, password, good) in [
        (user.clone(), &args[..], PASSWORD, true),
        (user, &args[..2], PASSWORD, false),
        (User::new("alice", "").with_certificate("alice"), &args[..4], "", true),
    ] {
        let gateway = start_with(dir.path(), vec![user], scenario());
        let (cookie, log) = cookie_of(dir.path(), &gateway, "", args, &format!("{password}\n"));
        assert_eq!(cookie.is_some(), good, "{args:?} {log}");
    }
}

/// openfortivpn up to the configuration; its tunnel needs the kernel's PPP.
#[test]
fn openfortivpn_answers_second_factors() {
    if is_missing("openfortivpn") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let push = || Factor::push(Decision::Approve, SHORT);
    for (factor, realm, otp, step) in [
        (Factor::code("123456"), "", Some("123456"), Step::Code),
        (Factor::code("123456"), "staff", Some("123456"), Step::Code),
        (push(), "", None, Step::Push),
        (push().or_code("123456"), "", Some("123456"), Step::Push),
        (Factor::form("123456"), "staff", Some("123456"), Step::Form),
    ] {
        let gateway = start_with(dir.path(), vec![alice(&[factor]).in_realm(realm)], Scenario::default());
        let mut args = vec![
            gateway.addr().to_string(),
            format!("--ca-file={}", dir.path().join("ca.pem").display()),
            format!("--realm={realm}"),
            format!("--password={PASSWORD}"),
        ];
        args.extend(otp.map(|otp| format!("--otp={otp}")));
        let mut all = vec!["-u", "alice", "--no-routes", "--no-dns", "-v", "-v"];
        all.extend(args.iter().map(String::as_str));
        let mut client = Client::start(dir.path(), "openfortivpn", &all, "");
        wait_for("the configuration", || {
            let fetched = count(&gateway.journal(), requested("/remote/fortisslvpn_xml")) > 0;
            (fetched || client.child.try_wait().unwrap().is_some()).then_some(())
        });
        client.interrupt();
        assert_eq!(outcomes(&gateway), [(step, FactorOutcome::Accepted)], "{}", client.log());
        assert_eq!(count(&gateway.journal(), requested("/remote/fortisslvpn_xml")), 1, "{}", client.log());
    }
}

/// A cookie that another run has fetched, then tunnels behind every sign-in that could change the connection.
#[test]
fn openconnect_tunnels_after_each_sign_in() {
    in_namespace("sign_in::openconnect_tunnels_after_each_sign_in", "openconnect", |dir| {
        let gateway = start_with(dir, vec![alice(&[])], Scenario::default());
        let args = ["--passwd-on-stdin", "--non-inter"];
        let (cookie, log) = cookie_of(dir, &gateway, "", &args, &format!("{PASSWORD}\n"));
        let mut client =
            openconnect(dir, &gateway, "alice", &cookie.expect(&log), "", &["--cookie-on-stdin"]);
        wait_up(dir, &mut client);
        ping("10.77.0.1", 1000);
        let logins = |event: &Event| matches!(event, Event::Login { .. });
        assert_eq!(count(&gateway.journal(), logins), 1);
        client.interrupt();

        let authority = Authority::new("Client authority", wall(), 2).unwrap();
        let own = authority.issue_client("alice", wall(), 2).unwrap();
        let pem = dir.join("client.pem");
        fs::write(&pem, own.cert_pem + &own.key_pem).unwrap();
        let certificate = format!("--certificate={}", pem.display());
        let code = "--form-entry=_challenge:code=123456";
        let required = TlsKnobs {
            client_certificate: ClientCertificate::Required(authority.cert_pem().to_owned()),
            ..TlsKnobs::default()
        };
        for (factor, tls) in [
            (Factor::code("123456"), required),
            (
                Factor::email("a@b", "123456"),
                TlsKnobs { p384_only: true, tickets: 100, ..TlsKnobs::default() },
            ),
        ] {
            let scenario = Scenario { tls, random_records: true, ..Scenario::default() };
            let gateway = start_with(dir, vec![alice(&[factor])], scenario);
            let mut client = openconnect(dir, &gateway, "alice", PASSWORD, "", &[code, &certificate]);
            wait_up(dir, &mut client);
            gateway.order_tunnels(&Order::UpdateKeys);
            gateway.order_tunnels(&Order::Send(gateway::frame(b"")));
            ping("10.77.0.1", 100);
            gateway.order_tunnels(&Order::EmptyRecords(3));
            ping("10.77.0.1", 1000);
            client.interrupt();
            assert_eq!(count(&gateway.journal(), requested("/remote/logout")), 1);
        }
    });
}
