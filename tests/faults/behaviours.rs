//! B1 to B24 without those that are about second factors (`sign_in`) and TLS (`tests/transport.rs`): what FortiGates
//! do on good days.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pterodapter::demo::gateway::{
    AnswerFault, CloseStyle, Entry, Event, Fault, HostCheck, Ipv6Offer, LoginOutcome, Moment, Order,
    PppKnobs, RequestHead, Scenario, SecondTunnel, TunnelEnd, User,
};
use pterodapter::demo::probe::{RecordType, Transport};

use super::lab::{PASSWORD, Setup, eventually};
use super::*;

const PATHS: [&str; 7] = [
    LOGIN,
    "/remote/hostcheck_install",
    "/remote/hostcheck_validate",
    "/remote/saml/auth_id",
    CONFIG,
    TUNNEL,
    LOGOUT,
];

fn heads(lab: &Lab) -> Vec<RequestHead> {
    let head = |entry: Entry| match entry.event {
        Event::Request(head) => Some(head),
        _ => None,
    };
    lab.gateway.journal().into_iter().filter_map(head).collect()
}

fn in_realm(realm: Option<&str>) -> Setup {
    let realm = realm.map(str::to_owned);
    Setup {
        users: vec![User::new("alice", PASSWORD).in_realm("staff")],
        configure: Box::new(|config| config.uplink.realm = realm),
        ..Setup::default()
    }
}

