//! Admission of strangers: limits of half-open IKE SAs, by source and by network, and when a cookie is asked for (RFC
//! 7296 section 2.6, RFC 8019 section 4.7 for the limits).

use std::collections::HashMap;
use std::net::IpAddr;

use super::api::Policy;
use super::budget::{network, source};

/// Counts half-open IKE SAs and decides about new ones.
#[derive(Debug, Default)]
pub(super) struct Admission {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
    by_network: HashMap<IpAddr, usize>,
}

/// What to do with an initial request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admit,
    /// Ask for a cookie, keep nothing.
    Challenge,
    Refuse,
}

impl Admission {
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Decides about a request from `remote`; `proved` is asked where it needs a good cookie.
    pub(super) fn judge(&self, policy: &Policy, remote: IpAddr, proved: impl FnOnce() -> bool) -> Verdict {
        let from_source = self.by_source.get(&source(remote)).copied().unwrap_or(0);
        let from_network = self.by_network.get(&network(remote)).copied().unwrap_or(0);
        if self.total < policy.cookie_threshold && from_source < policy.cookie_threshold_per_source {
            Verdict::Admit
        } else if !proved() {
            Verdict::Challenge
        } else if self.total >= policy.half_open_limit
            || from_source >= policy.half_open_limit_per_source
            || from_network >= policy.half_open_limit_per_network
        {
            Verdict::Refuse
        } else {
            Verdict::Admit
        }
    }

    /// A half-open IKE SA from `remote` begins.
    pub(super) fn enter(&mut self, remote: IpAddr) {
        self.total += 1;
        *self.by_source.entry(source(remote)).or_default() += 1;
        *self.by_network.entry(network(remote)).or_default() += 1;
    }

    /// A half-open IKE SA from `remote` ended, by success or not.
    pub(super) fn leave(&mut self, remote: IpAddr) {
        self.total = self.total.saturating_sub(1);
        take_one(&mut self.by_source, source(remote));
        take_one(&mut self.by_network, network(remote));
    }
}

fn take_one(counts: &mut HashMap<IpAddr, usize>, place: IpAddr) {
    if let Some(count) = counts.get_mut(&place) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_of_a_source_and_of_a_network() {
        let policy = Policy {
            cookie_threshold: 6,
            cookie_threshold_per_source: 1,
            half_open_limit: 7,
            half_open_limit_per_source: 2,
            half_open_limit_per_network: 3,
            ..Policy::default()
        };
        let mut admission = Admission::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let judge =
            |admission: &Admission, from: &str, proved| admission.judge(&policy, address(from), || proved);
        assert_eq!(judge(&admission, "192.0.2.1", false), Verdict::Admit);
        admission.enter(address("192.0.2.1"));
        assert_eq!(judge(&admission, "192.0.2.1", false), Verdict::Challenge);
        assert_eq!(judge(&admission, "192.0.2.1", true), Verdict::Admit);
        assert_eq!(judge(&admission, "192.0.2.2", false), Verdict::Admit, "another source");
        admission.enter(address("192.0.2.1"));
        assert_eq!(judge(&admission, "192.0.2.1", true), Verdict::Refuse, "two of one source");
        admission.enter(address("192.0.2.2"));
        assert_eq!(judge(&admission, "192.0.2.2", true), Verdict::Refuse, "three of one network");
        assert_eq!(judge(&admission, "192.0.3.2", false), Verdict::Admit, "another network");
        admission.enter(address("2001:db8::1"));
        assert_eq!(judge(&admission, "2001:db8::2", false), Verdict::Challenge, "one /64 is one source");
        admission.enter(address("2001:db8:0:1::1"));
        admission.enter(address("2001:db8:0:2::1"));
        assert_eq!(judge(&admission, "2001:db8:0:2::1", true), Verdict::Refuse, "one /48 is one network");
        assert_eq!(judge(&admission, "198.51.100.1", false), Verdict::Challenge, "many in all");
        assert_eq!(judge(&admission, "198.51.100.1", true), Verdict::Admit);
        admission.enter(address("198.51.100.1"));
        assert_eq!(judge(&admission, "203.0.113.1", true), Verdict::Refuse, "as many as there may be");
        for from in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::ffff", "2001:db8:0:1::2"] {
            admission.leave(address(from));
        }
        for from in ["2001:db8:0:2::3", "198.51.100.1"] {
            admission.leave(address(from));
        }
        let left = (admission.total(), admission.by_source.len(), admission.by_network.len());
        assert_eq!(left, (0, 0, 0));
    }
}
