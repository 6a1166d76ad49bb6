//! What people see: whole, in 80 columns, and nothing of what others wrote steers the terminal.

use std::collections::BTreeMap;

use super::*;
use crate::engine::Snapshot;
use crate::engine::status::{PastError, Traffic, TunnelStatus};

const PLAIN: Look = Look { width: 80, height: None, colour: false, is_watching: false };

fn moment(seconds: u64) -> Moment {
    Moment(Duration::from_secs(1_793_491_200 + seconds))
}

fn device(id: u32, identity: &str) -> DeviceStatus {
    DeviceStatus {
        id,
        identity: identity.to_owned(),
        system: Some("strongSwan".to_owned()),
        address: "198.19.255.2".parse().unwrap(),
        address6: Some("64:ff9b:1:0:7074:6572:c613:ff02".parse().unwrap()),
        remote: "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:51234".parse().unwrap(),
        suite: "IKE ChaCha20-Poly1305/HMAC-SHA2-512/X25519, ESP ChaCha20-Poly1305".to_owned(),
        since: moment(3600),
        seen: moment(7190),
        child_sas: 1,
        child_rekeys: 2,
        ike_rekeys: 1,
        up: Traffic { packets: 10, octets: 1_234_567 },
        down: Traffic { packets: 20, octets: 999_950 },
    }
}

fn status() -> Status {
    Status {
        version: "1.2.3".to_owned(),
        now: moment(7200),
        started: moment(0),
        uplink: UplinkStatus {
            gateway: "vpn.example.com:443".to_owned(),
            state: Uplink::Up,
            since: moment(7020),
            tunnel: Some(TunnelStatus {
                address: "10.9.8.7".parse().unwrap(),
                mtu: 1354,
                dns: vec!["10.0.0.53".parse().unwrap()],
                routes: (0..9).map(|net| format!("10.{net}.0.0/16")).collect(),
                excludes: vec![],
            }),
            session_ends: Some(moment(7200 + 90_000)),
            wanted: None,
            errors: vec![PastError {
                at: moment(60),
                text: "the gateway\u{1b}[2J closed the tunnel".to_owned(),
            }],
        },
        devices: vec![device(7, "alice@example.com"), device(12, &"long".repeat(40))],
        counters: Snapshot {
            up_packets: 30,
            up_bytes: 999,
            down_packets: 40,
            down_bytes: 1_000_000_000_000,
            drops: BTreeMap::from([("esp_replayed".to_owned(), 3), ("nat_no_flow".to_owned(), 12)]),
            ..Snapshot::default()
        },
        queues: Queues::default(),
        ike: Default::default(),
    }
}

fn shown(status: &Status) -> String {
    picture(status, None, &PLAIN).text()
}

#[test]
fn all_of_it_fits_80_columns() {
    let text = shown(&status());
    for line in [
        "pterodapter 1.2.3, running for 2 h 0 min",
        "Uplink    the tunnel is up (for 3 min)",
        "Gateway   vpn.example.com:443",
        "Address   10.9.8.7, MTU 1354",
        "DNS       10.0.0.53",
        "Session   ends in 1 d 1 h",
        "Errors    1 h 59 min ago: the gateway?[2J closed the tunnel",
        &format!("{:<56}{:>12}{:>12}", "Devices   2", "up", "down"),
        &format!("{:<56}{:>12}{:>12}", "   7  alice@example.com (strongSwan)", "1.2 MB", "1.0 MB"),
        "      connected 1 h 0 min ago, seen 10 s ago",
        "Traffic   up 999 B in 30 packets, down 1.0 TB in 40 packets",
        "Dropped   esp_replayed 3, nat_no_flow 12",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nis not in\n{text}");
    }
    assert!(
        text.contains("10.5.0.0/16 and 3 more")
            && text.contains("rekeyed: 2 times the Child SA, 1 times the IKE SA"),
        "{text}"
    );
    assert!(text.contains("longlo... (strongSwan)"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn what_a_person_has_to_do_stands_out() {
    let mut status = status();
    let url = format!("https://vpn.example.com/remote/saml/start?redirect=1&realm={}", "x".repeat(60));
    status.uplink.state = Uplink::Waiting;
    (status.uplink.tunnel, status.devices) = (None, Vec::new());
    status.uplink.wanted = Some(Wanted::Link { url: url.clone(), left: None });
    let text = shown(&status);
    assert!(text.contains("Uplink    waiting for a sign-in (for 3 min)"), "{text}");
    assert!(text.lines().any(|line| line.trim() == url), "whole, to be copied:\n{text}");
    assert!(!text.contains("Address") && text.contains("Devices   0\n"), "{text}");
    // On a screen it must not run out of the line.
    let watching = picture(&status, None, &Look { is_watching: true, ..PLAIN }).text();
    assert!(watching.lines().all(|line| line.chars().count() <= 80), "{watching}");
    assert!(watching.lines().next().unwrap().ends_with("every second; Ctrl-C ends"), "{watching}");
}

#[test]
fn rates_are_those_since_the_last_picture() {
    let (before, mut after) = (status(), status());
    after.now = moment(7202);
    after.devices[0].up.octets += 3000;
    after.devices[0].down.octets += 84;
    let text = picture(&after, Some(&before), &PLAIN).text();
    let rates =
        format!("{:<56}{:>12}{:>12}", "      connected 1 h 0 min ago, seen 12 s ago", "1.5 kB/s", "42 B/s");
    assert!(text.lines().any(|line| line == rates), "{rates}\nis not in\n{text}");
    after.started = moment(7000);
    assert!(!picture(&after, Some(&before), &PLAIN).text().contains("B/s"), "another daemon");
    assert!(!shown(&after).contains("B/s"));
}

#[test]
fn a_small_screen_says_what_it_leaves_out_and_a_wide_one_is_used() {
    let look = Look { height: Some(10), is_watching: true, ..PLAIN };
    let text = picture(&status(), None, &look).text();
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.trim_end().ends_with("more lines)"), "{text}");
    let wide = picture(&status(), None, &Look { width: 132, ..PLAIN }).text();
    assert!(
        wide.lines().any(|line| line.starts_with("   7  alice") && line.chars().count() == 132),
        "{wide}"
    );
    assert!(!picture(&status(), None, &Look { width: 0, ..PLAIN }).text().is_empty());
}

#[test]
fn colours_only_where_they_are_wanted() {
    let text = picture(&status(), None, &Look { colour: true, ..PLAIN }).text();
    assert!(text.contains("\u{1b}[32mthe tunnel is up (for 3 min)\u{1b}[0m"), "{text}");
    let text = absent("no pterodapter listens at /x", &Look { colour: true, ..PLAIN }).text();
    assert!(text.contains("\u{1b}[31mno pterodapter listens at /x\u{1b}[0m"), "{text}");
}

#[test]
fn octets_have_units() {
    for (octets, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (u64::MAX, "18.4 EB"),
    ] {
        assert_eq!(Octets(octets).to_string(), text);
    }
}
