//! libreswan as the client: it shares neither code nor authors with strongSwan, and none with us. Its ESP is the
//! kernel's: where that has none, what is shown ends with IKE_AUTH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::traffic;

/// Where `tests/setup` unpacks it: its package and strongSwan's exclude each other.
const UNPACKED: &str = "/usr/local/lib/libreswan/usr/libexec";
const LIMIT: Duration = Duration::from_secs(10);

/// One way to connect: lines of the connection, and what is to come of them.
struct Row {
    lines: &'static str,
    /// With what the server signs, as libreswan says it.
    server: &'static str,
    /// Suites, as the daemon says them.
    suites: &'static str,
}

const ECDSA: [Row; 4] = [
    // Its default algorithms; it guesses MODP-2048. (Not told so, it tries to sign by RSA with every key.)
    Row {
        lines: "\tauthby=ecdsa\n",
        server: "P-256 ECDSA with SHA2_256",
        suites: "IKE AES-GCM-16-256/HMAC-SHA2-256/X25519, ESP AES-GCM-16-256",
    },
    Row {
        lines: "\tauthby=ecdsa\n\tike=aes_gcm128-sha2_256;dh19\n\tesp=aes_gcm128\n\tfragmentation=force\n",
        server: "P-256 ECDSA with SHA2_256",
        suites: "IKE AES-GCM-16-128/HMAC-SHA2-256/P-256, ESP AES-GCM-16-128",
    },
    Row {
        lines: "\tauthby=ecdsa\n\tike=aes256-sha2_512;modp4096\n\tesp=aes256-sha2_512\n",
        server: "P-256 ECDSA with SHA2_256",
        suites: "IKE AES-CBC-256/HMAC-SHA2-512-256/HMAC-SHA2-512/MODP-4096, ESP AES-CBC-256/HMAC-SHA2-512-256",
    },
    Row {
        lines: "\tauthby=ecdsa\n\tike=chacha20_poly1305-sha2_256;dh20\n\tesp=chacha20_poly1305\n",
        server: "P-256 ECDSA with SHA2_256",
        suites: "IKE ChaCha20-Poly1305/HMAC-SHA2-256/P-384, ESP ChaCha20-Poly1305",
    },
];

const RSA: [Row; 2] = [
    Row {
        lines: "",
        server: "2048-bit RSASSA-PSS with SHA2_256",
        suites: "IKE AES-GCM-16-256/HMAC-SHA2-256/X25519, ESP AES-GCM-16-256",
    },
    Row {
        lines: "\tauthby=rsa-sha2_384\n\tike=aes128-sha2_256;modp3072\n\tfragmentation=no\n",
        server: "2048-bit RSASSA-PSS with SHA2_384",
        suites: "IKE AES-CBC-128/HMAC-SHA2-256-128/HMAC-SHA2-256/MODP-3072, ESP AES-GCM-16-256",
    },
];

#[test]
fn libreswan_connects_with_ecdsa_certificates() {
    connect_in_every_way(Key::P256, &ECDSA);
}

#[test]
fn libreswan_connects_with_rsa_certificates() {
    connect_in_every_way(Key::Rsa2048, &RSA);
}

fn connect_in_every_way(key: Key, rows: &[Row]) {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, key);
    // Another person each time: one that comes again takes its connection over, and the log has no suites.
    let people: Vec<_> = (0..rows.len()).map(|index| service.person(&format!("person{index}"))).collect();
    let pluto = Libreswan::start(&lab, &service.authority, &people, rows);
    for (index, row) in rows.iter().enumerate() {
        let before = service.log().len();
        pluto.connect(index, &format!("authenticated peer '{}", row.server));
        if !service.is_reference() {
            let connected = format!("person{index} connected from 10.99.1.2:4500");
            let line = wait_for("the client in the daemon's log", LIMIT, || {
                let log = service.log();
                let mut lines = log.get(before..)?.lines();
                lines.find(|line| line.contains(&connected)).map(str::to_owned)
            });
            assert!(line.ends_with(row.suites), "not {}: {line}", row.suites);
        }
        if pluto.has_esp() {
            traffic::ping(&lab, CLI, ADDRESS, 3);
        }
        pluto.delete(index);
    }
}

#[test]
fn libreswan_of_a_stranger_is_refused() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    // The authority is of the company's name, and its certificate is, too; but for its key all is right.
    let impostor = Authority::named(&lab, "impostor", "company", Key::P256);
    let person = impostor.issue("person0", "DNS:person0", Usage::Client);
    let pluto = Libreswan::start(&lab, &service.authority, &[person], &ECDSA[..1]);
    pluto.connect(0, "rejected by peer: AUTHENTICATION_FAILED");
    assert!(!service.log().contains(" connected from "), "{}", service.log());
}

