//! strongSwan 6 with ML-KEM and with PPK: the one of Debian 14, in a root of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::strongswan::*;
use crate::{ADDRESS, rekey_child, rekey_ike, traffic};

const PPK: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// A root with a charon that has ML-KEM; `None` (after saying why) where it cannot be made.
fn root(lab: &Lab) -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/root");
    let made = run(&mut Command::new(script));
    if !made.ok {
        println!("skipped: {script} failed: {}", made.text.trim());
        assert!(env::var_os("CI").is_none_or(|v| v != "true"), "must not be skipped in CI");
        return None;
    }
    let root = lab.path("root");
    fs::create_dir(&root).expect("directory");
    let tar = concat!(env!("CARGO_MANIFEST_DIR"), "/target/netns/forky.tar");
    must(Command::new("tar").args(["--exclude=./dev/*", "-xf", tar, "-C"]).arg(&root));
    Some(root)
}

#[test]
fn strongswan_connects_and_rekeys_with_ml_kem() {
    let Some(lab) = Lab::open() else { return };
    let Some(root) = root(&lab) else { return };
    let mut service = Service::start(&lab, Key::P256);
    if service.is_reference() {
        return; // It has no ML-KEM.
    }
    let alice = service.person("alice");
    for (ike, esp, suite) in [
        ("aes256gcm16-prfsha256-x25519-ke1_mlkem768", "aes256gcm16-x25519-ke1_mlkem768", "X25519+ML-KEM-768"),
        (
            "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",
            "aes256gcm16-ecp384-ke1_mlkem1024",
            "P-384+ML-KEM-1024",
        ),
        (
            "aes128-sha256-x25519-ke1_mlkem1024-ke3_mlkem768",
            "aes128gcm16-x25519-ke1_mlkem768-ke1_none",
            "X25519+ML-KEM-1024+ML-KEM-768",
        ),
        (
            "aes256gcm16-prfsha256-x25519-ke1_mlkem512-ke1_none-ke2_mlkem768",
            "aes256gcm16",
            "X25519+ML-KEM-768",
        ),
    ] {
        let connection = format!("proposals = {ike}");
        let child = format!("esp_proposals = {esp}");
        let config = service.config(CLI, "alice", &alice);
        let config = ClientConfig { connection: &connection, child: &child, root: Some(&root), ..config };
        let client = Strongswan::client(&lab, CLI, &config);
        client.connect().unwrap_or_else(|e| panic!("{ike}: cannot connect:\n{e}\n{}", service.log()));
        assert!(client.log().contains("IKE_INTERMEDIATE"), "{ike}");
        assert!(service.log().contains(suite), "{suite}:\n{}", service.log());
        traffic::ping(&lab, CLI, ADDRESS, 5);
        for _ in 0..2 {
            rekey_child(&client);
            traffic::ping(&lab, CLI, ADDRESS, 3);
            rekey_ike(&client);
            traffic::ping(&lab, CLI, ADDRESS, 3);
        }
        assert!(client.log().contains("IKE_FOLLOWUP_KE"), "{ike}");
        client.must("--terminate --ike vpn");
    }
    assert!(service.stop(), "{}", service.log());
}

#[test]
fn strongswan_connects_with_a_ppk() {
    let Some(lab) = Lab::open() else { return };
    let Some(root) = root(&lab) else { return };
    let file = lab.path("ppk");
    fs::write(&file, format!("# for tests\ncarol@ppk.example {PPK}\n")).expect("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
    let option = format!("--ppk-file={}", file.display());
    let service = Service::start_with(&lab, Key::P256, &[&option]);
    if service.is_reference() {
        return; // It has no PPK.
    }
    let alice = service.person("alice");
    let secret =
        |id: &str, key: &str| format!("secrets {{\n ppk {{\n  secret = 0x{key}\n  id = {id}\n }}\n}}");
    let other = PPK.replace("0f", "f0");
    for (id, key, required, ike, expected) in [
        ("carol@ppk.example", PPK, "yes", "default", Ok("+PPK, ESP")),
        (
            "carol@ppk.example",
            PPK,
            "no",
            "aes256gcm16-prfsha256-x25519-ke1_mlkem768",
            Ok("X25519+ML-KEM-768+PPK, ESP"),
        ),
        ("dave@ppk.example", PPK, "no", "default", Ok("ESP")),
        ("dave@ppk.example", PPK, "yes", "default", Err("AUTHENTICATION_FAILED")),
        ("carol@ppk.example", &other, "no", "default", Err("AUTHENTICATION_FAILED")),
    ] {
        let connection = format!("proposals = {ike}\n  ppk_id = {id}\n  ppk_required = {required}");
        let sections = secret(id, key);
        let config = service.config(CLI, "alice", &alice);
        let config =
            ClientConfig { connection: &connection, sections: &sections, root: Some(&root), ..config };
        let client = Strongswan::client(&lab, CLI, &config);
        match (client.connect(), expected) {
            (Ok(()), Ok(suite)) => {
                let log = service.log();
                let line = log.lines().rfind(|line| line.contains(", ESP ")).unwrap_or_default();
                assert!(line.contains(suite) && line.contains("PPK") == suite.contains("PPK"), "{line}");
                traffic::ping(&lab, CLI, ADDRESS, 5);
                rekey_child(&client);
                rekey_ike(&client);
                traffic::ping(&lab, CLI, ADDRESS, 5);
                client.must("--terminate --ike vpn");
            }
            (Err(why), Err(text)) => assert!(why.contains(text), "{why}"),
            (result, _) => panic!("{id}, required {required}: {result:?}\n{}", client.log()),
        }
    }
}
