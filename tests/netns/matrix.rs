//! Combinations of what a client may choose: algorithms of IKE and ESP, forward secrecy, signatures, identities,
//! fragmentation and rekeys. One line of result for each.

use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::strongswan::Strongswan;
use crate::traffic;

const IKE: [&str; 12] = [
    "aes256gcm16-prfsha256-curve25519",
    "aes256-sha256-modp2048",
    "aes128gcm16-prfsha384-ecp256",
    "aes256-sha384-modp3072",
    "chacha20poly1305-prfsha512-ecp384",
    "aes256-sha512-modp4096",
    "aes128-sha256-ecp256",
    "aes128-sha1-modp2048",
    "aes256-sha1-ecp384",
    "aes128-sha512-curve25519",
    "aes256-sha256-prfsha512-modp2048",
    "aes128gcm16-prfsha256-modp2048",
];
const ESP: [&str; 12] = [
    "aes256-sha256",
    "aes256-sha1",
    "chacha20poly1305-curve25519",
    "aes128-sha1-modp2048",
    "aes128-sha256-ecp384",
    "aes256-sha384",
    "aes256gcm16",
    "aes256-sha512-modp3072",
    "aes128-sha512",
    "aes128gcm16-ecp256",
    "aes128-sha384-modp4096",
    "aes256gcm16-modp2048",
];
/// The three forms in which one certificate names its owner.
const IDENTITIES: [&str; 3] = ["alice", "alice@example.test", "CN=alice"];
const FRAGMENTATION: [&str; 3] = ["yes", "no", "force"];
const REKEYS: [&[&str]; 4] = [&["child"], &["ike"], &["ike", "child"], &["child", "ike", "child"]];

#[test]
fn every_combination_connects_with_ecdsa() {
    connect_in_every_way(
        Key::P256,
        &[(0, "signature_authentication = yes"), (5, "signature_authentication = no")],
    );
}

#[test]
fn every_combination_connects_with_rsa() {
    connect_in_every_way(
        Key::Rsa2048,
        &[(2, "rsa_pss = no"), (7, "rsa_pss = yes"), (10, "signature_authentication = no")],
    );
}

/// With each `charon` setting the lists are paired in another way, by its number.
fn connect_in_every_way(key: Key, runs: &[(usize, &str)]) {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, key);
    let alice = service.authority.issue("alice", "DNS:alice,email:alice@example.test", Usage::Client);
    let certificates = if key == Key::P256 { "ECDSA" } else { "RSA" };
    for (shift, charon) in runs {
        let rows: Vec<Row> = (0..IKE.len()).map(|index| Row::new(index, *shift)).collect();
        let connections: String = rows.iter().map(|row| row.connection(&alice)).collect();
        let text = format!("connections {{\n{connections}}}\n");
        let client = Strongswan::start(&lab, CLI, &text, &service.authority.cert(), &alice, charon);
        for row in rows {
            row.run(&lab, &client);
            println!("ok: {certificates}, {charon}, {row}");
        }
    }
}

/// One combination.
struct Row {
    index: usize,
    ike: &'static str,
    esp: &'static str,
    identity: &'static str,
    fragmentation: &'static str,
    rekeys: &'static [&'static str],
}

impl Row {
    /// `shift` pairs the lists in another way.
    fn new(index: usize, shift: usize) -> Self {
        Self {
            index,
            ike: IKE[index],
            esp: ESP[(index + shift) % ESP.len()],
            identity: IDENTITIES[(index + index / 3 + shift) % IDENTITIES.len()],
            fragmentation: FRAGMENTATION[(index + shift) % FRAGMENTATION.len()],
            rekeys: REKEYS[(index + shift) % REKEYS.len()],
        }
    }

    fn connection(&self, certificate: &Identity) -> String {
        let Self { index, ike, esp, identity, fragmentation, .. } = self;
        format!(
            " vpn{index} {{\n  version = 2\n  remote_addrs = {SRV_FROM_CLI}\n  vips = 0.0.0.0\n  proposals = {ike}\n\
             \x20 fragmentation = {fragmentation}\n\
             \x20 local {{\n   auth = pubkey\n   certs = {}\n   id = \"{identity}\"\n  }}\n\
             \x20 remote {{\n   auth = pubkey\n   id = {SERVER_ID}\n  }}\n\
             \x20 children {{\n   net{index} {{\n    remote_ts = 0.0.0.0/0\n    esp_proposals = {esp}\n   }}\n  }}\n }}\n",
            certificate.cert.display()
        )
    }

    fn run(&self, lab: &Lab, client: &Strongswan<'_>) {
        let (ike, child) = (format!("vpn{}", self.index), format!("net{}", self.index));
        let done = client.swanctl(25, &format!("--initiate --child {child} --timeout 20"));
        assert!(done.ok, "{self}: cannot connect:\n{}", done.text);
        traffic::ping(lab, CLI, ADDRESS, 2);
        for rekey in self.rekeys {
            let before = (client.child_spis(), client.ike_spis());
            let name = if *rekey == "ike" { &ike } else { &child };
            client.must(&format!("--rekey --{rekey} {name}"));
            wait_for("the rekey", Duration::from_secs(8), || {
                let (children, ikes) = (client.child_spis(), client.ike_spis());
                let has_changed = if *rekey == "ike" { ikes != before.1 } else { children != before.0 };
                (has_changed && children.len() == 1 && ikes.len() == 1).then_some(())
            });
            traffic::ping(lab, CLI, ADDRESS, 2);
        }
        client.must(&format!("--terminate --ike {ike}"));
        client.wait_gone(Duration::from_secs(3));
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ike, esp, identity, fragmentation, rekeys, .. } = self;
        let rekeys = rekeys.join(" then ");
        write!(f, "IKE {ike}, ESP {esp}, as {identity}, fragmentation {fragmentation}, rekeys {rekeys}")
    }
}
