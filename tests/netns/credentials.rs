//! An ECDSA and an RSA certificate side by side, each from an authority of its own: who gets which, and by which signature.

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::strongswan::*;
use crate::traffic;
use crate::without_certificates::{connection, make_secret};

/// What charon signs with, and what it says of our signature.
struct Case {
    /// Who connects; its certificate, and the one authority that it trusts, are of this kind.
    name: &'static str,
    key: Key,
    charon: &'static str,
    connection: &'static str,
    says: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "ecdsa",
        key: Key::P256,
        charon: "",
        connection: "",
        says: "with ECDSA_WITH_SHA256_DER successful",
    },
    Case {
        name: "ecdsa-classic",
        key: Key::P256,
        charon: "signature_authentication = no",
        connection: "",
        says: "with ECDSA-256 signature successful",
    },
    Case {
        name: "rsa-classic",
        key: Key::Rsa2048,
        charon: "signature_authentication = no",
        connection: "",
        says: "with RSA signature successful",
    },
    // Android offers no NIST curve, and signs by PKCS#1 v1.5.
    Case {
        name: "rsa-android",
        key: Key::Rsa2048,
        charon: "",
        connection: "proposals = aes256gcm16-prfsha512-modp4096-curve25519",
        says: "with RSA_EMSA_PKCS1_SHA2_256 successful",
    },
    Case {
        name: "rsa-pss",
        key: Key::Rsa2048,
        charon: "rsa_pss = yes",
        connection: "proposals = aes256gcm16-prfsha256-curve25519",
        says: "with RSA_EMSA_PSS_SHA2_256_SALT_32 successful",
    },
];

#[test]
fn rsa_and_ecdsa_side_by_side() {
    let Some(lab) = Lab::open() else { return };
    let rsa = Authority::new(&lab, "rsa", Key::Rsa2048);
    let server = rsa.issue("server", &format!("DNS:{SERVER_ID}"), Usage::Server);
    // What the service makes for itself is ECDSA.
    let [cert, key] = [&server.cert, &server.key].map(|path| path.display().to_string());
    let secrets = lab.path("secrets");
    let password = make_secret("user", "alice", &secrets);
    let users = secrets.join("eap-users").display().to_string();
    let options = ["--cert", &cert, "--key", &key, "--eap-users", &users];
    let service = Service::start_trusting(&lab, &[&rsa], &options);
    if service.is_reference() {
        return;
    }
    for Case { name, key, charon, connection, says } in CASES {
        let authority = if key == Key::P256 { &service.authority } else { &rsa };
        let identity = authority.issue(name, &format!("DNS:{name}"), Usage::Client);
        let config = ClientConfig {
            trust: authority.cert(),
            charon,
            connection,
            ..service.config(CLI, name, &identity)
        };
        let client = Strongswan::client(&lab, CLI, &config);
        client.connect().unwrap_or_else(|e| panic!("{name} cannot connect:\n{e}"));
        let says = format!("authentication of '{SERVER_ID}' {says}");
        assert!(client.log().contains(&says), "{name}: charon does not say {says:?}:\n{}", client.log());
        traffic::ping(&lab, CLI, ADDRESS, 2);
        println!("ok: {name}: {says}");
    }
    // iOS by hand, with a user name: it lists no hashes and does not sign, so RSA with SHA-1 is what it is sure to know.
    let local = "auth = eap-mschapv2\n   id = phone.example\n   eap_id = alice";
    let text = format!(
        "connections {{\n{}}}\nsecrets {{\n eap-alice {{\n  id = alice\n  secret = \"{password}\"\n }}\n}}\n",
        connection("net", local, "pubkey", "proposals = aes256-sha256-ecp256")
    );
    let charon = "signature_authentication = no";
    let client = Strongswan::start(&lab, CLI, &text, &rsa.cert(), &server, charon);
    client.connect().unwrap_or_else(|e| panic!("alice cannot connect:\n{e}"));
    let says = format!("authentication of '{SERVER_ID}' with RSA signature successful");
    assert!(client.log().contains(&says), "charon does not say {says:?}:\n{}", client.log());
    traffic::ping(&lab, CLI, ADDRESS, 2);

    let log = service.log();
    assert!(
        log.contains("our certificates (ECDSA P-256 valid until 2049-12-31, RSA valid until 2049-12-31)"),
        "{log}"
    );
}
