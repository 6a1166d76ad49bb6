//! What clients get: the engine's settings and the gateway's routes, as a plan for the IKE core.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::base::TrafficSelector;
use crate::fortivpn::{Route, TunnelConfig};
use crate::ike::{ClientPlan, Nat64Plan};

use super::{Split, Suffix};

/// An inclusive range of IPv4 addresses.
type Range = (u32, u32);

const EVERYTHING: Range = (0, u32::MAX);

/// The plan for now. `tunnel` is what the gateway said when the tunnel last came up, `addresses` are those of the tunnel
/// domains.
///
/// IPv4 is everything; or the gateway's routes where they are asked for, and the addresses of the tunnel domains where
/// there are some; or nothing but the in-tunnel host (which the IKE core adds) where NAT64 is on and neither is asked for.
pub fn client_plan(
    split: &Split,
    host: Ipv4Addr,
    tunnel: Option<&TunnelConfig>,
    addresses: &BTreeSet<Ipv4Addr>,
) -> ClientPlan {
    let mut ranges = match (split.gateway_routes, tunnel) {
        (true, Some(tunnel)) => routes(tunnel),
        _ if split.nat64.is_some() || !split.tunnel_domains.is_empty() => Vec::new(),
        _ => vec![EVERYTHING],
    };
    for address in addresses.iter().map(|address| address.to_bits()) {
        if !ranges.iter().any(|(first, last)| (first..=last).contains(&&address)) {
            ranges.push((address, address));
        }
    }
    ClientPlan {
        dns: vec![host],
        ts: ranges.into_iter().map(selector).collect(),
        nat64: split.nat64.map(|prefix| Nat64Plan { prefix: prefix.network() }),
        domains: domains(split, tunnel),
    }
}

