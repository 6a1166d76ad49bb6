//! Debian's strongSwan: charon with ESP in user space, driven by swanctl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Done, Lab, Process, must, wait_for};
use crate::pki::{Identity, copy_into};

const CHARON: &str = "/usr/sbin/charon-systemd";
/// Only what is needed; libipsec before netlink, or the kernel's ESP would be tried.
const PLUGINS: &str = "random nonce openssl aes sha1 sha2 hmac kdf gcm chapoly curve25519 x509 constraints \
    pubkey pem pkcs1 pkcs8 eap-identity eap-mschapv2 eap-tls kernel-libipsec kernel-netlink socket-default resolve vici";

/// One charon in a namespace of the lab.
pub struct Strongswan<'a> {
    lab: &'a Lab,
    role: &'static str,
    dir: PathBuf,
    process: Process,
}

/// How a client authenticates and what it asks for.
pub struct ClientConfig<'a> {
    /// Address of the responder.
    pub server: &'a str,
    /// IDr asked for, which the server's certificate must contain.
    pub server_id: &'a str,
    /// Trusted certificate authority.
    pub trust: PathBuf,
    /// Certificate and key of the client.
    pub identity: &'a Identity,
    /// IDi.
    pub id: &'a str,
    /// Addresses to ask for: `0.0.0.0`, `::` or both with a comma between; proposed is all of those families.
    pub vips: &'a str,
    /// Sections behind the connections, e.g. `secrets { ... }`.
    pub sections: &'a str,
    /// The root of the system with charon, if it is another than ours.
    pub root: Option<&'a Path>,
    /// Further lines of strongswan.conf, e.g. `rsa_pss = yes`.
    pub charon: &'a str,
    /// Further lines of the connection, e.g. `proposals`.
    pub connection: &'a str,
    /// Further lines of the child, e.g. `esp_proposals`.
    pub child: &'a str,
}

impl<'a> Strongswan<'a> {
    /// Starts a client with one connection, `vpn`, and its child, `net`. It does not connect.
    pub fn client(lab: &'a Lab, role: &'static str, config: &ClientConfig) -> Self {
        let ClientConfig { server, server_id, trust, identity, id, vips, connection, child, .. } = config;
        let cert = identity.cert.display();
        let remote_ts = vips.split(',').map(|any| format!("{any}/0")).collect::<Vec<_>>().join(",");
        let text = format!(
            "connections {{\n vpn {{\n  version = 2\n  remote_addrs = {server}\n  vips = {vips}\n  {connection}\n\
             \x20 local {{\n   auth = pubkey\n   certs = {cert}\n   id = {id}\n  }}\n\
             \x20 remote {{\n   auth = pubkey\n   id = {server_id}\n  }}\n\
             \x20 children {{\n   net {{\n    remote_ts = {remote_ts}\n    {child}\n   }}\n  }}\n }}\n}}\n{}\n",
            config.sections
        );
        let dir = Self::prepare(lab, role, &text, trust, &[identity]);
        Self::launch(lab, role, dir, config.charon, config.root)
    }

    /// Starts charon with this swanctl.conf and further lines of strongswan.conf.
    pub fn start(
        lab: &'a Lab,
        role: &'static str,
        swanctl: &str,
        trust: &Path,
        identity: &Identity,
        charon: &str,
    ) -> Self {
        Self::start_many(lab, role, swanctl, trust, &[identity], charon)
    }

    /// The same with the keys of several people.
    pub fn start_many(
        lab: &'a Lab,
        role: &'static str,
        swanctl: &str,
        trust: &Path,
        identities: &[&Identity],
        charon: &str,
    ) -> Self {
        let dir = Self::prepare(lab, role, swanctl, trust, identities);
        Self::launch(lab, role, dir, charon, None)
    }

    fn prepare(lab: &Lab, role: &str, swanctl: &str, trust: &Path, identities: &[&Identity]) -> PathBuf {
        let dir = Self::directory(lab, role);
        copy_into(trust, &dir.join("x509ca"));
        identities.iter().for_each(|identity| copy_into(&identity.key, &dir.join("private")));
        fs::write(dir.join("swanctl.conf"), swanctl).expect("file");
        dir
    }

    /// Starts charon with the files of `from`, laid out as in Debian's /etc/swanctl.
    pub fn with_files(lab: &'a Lab, role: &'static str, from: &Path) -> Self {
        let dir = Self::directory(lab, role);
        must(Command::new("cp").arg("-r").arg(from).arg(&dir));
        fs::write(dir.join("swanctl.conf"), "include conf.d/*.conf\n").expect("file");
        Self::launch(lab, role, dir, "", None)
    }

