//! The responder with a clock, all that came out of it, and what must hold after each step.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

use pterodapter::base::{DeviceId, Path};
use pterodapter::crypto::mschapv2::nt_hash;
use pterodapter::crypto::{Certificate, PrivateKey, Secret, TrustAnchors};
use pterodapter::ike::{Config, Gate, Identity, Input, Output, Passage, Policy, Responder};
use pterodapter::provision::{Authority, Issued};
use pterodapter::wire::ike::{Exchange, Header};

use crate::{Counter, WALL, now};

pub const SERVER_NAME: &str = "gw.example";
pub const CLIENT_NAME: &str = "device.example";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse";
pub const PSK_NAME: &str = "phone@example.org";
pub const PSK: &[u8] = b"a pre-shared key";

pub struct Identities {
    pub ca: Vec<u8>,
    pub server: Issued,
    pub client: Issued,
    other_ca: Vec<u8>,
}

pub static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| {
    let ca = Authority::new("fuzz", WALL, 365).expect("authority");
    Identities {
        ca: ca.cert_der().to_vec(),
        server: ca.issue_server(&[SERVER_NAME], WALL, 365).expect("server"),
        client: ca.issue_client(CLIENT_NAME, WALL, 365).expect("client"),
        other_ca: Authority::new("other", WALL, 365).expect("authority").cert_der().to_vec(),
    }
});

/// Who we are; with `others` the clients of another authority are let in instead, and no user or pre-shared key.
pub fn identity(others: bool) -> Identity {
    let identities = &*IDENTITIES;
    let certificate = |der: &[u8]| Certificate::parse(der).expect("certificate");
    let ca = if others { &identities.other_ca } else { &identities.ca };
    let mut identity = Identity::new(
        SERVER_NAME,
        vec![certificate(&identities.server.cert_der)],
        PrivateKey::from_pem(identities.server.key_pem.as_bytes()).expect("key"),
        TrustAnchors::new(&[certificate(ca)]).expect("anchors"),
    );
    if !others {
        identity.access.eap_tls = true;
        identity.access.users.add(USER, nt_hash(PASSWORD));
        identity.access.psks.add(PSK_NAME, Secret::from(PSK));
    }
    identity
}

pub fn path(n: u8) -> Path {
    let remote = ([192, 0, 2, n % 4], 4500 + u16::from(n % 2)).into();
    Path { socket: 0, local: None, local_port: 4500, remote, marker: n % 3 != 0 }
}

/// Whether a datagram is what somebody without keys could send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Stranger,
    /// It may also be what a peer with keys has sent before.
    Anyone,
}

pub struct World {
    pub responder: Responder,
    gate: Gate,
    policy: Policy,
    millis: u64,
    /// Whether the data path acknowledges at once, and what it has not yet acknowledged.
    pub prompt: bool,
    pub waiting: Vec<u32>,
    pub installed: BTreeSet<u32>,
    pub connected: BTreeSet<DeviceId>,
    /// How many authentications were right, and how many clients were let in.
    pub proofs: usize,
    admitted: usize,
    /// How many IKE SAs the answers can have made.
    made: usize,
    /// How often time was up.
    timeouts: usize,
}

impl Default for World {
    fn default() -> Self {
        let policy = Policy {
            cookie_threshold: 8,
            half_open_limit: 12,
            half_open_limit_per_source: 6,
            // Our own rekeys come within minutes: of the IKE SA after 400 s.
            child_lifetime: Duration::from_secs(900),
            ike_lifetime: Duration::from_secs(1000),
            ..Policy::default()
        };
        let config = Config {
            identity: identity(false),
            pool: Ipv4Addr::new(198, 19, 255, 0),
            // Few addresses, so that they run out.
            pool_prefix_len: 29,
            policy: policy.clone(),
        };
        let responder = Responder::new(config, Box::new(Counter::default()), now(0));
        Self {
            gate: responder.gate(),
            responder,
            policy,
            millis: 0,
            prompt: true,
            waiting: Vec::new(),
            installed: BTreeSet::new(),
            connected: BTreeSet::new(),
            proofs: 0,
            admitted: 0,
            made: 0,
            timeouts: 0,
        }
    }
}

impl World {
    /// Takes an event; what is sent because of it.
    pub fn handle(&mut self, input: Input<'_>) -> Vec<Vec<u8>> {
        self.responder.handle(now(self.millis), input);
        self.drain()
    }

