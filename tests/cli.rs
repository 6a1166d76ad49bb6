//! The program as people and systemd see it: what it prints, its exit codes, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use pterodapter::provision::Authority;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
/// Loading a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A directory with certificates in order.
struct Files(TempDir);

impl Files {
    #[expect(clippy::disallowed_methods, reason = "certificates that the program accepts now")]
    fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let files = Self(TempDir::new().unwrap());
        let ca = Authority::new("test CA", wall, 30).unwrap();
        let server = ca.issue_server(&["pterodapter"], wall, 20).unwrap();
        for (name, text) in
            [("ca.pem", ca.cert_pem()), ("server.pem", &server.cert_pem), ("server.key", &server.key_pem)]
        {
            fs::write(files.path(name), text).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Options of a daemon whose gateway refuses connections.
    fn options(&self, ike_port: u16, nat_port: u16) -> Vec<String> {
        let file = |name: &str| self.path(name).display().to_string();
        vec![
            "--destination=127.0.0.1:1".to_owned(),
            format!("--cacert={}", file("ca.pem")),
            format!("--cert={}", file("server.pem")),
            format!("--key={}", file("server.key")),
            "--listen-ip=127.0.0.1".to_owned(),
            format!("--ike-port={ike_port}"),
            format!("--nat-port={nat_port}"),
            "ikev2".to_owned(),
        ]
    }
}

/// Two UDP ports that are free now.
fn free_ports() -> (u16, u16) {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [a, b] = sockets.map(|socket| socket.local_addr().unwrap().port());
    (a, b)
}

#[test]
fn help_and_version_go_to_stdout() {
    for (option, says) in [("--help", "--destination"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = run(&[option]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(says));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn wrong_usage_is_one_line_and_code_2() {
    for args in [
        &["ikev2"][..],
        &["ikev2", "--what"],
        &["--ike-port=4500", "ikev2"],
        &["ikev3"],
        &["demo", "--key=x"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(text.starts_with("pterodapter: ") && text.lines().count() == 1, "{args:?}: {text}");
    }
}

#[test]
fn wrong_configuration_is_one_line_and_code_78_at_any_log_level() {
    let files = Files::new();
    let (ike, nat) = free_ports();
    let mut options = files.options(ike, nat);
    options
        .extend(["--log-level=off".to_owned(), format!("--gateway-ca={}", files.path("missing").display())]);
    let output = run(&options.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(
        text.starts_with("pterodapter: --gateway-ca: cannot read") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let files = Files::new();
    let (ike, _) = free_ports();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = run(&files.options(ike, port).iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&format!("port {port} (127.0.0.1:{port}, UDP): already in use")), "{text}");
}

/// systemd's own tool opens the sockets and starts the program at the first datagram or connection.
fn activated(sockets: &[String], more: &[String], options: &[String]) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    command
        .args(more)
        .args(sockets.iter().map(|socket| format!("--listen={socket}")))
        .arg(PROGRAM)
        .args(options);
    command
}

/// Options of a daemon that could bind nothing by itself: nobody has an address of TEST-NET-1.
fn without_address(files: &Files, ike_port: u16, nat_port: u16) -> Vec<String> {
    let mut options = files.options(ike_port, nat_port);
    options.retain(|option| !option.starts_with("--listen-ip"));
    options.insert(0, "--listen-ip=192.0.2.1".to_owned());
    options
}

#[test]
fn systemd_gives_the_sockets_and_hears_how_we_are() {
    let files = Files::new();
    let (ike, nat) = free_ports();
    let ear = UnixDatagram::bind(files.path("notify")).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let more = [
        "--datagram".to_owned(),
        format!("--setenv=NOTIFY_SOCKET={}", files.path("notify").display()),
        "--setenv=WATCHDOG_USEC=200000".to_owned(),
    ];
    let sockets = [ike, nat].map(|port| format!("127.0.0.1:{port}"));
    let mut daemon =
        Daemon::spawn(&mut activated(&sockets, &more, &without_address(&files, ike, nat)), "activated");
    daemon.wait_for("Listening on");
    daemon.wait_for(&format!("127.0.0.1:{nat}"));

    // A request of IKE version 3: the datagram that starts the program is answered, with the version that it speaks.
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // As long as its answer: no answer is longer than what it answers.
    let mut request = [0; 36];
    request[..8].fill(7);
    request[17] = 0x30;
    request[18] = 34;
    request[19] = 0x08;
    request[27] = 36;
    peer.send_to(&request, ("127.0.0.1", ike)).unwrap();
    daemon.wait_for(&format!("listening on UDP 127.0.0.1:{ike} and 127.0.0.1:{nat}"));
    let mut answer = [0; 100];
    let (length, from) = loop {
        match peer.recv_from(&mut answer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    assert_eq!((from.port(), answer[17], &answer[length - 2..length]), (ike, 0x20, &[0, 5][..]));

    let mut heard = String::new();
    let mut hear = |text: &str| {
        while !heard.contains(text) {
            let mut message = [0; 1000];
            match ear.recv(&mut message) {
                Ok(length) => heard.push_str(std::str::from_utf8(&message[..length]).unwrap()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no {text:?} in {heard:?}: {error}"),
            }
        }
    };
    hear("READY=1\n");
    hear("STATUS=connecting to the gateway; devices: 0\n");
    hear("WATCHDOG=1\nWATCHDOG=1\n");
    daemon.signal("TERM");
    hear("STOPPING=1\n");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn sockets_that_will_not_do_are_refused_with_code_78() {
    let files = Files::new();
    let (ike, nat) = free_ports();
    let (other, _) = free_ports();
    let socket = |port: u16| format!("127.0.0.1:{port}");
    let options = without_address(&files, ike, nat);
    let datagram = ["--datagram".to_owned()];
    let mut strange =
        Daemon::spawn(&mut activated(&[socket(ike), socket(other)], &datagram, &options), "strange");
    strange.wait_for("Listening on");
    strange.wait_for(&socket(other));
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0], ("127.0.0.1", ike)).unwrap();
    strange.wait_for(&format!("its port is neither --ike-port ({ike}) nor --nat-port ({nat})"));
    assert_eq!(strange.wait(), Some(78));

    let mut stream = Daemon::spawn(&mut activated(&[socket(ike)], &[], &options), "stream");
    stream.wait_for("Listening on");
    TcpStream::connect(("127.0.0.1", ike)).unwrap();
    stream.wait_for("descriptor 3 of the service manager is not a UDP socket");
    assert_eq!(stream.wait(), Some(78));
}

#[test]
fn signals_end_the_daemon_cleanly() {
    let files = Files::new();
    for signal in ["TERM", "INT"] {
        let (ike, nat) = free_ports();
        let mut daemon = Daemon::start(&files.options(ike, nat), signal);
        daemon.wait_for(&format!("listening on UDP 127.0.0.1:{ike} and 127.0.0.1:{nat}"));
        daemon.signal(signal);
        daemon.wait_for("stopping");
        assert_eq!(daemon.wait(), Some(0), "SIG{signal}");
        let said = daemon.rest().filter(|line| line.contains("stop")).count();
        assert_eq!(said, 0, "the end is announced once");
    }
}

/// `script` gives the program a terminal, and hangs up when it is killed.
#[test]
fn colours_are_for_terminals_that_want_them() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|place| place.join("script").is_file());
    assert!(found || std::env::var_os("CI").is_none(), "script is missing");
    if !found {
        return println!("skipped: script is not installed");
    }
    let files = Files::new();
    for (environment, is_coloured) in [
        ([("TERM", "xterm"), ("NO_COLOR", "")], true),
        ([("TERM", "xterm"), ("NO_COLOR", "1")], false),
        ([("TERM", "dumb"), ("NO_COLOR", "")], false),
    ] {
        let (ike, nat) = free_ports();
        let options = files.options(ike, nat).join(" ");
        let mut terminal = Command::new("script")
            .args(["--quiet", "--command", &format!("exec {PROGRAM} --control=none {options}"), "/dev/null"])
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(terminal.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.into_iter().find(|line| line.contains("listening on UDP")).unwrap();
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        assert_eq!(line.contains("Z \u{1b}[32m[INFO]\u{1b}[0m listening"), is_coloured, "{line:?}");
        assert_eq!(line.contains("Z [INFO] listening"), !is_coloured, "{line:?}");
        assert_eq!(line.find('Z'), Some("12:03:04".len()), "{line:?}");
    }
}

/// A running program; killed when dropped.
struct Daemon {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    fn start(options: &[String], name: &str) -> Self {
        Self::spawn(Command::new(PROGRAM).args(options), name)
    }

    fn spawn(command: &mut Command, name: &str) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)))
            .unwrap();
        Self { child, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) {
        while !self.seen.last().is_some_and(|line| line.contains(text)) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line with {text:?} in {:#?}", self.seen),
            }
        }
    }

    /// Lines not waited for; ends when the program has ended.
    fn rest(&self) -> impl Iterator<Item = String> {
        self.lines.iter()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(&mut self) -> Option<i32> {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
            waited += Duration::from_millis(20);
        }
        panic!("it goes on; it said {:#?}", self.seen);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already in a test that passes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
