//! IPv6 in the tunnel, IPv4 behind it: NAT64 and DNS64, with strongSwan as the client.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::company::*;
use crate::lab::*;
use crate::pki::Key;
use crate::routes::routes;
use crate::service::Service;
use crate::strongswan::{ClientConfig, Strongswan};
use crate::traffic;

const BOTH: &str = "0.0.0.0,::";
const PREFIX: &str = "64:ff9b:1::";
const OPTIONS: [&str; 4] = ["--nat64-prefix", "64:ff9b:1::/96", "--dns64-tunnel-suffix", "corp.example"];
/// The in-tunnel host.
const HOST: &str = "198.19.255.1";
/// The host in `far`.
const FAR_ADDRESS: &str = "10.77.8.9";
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/echo.py");
const ECHO_PORT: u16 = 7007;

/// The address of the company's host as the client sees it.
fn mapped(address: &str) -> String {
    let prefix: Ipv6Addr = PREFIX.parse().expect("a prefix");
    let address: Ipv4Addr = address.parse().expect("an address");
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(address.to_bits())).to_string()
}

/// The daemon with NAT64, and a connected client that asked for these addresses.
fn start<'a>(lab: &'a Lab, options: &[&str], vips: &str) -> Option<(Service<'a>, Strongswan<'a>)> {
    if std::env::var_os("PTERODAPTER_NETNS_REFERENCE").is_some() {
        println!("skipped: the reference responder has no NAT64");
        return None;
    }
    // Also for the tun device to come; no duplicate detection and solicitations, as everywhere in the lab.
    for setting in ["lo.disable_ipv6=0", "default.accept_dad=0", "default.disable_ipv6=0"] {
        lab.must(CLI, 5, &format!("sysctl -qw net.ipv6.conf.{setting}"));
    }
    let service = Service::start_with(lab, Key::P256, &[&OPTIONS, options].concat());
    let alice = service.person("alice");
    let config = ClientConfig { vips, ..service.config(CLI, "alice", &alice) };
    let client = Strongswan::client(lab, CLI, &config);
    client.connect().unwrap_or_else(|e| panic!("cannot connect:\n{e}"));
    Some((service, client))
}

/// The lines of dig's answer for `query`, asked of `server` from the namespace `role`, sorted.
fn dig(lab: &Lab, role: &str, server: &str, query: &str) -> (String, Vec<String>) {
    let text = lab.must(role, 10, &format!("dig @{server} +tries=2 +time=3 {query}"));
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let records = text.lines().filter(|l| !l.is_empty() && !l.starts_with(';'));
    let mut records: Vec<_> = records.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    records.sort();
    let truncated = if text.contains(" tc ") { " TC" } else { "" };
    (format!("{status}{truncated}"), records)
}

#[test]
fn names_inside_and_outside_the_suffix() {
    let Some(lab) = Lab::open() else { return };
    let Some((_service, _client)) = start(&lab, &[], BOTH) else { return };
    let (host, server) = (mapped(HOST), mapped(ADDRESS));
    let given = std::fs::read_to_string(lab.resolv_conf(CLI)).expect("resolv.conf");
    assert!(given.contains(HOST) && given.contains(&host), "{given}");

    for server in [HOST, &host, &server] {
        for how in ["", "+tcp", "+noedns", "+bufsize=4096", "+dnssec"] {
            let ask = |query: &str| dig(&lab, CLI, server, &format!("{how} {query}"));
            let answer = |query: &str| {
                let (status, records) = ask(query);
                assert_eq!(status, "NOERROR", "{how} {query} @{server}");
                let data = |l: &String| l.splitn(5, ' ').skip(3).collect::<Vec<_>>().join(" ");
                records.iter().map(data).collect::<Vec<_>>()
            };
            let nothing = |query: &str| {
                let records = answer(query);
                assert!(records.len() == 1 && records[0].starts_with("SOA "), "{how} {query}: {records:?}");
            };
            let www = mapped(ADDRESS);
            assert_eq!(answer(&format!("{NAME} AAAA")), [format!("AAAA {www}")], "{how}");
            assert_eq!(answer("WwW.cOrP.ExAmPlE AAAA"), [format!("AAAA {www}")], "{how}");
            let chain = [format!("CNAME {NAME}."), format!("AAAA {www}")];
            assert_eq!(answer("alias.corp.example AAAA"), chain, "{how}");
            for kind in ["A", "HTTPS", "SVCB"] {
                nothing(&format!("{NAME} {kind}"));
            }
            nothing("alias.corp.example A");
            let mx = answer("corp.example MX");
            assert!(mx.contains(&format!("MX 10 {NAME}.")), "{how}: {mx:?}");
            assert_eq!(answer("corp.example TXT"), ["TXT \"hello from corp.example\""], "{how}");
            assert_eq!(answer(&format!("{BIG_NAME} TXT")).len(), BIG_RECORDS, "{how}");
            assert_eq!(answer(&format!("{MANY_NAME} AAAA")).len(), MANY_ADDRESSES, "{how}");
            assert_eq!(answer(&format!("-x {www}")), [format!("PTR {NAME}.")], "{how}");
            assert_eq!(answer(&format!("-x {ADDRESS}")), [format!("PTR {NAME}.")], "{how}");
            assert_eq!(ask("none.corp.example AAAA").0, "NXDOMAIN", "{how}");
            assert_eq!(ask("none.corp.example A").0, "NXDOMAIN", "{how}");
            assert_eq!(ask("use-application-dns.net A").0, "NXDOMAIN", "{how}");

            // Outside the suffix: what the company's server says.
            for query in [
                format!("{OUTSIDE} A"),
                format!("{OUTSIDE} AAAA"),
                format!("{OUTSIDE} HTTPS"),
                "alias.outside.example AAAA".to_owned(),
                "outside.example MX".to_owned(),
                "outside.example TXT".to_owned(),
                format!("-x {OUTSIDE_V6}"),
                "none.outside.example AAAA".to_owned(),
                "notcorp.example A".to_owned(),
            ] {
                let query = format!("{how} {query}");
                assert_eq!(dig(&lab, CLI, server, &query), dig(&lab, CORP, ADDRESS, &query), "{query}");
            }
        }
        // What does not fit says so, and fits where the client takes more.
        let many = |how: &str| dig(&lab, CLI, server, &format!("+ignore {how} {MANY_NAME} AAAA"));
        assert_eq!(many("+noedns").0, "NOERROR TC");
        assert_eq!(many("+bufsize=1232").0, "NOERROR TC");
        let (status, records) = many("+bufsize=4096");
        assert_eq!((status.as_str(), records.len()), ("NOERROR", MANY_ADDRESSES));
    }
}

