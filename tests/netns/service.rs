//! The thing under test with all that it needs: daemon, gateway, company, certificates.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::company::{self, Company};
use crate::lab::*;
use crate::pki::*;
use crate::strongswan::*;

/// IDr that clients ask for.
pub const SERVER_ID: &str = "vpn.example.test";

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const LIMIT: Duration = Duration::from_secs(10);

/// A running responder between clients and company.
pub struct Service<'a> {
    /// The lab it runs in.
    pub lab: &'a Lab,
    /// Signs the server's and the clients' certificates.
    pub authority: Authority,
    /// The responder.
    pub responder: Responder<'a>,
    /// What stands behind the gateway.
    pub company: Company,
}

/// What answers the clients.
pub enum Responder<'a> {
    /// The daemon, signed in to the gateway double.
    Daemon { daemon: Process, gateway: Process },
    /// strongSwan, to judge the tests themselves (PTERODAPTER_NETNS_REFERENCE=1).
    Reference(Strongswan<'a>),
}

/// What may be different about daemon and gateway.
pub struct Setup<'s> {
    /// Further options of the daemon.
    pub options: &'s [&'s str],
    /// Further options of the gateway.
    pub gateway: &'s [&'s str],
    /// The gateway's address or name for the daemon.
    pub destination: &'s str,
    /// Further authorities of clients.
    pub trust: &'s [&'s Authority],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { options: &[], gateway: &[], destination: GATEWAY, trust: &[] }
    }
}

impl<'a> Service<'a> {
    /// Starts everything; the certificates have keys of this kind.
    pub fn start(lab: &'a Lab, key: Key) -> Self {
        Self::start_with(lab, key, &[])
    }

    /// The same with further options of the daemon.
    pub fn start_with(lab: &'a Lab, key: Key, options: &[&str]) -> Self {
        let mut service = Self::start_offline(lab, key, &Setup { options, ..Setup::default() });
        service.go_online();
        service
    }

    /// ECDSA certificates, clients of further authorities, and further options of the daemon.
    pub fn start_trusting(lab: &'a Lab, others: &[&Authority], options: &[&str]) -> Self {
        let setup = Setup { options, trust: others, ..Setup::default() };
        let mut service = Self::start_offline(lab, Key::P256, &setup);
        service.go_online();
        service
    }

    /// The same, but the gateway does not answer before [`Service::go_online`].
    pub fn start_offline(lab: &'a Lab, key: Key, setup: &Setup) -> Self {
        let authority = Authority::new(lab, "company", key);
        let server = authority.issue("server", &format!("DNS:{SERVER_ID},IP:{SRV_FROM_CLI}"), Usage::Server);
        let company = Company::start(lab);
        let responder = if std::env::var_os("PTERODAPTER_NETNS_REFERENCE").is_some() {
            Responder::Reference(start_reference(lab, &authority.cert(), &server))
        } else {
            let read = |authority: &Authority| fs::read_to_string(authority.cert()).expect("file");
            let all: String =
                std::iter::once(&authority).chain(setup.trust.iter().copied()).map(read).collect();
            let trust = lab.path("trust.pem");
            fs::write(&trust, all).expect("file");
            start_daemon(lab, &trust, &server, setup)
        };
        Self { lab, authority, responder, company }
    }

    /// The daemon signs in at the gateway.
    pub fn go_online(&mut self) {
        if let Responder::Daemon { daemon, gateway } = &mut self.responder {
            gateway.signal("CONT");
            daemon.wait_log("the tunnel is up", LIMIT);
        }
    }

    /// Tells the gateway to do something.
    pub fn tell_gateway(&mut self, line: &str) {
        if let Responder::Daemon { gateway, .. } = &mut self.responder {
            gateway.say(line);
        }
    }

    /// How many people have signed in at the gateway.
    pub fn sign_ins(&mut self) -> usize {
        let Responder::Daemon { gateway, .. } = &mut self.responder else { return 0 };
        let before = gateway.log().len();
        gateway.say("journal");
        let journal = wait_for("the gateway's journal", LIMIT, || {
            let log = gateway.log();
            log.ends_with(" entries\n").then(|| log.get(before..).unwrap_or_default().to_owned())
        });
        journal.matches("outcome: Granted").count()
    }

    /// How often the tunnel came up.
    pub fn times_up(&self) -> usize {
        self.log().matches("the tunnel is up").count()
    }

    /// A certificate for a person.
    pub fn person(&self, name: &str) -> Identity {
        self.authority.issue(name, &format!("DNS:{name}"), Usage::Client)
    }

    /// What the person's client is to be told, for a start.
    pub fn config<'c>(&self, role: &str, name: &'c str, identity: &'c Identity) -> ClientConfig<'c> {
        let server = if role == CLI2 { SRV_FROM_CLI2 } else { SRV_FROM_CLI };
        ClientConfig {
            server,
            server_id: SERVER_ID,
            trust: self.authority.cert(),
            identity,
            id: name,
            vips: "0.0.0.0",
            sections: "",
            root: None,
            charon: "",
            connection: "",
            child: "",
        }
    }

