//! The configuration of the tunnel.

use std::net::Ipv4Addr;

use super::super::http::{Response, field};
use super::super::scenario::{Ipv6Offer, Scenario};
use super::{Page, to_login};

impl Page<'_> {
    pub(super) fn configuration(&self) -> Response {
        if !self.has_session() {
            return to_login();
        }
        let mut sessions = self.shared.sessions();
        let address = sessions.allocate(self.scenario, self.cookie());
        let ipv6 = field(&self.request.query(), "dual_stack") == "1";
        let xml = match &self.scenario.configuration {
            Some(text) => {
                let address = address.map_or_else(|| "error".to_owned(), |address| address.to_string());
                text.replace("{address}", &address)
            }
            None => configuration_xml(self.scenario, address, ipv6),
        };
        let response = Response::new(200, "text/xml", xml);
        if !self.scenario.replace_cookie {
            return response;
        }
        let new = self.shared.cookie(self.scenario.cookie_length);
        sessions.replace_cookie(self.cookie(), new.clone());
        response.with_session(&new)
    }
}

fn mask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0))
}

/// The configuration in one line with single quotes, as FortiOS 7 sends it.
fn configuration_xml(scenario: &Scenario, address: Option<Ipv4Addr>, ipv6: bool) -> String {
    let mut xml = String::from(
        "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2' dtls='1' patch='1'>\
         <dtls-config heartbeat-interval='10' heartbeat-fail-count='10' heartbeat-idle-timeout='10' \
         client-hello-timeout='10' />",
    );
    for method in scenario.tunnel_methods {
        xml.push_str(&format!("<tunnel-method value='{method}' />"));
    }
    xml.push_str("<fos platform='FGVM64' major='7' minor='02' patch='5' build='1517' branch='1517' />");
    xml.push_str(&format!(
        "<auth-ses check-src-ip='{}' tun-connect-without-reauth='{}' tun-user-ses-timeout='{}' />\
         <client-config save-password='off' keep-alive='off' auto-connect='off' /><ipv4>",
        u8::from(scenario.check_source),
        u8::from(scenario.reuse.is_some()),
        scenario.reuse.map_or(30, |window| window.as_secs()),
    ));
    for server in &scenario.dns {
        match &scenario.dns_suffix {
            Some(suffix) => xml.push_str(&format!("<dns ip='{server}' domain='{suffix}' />")),
            None => xml.push_str(&format!("<dns ip='{server}' />")),
        }
    }
    match address {
        Some(address) => xml.push_str(&format!("<assigned-addr ipv4='{address}' />")),
        None => xml.push_str("<assigned-addr ipv4='error' />"),
    }
    for (routes, negate) in [(&scenario.split_routes, ""), (&scenario.excluded_routes, " negate='1'")] {
        if routes.is_empty() {
            continue;
        }
        xml.push_str(&format!("<split-tunnel-info{negate}>"));
        for &(network, prefix_len) in routes {
            xml.push_str(&format!("<addr ip='{network}' mask='{}' />", mask(prefix_len)));
        }
        xml.push_str("</split-tunnel-info>");
    }
    xml.push_str(&format!(
        "</ipv4>{}<idle-timeout val='{}' /><auth-timeout val='{}' /></sslvpn-tunnel>",
        scenario.ipv6.as_ref().filter(|_| ipv6).map(ipv6_xml).unwrap_or_default(),
        scenario.idle_timeout.as_secs(),
        scenario.auth_timeout.as_secs(),
    ));
    xml
}

fn ipv6_xml(offer: &Ipv6Offer) -> String {
    let mut xml = String::from("<ipv6>");
    for server in &offer.dns {
        xml.push_str(&format!("<dns ipv6='{server}' />"));
    }
    let (address, prefix_len) = offer.address;
    xml.push_str(&format!("<assigned-addr ipv6='{address}' prefix-len='{prefix_len}' />"));
    if !offer.split_routes.is_empty() {
        xml.push_str("<split-tunnel-info>");
        for (network, prefix_len) in &offer.split_routes {
            xml.push_str(&format!("<addr ipv6='{network}' prefix-len='{prefix_len}' />"));
        }
        xml.push_str("</split-tunnel-info>");
    }
    xml + "</ipv6>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_well_formed() {
        let scenario = Scenario {
            excluded_routes: vec![(Ipv4Addr::new(1, 2, 3, 4), 32), (Ipv4Addr::UNSPECIFIED, 0)],
            ..Scenario::default()
        };
        let xml = configuration_xml(&scenario, Some(Ipv4Addr::new(10, 212, 134, 200)), false);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let masks: Vec<_> = document.descendants().filter_map(|node| node.attribute("mask")).collect();
        assert_eq!(masks, ["255.255.0.0", "255.255.255.255", "0.0.0.0"]);
        assert!(!xml.contains('\n'));
        assert!(configuration_xml(&scenario, None, false).contains("ipv4='error'"));
    }
}
