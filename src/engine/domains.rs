//! The tunnel domains: when to look which of them up, and what is known of their addresses. No I/O and no clock.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::host::Resolved;
use crate::dns::Suffix;

/// Lookups under way at one time: the company's DNS is there for others, too.
const PARALLEL: usize = 16;
/// A name is looked up again when its answer has expired, but not sooner and not later than this.
const SOONEST: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_secs(300);
/// A name whose lookup failed is looked up again after this time.
const RETRY: Duration = Duration::from_secs(30);
/// How long a change waits for the lookups that are under way, so that clients see one change and not many.
const PATIENCE: Duration = Duration::from_secs(2);

/// All tunnel domains. `now` is the monotonic time everywhere.
#[derive(Debug)]
pub struct Domains {
    domains: Vec<Domain>,
    /// The uplink is up: somebody can be asked.
    up: bool,
    /// Since when there are addresses that [`Domains::poll_change`] has not told of.
    changed: Option<Duration>,
}

#[derive(Debug)]
struct Domain {
    name: Suffix,
    /// The last answer.
    addresses: Option<BTreeSet<Ipv4Addr>>,
    failing: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be looked up at this time.
    Waiting(Duration),
    Asked,
}

impl Domains {
    /// Nothing is known of any of them.
    pub fn new(names: &[Suffix]) -> Self {
        let mut domains: Vec<Domain> = Vec::new();
        for name in names {
            if !domains.iter().any(|domain| domain.name == *name) {
                let state = State::Waiting(Duration::ZERO);
                domains.push(Domain { name: name.clone(), addresses: None, failing: false, state });
            }
        }
        Self { domains, up: false, changed: None }
    }

    /// Other names from now on. What is known of those that stay, stays. There is a change to tell of, as soon as the new
    /// ones are looked up.
    pub fn set_names(&mut self, now: Duration, names: &[Suffix]) {
        let mut before = std::mem::replace(&mut self.domains, Self::new(names).domains);
        for domain in &mut self.domains {
            match before.iter().position(|known| known.name == domain.name) {
                Some(place) => *domain = before.swap_remove(place),
                None => domain.state = State::Waiting(now),
            }
        }
        self.changed.get_or_insert(now);
    }

    /// The uplink came up: all are looked up at once.
    pub fn handle_up(&mut self, now: Duration) {
        self.up = true;
        self.domains.iter_mut().for_each(|domain| domain.state = State::Waiting(now));
    }

    /// The uplink went down: what is known stays.
    pub fn handle_down(&mut self) {
        self.up = false;
    }

    /// The next name to look up now.
    pub fn poll_query(&mut self, now: Duration) -> Option<Suffix> {
        if !self.up || self.asked() >= PARALLEL {
            return None;
        }
        let is_due = |domain: &&mut Domain| matches!(domain.state, State::Waiting(at) if at <= now);
        let domain = self.domains.iter_mut().find(is_due)?;
        domain.state = State::Asked;
        Some(domain.name.clone())
    }

    /// The end of a lookup. True where it is something new, worth a line in the log.
    pub fn handle_resolved(&mut self, now: Duration, resolved: &Resolved) -> bool {
        let Some(domain) = self.domains.iter_mut().find(|domain| domain.name == resolved.name) else {
            return false;
        };
        let was_failing = std::mem::replace(&mut domain.failing, resolved.found.is_none());
        let Some(found) = &resolved.found else {
            domain.state = State::Waiting(now + RETRY);
            return !was_failing;
        };
        domain.state = State::Waiting(now + found.ttl.clamp(SOONEST, LATEST));
        let is_new = domain.addresses.as_ref() != Some(&found.addresses);
        if is_new {
            domain.addresses = Some(found.addresses.clone());
            self.changed.get_or_insert(now);
        }
        is_new || was_failing
    }

    /// True once for changes of [`Domains::addresses`].
    pub fn poll_change(&mut self, now: Duration) -> bool {
        let asked = self.asked();
        self.changed.take_if(|since| asked == 0 || now >= *since + PATIENCE).is_some()
    }

