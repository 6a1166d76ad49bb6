//! The gateway double against clients that nobody here wrote: openconnect through the whole tunnel, openfortivpn as far
//! as the kernel's PPP is not needed. Each test runs itself again in a network namespace that has only a loopback
//! interface. Without root or the programs it says why it skips; with CI=true that is a failure.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "openconnect/sign_in.rs"]
mod sign_in;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use pterodapter::demo::gateway::{
    self, Acks, CloseStyle, DenyMode, DnsOffer, Entry, Event, FarSide, Gateway, HostCheck, LoginOutcome, Mru,
    PppKnobs, Scenario, TunnelEnd, User,
};

const INSIDE: &str = "PTERODAPTER_TEST_NAMESPACE";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);
/// What openconnect calls when the tunnel comes and goes. `$1` is not used: all comes in the environment.
const SCRIPT: &str = r#"#!/bin/sh
env | sort > "$PTERODAPTER_ENV.$reason"
if [ "$reason" = connect ]; then
    ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
    ip link set "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
    ip route add 10.77.0.0/16 dev "$TUNDEV"
    mv "$PTERODAPTER_ENV.$reason" "$PTERODAPTER_ENV"
fi
"#;

/// Runs `test` in a namespace of its own when the machine can; the caller's name finds it again.
fn in_namespace(name: &str, program: &str, test: impl FnOnce(&Path)) {
    if std::env::var_os(INSIDE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        return test(dir.path());
    }
    if let Some(why) = missing(program) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run here: {why}");
        eprintln!("skipped: {why}");
        return;
    }
    let namespace = format!("pt-{}-{}", name.replace("::", "-"), std::process::id());
    let ip = |args: &[&str]| {
        let status = Command::new("ip").args(args).status().unwrap();
        assert!(status.success(), "ip {args:?}");
    };
    ip(&["netns", "add", &namespace]);
    ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    let status = Command::new("timeout")
        .args(["-k", "5", "90", "ip", "netns", "exec", &namespace])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, &namespace)
        .status();
    ip(&["netns", "delete", &namespace]);
    assert!(status.unwrap().success(), "{name} failed in its namespace");
}

