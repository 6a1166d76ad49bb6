//! A running daemon reads its configuration again: `pterodapter reload`, SIGHUP, and what systemd hears of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{happens, skipped_without, wall};
use program::Program;
use pterodapter::crypto::pem;
use pterodapter::demo::gateway::{CloseStyle, Event, LoginOutcome, Scenario, User};
use pterodapter::demo::probe::Client;
use pterodapter::provision::Authority;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const PASSWORD: &str = "correct horse";
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that is signed in as alice; what else it is told stands in `conf.toml`.
fn daemon(conf: &str, more: &[&str]) -> Program {
    daemon_in(&[], conf, more)
}

fn daemon_in(environment: &[(&str, &str)], conf: &str, more: &[&str]) -> Program {
    let users = vec![User::new("alice", PASSWORD), User::new("bob", "battery staple")];
    let files = [("password", PASSWORD), ("conf.toml", conf)];
    let options = [&["--config={}/conf.toml", "--password-file={}/password"], more].concat();
    let program = Program::start_in(environment, Scenario::default(), users, &files, &options);
    assert!(happens(PATIENCE, || program.tunnels() == 1), "{}", program.printed());
    program
}

/// Exit code, and all that was said.
fn reload(program: &Program) -> (Option<i32>, String) {
    let output = program.run(&["reload"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), said)
}

fn write(program: &Program, name: &str, text: &str) {
    fs::write(program.path(name), text).unwrap();
}

fn says(program: &Program, text: &str) -> bool {
    happens(PATIENCE, || program.printed().contains(text))
}

#[test]
fn new_certificates_are_served_and_only_who_is_not_trusted_any_more_must_go() {
    let program = daemon("username = \"alice\"\n", &[]);
    let alice = Client::connect(program.client_config("alice.example")).unwrap();
    alice.ping(WEB_SERVER).unwrap();

    let new = Authority::new("New authority", wall(), 2).unwrap();
    let server = new.issue_server(&["vpn.example"], wall(), 2).unwrap();
    write(&program, "server.pem", &server.cert_pem);
    write(&program, "server.key", &server.key_pem);
    write(&program, "ca.pem", &format!("{}{}", program.authority().cert_pem(), new.cert_pem()));
    let (code, said) = reload(&program);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("new: 2 authorities, certificate (valid until 20"), "{said}");
    assert!(said.contains("server.pem expires in"), "{said}");
    assert!(!said.contains("key") && !said.contains("restart"), "{said}");

    // Who trusts only the new authority sees the new certificate.
    let mut config = program.client_config_by(&new, "bob.example");
    config.ca_pem = new.cert_pem().to_owned();
    let bob = Client::connect(config.clone()).unwrap();
    for client in [&alice, &bob] {
        client.ping(WEB_SERVER).unwrap();
        client.dpd().unwrap();
    }
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("nothing has changed\n"), "{said}");

    write(&program, "ca.pem", new.cert_pem());
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("new: 1 authority\n"), "{said}");
    assert!(happens(PATIENCE, || alice.is_closed()), "{}", program.printed());
    assert!(says(&program, "alice.example is gone: its certificate is not trusted any more"));
    bob.ping(WEB_SERVER).unwrap();
    bob.rekey_child(true).unwrap();
    bob.ping(WEB_SERVER).unwrap();
    let mut config = program.client_config("alice.example");
    config.ca_pem = new.cert_pem().to_owned();
    assert!(Client::connect(config).is_err(), "the old authority is not trusted any more");
    assert_eq!(program.tunnels(), 1, "the tunnel has stayed");
}

#[test]
fn every_certificate_and_key_is_read_again() {
    use pterodapter::crypto::sign::KeyKind;
    use pterodapter::provision::{Role, Validity};
    let other = Authority::new("Other authority", wall(), 50).unwrap();
    let rsa = |days| {
        other.issue(Role::Server, &["vpn.example"], Validity::days(wall(), days), KeyKind::Rsa).unwrap()
    };
    let first = rsa(40);
    let users = vec![User::new("alice", PASSWORD)];
    let files = [("password", PASSWORD), ("rsa.pem", &first.cert_pem), ("rsa.key", &first.key_pem)];
    let options =
        ["--username=alice", "--password-file={}/password", "--cert={}/rsa.pem", "--key={}/rsa.key"];
    let program = Program::start(Scenario::default(), users, &files, &options);
    assert!(says(&program, "[INFO] our certificates (ECDSA P-256 valid until 20"), "{}", program.printed());
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("nothing has changed\n"), "{said}");

    let second = rsa(45);
    write(&program, "rsa.pem", &second.cert_pem);
    let (code, said) = reload(&program);
    assert!(
        code == Some(78) && said.contains("rsa.key is not the key of the first certificate in "),
        "{said}"
    );
    write(&program, "rsa.key", &second.key_pem);
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("new: certificates (ECDSA P-256 valid until 20"), "{said}");
    assert!(said.contains(", RSA valid until 20"), "{said}");
    Client::connect(program.client_config("alice.example")).unwrap();
}

