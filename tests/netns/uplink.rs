//! The tunnel behind comes and goes while clients are connected.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::nat64::routes;
use crate::pki::Key;
use crate::service::*;
use crate::traffic;

#[test]
fn clients_stay_and_hear_that_the_company_is_unreachable() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    if service.is_reference() {
        return; // It has no uplink.
    }
    let client = service.connected(CLI, "alice");
    traffic::ping(&lab, CLI, ADDRESS, 3);
    let (address, ike) = (client.inner_address(), client.ike_spis());

    let block = "table ip block {
 chain out {
  type filter hook output priority 0
  \
                 tcp dport 10443 reject with tcp reset
 }
}
";
    let file = lab.path("block.nft");
    std::fs::write(&file, block).expect("file");
    lab.must(SRV, 5, &format!("nft -f {}", file.display()));
    // The first packet up meets the reset.
    lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}"));
    wait_for("the tunnel is down", Duration::from_secs(10), || {
        service.log().contains("the tunnel is down").then_some(())
    });
    let answer = lab.run(CLI, 5, &format!("ping -c 2 -W 1 {ADDRESS}"));
    assert!(answer.text.contains("Destination Net Unreachable"), "{}", answer.text);

    lab.must(SRV, 5, "nft delete table ip block");
    wait_for("the company is reachable again", Duration::from_secs(40), || {
        lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok.then_some(())
    });
    traffic::web(&lab, CLI);
    assert_eq!((client.inner_address(), client.ike_spis()), (address, ike), "the client never noticed");
}

#[test]
fn routes_of_a_gateway_that_comes_up_late_reach_the_client() {
    let Some(lab) = Lab::open() else { return };
    let mut service = Service::start_offline(&lab, Key::P256, &["--gateway-routes"]);
    if service.is_reference() {
        return; // It has no uplink.
    }
    let client = service.connected(CLI, "alice");
    assert_eq!(routes(&lab), BTreeSet::from(["default".to_owned()]), "nothing is known yet");
    let before = client.child_spis();
    service.go_online();
    wait_for("another Child SA, alone", Duration::from_secs(10), || {
        let after = client.child_spis();
        (after.len() == 1 && after != before).then_some(())
    });
    let expected = BTreeSet::from(["10.77.0.0/16".to_owned(), "198.19.255.1".to_owned()]);
    assert_eq!(routes(&lab), expected, "{}", client.sas());
    traffic::ping(&lab, CLI, ADDRESS, 5);
    traffic::names(&lab, CLI);
}
