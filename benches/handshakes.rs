//! Whole handshakes, IKE_SA_INIT and IKE_AUTH, against the public-key operations in them. `cargo bench --bench handshakes`.
//!
//! Only the CPU time counts that the responder's thread spends between taking a datagram and having the answer: the
//! client is a thread of its own, and the sockets are between them.

#[allow(dead_code, reason = "made for all benches")]
mod support;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use pterodapter::base::{Now, Path};
use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::sign::{EcdsaForm, KeyKind, SignatureScheme};
use pterodapter::crypto::{Certificate, Group, PrivateKey, SystemRandom, TrustAnchors};
use pterodapter::demo::probe::{ClientConfig, RawTunnel};
use pterodapter::ike::{Config, Identity, Input, Output, Passage, Policy, Responder};
use pterodapter::provision::{Authority, Issued, Role, Validity};

use support::{Run, Target, at_least, thread_cpu, tls};

const NAME: &str = "vpn.bench.example";
const CLIENT: &str = "laptop.bench.example";
const RSA_KEY: &str = include_str!("../tests/data/pki/rsa.key.pem");
/// Handshakes, and public-key operations of each kind, in one measurement.
const REPEATS: u32 = 10;
/// The marker in front of IKE on the port that ESP has, too.
const MARKER: [u8; 4] = [0; 4];

