//! The program as people and systemd see it: what it prints, its exit codes, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
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
        let mut child = Command::new(PROGRAM)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