#[test]
fn a_revoked_device_is_disconnected_when_the_list_is_read_again() {
    let program = daemon("username = \"alice\"\n", &[]);
    let lost = program.client_config("lost.example");
    let serial = |pem: &str| {
        let certificates = pem::certificates(pem.as_bytes()).unwrap();
        certificates[0].serial().to_vec()
    };
    let revoked = serial(&lost.cert_pem);
    let list = |serials: &[&[u8]]| {
        let entries = serials.iter().map(|serial| (*serial, wall()));
        let until = wall() + Duration::from_secs(86_400);
        program.authority().revocation_list(entries, None, wall(), until).unwrap()
    };
    write(&program, "crl.pem", &list(&[]));
    write(&program, "conf.toml", "username = \"alice\"\ncrl = [\"crl.pem\"]\n");
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("new: --crl\n"), "{said}");
    let (lost, other) =
        (Client::connect(lost).unwrap(), Client::connect(program.client_config("kept.example")).unwrap());
    write(&program, "crl.pem", &list(&[&revoked]));
    let (code, said) = reload(&program);
    assert!(code == Some(0) && said.starts_with("new: --crl\n"), "{said}");
    assert!(happens(PATIENCE, || lost.is_closed()), "{}", program.printed());
    assert!(says(&program, "lost.example is gone: its certificate is not trusted any more: "));
    other.ping(WEB_SERVER).unwrap();
    assert!(!other.is_closed());
}

