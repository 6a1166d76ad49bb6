//! The tunnel configuration: XML from `/remote/fortisslvpn_xml`.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

const MAX_ROUTES: usize = 4096;
const MAX_DNS: usize = 16;
const MAX_NODES: u32 = 100_000;
const ROOT: &str = "sslvpn-tunnel";

/// Why a configuration is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not the XML that it should be.
    Malformed,
    /// It is a login page: the session is over.
    LoginPage,
    /// It gives no IPv4 address.
    NoAddress,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a FortiVPN configuration",
            Self::LoginPage => "it is a login page",
            Self::NoAddress => "it gives no IPv4 address (all in use?)",
        })
    }
}

impl std::error::Error for Error {}

/// A network, host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// First address.
    pub address: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix_len: u8,
}

/// Domains that have DNS servers of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitDns {
    /// The domains.
    pub domains: Vec<String>,
    /// Their servers, in order.
    pub servers: Vec<Ipv4Addr>,
}

/// May the cookie open a second tunnel after a drop?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// The gateway says so.
    pub allowed: bool,
    /// For so long after the drop.
    pub window: Duration,
    /// Only from the same source address.
    pub check_source: bool,
}

impl Default for Reuse {
    /// What FortiOS does when it says nothing.
    fn default() -> Self {
        Self { allowed: false, window: Duration::from_secs(30), check_source: true }
    }
}

/// What the tunnel gives us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Our address in the company's network.
    pub address: Ipv4Addr,
    /// The gateway's address in PPP; has no use but to be shown.
    pub peer: Option<Ipv4Addr>,
    /// DNS servers, in order.
    pub dns: Vec<Ipv4Addr>,
    /// DNS search domains.
    pub domains: Vec<String>,
    /// Domains with servers of their own.
    pub split_dns: Vec<SplitDns>,
    /// Networks behind the tunnel; empty means all.
    pub routes: Vec<Route>,
    /// Networks that are not behind the tunnel.
    pub excludes: Vec<Route>,
    /// Routes that were left out, because they are malformed or too many.
    pub skipped_routes: usize,
    /// The largest IPv4 packet in the tunnel, in octets; set by PPP.
    pub mtu: u16,
    /// May the cookie be used again?
    pub reuse: Reuse,
    /// The session ends after so long without traffic; `None` for never or unknown.
    pub idle_timeout: Option<Duration>,
    /// The session ends so long after the login; `None` for never or unknown.
    pub auth_timeout: Option<Duration>,
}

impl TunnelConfig {
    /// Parses the XML. Unknown elements are skipped; a DTD is refused.
    pub fn parse(xml: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(xml);
        let document = parse_document(&text).ok_or_else(|| not_a_config(&text))?;
        let root = document.root_element();
        let ipv4 = child(root, "ipv4").ok_or(Error::NoAddress)?;
        let assigned = child(ipv4, "assigned-addr").and_then(|node| address(node, "ipv4"));
        let mut config = Self {
            address: assigned.ok_or(Error::NoAddress)?,
            peer: None,
            dns: Vec::new(),
            domains: Vec::new(),
            split_dns: Vec::new(),
            routes: Vec::new(),
            excludes: Vec::new(),
            skipped_routes: 0,
            mtu: super::DEFAULT_MRU,
            reuse: child(root, "auth-ses").map(reuse).unwrap_or_default(),
            idle_timeout: child(root, "idle-timeout").and_then(|node| seconds(node, "val")),
            auth_timeout: child(root, "auth-timeout").and_then(|node| seconds(node, "val")),
        };
        for node in children(ipv4) {
            match node.tag_name().name() {
                "dns" => config.read_dns(node),
                "split-dns" => config.split_dns.extend(split_dns(node)),
                "split-tunnel-info" => config.read_routes(node),
                _ => {}
            }
        }
        Ok(config)
    }

    fn read_dns(&mut self, node: Node<'_, '_>) {
        if let Some(server) =
            address(node, "ip").filter(|a| self.dns.len() < MAX_DNS && !self.dns.contains(a))
        {
            self.dns.push(server);
        }
        self.domains.extend(domains(node.attribute("domain")));
    }

    fn read_routes(&mut self, info: Node<'_, '_>) {
        let negate = info.attribute("negate") == Some("1");
        for node in children(info).filter(|node| node.tag_name().name() == "addr") {
            let room = self.routes.len() + self.excludes.len() < MAX_ROUTES;
            match route(node).filter(|_| room) {
                None => self.skipped_routes += 1,
                Some(route) if negate => self.excludes.push(route),
                Some(route) => self.routes.push(route),
            }
        }
    }
}