#[test]
fn traffic_of_every_kind_and_size() {
    let Some(lab) = Lab::open() else { return };
    let Some((mut service, client)) = start(&lab, &[], BOTH) else { return };
    let (host, target) = (mapped(HOST), mapped(ADDRESS));
    assert_eq!(routes(&lab), BTreeSet::from([HOST.to_owned(), format!("{PREFIX}/96")]), "{}", client.sas());
    let other = lab.ip(CLI, &format!("route get {ADDRESS}"));
    assert!(other.contains("via 10.99.1.1"), "IPv4 is not tunnelled: {other}");

    traffic::ping(&lab, CLI, &target, 20);
    traffic::ping(&lab, CLI, &host, 5);
    traffic::ping(&lab, CLI, HOST, 5);
    traffic::web(&lab, CLI);
    let file = lab.path("got-6");
    lab.must(CLI, 30, &format!("curl -6 -sS -f -o {} http://[{target}]:8000/blob", file.display()));
    assert!(std::fs::read(&file).expect("file") == blob(), "the file arrived damaged");

    let largest = service.inner_mtu() + 20 - 48;
    let port = ECHO_PORT.to_string();
    let mut echo = lab.start(CORP, "echo", &[], &["python3", ECHO, "serve", ADDRESS, &port]);
    echo.wait_log("ready", Duration::from_secs(5));
    let sizes = |args: String| lab.must(CLI, 30, &format!("python3 {ECHO} {args}")).trim().to_owned();
    assert_eq!(sizes(format!("udp {target} {ECHO_PORT} 1 2000")), "all answered");
    assert_eq!(sizes(format!("udp {target} {ECHO_PORT} 7990 8010")), "all answered");
    for target in [&target, &host] {
        let missing = ping_sizes(&lab, target);
        // The first that is too large only teaches the client's system the path MTU.
        assert!(missing.is_empty() || missing == [largest + 1], "{target}: {missing:?} are not answered");
    }

    for how in ["-P 1", "-P 4 -R"] {
        let flow = iperf(&lab, &target, how);
        flow.assert_passed(&format!("TCP {how}"));
        let mss = f64::from(service.inner_mtu() - 40);
        assert!(flow.mss <= mss, "MSS {} is not clamped", flow.mss);
    }
    for how in ["-u -b 20M", "-u -b 20M -R", "-u -b 5M -l 4000 -R"] {
        let flow = iperf(&lab, &target, how);
        flow.assert_passed(&format!("UDP {how}"));
    }

    // A path that takes less than a sealed packet of the largest size: fragments outside.
    for (role, dev) in [(CLI, "up0"), (SRV, "cli0")] {
        lab.ip(role, &format!("link set mtu 1380 dev {dev}"));
    }
    assert_eq!(sizes(format!("icmp6 {target} {} {largest}", largest - 200)), "all answered");
    assert_eq!(sizes(format!("udp {target} {ECHO_PORT} 1300 1500")), "all answered");
    let flow = iperf(&lab, &target, "-R");
    flow.assert_passed("TCP on a narrow path");
    assert!(!client.log().contains("sequence number verification failed"), "the responder reordered packets");
    crate::rekey_child(&client);
    crate::rekey_ike(&client);
    traffic::ping(&lab, CLI, &target, 5);
    service.stop_with_drops(&["too_big", "uplink_full"]);
}