/// The domains for which clients should ask our DNS server although not everything takes the tunnel: those of the
/// options, and the gateway's search domains where its routes are taken.
fn domains(split: &Split, tunnel: Option<&TunnelConfig>) -> Vec<String> {
    let of_gateway =
        tunnel.filter(|_| split.gateway_routes).map(|tunnel| &tunnel.domains[..]).unwrap_or_default();
    let mut domains: Vec<String> = Vec::new();
    let parsed = of_gateway.iter().filter_map(|domain| Suffix::parse(domain).ok());
    for domain in split.dns64_suffixes.iter().chain(&split.tunnel_domains).cloned().chain(parsed) {
        let domain = domain.to_string();
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

/// The gateway's routes without what it excludes. No routes at all mean everything.
fn routes(tunnel: &TunnelConfig) -> Vec<Range> {
    let mut ranges: Vec<Range> = tunnel.routes.iter().map(range).collect();
    if ranges.is_empty() {
        ranges.push(EVERYTHING);
    }
    for excluded in tunnel.excludes.iter().map(range) {
        ranges = ranges.into_iter().flat_map(|range| without(range, excluded)).collect();
    }
    ranges
}

fn range(route: &Route) -> Range {
    let first = route.address.to_bits();
    let hosts = u32::MAX.checked_shr(u32::from(route.prefix_len)).unwrap_or(0);
    (first, first | hosts)
}

/// What is left of a range: nothing, one piece or two.
fn without((first, last): Range, (from, to): Range) -> impl Iterator<Item = Range> {
    let apart = to < first || last < from;
    let all = apart.then_some((first, last));
    let before = (!apart && first < from).then(|| (first, from - 1));
    let behind = (!apart && to < last).then(|| (to + 1, last));
    [all, before, behind].into_iter().flatten()
}

fn selector((first, last): Range) -> TrafficSelector {
    TrafficSelector {
        first: IpAddr::V4(Ipv4Addr::from_bits(first)),
        last: IpAddr::V4(Ipv4Addr::from_bits(last)),
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Suffix;

    #[test]
    fn excluded_ranges_are_cut_out() {
        let cut = |range, excluded| without(range, excluded).collect::<Vec<_>>();
        assert_eq!(cut((10, 20), (30, 40)), [(10, 20)]);
        assert_eq!(cut((10, 20), (0, 40)), []);
        assert_eq!(cut((10, 20), (12, 15)), [(10, 11), (16, 20)]);
        assert_eq!(cut((10, 20), (10, 15)), [(16, 20)]);
        assert_eq!(cut((10, 20), (15, 20)), [(10, 14)]);
        assert_eq!(cut(EVERYTHING, (0, 0)), [(1, u32::MAX)]);
        assert_eq!(cut(EVERYTHING, (u32::MAX, u32::MAX)), [(0, u32::MAX - 1)]);
    }

    #[test]
    fn domains_of_options_and_of_the_gateway() {
        let xml = "<sslvpn-tunnel><ipv4><assigned-addr ipv4='10.212.134.200'/>\
            <dns domain='corp.example;b@d;lab.example'/></ipv4></sslvpn-tunnel>";
        let tunnel = TunnelConfig::parse(xml.as_bytes()).unwrap();
        let suffix = |text| Suffix::parse(text).unwrap();
        let mut split = Split {
            dns64_suffixes: vec![suffix("corp.example")],
            tunnel_domains: vec![suffix("git.other.example"), suffix("corp.example")],
            ..Split::default()
        };
        assert_eq!(domains(&split, Some(&tunnel)), ["corp.example", "git.other.example"]);
        split.gateway_routes = true;
        assert_eq!(domains(&split, Some(&tunnel)), ["corp.example", "git.other.example", "lab.example"]);
        assert_eq!(domains(&split, None).len(), 2);
    }

    #[test]
    fn what_takes_the_tunnel() {
        let xml = "<sslvpn-tunnel><ipv4><assigned-addr ipv4='10.212.134.200'/>\
            <split-tunnel-info><addr ip='10.77.0.0' mask='255.255.0.0'/></split-tunnel-info></ipv4></sslvpn-tunnel>";
        let tunnel = TunnelConfig::parse(xml.as_bytes()).unwrap();
        let host = Ipv4Addr::new(198, 19, 255, 1);
        let addresses = BTreeSet::from([Ipv4Addr::new(10, 77, 0, 80), Ipv4Addr::new(10, 78, 0, 1)]);
        let (inside, outside) = (selector((0x0a4d_0050, 0x0a4d_0050)), selector((0x0a4e_0001, 0x0a4e_0001)));
        let none = BTreeSet::new();
        let ts = |split: &Split, tunnel, addresses: &_| client_plan(split, host, tunnel, addresses).ts;
        let network = selector((0x0a4d_0000, 0x0a4d_ffff));

        let mut split = Split::default();
        assert_eq!(ts(&split, Some(&tunnel), &none), [selector(EVERYTHING)]);
        split.gateway_routes = true;
        assert_eq!(ts(&split, None, &none), [selector(EVERYTHING)], "the gateway has not said yet");
        assert_eq!(ts(&split, Some(&tunnel), &none), [network]);
        split.nat64 = Some("64:ff9b:1::/96".parse().unwrap());
        assert_eq!(ts(&split, Some(&tunnel), &none), [network], "both address plans together");
        split.gateway_routes = false;
        assert_eq!(ts(&split, Some(&tunnel), &none), []);

        split = Split { tunnel_domains: vec![Suffix::parse("db.example").unwrap()], ..Split::default() };
        assert_eq!(ts(&split, Some(&tunnel), &none), [], "no answer yet");
        assert_eq!(ts(&split, Some(&tunnel), &addresses), [inside, outside]);
        split.gateway_routes = true;
        assert_eq!(ts(&split, None, &none), [], "neither the gateway nor DNS has said yet");
        assert_eq!(ts(&split, Some(&tunnel), &addresses), [network, outside], "one covers the other");
    }
}
