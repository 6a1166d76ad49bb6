//! Real peers in network namespaces: Debian's strongSwan, which does ESP in user space, against the real
//! binary and the gateway double, with real servers behind it. Needs root and what `tests/setup`
//! installs; each test has a lab of its own, one at a time. With PTERODAPTER_NETNS_REFERENCE=1 strongSwan is the
//! responder, too: what then fails is a fault of the tests.

mod company;
mod credentials;
mod crowd;
mod lab;
mod matrix;
mod mobility;
mod nat64;
mod pki;
mod post_quantum;
mod profile;
mod routes;
mod second_implementation;
mod service;
mod strongswan;
mod traffic;
mod uplink;
mod without_certificates;

use std::time::Duration;

use company::ADDRESS;
use lab::*;
use pki::*;
use service::*;
use strongswan::*;

/// A client as somebody's operating system would configure it.
struct Os {
    name: &'static str,
    charon: &'static str,
    connection: &'static str,
    ike: &'static str,
    esp: &'static str,
}

/// strongSwan in the clothes of other systems: proposals, signature methods, ports.
const SYSTEMS: [Os; 10] = [
    Os { name: "strongSwan's defaults", charon: "", connection: "", ike: "default", esp: "default" },
    Os {
        name: "Windows, set up with PowerShell",
        charon: "signature_authentication = no",
        connection: "",
        ike: "aes256gcm16-prfsha384-ecp384",
        esp: "aes256gcm16-ecp384",
    },
    Os {
        name: "Windows, without PFS",
        charon: "signature_authentication = no",
        connection: "",
        ike: "aes128gcm16-prfsha256-ecp256",
        esp: "aes128gcm16",
    },
    Os {
        name: "macOS",
        charon: "signature_authentication = no",
        connection: "",
        ike: "aes256gcm16-prfsha256-ecp256,aes256gcm16-prfsha256-modp2048,aes256-sha256-ecp256,aes256-sha256-modp2048",
        esp: "aes256gcm16-ecp256,aes256gcm16",
    },
    Os {
        name: "macOS 13, set up by hand",
        charon: "signature_authentication = no",
        connection: "",
        ike: "aes256-sha256-modp2048",
        esp: "aes256-sha256",
    },
    Os {
        name: "iOS 16, set up by hand",
        charon: "signature_authentication = no",
        connection: "",
        ike: "aes256-sha256-modp2048,aes256-sha256-ecp256,aes256-sha256-modp1536,aes128-sha1-modp1024,3des-sha1-modp1024",
        esp: "aes256-sha256,aes128-sha1,3des-sha1",
    },
    Os {
        name: "Windows with the registry value",
        charon: "signature_authentication = no",
        connection: "",
        ike: "3des-sha1-modp2048,aes256-sha1-modp2048,3des-sha256-modp2048,aes256-sha256-modp2048,aes256-sha384-modp2048",
        esp: "aes256-sha1,aes128-sha1,3des-sha1",
    },
    // Guesses a group for KE that we like less, and starts on port 4500.
    Os {
        name: "Android",
        charon: "",
        connection: "remote_port = 4500\n  local_port = 4500",
        ike: "aes256ctr-aes256-sha512-sha384-sha256-prfsha512-prfsha384-prfsha256-modp4096-curve25519-modp3072-modp2048,\
              chacha20poly1305-aes256gcm16-aes128gcm16-prfsha512-prfsha384-prfsha256-modp4096-curve25519-modp3072-modp2048",
        esp: "aes256-aes128-sha512-sha384-sha256,chacha20poly1305-aes256gcm16-aes128gcm16",
    },
    Os {
        name: "NetworkManager, from ephemeral ports",
        charon: "port = 0\n port_nat_t = 0",
        connection: "",
        ike: "default",
        esp: "default",
    },
    Os {
        name: "ChaCha20",
        charon: "",
        connection: "",
        ike: "chacha20poly1305-prfsha512-curve25519",
        esp: "chacha20poly1305-curve25519",
    },
];

