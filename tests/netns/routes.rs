//! What a client routes into the tunnel, and how changes reach it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::company::{ADDRESS, MOVING_FROM, MOVING_NAME};
use crate::lab::*;
use crate::pki::Key;
use crate::service::*;
use crate::strongswan::Strongswan;
use crate::traffic;

/// The in-tunnel host.
const HOST: &str = "198.19.255.1";

/// What the client routes into the tunnel, in whatever table, but for what the kernel adds for its own addresses.
pub fn routes(lab: &Lab) -> BTreeSet<String> {
    let both = ["-4", "-6"].map(|family| lab.ip(CLI, &format!("{family} route show table all dev ipsec0")));
    let lines = both.iter().flat_map(|text| text.lines()).filter(|l| !l.contains("proto kernel"));
    lines.map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// Waits until the Child SA was renewed, to these routes. The lookup of a name may take half a minute.
fn wait_for_routes(lab: &Lab, client: &Strongswan, expected: &BTreeSet<String>, before: &[String]) {
    wait_for("another Child SA, alone", Duration::from_secs(45), || {
        let after = client.child_spis();
        (after.len() == 1 && after != before).then_some(())
    });
    assert_eq!(routes(lab), *expected, "{}", client.sas());
}

#[test]
fn routes_of_a_gateway_that_comes_up_late_reach_the_client() {
    let Some(lab) = Lab::open() else { return };
    let setup = Setup { options: &["--gateway-routes"], ..Setup::default() };
    let mut service = Service::start_offline(&lab, Key::P256, &setup);
    if service.is_reference() {
        return; // It has no uplink.
    }
    let client = service.connected(CLI, "alice");
    assert_eq!(routes(&lab), BTreeSet::from(["default".to_owned()]), "nothing is known yet");
    let before = client.child_spis();
    service.go_online();
    let expected = BTreeSet::from(["10.77.0.0/16".to_owned(), HOST.to_owned()]);
    wait_for_routes(&lab, &client, &expected, &before);
    traffic::ping(&lab, CLI, ADDRESS, 5);
    traffic::names(&lab, CLI);
}

#[test]
fn a_tunnel_domain_whose_address_changes() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start_with(&lab, Key::P256, &["--tunnel-domain", MOVING_NAME]);
    if service.is_reference() {
        return; // It knows no domains.
    }
    let other = "10.77.0.61";
    for address in [MOVING_FROM, other] {
        lab.ip(CORP, &format!("address add {address}/32 dev lo"));
    }
    let hosts = |address: &str| BTreeSet::from([HOST.to_owned(), address.to_owned()]);
    wait_for("the name to be looked up", Duration::from_secs(5), || {
        service.log().contains(&format!("{MOVING_NAME}: {MOVING_FROM}")).then_some(())
    });
    let client = service.connected(CLI, "alice");
    assert_eq!(routes(&lab), hosts(MOVING_FROM), "{}", client.sas());
    traffic::ping(&lab, CLI, MOVING_FROM, 5);

    let before = client.child_spis();
    service.company.move_to(&lab, other);
    wait_for_routes(&lab, &client, &hosts(other), &before);
    traffic::ping(&lab, CLI, other, 5);
    let outside = lab.ip(CLI, &format!("route get {MOVING_FROM}"));
    assert!(outside.contains("via 10.99.1.1"), "{outside}");
}