#[test]
fn what_is_broken_changes_nothing() {
    let program = daemon("username = \"alice\"\ngateway-routes = true\n", &[]);
    let client = Client::connect(program.client_config("alice.example")).unwrap();
    let routes = client.routes();
    let (cert, conf) =
        (fs::read_to_string(program.path("server.pem")).unwrap(), "username = \"alice\"\n".to_owned());
    let stranger = Authority::new("Stranger", wall(), 2).unwrap();
    let other = stranger.issue_server(&["vpn.example"], wall(), 2).unwrap();
    for (name, text, expected) in [
        ("server.pem", "nonsense", "--cert: "),
        ("server.pem", &other.cert_pem, "--key: "),
        ("conf.toml", "username = \"alice\"\ntunnel-domain = 7\n", "conf.toml:2: 'tunnel-domain' is a list"),
        ("conf.toml", "username = \"alice\"\nike-port = 0\n", "conf.toml:2: "),
        ("conf.toml", "username = \"alice\"\notp = \"-\"\n", "--otp: standard input is read once"),
        ("conf.toml", "username = \"alice\"\nsaml = true\n", "--saml"),
        ("conf.toml", "username = \"alice\"\nlog-file = \"none/log\"\n", "--log-file: cannot open "),
    ] {
        write(&program, name, text);
        // Something that would be applied, if the rest were good.
        write(&program, "ca.pem", stranger.cert_pem());
        let (code, said) = reload(&program);
        assert_eq!((code, said.lines().count()), (Some(78), 1), "{name}: {said}");
        assert!(said.starts_with("pterodapter: ") && said.contains(expected), "{text}: {said}");
        let reason = said.trim_end().trim_start_matches("pterodapter: ");
        assert!(says(&program, &format!("[ERROR] reload: {reason} (nothing was changed)")));
        write(&program, "ca.pem", program.authority().cert_pem());
        write(&program, "server.pem", &cert);
        write(&program, "conf.toml", &(conf.clone() + "gateway-routes = true\n"));
    }
    // It is the line that a start gives.
    write(&program, "server.pem", "nonsense");
    let (_, said) = reload(&program);
    let file = |name: &str| program.path(name).display().to_string();
    let start = Command::new(PROGRAM)
        .args(["ikev2", "--destination=127.0.0.1:1", "--control=none"])
        .args([format!("--cacert={}", file("ca.pem")), format!("--cert={}", file("server.pem"))])
        .arg(format!("--key={}", file("server.key")))
        .output()
        .unwrap();
    assert_eq!((start.status.code(), String::from_utf8(start.stderr).unwrap()), (Some(78), said));

    client.ping(WEB_SERVER).unwrap();
    assert_eq!(client.routes(), routes);
    Client::connect(program.client_config("bob.example")).unwrap().ping(WEB_SERVER).unwrap();
    let nowhere = Command::new(PROGRAM).args(["reload", "--control=/nowhere/socket"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(69));
}

#[test]
fn a_hangup_does_the_same_and_opens_the_log_file_again() {
    let notes = TempDir::new().unwrap();
    let ear = UnixDatagram::bind(notes.path().join("notify")).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = notes.path().join("notify").display().to_string();
    let mut program =
        daemon_in(&[("NOTIFY_SOCKET", &socket)], "username = \"alice\"\n", &["--log-file={}/log"]);
    let text = |name: &str| fs::read_to_string(program.path(name)).unwrap_or_default();
    assert!(text("log").contains("[INFO] listening on UDP"), "{}", text("log"));

    fs::rename(program.path("log"), program.path("log.1")).unwrap();
    let other = Authority::new("Other", wall(), 2).unwrap();
    write(&program, "ca.pem", &format!("{}{}", program.authority().cert_pem(), other.cert_pem()));
    write(&program, "conf.toml", "username = \"alice\"\nlog-level = \"debug\"\n");
    program.signal("HUP");
    let line = "[INFO] reload: new: 2 authorities, log level debug";
    assert!(says(&program, line), "{}", program.printed());
    assert!(happens(PATIENCE, || text("log").contains(line)), "{}", text("log"));
    assert!(!text("log.1").contains("reload"), "{}", text("log.1"));
    // What only details say is there from now on.
    program.gateway.kick_tunnels(CloseStyle::Fin);
    assert!(says(&program, "[DEBUG] "), "{}", program.printed());
    assert!(happens(PATIENCE, || text("log").contains("[DEBUG] ")), "{}", text("log"));

    write(&program, "ca.pem", "nonsense");
    program.signal("HUP");
    assert!(says(&program, "[ERROR] reload: --cacert: "));
    let mut heard = Vec::new();
    let mut hear = |expected: &str| {
        while !heard.iter().any(|message: &String| message.starts_with(expected)) {
            let mut message = [0; 1000];
            let length = ear.recv(&mut message).unwrap_or_else(|e| panic!("no {expected} in {heard:?}: {e}"));
            heard.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        let at = heard.iter().position(|message| message.starts_with(expected)).unwrap();
        heard.drain(..=at).next_back().unwrap()
    };
    hear("READY=1\n");
    for _outcome in ["good", "bad"] {
        let reloading = hear("RELOADING=1\nMONOTONIC_USEC=");
        let digits = reloading.trim_end().rsplit('=').next().unwrap();
        assert!(digits.parse::<u64>().unwrap() > 0, "{reloading}");
        hear("READY=1\n");
    }
    assert!(program.is_running());
    assert_eq!(program.stop().code(), Some(0));
}

#[test]
fn what_takes_the_tunnel_changes_for_who_is_connected() {
    let program = daemon("username = \"alice\"\n", &[]);
    let client = Client::connect(program.client_config("alice.example")).unwrap();
    client.ping(WEB_SERVER).unwrap();
    let routes_are = |expected: &[(Ipv4Addr, Ipv4Addr)]| {
        let routes = || {
            let mut routes: Vec<_> = client.routes().iter().map(|r| (r.first, r.last)).collect();
            routes.sort_unstable();
            routes
        };
        let expected: Vec<_> =
            expected.iter().map(|(first, last)| (IpAddr::V4(*first), IpAddr::V4(*last))).collect();
        assert!(happens(PATIENCE, || routes() == expected), "{:?}: {}", routes(), program.printed());
    };
    routes_are(&[(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)]);
    write(&program, "conf.toml", "username = \"alice\"\ntunnel-domain = [\"www.corp.example\"]\n");
    assert_eq!(reload(&program).1.lines().next(), Some("new: --tunnel-domain"));
    routes_are(&[(WEB_SERVER, WEB_SERVER), (HOST, HOST)]);
    client.ping(WEB_SERVER).unwrap();
    write(&program, "conf.toml", "username = \"alice\"\ngateway-routes = true\n");
    assert_eq!(reload(&program).1.lines().next(), Some("new: --gateway-routes, --tunnel-domain"));
    routes_are(&[(Ipv4Addr::new(10, 77, 0, 0), Ipv4Addr::new(10, 77, 255, 255)), (HOST, HOST)]);
    client.ping(WEB_SERVER).unwrap();
    assert!(!client.is_closed());
}

#[test]
fn what_waits_is_named_and_the_next_sign_in_has_it() {
    let program = daemon("username = \"alice\"\n", &[]);
    let client = Client::connect(program.client_config("alice.example")).unwrap();
    client.ping(WEB_SERVER).unwrap();
    write(&program, "password", "battery staple");
    let conf =
        "username = \"bob\"\nuser-agent = \"other/1\"\nkeepalive = 60\nclient-pool = \"10.9.0.0/24\"\n";
    write(&program, "conf.toml", &format!("{conf}nat64-prefix = \"64:ff9b:1::/96\"\n"));
    let (code, said) = reload(&program);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(
        lines,
        [
            "from the next sign-in on: --password-file, --user-agent, --username",
            "from the next connection to the gateway on: --keepalive",
            "needs a restart: --client-pool, --nat64-prefix",
        ]
    );
    client.ping(WEB_SERVER).unwrap();
    assert_eq!(program.posts(), 1, "nobody has signed in again");
    // What needs a restart does so until there was one; the rest is done.
    write(&program, "conf.toml", conf);
    let (_, said) = reload(&program);
    assert!(said.starts_with("needs a restart: --client-pool\n"), "{said}");
    assert_eq!(client.address().octets()[..3], [198, 19, 255]);

    // Another gateway must not get what was meant for this one, nor this one what was meant for another.
    write(&program, "password", "for another gateway");
    let output = program.run(&["reload"]);
    assert_eq!(output.status.code(), Some(0));
    write(&program, "password", "battery staple");
    assert!(reload(&program).1.starts_with("from the next sign-in on: --password-file\n"));

    program.gateway.kick_tunnels(CloseStyle::Terminate);
    let as_bob = |event: &Event| matches!(event, Event::Login { user, outcome: LoginOutcome::Granted, .. } if user == "bob");
    assert!(happens(PATIENCE, || program.count(as_bob) == 1), "{}", program.printed());
    let other =
        |event: &Event| matches!(event, Event::Request(head) if head.header("user-agent") == Some("other/1"));
    assert!(
        happens(PATIENCE, || program.count(other) > 0 && program.tunnels() == 2),
        "{}",
        program.printed()
    );
    assert!(happens(PATIENCE, || client.ping(WEB_SERVER).is_ok()), "the device has stayed");
}

/// Whoever closes the window of the daemon wants it to end, and the gateway to know.
#[test]
fn a_closed_terminal_ends_the_daemon_in_order() {
    if skipped_without("script") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let authority = Authority::new("Devices", wall(), 2).unwrap();
    let server = authority.issue_server(&["pterodapter"], wall(), 2).unwrap();
    for (name, text) in
        [("ca.pem", authority.cert_pem()), ("server.pem", &server.cert_pem), ("server.key", &server.key_pem)]
    {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let (place, log) = (directory.path().display(), directory.path().join("log"));
    let [ike, nat] = [(); 2]
        .map(|()| UdpSocket::bind("127.0.0.1:0").unwrap())
        .map(|socket| socket.local_addr().unwrap().port());
    let command = format!(
        "exec {PROGRAM} ikev2 --destination=127.0.0.1:1 --cacert={place}/ca.pem --cert={place}/server.pem \
         --key={place}/server.key --listen-ip=127.0.0.1 --ike-port={ike} --nat-port={nat} \
         --saml-listen=127.0.0.1:0 --control=none --log-file={place}/log"
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let logged =
        |text: &str| happens(PATIENCE, || fs::read_to_string(&log).is_ok_and(|log| log.contains(text)));
    assert!(logged("listening on UDP"), "{:?}", fs::read_to_string(&log));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    assert!(logged("stopping"), "{:?}", fs::read_to_string(&log));
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains("reload"), "{text}");
}
