//! The tunnel behind drops while clients are connected, and comes back by itself.

use std::time::Duration;

use crate::company::{ADDRESS, start_iperf};
use crate::lab::*;
use crate::pki::Key;
use crate::service::*;
use crate::strongswan::Strongswan;
use crate::traffic;

/// The worst interruption is noticed within 30 s; this is with the way back.
const BACK: Duration = Duration::from_secs(40);

/// A connected client, which must not notice what happens to the tunnel.
struct Witness<'a> {
    client: Strongswan<'a>,
    address: String,
    ike: Vec<String>,
}

impl<'a> Witness<'a> {
    fn connect(service: &Service<'a>) -> Self {
        let client = service.connected(CLI, "alice");
        let (address, ike) = (client.inner_address(), client.ike_spis());
        traffic::ping(service.lab, CLI, ADDRESS, 3);
        Self { client, address, ike }
    }

    fn assert_undisturbed(&self) {
        assert_eq!(self.client.inner_address(), self.address);
        assert_eq!(self.client.ike_spis(), self.ike);
        let log = self.client.log();
        assert_eq!(log.matches("IKE_SA vpn[1] established").count(), 1, "{log}");
        assert!(!log.contains("IKE_SA vpn[2]") && !log.contains("retransmit"), "{log}");
    }
}

/// Everything, started; `None` where the tests themselves are on trial: the reference has no uplink.
fn start<'a>(lab: &'a Lab, setup: &Setup) -> Option<Service<'a>> {
    let mut service = Service::start_offline(lab, Key::P256, setup);
    service.go_online();
    (!service.is_reference()).then_some(service)
}

/// Waits until the tunnel is up for the `nth` time; gives the time that took.
fn wait_up(service: &Service, nth: usize) -> Duration {
    wait_up_within(BACK, service, nth)
}

fn wait_up_within(limit: Duration, service: &Service, nth: usize) -> Duration {
    let began = now();
    wait_for(&format!("the tunnel to be up, number {nth}"), limit, || {
        (service.times_up() >= nth).then_some(())
    });
    now() - began
}

/// Rules for what the daemon's host sends to the gateway by this family.
fn to_gateway(family: &str, rule: &str) -> String {
    format!(
        "table {family} way {{\n chain out {{\n  type filter hook output priority 0\n  tcp dport 10443 {rule}\n }}\n}}"
    )
}

#[test]
fn clients_stay_and_hear_that_the_company_is_unreachable() {
    let Some(lab) = Lab::open() else { return };
    let Some(service) = start(&lab, &Setup::default()) else { return };
    let witness = Witness::connect(&service);

    lab.nft(SRV, &to_gateway("ip", "reject with tcp reset"));
    // The first packet up meets the reset.
    lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}"));
    wait_for("the tunnel is down", Duration::from_secs(10), || {
        service.log().contains("the tunnel is down").then_some(())
    });
    let answer = lab.run(CLI, 5, &format!("ping -c 2 -W 1 {ADDRESS}"));
    assert!(answer.text.contains("Destination Net Unreachable"), "{}", answer.text);

    lab.nft(SRV, "");
    wait_for("the company is reachable again", BACK, || {
        lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok.then_some(())
    });
    traffic::web(&lab, CLI);
    witness.assert_undisturbed();
}

#[test]
fn a_tcp_stream_survives_three_reconnections() {
    let Some(lab) = Lab::open() else { return };
    let setup = Setup { gateway: &["--reuse", "60"], ..Setup::default() };
    let Some(mut service) = start(&lab, &setup) else { return };
    let witness = Witness::connect(&service);
    // Newer kernels can be told not to wait for half a minute before they send again.
    for role in [CLI, CORP] {
        lab.must(role, 5, "sysctl -qw net.ipv4.tcp_retries2=100");
        lab.run(role, 5, "sysctl -qw net.ipv4.tcp_rto_max_ms=2000");
    }
    let (mut server, port) = start_iperf(&lab);
    let line = format!("iperf3 -c {ADDRESS} -p {port} -b 20M -t 200 -i 1 --forceflush");
    let mut stream = lab.start(CLI, "stream", &[], &line.split(' ').collect::<Vec<_>>());
    for (times, style) in ["fin", "reset", "blackhole"].iter().enumerate() {
        std::thread::sleep(Duration::from_secs(2));
        service.tell_gateway(&format!("drop {style}"));
        println!("{style}: back after {:?}", wait_up(&service, times + 2));
    }
    // Seconds in which the server received something, on the one connection that it has accepted.
    let moving =
        |log: String| log.lines().filter(|l| l.contains("its/sec") && !l.contains(" 0.00 Bytes ")).count();
    let before = moving(server.log());
    wait_for("the stream to flow again", 2 * BACK, || (moving(server.log()) > before + 2).then_some(()));
    assert!(stream.is_alive() && server.is_alive(), "{}\n{}", stream.log(), server.log());
    assert_eq!(service.sign_ins(), 1, "the cookie was good all the time");
    witness.assert_undisturbed();
}

#[test]
fn a_gateway_that_restarts_is_signed_in_to_once_more() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut service) = start(&lab, &Setup::default()) else { return };
    let witness = Witness::connect(&service);
    let pings: Vec<_> = "ping -n -i 0.2 -W 1".split(' ').chain([ADDRESS]).collect();
    let pings = lab.start(CLI, "ping", &[], &pings);
    service.tell_gateway("restart 5000");
    println!("back after {:?}", wait_up(&service, 2));
    drop(pings);
    traffic::ping(&lab, CLI, ADDRESS, 5);
    traffic::web(&lab, CLI);
    assert_eq!(service.sign_ins(), 2, "at the start, and after the restart");
    witness.assert_undisturbed();
}

