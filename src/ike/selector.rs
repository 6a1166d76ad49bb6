//! Narrowing of traffic selectors (RFC 7296 section 2.9).

use std::net::{IpAddr, Ipv4Addr};

use crate::base::TrafficSelector;
use crate::wire::ike::MAX_SELECTORS;

/// A selector for everything between two addresses.
pub(super) fn any_between(first: impl Into<IpAddr>, last: impl Into<IpAddr>) -> TrafficSelector {
    TrafficSelector {
        first: first.into(),
        last: last.into(),
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    }
}

/// The part of `offered` that `policy` allows, without duplicates. Empty means TS_UNACCEPTABLE. More than
/// [`MAX_SELECTORS`] can only come from a peer that cuts ranges to pieces.
pub(super) fn narrow(offered: &[TrafficSelector], policy: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut narrowed = Vec::new();
    for selector in policy.iter().flat_map(|p| offered.iter().filter_map(|o| intersection(o, p))) {
        if narrowed.len() < MAX_SELECTORS && !narrowed.contains(&selector) {
            narrowed.push(selector);
        }
    }
    narrowed
}

/// Drops the selectors of a family that the other side has none of: no packet could match them.
pub(super) fn keep_common_families(local: &mut Vec<TrafficSelector>, remote: &mut Vec<TrafficSelector>) {
    for ipv4 in [true, false] {
        let has = |side: &[TrafficSelector]| side.iter().any(|ts| ts.first.is_ipv4() == ipv4);
        if !has(local) || !has(remote) {
            local.retain(|ts| ts.first.is_ipv4() != ipv4);
            remote.retain(|ts| ts.first.is_ipv4() != ipv4);
        }
    }
}

/// At most `most` (not 0) IPv4 selectors that cover the given ones: those themselves if they are not more, else
/// prefixes, as narrow as may be, for all protocols.
pub(super) fn summarise(selectors: Vec<TrafficSelector>, most: usize) -> Vec<TrafficSelector> {
    if selectors.len() <= most {
        return selectors;
    }
    let block = |ts: &TrafficSelector| match (ts.first, ts.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(covering((first.to_bits(), last.to_bits()))),
        _ => None,
    };
    let mut blocks: Vec<(u32, u32)> = selectors.iter().filter_map(block).collect();
    // The widest of those that begin alike comes first, and takes the others in.
    blocks.sort_unstable_by_key(|&(first, last)| (first, !last));
    let absorb = |blocks: &mut Vec<(u32, u32)>| blocks.dedup_by(|next, before| next.1 <= before.1);
    absorb(&mut blocks);
    while blocks.len() > most {
        let joint = blocks.iter().zip(blocks.iter().skip(1)).map(|(a, b)| covering((a.0, b.1)));
        let Some((index, joint)) = joint.enumerate().min_by_key(|(_, joint)| joint.1 - joint.0) else {
            break;
        };
        blocks.get_mut(index).into_iter().for_each(|block| *block = joint);
        absorb(&mut blocks);
    }
    blocks.iter().map(|&(first, last)| any_between(Ipv4Addr::from(first), Ipv4Addr::from(last))).collect()
}

/// The narrowest prefix, as first and last address, around a range.
fn covering((first, last): (u32, u32)) -> (u32, u32) {
    let hosts = u32::MAX.checked_shr((first ^ last).leading_zeros()).unwrap_or(0);
    (first & !hosts, first | hosts)
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

    #[test]
    fn summarises_to_the_narrowest_prefixes_that_fit() {
        let hosts = |lasts: &[u8]| -> Vec<_> {
            lasts
                .iter()
                .map(|last| any_between(Ipv4Addr::new(10, 0, 0, *last), Ipv4Addr::new(10, 0, 0, *last)))
                .collect()
        };
        let between = |first: &str, last: &str| ts(first, last, 0, 0, 65535);
        for (name, given, most, expected) in [
            ("they fit", hosts(&[9, 1]), 2, hosts(&[9, 1])),
            ("neighbours first", hosts(&[9, 1, 200, 8]), 3, {
                let mut all = hosts(&[1, 200]);
                all.insert(1, between("10.0.0.8", "10.0.0.9"));
                all
            }),
            ("all in one", hosts(&[9, 1, 200, 8]), 1, vec![between("10.0.0.0", "10.0.0.255")]),
            (
                "what another covers costs nothing",
                [hosts(&[7, 8, 90]), vec![between("10.0.0.0", "10.0.0.63")]].concat(),
                2,
                [vec![between("10.0.0.0", "10.0.0.63")], hosts(&[90])].concat(),
            ),
            (
                "everything",
                [hosts(&[7]), vec![between("0.0.0.0", "255.255.255.255")]].concat(),
                1,
                vec![between("0.0.0.0", "255.255.255.255")],
            ),
            (
                "ranges become prefixes, of all protocols",
                vec![
                    ts("10.0.0.1", "10.0.0.2", 6, 1, 2),
                    between("0.0.0.1", "0.0.0.1"),
                    between("0.0.0.2", "0.0.0.2"),
                ],
                2,
                vec![between("0.0.0.0", "0.0.0.3"), between("10.0.0.0", "10.0.0.3")],
            ),
        ] {
            assert_eq!(summarise(given, most), expected, "{name}");
        }
    }
}
