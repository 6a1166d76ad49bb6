//! What `pterodapter setup` writes, used as it is: the daemon with the configuration file, strongSwan with the
//! profile of a device.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::lab::*;
use crate::strongswan::Strongswan;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const LIMIT: Duration = Duration::from_secs(10);
const SERVER: &str = "vpn.example.test";
/// A host of the network that the gateway plays.
const COMPANY: &str = "10.77.0.10";

#[test]
fn a_profile_from_setup_connects_as_it_is() {
    let Some(lab) = Lab::open() else { return };
    let etc = lab.path("etc");
    let setup = |args: &[&str]| {
        must(Command::new(PROGRAM).arg("setup").arg("--dir").arg(&etc).args(args));
    };
    let listen = format!("{GATEWAY}:10443");
    setup(&["--destination", &listen, "--name", SERVER]);
    let out = lab.path("out").display().to_string();
    setup(&["device", "alice-laptop", "--os", "strongswan", "--out", &out]);

    // The gateway's part of the configuration is by hand, as it would be.
    let (gateway_ca, toml) = (lab.path("gateway.pem"), etc.join("pterodapter.toml"));
    fs::write(etc.join("password"), "secret\n").expect("file");
    must(Command::new("chmod").arg("600").arg(etc.join("password")));
    let more = format!(
        "username = \"alice\"\npassword-file = \"password\"\ngateway-ca = \"{}\"\n",
        gateway_ca.display()
    );
    fs::write(&toml, fs::read_to_string(&toml).expect("written by setup") + &more).expect("file");

    let gateway_ca = gateway_ca.display().to_string();
    let gateway = [
        PROGRAM,
        "demo",
        "--gateway-only",
        "--listen",
        &listen,
        "--user",
        "alice:secret",
        "--ca-file",
        &gateway_ca,
    ];
    let mut gateway = lab.start(CORP, "gateway", &[], &gateway);
    gateway.wait_log("ready ", LIMIT);
    let config = format!("--config={}", toml.display());
    let checked = lab.must(SRV, 10, &format!("{PROGRAM} check {config}"));
    assert!(checked.starts_with("ready to start"), "{checked}");
    let mut daemon = lab.start(SRV, "pterodapter", &[], &[PROGRAM, &config, "ikev2"]);
    daemon.wait_log("the tunnel is up", LIMIT);

    fs::write(lab.resolv_conf(CLI).with_file_name("hosts"), format!("{SRV_FROM_CLI} {SERVER}\n"))
        .expect("file");
    let client = Strongswan::with_files(&lab, CLI, &lab.path("out/alice-laptop-strongswan"));
    assert!(client.must("--list-conns").contains("company: TUNNEL"), "{}", client.must("--list-conns"));
    client.must("--initiate --child company --timeout 20");
    lab.must(CLI, 10, &format!("ping -n -c 3 -i 0.2 -W 2 {COMPANY}"));
    assert!(daemon.log().contains("alice-laptop"), "{}", daemon.log());
    client.must("--terminate --ike pterodapter");
}
