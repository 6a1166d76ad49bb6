//! A gateway double, the daemon and certificates, all in this process and on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pterodapter::crypto::{Certificate, PrivateKey, Secret, TrustAnchors};
use pterodapter::demo::gateway::{Event, FarSide, Gateway, GatewayConfig, Scenario, User};
use pterodapter::demo::probe::{Client, ClientConfig, ProbeError};
use pterodapter::engine::{self, Config, Handle, Identity, Pool, SignIn, Split, Transport};
use pterodapter::fortivpn::{self, Credentials};
use pterodapter::provision::{Authority, Issued};

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
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            scenario: Scenario::default(),
            workers: 0,
            credentials: password(PASSWORD),
            split: Split::default(),
        }
    }
}

impl Lab {
    /// Starts the gateway double and the daemon.
    pub fn start(setup: Setup) -> Self {
        let Setup { listen, mut scenario, workers, credentials, split } = setup;
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
            users: vec![User::new("alice", PASSWORD)],
            scenario,
            far_side: FarSide::Builtin,
        })
        .unwrap();

        let authority = Authority::new("Device test authority", wall(), 2).unwrap();
        let identity = authority.issue_server(&[SERVER_ID], wall(), 2).unwrap();
        let page = reserved.local_addr().unwrap();
        drop(reserved);
        let daemon = engine::start(Config {
            listen: vec![listen],
            ike_port: 0,
            nat_port: 0,
            identity: Identity {
                hostname: SERVER_ID.into(),
                chain: vec![Certificate::parse(&identity.cert_der).unwrap()],
                key: PrivateKey::from_pem(identity.key_pem.as_bytes()).unwrap(),
                anchors: TrustAnchors::new(&[Certificate::parse(authority.cert_der()).unwrap()]).unwrap(),
            },
            pool: Pool::DEFAULT,
            workers,
            uplink: fortivpn::Config::new("127.0.0.1", gateway.addr().port(), credentials),
            transport: Transport { roots: vec![web.cert_der().to_vec().into()], ..Transport::default() },
            page: vec![page],
            sign_in: SignIn::default(),
            split,
        })
        .unwrap();
        Self { gateway, authority, daemon: Some(daemon) }
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
        eventually(Duration::from_secs(40), "the tunnel comes up", || {
            let journal = self.gateway.journal();
            journal.iter().filter(|entry| matches!(entry.event, Event::TunnelUp(_))).count() >= count
        });
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
        if self.daemon.is_some() {
            self.stop();
        }
    }
}

/// Signs in as alice with `password`.
pub fn password(password: &str) -> Credentials {
    Credentials::Password { username: "alice".into(), password: Some(Secret::from(password.as_bytes())) }
}

/// Waits until `condition` holds, at most `limit`.
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let steps = limit.as_millis() / 20;
    for _ in 0..steps {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("did not happen within {limit:?}: {what}");
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "tests make certificates that are valid now")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
