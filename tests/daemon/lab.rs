//! A gateway double, the daemon and certificates, all in this process and on loopback.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crossbeam_channel::Receiver;
use pterodapter::crypto::{Certificate, PrivateKey, Secret, TrustAnchors};
use pterodapter::demo::gateway::{Event, FarSide, Gateway, GatewayConfig, Scenario, User};
use pterodapter::demo::probe::{Client, ClientConfig, ProbeError};
use pterodapter::engine::{
    self, Config, Handle, Identity, Pool, Request, SignIn, Split, State, Submission, Transport, Uplink,
};
use pterodapter::fortivpn::{self, Answer, Credentials, Question};
use pterodapter::provision::{Authority, Issued};

use crate::common::{happens, wall};

/// The name that clients ask for.
pub const SERVER_ID: &str = "vpn.example";
/// The account that the gateway knows.
pub const PASSWORD: &str = "correct horse";

/// Everything that one test needs; stops when dropped.
pub struct Lab {
    /// The gateway double.
    pub gateway: Gateway,
    /// Issues client certificates that the daemon trusts.
    pub authority: Authority,
    daemon: Option<Handle>,
    requests: Receiver<Option<Request>>,
}

/// What a test may choose.
pub struct Setup {
    /// Where the daemon listens.
    pub listen: IpAddr,
    /// How the gateway behaves.
    pub scenario: Scenario,
    /// Worker threads.
    pub workers: usize,
    /// How the daemon signs in.
    pub credentials: Credentials,
    /// What takes the tunnel.
    pub split: Split,
    /// The accounts of the gateway.
    pub users: Vec<User>,
    /// The last word on the daemon's configuration.
    pub configure: Box<dyn FnOnce(&mut Config) + Send>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            scenario: Scenario::default(),
            workers: 0,
            credentials: password(PASSWORD),
            split: Split::default(),
            users: vec![User::new("alice", PASSWORD)],
            configure: Box::new(|_| {}),
        }
    }
}

impl Setup {
    /// With this behaviour of the gateway.
    pub fn of(scenario: Scenario) -> Self {
        Self { scenario, ..Self::default() }
    }
}

impl Lab {
    /// Starts the gateway double and the daemon.
    pub fn start(setup: Setup) -> Self {
        let Setup { listen, mut scenario, workers, credentials, split, users, configure } = setup;
        if std::env::var_os("TEST_LOG").is_some() {
            // Already set by an earlier lab of this process.
            let _ = simplelog::SimpleLogger::init(log::LevelFilter::Debug, simplelog::Config::default());
        }
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let web = Authority::new("Gateway test authority", wall(), 2).unwrap();
        let certificate = web.issue_server(&["127.0.0.1"], wall(), 2).unwrap();
        // The gateway must know the port of the page before the daemon has it.
        let reserved = TcpListener::bind((loopback, 0)).unwrap();
        scenario.saml_port = reserved.local_addr().unwrap().port();
        let gateway = Gateway::start(GatewayConfig {
            listen: SocketAddr::new(loopback, 0),
            chain_pem: certificate.cert_pem,
            key_pem: certificate.key_pem,
            users,
            scenario,
            far_side: FarSide::Builtin,
        })
        .unwrap();

        let authority = Authority::new("Device test authority", wall(), 2).unwrap();
        let identity = authority.issue_server(&[SERVER_ID], wall(), 2).unwrap();
        let (console, requests) = crossbeam_channel::bounded(64);
        let page = reserved.local_addr().unwrap();
        drop(reserved);
        let mut config = Config {
            listen: vec![listen],
            ike_port: 0,
            nat_port: 0,
            identity: Identity::new(
                SERVER_ID,
                vec![Certificate::parse(&identity.cert_der).unwrap()],
                PrivateKey::from_pem(identity.key_pem.as_bytes()).unwrap(),
                TrustAnchors::new(&[Certificate::parse(authority.cert_der()).unwrap()]).unwrap(),
            ),
            pool: Pool::DEFAULT,
            workers,
            uplink: fortivpn::Config::new("127.0.0.1", gateway.addr().port(), credentials),
            transport: Transport { roots: vec![web.cert_der().to_vec().into()], ..Transport::default() },
            page: vec![page],
            metrics: false,
            sign_in: SignIn { console: Some(console), ..SignIn::default() },
            split,
            pcap: None,
            reload: None,
            unique: false,
            weak_groups: false,
        };
        configure(&mut config);
        let daemon = engine::start(config).unwrap();
        Self { gateway, authority, daemon: Some(daemon), requests }
    }