    /// Takes a datagram; what is sent because of it. A stranger gets one short answer and has no other effect.
    pub fn datagram(&mut self, bytes: &[u8], from: u8, sender: Sender) -> Vec<Vec<u8>> {
        let before = (self.installed.clone(), self.connected.clone());
        let path = path(from);
        // Some go past the gate: the responder can stand alone.
        let passage = self.gate.judge(now(self.millis), path.remote.ip(), bytes);
        let sent = match passage {
            Passage::Answer(answer) => vec![answer],
            Passage::Stop if from % 2 == 0 => Vec::new(),
            _ => self.handle(Input::Datagram { path, bytes }),
        };
        if sender == Sender::Stranger {
            assert_eq!(before, (self.installed.clone(), self.connected.clone()));
            assert!(sent.len() <= 1, "{} answers to a stranger", sent.len());
            let len: usize = sent.iter().map(Vec::len).sum();
            assert!(len <= 3 * bytes.len(), "{len} octets to a stranger for {}", bytes.len());
        }
        sent
    }

    /// The data path acknowledges one that it owes.
    pub fn acknowledge(&mut self, which: usize) -> Vec<Vec<u8>> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let spi_in = self.waiting.swap_remove(which % self.waiting.len());
        self.handle(Input::Installed { spi_in })
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&mut self, millis: u64) -> Vec<Vec<u8>> {
        let end = self.millis + millis;
        let mut sent = Vec::new();
        for _ in 0..100_000 {
            let due = self.responder.poll_timeout().filter(|due| *due <= Duration::from_millis(end));
            let Some(due) = due else {
                self.millis = end;
                return sent;
            };
            // The clock has milliseconds, timers may fall between.
            let millis = u64::try_from(due.as_micros().div_ceil(1000)).expect("a time of ours");
            self.millis = self.millis.max(millis.min(end.max(self.millis)));
            let now = now(self.millis);
            if due > now.mono {
                self.millis = end;
                return sent;
            }
            self.responder.handle_timeout(now);
            self.timeouts += 1;
            assert!(
                self.responder.poll_timeout().is_none_or(|next| next > now.mono),
                "a timer that stays due"
            );
            sent.extend(self.drain());
        }
        panic!("the timers do not end");
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for _ in 0..1000 {
            let Some(output) = self.responder.poll_output() else {
                self.check();
                return sent;
            };
            match output {
                Output::Send { bytes, .. } => {
                    let header = Header::parse(&bytes).expect("we send IKE");
                    assert!(header.covers(&bytes));
                    let makes = matches!(header.exchange, Exchange::IkeSaInit | Exchange::CreateChildSa);
                    self.made += usize::from(makes && header.spi_r != 0);
                    sent.push(bytes);
                }
                Output::Install(child) => {
                    assert!(self.proofs > 0, "a Child SA for nobody");
                    assert!(self.installed.insert(child.spi_in), "installed twice");
                    if self.prompt {
                        self.responder.handle(now(self.millis), Input::Installed { spi_in: child.spi_in });
                    } else {
                        self.waiting.push(child.spi_in);
                    }
                }
                Output::Remove { spi_in } => {
                    assert!(self.installed.remove(&spi_in), "removed what was not installed");
                    self.waiting.retain(|waiting| *waiting != spi_in);
                }
                Output::UseOutbound { spi_in } => assert!(self.installed.contains(&spi_in)),
                Output::Connected { device, .. } => {
                    self.admitted += 1;
                    assert!(self.admitted <= self.proofs, "more clients than right authentications");
                    assert!(self.connected.insert(device), "connected twice");
                }
                Output::Gone { device, .. } => {
                    assert!(self.connected.remove(&device), "gone, never connected")
                }
                Output::Heard { device } | Output::IkeRekeyed { device } | Output::Moved { device, .. } => {
                    assert!(self.connected.contains(&device));
                }
                Output::Note(event) => assert!(!event.to_string().is_empty()),
            }
        }
        panic!("the outputs do not end");
    }

    /// What always holds.
    fn check(&self) {
        let stats = self.responder.stats();
        assert!(stats.half_open <= self.policy.half_open_limit);
        assert!(stats.ike_sas <= self.made, "{} IKE SAs of {}", stats.ike_sas, self.made);
        assert!(stats.half_open <= stats.ike_sas);
        // The limit is for what clients begin; our own rekeys come on top, one successor each at most.
        let most = 2 * self.policy.children_per_ike_sa * stats.ike_sas;
        assert!(stats.child_sas <= most, "{} Child SAs in {} IKE SAs", stats.child_sas, stats.ike_sas);
        assert_eq!(self.installed.len(), stats.child_sas);
        assert!(self.connected.len() <= stats.devices);
        if self.waiting.is_empty() {
            assert_eq!(self.connected.len(), stats.devices);
        }
    }

    /// Whatever happened, it ends: nothing is left some time after a shutdown, and no timer but that of the cookies, which
    /// comes each 100 s.
    pub fn finish(mut self) {
        self.handle(Input::Shutdown);
        self.advance(1_000_000);
        assert!(self.responder.is_idle(), "still busy long after the shutdown");
        assert!(self.connected.is_empty() && self.installed.is_empty(), "something is left");
        let before = self.timeouts;
        self.advance(1_000_000);
        assert!(self.timeouts <= before + 11, "a timer runs for ever");
    }
}