    /// Where the files of this charon go; nothing is there yet.
    fn directory(lab: &Lab, role: &str) -> PathBuf {
        let dir = lab.path(&format!("swan-{role}"));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn launch(lab: &'a Lab, role: &'static str, dir: PathBuf, charon: &str, root: Option<&Path>) -> Self {
        let (vici, resolv_conf) = (dir.join("vici"), lab.resolv_conf(role));
        let daemon = format!(
            "charon-systemd {{\n load = {PLUGINS}\n install_virtual_ip = yes\n install_routes = yes\n \
             retransmit_tries = 3\n retransmit_timeout = 1.0\n {charon}\n \
             plugins {{\n  vici {{\n   socket = unix://{}\n  }}\n  kernel-libipsec {{\n   allow_peer_ts = yes\n  }}\n\
             \x20 socket-default {{\n   fwmark = 0x42\n  }}\n  kernel-netlink {{\n   fwmark = !0x42\n  }}\n\
             \x20 resolve {{\n   file = {}\n   resolvconf {{\n    path = /none\n   }}\n  }}\n }}\n \
             filelog {{\n  stderr {{\n   default = 1\n   ike = 2\n   cfg = 1\n   time_format = %T\n   flush_line = yes\n  }}\n }}\n}}\n",
            vici.display(),
            resolv_conf.display()
        );
        let conf = dir.join("strongswan.conf");
        fs::write(&conf, daemon).expect("file");
        let command = match root {
            None => vec![CHARON.to_owned()],
            Some(root) => inside(root, &dir),
        };
        let process = lab.start(role, &format!("charon-{role}"), &[("STRONGSWAN_CONF", &conf)], &command);
        let swan = Self { lab, role, dir, process };
        wait_for("charon's control socket", Duration::from_secs(10), || {
            vici.exists().then_some(()).filter(|()| swan.swanctl(5, "--stats").ok)
        });
        let loaded = swan.swanctl(10, "--load-all");
        assert!(loaded.ok, "swanctl --load-all:\n{}\n{}", loaded.text, swan.log());
        swan
    }

    /// Runs swanctl against this charon.
    pub fn swanctl(&self, seconds: u32, args: &str) -> Done {
        let dir = self.dir.display();
        let conf = self.dir.join("strongswan.conf");
        let uri = format!("unix://{dir}/vici");
        let line =
            format!("env SWANCTL_DIR={dir} STRONGSWAN_CONF={} swanctl {args} --uri {uri}", conf.display());
        self.lab.run(self.role, seconds, &line)
    }

    /// Connects; charon's account of it where that failed.
    pub fn connect(&self) -> Result<(), String> {
        let done = self.swanctl(25, "--initiate --child net --timeout 20");
        if done.ok { Ok(()) } else { Err(done.text) }
    }

    /// A swanctl command that must succeed.
    pub fn must(&self, args: &str) -> String {
        let done = self.swanctl(25, args);
        assert!(done.ok, "swanctl {args}:\n{}", done.text);
        done.text
    }

    /// The present state as `swanctl --list-sas` tells it.
    pub fn sas(&self) -> String {
        self.must("--list-sas")
    }

    /// The inner address the responder gave.
    pub fn inner_address(&self) -> String {
        let sas = self.sas();
        let local = sas.lines().find(|l| l.trim_start().starts_with("local ")).unwrap_or_default();
        let address = local.rsplit_once('[').map(|(_, a)| a.trim_end_matches(']').to_owned());
        address.filter(|a| a.parse::<std::net::Ipv4Addr>().is_ok()).unwrap_or_else(|| panic!("none in {sas}"))
    }

    /// SPIs of the inbound halves of all installed Child SAs.
    pub fn child_spis(&self) -> Vec<String> {
        let mut installed = false;
        let mut spis = Vec::new();
        for line in self.sas().lines() {
            let line = line.trim();
            if line.contains(", reqid ") {
                installed = line.contains(", INSTALLED,");
            } else if let Some(rest) = line.strip_prefix("in ").filter(|_| installed) {
                spis.push(rest.split([' ', ',']).find(|w| !w.is_empty()).unwrap_or_default().to_owned());
            }
        }
        spis
    }

    /// The SPI pairs of all established IKE SAs.
    pub fn ike_spis(&self) -> Vec<String> {
        let sas = self.sas();
        let lines = sas.lines().filter(|l| l.contains(", ESTABLISHED, IKEv2, "));
        lines.filter_map(|l| l.split("IKEv2, ").nth(1)).map(str::to_owned).collect()
    }

    /// charon's log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends charon.
    pub fn stop(&mut self) -> bool {
        self.process.stop(Duration::from_secs(8))
    }

    /// Waits until no IKE SA is left.
    pub fn wait_gone(&self, limit: Duration) {
        wait_for("charon to have no SA", limit, || self.sas().trim().is_empty().then_some(()));
    }
}

/// charon of another system, whose root sees our devices and this directory.
fn inside(root: &Path, dir: &Path) -> Vec<String> {
    let (root, dir) = (root.display(), dir.display());
    let script = format!(
        "mount --bind /dev {root}/dev && mount -t proc proc {root}/proc && mkdir -p {root}{dir} && \
         mount --bind {dir} {root}{dir} && exec chroot {root} {CHARON}"
    );
    ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned).to_vec()
}
