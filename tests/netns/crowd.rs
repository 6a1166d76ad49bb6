//! Many connections: one after the other, and all at once.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use pterodapter::engine::Status;
use pterodapter::ike::Stats;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::*;
use crate::service::*;
use crate::strongswan::Strongswan;
use crate::traffic;

const PEOPLE: usize = 50;
const IN_A_ROW: usize = 100;
/// After so many connects the daemon's memory is what it needs.
const WARM: usize = 20;
/// What it may need more after the rest of them.
const GROWTH_KIB: u64 = 2048;

#[test]
fn a_client_connects_a_hundred_times_in_a_row() {
    let Some(lab) = Lab::open() else { return };
    let control = lab.path("control").display().to_string();
    let service = Service::start_with(&lab, Key::P256, &["--control", &control]);
    let alice = service.person("alice");
    let client = Strongswan::client(&lab, CLI, &service.config(CLI, "alice", &alice));
    let mut warm = None;
    for round in 1..=IN_A_ROW {
        client.connect().unwrap_or_else(|e| panic!("round {round}: cannot connect:\n{e}"));
        traffic::ping(&lab, CLI, ADDRESS, 1);
        client.must("--terminate --ike vpn");
        client.wait_gone(Duration::from_secs(3));
        if round == WARM {
            warm = resident_kib(&service);
        }
    }
    let Some(warm) = warm else { return }; // the reference
    let ike = assert_empty(&lab, &control);
    assert_eq!((ike.half_open, ike.auth_failed, ike.refused), (0, 0, 0));
    let log = service.log();
    assert_eq!(log.matches("alice connected").count(), IN_A_ROW);
    assert_eq!(log.matches("alice is gone: disconnected by the client").count(), IN_A_ROW);
    let now = resident_kib(&service).expect("the daemon");
    // A closed IKE SA stays a little, to answer what may be sent again.
    wait_for("the last IKE SA to be forgotten", Duration::from_secs(40), || {
        (status(&lab, &control).ike.ike_sas == 0).then_some(())
    });
    println!("resident: {warm} KiB after {WARM} connects, {now} KiB after {IN_A_ROW}");
    assert!(now < warm + GROWTH_KIB, "memory grew from {warm} to {now} KiB");
}

#[test]
fn fifty_people_at_once() {
    let Some(lab) = Lab::open() else { return };
    let control = lab.path("control").display().to_string();
    let service = Service::start_with(&lab, Key::P256, &["--control", &control]);
    let people: Vec<_> = (1..=PEOPLE).map(|n| format!("person{n}")).collect();
    let identities: Vec<_> = people.iter().map(|name| service.person(name)).collect();
    let connections: String =
        people.iter().zip(&identities).map(|(name, identity)| connection(name, identity)).collect();
    let keys: Vec<_> = identities.iter().collect();
    // One route for all of them below: charon would make the same again for each.
    let charon = "install_routes = no\n threads = 32";
    let client = Strongswan::start_many(
        &lab,
        CLI,
        &format!("connections {{\n{connections}}}\n"),
        &service.authority.cert(),
        &keys,
        charon,
    );
    let installed = || client.sas().matches(", INSTALLED, ").count();
    wait_for("all Child SAs", Duration::from_secs(30), || (installed() == PEOPLE).then_some(()));
    let sas = client.sas();
    let locals = sas.lines().filter_map(|line| line.trim().strip_prefix("local  198.19.255."));
    let addresses: BTreeSet<_> = locals
        .filter_map(|rest| rest.split_once('/'))
        .map(|(host, _)| format!("198.19.255.{host}"))
        .collect();
    assert_eq!(addresses.len(), PEOPLE, "everybody has an address of their own:\n{sas}");

    lab.ip(CLI, &format!("route add {ADDRESS} dev ipsec0"));
    std::thread::scope(|scope| {
        for address in &addresses {
            let lab = &lab;
            scope.spawn(move || {
                let pings = format!("ping -n -i 0.2 -c 5 -W 3 -I {address} {ADDRESS}");
                let text = lab.must(CLI, 15, &pings);
                assert!(text.contains(" 0% packet loss"), "{text}");
            });
        }
    });
    if service.is_reference() {
        return;
    }
    let status = status(&lab, &control);
    let names: BTreeSet<_> = status.devices.iter().map(|device| device.identity.clone()).collect();
    assert_eq!((status.devices.len(), names), (PEOPLE, people.iter().cloned().collect()));

    for name in &people {
        client.must(&format!("--terminate --ike {name} --timeout -1"));
    }
    client.wait_gone(Duration::from_secs(10));
    let ike = assert_empty(&lab, &control);
    assert_eq!((ike.half_open, ike.auth_failed), (0, 0));
}

/// A connection that begins when it is loaded.
fn connection(name: &str, identity: &Identity) -> String {
    format!(
        " {name} {{\n  version = 2\n  remote_addrs = {SRV_FROM_CLI}\n  vips = 0.0.0.0\n\
         \x20 local {{\n   auth = pubkey\n   certs = {}\n   id = {name}\n  }}\n\
         \x20 remote {{\n   auth = pubkey\n   id = {SERVER_ID}\n  }}\n\
         \x20 children {{\n   {name} {{\n    remote_ts = 0.0.0.0/0\n    start_action = start\n   }}\n  }}\n }}\n",
        identity.cert.display()
    )
}

fn status(lab: &Lab, control: &str) -> Status {
    let program = env!("CARGO_BIN_EXE_pterodapter");
    let text = lab.must(SRV, 10, &format!("{program} status --json --control {control}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Nobody is there any more; what the IKE thread counted.
fn assert_empty(lab: &Lab, control: &str) -> Stats {
    wait_for("an empty status", Duration::from_secs(5), || {
        let Status { devices, ike, .. } = status(lab, control);
        (devices.is_empty() && (ike.devices, ike.child_sas) == (0, 0)).then_some(ike)
    })
}

/// Resident memory of the daemon.
fn resident_kib(service: &Service) -> Option<u64> {
    let Responder::Daemon { daemon, .. } = &service.responder else { return None };
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().ok()
}