    /// The running daemon.
    pub fn daemon(&self) -> &Handle {
        self.daemon.as_ref().unwrap()
    }

    /// Settings of a client with a certificate for `name`.
    pub fn client_config(&self, name: &str) -> ClientConfig {
        let Issued { cert_pem, key_pem, .. } = self.authority.issue_client(name, wall(), 2).unwrap();
        let (ike, nat) = (self.daemon().ike_addresses()[0], self.daemon().nat_addresses()[0]);
        let mut config = ClientConfig::new(ike, nat.port(), SERVER_ID);
        config.ca_pem = self.authority.cert_pem().to_owned();
        config.cert_pem = cert_pem;
        config.key_pem = key_pem;
        config
    }

    /// Waits until the tunnel to the gateway came up for the `count`th time.
    pub fn wait_for_tunnel(&self, count: usize) {
        if !happens(Duration::from_secs(40), || self.tunnels() >= count) {
            panic!("tunnel {count} does not come up: {:?}", self.state());
        }
    }

    /// How the daemon says that things are.
    pub fn state(&self) -> State {
        self.daemon().state()
    }

    /// The daemon's last errors, newest first.
    pub fn errors(&self) -> Vec<String> {
        self.state().errors.into_iter().map(|(_, error)| error).collect()
    }

    /// Waits until one of the daemon's last errors has `words` in it.
    pub fn wait_for_error(&self, words: &str) {
        let found = || self.errors().iter().any(|error| error.contains(words));
        if !happens(Duration::from_secs(20), found) {
            panic!("no error says {words:?}: {:?}", self.errors());
        }
    }

    /// Waits until the daemon has given up with an error that has `words` in it.
    pub fn wait_for_failure(&self, words: &str) {
        if !happens(Duration::from_secs(30), || self.state().uplink == Uplink::Failed) {
            panic!("did not fail: {:?}", self.state());
        }
        let error = self.errors().into_iter().next().unwrap_or_default();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }

    /// Waits until the daemon asks a person something, and gives that.
    pub fn question(&self) -> Question {
        loop {
            let request = self.requests.recv_timeout(Duration::from_secs(20));
            match request.unwrap_or_else(|_| panic!("no question: {:?}", self.state())) {
                Some(Request::Question(question)) => return question,
                _ => continue,
            }
        }
    }

    /// Waits until the daemon shows a link to sign in with.
    pub fn link(&self) -> String {
        loop {
            let request = self.requests.recv_timeout(Duration::from_secs(20));
            match request.unwrap_or_else(|_| panic!("no link: {:?}", self.state())) {
                Some(Request::Link { url, .. }) => return url,
                _ => continue,
            }
        }
    }

    /// Answers a question.
    pub fn answer(&self, question: &Question, answer: Answer) {
        self.submit(Submission::Answer { question: question.id, answer });
    }

    /// A person brings something.
    pub fn submit(&self, submission: Submission) {
        self.daemon().submitter().submit(submission);
    }

    /// How many events of the gateway are `wanted`.
    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.gateway.journal().iter().filter(|entry| wanted(&entry.event)).count()
    }

    /// How many requests for `path` the gateway has seen.
    pub fn requests(&self, path: &str) -> usize {
        self.count(|event| matches!(event, Event::Request(head) if head.path == path))
    }

    /// How often credentials or answers to questions were sent.
    pub fn posts(&self) -> usize {
        self.count(|event| matches!(event, Event::Request(head) if head.method == "POST"))
    }

    /// How many tunnels came up.
    pub fn tunnels(&self) -> usize {
        self.count(|event| matches!(event, Event::TunnelUp(_)))
    }

    /// Connects a client with a certificate for `name`.
    pub fn connect(&self, name: &str) -> Result<Client, ProbeError> {
        Client::connect(self.client_config(name))
    }

    /// Stops the daemon in order; true if its threads ended well.
    pub fn stop(&mut self) -> bool {
        let daemon = self.daemon.take().unwrap();
        daemon.stopper().stop();
        daemon.wait()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Devices that a test has left without a word make the end take its full time: nobody waits for it.
        if let Some(daemon) = self.daemon.take() {
            daemon.stopper().stop();
        }
    }
}

/// Signs in as alice with `password`.
pub fn password(password: &str) -> Credentials {
    Credentials::Password { username: "alice".into(), password: Some(Secret::from(password.as_bytes())) }
}

/// Waits until `condition` holds, at most `limit`.
pub fn eventually(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(happens(limit, condition), "did not happen within {limit:?}: {what}");
}
