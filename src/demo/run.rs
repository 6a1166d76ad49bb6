//! `pterodapter demo`: a gateway, the daemon and a client on this machine, and everything once through the tunnel.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gateway::{Event, FarSide, Gateway, GatewayConfig, Scenario, User};
use super::probe::{Client, ClientConfig, ProbeError, RecordType, Transport};
use crate::base::Random;
use crate::crypto::{self, PrivateKey, Secret, SystemRandom, TrustAnchors, pem};
use crate::engine::{self, Clock, Config, Identity, Pool, SignIn, Split, StartError};
use crate::fortivpn::{self, Credentials};
use crate::provision::{self, Authority, Issued};

const SERVER_NAME: &str = "pterodapter.demo";
const DEVICE_NAME: &str = "laptop@pterodapter.demo";
const USER: &str = "demo";
/// Certificates last for an afternoon's trial.
const DAYS: u32 = 2;
/// The sign-in at the gateway takes less than this, or never comes.
const SIGN_IN: Duration = Duration::from_secs(15);

// The gateway's built-in company network.
const WEB_NAME: &str = "www.corp.example";
const WEB_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const SOURCE_PORT: u16 = 9001;
const SINK_PORT: u16 = 9002;
/// Octet `i` of its byte source is `i % PATTERN`.
const PATTERN: u64 = 251;
/// Octets per read or write of a transfer: a multiple of `PATTERN`.
const CHUNK: usize = 251 * 1024;

/// What to demonstrate.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// Stay up afterwards, for a client of the user's own.
    pub stay: bool,
    /// Octets to move in each direction.
    pub bytes: u64,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { stay: false, bytes: 200_000_000 }
    }
}