/// One pluto in a namespace of the lab, with connections `vpn0` of `person0`, `vpn1` of `person1`, ...
struct Libreswan<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    process: Process,
}

impl<'a> Libreswan<'a> {
    fn start(lab: &'a Lab, trust: &Authority, people: &[Identity], rows: &[Row]) -> Self {
        let dir = lab.path("libreswan");
        for part in ["nss", "run", "ipsec.d"] {
            fs::create_dir_all(dir.join(part)).expect("directory");
        }
        let connection = |(index, row): (usize, &Row)| {
            format!(
                "conn vpn{index}\n\tleft=10.99.1.2\n\tleftid=@person{index}\n\tleftcert=person{index}\n\tleftsubnet=0.0.0.0/0\n\
                 \tleftmodecfgclient=yes\n\tleftupdown={UNPACKED}/ipsec/_updown.xfrm\n\tright={SRV_FROM_CLI}\n\
                 \trightid=@{SERVER_ID}\n\trightca=%same\n\trightsubnet=0.0.0.0/0\n\tnarrowing=yes\n\tikev2=insist\n\
                 {}\tauto=add\n",
                row.lines
            )
        };
        let connections: String = rows.iter().enumerate().map(connection).collect();
        fs::write(dir.join("ipsec.conf"), format!("config setup\n\n{connections}")).expect("file");
        fs::write(dir.join("secrets"), "").expect("file");
        fill_database(&dir, trust, people);

        let at = |part: &str| dir.join(part).display().to_string();
        let (conf, run, nss) = (at("ipsec.conf"), at("run"), at("nss"));
        let (more, secrets) = (at("ipsec.d"), at("secrets"));
        let program = format!("{UNPACKED}/ipsec/pluto");
        // It wants its helpers where its package would have them; this process alone finds them there.
        let bind = format!("mount --bind {UNPACKED} /usr/libexec && exec \"$@\"");
        let line = ["sh", "-c", &bind, "sh", &program, "--nofork", "--stderrlog", "--config", &conf];
        let files = ["--rundir", &run, "--nssdir", &nss, "--ipsecdir", &more, "--secretsfile", &secrets];
        let process = lab.start(CLI, "pluto", &[], &[&line[..], &files].concat());
        let mut pluto = Self { lab, dir, process };
        pluto.process.wait_log("loading secrets from", LIMIT);
        pluto
    }

    fn whack(&self, args: &str) -> String {
        let run = self.dir.join("run");
        self.lab.run(CLI, 10, &format!("{UNPACKED}/ipsec/whack --rundir {} {args}", run.display())).text
    }

    /// Connects by one of its connections, until it says `result` of it.
    fn connect(&self, index: usize, result: &str) {
        self.whack(&format!("--name vpn{index} --initiate --asynchronous"));
        let name = format!("\"vpn{index}\"");
        wait_for(&format!("{result:?} of vpn{index}"), LIMIT, || {
            let log = self.process.log();
            log.lines().any(|line| line.contains(&name) && line.contains(result)).then_some(())
        });
    }

    /// Whether the kernel took the keys of the newest Child SA.
    fn has_esp(&self) -> bool {
        wait_for("the end of IKE_AUTH", LIMIT, || {
            let log = self.process.log();
            let (taken, refused) =
                (log.contains("IPsec SA established"), log.contains("response for Add SA"));
            (taken || refused).then_some(!refused)
        })
    }

    fn delete(&self, index: usize) {
        self.whack(&format!("--name vpn{index} --delete"));
    }
}

/// NSS's database of certificates and keys.
fn fill_database(dir: &Path, authority: &Authority, people: &[Identity]) {
    let database = format!("sql:{}", dir.join("nss").display());
    let bundle = dir.join("bundle.p12");
    must(Command::new("certutil").args(["-N", "-d", &database, "--empty-password"]));
    for (index, Identity { cert, key }) in people.iter().enumerate() {
        let name = format!("person{index}");
        let mut export = Command::new("openssl");
        export.args(["pkcs12", "-export", "-passout", "pass:secret", "-name", &name, "-in"]).arg(cert);
        must(export.arg("-inkey").arg(key).arg("-out").arg(&bundle));
        must(Command::new("pk12util").args(["-d", &database, "-W", "secret", "-i"]).arg(&bundle));
    }
    let add = ["-A", "-a", "-n", "company", "-t", "CT,,", "-d", &database, "-i"];
    must(Command::new("certutil").args(add).arg(authority.cert()));
}