fn missing(program: &str) -> Option<String> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let root = fs::read_to_string("/proc/self/status").unwrap_or_default().contains("\nUid:\t0\t0\t");
    if !root {
        Some("needs root for a network namespace".into())
    } else if !has(program) {
        Some(format!("{program} is not installed"))
    } else if !has("ip") {
        Some("ip is not installed".into())
    } else if !Path::new("/dev/net/tun").exists() {
        Some("no /dev/net/tun".into())
    } else {
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "tests wait for other programs")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Waits until `check` gives something, for at most 20 s.
fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let until = now() + Duration::from_secs(20);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(now() < until, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A client program; ended when dropped. It also ends by itself after a minute.
struct Client {
    child: Child,
    log: std::path::PathBuf,
}

impl Client {
    fn start(dir: &Path, program: &str, args: &[&str], stdin: &str) -> Self {
        let log = dir.join("client.log");
        let file = fs::File::create(&log).unwrap();
        let mut child = Command::new("timeout")
            .args(["--foreground", "-k", "5", "60", program])
            .args(args)
            .env("PTERODAPTER_ENV", dir.join("env"))
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Asks the program to end, as Ctrl-C does; `timeout` passes it on.
    fn interrupt(&mut self) -> Option<i32> {
        if self.child.try_wait().unwrap().is_none() {
            let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        }
        self.wait()
    }

    fn wait(&mut self) -> Option<i32> {
        wait_for("the client ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

fn start_gateway(dir: &Path, far_side: FarSide, scenario: Scenario) -> Gateway {
    let users = vec![User::new("alice", "p@ss+word & more").in_realm("staff"), User::new("bob", "pw")];
    start(dir, gateway::Options { far_side, users, scenario, ..Default::default() })
}

fn start_with(dir: &Path, users: Vec<User>, scenario: Scenario) -> Gateway {
    start(dir, gateway::Options { users, scenario, ..Default::default() })
}

fn start(dir: &Path, options: gateway::Options) -> Gateway {
    let (config, ca_pem) = options.into_config().unwrap();
    fs::write(dir.join("ca.pem"), ca_pem).unwrap();
    let script = dir.join("script");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    Gateway::start(config).unwrap()
}

fn openconnect(
    dir: &Path,
    gateway: &Gateway,
    user: &str,
    password: &str,
    realm: &str,
    more: &[&str],
) -> Client {
    let _ = fs::remove_file(dir.join("env"));
    let ca = format!("--cafile={}", dir.join("ca.pem").display());
    let script = format!("--script={}", dir.join("script").display());
    let url = format!("https://{}/{realm}", gateway.addr());
    let mut args = vec!["--protocol=fortinet", "--no-dtls", "-vvv", "-i", "octun"];
    if !more.contains(&"--cookie-on-stdin") {
        args.push("--passwd-on-stdin");
    }
    args.extend([ca.as_str(), script.as_str(), "-u", user]);
    args.extend(more);
    args.push(&url);
    Client::start(dir, "openconnect", &args, &format!("{password}\n"))
}

/// The environment of the script once the tunnel is up.
fn wait_up(dir: &Path, client: &mut Client) -> String {
    wait_for("the tunnel is up", || {
        assert!(client.child.try_wait().unwrap().is_none(), "{}", client.log());
        fs::read_to_string(dir.join("env")).ok()
    })
}

fn count(journal: &[Entry], wanted: impl Fn(&Event) -> bool) -> usize {
    journal.iter().filter(|entry| wanted(&entry.event)).count()
}

fn requested(path: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Request(head) if head.path == path)
}

fn ping(host: &str, size: u32) {
    let output = Command::new("ping")
        .args(["-n", "-c", "3", "-i", "0.2", "-W", "3", "-s", &size.to_string(), host])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Takes `octets` from the byte source and gives as many to the byte sink.
fn transfer(octets: u64) {
    let limit = Some(Duration::from_secs(20));
    let mut source = TcpStream::connect("10.77.3.4:9001").unwrap();
    source.set_read_timeout(limit).unwrap();
    source.write_all(&octets.to_be_bytes()).unwrap();
    let (mut got, mut buffer) = (0, vec![0; 65_536]);
    loop {
        let len = source.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        for (i, &octet) in buffer[..len].iter().enumerate() {
            assert_eq!(u64::from(octet), (got + i as u64) % 251);
        }
        got += len as u64;
    }
    assert_eq!(got, octets);

    let mut sink = TcpStream::connect("10.77.3.4:9002").unwrap();
    sink.set_read_timeout(limit).unwrap();
    let mut rest = octets as usize;
    while rest > 0 {
        rest -= sink.write(&buffer[..rest.min(65_536)]).unwrap();
    }
    sink.shutdown(std::net::Shutdown::Write).unwrap();
    let mut counted = [0; 8];
    sink.read_exact(&mut counted).unwrap();
    assert_eq!(u64::from_be_bytes(counted), octets);
}

#[test]
fn openconnect_moves_traffic() {
    in_namespace("openconnect_moves_traffic", "openconnect", |dir| {
        let gateway = start_gateway(dir, FarSide::Builtin, Scenario::default());
        let mut client = openconnect(dir, &gateway, "alice", "p@ss+word & more", "staff", &[]);
        let env = wait_up(dir, &mut client);
        for line in [
            format!("INTERNAL_IP4_ADDRESS={CLIENT}"),
            "INTERNAL_IP4_DNS=10.77.0.53".into(),
            "CISCO_DEF_DOMAIN=corp.example".into(),
            "CISCO_SPLIT_INC=1".into(),
            "CISCO_SPLIT_INC_0_ADDR=10.77.0.0".into(),
            "CISCO_SPLIT_INC_0_MASK=255.255.0.0".into(),
        ] {
            assert!(env.lines().any(|have| have == line), "{line} is not in\n{env}");
        }
        ping("10.77.0.80", 56);
        ping("10.77.200.1", 4000);
        transfer(3_000_000);

        let mut web = TcpStream::connect("10.77.0.80:80").unwrap();
        web.write_all(b"GET / HTTP/1.1\r\nHost: www.corp.example\r\n\r\n").unwrap();
        let mut page = String::new();
        web.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("intranet"), "{page}");

        let dns = UdpSocket::bind("0.0.0.0:0").unwrap();
        dns.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04corp\x07example\0\0\x01\0\x01";
        dns.send_to(query, "10.77.0.53:53").unwrap();
        let mut answer = [0; 512];
        let len = dns.recv(&mut answer).unwrap();
        assert!(answer[..len].ends_with(&[10, 77, 0, 80]));
        let refused = TcpStream::connect("10.77.0.80:81").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        client.interrupt();
        let journal = gateway.journal();
        let up = |event: &Event| *event == Event::TunnelUp(CLIENT);
        assert_eq!(count(&journal, up), 1);
        let granted = |event: &Event| matches!(event, Event::Login { outcome: LoginOutcome::Granted, user, realm } if user == "alice" && realm == "staff");
        assert_eq!(count(&journal, granted), 1);
        assert_eq!(count(&journal, requested("/remote/logout")), 1);
        assert_eq!(count(&journal, |event| matches!(event, Event::Violation(_))), 0);
        wait_for("the tunnel's end", || {
            (count(&gateway.journal(), |event| matches!(event, Event::TunnelDown { .. })) == 1).then_some(())
        });
        gateway.stop();
    });
}

#[test]
fn openconnect_survives_odd_records_and_a_drop() {
    in_namespace("openconnect_survives_odd_records_and_a_drop", "openconnect", |dir| {
        let scenario = Scenario {
            reuse: Some(Duration::from_secs(60)),
            record_limit: Some(7),
            tls12_only: true,
            second_tunnel: gateway::SecondTunnel::ReplaceOld,
            ..Scenario::default()
        };
        let gateway = start_gateway(dir, FarSide::Builtin, scenario.clone());
        let mut client = openconnect(dir, &gateway, "bob", "pw", "", &[]);
        wait_up(dir, &mut client);
        ping("10.77.0.1", 1000);
        gateway.set_scenario(Scenario { record_limit: None, frame_per_record: true, ..scenario });
        gateway.kick_tunnels(CloseStyle::Reset);
        wait_for("a second tunnel", || {
            (count(&gateway.journal(), |event| *event == Event::TunnelUp(CLIENT)) == 2).then_some(())
        });
        ping("10.77.0.1", 1000);
        transfer(300_000);
        let logins = |event: &Event| matches!(event, Event::Login { .. });
        assert_eq!(count(&gateway.journal(), logins), 1, "the cookie was good for both");

        gateway.kick_tunnels(CloseStyle::Terminate);
        client.wait();
        let dropped = |event: &Event| {
            matches!(event, Event::TunnelDown { why: TunnelEnd::Dropped(CloseStyle::Terminate), .. })
        };
        assert_eq!(count(&gateway.journal(), dropped), 1);
    });
}

#[test]
fn openconnect_copes_with_odd_negotiations() {
    in_namespace("openconnect_copes_with_odd_negotiations", "openconnect", |dir| {
        let usual = PppKnobs::default;
        for ppp in [
            PppKnobs { offer_vj: true, address_control: true, ipv6: Some([2; 8]), ..usual() },
            PppKnobs { own_mru: Some(1400), dns: DnsOffer::Reject, acks: Acks::Twice, ..usual() },
            PppKnobs { mru: Mru::Nak(1280), ..usual() },
            PppKnobs { mru: Mru::Reject, ..usual() },
            PppKnobs { ask_auth: true, ask_field_compression: true, ..usual() },
            PppKnobs { echo_every: Some(Duration::from_millis(50)), answer_echo: false, ..usual() },
        ] {
            let scenario = Scenario {
                ppp: ppp.clone(),
                host_check: HostCheck::Off,
                script_entry: true,
                chunk_padding: false,
                ..Scenario::default()
            };
            let gateway = start_gateway(dir, FarSide::Builtin, scenario);
            let mut client = openconnect(dir, &gateway, "bob", "pw", "", &[]);
            eprintln!("{ppp:?}");
            wait_up(dir, &mut client);
            ping("10.77.0.1", 1000);
            client.interrupt();
        }
    });
}

#[test]
fn openconnect_understands_denials() {
    in_namespace("openconnect_understands_denials", "openconnect", |dir| {
        for deny_mode in [DenyMode::Body, DenyMode::Status405, DenyMode::EmptyCookie] {
            let gateway = start_gateway(dir, FarSide::Builtin, Scenario { deny_mode, ..Scenario::default() });
            let mut client = openconnect(dir, &gateway, "bob", "wrong", "", &["--non-inter"]);
            assert_ne!(client.wait(), Some(0), "{deny_mode:?}");
            let denied = |event: &Event| matches!(event, Event::Login { outcome: LoginOutcome::Denied, .. });
            assert!(count(&gateway.journal(), denied) > 0, "{deny_mode:?}");
        }
        let gateway = start_gateway(
            dir,
            FarSide::Builtin,
            Scenario { tunnel_status: Some(403), ..Scenario::default() },
        );
        let mut client = openconnect(dir, &gateway, "bob", "pw", "", &[]);
        assert_ne!(client.wait(), Some(0));
        assert!(client.log().contains("HTTP/1.1 403 Forbidden"), "{}", client.log());
    });
}

#[test]
fn far_side_is_a_device() {
    in_namespace("far_side_is_a_device", "openconnect", |dir| {
        // The client's end of the tunnel moves to a namespace of its own, so that packets cannot take a short cut.
        let mut other = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
        let pid = other.id().to_string();
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().unwrap();
            assert!(
                output.status.success(),
                "{program} {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let inside = |args: &[&str]| run("nsenter", &[["-t", pid.as_str(), "-n"].as_slice(), args].concat());

        let far_side = FarSide::Tun { name: "corp0".into() };
        let gateway = start_gateway(dir, far_side, Scenario::default());
        run("ip", &["addr", "add", "10.77.0.1/16", "dev", "corp0"]);
        run("ip", &["link", "set", "corp0", "mtu", "1354", "up"]);
        run("ip", &["route", "add", "10.212.134.0/24", "dev", "corp0"]);
        fs::write(dir.join("script"), format!("#!/bin/sh\n[ \"$reason\" = connect ] && ip link set octun netns {pid} && touch \"$PTERODAPTER_ENV\"\n")).unwrap();
        let mut client = openconnect(dir, &gateway, "bob", "pw", "", &[]);
        wait_up(dir, &mut client);
        inside(&["ip", "addr", "add", "10.212.134.200/32", "dev", "octun"]);
        inside(&["ip", "link", "set", "octun", "mtu", "1354", "up"]);
        inside(&["ip", "route", "add", "10.77.0.0/16", "dev", "octun"]);
        inside(&["ping", "-n", "-c", "3", "-i", "0.2", "-W", "3", "10.77.0.1"]);
        let served = std::thread::spawn(|| {
            let listener = std::net::TcpListener::bind("10.77.0.1:4000").unwrap();
            let (mut stream, peer) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            (bytes.len(), peer.ip())
        });
        std::thread::sleep(Duration::from_millis(200));
        inside(&[
            "sh",
            "-c",
            "head -c 1000000 /dev/zero | timeout 20 bash -c 'cat > /dev/tcp/10.77.0.1/4000'",
        ]);
        assert_eq!(served.join().unwrap(), (1_000_000, CLIENT.into()));
        client.interrupt();
        let _ = other.kill();
        let _ = other.wait();
    });
}

#[test]
fn openfortivpn_gets_its_configuration() {
    in_namespace("openfortivpn_gets_its_configuration", "openfortivpn", |dir| {
        let scenario = Scenario { host_check: HostCheck::Off, ..Scenario::default() };
        let gateway = start_gateway(dir, FarSide::Builtin, scenario);
        let port = gateway.addr().port();
        let ca = format!("--ca-file={}", dir.join("ca.pem").display());
        let args = [
            &format!("127.0.0.1:{port}"),
            "-u",
            "alice",
            "-p",
            "p@ss+word & more",
            "--realm=staff",
            ca.as_str(),
            "--no-routes",
            "--no-dns",
            "-v",
            "-v",
            "-v",
        ];
        let mut client = Client::start(dir, "openfortivpn", &args, "");
        wait_for("the client's end or tunnel", || {
            let log = client.log();
            let ended = client.child.try_wait().unwrap().is_some();
            (ended || log.contains("Got addresses")).then_some(())
        });
        client.interrupt();
        let log = client.log();
        for line in ["Connected to gateway.", "Authenticated.", "Remote gateway has allocated a VPN."] {
            assert!(log.contains(line), "{line} is not in\n{log}");
        }
        let journal = gateway.journal();
        let fetched =
            |event: &Event| matches!(event, Event::Request(head) if head.path == "/remote/fortisslvpn_xml");
        assert_eq!(count(&journal, fetched), 1);
    });
}
