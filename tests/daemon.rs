//! The whole daemon on loopback: the gateway double on one side, the probe client on the other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::skipped_without;
use lab::{Lab, Setup, eventually, password};
use pterodapter::crypto::Cipher;
use pterodapter::demo::gateway::{CloseStyle, Entry, Event, HostCheck, Scenario, TunnelEnd};
use pterodapter::demo::probe::{Client, RecordType, Transport};
use pterodapter::dns::Suffix;
use pterodapter::engine::Split;
use pterodapter::fortivpn::Credentials;

const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const SINK: u16 = 9002;
const SOURCE: u16 = 9001;

#[test]
fn a_client_works_from_connect_to_disconnect() {
    let mut lab = Lab::start(Setup::default());
    let client = lab.connect("laptop.example").unwrap();
    assert_eq!(client.dns_servers(), [Ipv4Addr::new(198, 19, 255, 1)], "the in-tunnel host");
    lab.wait_for_tunnel(1);
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = client.dns("www.corp.example", RecordType::A, transport).unwrap();
        assert_eq!(answer.ipv4(), Some(WEB_SERVER), "{transport:?}");
    }
    assert_eq!(client.http_get("http://10.77.0.80/").unwrap().status, 200);
    move_bytes(&client, WEB_SERVER, 3_000_000);
    client.rekey_child(true).unwrap();
    client.ping(WEB_SERVER).unwrap();
    client.rekey_ike().unwrap();
    client.rekey_child(false).unwrap();
    move_bytes(&client, WEB_SERVER, 1_000_000);
    client.dpd().unwrap();
    client.rebind().unwrap();
    client.ping(WEB_SERVER).unwrap();
    client.disconnect().unwrap();
    assert!(lab.stop());
}

#[test]
fn one_socket_serves_both_families() {
    let lab = Lab::start(Setup { listen: IpAddr::V6(Ipv6Addr::UNSPECIFIED), ..Setup::default() });
    lab.wait_for_tunnel(1);
    for (name, server) in
        [("six.example", IpAddr::V6(Ipv6Addr::LOCALHOST)), ("four.example", IpAddr::V4(Ipv4Addr::LOCALHOST))]
    {
        let mut config = lab.client_config(name);
        config.server.set_ip(server);
        let client = Client::connect(config).unwrap();
        client.ping(WEB_SERVER).unwrap();
        move_bytes(&client, WEB_SERVER, 1_000_000);
        client.disconnect().unwrap();
    }
}

#[test]
fn names_of_the_company_lead_through_nat64() {
    let split = Split {
        nat64: Some("64:ff9b:1::/96".parse().unwrap()),
        dns64_suffixes: vec![Suffix::parse("corp.example").unwrap()],
        ..Split::default()
    };
    for workers in [0, 1] {
        let lab = Lab::start(Setup { workers, split: split.clone(), ..Setup::default() });
        let mut config = lab.client_config("laptop.example");
        config.ipv6 = true;
        config.timeout = Duration::from_secs(3);
        if workers > 0 {
            config.esp = vec![Cipher::ChaCha20Poly1305];
        }
        let client = Client::connect(config).unwrap();
        lab.wait_for_tunnel(1);
        let mapped: Ipv6Addr = "64:ff9b:1::a4d:50".parse().unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = client.dns("www.corp.example", RecordType::Aaaa, transport).unwrap();
            assert_eq!(answer.ipv6(), Some(mapped), "{transport:?}");
            let answer = client.dns("www.corp.example", RecordType::A, transport).unwrap();
            assert_eq!((answer.rcode, answer.ipv4()), (0, None), "no way around the tunnel");
        }
        client.ping6(mapped).unwrap();
        assert_eq!(client.http_get("http://www.corp.example/").unwrap().status, 200);
        move_bytes(&client, mapped, 3_000_000);
        assert!(client.ping(WEB_SERVER).is_err(), "IPv4 is not offered");
        let drops = lab.daemon().counters().snapshot().drops;
        assert!(drops.iter().all(|(name, _)| *name == "inner_selector"), "{drops:?}");
    }
}

#[test]
fn tunnel_domains_are_looked_up_and_nothing_else_takes_the_tunnel() {
    let moving = |last| Ipv4Addr::new(10, 77, 1, last);
    let scenario = |last| Scenario { moving: moving(last), ..Scenario::default() };
    let split = Split {
        tunnel_domains: vec![Suffix::parse("moving.corp.example").unwrap()],
        nat64: Some("64:ff9b:1::/96".parse().unwrap()),
        ..Split::default()
    };
    let lab = Lab::start(Setup { scenario: scenario(1), split, ..Setup::default() });
    let mut config = lab.client_config("laptop.example");
    config.ipv6 = true;
    config.timeout = Duration::from_secs(3);
    let client = Client::connect(config).unwrap();
    let routes_are = |expected: &[Ipv4Addr]| {
        eventually(Duration::from_secs(40), "a rekey of ours brings the addresses", || {
            let mut routes = client.routes();
            routes.sort_by_key(|route| route.first);
            routes.iter().all(|route| route.first == route.last)
                && routes.iter().map(|route| route.first).eq(expected.iter().copied().map(IpAddr::V4))
        });
    };
    let host = Ipv4Addr::new(198, 19, 255, 1);
    for (tunnel, last) in [(1, 1), (2, 9)] {
        lab.wait_for_tunnel(tunnel);
        routes_are(&[moving(last), host]);
        client.ping(moving(last)).unwrap();
        let [mapped] = client.routes6()[..] else { panic!("{:?}", client.routes6()) };
        assert_eq!(mapped.first, "64:ff9b:1::".parse::<IpAddr>().unwrap());
        lab.gateway.set_scenario(scenario(9));
        lab.gateway.kick_tunnels(CloseStyle::Fin);
    }
    assert!(client.ping(WEB_SERVER).is_err(), "it is not offered");
}

