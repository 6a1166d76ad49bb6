//! The program itself as a child, with a gateway double in this process.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use pterodapter::demo::gateway::{Event, FarSide, Gateway, GatewayConfig, Scenario, User};
use pterodapter::demo::probe::ClientConfig;
use pterodapter::provision::Authority;
use tempfile::TempDir;

use crate::common::wall;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const SERVER_ID: &str = "vpn.example";

/// A running `pterodapter ikev2`; killed when dropped.
pub struct Program {
    /// The gateway double.
    pub gateway: Gateway,
    command: Command,
    child: Child,
    authority: Authority,
    directory: TempDir,
    ports: [u16; 2],
    page: SocketAddr,
}

impl Program {
    /// Starts both. `files` are written for `options`, in which `{}` is their directory.
    pub fn start(scenario: Scenario, users: Vec<User>, files: &[(&str, &str)], options: &[&str]) -> Self {
        Self::start_in(&[], scenario, users, files, options)
    }

    /// The same with more in the environment; `{}` is the directory there, too.
    pub fn start_in(
        environment: &[(&str, &str)],
        scenario: Scenario,
        users: Vec<User>,
        files: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let web = Authority::new("Gateway test authority", wall(), 2).unwrap();
        let server = web.issue_server(&["127.0.0.1"], wall(), 2).unwrap();
        let page = free_tcp();
        let gateway = Gateway::start(GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            chain_pem: server.cert_pem,
            key_pem: server.key_pem,
            users,
            scenario: Scenario { saml_port: page.port(), ..scenario },
            far_side: FarSide::Builtin,
        })
        .unwrap();
        let authority = Authority::new("Device test authority", wall(), 2).unwrap();
        let identity = authority.issue_server(&[SERVER_ID], wall(), 2).unwrap();
        let own = [
            ("ca.pem", authority.cert_pem()),
            ("web.pem", web.cert_pem()),
            ("server.pem", &identity.cert_pem),
            ("server.key", &identity.key_pem),
        ];
        for (name, text) in own.iter().chain(files) {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let ports = free_udp();
        let place = directory.path().display().to_string();
        let mut command = Command::new(PROGRAM);
        command
            .envs(environment.iter().map(|(name, value)| (name, value.replace("{}", &place))))
            .arg(format!("--destination={}", gateway.addr()))
            .arg(format!("--saml-listen={page}"))
            .arg(format!("--ike-port={}", ports[0]))
            .arg(format!("--nat-port={}", ports[1]))
            .args(["--listen-ip=127.0.0.1", "--id-hostname=vpn.example"])
            .args(
                ["--cacert={}/ca.pem", "--cert={}/server.pem", "--key={}/server.key"]
                    .map(|o| o.replace("{}", &place)),
            )
            .args(["--gateway-ca={}/web.pem", "--control={}/control"].map(|o| o.replace("{}", &place)))
            .args(options.iter().map(|option| option.replace("{}", &place)))
            .arg("ikev2");
        let output = |name: &str| File::create(directory.path().join(name)).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(output("stdout")).stderr(output("stderr")).spawn().unwrap();
        Self { gateway, command, child, authority, directory, ports, page }
    }

    /// Ends it and starts it again as it was started.
    pub fn restart(&mut self) {
        assert!(self.stop().success());
        self.child = self.command.spawn().unwrap();
    }

    /// Where it listens on loopback: for IKE, and for IKE with marker and ESP.
    pub fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// Settings of a device.
    pub fn client_config(&self, name: &str) -> ClientConfig {
        self.client_config_by(&self.authority, name)
    }

    /// The same with a certificate from somebody else.
    pub fn client_config_by(&self, authority: &Authority, name: &str) -> ClientConfig {
        let issued = authority.issue_client(name, wall(), 2).unwrap();
        let mut config = ClientConfig::new(([127, 0, 0, 1], self.ports[0]).into(), self.ports[1], SERVER_ID);
        config.ca_pem = self.authority.cert_pem().to_owned();
        config.cert_pem = issued.cert_pem;
        config.key_pem = issued.key_pem;
        config
    }

    /// Who the daemon trusts at the start, and has its certificate from.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A file in the directory of `files`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs another command of the program, which finds the daemon by its control socket.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let control = format!("--control={}", self.control().display());
        Command::new(PROGRAM).args(arguments).arg(control).stdin(Stdio::null()).output().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// How many events of the gateway are `wanted`.
    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.gateway.journal().iter().filter(|entry| wanted(&entry.event)).count()
    }

    /// How many tunnels came up.
    pub fn tunnels(&self) -> usize {
        self.count(|event| matches!(event, Event::TunnelUp(_)))
    }

    /// How often credentials or answers to questions were sent.
    pub fn posts(&self) -> usize {
        self.count(|event| matches!(event, Event::Request(head) if head.method == "POST"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has printed, to both.
    pub fn printed(&self) -> String {
        let read = |name: &str| fs::read(self.directory.path().join(name)).unwrap();
        String::from_utf8_lossy(&[read("stdout"), read("stderr")].concat()).into_owned()
    }

    /// A file of the process's directory in /proc.
    pub fn proc_file(&self, name: &str) -> String {
        let bytes = fs::read(format!("/proc/{}/{name}", self.pid())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A number of /proc/PID/status: kibibytes, or a count.
    pub fn status(&self, name: &str) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Open files.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// Runs `pterodapter login -` with `text` as its input.
    pub fn login(&self, text: &str) -> Output {
        let mut child = Command::new(PROGRAM)
            .arg("login")
            .arg(format!("--control={}", self.control().display()))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What the local page answers, with its head.
    pub fn page(&self, target: &str) -> String {
        let mut stream = TcpStream::connect(self.page).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let host = self.page;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // A reset behind the answer is no matter.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks it to end, as systemd does, and waits for that.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn free_udp() -> [u16; 2] {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