fn main() -> ExitCode {
    match bench() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("handshakes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<ExitCode> {
    let mut run = Run::default();
    let mut sides = [Side::new("ECDSA P-256", None)?, Side::new("RSA-2048", Some(RSA_KEY))?];
    for _ in 0..support::rounds() {
        // No arm always comes first.
        sides.rotate_left(1);
        for side in &sides {
            let mut whole = Duration::ZERO;
            for _ in 0..REPEATS {
                whole += side.handshake()?;
            }
            run.record(&format!("{}: handshake", side.name), each(whole));
            let mut sum = 0.0;
            for (what, spent) in side.operations()? {
                sum += each(spent);
                run.record(&format!("{}: {what}", side.name), each(spent));
            }
            run.record(&format!("{}: sum of these", side.name), sum);
        }
    }
    let (ratios, verdict) = run.judge(&TARGETS);
    let mut text = format!("# handshakes\n\n{}\n\n", support::machine());
    let _ = writeln!(text, "{}\n{ratios}", run.table("ns"));
    for side in &sides {
        if let Some(summary) = run.summary(&format!("{}: handshake", side.name)) {
            let _ =
                writeln!(text, "* {}: {:.0} handshakes per second and core", side.name, 1e9 / summary.median);
        }
    }
    support::report("handshakes", &text);
    Ok(support::exit(verdict))
}

const TARGETS: [Target; 2] = [
    at_least(
        "public-key operations / handshake, ECDSA P-256",
        "ECDSA P-256: sum of these",
        "ECDSA P-256: handshake",
        0.6,
    ),
    at_least(
        "public-key operations / handshake, RSA-2048",
        "RSA-2048: sum of these",
        "RSA-2048: handshake",
        0.6,
    ),
];

fn each(spent: Duration) -> f64 {
    spent.as_nanos() as f64 / f64::from(REPEATS)
}

/// A server and a client with keys of one kind.
struct Side {
    name: &'static str,
    authority: Authority,
    server: Issued,
    client: Issued,
    scheme: SignatureScheme,
    /// For IKE, and for IKE with marker.
    sockets: [UdpSocket; 2],
}

impl Side {
    fn new(name: &'static str, key_pem: Option<&str>) -> io::Result<Self> {
        let authority = Authority::new("bench authority", tls::wall(), 1).map_err(io::Error::other)?;
        let issue = |role, name: &str| {
            let valid = Validity::days(tls::wall(), 1);
            match key_pem {
                Some(pem) => authority.issue_with_key(role, &[name], valid, pem),
                None => authority.issue(role, &[name], valid, KeyKind::P256),
            }
        };
        let server = issue(Role::Server, NAME).map_err(io::Error::other)?;
        let client = issue(Role::Client, CLIENT).map_err(io::Error::other)?;
        let scheme = match key_pem {
            Some(_) => SignatureScheme::RsaPkcs1Sha256,
            None => SignatureScheme::EcdsaP256Sha256,
        };
        let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        }
        Ok(Self { name, authority, server, client, scheme, sockets })
    }

    fn anchors(&self) -> io::Result<TrustAnchors> {
        let ca = Certificate::parse(self.authority.cert_der()).map_err(io::Error::other)?;
        TrustAnchors::new(&[ca]).map_err(io::Error::other)
    }

    fn responder(&self) -> io::Result<Responder> {
        let chain = vec![Certificate::parse(&self.server.cert_der).map_err(io::Error::other)?];
        let key = PrivateKey::from_pem(self.server.key_pem.as_bytes()).map_err(io::Error::other)?;
        let config = Config {
            identity: Identity::new(NAME, chain, key, self.anchors()?),
            pool: Ipv4Addr::new(198, 19, 255, 0),
            pool_prefix_len: 24,
            policy: Policy::default(),
        };
        Ok(Responder::new(config, Box::new(SystemRandom::new()), now()))
    }

    /// The CPU time that the responder takes for one client.
    fn handshake(&self) -> io::Result<Duration> {
        let addresses = [self.sockets[0].local_addr()?, self.sockets[1].local_addr()?];
        let mut config = ClientConfig::new(addresses[0], addresses[1].port(), NAME);
        config.ca_pem = self.authority.cert_pem().to_owned();
        config.cert_pem.clone_from(&self.client.cert_pem);
        config.key_pem.clone_from(&self.client.key_pem);
        let mut responder = self.responder()?;
        thread::scope(|scope| {
            let client = scope.spawn(|| RawTunnel::connect(&config).map(drop).map_err(io::Error::other));
            let spent = self.respond(&mut responder)?;
            client.join().expect("a client")?;
            Ok(spent)
        })
    }

    fn respond(&self, responder: &mut Responder) -> io::Result<Duration> {
        let (mut gate, now) = (responder.gate(), now());
        let (mut spent, mut buffer) = (Duration::ZERO, [0; 4096]);
        // IKE_SA_INIT comes to the first socket, the rest to the other one.
        let mut at = 0;
        loop {
            let (len, remote) = self.sockets[at].recv_from(&mut buffer)?;
            let path = path(at, remote);
            let bytes = &buffer[if path.marker { MARKER.len() } else { 0 }..len];
            let (mut sends, mut connected) = (Vec::new(), false);
            let start = thread_cpu();
            if !matches!(gate.judge(now, remote.ip(), bytes), Passage::Client | Passage::Stranger) {
                return Err(io::Error::other("the gate does not let it pass"));
            }
            responder.handle(now, Input::Datagram { path, bytes });
            while let Some(output) = responder.poll_output() {
                match output {
                    Output::Send { bytes, .. } => sends.push(bytes),
                    Output::Install(child) => {
                        responder.handle(now, Input::Installed { spi_in: child.spi_in });
                    }
                    Output::Connected { .. } => connected = true,
                    _ => {}
                }
            }
            spent += thread_cpu() - start;
            for bytes in &sends {
                let datagram = if path.marker { [&MARKER[..], bytes].concat() } else { bytes.clone() };
                self.sockets[at].send_to(&datagram, remote)?;
            }
            if connected {
                return Ok(spent);
            }
            if !sends.is_empty() {
                at = 1;
            }
        }
    }

    /// The CPU time of the responder's public-key operations alone.
    fn operations(&self) -> io::Result<[(&'static str, Duration); 5]> {
        let fail = |why: &dyn std::fmt::Debug| io::Error::other(format!("{why:?}"));
        let key = |issued: &Issued| PrivateKey::from_pem(issued.key_pem.as_bytes());
        let (own, theirs) =
            (key(&self.server).map_err(io::Error::other)?, key(&self.client).map_err(io::Error::other)?);
        let certificate = Certificate::parse(&self.client.cert_der).map_err(io::Error::other)?;
        let (anchors, wall) = (self.anchors()?, tls::wall());
        // About as long as what is signed.
        let octets = [0x5a; 700];
        let signature = theirs.sign(self.scheme, &octets).map_err(io::Error::other)?;
        let peer = KeyPair::generate(Group::X25519).map_err(io::Error::other)?.public().to_vec();
        let mut pairs = Vec::new();
        let generate = timed(|| {
            pairs.push(KeyPair::generate(Group::X25519));
            true
        });
        let mut pairs = pairs.into_iter().flatten();
        let agree = timed(|| pairs.next().is_some_and(|pair| pair.agree(&peer).is_ok()));
        let chain = timed(|| anchors.verify_client(&certificate, &[], wall).is_ok());
        let verify = timed(|| certificate.verify(self.scheme, EcdsaForm::Der, &octets, &signature).is_ok());
        let sign = timed(|| own.sign(self.scheme, &octets).is_ok());
        let all = [
            ("X25519, key pair", generate),
            ("X25519, agreement", agree),
            ("chain, verified", chain),
            ("AUTH, verified", verify),
            ("AUTH, signed", sign),
        ];
        let mut named = [("", Duration::ZERO); 5];
        for (place, (what, spent)) in named.iter_mut().zip(all) {
            *place = (what, spent.ok_or_else(|| fail(&what))?);
        }
        Ok(named)
    }
}

/// The CPU time of some goes; `None` where one fails.
fn timed(mut go: impl FnMut() -> bool) -> Option<Duration> {
    let start = thread_cpu();
    let all = (0..REPEATS).all(|_| go());
    all.then(|| thread_cpu() - start)
}

fn path(socket: usize, remote: SocketAddr) -> Path {
    Path { socket: socket as u8, local: None, local_port: 4500, remote, marker: socket == 1 }
}

fn now() -> Now {
    Now { mono: Duration::from_secs(1000), boot: Duration::from_secs(1000), wall: tls::wall() }
}