#[test]
fn workers_keep_the_order_of_a_dear_cipher() {
    let lab = Lab::start(Setup { workers: 1, ..Setup::default() });
    let mut config = lab.client_config("laptop.example");
    config.esp = vec![Cipher::ChaCha20Poly1305];
    let client = Client::connect(config).unwrap();
    lab.wait_for_tunnel(1);
    move_bytes(&client, WEB_SERVER, 5_000_000);
    let counters = lab.daemon().counters().snapshot();
    assert!(counters.jobs_offloaded > 0, "{counters:?}");
    assert_eq!(client.counters().esp_replayed, 0);
}

#[test]
fn two_devices_share_the_one_address() {
    let lab = Lab::start(Setup::default());
    let (one, two) = (lab.connect("one.example").unwrap(), lab.connect("two.example").unwrap());
    assert_ne!(one.address(), two.address());
    lab.wait_for_tunnel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| move_bytes(&one, WEB_SERVER, 1_000_000));
        scope.spawn(|| move_bytes(&two, WEB_SERVER, 1_000_000));
    });
}

#[test]
fn clients_stay_connected_while_the_tunnel_drops() {
    let lab = Lab::start(Setup::default());
    let client = lab.connect("laptop.example").unwrap();
    lab.wait_for_tunnel(1);
    for (tunnels, style) in (2..).zip([CloseStyle::Fin, CloseStyle::Reset, CloseStyle::Terminate]) {
        lab.gateway.kick_tunnels(style);
        client.dpd().unwrap();
        lab.wait_for_tunnel(tunnels);
        client.ping(WEB_SERVER).unwrap();
    }
}

#[test]
fn the_browser_signs_in_and_the_end_is_orderly() {
    if skipped_without("curl") {
        return;
    }
    let scenario = Scenario { host_check: HostCheck::Hop, ..Scenario::default() };
    let credentials = Credentials::Saml;
    let mut lab = Lab::start(Setup { scenario, credentials, ..Setup::default() });
    let client = lab.connect("laptop.example").unwrap();
    let address = lab.daemon().page_addresses()[0];
    eventually(Duration::from_secs(10), "the daemon waits for the browser", || {
        curl(&[&format!("http://{address}/")]).contains("Waiting for a sign-in")
    });
    // What a browser and its neighbours do: ask for an icon, connect in advance, bring nonsense.
    let _speculative = TcpStream::connect(address).unwrap();
    curl(&[&format!("http://{address}/favicon.ico")]);
    curl(&[&format!("http://{address}/?id=..%2f..%0d%0aX")]);
    let start = format!("https://{}/remote/saml/start?redirect=1", lab.gateway.addr());
    let page = curl(&["--insecure", "--location", &start]);
    assert!(page.contains("Signed in, you can close this tab."), "{page}");
    lab.wait_for_tunnel(1);
    assert!(lab.stop());
    let journal = lab.gateway.journal();
    let trades = journal.iter().filter(|entry| matches!(entry.event, Event::SamlTrade(_))).count();
    assert_eq!(trades, 1, "only the good id was traded");
    let terminated =
        |entry: &Entry| matches!(entry.event, Event::TunnelDown { why: TunnelEnd::ClientTerminated, .. });
    let logged_out =
        |entry: &Entry| matches!(&entry.event, Event::Request(head) if head.path == "/remote/logout");
    let at = |found: &dyn Fn(&Entry) -> bool| journal.iter().position(found);
    let order = (at(&terminated), at(&logged_out));
    assert!(order.0.is_some() && order.0 < order.1, "Terminate, then logout: {order:?}");
    eventually(Duration::from_secs(2), "the client was told", || client.is_closed());
}

#[test]
fn a_refused_password_is_sent_once() {
    let lab = Lab::start(Setup { credentials: password("wrong"), ..Setup::default() });
    let attempts = || {
        let logins = |entry: &&Entry| matches!(entry.event, Event::Login { .. });
        lab.gateway.journal().iter().filter(logins).count()
    };
    eventually(Duration::from_secs(10), "the password is tried", || attempts() == 1);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(attempts(), 1);
    // Clients connect all the same.
    lab.connect("laptop.example").unwrap().dpd().unwrap();
}

fn curl(arguments: &[&str]) -> String {
    let output =
        Command::new("curl").args(["--silent", "--max-time", "10"]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Moves `count` octets each way.
fn move_bytes(client: &Client, to: impl Into<IpAddr>, count: usize) {
    let to = to.into();
    let mut up = client.tcp_connect(SocketAddr::new(to, SINK)).unwrap();
    up.write_all(&vec![7; count]).unwrap();
    up.shutdown_write();
    let mut counted = [0; 8];
    up.read_exact(&mut counted).unwrap();
    assert_eq!(u64::from_be_bytes(counted), count as u64);

    let mut down = client.tcp_connect(SocketAddr::new(to, SOURCE)).unwrap();
    down.write_all(&(count as u64).to_be_bytes()).unwrap();
    let mut all = Vec::new();
    down.take(count as u64).read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), count);
}
