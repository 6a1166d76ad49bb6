//! Guessing passwords takes time: who was wrong waits, longer each time, and so do others of the same name and, after
//! a while, of the same source. Nobody is locked out for good, or anyone could do that to anyone.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use super::budget::source;

/// What a wrong attempt costs: doubled with each from the third on of one name, the ninth of one source.
const COST: Duration = Duration::from_secs(2);
const MOST: Duration = Duration::from_secs(16);
/// Nobody is let to wait for longer: then an attempt is refused unheard.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Who was not wrong for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Most names, and most sources, that are remembered.
const REMEMBERED: usize = 1024;

/// Wrong attempts of late.
#[derive(Debug)]
pub(super) struct Attempts {
    names: Record<String>,
    sources: Record<IpAddr>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { names: Record::new(2, COST), sources: Record::new(8, Duration::ZERO) }
    }

    /// When an attempt that comes `now` is to be answered, if it is heard at all.
    pub(super) fn judge(
        &mut self,
        now: Duration,
        name: &str,
        remote: IpAddr,
        right: bool,
    ) -> Option<Duration> {
        let (name, source) = (name.to_lowercase(), source(remote));
        let turn = self.names.free_at(&name).max(self.sources.free_at(&source)).max(now);
        if turn > now + LONGEST_WAIT {
            return None;
        }
        if right {
            self.names.wrong.remove(&name);
            return Some(turn);
        }
        Some(self.names.note_wrong(turn, name).max(self.sources.note_wrong(turn, source)))
    }
}

#[derive(Debug)]
struct Record<K> {
    wrong: HashMap<K, Wrong>,
    /// What each of the first so many costs.
    first: (u32, Duration),
}

#[derive(Debug)]
struct Wrong {
    count: u32,
    free_at: Duration,
}

impl<K: Hash + Eq + Clone> Record<K> {
    fn new(first: u32, cost: Duration) -> Self {
        Self { wrong: HashMap::new(), first: (first, cost) }
    }

    fn free_at(&self, who: &K) -> Duration {
        self.wrong.get(who).map_or(Duration::ZERO, |wrong| wrong.free_at)
    }

    /// One that had its turn at `turn` was wrong; when its time is over.
    fn note_wrong(&mut self, turn: Duration, who: K) -> Duration {
        self.wrong.retain(|_, wrong| turn < wrong.free_at + FORGOTTEN_AFTER);
        if self.wrong.len() >= REMEMBERED && !self.wrong.contains_key(&who) {
            let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.free_at);
            if let Some(oldest) = oldest.map(|(who, _)| who.clone()) {
                self.wrong.remove(&oldest);
            }
        }
        let wrong = self.wrong.entry(who).or_insert(Wrong { count: 0, free_at: turn });
        wrong.count = wrong.count.saturating_add(1);
        let (first, cost) = self.first;
        let cost = match wrong.count.checked_sub(first) {
            None | Some(0) => cost,
            Some(doublings) => (COST * 2_u32.pow(doublings.min(8))).min(MOST),
        };
        wrong.free_at = turn + cost;
        wrong.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn wrong_ones_wait_longer_each_time_and_a_right_one_waits_its_turn() {
        let mut attempts = Attempts::new();
        let remote = |last| IpAddr::from([192, 0, 2, last]);
        for (source, due) in [(1, 102), (2, 104), (3, 108), (4, 116), (5, 132)] {
            assert_eq!(attempts.judge(at(100), "Alice", remote(source), false), Some(at(due)), "{source}");
        }
        assert_eq!(attempts.judge(at(100), "alice", remote(6), true), None, "not even a right one");
        assert_eq!(attempts.judge(at(100), "bob", remote(6), true), Some(at(100)), "others do not wait");
        assert_eq!(attempts.judge(at(110), "alice", remote(6), true), Some(at(132)));
        assert_eq!(attempts.judge(at(110), "alice", remote(6), false), Some(at(112)), "forgiven");
        assert_eq!(attempts.judge(at(200), "alice", remote(6), false), Some(at(202)));
        assert_eq!(attempts.judge(at(300), "alice", remote(6), false), Some(at(304)));
        assert_eq!(attempts.judge(at(904), "alice", remote(6), false), Some(at(906)), "forgotten");
    }

    #[test]
    fn one_source_that_tries_many_names_waits_too() {
        let mut attempts = Attempts::new();
        let remote: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        for name in 0..8 {
            assert_eq!(attempts.judge(at(1), &format!("user{name}"), remote, false), Some(at(3)), "{name}");
        }
        assert_eq!(attempts.judge(at(1), "user8", neighbour, false), Some(at(5)));
        assert_eq!(attempts.judge(at(1), "user9", neighbour, false), Some(at(13)));
        assert_eq!(attempts.judge(at(1), "alice", remote, true), Some(at(13)));
        for name in 0..2 * REMEMBERED {
            attempts.judge(
                at(1),
                &name.to_string(),
                IpAddr::from([10, 0, (name / 256) as u8, name as u8]),
                false,
            );
        }
        assert_eq!((attempts.names.wrong.len(), attempts.sources.wrong.len()), (REMEMBERED, REMEMBERED));
    }
}
