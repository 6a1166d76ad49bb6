//! The tunnel behind drops while clients are connected.

use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
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