    /// A connected client of the person `name`, who gets a new certificate.
    pub fn connected(&self, role: &'static str, name: &str) -> Strongswan<'a> {
        let identity = self.person(name);
        let client = Strongswan::client(self.lab, role, &self.config(role, name, &identity));
        client.connect().unwrap_or_else(|e| panic!("{name} cannot connect:\n{e}"));
        client
    }

    /// Largest packet that passes through the tunnel whole.
    pub fn inner_mtu(&self) -> u32 {
        match self.responder {
            Responder::Daemon { .. } => 1354,
            Responder::Reference(_) => 1400,
        }
    }

    /// The tests themselves are on trial.
    pub fn is_reference(&self) -> bool {
        matches!(self.responder, Responder::Reference(_))
    }

    /// Ends the responder; true where it ended well.
    pub fn stop(&mut self) -> bool {
        match &mut self.responder {
            Responder::Daemon { daemon, .. } => daemon.stop(Duration::from_secs(8)),
            Responder::Reference(swan) => swan.stop(),
        }
    }

    /// Ends the daemon, which must have dropped packets for these reasons only: what it answered, and what a TCP stream
    /// sent faster than the gateway took it.
    pub fn stop_with_drops(&mut self, allowed: &[&str]) {
        assert!(self.stop(), "the responder did not end well:\n{}", self.log());
        let log = self.log();
        let summaries =
            log.lines().filter_map(|l| l.split_once("packets dropped since the last such line: "));
        for (_, drops) in summaries {
            println!("the daemon dropped {drops}");
            let reasons = drops.split(", ").map(|drop| drop.split(' ').next().unwrap_or_default());
            let other: Vec<_> = reasons.filter(|reason| !allowed.contains(reason)).collect();
            assert!(other.is_empty(), "dropped for other reasons than {allowed:?}: {drops}");
        }
    }

    /// The responder's log so far.
    pub fn log(&self) -> String {
        match &self.responder {
            Responder::Daemon { daemon, .. } => daemon.log(),
            Responder::Reference(swan) => swan.log(),
        }
    }
}

fn start_daemon<'a>(lab: &Lab, trust: &Path, server: &Identity, setup: &Setup) -> Responder<'a> {
    let (listen, gateway_ca) = (format!("{GATEWAY}:10443"), text(&lab.path("gateway.pem")));
    let gateway = [PROGRAM, "demo", "--gateway-only", "--listen", &listen, "--far-side", "tun:vpn0"];
    let account = ["--user", "alice:secret", "--ca-file", &gateway_ca];
    let mut gateway = lab.start(CORP, "gateway", &[], &[&gateway[..], &account, setup.gateway].concat());
    gateway.wait_log("ready ", LIMIT);
    // The gateway's side of PPP: what the peer cannot take in one piece is not sent in one.
    lab.ip(CORP, "link set vpn0 up mtu 1354");
    lab.ip(CORP, "route add 10.212.134.0/24 dev vpn0");

    let password = lab.path("password");
    fs::write(&password, "secret\n").expect("file");
    fs::set_permissions(&password, Permissions::from_mode(0o600)).expect("chmod");
    let (password, trust, cert, key) = (text(&password), text(trust), text(&server.cert), text(&server.key));
    let destination = format!("{}:10443", setup.destination);
    let uplink = [PROGRAM, "--destination", &destination, "--gateway-ca", &gateway_ca];
    let account = ["--username", "alice", "--password-file", &password];
    let identity = ["--id-hostname", SERVER_ID, "--cacert", &trust, "--cert", &cert, "--key", &key];
    let line = [&uplink[..], &account, &identity, setup.options, &["--log-level", "debug", "ikev2"]].concat();
    gateway.signal("STOP");
    let daemon = lab.start(SRV, "pterodapter", &[], &line);
    Responder::Daemon { daemon, gateway }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn start_reference<'a>(lab: &'a Lab, trust: &Path, server: &Identity) -> Strongswan<'a> {
    lab.ip(CORP, "route add 198.19.255.0/24 via 10.99.2.1");
    lab.ip(SRV, &format!("route add 10.77.0.0/16 via {GATEWAY}"));
    lab.must(SRV, 5, "sysctl -qw net.ipv4.ip_forward=1");
    for dev in ["cli0", "cli1"] {
        lab.ip(SRV, &format!("rule add iif {dev} prohibit"));
    }
    let text = format!(
        "connections {{\n srv {{\n  version = 2\n  encap = yes\n  pools = pool\n  unique = never\n\
         \x20 proposals = aes256gcm16-prfsha256-prfsha384-prfsha512-curve25519-ecp256-ecp384,default\n\
         \x20 local {{\n   auth = pubkey\n   id = {SERVER_ID}\n   certs = {}\n  }}\n\
         \x20 remote {{\n   auth = pubkey\n  }}\n\
         \x20 children {{\n   net {{\n    local_ts = 0.0.0.0/0\n    esp_proposals = aes256gcm16,aes256gcm16-ecp256-ecp384,chacha20poly1305-curve25519,default\n   }}\n  }}\n }}\n}}\n\
         pools {{\n pool {{\n  addrs = 198.19.255.2-198.19.255.250\n  dns = {}\n }}\n}}\n",
        server.cert.display(),
        company::ADDRESS
    );
    let swan = Strongswan::start(lab, SRV, &text, trust, server, "");
    wait_for("the reference responder", Duration::from_secs(5), || {
        swan.must("--list-conns").contains("srv:").then_some(())
    });
    swan
}