/// `ping` with every size from 1 to 2000, once; the sizes that were not answered.
fn ping_sizes(lab: &Lab, target: &str) -> Vec<u32> {
    let script = lab.path("ping-sizes");
    let text =
        format!("for n in $(seq 2000); do ping -6 -n -c 1 -W 2 -s $n {target} >/dev/null || echo $n; done");
    std::fs::write(&script, text).expect("file");
    let missing = lab.must(CLI, 60, &format!("sh {}", script.display()));
    missing.split_whitespace().map(|n| n.parse().expect("a size")).collect()
}

/// Runs iperf3 against the server in `corp`.
fn iperf(lab: &Lab, target: &str, how: &str) -> traffic::Flow {
    let (_server, port) = start_iperf(lab);
    traffic::iperf_to(lab, CLI, target, port, &format!("-t 2 {how}"))
}

#[test]
fn the_way_to_a_host_behind_the_gateway() {
    let Some(lab) = Lab::open() else { return };
    let Some((_service, _client)) = start(&lab, &["--gateway-routes"], BOTH) else { return };
    lab.must(CORP, 5, "sysctl -qw net.ipv4.ip_forward=1");
    // Linux would answer one probe a second.
    for role in [CORP, FAR] {
        lab.must(role, 5, "sysctl -qw net.ipv4.icmp_ratelimit=0");
    }
    let way = [HOST, ADDRESS, FAR_ADDRESS];
    for how in ["", "-I", "-T -p 80"] {
        for (last, target) in way.iter().enumerate() {
            let way = &way[..=last];
            assert_eq!(traffic::hops(&lab, CLI, how, target), way, "{how}");
            let way: Vec<_> = way.iter().map(|address| mapped(address)).collect();
            assert_eq!(traffic::hops(&lab, CLI, &format!("-6 {how}"), &mapped(target)), way, "{how}");
        }
    }
}

#[test]
fn a_narrow_link_behind_the_gateway() {
    let Some(lab) = Lab::open() else { return };
    let Some((_service, _client)) = start(&lab, &[], BOTH) else { return };
    lab.must(CORP, 5, "sysctl -qw net.ipv4.ip_forward=1");
    let far = mapped(FAR_ADDRESS);

    // The far host promises to take more than the link in front of it carries, or the MSS would settle it all.
    for (mtu, learnt) in [(1300, 1320), (1000, 1280)] {
        lab.ip(CORP, &format!("link set far0 mtu {mtu}"));
        lab.ip(FAR, &format!("route replace default via 10.77.8.1 mtu {mtu} advmss 1460"));
        for how in ["-n 5M", "-n 5M -R"] {
            let port = 5300;
            let line = ["iperf3", "-s", "-1", "-B", FAR_ADDRESS, "-p", &port.to_string()];
            let _server = lab.start(FAR, "iperf3-far", &[], &line);
            wait_for("the far server", Duration::from_secs(5), || {
                lab.must(FAR, 5, "ss -Hnlt").contains(&format!(":{port} ")).then_some(())
            });
            let flow = traffic::iperf_to(&lab, CLI, &far, port, how);
            flow.assert_passed(&format!("a link of {mtu} octets, {how}"));
        }
        let route = lab.ip(CLI, &format!("-6 route get {far}"));
        assert!(route.contains(&format!(" mtu {learnt}")), "{mtu}: {route}");
    }
}

#[test]
fn a_client_with_ipv6_alone() {
    let Some(lab) = Lab::open() else { return };
    let Some((_service, client)) = start(&lab, &[], "::") else { return };
    assert_eq!(routes(&lab), BTreeSet::from([format!("{PREFIX}/96")]), "{}", client.sas());
    assert_eq!(traffic::dns_server(&lab, CLI), mapped(HOST));
    traffic::ping(&lab, CLI, &mapped(ADDRESS), 5);
    traffic::web(&lab, CLI);
    crate::rekey_child(&client);
    traffic::ping(&lab, CLI, &mapped(ADDRESS), 5);
}

#[test]
fn both_address_plans_at_once() {
    let Some(lab) = Lab::open() else { return };
    let Some((service, client)) = start(&lab, &["--gateway-routes"], BOTH) else { return };
    let expected = [HOST.to_owned(), "10.77.0.0/16".to_owned(), format!("{PREFIX}/96")];
    assert_eq!(routes(&lab), BTreeSet::from(expected), "{}", client.sas());
    for target in [ADDRESS, HOST, &mapped(ADDRESS), &mapped(HOST)] {
        traffic::ping(&lab, CLI, target, 10);
    }
    let mtu = service.inner_mtu();
    traffic::ping_sized(&lab, CLI, "do", mtu).unwrap_or_else(|e| panic!("{mtu} octets with DF: {e}"));
    for target in [ADDRESS.to_owned(), format!("[{}]", mapped(ADDRESS))] {
        lab.must(CLI, 30, &format!("curl -sS -f -o /dev/null http://{target}:8000/blob"));
    }
    crate::rekey_child(&client);
    for target in [ADDRESS, &mapped(ADDRESS)] {
        traffic::ping(&lab, CLI, target, 5);
    }
}
