//! The whole daemon on loopback: the gateway double on one side, the probe client on the other.

#[path = "daemon/lab.rs"]
mod lab;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lab::{Lab, eventually};
use pterodapter::crypto::Aead;
use pterodapter::demo::gateway::{CloseStyle, Scenario};
use pterodapter::demo::probe::{Client, RecordType, Transport};

const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const SINK: u16 = 9002;
const SOURCE: u16 = 9001;

#[test]
fn a_client_works_from_connect_to_disconnect() {
    let mut lab = Lab::start(Scenario::default(), 0);
    let client = lab.connect("laptop.example").unwrap();
    assert_eq!(client.dns_servers(), [Ipv4Addr::new(198, 19, 255, 1)], "the in-tunnel host");
    wait_for_uplink(&client);
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = client.dns("www.corp.example", RecordType::A, transport).unwrap();
        assert_eq!(answer.ipv4(), Some(WEB_SERVER), "{transport:?}");
    }
    assert_eq!(client.http_get("http://10.77.0.80/").unwrap().status, 200);
    move_bytes(&client, 3_000_000);
    client.rekey_child(true).unwrap();
    client.ping(WEB_SERVER).unwrap();
    client.rekey_ike().unwrap();
    client.rekey_child(false).unwrap();
    move_bytes(&client, 1_000_000);
    client.dpd().unwrap();
    client.rebind().unwrap();
    client.ping(WEB_SERVER).unwrap();
    client.disconnect().unwrap();
    assert!(lab.stop());
}

#[test]
fn workers_keep_the_order_of_a_dear_cipher() {
    let lab = Lab::start(Scenario::default(), 1);
    let mut config = lab.client_config("laptop.example");
    config.esp = vec![Aead::ChaCha20Poly1305];
    let client = Client::connect(config).unwrap();
    wait_for_uplink(&client);
    move_bytes(&client, 5_000_000);
    let counters = lab.daemon().counters().snapshot();
    assert!(counters.jobs_offloaded > 0, "{counters:?}");
    assert_eq!(client.counters().esp_replayed, 0);
}

#[test]
fn two_devices_share_the_one_address() {
    let lab = Lab::start(Scenario::default(), 0);
    let (one, two) = (lab.connect("one.example").unwrap(), lab.connect("two.example").unwrap());
    assert_ne!(one.address(), two.address());
    wait_for_uplink(&one);
    std::thread::scope(|scope| {
        scope.spawn(|| move_bytes(&one, 1_000_000));
        scope.spawn(|| move_bytes(&two, 1_000_000));
    });
}

#[test]
fn clients_stay_connected_while_the_tunnel_drops() {
    let lab = Lab::start(Scenario::default(), 0);
    let client = lab.connect("laptop.example").unwrap();
    wait_for_uplink(&client);
    for style in [CloseStyle::Fin, CloseStyle::Reset, CloseStyle::Terminate] {
        lab.gateway.kick_tunnels(style);
        eventually(Duration::from_secs(30), "the tunnel comes back", || client.ping(WEB_SERVER).is_ok());
        client.dpd().unwrap();
    }
}

/// Signing in takes a moment; pings meanwhile get ICMP unreachable.
fn wait_for_uplink(client: &Client) {
    eventually(Duration::from_secs(15), "the tunnel comes up", || client.ping(WEB_SERVER).is_ok());
}

/// Moves `count` octets each way.
fn move_bytes(client: &Client, count: usize) {
    let mut up = client.tcp_connect(SocketAddrV4::new(WEB_SERVER, SINK)).unwrap();
    up.write_all(&vec![7; count]).unwrap();
    up.shutdown_write();
    let mut counted = [0; 8];
    up.read_exact(&mut counted).unwrap();
    assert_eq!(u64::from_be_bytes(counted), count as u64);

    let mut down = client.tcp_connect(SocketAddrV4::new(WEB_SERVER, SOURCE)).unwrap();
    down.write_all(&(count as u64).to_be_bytes()).unwrap();
    let mut all = Vec::new();
    down.take(count as u64).read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), count);
}
