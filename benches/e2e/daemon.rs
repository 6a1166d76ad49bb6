//! The real program as a child, with a gateway behind it and a client in front.
#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pterodapter::crypto::Cipher;
use pterodapter::demo::probe::{ClientConfig, RawTunnel};
use pterodapter::provision::Authority;
use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;

use crate::gateway::{self, PATIENCE, SOCKET_BUFFER, Tunnel};
use crate::support::{self, packets, tls};

const NAME: &str = "vpn.bench.example";
const CLIENT: &str = "laptop@bench.example";

/// A running daemon with one client connected.
pub struct Daemon {
    child: Child,
    authority: Authority,
    ports: [u16; 2],
    pub tunnel: Tunnel,
    pub client: RawTunnel,
    /// Numbers of the next packets, up and down.
    pub next: [u32; 2],
}

/// CPU time since the start of the program.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub all: Duration,
    pub event_loop: Duration,
}

impl Daemon {
    /// Starts the program with `workers`, signs in at a gateway and connects a client, which speaks IPv6 where `nat64`.
    /// Files go to `directory`.
    pub fn start(directory: &Path, workers: usize, cipher: Cipher, nat64: bool) -> io::Result<Self> {
        let (authority, issued) = tls::certificates();
        let server = authority.issue_server(&[NAME], tls::wall(), 1).map_err(io::Error::other)?;
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        let listener = gateway::listen()?;
        let ports = free_ports()?;
        let [ike_port, nat_port] = ports;
        let mut child = Command::new(env!("CARGO_BIN_EXE_pterodapter"))
            .arg(format!("--destination={}", listener.local_addr()?))
            .arg("--cacert")
            .arg(file("ca.pem", authority.cert_pem())?)
            .arg("--gateway-ca")
            .arg(directory.join("ca.pem"))
            .arg("--cert")
            .arg(file("server.pem", &server.cert_pem)?)
            .arg("--key")
            .arg(file("server.key", &server.key_pem)?)
            .args(["--username", "bench", "--password-file"])
            .arg(file("password", "bench\n")?)
            .args(["--listen-ip=127.0.0.1", &format!("--id-hostname={NAME}")])
            .arg(format!("--ike-port={ike_port}"))
            .arg(format!("--nat-port={nat_port}"))
            .arg(format!("--workers={workers}"))
            .args(nat64.then(|| format!("--nat64-prefix={}", packets::PREFIX)))
            .arg("ikev2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log"))?)
            .spawn()?;
        let connected = Tunnel::accept(&listener, &tls::server_config(&issued))
            .and_then(|tunnel| Ok((tunnel, connect(&authority, ports, CLIENT, cipher, nat64)?)));
        let (tunnel, client) = connected.inspect_err(|_| {
            let _ = child.kill();
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            eprintln!("the daemon said:\n{log}");
        })?;
        SockRef::from(&client.socket).set_recv_buffer_size(SOCKET_BUFFER)?;
        SockRef::from(&client.socket).set_send_buffer_size(SOCKET_BUFFER)?;
        client.socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { child, authority, ports, tunnel, client, next: [1, 1] })
    }

    /// Connects another client.
    pub fn connect(&self, name: &str) -> io::Result<RawTunnel> {
        connect(&self.authority, self.ports, name, Cipher::Aes256Gcm, false)
    }

    /// The address for IKE with marker and ESP.
    pub fn nat_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[1]).into()
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the program where it is, and waits until all of its threads stand still.
    pub fn freeze(&self) -> io::Result<()> {
        signal(self.pid(), Signal::STOP)?;
        self.wait_for("T")
    }

    /// Waits until all threads sleep: nothing is left to do, and the counted CPU time is exact.
    pub fn settle(&self) -> io::Result<()> {
        self.wait_for("S")
    }

    /// CPU time so far; exact while the program stands still or sleeps.
    pub fn cpu(&self) -> io::Result<Cpu> {
        let mut cpu = Cpu { all: Duration::ZERO, event_loop: Duration::ZERO };
        for task in self.tasks()? {
            let read = |file| std::fs::read_to_string(task.join(file));
            let (Ok(stat), Ok(name)) = (read("schedstat"), read("comm")) else { continue };
            let ran = stat.split(' ').next().and_then(|field| field.parse().ok()).map(Duration::from_nanos);
            cpu.all += ran.unwrap_or_default();
            if name.trim() == "event-loop" {
                cpu.event_loop = ran.unwrap_or_default();
            }
        }
        Ok(cpu)
    }

    /// A field of /proc/PID/status, in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    fn tasks(&self) -> io::Result<Vec<std::path::PathBuf>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()))?;
        tasks.map(|task| Ok(task?.path())).collect()
    }

    fn wait_for(&self, state: &str) -> io::Result<()> {
        let start = support::now();
        while start.elapsed() < PATIENCE {
            let is_there = |task: &std::path::PathBuf| {
                let status = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
                // The name before it may hold spaces and brackets.
                status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(state))
            };
            if self.tasks()?.iter().all(is_there) {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets the frozen program go on.
pub fn thaw(pid: u32) -> io::Result<()> {
    signal(pid, Signal::CONT)
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

/// Connects the client.
fn connect(
    authority: &Authority,
    [ike_port, nat_port]: [u16; 2],
    name: &str,
    cipher: Cipher,
    ipv6: bool,
) -> io::Result<RawTunnel> {
    let issued = authority.issue_client(name, tls::wall(), 1).map_err(io::Error::other)?;
    let server = SocketAddr::from(([127, 0, 0, 1], ike_port));
    let mut config = ClientConfig::new(server, nat_port, NAME);
    config.ca_pem = authority.cert_pem().to_owned();
    config.cert_pem = issued.cert_pem;
    config.key_pem = issued.key_pem;
    config.identity = Some(name.to_owned());
    config.esp = vec![cipher];
    config.ipv6 = ipv6;
    RawTunnel::connect(&config).map_err(io::Error::other)
}

fn free_ports() -> io::Result<[u16; 2]> {
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}
