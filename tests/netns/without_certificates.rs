//! Clients that have no certificate, with a user name and a password or a pre-shared key; and those that have theirs by
//! EAP-TLS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::strongswan::Strongswan;
use crate::traffic;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");

/// Makes a secret as people do; what is shown of it.
pub fn make_secret(kind: &str, name: &str, dir: &Path) -> String {
    let text = must(Command::new(PROGRAM).args(["setup", kind, name, "--dir"]).arg(dir));
    let shown = text.split_once("shown only now:\n  ").and_then(|(_, rest)| rest.lines().next());
    shown.unwrap_or_else(|| panic!("no secret in {text}")).to_owned()
}

/// A connection of swanctl.conf, and its child of the same name.
pub fn connection(name: &str, local: &str, remote: &str, more: &str) -> String {
    format!(
        " {name} {{\n  version = 2\n  remote_addrs = {SRV_FROM_CLI}\n  vips = 0.0.0.0\n  {more}\n\
         \x20 local {{\n   {local}\n  }}\n  remote {{\n   auth = {remote}\n   id = {SERVER_ID}\n  }}\n\
         \x20 children {{\n   {name} {{\n    remote_ts = 0.0.0.0/0\n   }}\n  }}\n }}\n"
    )
}

#[test]
fn passwords_and_pre_shared_keys_let_in_whom_they_should() {
    let Some(lab) = Lab::open() else { return };
    let dir = lab.path("secrets");
    let password = make_secret("user", "alice", &dir);
    let other = make_secret("user", "bob", &dir);
    make_secret("user", "carol", &dir);
    let key = make_secret("psk", "phone", &dir);
    make_secret("psk", "tablet", &dir);
    let (users, psks) = (dir.join("eap-users").display().to_string(), dir.join("psks").display().to_string());
    let options = [
        "--eap-users",
        &users,
        "--psk-file",
        &psks,
        "--eap-tls",
        "--allow-id=alice",
        "--allow-id=laptop",
        "--allow-id=c*",
        "--allow-id=phone",
        "--allow-id=tablet",
    ];
    let mut service = Service::start_with(&lab, Key::Rsa2048, &options);
    if service.is_reference() {
        return;
    }
    let eap = |id: &str, user: &str| format!("auth = eap-mschapv2\n   id = {id}\n   eap_id = {user}");
    let laptop = service.person("laptop");
    let tls = format!("auth = eap-tls\n   certs = {}\n   id = laptop", laptop.cert.display());
    let psk = |id: &str| format!("auth = psk\n   id = {id}");
    let connections: String = [
        connection(
            "windows",
            &eap("10.1.2.3", "CORP\\alice"),
            "pubkey",
            "proposals = aes256-sha384-modp2048",
        ),
        connection("ios", &eap("laptop.example", "alice"), "pubkey", "proposals = aes256-sha256-modp2048"),
        connection("fragments", &eap("alice", "alice"), "pubkey", "fragmentation = force"),
        connection("tls", &tls, "pubkey", ""),
        connection("wrong", &eap("carol", "carol"), "pubkey", ""),
        connection("unknown", &eap("dave", "dave"), "pubkey", ""),
        connection("refused", &eap("bob", "bob"), "pubkey", ""),
        connection("phone", &psk("phone"), "psk", ""),
        connection("tablet", &psk("tablet"), "psk", ""),
        connection("stranger", &psk("stranger"), "psk", ""),
    ]
    .concat();
    let eap =
        |id: &str, secret: &str| format!(" eap-{secret} {{\n  id = \"{id}\"\n  secret = \"{secret}\"\n }}\n");
    let ike = |id: &str, secret: &str| format!(" ike-{id} {{\n  id = {id}\n  secret = \"{secret}\"\n }}\n");
    let secrets = [
        eap("alice", &password),
        eap("CORP\\\\alice", &password).replace(" eap-", " eap-corp-"),
        eap("bob", &other),
        eap("carol", "not-hers"),
        eap("dave", "nobodys"),
        ike("phone", &key),
        ike("tablet", "another-key-of-many-characters"),
        ike("stranger", &key),
    ]
    .concat();
    let text = format!("connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n");
    // As Windows and Apple are, without RFC 7427, and as strongSwan is. TLS is 1.2 as is its default: with 1.3 this
    // strongSwan (5.9.8) crashes at the octet that RFC 9190 wants from a server.
    for charon in ["signature_authentication = no", ""] {
        let client = Strongswan::start(&lab, CLI, &text, &service.authority.cert(), &laptop, charon);
        for name in ["windows", "ios", "fragments", "tls", "phone"] {
            let done = client.swanctl(25, &format!("--initiate --child {name} --timeout 20"));
            assert!(done.ok, "{name} cannot connect:\n{}\n{}", done.text, service.log());
            traffic::ping(&lab, CLI, ADDRESS, 3);
            client.must(&format!("--rekey --ike {name}"));
            traffic::ping(&lab, CLI, ADDRESS, 3);
            client.must(&format!("--terminate --ike {name}"));
            client.wait_gone(Duration::from_secs(3));
            println!("ok: {name}");
        }
    }
    let client = Strongswan::start(&lab, CLI, &text, &service.authority.cert(), &laptop, "");
    for (name, says) in [
        ("wrong", "wrong password of user \"carol\""),
        ("unknown", "there is no user \"dave\" in --eap-users"),
        ("refused", "\"bob\" is proven, but no --allow-id fits it"),
        ("tablet", "the identity has no pre-shared key in --psk-file, or another one"),
        ("stranger", "the identity has no pre-shared key in --psk-file, or another one"),
    ] {
        let before = service.log().len();
        let done = client.swanctl(25, &format!("--initiate --child {name} --timeout 20"));
        assert!(!done.ok, "{name} was let in:\n{}", done.text);
        let log = service.log();
        let said = log.get(before..).unwrap_or_default();
        assert!(said.contains(says), "{name}: {said}\n{}", done.text);
        println!("ok: {name} is not let in");
    }
    // A user is taken away: the device goes, and does not come again.
    let done = client.swanctl(25, "--initiate --child ios --timeout 20");
    assert!(done.ok, "alice cannot connect:\n{}", done.text);
    must(Command::new(PROGRAM).args(["setup", "user", "alice", "--remove", "--dir"]).arg(&dir));
    if let Responder::Daemon { daemon, .. } = &mut service.responder {
        daemon.signal("HUP");
        daemon.wait_log(
            "alice is gone: its password or pre-shared key was changed or taken away",
            Duration::from_secs(5),
        );
    }
    client.wait_gone(Duration::from_secs(3));
    assert!(!client.swanctl(25, "--initiate --child ios --timeout 20").ok);
    println!("ok: a user who was taken away");
    let log = service.log();
    assert_eq!(log.matches("] alice connected from ").count(), 7, "{log}");
    assert_eq!(log.matches("] laptop connected from ").count(), 2, "{log}");
    for secret in [&password, &other, &key] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    service.stop_with_drops(&[]);
}