#[test]
fn clients_of_many_systems_connect_with_ecdsa_certificates() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    let alice = service.person("alice");
    for Os { name, charon, connection, ike, esp } in SYSTEMS {
        let (connection, child) =
            (format!("proposals = {ike}\n  {connection}"), format!("esp_proposals = {esp}"));
        let config = ClientConfig {
            charon,
            connection: &connection,
            child: &child,
            ..service.config(CLI, "alice", &alice)
        };
        let client = Strongswan::client(&lab, CLI, &config);
        client.connect().unwrap_or_else(|e| panic!("{name} cannot connect:\n{e}"));
        traffic::ping(&lab, CLI, ADDRESS, 3);
        rekey_child(&client);
        traffic::ping(&lab, CLI, ADDRESS, 3);
        rekey_ike(&client);
        rekey_child(&client);
        traffic::ping(&lab, CLI, ADDRESS, 3);
        client.must("--terminate --ike vpn");
        client.wait_gone(Duration::from_secs(3));
    }
    // None of these clothes hides what it is.
    let recognised = service.log().matches(" (strongSwan), has ").count();
    assert!(service.is_reference() || recognised == SYSTEMS.len(), "{}", service.log());
}

/// Windows without any setting, which only an option lets in.
#[test]
fn windows_with_its_own_defaults_needs_an_option() {
    let Some(lab) = Lab::open() else { return };
    let suites = ["3des", "aes128", "aes192", "aes256"]
        .map(|cipher| ["sha1", "sha256", "sha384"].map(|hash| format!("{cipher}-{hash}-modp1024")).join(","));
    let connection = &format!("proposals = {}", suites.join(","));
    let child = "esp_proposals = aes256-sha1,aes128-sha1,3des-sha1";
    let charon = "signature_authentication = no";
    let mut service = Service::start_with(&lab, Key::P256, &["--allow-weak-windows-defaults"]);
    let alice = service.person("alice");
    let config = ClientConfig { charon, connection, child, ..service.config(CLI, "alice", &alice) };
    let client = Strongswan::client(&lab, CLI, &config);
    client.connect().unwrap_or_else(|e| panic!("cannot connect:\n{e}"));
    traffic::ping(&lab, CLI, ADDRESS, 3);
    traffic::iperf(&lab, CLI, "-R -P 2").assert_passed("TCP by AES-CBC, down");
    traffic::iperf(&lab, CLI, "-P 2").assert_passed("TCP by AES-CBC, up");
    assert!(
        client.sas().contains("AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_1024"),
        "{}",
        client.sas()
    );
    assert!(service.log().contains("1024-bit MODP, which states can break"), "a warning");
    service.stop_with_drops(&["too_big", "uplink_full"]);
}

#[test]
fn clients_connect_with_rsa_certificates() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::Rsa2048);
    let alice = service.person("alice");
    for charon in ["rsa_pss = no", "rsa_pss = yes"] {
        let config = ClientConfig { charon, ..service.config(CLI, "alice", &alice) };
        let client = Strongswan::client(&lab, CLI, &config);
        client.connect().unwrap_or_else(|e| panic!("{charon}: cannot connect:\n{e}"));
        assert!(client.log().contains("IKE_AUTH request 1 [ EF(2/"), "the request was to come in fragments");
        traffic::ping(&lab, CLI, ADDRESS, 3);
    }
}

#[test]
fn a_client_connects_over_ipv6() {
    let Some(lab) = Lab::open() else { return };
    for (role, dev, address) in [(CLI, "up0", "fd99:1::2"), (SRV, "cli0", "fd99:1::1")] {
        lab.must(role, 5, &format!("sysctl -qw net.ipv6.conf.{dev}.disable_ipv6=0"));
        lab.ip(role, &format!("address add {address}/64 dev {dev} nodad"));
    }
    let service = Service::start(&lab, Key::P256);
    let alice = service.person("alice");
    let config = ClientConfig { server: "fd99:1::1", ..service.config(CLI, "alice", &alice) };
    let client = Strongswan::client(&lab, CLI, &config);
    client.connect().unwrap_or_else(|e| panic!("cannot connect:\n{e}"));
    assert!(client.sas().contains("@ fd99:1::1[4500]"), "{}", client.sas());
    let mtu = service.inner_mtu();
    traffic::ping_sized(&lab, CLI, "do", mtu).unwrap_or_else(|e| panic!("{mtu} octets with DF: {e}"));
    traffic::web(&lab, CLI);
    rekey_child(&client);
    rekey_ike(&client);
    traffic::ping(&lab, CLI, ADDRESS, 5);
}