    /// When there is something to poll for.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let may_ask = self.up && self.asked() < PARALLEL;
        let due = self.domains.iter().filter(|_| may_ask).filter_map(|domain| match domain.state {
            State::Waiting(at) => Some(at),
            State::Asked => None,
        });
        due.chain(self.changed.map(|since| since + PATIENCE)).min()
    }

    /// The addresses of all domains.
    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.domains.iter().filter_map(|domain| domain.addresses.as_ref()).flatten().copied().collect()
    }

    fn asked(&self) -> usize {
        self.domains.iter().filter(|domain| domain.state == State::Asked).count()
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found } = self;
        match found {
            None => write!(f, "tunnel domain {name}: the company's DNS does not answer"),
            Some(found) if found.addresses.is_empty() => {
                write!(f, "tunnel domain {name}: the company's DNS knows no IPv4 address")
            }
            Some(found) => {
                write!(f, "tunnel domain {name}:")?;
                found.addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::lookup::Found;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn name(index: usize) -> Suffix {
        Suffix::parse(&format!("n{index}.example")).unwrap()
    }

    fn domains(count: usize) -> Domains {
        Domains::new(&(0..count).map(name).collect::<Vec<_>>())
    }

    fn found(index: usize, addresses: &[u8], ttl: u64) -> Resolved {
        let addresses = addresses.iter().map(|last| Ipv4Addr::new(10, 1, 1, *last)).collect();
        Resolved { name: name(index), found: Some(Found { addresses, ttl: Duration::from_secs(ttl) }) }
    }

    fn failed(index: usize) -> Resolved {
        Resolved { name: name(index), found: None }
    }

    fn known(domains: &Domains) -> Vec<u8> {
        domains.addresses().iter().map(|address| address.octets()[3]).collect()
    }

    #[test]
    fn names_are_looked_up_by_their_ttl() {
        let mut d = domains(1);
        assert_eq!((d.poll_query(s(0)), d.poll_timeout()), (None, None), "the uplink is down");
        let mut at = s(0);
        d.handle_up(at);
        for (ttl, wait) in [(0, 30), (29, 30), (120, 120), (301, 300), (u32::MAX.into(), 300)] {
            assert_eq!((d.poll_timeout(), d.poll_query(at)), (Some(at), Some(name(0))));
            assert_eq!((d.poll_timeout(), d.poll_query(at)), (None, None), "once");
            d.handle_resolved(at, &found(0, &[1], ttl));
            assert_eq!(d.poll_change(at), ttl == 0, "only the first answer is new");
            at += Duration::from_secs(wait);
            assert_eq!(d.poll_query(at - Duration::from_millis(1)), None);
        }
    }

    #[test]
    fn failures_keep_what_is_known_and_answers_replace_it() {
        let mut d = domains(1);
        d.handle_up(s(0));
        for (at, resolved, is_new, now_known) in [
            (0, failed(0), true, &[][..]),
            (30, failed(0), false, &[]),
            (60, found(0, &[2, 1], 60), true, &[1, 2]),
            (120, failed(0), true, &[1, 2]),
            (150, found(0, &[1, 2], 60), true, &[1, 2]), // it answers again
            (210, found(0, &[1, 2], 60), false, &[1, 2]),
            (270, found(0, &[3], 60), true, &[3]),
            (330, found(0, &[], 0), true, &[]),
            (360, found(0, &[], 0), false, &[]),
        ] {
            let before = known(&d);
            assert_eq!(d.poll_query(s(at)), Some(name(0)), "{at}");
            assert_eq!(d.handle_resolved(s(at), &resolved), is_new, "{at}: {resolved}");
            assert_eq!(known(&d), now_known, "{at}");
            assert_eq!(d.poll_change(s(at)), before != now_known, "{at}");
        }
        d.handle_resolved(s(400), &found(7, &[9], 60));
        assert!(known(&d).is_empty(), "not a domain of ours");
    }

    #[test]
    fn a_new_tunnel_is_asked_at_once_and_what_is_known_stays() {
        let mut d = domains(1);
        d.handle_up(s(0));
        d.poll_query(s(0));
        d.handle_resolved(s(0), &found(0, &[1], 300));
        assert!(d.poll_change(s(0)));
        d.handle_down();
        assert_eq!((d.poll_query(s(301)), d.poll_timeout(), known(&d)), (None, None, vec![1]));
        d.handle_up(s(302));
        assert_eq!(d.poll_query(s(302)), Some(name(0)));
        // It went down before the answer came.
        d.handle_down();
        d.handle_up(s(303));
        assert_eq!(d.poll_query(s(303)), Some(name(0)));
    }

    #[test]
    fn other_names_keep_what_is_known_of_the_rest() {
        let mut d = domains(2);
        d.handle_up(s(0));
        assert_eq!(std::iter::from_fn(|| d.poll_query(s(0))).count(), 2);
        d.handle_resolved(s(0), &found(0, &[1], 300));
        d.handle_resolved(s(0), &found(1, &[2], 300));
        assert!(d.poll_change(s(0)));
        d.set_names(s(10), &[name(1), name(2)]);
        assert_eq!(known(&d), [2]);
        assert_eq!((d.poll_query(s(10)), d.poll_query(s(10))), (Some(name(2)), None), "one is new");
        assert!(!d.poll_change(s(10)), "one change, not two");
        d.handle_resolved(s(11), &found(2, &[3], 300));
        assert!(d.poll_change(s(11)));
        assert_eq!(known(&d), [2, 3]);
        d.set_names(s(12), &[]);
        assert!(d.poll_change(s(12)), "there is nothing to wait for");
        assert!(known(&d).is_empty());
    }

    #[test]
    fn many_names_are_looked_up_in_turn_and_make_one_change() {
        let mut d = domains(PARALLEL + 2);
        d.handle_up(s(0));
        assert_eq!(std::iter::from_fn(|| d.poll_query(s(0))).count(), PARALLEL);
        assert_eq!(d.poll_timeout(), None);
        d.handle_resolved(s(0), &found(0, &[1], 300));
        d.handle_resolved(s(0), &found(1, &[2], 300));
        assert_eq!(d.poll_timeout(), Some(s(0)), "there is room for two more");
        assert_eq!(std::iter::from_fn(|| d.poll_query(s(0))).count(), 2);
        assert!(!d.poll_change(s(1)), "others are under way");
        assert_eq!(d.poll_timeout(), Some(s(2)));
        assert!(d.poll_change(s(2)), "they take too long");
        assert!(!d.poll_change(s(2)), "once");
        for index in 2..PARALLEL + 2 {
            d.handle_resolved(s(3), &found(index, &[3], 300));
        }
        assert!(d.poll_change(s(3)));
        assert_eq!(known(&d), [1, 2, 3]);
    }

    #[test]
    fn a_name_given_twice_is_one() {
        let mut d = Domains::new(&[name(0), name(0)]);
        d.handle_up(s(0));
        assert_eq!(std::iter::from_fn(|| d.poll_query(s(0))).count(), 1);
    }
}
