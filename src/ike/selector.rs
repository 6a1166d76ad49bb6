//! Narrowing of traffic selectors (RFC 7296 section 2.9).

use std::net::{IpAddr, Ipv4Addr};

use crate::base::TrafficSelector;

/// Most selectors that we keep per side: more would make the data path slow for nothing.
const MAX_NARROWED: usize = 32;

/// A selector for everything between two addresses.
pub(super) const fn any_between(first: Ipv4Addr, last: Ipv4Addr) -> TrafficSelector {
    let (first, last) = (IpAddr::V4(first), IpAddr::V4(last));
    TrafficSelector { first, last, protocol: 0, port_first: 0, port_last: u16::MAX }
}

/// The part of `offered` that `policy` allows, without duplicates. Empty means TS_UNACCEPTABLE.
pub(super) fn narrow(offered: &[TrafficSelector], policy: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut narrowed = Vec::new();
    for selector in policy.iter().flat_map(|p| offered.iter().filter_map(|o| intersection(o, p))) {
        if narrowed.len() < MAX_NARROWED && !narrowed.contains(&selector) {
            narrowed.push(selector);
        }
    }
    narrowed
}

fn intersection(a: &TrafficSelector, b: &TrafficSelector) -> Option<TrafficSelector> {
    let (first, last) = (a.first.max(b.first), a.last.min(b.last));
    let (port_first, port_last) = (a.port_first.max(b.port_first), a.port_last.min(b.port_last));
    let protocol = match (a.protocol, b.protocol) {
        (0, other) | (other, 0) => other,
        (a, b) if a == b => a,
        _ => return None,
    };
    let same_family = a.first.is_ipv4() == b.first.is_ipv4();
    (same_family && first <= last && port_first <= port_last).then_some(TrafficSelector {
        first,
        last,
        protocol,
        port_first,
        port_last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(first: &str, last: &str, protocol: u8, port_first: u16, port_last: u16) -> TrafficSelector {
        TrafficSelector {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
            protocol,
            port_first,
            port_last,
        }
    }

    #[test]
    fn narrows_to_what_both_want() {
        let all4 = ts("0.0.0.0", "255.255.255.255", 0, 0, 65535);
        let all6 = ts("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, 0, 65535);
        let host = ts("198.19.255.2", "198.19.255.2", 0, 0, 65535);
        let https = ts("0.0.0.0", "10.0.0.9", 6, 443, 443);
        for (name, offered, policy, expected) in [
            ("everything to one host", vec![all4, all6], vec![host], vec![host]),
            ("duplicates", vec![all4, all4, host], vec![host], vec![host]),
            ("IPv6 only", vec![all6], vec![host], vec![]),
            ("disjoint", vec![ts("1.0.0.0", "2.0.0.0", 0, 0, 65535)], vec![host], vec![]),
            (
                "one port",
                vec![https],
                vec![ts("10.0.0.0", "10.255.255.255", 0, 0, 65535)],
                vec![ts("10.0.0.0", "10.0.0.9", 6, 443, 443)],
            ),
            ("other protocol", vec![https], vec![ts("10.0.0.0", "10.255.255.255", 17, 0, 65535)], vec![]),
            ("policy decides the order", vec![all4], vec![host, all4], vec![host, all4]),
        ] {
            assert_eq!(narrow(&offered, &policy), expected, "{name}");
        }
    }
}