#[test]
fn b01_the_account_is_in_the_realm_that_was_given_whatever_the_entry_looks_like() {
    each([true, false], |script_entry| {
        let lab = works(Setup {
            scenario: Scenario { script_entry, ..Scenario::default() },
            ..in_realm(Some("staff"))
        });
        let granted = |event: &Event| matches!(event, Event::Login { realm, outcome: LoginOutcome::Granted, .. } if realm == "staff");
        assert_eq!((lab.posts(), lab.count(granted)), (1, 1));
    });
    each([None, Some("staf")], |realm| {
        let lab = fails(in_realm(realm), "realm");
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn b02_the_login_page_is_not_needed_for_a_password() {
    let lab =
        works(Setup::of(Scenario { language_redirect: true, ..fault("/remote/login", Fault::status(404)) }));
    assert_eq!((lab.posts(), lab.requests("/remote/login")), (1, 0));
}

#[test]
fn b03_the_plain_form_is_enough_and_nothing_is_probed() {
    let lab = works(Setup::of(fault("/remote/info", Fault::status(404))));
    assert_eq!(lab.requests("/remote/info"), 0);
    let form = heads(&lab).into_iter().find(|head| head.path == LOGIN).unwrap().form_keys;
    assert_eq!(form, ["username", "credential", "realm", "ajax", "just_logged_in"]);
}

#[test]
fn b04_a_get_has_no_body_and_no_length() {
    let mut lab = works(Setup::of(Scenario { host_check: HostCheck::Hop, ..Scenario::default() }));
    lab.stop();
    let gets: Vec<_> = heads(&lab).into_iter().filter(|head| head.method == "GET").collect();
    assert!(gets.len() >= 4, "{gets:?}");
    assert!(gets.iter().all(|head| head.header("content-length").is_none()), "{gets:?}");
    assert_eq!(lab.count(|event| matches!(event, Event::Violation(_))), 0);
}

#[test]
fn b05_every_character_of_a_password_arrives() {
    let all: String = ('\u{20}'..'\u{7f}').collect();
    each(["p@ss+word %41&=;", "ü€😀", "a+b c", &all], |word| {
        let lab = works(Setup {
            users: vec![User::new("alice", word)],
            credentials: super::lab::password(word),
            ..Setup::default()
        });
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn b06_the_cookie_is_sent_back_as_it_came() {
    // The double's cookies end in `+/==%0a`, and only the same octets are good.
    let mut lab = works(Setup::default());
    lab.stop();
    let with_cookie =
        |path: &str| heads(&lab).iter().any(|head| head.path == path && head.header("cookie").is_some());
    assert_eq!([LOGIN, CONFIG, TUNNEL, LOGOUT].map(with_cookie), [false, true, true, true]);
}

#[test]
fn b07_success_is_the_cookie_whatever_the_body_says() {
    // After the host check the body is a page with a script; else it is `ret=1`.
    each([HostCheck::Off, HostCheck::Hop], |host_check| {
        let lab = works(Setup::of(Scenario { host_check, ..Scenario::default() }));
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
}

#[test]
fn b10_a_session_elsewhere_is_told() {
    let scenario = Scenario { session_limit: Some(0), ..Scenario::default() };
    let lab = fails(Setup::of(scenario), "signed in elsewhere");
    assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 0));
}

#[test]
fn b12_portal_pages_do_not_matter() {
    let lab = works(Setup::of(Scenario {
        index_forbidden: true,
        ..fault("/remote/fortisslvpn", Fault::status(403))
    }));
    assert_eq!((lab.requests("/remote/index"), lab.requests("/remote/fortisslvpn")), (0, 0));
}

#[test]
fn b13_the_configuration_is_asked_for_both_families_and_taken_for_ipv4() {
    let ipv6 = Ipv6Offer {
        address: (Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 1), 120),
        dns: vec![Ipv6Addr::LOCALHOST],
        split_routes: vec![(Ipv6Addr::UNSPECIFIED, 0)],
    };
    let excluded_routes = vec![(Ipv4Addr::new(10, 77, 9, 0), 24)];
    let scenario = Scenario { ipv6: Some(ipv6), excluded_routes, ..Scenario::default() };
    let lab = works(Setup::of(scenario));
    let config = lab.state().tunnel.unwrap();
    assert_eq!(config.dns, [Ipv4Addr::new(10, 77, 0, 53)]);
    assert_eq!(
        (config.domains.as_slice(), config.routes.len(), config.excludes.len()),
        (&["corp.example".to_owned()][..], 1, 1)
    );
    let asked = heads(&lab).into_iter().find(|head| head.path == CONFIG).unwrap();
    assert_eq!(asked.query, [("dual_stack".to_owned(), "1".to_owned())]);
}

#[test]
fn b14_the_tunnel_follows_the_configuration_in_time() {
    let lab = works(Setup::default());
    let paths: Vec<_> = heads(&lab).into_iter().map(|head| head.path).collect();
    assert_eq!(paths, [LOGIN, CONFIG, TUNNEL]);
    assert_eq!(lab.count(|event| matches!(event, Event::TunnelRefused(_))), 0);
    // A gateway that is too slow for its own login timeout.
    let login_timeout = Duration::from_millis(300);
    let slow = AnswerFault::on(CONFIG, Fault::Delay(Duration::from_secs(1)));
    let lab = fails(Setup::of(Scenario { login_timeout, ..faulty([slow]) }), "refuses the tunnel");
    assert_eq!(lab.posts(), 1);
}

#[test]
fn b15_ppp_as_fortigates_speak_it() {
    let knobs = PppKnobs::default;
    let cases = [
        knobs(),
        PppKnobs { offer_vj: true, ..knobs() },
        PppKnobs { ipv6: Some([2, 0, 0, 0, 0, 0, 0, 1]), ..knobs() },
        PppKnobs { echo_every: Some(Duration::from_millis(200)), ..knobs() },
        PppKnobs { address_control: true, ..knobs() },
    ];
    each(cases, |ppp| {
        let mut lab = works(Setup::of(Scenario { ppp, ..Scenario::default() }));
        lab.stop();
        let clean = lab.count(|event| {
            matches!(event, Event::TunnelDown { why: TunnelEnd::ClientTerminated, counts, .. } if counts.ignored == 0)
        });
        assert_eq!(clean, 1, "{:?}", lab.gateway.journal());
    });
}

#[test]
fn b16_everything_behind_the_gateway_is_reached() {
    let narrow = Ipv4Addr::new(10, 77, 0, 81);
    let scenario = Scenario { narrow_path: Some((narrow, 1000)), ..Scenario::default() };
    let lab = Lab::start(Setup::of(scenario));
    let client = lab.connect("laptop.example").unwrap();
    lab.wait_for_tunnel(1);
    client.ping(SERVER).unwrap();
    assert_eq!(client.udp_exchange((IpAddr::V4(SERVER), 7), b"datagram").unwrap(), b"datagram");
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = client.dns("www.corp.example", RecordType::A, transport).unwrap();
        assert_eq!(answer.ipv4(), Some(SERVER));
    }
    assert_eq!(client.http_get("http://10.77.0.80/bytes/300000").unwrap().body.len(), 300_000);
    client.ping(narrow).unwrap();
}

#[test]
fn b17_no_packet_leaves_with_another_source_than_the_assigned_one() {
    let mut lab = Lab::start(Setup::default());
    let devices = ["one.example", "two.example"].map(|name| lab.connect(name).unwrap());
    lab.wait_for_tunnel(1);
    for device in &devices {
        device.ping(SERVER).unwrap();
        device.dns("www.corp.example", RecordType::A, Transport::Udp).unwrap();
        device.http_get("http://10.77.0.80/").unwrap();
    }
    lab.stop();
    let counts = lab.gateway.journal().into_iter().find_map(|entry| match entry.event {
        Event::TunnelDown { counts, .. } => Some(counts),
        _ => None,
    });
    let counts = counts.unwrap();
    assert!(counts.packets_in > 6 && counts.spoofed == 0, "{counts:?}");
}

#[test]
fn b18_timeouts_in_every_style_are_got_over() {
    use CloseStyle::*;
    each([Fin, HalfFrame, BadRecord, TerminateThenSilence], |timeout_close| {
        let auth_timeout = Duration::from_secs(2);
        let lab = works(Setup::of(Scenario { auth_timeout, timeout_close, ..Scenario::default() }));
        eventually(Duration::from_secs(5), "the session expires", || {
            lab.count(|event| matches!(event, Event::TunnelDown { why: TunnelEnd::AuthExpired, .. })) == 1
        });
        lab.gateway.set_scenario(Scenario::default());
        lab.wait_for_tunnel(2);
        flows(&lab, &device(&lab));
        assert_eq!(lab.posts(), 2);
    });
}

#[test]
fn b19_a_second_tunnel_on_one_cookie_after_silence() {
    slow("b19");
}

pub(crate) fn second_tunnels() {
    each([SecondTunnel::ReplaceOld, SecondTunnel::Refuse], |second_tunnel| {
        let usual = Scenario { second_tunnel, reuse: Some(Duration::from_secs(60)), ..Scenario::default() };
        let orders = vec![(Moment::UpFor(Duration::from_millis(200)), Order::Drop(CloseStyle::Blackhole))];
        let lab = works(Setup::of(Scenario { orders, ..usual.clone() }));
        lab.gateway.set_scenario(usual);
        lab.wait_for_tunnel(2);
        flows(&lab, &device(&lab));
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn b20_the_end_is_terminate_then_logout() {
    let mut lab = works(Setup::default());
    assert!(lab.stop());
    let journal = lab.gateway.journal();
    let at = |wanted: &dyn Fn(&Event) -> bool| journal.iter().position(|entry| wanted(&entry.event));
    let terminated =
        at(&|event| matches!(event, Event::TunnelDown { why: TunnelEnd::ClientTerminated, .. })).unwrap();
    let logged_out = at(&|event| matches!(event, Event::Request(head) if head.path == LOGOUT)).unwrap();
    assert!(terminated < logged_out);
}

#[test]
fn b21_records_may_be_cut_anywhere() {
    each([1, 7, 100, 16_000], |record_limit| {
        let scenario =
            Scenario { record_limit: Some(record_limit), random_records: true, ..Scenario::default() };
        let lab = Lab::start(Setup::of(scenario));
        let client = lab.connect("laptop.example").unwrap();
        lab.wait_for_tunnel(1);
        assert_eq!(client.http_get("http://10.77.0.80/bytes/30000").unwrap().body.len(), 30_000);
        assert_eq!(lab.tunnels(), 1);
    });
}

#[test]
fn b23_only_known_paths_and_methods_are_asked_for() {
    let mut lab = works(Setup::of(Scenario { host_check: HostCheck::Hop, ..Scenario::default() }));
    lab.gateway.kick_tunnels(CloseStyle::Reset);
    lab.wait_for_tunnel(2);
    lab.stop();
    for head in heads(&lab) {
        assert!(PATHS.contains(&head.path.as_str()), "{head:?}");
        assert_eq!(head.method, if head.path == LOGIN { "POST" } else { "GET" });
        assert!(head.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")), "{head:?}");
        assert_eq!(head.header("user-agent"), Some("Mozilla/5.0 SV1"), "the same all the time");
    }
}

#[test]
fn b24_a_gateway_that_lists_no_ppp_is_tried_with_ppp() {
    each([&["tun"][..], &[]], |tunnel_methods| {
        let lab = works(Setup::of(Scenario { tunnel_methods, ..Scenario::default() }));
        assert_eq!((lab.requests(TUNNEL), lab.requests("/remote/sslvpn-tunnel2")), (1, 0));
    });
}