fn parse_document(text: &str) -> Option<Document<'_>> {
    let text = text.trim_start_matches('\u{feff}').trim();
    // Some gateways leave bytes behind the root element.
    let end_tag = "</sslvpn-tunnel>";
    let end = text.rfind(end_tag).map_or(text.len(), |at| at + end_tag.len());
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text.get(..end)?, options).ok()?;
    (document.root_element().tag_name().name() == ROOT).then_some(document)
}

/// Old gateways send the login page with status 200 when the cookie is dead.
fn not_a_config(text: &str) -> Error {
    let html = text.contains("<form") || text.contains("/remote/login");
    if html && !text.contains("<sslvpn-tunnel") { Error::LoginPage } else { Error::Malformed }
}

fn children<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    children(node).find(|node| node.tag_name().name() == name)
}

/// A specified address in this attribute (`error`, empty and 0.0.0.0 are none).
fn address(node: Node<'_, '_>, name: &str) -> Option<Ipv4Addr> {
    node.attribute(name)?.trim().parse().ok().filter(|a: &Ipv4Addr| !a.is_unspecified())
}

/// Seconds in this attribute; 0 is none.
fn seconds(node: Node<'_, '_>, name: &str) -> Option<Duration> {
    let seconds: u32 = node.attribute(name)?.trim().parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// A list of domains, separated by `;`, `,` or spaces. What cannot be a domain name is left out.
fn domains(list: Option<&str>) -> impl Iterator<Item = String> + '_ {
    let plausible = |name: &&str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !name.is_empty() && name.len() <= 253 && name.bytes().all(known)
    };
    let names = list.unwrap_or_default().split([';', ',', ' ']).map(|name| name.trim_matches('.'));
    names.filter(plausible).map(str::to_ascii_lowercase)
}

fn split_dns(node: Node<'_, '_>) -> Option<SplitDns> {
    let domains: Vec<_> = domains(node.attribute("domains")).collect();
    let servers = (1..=9).map_while(|i| node.attribute(format!("dnsserver{i}").as_str()));
    let servers: Vec<_> = servers.filter_map(|server| server.trim().parse().ok()).collect();
    (!domains.is_empty()).then_some(SplitDns { domains, servers })
}

fn route(node: Node<'_, '_>) -> Option<Route> {
    let address: Ipv4Addr = node.attribute("ip")?.trim().parse().ok()?;
    let mask: Ipv4Addr = node.attribute("mask")?.trim().parse().ok()?;
    let mask = u32::from(mask);
    let contiguous = mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0;
    let prefix_len = mask.leading_ones() as u8;
    contiguous.then_some(Route { address: Ipv4Addr::from(u32::from(address) & mask), prefix_len })
}