#[test]
fn traffic_passes_in_every_size_and_direction() {
    let Some(lab) = Lab::open() else { return };
    let mut service = Service::start(&lab, Key::P256);
    let client = service.connected(CLI, "alice");
    traffic::ping(&lab, CLI, ADDRESS, 20);
    traffic::ping(&lab, CLI, &traffic::dns_server(&lab, CLI), 5);
    traffic::names(&lab, CLI);
    traffic::web(&lab, CLI);

    let mtu = service.inner_mtu();
    for len in [28, 29, 576, 1280, mtu - 1, mtu] {
        traffic::ping_sized(&lab, CLI, "do", len).unwrap_or_else(|e| panic!("{len} octets with DF: {e}"));
    }
    for len in [mtu, mtu + 1, mtu + 8, 1400, 1500, 3000, 8000] {
        traffic::ping_sized(&lab, CLI, "dont", len).unwrap_or_else(|e| panic!("{len} octets: {e}"));
    }
    let refused =
        traffic::ping_sized(&lab, CLI, "do", mtu + 1).expect_err("too big and must not be fragmented");
    assert!(
        refused.contains(&format!("mtu={mtu}")) || refused.contains(&format!("mtu = {mtu}")),
        "{refused}"
    );

    for streams in ["-P 1", "-P 4"] {
        for direction in ["", "-R"] {
            let flow = traffic::iperf(&lab, CLI, &format!("{streams} {direction}"));
            flow.assert_passed(&format!("TCP {streams} {direction}"));
            assert!(flow.mss <= f64::from(mtu - 40), "MSS {} is not clamped", flow.mss);
            // 20 Mbit/s in all, whatever the number of streams.
            let rate = if streams == "-P 1" { "-b 20M" } else { "-b 5M" };
            let flow = traffic::iperf(&lab, CLI, &format!("-u {rate} {streams} {direction}"));
            flow.assert_passed(&format!("UDP {streams} {direction}"));
        }
    }

    // A path that takes less than a sealed packet of that size: fragments outside.
    for (role, dev) in [(CLI, "up0"), (SRV, "cli0")] {
        lab.ip(role, &format!("link set mtu 1380 dev {dev}"));
    }
    traffic::ping_sized(&lab, CLI, "do", mtu)
        .unwrap_or_else(|e| panic!("{mtu} octets on a narrow path: {e}"));
    traffic::web(&lab, CLI);
    traffic::iperf(&lab, CLI, "-R -P 4").assert_passed("TCP on a narrow path");
    assert!(!client.log().contains("sequence number verification failed"), "the responder reordered packets");
    service.stop_with_drops(&["too_big", "uplink_full"]);
}

#[test]
fn rekeying_loses_nothing() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    let client = service.connected(CLI, "alice");
    let address = client.inner_address();
    let pings: Vec<_> = "ping -n -i 0.01 -c 500 -W 2".split(' ').chain([ADDRESS]).collect();
    let mut pings = lab.start(CLI, "ping", &[], &pings);
    for _ in 0..2 {
        rekey_child(&client);
        std::thread::sleep(Duration::from_millis(500));
        rekey_ike(&client);
        std::thread::sleep(Duration::from_millis(500));
    }
    pings.wait(Duration::from_secs(15));
    assert!(pings.log().contains(" 0% packet loss"), "{}", pings.log());

    let (_server, port) = company::start_iperf(&lab);
    let load: Vec<_> = format!("iperf3 -c {ADDRESS} -p {port} -t 5 -P 4 -R -i 1 --forceflush")
        .split(' ')
        .map(str::to_owned)
        .collect();
    let mut load = lab.start(CLI, "iperf3", &[], &load);
    std::thread::sleep(Duration::from_secs(1));
    rekey_child(&client);
    std::thread::sleep(Duration::from_secs(1));
    rekey_ike(&client);
    rekey_child(&client);
    assert!(load.wait(Duration::from_secs(15)), "{}", load.log());
    let stalled = load.log().lines().filter(|l| l.starts_with("[SUM]")).any(|l| l.contains(" 0.00 bits/sec"));
    assert!(!stalled, "{}", load.log());
    assert_eq!(client.inner_address(), address);
}