#[test]
fn the_way_to_the_gateway_changes() {
    let Some(lab) = Lab::open() else { return };
    let Some(mut service) = start(&lab, &Setup::default()) else { return };
    let witness = Witness::connect(&service);
    let corp = lab.namespace(CORP);
    lab.ip(SRV, &format!("link add other type veth peer name other netns {corp}"));
    for (role, address) in [(SRV, "10.99.4.1/24"), (CORP, "10.99.4.2/24")] {
        lab.ip(role, &format!("address add {address} dev other"));
        lab.ip(role, "link set other up");
    }
    lab.ip(CORP, "route replace default via 10.99.4.1");
    // As from one wireless network to another: the address is gone, and there is a way from another one.
    lab.ip(SRV, "address delete 10.99.2.1/24 dev corp");
    lab.ip(SRV, "link set corp down");
    lab.ip(SRV, &format!("route add {GATEWAY}/32 via 10.99.4.2 src 10.99.4.1"));
    let took = wait_up(&service, 2);
    println!("back after {took:?}");
    // The system tells of the change; without that the echoes would need 28 s.
    assert!(took < Duration::from_secs(15), "{took:?}:\n{}", service.log());
    traffic::ping(&lab, CLI, ADDRESS, 5);
    traffic::web(&lab, CLI);
    assert!(service.sign_ins() <= 2, "the cookie is bound to the address before; the password is good");
    witness.assert_undisturbed();
}

#[test]
fn a_silent_ipv6_address_of_the_gateway_costs_little() {
    with_silent_address("ip6", "fd99:2::2");
}

#[test]
fn a_silent_first_address_of_the_gateway_costs_little() {
    with_silent_address("ip", "10.99.2.3");
}

/// The name of the gateway has this address first, where nobody answers.
fn with_silent_address(family: &str, silent: &str) {
    let Some(lab) = Lab::open() else { return };
    lab.must(SRV, 5, "sysctl -qw net.ipv6.conf.corp.disable_ipv6=0");
    lab.ip(SRV, "address add fd99:2::1/64 dev corp nodad");
    lab.nft(SRV, &to_gateway(family, &format!("{family} daddr {silent} drop")));
    let name = "gateway.example.test";
    std::fs::write(lab.hosts(SRV), format!("{silent} {name}\n{GATEWAY} {name}\n")).expect("file");
    let setup = Setup { gateway: &["--name", name], destination: name, ..Setup::default() };
    let began = now();
    let Some(service) = start(&lab, &setup) else { return };
    let took = now() - began;
    println!("up after {took:?}");
    let log = service.log();
    assert!(log.contains(silent), "the address was not tried first:\n{log}");
    assert!(took < Duration::from_secs(3), "{took:?}:\n{log}");
}

/// Like the soak of the whole program (tests/soak.rs), with a client that nobody here wrote. Half a minute, or
/// `PTERODAPTER_SOAK_SECONDS`.
#[test]
fn random_faults_cost_the_client_nothing() {
    let Some(lab) = Lab::open() else { return };
    let setup = Setup { gateway: &["--reuse", "60"], ..Setup::default() };
    let Some(mut service) = start(&lab, &setup) else { return };
    let witness = Witness::connect(&service);
    let seconds = std::env::var("PTERODAPTER_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = Duration::from_secs(seconds.unwrap_or(30));
    let began = now();
    let seed = std::env::var("PTERODAPTER_SOAK_SEED").ok().and_then(|text| text.parse().ok());
    let mut dice: u64 = seed.unwrap_or(u64::from(std::process::id()) | 1);
    println!("seed {dice}");
    let pings: Vec<_> = "ping -n -q -i 0.05 -W 1".split(' ').chain([ADDRESS]).collect();
    let mut pings = lab.start(CLI, "ping", &[], &pings);
    let mut faults = 0;
    while now() - began < seconds {
        // Any mixture will do; a restart costs a sign-in, so it is rarer.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fault = match (dice >> 33) % 16 {
            0..5 => "drop fin",
            5..9 => "drop reset",
            9..13 => "drop close-notify",
            13..15 => "drop terminate",
            _ => "restart 1500",
        };
        let up = service.times_up();
        service.tell_gateway(fault);
        // Sign-ins in a row come up to a minute apart.
        wait_up_within(2 * BACK, &service, up + 1);
        wait_for(&format!("the company answers after '{fault}'"), BACK, || {
            lab.run(CLI, 5, &format!("ping -n -c 1 -W 1 {ADDRESS}")).ok.then_some(())
        });
        faults += 1;
        std::thread::sleep(Duration::from_millis(500 + (dice >> 40) % 2000));
    }
    assert!(pings.is_alive(), "{}", pings.log());
    pings.signal("INT");
    assert!(pings.wait(Duration::from_secs(5)));
    println!(
        "{faults} faults in {:?}; {}",
        now() - began,
        pings.log().lines().rev().take(3).collect::<Vec<_>>().join(" ")
    );
    traffic::web(&lab, CLI);
    witness.assert_undisturbed();
}
