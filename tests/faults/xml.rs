//! F19 to F21, F43 and F45: the configuration.

use std::time::Duration;

use pterodapter::demo::gateway::{AnswerFault, CloseStyle, Fault, Scenario};
use pterodapter::engine::{Submission, Uplink};

use super::lab::{Lab, Setup};
use super::*;

const ADDRESS: &str = "<assigned-addr ipv4='{address}' />";

fn written(xml: impl Into<String>) -> Scenario {
    Scenario { configuration: Some(xml.into()), ..Scenario::default() }
}

/// Inside of the root and the IPv4 part.
fn ipv4(content: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2'><ipv4>{content}</ipv4></sslvpn-tunnel>"
    )
}

#[test]
fn f19_xml_of_any_style_is_read() {
    let texts = [
        "<?xml version=\"1.0\"?>\n<sslvpn-tunnel ver=\"2\">\n <ipv4>\n  <assigned-addr ipv4=\"{address}\"/>\n </ipv4>\n\
         </sslvpn-tunnel>\n"
            .to_owned(),
        ipv4(&format!("<dns domain='corp.example' ip='10.77.0.53'/>{ADDRESS}")),
        ipv4(&format!("<dns ip='10.77.0.53' domain='a&amp;b&#46;example;corp.example' />{ADDRESS}")),
        ipv4(&format!("<!-- <assigned-addr ipv4='9.9.9.9'/> --><![CDATA[<x>]]>{ADDRESS}")),
        format!("\u{feff}{}", ipv4(ADDRESS)),
        ipv4(&format!("<new><dns ip='9.9.9.9'/></new>{ADDRESS}<mtu val='1'/>")),
        ipv4(&format!("<dns ip='' /><dns ip='0.0.0.0'/><dns />{ADDRESS}")),
        format!("{}\0\r\n<!-- junk --> </br>", ipv4(ADDRESS)),
    ];
    each(texts, |text| {
        let lab = works(Setup::of(written(text)));
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
}

#[test]
fn f19_xml_without_an_address_or_none_at_all_is_an_error() {
    each(
        ["<sslvpn-tunnel><ipv6/></sslvpn-tunnel>", &ipv4(""), &ipv4("<assigned-addr ipv4='error'/>")],
        |text| {
            let lab = Lab::start(Setup::of(written(text)));
            lab.wait_for_error("gives no IPv4 address");
            assert_eq!((lab.posts(), lab.tunnels()), (1, 0));
        },
    );
    let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>";
    let truncated = ipv4(ADDRESS).replace("</ipv4></sslvpn-tunnel>", "");
    let deep = format!("<sslvpn-tunnel>{}", "<a>".repeat(100_000));
    let cases = [
        (truncated.as_str(), "not a FortiVPN configuration"),
        (
            &format!(
                "{bomb}{}",
                ipv4("<dns domain='&b;'/>").replace("<?xml version='1.0' encoding='utf-8'?>", "")
            ),
            "not a FortiVPN configuration",
        ),
        (&deep, "not a FortiVPN configuration"),
        ("{\"ipv4\": 1}", "not a FortiVPN configuration"),
        ("", "not a FortiVPN configuration"),
        (&ipv4(&" ".repeat(5 << 20)), "HTTP body is longer"),
    ];
    each(cases, |(text, words)| {
        let lab = fails(Setup::of(written(text)), words);
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
}

#[test]
fn f20_bad_routes_are_left_out_and_many_are_bounded() {
    let addr = |ip: &str, mask: &str| format!("<addr ip='{ip}' mask='{mask}' />");
    let many: String =
        (0..5000_u32).map(|n| addr(&format!("10.{}.{}.0", n / 250, n % 250), "255.255.255.0")).collect();
    let odd = [
        addr("10.77.0.0", "255.255.0.0"),
        addr("10.77.3.9", "255.255.255.0"),
        addr("10.11.10.10", "255.0.255.0"),
        addr("10.1", "255.0.0.0"),
        addr("10.77.0.0", "255.255.0.0"),
    ]
    .concat();
    let negated = format!(
        "<split-tunnel-info>{}</split-tunnel-info><split-tunnel-info negate='1'>{}</split-tunnel-info>",
        addr("10.0.0.0", "255.0.0.0"),
        addr("10.9.0.0", "255.255.0.0")
    );
    let split = |routes: &str| ipv4(&format!("{ADDRESS}<split-tunnel-info>{routes}</split-tunnel-info>"));
    let cases = [
        (split(&many), (4096, 0, 904)),
        (split(&odd), (3, 0, 2)),
        (ipv4(&format!("{ADDRESS}{negated}")), (1, 1, 0)),
    ];
    each(cases, |(text, expected)| {
        let lab = works(Setup::of(written(text)));
        let config = lab.state().tunnel.unwrap();
        assert_eq!((config.routes.len(), config.excludes.len(), config.skipped_routes), expected);
        assert!(config.routes.iter().all(|route| route.address.octets()[3] == 0), "host bits are cleared");
    });
}

#[test]
fn f21_no_configuration_right_after_the_sign_in_is_an_error() {
    let form = "<html><form action='/remote/logincheck'></form></html>";
    let answers = [
        Fault::redirect("/remote/login"),
        Fault::status(401),
        Fault::status(403),
        Fault::page(200, "text/html", form),
    ];
    each(answers, |answer| {
        let lab = fails(Setup::of(fault(CONFIG, answer)), "refuses the session");
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
    let lab = fails(Setup::of(fault(CONFIG, Fault::status(404))), "no SSL VPN tunnel mode");
    assert_eq!(lab.posts(), 1);
    let lab = works(Setup::of(once(CONFIG, Fault::status(503))));
    assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 2));
}

#[test]
fn f21_no_configuration_after_a_drop_means_a_new_sign_in() {
    let answers = [Fault::redirect("/remote/login"), Fault::status(401), Fault::status(403)];
    each(answers, |answer| {
        let usual = Scenario { reuse: Some(Duration::from_secs(30)), ..Scenario::default() };
        let lab = works(Setup::of(usual.clone()));
        let device = device(&lab);
        let refusals =
            [AnswerFault::on(TUNNEL, Fault::status(403)).times(1), AnswerFault::on(CONFIG, answer).times(1)];
        lab.gateway.set_scenario(Scenario { faults: refusals.into(), ..usual });
        lab.gateway.kick_tunnels(CloseStyle::Fin);
        lab.wait_for_tunnel(2);
        flows(&lab, &device);
        assert_eq!((lab.posts(), lab.tunnels()), (2, 2));
    });
}

#[test]
fn f43_without_a_free_address_the_daemon_waits_and_signs_in_no_more() {
    let lab = Lab::start(Setup::of(Scenario { addresses: Vec::new(), ..Scenario::default() }));
    lab.wait_for_error("gives no IPv4 address");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1), "the next try is a minute away");
    lab.gateway.set_scenario(Scenario::default());
    lab.submit(Submission::Retry);
    let device = device(&lab);
    lab.wait_for_tunnel(1);
    flows(&lab, &device);
    assert_eq!((lab.posts(), lab.state().uplink), (1, Uplink::Up));
}

#[test]
fn f45_a_cookie_that_comes_with_the_configuration_opens_the_tunnel() {
    let lab = works(Setup::of(Scenario { replace_cookie: true, ..Scenario::default() }));
    assert_eq!((lab.posts(), lab.requests(TUNNEL)), (1, 1));
}