#[test]
fn two_clients_at_once() {
    let Some(lab) = Lab::open() else { return };
    let mut service = Service::start(&lab, Key::P256);
    let alice = service.connected(CLI, "alice");
    let bob = service.connected(CLI2, "bob");
    assert_ne!(alice.inner_address(), bob.inner_address());
    std::thread::scope(|scope| {
        for role in [CLI, CLI2] {
            let lab = &lab;
            scope.spawn(move || {
                traffic::ping(lab, role, ADDRESS, 20);
                traffic::names(lab, role);
                traffic::web(lab, role);
                for how in ["-P 4", "-P 4 -R", "-u -b 10M -R"] {
                    traffic::iperf(lab, role, how).assert_passed(&format!("{role}: {how}"));
                }
            });
        }
    });
    bob.must("--terminate --ike vpn");
    bob.wait_gone(Duration::from_secs(3));
    traffic::ping(&lab, CLI, ADDRESS, 5);
    assert!(!lab.run(CLI2, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok, "bob is out");
    drop(bob);

    // A second device of the same person, with a certificate of its own, does not push out the first.
    let tablet = service.connected(CLI2, "alice");
    assert_ne!(alice.inner_address(), tablet.inner_address());
    for role in [CLI, CLI2] {
        traffic::ping(&lab, role, ADDRESS, 5);
    }
    service.stop_with_drops(&["too_big", "uplink_full"]);
}

#[test]
fn a_client_moves_to_another_address() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    let client = service.connected(CLI, "alice");
    let inner = client.inner_address();
    traffic::ping(&lab, CLI, ADDRESS, 5);
    lab.ip(CLI, "address add 10.99.1.77/24 dev up0");
    lab.ip(CLI, "address delete 10.99.1.2/24 dev up0");
    wait_for("the client at its new address", Duration::from_secs(20), || {
        client.sas().contains(" @ 10.99.1.77[").then_some(())
    });
    wait_for("traffic from the new address", Duration::from_secs(10), || {
        lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok.then_some(())
    });
    traffic::ping(&lab, CLI, ADDRESS, 20);
    traffic::web(&lab, CLI);
    assert_eq!(client.inner_address(), inner);
    rekey_child(&client);
    traffic::ping(&lab, CLI, ADDRESS, 5);
}

#[test]
fn a_nat_on_the_way_changes_its_mapping() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    mobility::translate_port(&lab, "ip", 14500);
    let client = service.connected(CLI, "alice");
    traffic::ping(&lab, CLI, ADDRESS, 5);
    if service.is_reference() {
        return; // It waits for MOBIKE.
    }
    for port in [24500, 34500] {
        mobility::translate_port(&lab, "ip", port);
        // ESP alone has to move the responder's answers, from the first packet on.
        traffic::ping(&lab, CLI, ADDRESS, 10);
        traffic::iperf(&lab, CLI, "-R");
        rekey_child(&client);
        traffic::ping(&lab, CLI, ADDRESS, 5);
    }
}