/// Why the demonstration failed.
#[derive(Debug)]
pub enum DemoError {
    /// The throw-away certificates could not be made.
    Certificates(provision::Error),
    /// A certificate or key could not be used.
    Crypto(crypto::Error),
    /// The throw-away authority is not accepted.
    Anchors(crypto::pki::ChainError),
    /// The gateway could not be started, or files not be written.
    System(io::Error),
    /// The daemon could not be started.
    Daemon(StartError),
    /// The daemon ended by a panic.
    Crashed,
    /// A step did not work.
    Step {
        /// Its name, as printed.
        name: &'static str,
        /// What went wrong.
        why: ProbeError,
    },
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificates(e) => write!(f, "cannot make certificates: {e}"),
            Self::Crypto(e) => write!(f, "cannot use the certificates: {e}"),
            Self::Anchors(e) => write!(f, "cannot use the certificate authority: {e}"),
            Self::System(e) => write!(f, "cannot set up the demonstration: {e}"),
            Self::Daemon(e) => write!(f, "{e}"),
            Self::Crashed => f.write_str("the daemon crashed; please report this"),
            Self::Step { name, why } => write!(f, "'{name}' failed: {why}"),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<provision::Error> for DemoError {
    fn from(e: provision::Error) -> Self {
        Self::Certificates(e)
    }
}

impl From<crypto::Error> for DemoError {
    fn from(e: crypto::Error) -> Self {
        Self::Crypto(e)
    }
}

impl From<crypto::pki::ChainError> for DemoError {
    fn from(e: crypto::pki::ChainError) -> Self {
        Self::Anchors(e)
    }
}

impl From<io::Error> for DemoError {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl From<StartError> for DemoError {
    fn from(e: StartError) -> Self {
        Self::Daemon(e)
    }
}

/// Runs the demonstration; `Ok` only if every step worked.
///
/// # Errors
/// The first thing that did not work.
pub fn run(options: DemoOptions) -> Result<(), DemoError> {
    let clock = Clock::start();
    let wall = clock.now().wall;
    let authority = Authority::new("pterodapter demo CA", wall, DAYS)?;
    let device = authority.issue_client(DEVICE_NAME, wall, DAYS)?;
    let password = random_password();
    let gateway = start_gateway(&authority, &password, wall)?;
    let outside = options.stay.then(own_address).flatten();
    let daemon = start_daemon(&authority, &password, wall, gateway.addr(), outside)?;
    let (Some(ike), Some(nat)) = (daemon.ike_addresses().first(), daemon.nat_addresses().first()) else {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    };
    say(&format!("gateway on {}, daemon on UDP {} and {}", gateway.addr(), ike.port(), nat.port()));

    let probe = ClientConfig {
        ca_pem: authority.cert_pem().to_owned(),
        cert_pem: device.cert_pem.clone(),
        key_pem: device.key_pem.clone(),
        identity: Some(DEVICE_NAME.to_owned()),
        ..ClientConfig::new((Ipv4Addr::LOCALHOST, ike.port()).into(), nat.port(), SERVER_NAME)
    };
    let mut outcome = Steps { clock }.all(&gateway, probe, options.bytes);
    if options.stay && outcome.is_ok() {
        outcome = stay(&authority, &device, outside, (ike.port(), nat.port()));
    }
    daemon.stopper().stop();
    let ended = daemon.wait();
    gateway.stop();
    outcome?;
    if !ended {
        return Err(DemoError::Crashed);
    }
    say("everything worked");
    Ok(())
}

fn start_gateway(authority: &Authority, password: &str, wall: Duration) -> Result<Gateway, DemoError> {
    let certificate = authority.issue_server(&["127.0.0.1"], wall, DAYS)?;
    let config = GatewayConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        chain_pem: certificate.cert_pem,
        key_pem: certificate.key_pem,
        users: vec![User::new(USER, password)],
        scenario: Scenario::default(),
        far_side: FarSide::Builtin,
    };
    Ok(Gateway::start(config)?)
}

/// The daemon on loopback, or on all addresses when others shall reach it.
fn start_daemon(
    authority: &Authority,
    password: &str,
    wall: Duration,
    gateway: SocketAddr,
    outside: Option<Ipv4Addr>,
) -> Result<engine::Handle, DemoError> {
    let own = outside.map(|address| address.to_string());
    let names: Vec<&str> = [SERVER_NAME].into_iter().chain(own.as_deref()).collect();
    let certificate = authority.issue_server(&names, wall, DAYS)?;
    let listen = if outside.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let (ike_port, nat_port) =
        if outside.is_some() && standard_ports_are_ours() { (500, 4500) } else { (0, 0) };
    let credentials = Credentials::Password {
        username: USER.to_owned(),
        password: Some(Secret::from(password.as_bytes())),
    };
    let config = Config {
        split: Split::default(),
        reload: None,
        unique: false,
        weak_groups: false,
        listen: vec![IpAddr::V4(listen)],
        ike_port,
        nat_port,
        identity: Identity::new(
            SERVER_NAME,
            pem::certificates(certificate.cert_pem.as_bytes())?,
            PrivateKey::from_pem(certificate.key_pem.as_bytes())?,
            TrustAnchors::new(&pem::certificates(authority.cert_pem().as_bytes())?)?,
        ),
        pool: Pool::DEFAULT,
        workers: 1,
        uplink: fortivpn::Config::new(gateway.ip().to_string(), gateway.port(), credentials),
        transport: engine::Transport {
            roots: vec![authority.cert_der().to_vec().into()],
            ..engine::Transport::default()
        },
        page: Vec::new(),
        metrics: false,
        sign_in: SignIn::default(),
        pcap: None,
    };
    Ok(engine::start(config)?)
}

fn random_password() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address that other machines reach this one at, most likely. Nothing is sent.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn standard_ports_are_ours() -> bool {
    [500, 4500].into_iter().all(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

/// The steps, each printed as a line of a table when it is done.
struct Steps {
    clock: Clock,
}

impl Steps {
    fn all(&self, gateway: &Gateway, config: ClientConfig, bytes: u64) -> Result<(), DemoError> {
        self.step("sign in at the gateway", || self.wait_for_tunnel(gateway).map(|it| ((), it)))?;
        let client = self.step("connect by IKEv2", || {
            let client = Client::connect(config)?;
            let routes: Vec<_> =
                client.routes().iter().map(|ts| format!("{}-{}", ts.first, ts.last)).collect();
            let what = format!("address {}, networks {}", client.address(), routes.join(" "));
            Ok((client, what))
        })?;
        for (name, transport) in [("ask DNS by UDP", Transport::Udp), ("ask DNS by TCP", Transport::Tcp)] {
            self.step(name, || resolve(&client, transport))?;
        }
        self.step("ping the company's web server", || ping(&client))?;
        self.step("fetch a page", || fetch(&client))?;
        self.step("download", || self.timed(bytes, || download(&client, bytes)))?;
        self.step("upload", || self.timed(bytes, || upload(&client, bytes)))?;
        self.step("rekey the Child SA", || client.rekey_child(true).and_then(|()| ping(&client)))?;
        self.step("rekey the IKE SA", || client.rekey_ike().and_then(|()| ping(&client)))?;
        self.step("move to another port", || client.rebind().and_then(|()| ping(&client)))?;
        self.step("check that the peer lives", || client.dpd().map(|took| ((), milliseconds(took))))?;
        self.step("disconnect", || {
            let counters = client.disconnect()?;
            Ok(((), format!("{} packets sent, {} received", counters.esp_out, counters.esp_in)))
        })
    }

    /// Runs a step and prints its name, how long it took, and what it has to say.
    fn step<T>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<(T, String), ProbeError>,
    ) -> Result<T, DemoError> {
        let start = self.clock.now().mono;
        let result = work();
        let took = milliseconds(self.clock.now().mono.saturating_sub(start));
        match result {
            Ok((value, detail)) => {
                say(&format!("  ok      {name:<30} {took:>12}   {detail}"));
                Ok(value)
            }
            Err(why) => {
                say(&format!("  FAILED  {name:<30} {took:>12}   {why}"));
                Err(DemoError::Step { name, why })
            }
        }
    }

    /// Adds the throughput of `bytes` to a step.
    fn timed(
        &self,
        bytes: u64,
        work: impl FnOnce() -> Result<(), ProbeError>,
    ) -> Result<((), String), ProbeError> {
        let start = self.clock.now().mono;
        work()?;
        let seconds = self.clock.now().mono.saturating_sub(start).as_secs_f64().max(1e-6);
        let (megabytes, megabits) = (bytes as f64 / 1e6, bytes as f64 * 8.0 / 1e6 / seconds);
        Ok(((), format!("{megabytes:.0} MB at {megabits:.0} Mbit/s")))
    }

    fn wait_for_tunnel(&self, gateway: &Gateway) -> Result<String, ProbeError> {
        let deadline = self.clock.now().mono + SIGN_IN;
        while self.clock.now().mono < deadline {
            let up = gateway.journal().into_iter().find_map(|entry| match entry.event {
                Event::TunnelUp(address) => Some(address),
                _ => None,
            });
            if let Some(address) = up {
                return Ok(format!("the gateway assigned {address}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(ProbeError::Timeout("the tunnel to the gateway"))
    }
}

fn resolve(client: &Client, transport: Transport) -> Result<((), String), ProbeError> {
    let answer = client.dns(WEB_NAME, RecordType::A, transport)?;
    match answer.ipv4() {
        Some(WEB_ADDRESS) => Ok(((), format!("{WEB_NAME} is {WEB_ADDRESS}"))),
        _ => Err(ProbeError::Inner(format!("a wrong answer: {answer:?}"))),
    }
}

fn ping(client: &Client) -> Result<((), String), ProbeError> {
    let took = client.ping(WEB_ADDRESS)?;
    Ok(((), format!("{WEB_ADDRESS} answers in {}", milliseconds(took))))
}

fn fetch(client: &Client) -> Result<((), String), ProbeError> {
    let url = format!("http://{WEB_NAME}/");
    let page = client.http_get(&url)?;
    match page.status {
        200 => Ok(((), format!("{url}: {} octets", page.body.len()))),
        status => Err(ProbeError::Inner(format!("{url}: status {status}"))),
    }
}

fn broken(e: io::Error) -> ProbeError {
    ProbeError::Inner(format!("transfer: {e}"))
}

fn download(client: &Client, bytes: u64) -> Result<(), ProbeError> {
    let mut stream = client.tcp_connect(SocketAddrV4::new(WEB_ADDRESS, SOURCE_PORT))?;
    stream.write_all(&bytes.to_be_bytes()).map_err(broken)?;
    let pattern: Vec<u8> = (0..PATTERN as usize + CHUNK).map(|i| (i % PATTERN as usize) as u8).collect();
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).map_err(broken)?;
        let expected = pattern.iter().skip((received % PATTERN) as usize);
        if !buffer.iter().take(count).eq(expected.take(count)) {
            return Err(ProbeError::Inner(format!("wrong octets after {received}")));
        }
        received += count as u64;
        if count == 0 || received > bytes {
            break;
        }
    }
    if received == bytes {
        Ok(())
    } else {
        Err(ProbeError::Inner(format!("{received} octets instead of {bytes}")))
    }
}

fn upload(client: &Client, bytes: u64) -> Result<(), ProbeError> {
    let mut stream = client.tcp_connect(SocketAddrV4::new(WEB_ADDRESS, SINK_PORT))?;
    let chunk: Vec<u8> = (0..CHUNK).map(|i| (i % PATTERN as usize) as u8).collect();
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        stream.write_all(chunk.split_at(part).0).map_err(broken)?;
        left -= part as u64;
    }
    stream.shutdown_write();
    let mut count = [0; 8];
    stream.read_exact(&mut count).map_err(broken)?;
    match u64::from_be_bytes(count) {
        count if count == bytes => Ok(()),
        count => Err(ProbeError::Inner(format!("{count} octets arrived instead of {bytes}"))),
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// Prints a line. Nobody may be listening, and that is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Files for a client, gone when the demonstration ends.
struct Files(PathBuf);

impl Files {
    fn write(authority: &Authority, device: &Issued) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("pterodapter-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let files = Self(path);
        for (name, content) in [
            ("ca.pem", authority.cert_pem()),
            ("device.pem", &device.cert_pem),
            ("device.key", &device.key_pem),
        ] {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(files.0.join(name))?;
            file.write_all(content.as_bytes())?;
        }
        Ok(files)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says how to connect, and waits for SIGINT or SIGTERM.
fn stay(
    authority: &Authority,
    device: &Issued,
    outside: Option<Ipv4Addr>,
    (ike, nat): (u16, u16),
) -> Result<(), DemoError> {
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    let files = Files::write(authority, device)?;
    let directory = files.path().display();
    let address = outside.unwrap_or(Ipv4Addr::LOCALHOST);
    say("\nStill up, until Ctrl-C. A client of your own connects with:\n");
    say(&format!("  server         {address}, UDP ports {ike} and {nat}"));
    say(&format!("  server's name  {SERVER_NAME}"));
    say(&format!("  authority      {directory}/ca.pem"));
    say(&format!(
        "  certificate    {directory}/device.pem, key {directory}/device.key, identity {DEVICE_NAME}"
    ));
    if ike != 500 {
        say(
            "  Only clients that can be told the ports reach it (strongSwan: remote_port); as root it takes 500 and 4500.",
        );
    }
    say(&format!("\nThen try: ping {WEB_ADDRESS}, or http://{WEB_NAME}/\n"));
    signals.forever().next();
    Ok(())
}
