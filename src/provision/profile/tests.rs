use std::time::Duration;

use super::*;
use crate::provision::Authority;

const WALL: Duration = Duration::from_secs(1_800_000_000);

/// Calls `test` with a plain profile.
fn with_profile(test: impl FnOnce(Profile<'_>)) {
    let authority = Authority::new("A <CA>", WALL, 100).unwrap();
    let identity = authority.issue_client("tablet", WALL, 50).unwrap();
    test(Profile {
        server: "vpn.example.com",
        port: None,
        device: "tablet",
        identity: &identity,
        authority_name: "A <CA>",
        authority_pem: authority.cert_pem(),
        authority_der: authority.cert_der(),
        pkcs12: &[1, 2, 3],
        dns_server: Ipv4Addr::new(198, 19, 255, 1),
        nat64_prefix: None,
        split: false,
        routes: &[],
        domains: &[],
        on_demand: false,
    });
}

#[test]
fn uuids_follow_from_names() {
    let one = uuid(&["a", "b"]);
    assert_eq!(one, uuid(&["a", "b"]));
    assert_ne!(one, uuid(&["ab"]));
    let groups: Vec<_> = one.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert_eq!(one.as_bytes()[14], b'5');
    assert!(b"89AB".contains(&one.as_bytes()[19]), "{one}");
}

#[test]
fn texts_escape_what_has_a_meaning() {
    with_profile(|profile| {
        assert!(apple::mobileconfig(&profile).contains("<string>A &lt;CA&gt;</string>"));
    });
    assert_eq!(json("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
}

#[test]
fn the_same_names_give_the_same_profile() {
    let mut seen = None;
    for _ in 0..2 {
        with_profile(|profile| {
            let uuids: Vec<_> = apple::mobileconfig(&profile)
                .lines()
                .filter(|line| line.contains("UUID<"))
                .map(str::to_owned)
                .collect();
            assert_eq!(uuids.len(), 5, "four payloads and a reference");
            assert!(seen.get_or_insert_with(|| uuids.clone()) == &uuids);
        });
    }
}

#[test]
fn on_demand_is_said_only_on_demand() {
    with_profile(|mut profile| {
        assert!(!apple::mobileconfig(&profile).contains("OnDemand"));
        profile.on_demand = true;
        assert!(apple::mobileconfig(&profile).contains("<key>Action</key><string>Connect</string>"));
        let domains = ["corp.example".to_owned()];
        let profile = Profile { domains: &domains, ..profile };
        let text = apple::mobileconfig(&profile);
        assert!(
            text.contains("EvaluateConnection") && text.contains("<string>corp.example</string>"),
            "{text}"
        );
    });
}

#[test]
fn windows_is_told_routes_and_names_only_where_there_are_some() {
    with_profile(|profile| {
        let plain = windows::install(&profile);
        assert!(!plain.contains("SplitTunneling") && !plain.contains("Nrpt"), "{plain}");
        assert!(plain.lines().count() > 20 && !plain.replace("\r\n", "").contains('\n'));
        let (routes, domains) = (["10.0.0.0/8".to_owned()], ["corp.example".to_owned()]);
        let profile = Profile {
            split: true,
            routes: &routes,
            domains: &domains,
            nat64_prefix: Some("64:ff9b:1::/96".to_owned()),
            ..profile
        };
        let split = windows::install(&profile);
        for part in [
            "foreach ($network in '198.19.255.1/32', '64:ff9b:1::/96', '10.0.0.0/8') {",
            "foreach ($domain in '.corp.example') {",
            "-NameServers '198.19.255.1' -Comment 'pterodapter vpn.example.com'",
        ] {
            assert!(split.contains(part), "{part} is not in\n{split}");
        }
        let undo = windows::remove(&profile);
        assert!(
            undo.contains("'My\\") && undo.contains("Comment -eq 'pterodapter vpn.example.com'"),
            "{undo}"
        );
    });
}

#[test]
fn other_ports_are_told_to_those_who_can_use_them() {
    with_profile(|mut profile| {
        let texts = |profile: &Profile<'_>| {
            [strongswan::swanctl(profile), android::sswan(profile), networkmanager::nmconnection(profile)]
        };
        assert!(texts(&profile).iter().all(|text| !text.contains("port")));
        profile.port = Some(5501);
        for (text, says) in
            texts(&profile).iter().zip(["remote_port = 5501", "\"port\": 5501,", "server-port=5501"])
        {
            assert!(text.contains(says), "{text}");
        }
    });
}
