//! Clients that change their place under way: MOBIKE, reauthentication, and the same over IPv6.

use std::time::Duration;

use crate::company::ADDRESS;
use crate::lab::*;
use crate::pki::Key;
use crate::service::*;
use crate::strongswan::*;
use crate::{rekey_child, rekey_ike, traffic};

/// How many of 50 pings a second may be lost by a move: two seconds' worth, most of it charon's own time to notice.
const LOST_BY_A_MOVE: u32 = 100;

/// Pings that run while something else happens.
struct Stream(Process);

impl Stream {
    /// 50 a second for so long.
    fn start(lab: &Lab, seconds: u32) -> Self {
        Self::start_fast(lab, seconds, 50)
    }

    fn start_fast(lab: &Lab, seconds: u32, per_second: u32) -> Self {
        let interval = 1.0 / f64::from(per_second);
        let line = format!("ping -n -i {interval} -W 2 -c {} {ADDRESS}", seconds * per_second);
        Self(lab.start(CLI, "stream", &[], &line.split(' ').collect::<Vec<_>>()))
    }

    /// Waits for the last one; how many were lost.
    fn lost(mut self) -> u32 {
        self.0.wait_log(" packets transmitted", Duration::from_secs(40));
        let log = self.0.log();
        let summary = log.lines().find(|line| line.contains(" packets transmitted")).expect("a summary");
        let mut numbers = summary.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let (sent, received) = (numbers.next().expect("sent"), numbers.next().expect("received"));
        sent - received
    }
}

/// A NAT without state in the client's own namespace, of which the client never learns: its port 4500 is `port` outside.
/// `family` is `ip` or `ip6`.
pub fn translate_port(lab: &Lab, family: &str, port: u16) {
    let rules = format!(
        "table {family} rebind {{\n\
         chain out {{ type filter hook postrouting priority 0; udp sport 4500 udp sport set {port}; }}\n\
         chain in {{ type filter hook prerouting priority -300; udp dport {port} udp dport set 4500; }}\n}}"
    );
    lab.nft(CLI, &rules);
}

/// A second way from the client to the responder, which is not its first choice.
fn add_second_way(lab: &Lab) {
    let netns = lab.namespace(SRV);
    lab.ip(CLI, &format!("link add up1 type veth peer name cli9 netns {netns}"));
    lab.ip(CLI, "address add 10.99.4.2/24 dev up1");
    lab.ip(SRV, "address add 10.99.4.1/24 dev cli9");
    lab.ip(CLI, "link set up1 up");
    lab.ip(SRV, "link set cli9 up");
    lab.ip(CLI, "route add default via 10.99.4.1 metric 100");
}

#[test]
fn a_client_with_mobike_goes_from_one_interface_to_the_other_and_back() {
    let Some(lab) = Lab::open() else { return };
    add_second_way(&lab);
    let service = Service::start(&lab, Key::P256);
    let client = service.connected(CLI, "alice");
    assert!(client.log().contains("N(MOBIKE_SUP)"), "{}", client.log());
    let inner = client.inner_address();
    for (link, place, next) in [("up0", "10.99.1.2", "10.99.4.2"), ("up1", "10.99.4.2", "10.99.1.2")] {
        let stream = Stream::start(&lab, 6);
        std::thread::sleep(Duration::from_secs(1));
        lab.ip(CLI, &format!("address delete {place}/24 dev {link}"));
        lab.ip(CLI, &format!("link set {link} down"));
        wait_for("the client at its other address", Duration::from_secs(15), || {
            client.sas().contains(&format!(" @ {next}[")).then_some(())
        });
        let lost = stream.lost();
        println!("from {place} to {next}: {lost} of 300 pings, 50 a second, were not answered");
        assert!(lost <= LOST_BY_A_MOVE, "{lost} pings lost");
        if !service.is_reference() {
            let log = service.log();
            assert!(log.contains(&format!("alice is at {next}:4500 now")), "{log}");
        }
        traffic::ping(&lab, CLI, ADDRESS, 20);
        // The link is back, and the other one may go.
        lab.ip(CLI, &format!("address add {place}/24 dev {link}"));
        lab.ip(CLI, &format!("link set {link} up"));
        lab.ip(CLI, &format!("route replace default via {}", place.replace(".2", ".1")));
    }
    assert!(client.log().contains("N(UPD_SA_ADDR)"), "{}", client.log());
    assert_eq!((client.inner_address(), client.ike_spis().len()), (inner, 1));
    rekey_child(&client);
    rekey_ike(&client);
    traffic::web(&lab, CLI);
}

