//! What may happen so often per period of time.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Sources that are told apart at a time. Two that share a place share a budget; which ones do, nobody can foresee.
const PLACES: usize = 1024;

/// A budget per period of time.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    per_period: u32,
    period: Duration,
    since: Option<Duration>,
    used: u32,
}

impl Budget {
    pub(super) const fn new(per_period: u32, period: Duration) -> Self {
        Self { per_period, period, since: None, used: 0 }
    }

    pub(super) fn allow(&mut self, now: Duration) -> bool {
        if self.since.is_none_or(|since| now >= since.saturating_add(self.period)) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.per_period
    }
}

/// One budget for each source, in a table that does not grow.
#[derive(Debug)]
pub(super) struct SourceBudgets {
    hasher: RandomState,
    places: Vec<Budget>,
}

impl SourceBudgets {
    pub(super) fn new(budget: Budget) -> Self {
        Self { hasher: RandomState::new(), places: vec![budget; PLACES] }
    }

    pub(super) fn allow(&mut self, now: Duration, remote: IpAddr) -> bool {
        let place = self.hasher.hash_one(source(remote)) as usize % PLACES;
        self.places.get_mut(place).is_some_and(|budget| budget.allow(now))
    }
}

/// Who counts as one source: an IPv4 address, or an IPv6 /64.
pub(super) fn source(remote: IpAddr) -> IpAddr {
    prefix(remote, 32, 64)
}

/// Where sources may be of one owner: an IPv4 /24, or an IPv6 /48.
pub(super) fn network(remote: IpAddr) -> IpAddr {
    prefix(remote, 24, 48)
}

fn prefix(address: IpAddr, v4_len: u32, v6_len: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - v4_len))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - v6_len))).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_for_a_period_and_a_source() {
        let at = Duration::from_secs;
        let mut budgets = SourceBudgets::new(Budget::new(2, at(5)));
        let [a, neighbour]: [IpAddr; 2] =
            ["2001:db8::1".parse().unwrap(), "2001:db8::2:0:0:1".parse().unwrap()];
        let allowed = [1, 1, 2, 5, 6, 6, 6].map(|second| budgets.allow(at(second), a));
        assert_eq!(allowed, [true, true, false, false, true, true, false]);
        assert!(!budgets.allow(at(6), neighbour), "the same /64");
        let others = (0..8).map(|i| IpAddr::from([192, 0, 2, i]));
        assert!(others.filter(|other| budgets.allow(at(6), *other)).count() >= 7, "others are not concerned");
    }

    #[test]
    fn prefixes() {
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.77".parse().unwrap(), "2001:db8:1:2:3::4".parse().unwrap()];
        assert_eq!((source(v4), source(v6).to_string()), (v4, "2001:db8:1:2::".to_owned()));
        assert_eq!([network(v4), network(v6)].map(|n| n.to_string()), ["192.0.2.0", "2001:db8:1::"]);
    }
}