#[test]
fn strangers_are_refused() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab, Key::P256);
    let alice = service.person("alice");
    let expired = service.authority.issue("expired", "DNS:expired", Usage::ExpiredClient);
    let stranger = Authority::new(&lab, "stranger", Key::P256);
    let mallory = stranger.issue("mallory", "DNS:mallory", Usage::Client);
    // The stranger's authority under the company's name: its key decides, not its name.
    let impostor = Authority::named(&lab, "impostor", "company", Key::P256);
    let false_alice = impostor.issue("alice", "DNS:alice", Usage::Client);

    let refused = |config: ClientConfig, text: &str| {
        let client = Strongswan::client(&lab, CLI, &config);
        let why = client.connect().expect_err("must be refused");
        assert!(why.contains(text), "expected {text:?}:\n{why}");
        client.wait_gone(Duration::from_secs(3));
        assert!(!lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok, "a refused client must not pass");
    };
    let failed = "AUTHENTICATION_FAILED";
    refused(service.config(CLI, "expired", &expired), failed);
    refused(service.config(CLI, "mallory", &mallory), failed);
    refused(service.config(CLI, "alice", &false_alice), failed);
    if !service.is_reference() {
        let server = service.authority.issue("other", "DNS:other", Usage::Server);
        refused(service.config(CLI, "other", &server), failed);
    }
    // A good certificate of somebody else.
    let bob = service.person("bob");
    refused(ClientConfig { id: "alice", ..service.config(CLI, "bob", &bob) }, failed);
    // The other way round: the client does not trust the responder's authority, or asked for another name.
    let untrusted = ClientConfig { trust: stranger.cert(), ..service.config(CLI, "alice", &alice) };
    refused(untrusted, "no trusted");
    let other = ClientConfig { server_id: "other.example.test", ..service.config(CLI, "alice", &alice) };
    refused(other, "failed");

    let _client = service.connected(CLI, "alice");
    traffic::ping(&lab, CLI, ADDRESS, 5);
    if !service.is_reference() {
        let log = service.log();
        for line in [
            "(expired) was not let in: the client's certificate is not trusted: certificate has expired",
            "(mallory) was not let in: the client's certificate is not trusted",
            "(alice) was not let in: the client's certificate is not trusted",
            "(alice) was not let in: the client's identity is not in its certificate",
            "(other) was not let in: the client's certificate is not trusted",
            "alice is gone: the client does not accept our certificate",
        ] {
            assert!(log.contains(line), "the daemon does not say that {line}:\n{log}");
        }
    }
}

#[test]
fn disconnecting_is_noticed_by_the_other_side() {
    let Some(lab) = Lab::open() else { return };
    let mut service = Service::start(&lab, Key::P256);
    let client = service.connected(CLI, "alice");
    traffic::ping(&lab, CLI, ADDRESS, 3);
    for _ in 0..2 {
        client.must("--terminate --ike vpn");
        client.wait_gone(Duration::from_secs(3));
        assert!(!lab.run(CLI, 5, &format!("ping -c 1 -W 1 {ADDRESS}")).ok, "disconnected");
        client.connect().expect("connects again");
        traffic::ping(&lab, CLI, ADDRESS, 3);
    }
    // The responder goes: it tells the client.
    assert!(service.stop(), "the responder did not end well:\n{}", service.log());
    client.wait_gone(Duration::from_secs(5));
    if !service.is_reference() {
        let log = service.log();
        assert_eq!(log.matches("alice is gone: disconnected by the client").count(), 2, "{log}");
    }
}

/// Rekeys the Child SA: another one takes its place, and it is the only one soon.
fn rekey_child(client: &Strongswan) {
    let before = client.child_spis();
    client.must("--rekey --child net");
    wait_for("another Child SA, alone", Duration::from_secs(12), || {
        let after = client.child_spis();
        (after.len() == 1 && after != before).then_some(())
    });
}

/// Rekeys the IKE SA: another one takes its place and inherits the Child SA.
fn rekey_ike(client: &Strongswan) {
    let (before, child) = (client.ike_spis(), client.child_spis());
    client.must("--rekey --ike vpn");
    wait_for("another IKE SA, alone", Duration::from_secs(12), || {
        let after = client.ike_spis();
        (after.len() == 1 && after != before).then_some(())
    });
    assert_eq!(client.child_spis(), child);
}