fn reuse(node: Node<'_, '_>) -> Reuse {
    let default = Reuse::default();
    Reuse {
        allowed: node.attribute("tun-connect-without-reauth") == Some("1"),
        window: seconds(node, "tun-user-ses-timeout").unwrap_or(default.window),
        check_source: node.attribute("check-src-ip") != Some("0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2' dtls='1' patch='1'>\
        <dtls-config heartbeat-interval='10' /><tunnel-method value='ppp' />\
        <auth-ses check-src-ip='1' tun-connect-without-reauth='1' tun-user-ses-timeout='240' />\
        <ipv4><dns ip='172.29.0.25' /><dns domain='corp.example;Lab.example' ip='172.29.0.26'/><dns ip='0.0.0.0' />\
        <split-dns domains='office.intra,dmz.intra' dnsserver1='10.10.20.5' dnsserver2='10.10.20.6' dnsserver4='1.1.1.1' />\
        <assigned-addr ipv4='10.212.134.200' /><split-tunnel-info><addr ip='10.10.1.2' mask='255.255.0.0' />\
        <addr ip='10.0.0.0' mask='255.0.255.0' /><addr ip='x' mask='255.0.0.0' /></split-tunnel-info>\
        <split-tunnel-info negate='1'><addr ip='1.2.3.4' mask='255.255.255.255' /></split-tunnel-info></ipv4>\
        <idle-timeout val='300' /><auth-timeout val='0' /></sslvpn-tunnel>";

    fn minimal(inner: &str) -> String {
        format!("<sslvpn-tunnel><ipv4><assigned-addr ipv4='10.0.3.1'/>{inner}</ipv4></sslvpn-tunnel>")
    }

    fn route(a: [u8; 4], prefix_len: u8) -> Route {
        Route { address: a.into(), prefix_len }
    }

    #[test]
    fn live_shape() {
        let config = TunnelConfig::parse(LIVE.as_bytes()).unwrap();
        let expected = TunnelConfig {
            address: [10, 212, 134, 200].into(),
            peer: None,
            dns: vec![[172, 29, 0, 25].into(), [172, 29, 0, 26].into()],
            domains: vec!["corp.example".into(), "lab.example".into()],
            split_dns: vec![SplitDns {
                domains: vec!["office.intra".into(), "dmz.intra".into()],
                servers: vec![[10, 10, 20, 5].into(), [10, 10, 20, 6].into()],
            }],
            routes: vec![route([10, 10, 0, 0], 16)],
            excludes: vec![route([1, 2, 3, 4], 32)],
            skipped_routes: 2,
            mtu: 1354,
            reuse: Reuse { allowed: true, window: Duration::from_secs(240), check_source: true },
            idle_timeout: Some(Duration::from_secs(300)),
            auth_timeout: None,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn variants_that_must_work() {
        let address = Ipv4Addr::new(10, 0, 3, 1);
        let plain = minimal("");
        for xml in [
            plain.replace('\'', "\""),
            format!("\u{feff}{plain}"),
            format!("{plain}\0\0 trailing <junk"),
            format!("  \r\n<?xml version=\"1.0\"?>{plain}\n"),
            minimal(
                "<!-- <dns ip='1.1.1.1'/> --><![CDATA[<addr>]]><new-thing><dns ip='9.9.9.9'/></new-thing>",
            ),
            minimal("<dns ip=''/><dns/><dns ip='error'/>"),
            plain.replace("'10.0.3.1'", "'10.0.3.&#49;'"),
        ] {
            let config = TunnelConfig::parse(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}: {xml}"));
            assert_eq!((config.address, config.dns.len()), (address, 0), "{xml}");
            assert_eq!(config.reuse, Reuse::default());
        }
        let entity = minimal("<dns domain='a.example&amp;b'/><dns ip='10.0.0.53' domain='ok.example'/>");
        assert_eq!(TunnelConfig::parse(entity.as_bytes()).unwrap().domains, ["ok.example"]);
        let full = minimal("<split-tunnel-info><addr mask='0.0.0.0' ip='0.0.0.0'/></split-tunnel-info>");
        assert_eq!(TunnelConfig::parse(full.as_bytes()).unwrap().routes, [route([0; 4], 0)]);
    }

    #[test]
    fn variants_that_must_not() {
        let bomb =
            format!("<!DOCTYPE x [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]>{}", minimal("<dns ip='&c;'/>"));
        let deep = minimal(&format!("{}{}", "<a>".repeat(50_000), "</a>".repeat(50_000)));
        let wide = minimal(&"<a/>".repeat(150_000));
        let error = minimal("").replace("10.0.3.1", "error");
        for (xml, expected) in [
            (bomb, Error::Malformed),
            (wide, Error::Malformed),
            (error, Error::NoAddress),
            (minimal("").replace("10.0.3.1", "0.0.0.0"), Error::NoAddress),
            ("<sslvpn-tunnel></sslvpn-tunnel>".into(), Error::NoAddress),
            ("<sslvpn-tunnel><ipv6/></sslvpn-tunnel>".into(), Error::NoAddress),
            ("<other/>".into(), Error::Malformed),
            (String::new(), Error::Malformed),
            ("<html><form action='/remote/logincheck'></form></html>".into(), Error::LoginPage),
            ("<html><script>top.location=\"/remote/login\"".into(), Error::LoginPage),
        ] {
            assert_eq!(TunnelConfig::parse(xml.as_bytes()), Err(expected), "{xml:.100}");
        }
        // No stack is used up by depth, whatever the verdict.
        let _ = TunnelConfig::parse(deep.as_bytes());
    }

    #[test]
    fn many_routes() {
        let addr = |i: u32| format!("<addr ip='10.{}.{}.7' mask='255.255.255.0'/>", i >> 8, i & 255);
        let many: String = (0..5000).map(addr).collect();
        let config = TunnelConfig::parse(
            minimal(&format!("<split-tunnel-info>{many}</split-tunnel-info>")).as_bytes(),
        );
        let config = config.unwrap();
        assert_eq!((config.routes.len(), config.skipped_routes), (4096, 904));
        assert_eq!(config.routes[1], route([10, 0, 1, 0], 24));
    }

    #[test]
    fn sweeps_do_not_panic() {
        for len in 0..LIVE.len() {
            assert!(TunnelConfig::parse(&LIVE.as_bytes()[..len]).is_err(), "truncated at {len}");
        }
        for i in 0..LIVE.len() {
            for flip in [0x01, 0x08, 0x20, 0xff] {
                let mut bytes = LIVE.as_bytes().to_vec();
                bytes[i] ^= flip;
                let _ = TunnelConfig::parse(&bytes);
            }
        }
    }
}