#[test]
fn a_client_that_authenticates_anew_before_it_ends_the_old_connection_loses_nothing() {
    let Some(lab) = Lab::open() else { return };
    let mut service = Service::start(&lab, Key::P256);
    let alice = service.person("alice");
    let config = ClientConfig {
        charon: "make_before_break = yes",
        connection: "reauth_time = 4s\n  over_time = 20s",
        ..service.config(CLI, "alice", &alice)
    };
    let client = Strongswan::client(&lab, CLI, &config);
    client.connect().unwrap_or_else(|e| panic!("cannot connect:\n{e}"));
    let (inner, mut seen) = (client.inner_address(), client.ike_spis());
    let stream = Stream::start_fast(&lab, 12, 250);
    for _ in 0..2 {
        wait_for("another IKE SA, alone", Duration::from_secs(12), || {
            let now = client.ike_spis();
            (now.len() == 1 && !seen.contains(&now[0])).then(|| seen.extend(now))
        });
        assert_eq!(client.inner_address(), inner);
    }
    let lost = stream.lost();
    println!(
        "reauthenticated {} times: {lost} of 3000 pings, 250 a second, were not answered",
        seen.len() - 1
    );
    assert_eq!(lost, 0, "{}", service.log());
    assert_eq!(client.inner_address(), inner);
    if !service.is_reference() {
        let log = service.log();
        assert!(log.contains("alice: authenticated anew, takes over its old connection"), "{log}");
        assert!(!log.contains("alice is gone"), "{log}");
        assert_eq!(log.matches("alice connected from").count(), 1, "{log}");
    }
    drop(client);
    service.stop_with_drops(&["too_big", "uplink_full"]);
}

#[test]
fn over_ipv6_everything_is_as_over_ipv4() {
    let Some(lab) = Lab::open() else { return };
    for (role, dev, address) in [(CLI, "up0", "fd99:1::2"), (SRV, "cli0", "fd99:1::1")] {
        lab.must(role, 5, &format!("sysctl -qw net.ipv6.conf.{dev}.disable_ipv6=0"));
        lab.ip(role, &format!("address add {address}/64 dev {dev} nodad"));
    }
    let service = Service::start(&lab, Key::P256);
    let alice = service.person("alice");
    let config = ClientConfig {
        server: "fd99:1::1",
        charon: "fragment_size = 500",
        connection: "fragmentation = force",
        ..service.config(CLI, "alice", &alice)
    };
    let client = Strongswan::client(&lab, CLI, &config);
    client.connect().unwrap_or_else(|e| panic!("cannot connect:\n{e}"));
    let inner = client.inner_address();
    assert!(client.sas().contains("@ fd99:1::1[4500]"), "{}", client.sas());
    assert!(client.log().contains("IKE_AUTH request 1 [ EF(1/"), "in fragments: {}", client.log());
    traffic::ping(&lab, CLI, ADDRESS, 5);
    let stream = Stream::start(&lab, 4);
    rekey_child(&client);
    rekey_ike(&client);
    rekey_child(&client);
    assert_eq!(stream.lost(), 0);

    // A NAT between takes another port. The reference waits for MOBIKE.
    for port in [24500, 34500].into_iter().filter(|_| !service.is_reference()) {
        translate_port(&lab, "ip6", port);
        traffic::ping(&lab, CLI, ADDRESS, 10);
        traffic::iperf(&lab, CLI, "-R");
        rekey_child(&client);
        traffic::ping(&lab, CLI, ADDRESS, 5);
    }
    lab.nft(CLI, "");
    // It moves to another address.
    let stream = Stream::start(&lab, 6);
    std::thread::sleep(Duration::from_secs(1));
    lab.ip(CLI, "address add fd99:1::77/64 dev up0 nodad");
    lab.ip(CLI, "address delete fd99:1::2/64 dev up0");
    wait_for("the client at its new address", Duration::from_secs(20), || {
        client.sas().contains(" @ fd99:1::77[").then_some(())
    });
    let lost = stream.lost();
    println!("moved over IPv6: {lost} of 300 pings, 50 a second, were not answered");
    assert!(lost <= LOST_BY_A_MOVE, "{lost} pings lost");
    if !service.is_reference() {
        let log = service.log();
        assert!(log.contains("alice is at [fd99:1::77]:4500 now"), "{log}");
    }
    traffic::ping(&lab, CLI, ADDRESS, 10);
    assert_eq!(client.inner_address(), inner);
    client.must("--terminate --ike vpn");
    client.wait_gone(Duration::from_secs(3));
}
